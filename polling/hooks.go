package polling

import (
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/logattr"
)

// Hooks are functions that a consumer calls as it works, for metrics, alarms and dead letters. Each
// may be nil. The work waits for them, so they should return soon. All must be safe for concurrent
// use, because handlers of several chats end at the same time. They must not change their
// arguments. A panic in one is logged and changes nothing else.
type Hooks struct {
	// Handled is called when a handler has finished an event successfully. lag is the time from the
	// event on the portal until then, by the clock of the portal and to the second. lag is never
	// negative, and 0 if the event states no time. A panic is logged and changes nothing else.
	Handled func(ctx context.Context, d *event.Delivery, lag time.Duration)
	// Dropped is called when an event ends for good without success: its handler dropped it, it was
	// given up, or it could not be read. err is the reason; for an event that could not be read it is
	// e.Err, and e has no Delivery. The portal deletes the event after Dropped has returned nil, so
	// this is the place to store it, with [Event.Raw]. If Dropped returns an error, or panics, the
	// event is kept, and Dropped is called again, after a second at first and later after up to a
	// minute. Meanwhile it holds up its chat and a worker. ctx ends with the grace period.
	Dropped func(ctx context.Context, e Event, err error) error
}

// callHook calls a hook, and logs a panic in it.
func (c *Consumer) callHook(ctx context.Context, name string, hook func()) {
	if err := dispatch.Guard(func() error { hook(); return nil }); err != nil {
		c.log(ctx, slog.LevelError, "polling: a hook panicked", slog.String("hook", name), logattr.Error(nil, err))
	}
}

// callDropped calls the hook for an event that ends without success until it returns nil. It
// returns false if the consumer stops before that.
func (r *run) callDropped(e Event, reason error) bool {
	hook := r.c.cfg.hooks.Dropped
	if hook == nil {
		return true
	}
	for failures := 1; ; failures++ {
		err := dispatch.Guard(func() error { return hook(r.life, e, reason) })
		if err == nil {
			return true
		}
		wait := errorBackoff().After(failures)
		r.c.log(r.life, slog.LevelWarn, "polling: Hooks.Dropped failed, the event is kept; trying again",
			append(eventAttrs(e), logattr.Error(e.Delivery, err), logattr.Wait(wait))...)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.stopping:
			timer.Stop()
			return false
		}
	}
}
