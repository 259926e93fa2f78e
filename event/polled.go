package event

import (
	"encoding/json"
	"time"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// The fields of an event that was polled.
const (
	polledID = iota
	polledType
	polledDate
	polledData
	polledFields
)

var polledNames = [polledFields]string{polledID: "eventId", polledType: "type", polledDate: "date", polledData: "data"}

// ParsePolled reads one event of imbot.v2.Event.get or im.v2.Event.get, a JSON object with eventId,
// type, date and data. [Delivery.ID] is its eventId. Its Auth is empty, because such events carry
// no user and no tokens; the caller adds the portal with [Delivery.SetProof]. Only the type must be
// valid. Any other field whose value has the wrong shape is zero.
//
// It returns [ErrMalformed] or [ErrTooLarge].
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/imbot.v2/events/event-get.html
func ParsePolled(doc json.RawMessage) (*Delivery, error) {
	root, err := phpform.DecodeJSON(doc, phpform.Limits{Bytes: len(doc) + 1})
	if err != nil {
		return nil, bodyError(err)
	}
	var fields [polledFields]pick
	pickFields(root, polledNames[:], fields[:])
	d := &Delivery{Kind: KindEvent, Source: SourcePolled}
	if d.Name, err = wireName(fields[polledType].v, "type"); err != nil {
		return nil, err
	}
	d.keepBody(root, len(doc))
	d.body.isPolled = true
	for field := range fields {
		d.setPolled(field, fields[field].v)
	}
	return d, nil
}

// setPolled sets a field of a polled event. It returns false, and leaves the field zero, if v has
// the wrong shape.
func (d *Delivery) setPolled(field int, v phpform.Value) (ok bool) {
	ok = true
	switch field {
	case polledID:
		if d.ID, ok = values.Int(v); !ok {
			d.ID = 0
		}
	case polledDate:
		var t time.Time
		if ok = (Data{v: v}).Decode(&t) == nil; ok && !t.IsZero() {
			d.Time = t.UTC()
		}
	case polledData:
		d.Data = d.data(v)
	}
	return ok
}
