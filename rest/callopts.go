package rest

import (
	"context"
	"errors"
	"strings"
	"time"
)

// CallOption configures calls. [Client.With] takes them.
type CallOption func(*callOptions) error

type callOptions struct {
	timeout    time.Duration // zero for none
	idempotent bool
	retries    int   // if limited
	limited    bool  // else those of Clients
	err        error // the error of an option
}

// Timeout bounds a call, with all its waits and retries. A call that cannot have its turn in time
// fails at once. For a batch of several requests, the timeout covers all of them together.
func Timeout(d time.Duration) CallOption {
	return func(o *callOptions) error {
		if d <= 0 {
			return errors.New("Timeout: the time must be positive")
		}
		o.timeout = d
		return nil
	}
}

// Idempotent says that a call may run twice without harm, for example an update that sets fields to
// fixed values. Such a call is retried even if it may have run: if the connection broke after it
// was sent, or the portal failed. Methods that only read are idempotent anyway. Their names end in
// get, list, fields, getFields or count, and there are a few more. A batch is idempotent if all its
// commands are.
func Idempotent() CallOption {
	return func(o *callOptions) error {
		o.idempotent = true
		return nil
	}
}

// Retries sets how often a call is retried at most, and replaces [WithRetries]. Zero leaves all
// retries to the caller.
func Retries(n int) CallOption {
	return func(o *callOptions) error {
		if n < 0 {
			return errors.New("Retries: the number must not be negative")
		}
		o.retries, o.limited = n, true
		return nil
	}
}

// With returns a client with other options:
//
//	err := client.With(rest.Idempotent(), rest.Timeout(5*time.Second)).Call(ctx, "crm.deal.update", params, nil)
//
// The options apply only to the calls of the returned client. A nil option is skipped. If an option
// is not valid, for example a negative number, all calls of the client fail with [ErrBadCall].
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

// With returns a coalescer with other options, as [Client.With] does. Its calls join those of c.
func (c *Coalescer) With(opts ...CallOption) *Coalescer {
	return &Coalescer{client: c.client.With(opts...), batcher: c.batcher}
}

// within returns the context of a call, with its timeout.
func (o *callOptions) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, o.timeout)
}

// isRead reports whether a method only reads, judging by its name.
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
