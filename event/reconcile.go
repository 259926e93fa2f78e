package event

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// checkHandlerURL applies the portal's rules for handler URLs.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-bind.html
func checkHandlerURL(handler string) error {
	u, err := url.Parse(handler)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return errors.New("event: the handler URL must be absolute, such as https://example.com/bitrix24")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("event: the handler URL must start with https:// or http:// in lower case")
	case strings.Index(u.Hostname(), ".") < 1:
		return errors.New("event: the portal accepts no handler host without a dot, such as localhost; use a public name or an IPv4 address")
	case len(handler) > maxHandlerURL:
		return fmt.Errorf("event: the handler URL is longer than %d bytes, beyond which the portal may confuse it with another", maxHandlerURL)
	default:
		return nil
	}
}

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

// String names the binding without the query of its URL, where tenants and secrets like to stand.
func (b Binding) String() string {
	if b.Offline {
		if b.Connector == "" {
			return b.Event + " offline"
		}
		return b.Event + " offline " + b.Connector
	}
	handler, query, _ := strings.Cut(b.Handler, "?")
	if query != "" {
		handler += "?…"
	}
	if b.AuthType != 0 {
		return fmt.Sprintf("%s %s user %d", b.Event, handler, b.AuthType)
	}
	return b.Event + " " + handler
}

// Plan compares want with the portal's bindings and changes nothing. It owns, and may therefore unbind, only what posts to one of the
// handler URLs in want, letter by letter, and offline bindings only of the connectors in want: bindings of other installations of the
// same application, such as production while this runs on a laptop, are not touched. A binding of a wanted event and URL for another
// AuthType counts as unwanted, since it would deliver twice. ONAPPINSTALL is never unbound: the platform binds it by itself.
func (a *API) Plan(ctx context.Context, want []Binding) (Plan, error) {
	want = slices.Clone(want)
	for i := range want {
		want[i].Event = strings.ToUpper(strings.TrimSpace(want[i].Event))
		if err := want[i].validate(); err != nil {
			return Plan{}, err
		}
	}
	have, err := a.Bindings(ctx)
	if err != nil {
		return Plan{}, err
	}
	return plan(want, have), nil
}

func plan(want, have []Binding) Plan {
	wanted := make(map[Binding]bool, len(want))
	owned := make(map[string]bool)
	for _, b := range want {
		wanted[identity(b)] = true
		owned[ownership(b)] = true
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
		case owned[ownership(b)] && b.Event != OnAppInstall.Name():
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

func ownership(b Binding) string {
	if b.Offline {
		return "offline " + b.Connector
	}
	return "online " + b.Handler
}

// Apply carries out a plan: first what is missing, so that no event falls into a gap, then what is no longer wanted. It goes on
// after a failure and returns all of them joined; applying again is safe.
func (a *API) Apply(ctx context.Context, p Plan) error {
	var errs []error
	for _, b := range p.Bind {
		if err := a.Bind(ctx, b); err != nil {
			errs = append(errs, err)
		}
	}
	kept := slices.Concat(p.Keep, p.Bind)
	for _, b := range p.Unbind {
		if _, err := a.Unbind(ctx, b); err != nil {
			errs = append(errs, err)
			continue
		}
		// Unbinding without a user removes the URL's bindings for every user, wanted ones among them.
		if i := slices.IndexFunc(kept, func(k Binding) bool {
			return b.AuthType == 0 && !b.Offline && k.Event == b.Event && k.Handler == b.Handler
		}); i >= 0 {
			if err := a.Bind(ctx, kept[i]); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Reconcile makes the portal's bindings those in want, touching only what it owns; see [API.Plan]. Run it at every install,
// update and start: it is idempotent.
func (a *API) Reconcile(ctx context.Context, want []Binding) error {
	p, err := a.Plan(ctx, want)
	if err != nil {
		return err
	}
	return a.Apply(ctx, p)
}
