package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/redact"
	"github.com/b24events/b24events/internal/typednil"
	"github.com/b24events/b24events/oauth"
)

// exam is one examination: what is wanted, what is known, and what was found.
type exam struct {
	config

	caller   event.Caller
	api      *event.API
	want     []event.Binding // names in upper case
	handlers []string        // of the wanted online bindings, each once
	offline  bool            // a wanted binding is offline
	queues   []string        // connectors of the wanted offline bindings, each once

	checks []Check
	count  map[string]int  // lines, by check
	failed map[string]bool // by check

	stored    oauth.Installation
	known     bool  // stored is the installation
	timeouts  int   // of calls
	dead      error // why the portal refuses every call; nil if it does not
	info      appInfo
	skew      time.Duration // of the portal's clock, as far as it is certain
	scope     []string
	scoped    bool // scope is known
	admin     bool
	judged    bool // admin is known
	box       bool // the portal is on the customer's premises
	available map[string]bool
	listed    bool                 // available is known
	refused   map[wantedEvent]bool // they cannot be bound as things are
	have      []event.Binding
	seen      bool           // have is known
	forbidden []string       // handlers that forbid every request of the probe
	missed    map[string]int // statuses of handlers whose URL has no page that takes a POST
	arrived   bool           // the test event arrived
}

// Examine finds out why the wanted events do not arrive from a portal. caller calls the portal as
// the application does. want are the bindings that the application needs, for example those of
// [event.Mux.Bindings]; at least one.
//
// Each request ends after the timeout of [WithTimeout], if caller respects its context. After two
// calls without a response Examine calls the portal no more, and skips what needs it. When ctx
// ends, Examine returns its cause, and a report in which the remaining checks are skipped. If an
// argument makes no sense, the error matches [ErrConfig]. Everything else that goes wrong is in the
// report.
//
// caller may renew a token, or find that the application was removed, as always. Several
// examinations may run at the same time.
func Examine(ctx context.Context, caller event.Caller, want []event.Binding, opts ...Option) (Report, error) {
	e := &exam{
		config: config{timeout: DefaultTimeout}, caller: caller, api: event.NewAPI(caller), count: make(map[string]int),
		failed: make(map[string]bool), refused: make(map[wantedEvent]bool),
		missed: make(map[string]int),
	}
	switch {
	case typednil.Is(caller):
		return Report{}, misconfigured("Examine was given a nil caller")
	case len(want) == 0:
		return Report{}, misconfigured("Examine was given no wanted bindings")
	}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&e.config); err != nil {
			return Report{}, err
		}
	}
	if err := e.plan(want); err != nil {
		return Report{}, err
	}
	for _, check := range []func(context.Context){
		e.checkAccess, e.checkClock, e.checkPlan, e.checkScopesAndEvents, e.checkRights, e.checkHandlers, e.checkProbe, e.checkBindings,
		e.checkTest, e.checkForbidden, e.checkDeliveries, e.checkQueues, e.checkResponses,
	} {
		if ctx.Err() != nil {
			return e.report(), context.Cause(ctx)
		}
		check(ctx)
	}
	if ctx.Err() != nil {
		return e.report(), context.Cause(ctx)
	}
	return e.report(), nil
}

// plan copies what is wanted, in one spelling and each binding once.
func (e *exam) plan(want []event.Binding) error {
	known := make(map[event.Binding]bool, len(want))
	for _, b := range want {
		b.Event = strings.ToUpper(strings.TrimSpace(b.Event))
		b.MinTimeout = 0
		if b.Event == "" {
			return misconfigured("a wanted binding has no event")
		}
		if known[b] {
			continue
		}
		known[b] = true
		e.want = append(e.want, b)
		switch {
		case !b.Offline && !slices.Contains(e.handlers, b.Handler):
			e.handlers = append(e.handlers, b.Handler)
		case b.Offline && !slices.Contains(e.queues, b.Connector):
			e.queues = append(e.queues, b.Connector)
		}
		e.offline = e.offline || b.Offline
	}
	return nil
}

// call calls a method of the portal, unless the portal refuses every call.
func (e *exam) call(ctx context.Context, method string, params, result any) error {
	if e.dead != nil {
		return e.dead
	}
	return e.timed(ctx, func(ctx context.Context) error { return e.caller.Call(ctx, method, params, result) })
}

// errStopped is what a call returns when the context of the examination ends. It is no finding.
var errStopped = errors.New("the examination was stopped")

// timed makes a call that ends after the timeout.
func (e *exam) timed(ctx context.Context, call func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	err := call(limited)
	if err != nil && ctx.Err() != nil {
		return errStopped
	}
	return err
}

// unknown adds the line of a check whose method failed. The error of a portal that refuses every
// call has a line already.
func (e *exam) unknown(name, method string, err error) {
	switch {
	case errors.Is(err, errStopped):
		e.skip(name, "stopped")
		return
	case e.dead != nil:
		e.skip(name, "the application cannot call the portal; see above")
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		if e.timeouts++; e.timeouts == maxTimeouts {
			e.explain(err)
			e.dead = err
			e.skip(name, "the portal does not respond; see above")
			return
		}
	}
	e.warn(name, CheckFailed, method+" "+e.noResponse(err), "Try again later. If it stays so, look at the portal's log of REST calls.")
}

// maxTimeouts is after how many calls without a response no more are made.
const maxTimeouts = 2

const (
	maxErrorText = 300
	maxName      = 100
)

// errorText returns the text of an error, which may quote a portal.
func errorText(err error) string { return redact.New().Plain(err.Error(), maxErrorText) }

// name makes the name of an event, a permission or a code fit for a text.
func name(text string) string { return redact.New().Clean(text, maxName) }

// shown returns a handler URL for people, without its query.
func shown(handler string) string { return strings.TrimSpace(event.Binding{Handler: handler}.String()) }

// codeOf returns the portal's error code in upper case, and its description. They are empty for
// other errors.
func codeOf(err error) (code, description string) {
	var refusal event.CallError
	if !errors.As(err, &refusal) {
		return "", ""
	}
	return strings.ToUpper(refusal.ErrorCode()), refusal.ErrorDescription()
}
