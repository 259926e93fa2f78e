package polling

import (
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// Hooks are functions that a consumer calls as it works, for metrics, alarms and dead letters. Each
// may be nil. The work waits for them, so they should return soon. All must be safe for concurrent
// use, because handlers of several chats end at the same time. They must not change their
// arguments. A panic in one is logged and changes nothing else.
type Hooks struct {
	// Handled is called when a handler has finished an event successfully. lag is the time from the
	// event on the portal until then, by the clock of the portal and to the second. lag is never
	// negative, and 0 if the event states no time.
	Handled func(ctx context.Context, d *event.Delivery, lag time.Duration)
	// Dropped is called when an event ends for good without success: its handler dropped it, it was
	// given up, or it could not be read. err is the reason; for an event that could not be read it is
	// e.Err, and e has no Delivery. The portal deletes the event soon after Dropped has returned, so
	// this is the place to store it, with [Event.Raw].
	Dropped func(ctx context.Context, e Event, err error)
}

// callHook calls a hook, and logs a panic in it.
func (c *Consumer) callHook(ctx context.Context, name string, hook func()) {
	if err := dispatch.Guard(func() error { hook(); return nil }); err != nil {
		c.log(ctx, slog.LevelError, "polling: a hook panicked", slog.String("hook", name), errorAttr(nil, err))
	}
}

func (c *Consumer) callDropped(ctx context.Context, e Event, err error) {
	if hook := c.cfg.hooks.Dropped; hook != nil {
		c.callHook(ctx, "Dropped", func() { hook(ctx, e, err) })
	}
}
