package rest

import (
	"context"
	"errors"
	"strings"
	"time"
)

// CallOption says how calls are made. [Client.With] takes them.
type CallOption func(*callOptions) error

type callOptions struct {
	timeout    time.Duration // zero for none
	idempotent bool
	retries    int   // if limited
	limited    bool  // else those of the Portals
	err        error // of an option
}

// Timeout bounds a call, with all its waits and repetitions. A call that cannot have its turn in
// time fails at once. A batch of several requests has that time as a whole.
func Timeout(d time.Duration) CallOption {
	return func(o *callOptions) error {
		if d <= 0 {
			return errors.New("rest: Timeout: the time must be positive")
		}
		o.timeout = d
		return nil
	}
}

// Idempotent says that a call may run twice without harm, such as an update that sets fields to
// fixed values. It is repeated also if the connection broke after it was sent, or the portal
// failed, and nobody knows whether it ran. Methods that only read count as such by their names:
// those that end in get, list, fields, getFields or count, and a few more. A batch counts as such
// if all its commands do.
func Idempotent() CallOption {
	return func(o *callOptions) error {
		o.idempotent = true
		return nil
	}
}

// Retries sets how often a call is repeated at most, instead of what [WithRetries] says. Zero
// leaves all repetition to the caller.
func Retries(n int) CallOption {
	return func(o *callOptions) error {
		if n < 0 {
			return errors.New("rest: Retries: the number is negative")
		}
		o.retries, o.limited = n, true
		return nil
	}
}

// With returns a client that makes its calls in another way:
//
//	err := client.With(rest.Idempotent(), rest.Timeout(5*time.Second)).Call(ctx, "crm.deal.update", params, nil)
//
// The options hold for the calls of that client only, not for those that a helper makes through
// another one. A nil option is skipped. Calls of a client with an option that cannot be, such as a
// negative number, fail with [ErrBadCall].
func (c *Client) With(opts ...CallOption) *Client {
	own := *c
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&own.opts); err != nil {
			own.opts.err = err
		}
	}
	return &own
}

// With returns a coalescer that makes its calls in another way, as [Client.With] says. They join
// those of c.
func (c *Coalescer) With(opts ...CallOption) *Coalescer {
	return &Coalescer{client: c.client.With(opts...), batcher: c.batcher}
}

// within bounds the context of a call.
func (o *callOptions) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, o.timeout)
}

// isRead reports whether a method only reads, going by its name.
func isRead(method string) bool {
	name := strings.ToLower(method)
	switch name {
	case "profile", "scope", "events", "methods", "app.info", "server.time", "user.admin", "user.current", "event.offline.list":
		return true
	case "imbot.v2.event.get":
		return false // it acknowledges
	}
	if strings.HasPrefix(name, "event.offline.") {
		return false // get reserves and deletes
	}
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "get", "list", "fields", "getfields", "count":
		return true
	default:
		return false
	}
}
