package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

// callContext is the context of one call of a handler, a verifier or a queue. It has the values of
// the request, and ends at its deadline, with its parent or when the call is over, but not with the
// request. Most calls never wait for their context, so the timer and the links of the context
// package are made when Done or a child is first asked for. It is safe for concurrent use.
type callContext struct {
	parent   context.Context      //nolint:containedctx // it is one itself
	values   context.Context      //nolint:containedctx // the request's
	marker   context.Context      //nolint:containedctx // see Value
	report   event.MisfitReporter // nil in calls of verifiers and queues
	deadline time.Time
	cause    error // of an end at the deadline

	mu     sync.Mutex
	made   context.Context //nolint:containedctx // nil until it is needed
	cancel context.CancelFunc
	over   bool // the call has returned
}

// end ends the context when the call is over.
func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

// standard returns the context of package context that c stands for.
func (c *callContext) standard() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.standardLocked()
}

// standardLocked is called with c.mu held.
func (c *callContext) standardLocked() context.Context {
	if c.made == nil {
		c.made, c.cancel = context.WithDeadlineCause(c.parent, c.deadline, c.cause)
		if c.over {
			c.cancel()
		}
	}
	return c.made
}

// Deadline returns when the context ends at the latest.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done returns a channel that is closed when the context ends.
func (c *callContext) Done() <-chan struct{} { return c.standard().Done() }

// Err returns why the context ended, nil when it did not.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil && !c.over && c.parent.Err() == nil && time.Now().Before(c.deadline) {
		return nil
	}
	return c.standardLocked().Err()
}

// Value returns a value of the request. What package context keeps in its own contexts, to link
// children with parents and to find causes, comes from c instead. Its key is not exported, but the
// marker knows it: a context that can be cancelled and has no other values.
func (c *callContext) Value(key any) any {
	if _, ok := key.(event.MisfitReporterKey); ok && c.report != nil {
		return c.report
	}
	if c.marker.Value(key) != nil {
		return c.standard().Value(key)
	}
	return c.values.Value(key)
}

// context returns the context that an item is handled with. The caller ends it.
func (q *queue) context(it *item, timeout time.Duration) *callContext {
	return &callContext{
		parent: q.life, values: it.values, marker: q.life, report: q.misfits,
		deadline: it.begun.Add(timeout), cause: ErrTimeout,
	}
}
