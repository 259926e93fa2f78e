package event

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/b24events/b24events/internal/typednil"
)

// Handler handles deliveries. It returns nil for success, the error of [Drop] or [Retry] to tell
// the queue what to do, or any other error. It must be safe for concurrent use. Deliveries about
// one object arrive one after the other.
type Handler interface {
	HandleEvent(ctx context.Context, d *Delivery) error
}

// HandlerFunc turns a function into a [Handler].
type HandlerFunc func(ctx context.Context, d *Delivery) error

// HandleEvent calls f.
func (f HandlerFunc) HandleEvent(ctx context.Context, d *Delivery) error { return f(ctx, d) }

// Middleware wraps a handler, to log, measure, filter or change its outcome.
type Middleware func(Handler) Handler

// Mux passes each delivery to the one handler that is registered for its name. It ignores case. It
// serves online deliveries, the offline queue and replays alike, and it knows which events it
// handles: see [Mux.Bindings]. For a delivery without a handler it returns [ErrUnhandled].
//
// Registration is not safe for concurrent use and ends with the first delivery. A duplicate, nil or
// late registration is a bug in the program and panics, as with http.ServeMux. Handling is safe for
// concurrent use. The zero Mux is ready to use.
type Mux struct {
	handlers   map[string]Handler
	activities map[string]Handler // by code
	names      []string           // of events, in order of registration
	middleware []Middleware
	unhandled  Handler

	routes         map[string]Handler // handlers inside the middleware
	activityRoutes map[string]Handler
	rest           Handler // the fallback inside the middleware; nil until something is registered
	started        atomic.Bool
}

// NewMux returns an empty Mux.
func NewMux() *Mux { return &Mux{} }

// Handle registers h for the event of that name. Prefer [On], which decodes the payload.
func (m *Mux) Handle(name string, h Handler) {
	m.registering("Handle")
	name = wireNameOf(name)
	switch {
	case name == "":
		panic("event: Mux.Handle with an empty event name")
	case typednil.Is(h):
		panic("event: Mux.Handle of " + name + " with a nil handler")
	case m.handlers[name] != nil:
		panic("event: " + name + " has a handler already; use event.Join to run several")
	}
	route := m.wrap(h)
	if m.handlers == nil {
		m.handlers, m.routes = make(map[string]Handler), make(map[string]Handler)
	}
	m.handlers[name], m.routes[name] = h, route
	m.names = append(m.names, name)
}

// Use wraps every handler of the mux, including that of [Mux.Unhandled] and those that are
// registered later. The first middleware is the outermost one. Use calls each middleware at once,
// so that one that panics or returns nil fails here and not at the first event. The mux calls them
// again for handlers that are registered or wrapped later.
func (m *Mux) Use(mw ...Middleware) {
	m.registering("Use")
	for _, w := range mw {
		if w == nil {
			panic("event: Mux.Use with a nil middleware")
		}
	}
	m.middleware = append(m.middleware, mw...)
	for name, h := range m.handlers {
		m.routes[name] = m.wrap(h)
	}
	for code, h := range m.activities {
		m.activityRoutes[code] = m.wrap(h)
	}
	m.rest = m.wrap(m.fallback())
}

// Unhandled registers a handler for deliveries that have no other handler, whether the catalogue
// knows the event or not. Without it, they end with [ErrUnhandled]: package webhook acknowledges
// and counts the event, and package offline parks its record, so that a newer version of the
// program can handle it. To discard these deliveries instead, register a handler that returns nil.
func (m *Mux) Unhandled(h Handler) {
	m.registering("Unhandled")
	if typednil.Is(h) {
		panic("event: Mux.Unhandled with a nil handler")
	}
	if m.unhandled != nil {
		panic("event: Mux.Unhandled called twice")
	}
	m.rest = m.wrap(h)
	m.unhandled = h
}

// fallback returns the handler for deliveries that have no other.
func (m *Mux) fallback() Handler {
	if m.unhandled != nil {
		return m.unhandled
	}
	return HandlerFunc(func(context.Context, *Delivery) error { return ErrUnhandled })
}

// Handles reports whether a handler is registered for the name.
func (m *Mux) Handles(name string) bool { return m.handlers[wireNameOf(name)] != nil }

// Names returns the wire names that have a handler, in the order of registration.
func (m *Mux) Names() []string { return slices.Clone(m.names) }

// Bindings returns the online bindings that this mux needs for deliveries to handlerURL: one for
// each registered event that an application binds. Pass them to [API.Reconcile]. ONAPPUSERREADY and
// the events of imbot.v2 bots are left out, because the platform binds them by itself. ONAPPINSTALL
// is included, because an application with pages must bind it; for one without pages, the platform
// has bound it already. Bindings does not check the URL; [ValidateHandlerURL] does.
func (m *Mux) Bindings(handlerURL string) []Binding {
	return m.bindings(Binding{Handler: handlerURL})
}

// OfflineBindings returns the bindings for the offline queue of a connector ("" for the default
// queue). ONOFFLINEEVENT is left out, because the platform refuses it there.
func (m *Mux) OfflineBindings(connector string) []Binding {
	return m.bindings(Binding{Offline: true, Connector: connector})
}

func (m *Mux) bindings(template Binding) []Binding {
	var all []Binding
	for _, name := range m.names {
		if !bindable(name, template.Offline) {
			continue
		}
		b := template
		b.Event = name
		all = append(all, b)
	}
	return all
}

// HandleEvent runs the handler for the delivery's name, or that of [OnActivity] for a call of an
// automation rule, and returns its error, or [ErrUnhandled].
func (m *Mux) HandleEvent(ctx context.Context, d *Delivery) error {
	if !m.started.Load() {
		m.started.Store(true)
	}
	var h Handler
	var ok bool
	if d.Kind == KindHandler {
		h, ok = m.activityRoutes[d.Data.Get("code").Text()]
	} else if h, ok = m.routes[d.Name]; !ok {
		h, ok = m.routes[wireNameOf(d.Name)]
	}
	switch {
	case ok:
		return h.HandleEvent(ctx, d)
	case m.rest != nil:
		return m.rest.HandleEvent(ctx, d)
	default:
		return ErrUnhandled
	}
}

// wireNameOf returns a name as the catalogue and the portal write it.
func wireNameOf(name string) string { return strings.ToUpper(strings.TrimSpace(name)) }

func (m *Mux) wrap(h Handler) Handler {
	for _, mw := range slices.Backward(m.middleware) {
		if h = mw(h); typednil.Is(h) {
			panic("event: a middleware of the Mux returned a nil handler")
		}
	}
	return h
}

func (m *Mux) registering(method string) {
	if m.started.Load() {
		panic("event: Mux." + method + " after the first delivery")
	}
}

// On registers a handler with a typed payload. If the descriptor and the handler have different
// payload types, the program does not compile.
//
// The handler receives those values that fit: one that does not fit leaves its field zero, and
// [Delivery.Misfits] lists it. If the data lacks the ID of the object that the event is about, or
// the ID does not fit, the handler does not run. The error is then a [DecodeError], which is not
// retried. A handler that needs a complete payload checks d.Misfits itself.
//
// On panics if no data can ever fill a T, as [Define] does.
func On[T any](m *Mux, e Descriptor[T], h func(ctx context.Context, d *Delivery, payload T) error) {
	if h == nil {
		panic(fmt.Sprintf("event: On %s with a nil handler", e.Name()))
	}
	if err := rules.Check(reflect.TypeFor[T]()); err != nil {
		panic(fmt.Sprintf("event: On %s: %v", e.Name(), err))
	}
	m.Handle(e.Name(), HandlerFunc(func(ctx context.Context, d *Delivery) error {
		payload, misfits, err := e.DecodeLenient(d)
		switch {
		case err != nil:
			return err
		case len(misfits) > 0:
			d = d.withMisfits(ctx, misfits)
		}
		return h(ctx, d, payload)
	}))
}
