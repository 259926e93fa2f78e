package polling

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
)

// Event is one event as the portal returned it.
type Event struct {
	ID       int64  // eventId; 0 if the portal sent none, or one that cannot be read
	MemberID string // the portal

	// Delivery is the event as handlers get it. It is nil if the event could not be read, and then
	// Err says why.
	Delivery *event.Delivery
	Err      error

	raw *json.RawMessage // behind a pointer, so that fmt prints no payload
}

// Raw returns the event as the portal sent it, payload in clear. The caller must not change it.
func (e Event) Raw() json.RawMessage {
	if e.raw == nil {
		return nil
	}
	return *e.raw
}

// name returns the wire name, or "" if the event could not be read.
func (e Event) name() string {
	if e.Delivery == nil {
		return ""
	}
	return e.Delivery.Name
}

// size returns about how much memory the event takes, in bytes.
func (e Event) size() int64 {
	n := int64(len(e.Raw()))
	if e.Delivery != nil {
		n += e.Delivery.Size()
	}
	return n
}

// page is a response of imbot.v2.Event.get or im.v2.Event.get.
type page struct {
	events []Event // in the order of their IDs, those without one first
	next   int64   // nextOffset; 0 if there is none
	more   bool    // hasMore
}

// readPage reads a response, and returns about limit events of it at most; see page.cut. An event
// that cannot be read has Err set. proof is that of the events.
func readPage(doc json.RawMessage, limit int, proof event.Proof) (page, error) {
	var wire struct {
		Events  json.RawMessage `json:"events"`
		Next    scalar          `json:"nextOffset"`
		HasMore scalar          `json:"hasMore"`
	}
	if err := json.Unmarshal(doc, &wire); err != nil || len(doc) == 0 {
		return page{}, fmt.Errorf("%w: it is not an object", ErrBadResponse)
	}
	rows, err := readRows(wire.Events)
	if err != nil {
		return page{}, err
	}
	p := page{next: wire.Next.id(), more: wire.HasMore == "true" || wire.HasMore == "1" || wire.HasMore == "Y"}
	for _, row := range rows {
		p.events = append(p.events, readEvent(row, proof))
	}
	slices.SortStableFunc(p.events, func(a, b Event) int { return cmp.Compare(a.ID, b.ID) })
	p.cut(limit)
	return p, nil
}

// cut removes the events beyond limit, if the portal returned more than it was asked for. It keeps
// those with the lowest IDs. It never cuts between events with the same ID, because the offset only
// passes all of them together. For the same reason it cuts nothing if an event has no ID: only
// nextOffset leads past that one, and so past the whole page.
func (p *page) cut(limit int) {
	for limit < len(p.events) && p.events[limit].ID == p.events[limit-1].ID {
		limit++
	}
	if limit >= len(p.events) || p.events[0].ID == 0 {
		return
	}
	clear(p.events[limit:])
	p.events, p.more = p.events[:limit:limit], true
}

// readRows reads a list. PHP writes an empty one in several ways.
func readRows(doc json.RawMessage) ([]json.RawMessage, error) {
	switch string(bytes.Join(bytes.Fields(doc), nil)) {
	case "", "null", "false", `""`, "{}":
		return nil, nil
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(doc, &rows); err != nil {
		return nil, fmt.Errorf("%w: events are not a list", ErrBadResponse)
	}
	return rows, nil
}

func readEvent(row json.RawMessage, proof event.Proof) Event {
	e := Event{MemberID: proof.MemberID, raw: &row}
	var wire struct {
		ID scalar `json:"eventId"`
	}
	if json.Unmarshal(row, &wire) == nil {
		e.ID = wire.ID.id()
	}
	d, err := event.ParsePolled(row)
	if err == nil {
		err = d.Contradicts(proof)
	}
	if err != nil {
		e.Err = fmt.Errorf("polling: an event cannot be read: %w", err)
		return e
	}
	d.SetProof(proof)
	d.ID = e.ID
	e.Delivery = d
	return e
}

// scalar reads a JSON scalar as text. Anything else becomes empty.
type scalar string

// UnmarshalJSON never fails: one odd field must not hide the others.
func (s *scalar) UnmarshalJSON(doc []byte) error {
	*s = ""
	switch {
	case len(doc) == 0 || doc[0] == '{' || doc[0] == '[' || string(doc) == "null":
	case doc[0] == '"':
		var text string
		if json.Unmarshal(doc, &text) == nil {
			*s = scalar(strings.TrimSpace(text))
		}
	default:
		*s = scalar(doc)
	}
	return nil
}

// maxID bounds IDs, so that the next one can be computed.
const maxID = 1<<62 - 1

// id returns a positive number, or 0 if the text is none.
func (s scalar) id() int64 {
	n, err := strconv.ParseInt(string(s), 10, 64)
	if err != nil || n < 1 || n > maxID {
		return 0
	}
	return n
}
