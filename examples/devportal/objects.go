package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// Bounds of what one command does, and of what is remembered for the next.
const (
	maxTimes  = 1000
	maxMade   = 100_000 // objects of one kind
	maxAtOnce = 8 << 20 // bytes
)

// firstProcess is the smart process that is meant where none is named.
const firstProcess = 147

// change is what somebody does to objects.
type change struct {
	Kind   string `json:"kind"`           // deal, lead, contact, company, task, item, calendar or message
	TypeID int64  `json:"entity_type_id"` // of an item's smart process
	Action string `json:"action"`         // add, update or delete
	ID     int64  `json:"id"`             // 0 for the latest that the page added
	Times  int    `json:"times"`          // 1 where 0
	User   *int64 `json:"user"`           // who does it: the administrator where absent, 0 for nobody
	Fields values `json:"fields"`         // a new title where there are none
	App    string `json:"app"`            // whose chat bot gets a new message; the only installed application where empty
	Bot    int64  `json:"bot"`            // which of its bots; 0 for the first, which is made where there is none
}

// values are the fields of an object, and how many bytes they came in.
type values struct {
	fields map[string]any
	bytes  int
}

// UnmarshalJSON decodes an object or null.
func (v *values) UnmarshalJSON(doc []byte) error {
	v.bytes = len(doc)
	return json.Unmarshal(doc, &v.fields)
}

// changed is what became of it.
type changed struct {
	Done  int     `json:"done"`
	IDs   []int64 `json:"ids"` // of the objects, each once
	Text  string  `json:"text"`
	Event string  `json:"event"` // that was raised
	Heard bool    `json:"heard"` // whether anything is bound to it
}

// tooMuch refuses to have a large thing done many times: the portal keeps what it sent.
func tooMuch(bytes, times int) error {
	switch {
	case times < 1 || times > maxTimes:
		return refuse("once to 1000 times, please")
	case bytes*times > maxAtOnce:
		return refuse("that is more than 8 MiB in all; send less, or fewer times")
	default:
		return nil
	}
}

func (d *desk) changeObjects(ctx context.Context, _ string, in change) (any, error) {
	if in.Times == 0 {
		in.Times = 1
	}
	user := eventtest.AdminID
	if in.User != nil {
		user = *in.User
	}
	switch {
	case in.ID != 0 && in.Times > 1 && in.Action == "delete":
		return nil, refuse("one object can be deleted once; leave the number out to delete the latest ones")
	case in.ID != 0 && in.Action == "add":
		return nil, refuse("the portal numbers new objects itself; leave the number out")
	}
	if err := tooMuch(in.Fields.bytes, in.Times); err != nil {
		return nil, err
	}
	kind, err := d.kind(in)
	if err != nil {
		return nil, err
	}
	if kind == eventtest.ChatMessage && in.Action == "add" {
		if in.Bot, err = d.bot(in); err != nil {
			return nil, err
		}
	}
	out, err := d.changeTimes(ctx, kind, in, user)
	if err != nil {
		return nil, err
	}
	out.Text, out.Event = tell(in, out), eventOf(in)
	out.Heard = d.heard(out.Event)
	return out, nil
}

// changeTimes makes a change as often as is wanted, each time as a hit of its own.
func (d *desk) changeTimes(ctx context.Context, kind eventtest.Kind, in change, user int64) (changed, error) {
	d.mu.Lock() // so that two commands do not delete the same latest object
	defer d.mu.Unlock()
	var out changed
	for n := range in.Times {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		id, err := d.changeOnce(kind, in, user, n)
		if err != nil && out.Done > 0 {
			return out, fmt.Errorf("%d done, then: %w", out.Done, err)
		}
		if err != nil {
			return out, err
		}
		out.Done++
		if len(out.IDs) == 0 || out.IDs[len(out.IDs)-1] != id {
			out.IDs = append(out.IDs, id)
		}
	}
	return out, nil
}

// changeOnce makes one change and returns the object's number.
func (d *desk) changeOnce(kind eventtest.Kind, in change, user int64, n int) (int64, error) {
	id := in.ID
	if made := d.made[kind]; id == 0 && in.Action != "add" {
		if len(made) == 0 {
			return 0, refuse("the page has added none of this kind yet; add one, or give the number of an object")
		}
		id = made[len(made)-1]
	}
	switch in.Action {
	case "add":
		id, err := d.portal.Add(kind, in.fields("New "+in.Kind+" ", n), user)
		if err == nil && len(d.made[kind]) < maxMade {
			d.made[kind] = append(d.made[kind], id)
		}
		return id, err
	case "update":
		return id, d.portal.Update(kind, id, in.fields("Changed "+in.Kind+" ", n), user)
	case "delete":
		err := d.portal.Delete(kind, id, user)
		if err == nil || errors.Is(err, eventtest.ErrNotFound) { // an application may have deleted it
			d.unmake(kind, id)
		}
		return id, err
	default:
		return 0, refuse("the action is add, update or delete")
	}
}

func (d *desk) unmake(kind eventtest.Kind, id int64) {
	made := d.made[kind]
	for i, other := range slices.Backward(made) { // most often it is the last
		if other == id {
			d.made[kind] = slices.Delete(made, i, i+1)
			return
		}
	}
}

// kind is the kind of the objects that are meant. A smart process is added when it is first named.
func (d *desk) kind(in change) (eventtest.Kind, error) {
	switch in.Kind {
	case "deal":
		return eventtest.Deal, nil
	case "lead":
		return eventtest.Lead, nil
	case "contact":
		return eventtest.Contact, nil
	case "company":
		return eventtest.Company, nil
	case "task":
		return eventtest.Task, nil
	case "calendar":
		return eventtest.CalendarEvent, nil
	case "message":
		return eventtest.ChatMessage, nil
	case "item":
		if in.TypeID == 0 {
			in.TypeID = firstProcess
		}
		if in.TypeID != 31 { // the invoices, which are always there
			if err := d.portal.AddSmartProcess(in.TypeID); err != nil {
				return "", err
			}
		}
		return eventtest.SmartProcess(in.TypeID), nil
	default:
		return "", refuse("the kind is deal, lead, contact, company, task, item, calendar or message")
	}
}

// eventOf is the event that a change raises, the general one for items.
func eventOf(in change) string {
	prefix := "ONCRM" + strings.ToUpper(in.Kind)
	switch in.Kind {
	case "task":
		prefix = "ONTASK"
	case "item":
		prefix = "ONCRMDYNAMICITEM"
	case "calendar":
		prefix = "ONCALENDARENTRY"
	case "message":
		prefix = "ONIMBOTMESSAGE"
	}
	return prefix + strings.ToUpper(in.Action)
}

// fields are those given or else a title that differs from change to change. A new message also says whom it is for.
func (c change) fields(title string, n int) map[string]any {
	name := "TITLE"
	switch c.Kind {
	case "contact", "calendar":
		name = "NAME"
	case "message":
		name = "MESSAGE"
	}
	fields := maps.Clone(c.Fields.fields)
	if len(fields) == 0 {
		fields = map[string]any{name: title + strconv.Itoa(n+1)}
	}
	if c.Bot != 0 {
		fields["DIALOG_ID"] = c.Bot
	}
	return fields
}

// bot is the chat bot that a new message is for.
func (d *desk) bot(in change) (int64, error) {
	a, err := d.chatApp(in.App)
	if err != nil || in.Bot != 0 {
		return in.Bot, err
	}
	if bots := slices.Sorted(maps.Keys(a.Bots())); len(bots) > 0 {
		return bots[0], nil
	}
	return a.AddBot(eventtest.Bot{Code: "devportal", Name: "Bot of devportal"})
}

// chatApp is the application that is named, or the only one that is installed.
func (d *desk) chatApp(clientID string) (*eventtest.Application, error) {
	if clientID != "" {
		return d.app(clientID)
	}
	var only *eventtest.Application
	for _, a := range d.portal.Applications() {
		if !a.Installed() {
			continue
		}
		if only != nil {
			return nil, refuse("several applications are installed; choose one")
		}
		only = a
	}
	if only == nil {
		return nil, refuse("no application is installed that could have a chat bot")
	}
	return only, nil
}

// tell says in words what was done.
func tell(in change, out changed) string {
	verb := strings.TrimSuffix(in.Action, "e") + "ed"
	first, last := out.IDs[0], out.IDs[len(out.IDs)-1]
	switch {
	case out.Done == 1:
		return fmt.Sprintf("%s %d %s", in.Kind, first, verb)
	case len(out.IDs) == 1:
		return fmt.Sprintf("%s %d %s %d times", in.Kind, first, verb, out.Done)
	default:
		return fmt.Sprintf("%s %s, %d to %d", plural(out.Done, in.Kind), verb, min(first, last), max(first, last))
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// raise lets any event happen by its name.
func (d *desk) raise(ctx context.Context, _ string, in struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"` // null or left out for none
	User  *int64          `json:"user"`
	Times int             `json:"times"`
},
) (any, error) {
	if in.Times == 0 {
		in.Times = 1
	}
	name := strings.ToUpper(strings.TrimSpace(in.Event))
	if name == "" || len(name) > 200 || strings.ContainsAny(name, " \t\n{}") {
		return nil, refuse("name one event, such as ONCRMDEALUPDATE")
	}
	if err := tooMuch(len(in.Data), in.Times); err != nil {
		return nil, err
	}
	var data any // nil: the event has none
	if len(in.Data) > 0 && string(in.Data) != "null" {
		tree, err := event.ParseData(in.Data)
		if err != nil {
			return nil, refuse("the data cannot stand in an event: " + err.Error())
		}
		data = tree
	}
	user := eventtest.AdminID
	if in.User != nil {
		user = *in.User
	}
	for range in.Times {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := d.portal.Raise(name, data, user); err != nil {
			return nil, err
		}
	}
	return map[string]any{"text": name + " raised" + times(in.Times), "heard": d.heard(name)}, nil
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return " " + strconv.Itoa(n) + " times"
}

// heard reports whether anything is bound to the event, so that the page can say why nothing arrives.
func (d *desk) heard(name string) bool {
	for _, b := range d.portal.Bindings() {
		if b.Event == name || strings.HasPrefix(b.Event, name+"_") { // the latter of one smart process
			return true
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.webhooks, func(w webhookView) bool { return slices.Contains(w.Events, name) })
}
