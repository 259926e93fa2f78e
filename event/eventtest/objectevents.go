package eventtest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// raiseChange raises the events of a change of an object. action is ADD, UPDATE or DELETE.
func (p *Portal) raiseChange(ev *pendingEvents, kind Kind, action string, o *object, user int64) {
	id := o.id
	raise := func(name string, data phpform.Value) {
		ev.raise(occurrence{event: name, data: data, user: user})
	}
	fields := func(entries ...phpform.Entry) phpform.Value {
		return phpform.Map(kv("FIELDS", phpform.Map(append([]phpform.Entry{number("ID", id)}, entries...)...)))
	}
	switch kind {
	case Lead, Deal, Contact, Company:
		raise("ONCRM"+strings.ToUpper(strings.TrimPrefix(string(kind), "crm."))+action, fields())
	case Task:
		raise("ONTASK"+action, taskData(action, id))
	case TaskComment:
		raise("ONTASKCOMMENT"+action, commentData(action, id, o.get("TASK_ID")))
	case Workgroup:
		raise("ONSONETGROUP"+action, fields())
	case FeedPost:
		raise("ONLIVEFEEDPOST"+action, phpform.Map(kv("FIELDS", phpform.Map(number("POST_ID", id)))))
	case CalendarEvent:
		raise("ONCALENDARENTRY"+action, phpform.Map(number("id", id)))
	default:
		entityType, _ := kind.entityType()
		data := fields(number("ENTITY_TYPE_ID", entityType))
		raise("ONCRMDYNAMICITEM"+action, data)
		raise("ONCRMDYNAMICITEM"+action+"_"+strconv.FormatInt(entityType, 10), data)
	}
}

// taskData returns the data of an event about a task. Missing values are the text "undefined".
func taskData(action string, id int64) phpform.Value {
	none := phpform.Text("undefined")
	this := phpform.Map(number("ID", id))
	before, after, wasOpen, isOpen := this, this, none, none
	switch action {
	case "ADD":
		before, wasOpen = none, phpform.Text("N")
	case "DELETE":
		after, isOpen = none, phpform.Text("N")
	}
	return phpform.Map(
		kv("FIELDS_BEFORE", before), kv("FIELDS_AFTER", after), kv("IS_ACCESSIBLE_BEFORE", wasOpen), kv("IS_ACCESSIBLE_AFTER", isOpen),
	)
}

// commentData returns the data of an event about a comment in the old task card.
func commentData(action string, id int64, task phpform.Value) phpform.Value {
	none := phpform.Text("undefined")
	entries := []phpform.Entry{number("ID", id), number("TASK_ID", intOf(task))}
	before, after := phpform.Map(entries...), phpform.Map(entries...)
	switch action {
	case "ADD":
		before = none
	case "UPDATE":
		after = phpform.Map(append(slices.Clone(entries), text("ACTION", "EDIT"))...)
	case "DELETE":
		after = phpform.Map(append(slices.Clone(entries), text("ACTION", "DEL"))...)
	}
	return phpform.Map(
		kv("FIELDS_BEFORE", before), kv("FIELDS_AFTER", after), kv("IS_ACCESSIBLE_BEFORE", none), kv("IS_ACCESSIBLE_AFTER", none),
	)
}

// changeData returns the data of an event about an object of a kind that the portal stores.
func changeData(name string, id int64) (phpform.Value, error) {
	fields := func(more ...phpform.Entry) (phpform.Value, error) {
		return phpform.Map(kv("FIELDS", phpform.Map(append([]phpform.Entry{number("ID", id)}, more...)...))), nil
	}
	if action, ok := strings.CutPrefix(name, "ONTASK"); ok && slices.Contains([]string{"ADD", "UPDATE", "DELETE"}, action) {
		return taskData(action, id), nil
	}
	if strings.HasPrefix(name, "ONCALENDARENTRY") {
		return phpform.Map(number("id", id)), nil
	}
	if strings.HasPrefix(name, "ONCRMDYNAMICITEM") {
		entityType := int64(smartInvoice)
		if n, err := strconv.ParseInt(name[strings.LastIndexByte(name, '_')+1:], 10, 64); err == nil {
			entityType = n
		}
		return fields(number("ENTITY_TYPE_ID", entityType))
	}
	if strings.HasPrefix(name, "ONCRM") && !strings.Contains(name, "USERFIELD") {
		return fields()
	}
	return phpform.Value{}, misconfigured("the data of %s is not known; set Storm.Payload", name)
}
