package eventtest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// Kind is a kind of object that the portal stores and raises events for.
type Kind string

// The kinds that every portal has; [SmartProcess] returns more. Fields of CRM objects and tasks are
// named as in REST, in upper case (TITLE, ASSIGNED_BY_ID), those of smart processes in camel case
// (title, assignedById). Both accept either spelling. Fields of calendar entries are named as
// calendar.event.get returns them (NAME, DATE_FROM) or as calendar.event.add takes them (name,
// from).
const (
	Lead          Kind = "crm.lead"
	Deal          Kind = "crm.deal"
	Contact       Kind = "crm.contact"
	Company       Kind = "crm.company"
	Task          Kind = "tasks.task"
	CalendarEvent Kind = "calendar.event"
	// ChatMessage is a message of a user to a chat bot, or to another user, which raises no event. It
	// has two fields: DIALOG_ID, the ID of the recipient, and MESSAGE. Only its author can change and
	// delete it. A line of it that begins with a slash calls a command of imbot.command.register.
	//
	// With the field TASK_ID in place of DIALOG_ID it is a comment in the new task card: a message of
	// the task's chat, whose ID is the task's field CHAT_ID. It raises ONTASKCOMMENTADD with the ID of
	// the message, and no event if it is changed or deleted. im.dialog.messages.get reads it.
	ChatMessage Kind = "im.message"
	// TaskComment is a comment in the old task card. Its fields are TASK_ID, which is required and
	// never changes, POST_MESSAGE and AUTHOR_ID. task.commentitem.get and getlist take their arguments
	// by position.
	TaskComment Kind = "task.commentitem"
	// Workgroup is a group or project. Its fields are named as sonet_group.get returns them (NAME,
	// VISIBLE, OWNER_ID), and MEMBERS lists the IDs of users. If VISIBLE is N, only the owner, the
	// members, and an administrator who sends IS_ADMIN=Y see the group.
	Workgroup Kind = "sonet_group"
	// FeedPost is a post of the news feed. Its fields are named as log.blogpost.get returns them
	// (TITLE, DETAIL_TEXT, AUTHOR_ID), and DEST lists the recipients: UA for all employees, U5 for
	// user 5. Only the recipients and the author see it; administrators do not.
	FeedPost Kind = "log.blogpost"
)

// smartInvoice is the smart process that every portal has.
const smartInvoice = 31

const smartPrefix = "crm.item."

// SmartProcess returns the kind of a smart process's items. Processes other than 31, the invoices,
// must be added by [Portal.AddSmartProcess].
func SmartProcess(entityTypeID int64) Kind {
	return Kind(smartPrefix + strconv.FormatInt(entityTypeID, 10))
}

// entityType returns the entityTypeId of a smart process's kind.
func (k Kind) entityType() (int64, bool) {
	digits, ok := strings.CutPrefix(string(k), smartPrefix)
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseInt(digits, 10, 64)
	return id, err == nil
}

// kindOfTypeLocked returns the kind of an entityTypeId.
func (p *Portal) kindOfTypeLocked(id int64) (Kind, bool) {
	switch id {
	case 1:
		return Lead, true
	case 2:
		return Deal, true
	case 3:
		return Contact, true
	case 4:
		return Company, true
	}
	return SmartProcess(id), p.catalog.smartProcesses[id]
}

// hasKindLocked reports whether the portal stores objects of a kind.
func (p *Portal) hasKindLocked(k Kind) bool {
	if id, ok := k.entityType(); ok {
		return p.catalog.smartProcesses[id]
	}
	return slices.Contains([]Kind{Lead, Deal, Contact, Company, Task, CalendarEvent, ChatMessage, TaskComment, Workgroup, FeedPost}, k)
}

// Add creates an object as a user would in the portal's interface, and raises its events. user 0
// stands for a robot, an agent or an import. Add returns the object's ID. It returns [ErrNotFound]
// for an unknown kind or user, and an error for fields that cannot be stored, for a [ChatMessage]
// without a user, recipient or text, and for a [TaskComment] without a task.
func (p *Portal) Add(kind Kind, fields map[string]any, user int64) (int64, error) {
	tree, err := treeOf(fields)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkChangeLocked(kind, user); err != nil {
		return 0, err
	}
	if kind == TaskComment {
		if err := p.checkCommentLocked(tree); err != nil {
			return 0, err
		}
	}
	ev := p.newPendingEvents(user)
	var o *object
	if kind == ChatMessage {
		m := readMessage(tree)
		chat, err := p.checkMessageLocked(m, user)
		if err != nil {
			return 0, err
		}
		if chat != 0 {
			o = p.addTaskMessage(ev, user, chat, m.body)
		} else {
			o = p.addMessage(ev, user, m.to, m.body)
		}
	} else {
		o = p.addObject(ev, kind, tree, user)
	}
	p.sendPending(ev)
	return o.id, nil
}

// Update changes fields of an object as a user would. Its errors are those of [Portal.Add],
// [ErrNotFound] for an unknown object, and an error for a [ChatMessage] of another user.
func (p *Portal) Update(kind Kind, id int64, fields map[string]any, user int64) error {
	tree, err := treeOf(fields)
	if err != nil {
		return err
	}
	return p.changeObject(kind, id, user, func(ev *pendingEvents, o *object) {
		if kind != ChatMessage {
			p.updateObject(ev, kind, o, tree, user)
			return
		}
		if m := readMessage(tree); m.given {
			p.updateMessage(ev, o, m.body)
		}
	})
}

// Delete deletes an object as a user would. Its errors are those of [Portal.Update].
func (p *Portal) Delete(kind Kind, id, user int64) error {
	return p.changeObject(kind, id, user, func(ev *pendingEvents, o *object) {
		if kind == ChatMessage {
			p.deleteMessage(ev, o)
			return
		}
		p.deleteObject(ev, kind, o, user)
	})
}

// Object returns the current fields of an object, by their names in upper case, and whether the
// object exists.
func (p *Portal) Object(kind Kind, id int64) (map[string]any, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.objects[kind][id]
	if o == nil {
		return nil, false
	}
	fields := make(map[string]any, len(o.fields))
	for _, e := range o.fields {
		fields[e.Key] = e.Value.Any()
	}
	return fields, true
}

// changeObject lets do change an object in the portal's interface, and sends the events.
func (p *Portal) changeObject(kind Kind, id, user int64, do func(*pendingEvents, *object)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkChangeLocked(kind, user); err != nil {
		return err
	}
	o := p.objects[kind][id]
	if o == nil {
		return fmt.Errorf("%w: %s %d", ErrNotFound, kind, id)
	}
	if kind == ChatMessage && !p.editableByLocked(o, user) {
		return errors.New("eventtest: only the author can change a chat message, and only for three days")
	}
	ev := p.newPendingEvents(user)
	do(ev, o)
	p.sendPending(ev)
	return nil
}

// checkChangeLocked checks that a user can change objects of a kind.
func (p *Portal) checkChangeLocked(kind Kind, user int64) error {
	switch {
	case p.closed:
		return ErrClosed
	case !p.hasKindLocked(kind):
		return fmt.Errorf("%w: kind %s; add smart processes by AddSmartProcess", ErrNotFound, kind)
	case user != 0 && p.accounts.users[user] == nil:
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	}
	return nil
}

func (p *Portal) addObject(ev *pendingEvents, kind Kind, fields phpform.Value, user int64) *object {
	o := &object{id: p.nextIDLocked("object " + string(kind))}
	o.set("ID", phpform.Text(strconv.FormatInt(o.id, 10)))
	for _, e := range p.defaultFieldsLocked(kind, user, o.id) {
		o.set(e.Key, e.Value)
	}
	o.assign(columns(kind, fields))
	if kind == Task {
		o.set("CHAT_ID", phpform.Int(p.openTaskChatLocked(o.id)))
	}
	if p.objects[kind] == nil {
		p.objects[kind] = map[int64]*object{}
	}
	p.objects[kind][o.id] = o
	p.raiseChange(ev, kind, "ADD", o, user)
	return o
}

func (p *Portal) updateObject(ev *pendingEvents, kind Kind, o *object, fields phpform.Value, user int64) {
	task, chat := o.get("TASK_ID"), o.get("CHAT_ID")
	o.assign(columns(kind, fields))
	now := phpform.Text(isoTime(p.nowLocked()))
	switch kind {
	case Task:
		o.set("CHAT_ID", chat)
		o.set("CHANGED_BY", phpform.Text(userKey(user)))
		o.set("CHANGED_DATE", now)
	case CalendarEvent:
		o.set("TIMESTAMP_X", now)
	case Workgroup:
		o.set("DATE_UPDATE", now)
	case TaskComment:
		o.set("TASK_ID", task)
	case FeedPost:
	default:
		o.set("MODIFY_BY_ID", phpform.Text(userKey(user)))
		o.set("DATE_MODIFY", now)
	}
	p.raiseChange(ev, kind, "UPDATE", o, user)
}

// columns renames fields to those that the portal stores.
func columns(kind Kind, fields phpform.Value) phpform.Value {
	if kind == CalendarEvent {
		return calendarFields(fields)
	}
	return fields
}

func (p *Portal) deleteObject(ev *pendingEvents, kind Kind, o *object, user int64) {
	delete(p.objects[kind], o.id)
	if kind == Task {
		p.dropTaskChatLocked(intOf(o.get("CHAT_ID")))
	}
	p.raiseChange(ev, kind, "DELETE", o, user)
}

// defaultFieldsLocked returns the default fields of a new object.
func (p *Portal) defaultFieldsLocked(kind Kind, user, id int64) []phpform.Entry {
	now, who := isoTime(p.nowLocked()), userKey(user)
	switch kind {
	case Task:
		return []phpform.Entry{
			text("TITLE", ""), text("DESCRIPTION", ""), text("STATUS", "2"), text("PRIORITY", "1"),
			text("CREATED_BY", who), text("RESPONSIBLE_ID", who), text("CHANGED_BY", who),
			text("CREATED_DATE", now), text("CHANGED_DATE", now), kv("DEADLINE", null()),
		}
	case CalendarEvent:
		return []phpform.Entry{
			digits("PARENT_ID", id), text("DELETED", "N"), text("CAL_TYPE", "user"), text("OWNER_ID", who), text("NAME", ""),
			text("DATE_FROM", ""), text("DATE_TO", ""), text("DT_SKIP_TIME", "N"), kv("EVENT_TYPE", null()), text("CREATED_BY", who),
			text("DATE_CREATE", now), text("TIMESTAMP_X", now), text("DESCRIPTION", ""), text("PRIVATE_EVENT", ""),
			text("ACCESSIBILITY", "busy"), text("IMPORTANCE", "normal"), text("IS_MEETING", "0"), text("LOCATION", ""),
			text("COLOR", ""), text("RRULE", ""), text("VERSION", "1"), text("SECTION_ID", "1"), text("SECT_ID", "1"),
		}
	case TaskComment:
		return []phpform.Entry{text("AUTHOR_ID", who), text("POST_DATE", now), text("POST_MESSAGE", "")}
	case Workgroup:
		return []phpform.Entry{
			text("SITE_ID", "s1"), text("NAME", ""), kv("DESCRIPTION", null()), text("DATE_CREATE", now), text("DATE_UPDATE", now),
			text("ACTIVE", "Y"), text("VISIBLE", "Y"), text("OPENED", "N"), text("CLOSED", "N"), text("SUBJECT_ID", "1"),
			text("OWNER_ID", who), text("PROJECT", "N"), text("IS_EXTRANET", "N"),
		}
	case FeedPost:
		return []phpform.Entry{
			text("BLOG_ID", "1"), text("PUBLISH_STATUS", "P"), text("TITLE", ""), text("AUTHOR_ID", who), text("DETAIL_TEXT", ""),
			text("DATE_PUBLISH", now), kv("DEST", texts([]string{"UA"})),
		}
	default:
	}
	entries := []phpform.Entry{text("TITLE", "")}
	switch kind {
	case Lead:
		entries = append(entries, text("STATUS_ID", "NEW"), text("OPPORTUNITY", "0.00"), text("CURRENCY_ID", "USD"))
	case Deal:
		entries = append(entries, text("TYPE_ID", "SALE"), text("STAGE_ID", "NEW"), text("CATEGORY_ID", "0"),
			text("OPPORTUNITY", "0.00"), text("CURRENCY_ID", "USD"))
	case Contact:
		entries = []phpform.Entry{text("NAME", ""), text("LAST_NAME", "")}
	case Company:
	default:
		entityType, _ := kind.entityType()
		entries = append(entries, text("STAGE_ID", fmt.Sprintf("DT%d_1:NEW", entityType)), text("CATEGORY_ID", "1"),
			text("OPPORTUNITY", "0"), text("CURRENCY_ID", "USD"))
	}
	return append(entries, text("OPENED", "Y"), text("ASSIGNED_BY_ID", who), text("CREATED_BY_ID", who), text("MODIFY_BY_ID", who),
		text("DATE_CREATE", now), text("DATE_MODIFY", now))
}
