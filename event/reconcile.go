package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Plan is the changes that [API.Apply] makes.
type Plan struct {
	Bind   []Binding // wanted and missing
	Unbind []Binding // present, owned, and not wanted
	Keep   []Binding // wanted and present
}

// Changes returns the number of bindings that the plan creates or removes.
func (p Plan) Changes() int { return len(p.Bind) + len(p.Unbind) }

// String lists the plan with one line for each binding: + to bind, - to unbind, = to keep.
func (p Plan) String() string {
	var b strings.Builder
	for _, part := range []struct {
		sign string
		list []Binding
	}{{"+", p.Bind}, {"-", p.Unbind}, {"=", p.Keep}} {
		for _, x := range part.list {
			fmt.Fprintf(&b, "%s %s\n", part.sign, x)
		}
	}
	return b.String()
}

// ReconcileOption changes which bindings [API.Plan] and [API.Reconcile] own.
type ReconcileOption func(*ownership) error

// ownership says which bindings may be removed.
type ownership struct {
	prefixes []string
	handlers map[string]bool // of the wanted bindings
	queues   map[string]bool // offline, by connector
}

// WithOwnedPrefix adds every online binding whose handler URL is prefix, or continues it after a
// slash or a question mark, to those that are owned. Without it, these are only the bindings with a
// URL of a wanted binding. It cleans up after a change of the handler URL: pass the part that never
// changes, such as https://example.com/bitrix24. The prefix may be an http URL on the internet,
// because a binding to it can only be removed. An error matches [ErrConfig].
func WithOwnedPrefix(prefix string) ReconcileOption {
	return func(o *ownership) error {
		if _, err := handlerHost(prefix); err != nil {
			return misconfigured("WithOwnedPrefix: %v", err)
		}
		o.prefixes = append(o.prefixes, strings.TrimSuffix(prefix, "/"))
		return nil
	}
}

// owns reports whether a binding may be removed. One that the platform created may not, because an
// application cannot create it again.
func (o *ownership) owns(b Binding) bool {
	if b.byPlatform() {
		return false
	}
	if b.Offline {
		return o.queues[b.Connector]
	}
	return o.handlers[b.Handler] || slices.ContainsFunc(o.prefixes, func(prefix string) bool {
		rest, ok := strings.CutPrefix(b.Handler, prefix)
		return ok && (rest == "" || rest[0] == '/' || rest[0] == '?')
	})
}

// Plan compares want with the portal's bindings and changes nothing: it is the dry run of
// [API.Reconcile]. The plan unbinds only owned bindings: online ones whose handler URL is exactly
// one of those in want, or is below [WithOwnedPrefix], and offline ones of the connectors in want.
// It does not touch the bindings of other installations of the same application, such as production
// while this program runs on a laptop. A binding of a wanted event and URL with another AuthType is
// unwanted, because it would deliver the event again. Bindings that the platform creates by itself
// are never removed: ONAPPINSTALL, ONAPPUSERREADY and the events of imbot.v2 bots; see
// [Info.PlatformBound]. Of these, want may hold only ONAPPINSTALL, which an application with pages
// binds before its installation is finished.
func (a *API) Plan(ctx context.Context, want []Binding, opts ...ReconcileOption) (Plan, error) {
	o := ownership{handlers: make(map[string]bool), queues: make(map[string]bool)}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&o); err != nil {
			return Plan{}, err
		}
	}
	want = slices.Clone(want)
	for i := range want {
		b := &want[i]
		b.Event = strings.ToUpper(strings.TrimSpace(b.Event))
		if err := b.Validate(); err != nil {
			return Plan{}, err
		}
		if b.Offline {
			o.queues[b.Connector] = true
		} else {
			o.handlers[b.Handler] = true
		}
	}
	have, err := a.Bindings(ctx)
	if err != nil {
		return Plan{}, err
	}
	return plan(want, have, &o), nil
}

func plan(want, have []Binding, o *ownership) Plan {
	wanted := make(map[Binding]bool, len(want))
	for _, b := range want {
		wanted[identity(b)] = true
	}
	var p Plan
	present := make(map[Binding]bool, len(have))
	for _, b := range have {
		id := identity(b)
		switch {
		case wanted[id]:
			if !present[id] {
				p.Keep = append(p.Keep, b)
			}
			present[id] = true
		case o.owns(b):
			p.Unbind = append(p.Unbind, b)
		}
	}
	for _, b := range want {
		if id := identity(b); !present[id] {
			present[id] = true // if want has it twice, bind it once
			p.Bind = append(p.Bind, b)
		}
	}
	return p
}

// identity returns the part of a binding that event.get returns: no options, and no connector of an
// online binding.
func identity(b Binding) Binding {
	b.MinTimeout = 0
	if !b.Offline {
		b.Connector = ""
	}
	return b
}

// Apply carries out a plan with one request for each 50 changes. It first creates the missing
// bindings, so that no event is lost in between, and then removes the unwanted ones. It goes on
// after an error and returns all errors joined. It is safe to apply a plan again.
func (a *API) Apply(ctx context.Context, p Plan) error {
	var commands []command
	var bound []Binding // those of the event.bind commands, in order
	bind := func(b Binding) {
		commands = append(commands, command{"event.bind", b.bindParams()})
		bound = append(bound, b)
	}
	for _, b := range p.Bind {
		if err := b.Validate(); err != nil {
			return err
		}
		bind(b)
	}
	for _, b := range p.Unbind {
		commands = append(commands, command{"event.unbind", b.params()})
		if b.AuthType != 0 || b.Offline {
			continue
		}
		// Unbinding without a user removes the URL's bindings for every user, also those that are wanted.
		for _, k := range slices.Concat(p.Keep, p.Bind) {
			if k.Event == b.Event && k.Handler == b.Handler && !k.Offline {
				bind(k)
			}
		}
	}
	results, err := a.batch(ctx, commands)
	errs := []error{err}
	for i, reply := range results {
		if commands[i].method != "event.bind" {
			errs = append(errs, reply.err)
			continue
		}
		b := bound[0]
		bound = bound[1:]
		switch {
		case !reply.sent, alreadyBound(reply.err):
		case bindingStarted(reply.err):
			errs = append(errs, a.Bind(ctx, b)) // waits for the other call
		case reply.err != nil:
			errs = append(errs, fmt.Errorf("event: binding %s: %w", b.Event, reply.err))
		case !bytes.Equal(bytes.TrimSpace(reply.result), []byte("true")):
			errs = append(errs, fmt.Errorf("event: binding %s: the portal did not return true", b.Event))
		}
	}
	return errors.Join(errs...)
}

// Reconcile creates and removes bindings until the portal has those in want. It removes only
// bindings that it owns; see [API.Plan]. It takes one request if nothing changes, and two for up to
// 50 changes. It is idempotent: run it at every installation, update and start.
func (a *API) Reconcile(ctx context.Context, want []Binding, opts ...ReconcileOption) error {
	p, err := a.Plan(ctx, want, opts...)
	if err != nil {
		return err
	}
	return a.Apply(ctx, p)
}
