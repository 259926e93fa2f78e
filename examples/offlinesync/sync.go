package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/offline"
)

// syncer writes the present state of changed objects.
type syncer struct {
	api   event.Caller
	out   *journal
	abort context.CancelCauseFunc
}

// line is how a record is written.
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
		return s.write(ctx, d, object, nil)
	case errors.Is(err, event.ErrGone):
		return s.write(ctx, d, nil, nil)
	case errors.Is(err, event.ErrUnknown), errors.Is(err, event.ErrNotVisible):
		return s.write(ctx, d, nil, err) // no method reads it, or the token may not see it: a retry cannot help
	default:
		return err
	}
}

// parked writes a line about a record that is parked.
func (s *syncer) parked(ctx context.Context, r offline.Record, err error) {
	d := r.Delivery
	if d == nil {
		d = &event.Delivery{MessageID: r.MessageID} // it could not be read
	}
	_ = s.write(ctx, d, nil, err) // a failure ends the program
}

// stalled ends a program that must not wait forever.
func (s *syncer) stalled(_ context.Context, stall offline.Stall) {
	if stall.Kind == offline.StallNoResponse && !stall.Over {
		s.abort(errNoAnswer)
	}
}

func (s *syncer) write(ctx context.Context, d *event.Delivery, object json.RawMessage, failure error) error {
	l := line{Event: d.Name, MessageID: d.MessageID, UserID: d.Auth.UserID, Object: object}
	if e := d.Entity(); e.Kind != "" {
		l.Entity = &e
	}
	if failure != nil {
		text := d.Redact(failure.Error())
		l.Error = &text
	}
	text, err := program.JSONLine(l)
	if err != nil {
		return event.Drop(err)
	}
	if err := s.out.append(text); err != nil {
		s.abort(err)
		<-ctx.Done() // the record did not fail, so it is not parked: the next start takes it again
		return err
	}
	return nil
}
