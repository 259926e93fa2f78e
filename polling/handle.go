package polling

import (
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/logattr"
)

// item returns an event as an item of the dispatcher. One that could not be read has no delivery
// and no lane.
func (f fresh) item(values context.Context) *dispatch.Item {
	it := &dispatch.Item{Delivery: f.Delivery, Values: values, Arrived: time.Now(), Front: f}
	if f.Delivery != nil {
		it.Lane = f.Delivery.Lane()
	}
	return it
}

// Handle implements dispatch.Front: it makes one attempt.
func (r *run) Handle(ctx context.Context, it *dispatch.Item) error {
	f, _ := it.Front.(fresh)
	if f.Err != nil {
		return event.Drop(f.Err)
	}
	if it.Attempts > 1 {
		r.c.meter.count(func(s *Stats) { s.Retried++ })
	}
	err := r.c.cfg.handle(ctx, f.Delivery)
	switch {
	case dispatch.IsGone(err):
		r.c.log(ctx, slog.LevelInfo, "polling: the object is gone, its event is done", eventAttrs(f.Event)...)
		return nil
	case dispatch.IsUnfetchable(err):
		r.c.log(ctx, slog.LevelWarn, "polling: no method reads the object, its event is done",
			append(eventAttrs(f.Event), logattr.Error(f.Delivery, err))...)
		return nil
	default:
		return err
	}
}

// Retrying implements dispatch.Front.
func (r *run) Retrying(it *dispatch.Item, err error, wait time.Duration) {
	f, _ := it.Front.(fresh)
	r.c.log(it.Values, slog.LevelInfo, "polling: the handler failed, trying again", append(eventAttrs(f.Event),
		slog.Int(keyAttempt, it.Attempts), logattr.Error(f.Delivery, err), logattr.Wait(wait))...)
}

// Finished implements dispatch.Front. It reports the event before its ID can be acknowledged.
func (r *run) Finished(it *dispatch.Item, o dispatch.Outcome, err error) {
	f, _ := it.Front.(fresh)
	done := false
	defer func() {
		if !done { // the consumer stops, or foreign code ended the goroutine
			r.c.meter.count(func(s *Stats) { s.Abandoned++ })
			r.abandoned.Add(1)
			return
		}
		r.finish(f)
	}()
	switch o {
	case dispatch.OutcomeDone:
		r.reportHandled(it.Values, f.Delivery)
		done = true
	case dispatch.OutcomeUnhandled:
		r.reportUnhandled(it.Values, f.Event)
		done = true
	case dispatch.OutcomeFailed:
		done = r.giveUp(it.Values, f.Event, it.Attempts, err)
	default: // the dispatcher gave it up, because the consumer stops
	}
}

// finish lets the offset pass an event.
func (r *run) finish(f fresh) {
	r.window.finish(f.key)
	select {
	case r.signal <- struct{}{}:
	default: // a signal is pending
	}
}

func (r *run) reportHandled(ctx context.Context, d *event.Delivery) {
	var lag time.Duration
	if !d.Time.IsZero() {
		lag = max(0, time.Since(d.Time))
	}
	r.c.meter.count(func(s *Stats) {
		s.Handled++
		s.LastLag = lag
	})
	if hook := r.c.cfg.hooks.Handled; hook != nil {
		r.c.callHook(ctx, "Handled", func() { hook(ctx, d, lag) })
	}
}

// reportUnhandled reports an event without a handler. The log names each event once.
func (r *run) reportUnhandled(ctx context.Context, e Event) {
	r.c.meter.count(func(s *Stats) { s.Unhandled++ })
	if r.c.unhandled.First(e.name()) {
		r.c.log(ctx, slog.LevelInfo, "polling: no handler takes this event, it is ignored", eventAttrs(e)...)
	}
}

// giveUp reports an event that ends for good without success. It returns false if the event must be
// kept.
func (r *run) giveUp(ctx context.Context, e Event, attempts int, err error) bool {
	if e.Err != nil {
		err = e.Err
	}
	if !r.callDropped(e, err) {
		return false
	}
	attrs := append(eventAttrs(e), slog.Int(keyAttempt, attempts), logattr.Error(e.Delivery, err))
	switch {
	case e.Err != nil:
		r.c.meter.count(func(s *Stats) { s.Damaged++ })
		r.c.log(ctx, slog.LevelError, "polling: an event cannot be read and is given up", attrs...)
	case dispatch.IsDropped(err):
		r.c.meter.count(func(s *Stats) { s.Dropped++ })
		r.c.log(ctx, slog.LevelWarn, "polling: the handler dropped the event", attrs...)
	default:
		r.c.meter.count(func(s *Stats) { s.Failed++ })
		r.c.log(ctx, slog.LevelError, "polling: the event failed for good and is given up", attrs...)
	}
	return true
}

// reportMisfits reports the values of a payload that do not fit.
func (c *Consumer) reportMisfits(ctx context.Context, d *event.Delivery) {
	list := d.Misfits()
	c.meter.count(func(s *Stats) { s.Misfits += counted(len(list)) })
	for _, m := range list {
		c.cfg.misfits.Report(ctx, d.Name, m.Path, m.Want)
	}
}
