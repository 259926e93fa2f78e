package dispatch

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

// Context is the context of one call: of a handler, or, with [Dispatcher.NewContext], of anything
// else. It has the values that an item brings, and ends at its deadline, with its parent or when
// the call is over. Most calls never wait for their context, so it makes the timer and the links of
// the context package only when Done or a child is first needed. It is safe for concurrent use.
type Context struct {
	d        *Dispatcher
	portal   *Portal         // nil unless this is an attempt
	values   context.Context //nolint:containedctx // nil for none
	deadline time.Time
	attempt  attempt
	received time.Time // when the item came; zero if it is not an attempt

	mu     sync.Mutex
	made   context.Context //nolint:containedctx // nil until it is needed
	cancel context.CancelFunc
	over   bool // the call has returned
}

// attempt is an [event.Attempt] in little space.
type attempt struct {
	number, max, merged int32
	parked              bool
}

// NewContext returns the context of a call that is not an attempt. It has the values of values,
// which may be nil, and ends when Shutdown stops waiting or after timeout. The caller calls End.
func (d *Dispatcher) NewContext(values context.Context, timeout time.Duration) *Context {
	return &Context{d: d, values: values, deadline: time.Now().Add(timeout)}
}

// context returns the context of an attempt. The caller calls End.
func (d *Dispatcher) context(it *Item) *Context {
	return &Context{
		d: d, portal: it.portal, values: it.Values, deadline: it.Began.Add(d.cfg.Timeout), received: it.Arrived,
		attempt: attempt{
			number: clampInt32(it.Attempts), max: clampInt32(d.attempts(it)), merged: clampInt32(it.Merged), parked: it.Parked,
		},
	}
}

func clampInt32(n int) int32 { return int32(min(n, math.MaxInt32)) } //nolint:gosec // it fits

// parent returns the context whose end ends c. It can be canceled and has no values.
func (c *Context) parent() context.Context {
	if c.portal == nil {
		return c.d.life
	}
	return c.portal.life
}

// End ends the context when the call is over.
func (c *Context) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

// standard returns the context of package context behind c, and makes it if there is none.
func (c *Context) standard() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.standardLocked()
}

// standardLocked is standard. c.mu is held.
func (c *Context) standardLocked() context.Context {
	if c.made == nil {
		var cause error
		if c.portal != nil {
			cause = c.d.cfg.TimedOut
		}
		c.made, c.cancel = context.WithDeadlineCause(c.parent(), c.deadline, cause)
		if c.over {
			c.cancel()
		}
	}
	return c.made
}

// Deadline returns when the context ends at the latest.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, true }

// Done returns a channel that is closed when the context ends.
func (c *Context) Done() <-chan struct{} { return c.standard().Done() }

// Err returns why the context ended, nil when it did not.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil && !c.over && c.parent().Err() == nil && time.Now().Before(c.deadline) {
		return nil
	}
	return c.standardLocked().Err()
}

// Value returns what the dispatcher knows of the attempt, or a value of the item. Package context
// keeps a value in its own contexts, to link children with parents and to find causes. That one
// comes from the context behind c. Its key is not exported, but the parent answers to it, because
// it is a context of package context that has no other values.
func (c *Context) Value(key any) any {
	if c.portal != nil {
		if v := c.attemptValue(key); v != nil {
			return v
		}
	}
	if c.parent().Value(key) != nil {
		return c.standard().Value(key)
	}
	if c.values == nil {
		return nil
	}
	return c.values.Value(key)
}

// attemptValue returns the values that package event looks for in the context of an attempt.
func (c *Context) attemptValue(key any) any {
	switch key.(type) {
	case event.AttemptKey:
		a := c.attempt
		return &event.Attempt{
			Number: int(a.number), Max: int(a.max), Merged: int(a.merged), Parked: a.parked, Received: c.received,
		}
	case event.MisfitReporterKey:
		if report := c.portal.opts.Misfits; report != nil {
			return report
		}
	case event.RemovalReporterKey:
		if report := c.portal.opts.Removal; report != nil {
			return report
		}
	}
	return nil
}
