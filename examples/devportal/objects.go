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

// maxMade is how many objects of one kind are remembered for the next command.
const maxMade = 100_000

// firstProcess is the smart process that is meant where none is named.
const firstProcess = 147

// change is what somebody does to objects.
type change struct {
	cause

	Kind   string `json:"kind"`           // deal, lead, contact, company, task, item, calendar or message
	TypeID int64  `json:"entity_type_id"` // of an item's smart process
	Action string `json:"action"`         // add, update or delete
	ID     int64  `json:"id"`             // 0 for the latest that the page added
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
	decoder := json.NewDecoder(bytes.NewReader(doc))
	decoder.UseNumber() // so that large ones stay as they are
	return decoder.Decode(&v.fields)
}

// changed is what became of it.
type changed struct {
	Done  int     `json:"done"`
	IDs   []int64 `json:"ids"` // of the objects, each once
	Text  string  `json:"text"`
	Event string  `json:"event"` // that was raised
	Heard bool    `json:"heard"` // whether anything is bound to it
}

func (d *desk) changeObjects(ctx context.Context, _ string, in change) (any, error) {
	switch {
	case in.Action != "add" && in.Action != "update" && in.Action != "delete":
		return nil, refuse("the action is add, update or delete")
	case in.ID != 0 && in.times() > 1 && in.Action == "delete":
		return nil, refuse("one object can be deleted once; leave the number out to delete the latest ones")
	case in.ID != 0 && in.Action == "add":
		return nil, refuse("the portal numbers new objects itself; leave the number out")
	}
	if err := in.tooMuch(in.Fields.bytes); err != nil {
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
	out, err := d.changeTimes(ctx, kind, in)
	if err != nil {
		return nil, err
	}
	out.Text, out.Event = tell(in, out), eventOf(in)
	out.Heard = d.heard(out.Event)
	return out, nil
}

// changeTimes makes a change as often as is wanted, each time as a hit of its own.
func (d *desk) changeTimes(ctx context.Context, kind eventtest.Kind, in change) (changed, error) {
	d.mu.Lock() // so that two commands do not delete the same latest object
	defer d.mu.Unlock()
	var out changed
	for n := range in.times() {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		id, err := d.changeOnce(kind, in, n)
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
func (d *desk) changeOnce(kind eventtest.Kind, in change, n int) (int64, error) {
	id, user := in.ID, in.user()
	if made := d.made[kind]; id == 0 && in.Action != "add" {
		if len(made) == 0 {
			return 0, refuse("the page has added none of this kind yet; add one, or give the number of an object")
		}
		id = made[len(made)-1]
	}
	switch in.Action {
	case "add":
		id, err := d.portal.Add(kind, in.fields("New "+noun(in.Kind)+" ", n), user)
		if err == nil && len(d.made[kind]) < maxMade {
			d.made[kind] = append(d.made[kind], id)
		}
		return id, err
	case "update":
		return id, d.portal.Update(kind, id, in.fields("Changed "+noun(in.Kind)+" ", n), user)
	default:
		err := d.portal.Delete(kind, id, user)
		if err == nil || errors.Is(err, eventtest.ErrNotFound) { // an application may have deleted it
			d.unmake(kind, id)
		}
		return id, err
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

// fields are those given or else a title that differs from change to change. A new message also
// says whom it is for.
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
