package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/b24events/b24events/event/eventtest"
)

// maxAdded limits how many objects of one kind the page remembers.
const maxAdded = 100_000

// defaultProcess is the smart process of requests that name none.
const defaultProcess = 147

// changeRequest is a change of objects.
type changeRequest struct {
	causeRequest

	Kind   string      `json:"kind"`           // deal, lead, contact, company, task, item, calendar or message
	TypeID int64       `json:"entity_type_id"` // of an item's smart process
	Action string      `json:"action"`         // add, update or delete
	ID     int64       `json:"id"`             // 0 for the latest object that the page added
	Fields fieldValues `json:"fields"`         // the default is a new title
	App    string      `json:"app"`            // its chat bot gets a new message; the default is the only installed application
	Bot    int64       `json:"bot"`            // ID of the bot; 0 for the first, which is added if there is none
}

// fieldValues are the fields of an object, and the size of their JSON.
type fieldValues struct {
	fields map[string]any
	bytes  int
}

// UnmarshalJSON decodes an object or null.
func (v *fieldValues) UnmarshalJSON(doc []byte) error {
	v.bytes = len(doc)
	decoder := json.NewDecoder(bytes.NewReader(doc))
	decoder.UseNumber() // so that large numbers do not change
	return decoder.Decode(&v.fields)
}

// changeResult is the result of a changeRequest.
type changeResult struct {
	Done  int     `json:"done"`  // how many changes
	IDs   []int64 `json:"ids"`   // of the objects, each once
	Text  string  `json:"text"`  // what happened, for people
	Event string  `json:"event"` // that was raised
	hearing

	to int64 // whom the messages were written to
}

// changeObjects adds, updates or deletes objects.
func (pg *page) changeObjects(ctx context.Context, _ string, in changeRequest) (changeResult, error) {
	switch {
	case in.Action != "add" && in.Action != "update" && in.Action != "delete":
		return changeResult{}, badRequest("the action is add, update or delete")
	case in.ID != 0 && in.times() > 1 && in.Action == "delete":
		return changeResult{}, badRequest("one object can be deleted only once; leave out the ID to delete the latest objects")
	case in.ID != 0 && in.Action == "add":
		return changeResult{}, badRequest("the portal chooses the ID of a new object; leave it out")
	}
	if err := in.checkAmount(in.Fields.bytes); err != nil {
		return changeResult{}, err
	}
	kind, err := pg.kind(in)
	if err != nil {
		return changeResult{}, err
	}
	if kind == eventtest.ChatMessage && in.Action == "add" {
		if in.Bot, err = pg.chatBot(in); err != nil {
			return changeResult{}, err
		}
	}
	out, err := pg.changeTimes(ctx, kind, in)
	if err != nil {
		return changeResult{}, err
	}
	out.Text, out.Event = describe(in, out), eventOf(in)
	switch kind {
	case eventtest.ChatMessage:
		out.Event, out.hearing = pg.botHears(out.to, in.Action)
	default:
		out.hearing = pg.hears(namesOf(in)...)
	}
	return out, nil
}

// changeTimes makes a change as often as the request says.
func (pg *page) changeTimes(ctx context.Context, kind eventtest.Kind, in changeRequest) (changeResult, error) {
	pg.mu.Lock() // so that two commands do not delete the same latest object
	defer pg.mu.Unlock()
	var out changeResult
	for n := range in.times() {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		id, to, err := pg.changeOnce(kind, in, n)
		if err != nil && out.Done > 0 {
			return out, fmt.Errorf("%d done, then: %w", out.Done, err)
		}
		if err != nil {
			return out, err
		}
		out.Done, out.to = out.Done+1, to
		if len(out.IDs) == 0 || out.IDs[len(out.IDs)-1] != id {
			out.IDs = append(out.IDs, id)
		}
	}
	return out, nil
}

// changeOnce makes one change. It returns the object's ID and, for a message, whom it was written
// to. pg.mu must be held.
func (pg *page) changeOnce(kind eventtest.Kind, in changeRequest, n int) (id, to int64, err error) {
	if err := pg.checkRoom(); err != nil {
		return 0, 0, err
	}
	id, user := in.ID, in.user()
	if made := pg.added[kind]; id == 0 && in.Action != "add" {
		if len(made) == 0 {
			return 0, 0, badRequest("the page has not added an object of this kind; add one, or give the ID of an object")
		}
		id = made[len(made)-1]
	}
	if to = in.Bot; kind == eventtest.ChatMessage && in.Action != "add" {
		to = pg.recipient(id)
	}
	if in.Action != "delete" {
		if err := pg.checkWritten(in.Fields.bytes); err != nil {
			return 0, 0, err
		}
	}
	switch in.Action {
	case "add":
		id, err := pg.portal.Add(kind, in.fields("New "+noun(in.Kind)+" ", n), user)
		if err == nil && len(pg.added[kind]) < maxAdded {
			pg.added[kind] = append(pg.added[kind], id)
		}
		if err == nil {
			pg.written.grow(objectKey{kind, id}, in.Fields.bytes)
		}
		return id, to, err
	case "update":
		err := pg.portal.Update(kind, id, in.fields("Changed "+noun(in.Kind)+" ", n), user)
		if err == nil {
			pg.written.grow(objectKey{kind, id}, in.Fields.bytes)
		}
		return id, to, err
	default:
		err := pg.portal.Delete(kind, id, user)
		if err == nil || errors.Is(err, eventtest.ErrNotFound) { // an application may have deleted it
			pg.forgetAdded(kind, id)
			pg.written.remove(objectKey{kind, id})
		}
		return id, to, err
	}
}

// recipient returns the user or bot that a message was written to, or 0.
func (pg *page) recipient(message int64) int64 {
	fields, _ := pg.portal.Object(eventtest.ChatMessage, message)
	to, _ := strconv.ParseInt(fmt.Sprint(fields["TO_USER_ID"]), 10, 64) // 0 if there is none
	return to
}

// forgetAdded removes a deleted object from those that the page remembers. pg.mu must be held.
func (pg *page) forgetAdded(kind eventtest.Kind, id int64) {
	made := pg.added[kind]
	for i, other := range slices.Backward(made) { // usually it is the last
		if other == id {
			pg.added[kind] = slices.Delete(made, i, i+1)
			return
		}
	}
}

// fields returns the fields of the request. The default is a title that is different each time. A
// new message also gets its recipient.
func (c changeRequest) fields(title string, n int) map[string]any {
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

// chatBot returns the ID of the chat bot that gets a new message.
func (pg *page) chatBot(in changeRequest) (int64, error) {
	a, err := pg.chatApp(in.App)
	if err != nil || in.Bot != 0 {
		return in.Bot, err
	}
	if bots := slices.Sorted(maps.Keys(a.Bots())); len(bots) > 0 {
		return bots[0], nil
	}
	return a.AddBot(eventtest.Bot{Code: "devportal", Name: "Bot of devportal"})
}

// chatApp returns the given application, or the only one that is installed.
func (pg *page) chatApp(clientID string) (*eventtest.Application, error) {
	if clientID != "" {
		return pg.app(clientID)
	}
	var only *eventtest.Application
	for _, a := range pg.portal.Applications() {
		if !a.Installed() {
			continue
		}
		if only != nil {
			return nil, badRequest("several applications are installed; choose one")
		}
		only = a
	}
	if only == nil {
		return nil, badRequest("there is no installed application that could have a chat bot")
	}
	return only, nil
}
