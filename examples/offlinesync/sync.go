package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/b24events/b24events/event"
)

// syncer writes the present state of what changed.
type syncer struct {
	api      event.Caller
	out      *journal
	attempts int // until a record is given up
	abort    context.CancelCauseFunc

	mu    sync.Mutex
	tries map[string]int // of records that failed, by message
}

// line is what is written of a record.
type line struct {
	Event     string          `json:"event"`
	MessageID string          `json:"message_id"`
	Entity    *event.Entity   `json:"entity"`
	UserID    int64           `json:"user_id"`
	Object    json.RawMessage `json:"object"`
	Error     *string         `json:"error"`
}

// HandleEvent fetches the object of a record and writes it. It returns once the line is on disk.
func (s *syncer) HandleEvent(ctx context.Context, d *event.Delivery) error {
	object, err := event.Fetch[json.RawMessage](ctx, s.api, d)
	switch {
	case err == nil:
		return s.write(d, object, nil)
	case errors.Is(err, event.ErrGone):
		return s.write(d, nil, nil)
	case errors.Is(err, event.ErrUnknown):
		return s.write(d, nil, err) // as long as the catalogue has no method, trying again is no use
	case ctx.Err() != nil:
		return err
	}
	if outcome, _ := event.OutcomeOf(err); outcome != event.Dropped && !s.last(d) {
		return err
	}
	if failure := s.write(d, nil, err); failure != nil {
		return failure
	}
	return event.Drop(err) // parks the record
}

// last counts a failure and reports whether it was the last that is allowed.
func (s *syncer) last(d *event.Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries[d.MessageID]++
	return s.tries[d.MessageID] >= s.attempts
}

func (s *syncer) write(d *event.Delivery, object json.RawMessage, failure error) error {
	s.mu.Lock()
	delete(s.tries, d.MessageID)
	s.mu.Unlock()
	l := line{Event: d.Name, MessageID: d.MessageID, UserID: d.Auth.UserID, Object: object}
	if e := d.Entity(); e.Kind != "" {
		l.Entity = &e
	}
	if failure != nil {
		text := failure.Error()
		l.Error = &text
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text) // ends the line
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return event.Drop(err)
	}
	if err := s.out.append(text.Bytes()); err != nil {
		s.abort(err) // no record's fault: the next start takes them all again
		return err
	}
	return nil
}
