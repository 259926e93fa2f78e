package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/redact"
)

// Plan is what [API.Apply] would change.
type Plan struct {
	Bind   []Binding // wanted and missing
	Unbind []Binding // there, ours, and no longer wanted
	Keep   []Binding // wanted and there
}

// Changes returns the number of bindings that the plan makes or ends.
func (p Plan) Changes() int { return len(p.Bind) + len(p.Unbind) }

// String lists the plan, a line a binding: + to bind, - to unbind, = to keep.
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

// String names the binding without the query of its URL, which often holds a tenant or a secret.
// The result is always one line.
func (b Binding) String() string {
	text := b.Event
	switch {
	case b.Offline && b.Connector != "":
		text += " offline " + b.Connector
	case b.Offline:
		text += " offline"
	default:
		text += " " + shownURL(b.Handler)
	}
	if b.AuthType != 0 && !b.Offline {
		text += " user " + strconv.FormatInt(b.AuthType, 10)
	}
	return redact.Escape(redact.New().Redact(text), maxBindingText)
}

// maxBindingText bounds what [Binding.String] returns, in characters.
const maxBindingText = 512

// ReconcileOption changes what [API.Plan] and [API.Reconcile] own.
type ReconcileOption func(*ownership) error

// ownership says which bindings may be ended.
type ownership struct {
	prefixes []string
	handlers map[string]bool // of the wanted bindings
	queues   map[string]bool // offline, by connector
}

// WithOwnedPrefix makes every online binding ours whose handler URL is prefix or continues it after
// a slash or a question mark. It cleans up after handler URLs that changed: give the part that
// never does, such as https://example.com/bitrix24. Without it only the URLs of the wanted bindings
// are owned. The prefix may be an http URL on the internet: bindings to one can only be ended.
func WithOwnedPrefix(prefix string) ReconcileOption {
	return func(o *ownership) error {
		if _, err := handlerHost(prefix); err != nil {
			return misconfigured("WithOwnedPrefix: %v", err)
		}
		o.prefixes = append(o.prefixes, strings.TrimSuffix(prefix, "/"))
		return nil
	}
}

// owns reports whether a binding may be ended. One that the platform made never is: it cannot be
// made again.
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
// [API.Reconcile]. It owns, and may therefore unbind, only what posts to one of the handler URLs in
// want, letter by letter, or below [WithOwnedPrefix], and offline bindings only of the connectors
// in want: bindings of other installations of the same application, such as production while this
// runs on a laptop, are not touched. A binding of a wanted event and URL for another AuthType
// counts as unwanted, since it would deliver twice. Bindings that the platform makes by itself are
// never ended: ONAPPINSTALL, ONAPPUSERREADY and the events of imbot.v2 bots; see
// [Info.PlatformBound]. Of these want may hold ONAPPINSTALL only, which an application with pages
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
			present[id] = true // named twice, bound once
			p.Bind = append(p.Bind, b)
		}
	}
	return p
}

// identity is what event.get tells of a binding: no options, and no connector online.
func identity(b Binding) Binding {
	b.MinTimeout = 0
	if !b.Offline {
		b.Connector = ""
	}
	return b
}

// Apply carries out a plan in one request for each 50 changes: first what is missing, so that no
// event falls into a gap, then what is no longer wanted. It goes on after a refusal and returns all
// of them joined; applying again is safe.
func (a *API) Apply(ctx context.Context, p Plan) error {
	var commands []command
	var bound []Binding // what each command of event.bind is for, in order
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
		// Unbinding without a user removes the URL's bindings for every user, wanted ones among them.
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
			errs = append(errs, a.Bind(ctx, b)) // which waits for the other one
		case reply.err != nil:
			errs = append(errs, fmt.Errorf("event: binding %s: %w", b.Event, reply.err))
		case !bytes.Equal(bytes.TrimSpace(reply.result), []byte("true")):
			errs = append(errs, fmt.Errorf("event: binding %s: the portal did not answer true", b.Event))
		}
	}
	return errors.Join(errs...)
}

// Reconcile makes the portal's bindings those in want, touching only what it owns; see [API.Plan].
// It takes one request where nothing is to change, and two for up to 50 changes. Run it at every
// install, update and start: it is idempotent.
func (a *API) Reconcile(ctx context.Context, want []Binding, opts ...ReconcileOption) error {
	p, err := a.Plan(ctx, want, opts...)
	if err != nil {
		return err
	}
	return a.Apply(ctx, p)
}
