package event

import (
	"errors"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// picker assigns the elements of an array to fields by their keys. For each field, it takes the
// element with exactly the field's name or, if there is none, the first one whose key differs only
// in case. It is fastest for keys that arrive in the order of names.
type picker struct {
	names        []string // at most 32
	next         int      // the field that the next key most likely stands for
	found, exact uint32   // a bit for each field
}

// field returns the field that a key stands for. It returns -1 if there is none, or if an earlier
// element takes precedence. Otherwise the new element replaces an earlier one with the same field.
func (p *picker) field(key string) int {
	field, exact := p.next, p.next < len(p.names) && key == p.names[p.next] && key != ""
	if !exact {
		if field, exact = fieldOf(key, p.names); field < 0 {
			return -1
		}
	}
	p.next = field + 1
	bit := uint32(1) << field
	if p.exact&bit != 0 || p.found&bit != 0 && !exact {
		return -1
	}
	p.found |= bit
	if exact {
		p.exact |= bit
	}
	return field
}

// pick is the element that was assigned to a field.
type pick struct {
	v     phpform.Value
	place int // from 1 on; 0 if there is none
}

// pickFields assigns the elements of an array to fields. picks has one entry for each name.
func pickFields(from phpform.Value, names []string, picks []pick) {
	p, place := picker{names: names}, 0
	c := from.Cursor()
	for c.Next() {
		place++
		if field := p.field(c.Key); field >= 0 {
			picks[field] = pick{c.Value, place}
		}
	}
}

// fieldOf returns the index of the name that a key equals, or -1, and whether it equals in case
// too.
func fieldOf(key string, names []string) (field int, exact bool) {
	field = -1
	for i, name := range names {
		switch {
		case len(name) != len(key) || name == "":
		case name == key:
			return i, true
		case phpform.EqualFold(name, key):
			field = i
		}
	}
	return field, false
}

// The fields of an event's envelope. A few samples of the documentation call the handler eventId.
const (
	topEvent = iota
	topHandler
	topEventID
	topData
	topTime
	topAuth
	topFields
)

var topNames = [topFields]string{
	topEvent: "event", topHandler: "event_handler_id", topEventID: "eventId", topData: "data", topTime: "ts", topAuth: "auth",
}

// envelope holds the first level of a body.
type envelope [topFields]pick

func (e *envelope) read(root phpform.Value) { pickFields(root, topNames[:], e[:]) }

func (e *envelope) get(field int) (phpform.Value, bool) { return e[field].v, e[field].place > 0 }

// handler returns the ID of the binding and the field that holds it. ok is false if the value is
// not an ID.
func (e *envelope) handler() (id int64, field int, ok bool) {
	field = topHandler
	if values.IsEmpty(e[topHandler].v) {
		field = topEventID
	}
	id, ok = values.Int(e[field].v)
	return id, field, ok
}

// time returns when the event fired. ok is false if the value is not a time.
func (e *envelope) time() (t time.Time, ok bool) { return values.Unix(e[topTime].v) }

// maxName is the width of the column in which the portal stores names of events.
const maxName = 255

func wireName(v phpform.Value, path string) (string, error) {
	name := strings.ToUpper(strings.TrimSpace(v.Scalar()))
	if v.Kind() != phpform.String || name == "" || len(name) > maxName {
		return "", mismatch(path, "an event name")
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return "", mismatch(path, "an event name")
		}
	}
	return name, nil
}

// named adds the event and its object to a DecodeError. info is what the handler's descriptor
// knows, or nil.
func (d *Delivery) named(err error, info *Info) error {
	if err == nil {
		return nil
	}
	var de *DecodeError
	if errors.As(err, &de) && de.Event == "" {
		de.Event, de.Entity = d.printableName(info), d.printableEntity(info, de.Path)
	}
	return err
}

// printableName returns the name if the catalogue has it, or info, which may be nil. Any other name
// is the sender's text.
func (d *Delivery) printableName(info *Info) string {
	if _, ok := Lookup(d.Name); ok {
		return d.Name
	}
	if info != nil && strings.EqualFold(info.Name, d.Name) {
		return info.Name
	}
	return "unknown event"
}

// maxPrintableID is the length of the longest ID in the text of an error.
const maxPrintableID = 64

// printableEntity returns the object that the delivery is about, for the text of an error about the
// value at a path. It returns none if that value is the ID, or if the ID looks like something else.
func (d *Delivery) printableEntity(info *Info, misfit string) Entity {
	e := d.Entity()
	if e.Kind == "" || info != nil && (&Misfit{Path: misfit}).namesOneOf(info.entity) {
		return Entity{}
	}
	plain := len(e.ID) <= maxPrintableID
	number := plain
	for _, c := range []byte(e.ID) {
		digit := c >= '0' && c <= '9'
		number = number && digit
		plain = plain && (digit || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_' || c == '-' || c == '.' || c == ':')
	}
	if !plain || !number && d.Redact(e.ID) != e.ID {
		return Entity{}
	}
	return Entity{Kind: e.Kind, ID: strings.Clone(e.ID)} // not a part of the body
}

func (d *Delivery) readEvent(name phpform.Value, top *envelope) (*Delivery, error) {
	d.Kind = KindEvent
	var err error
	if d.Name, err = wireName(name, "event"); err != nil {
		return nil, err
	}
	d.HandlerID, _, _ = top.handler()
	d.Time, _ = top.time()
	d.Auth.read(top[topAuth].v, &authNames, d.Time)
	d.Data = d.data(top[topData].v)
	return d, nil
}

// The fields of a record of the offline queue.
const (
	rowName = iota
	rowID
	rowTime
	rowMessage
	rowProcess
	rowData
	rowAdditional
	rowFields
)

var rowNames = [rowFields]string{
	rowName: "EVENT_NAME", rowID: "ID", rowTime: "TIMESTAMP_X", rowMessage: "MESSAGE_ID", rowProcess: "PROCESS_ID",
	rowData: "EVENT_DATA", rowAdditional: "EVENT_ADDITIONAL",
}

func (d *Delivery) readRecord(root, name phpform.Value) (*Delivery, error) {
	d.Kind, d.Source, d.body.isRecord = KindEvent, SourceOffline, true
	var err error
	if d.Name, err = wireName(name, "EVENT_NAME"); err != nil {
		return nil, err
	}
	var row [rowFields]pick
	pickFields(root, rowNames[:], row[:])
	for field := range row {
		d.setRow(field, row[field].v)
	}
	return d, nil
}

// setRow sets a field of a record. It returns false, and leaves the field zero, if v has the wrong
// shape.
func (d *Delivery) setRow(field int, v phpform.Value) (ok bool) {
	ok = true
	switch field {
	case rowID:
		d.ID, ok = values.Int(v)
	case rowTime:
		var t time.Time
		if ok = (Data{v: v}).Decode(&t) == nil; ok && !t.IsZero() {
			d.Time = t.UTC()
		}
	case rowMessage:
		d.MessageID, ok = v.Scalar(), v.Kind() != phpform.Array
	case rowProcess:
		d.ProcessID, ok = v.Scalar(), v.Kind() != phpform.Array
	case rowData:
		d.Data = d.data(v)
	case rowAdditional:
		user, _ := v.GetFold("user_id")
		if d.Auth.UserID, ok = values.Int(user); !ok {
			d.Auth.UserID = 0
		}
	}
	return ok
}
