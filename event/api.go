package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/redact"
	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/internal/typednil"
)

// API manages the event subscriptions of an application on one portal. Every method needs a
// [Caller] with the application's token, because the portal refuses incoming webhooks here. It is
// safe for concurrent use if its caller is.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
type API struct {
	caller Caller
}

// NewAPI returns an API over c. With a nil caller, all methods of the API return an error that
// matches [ErrConfig].
func NewAPI(c Caller) *API {
	if typednil.Is(c) {
		return &API{}
	}
	return &API{caller: c}
}

// check returns an error if there is no caller.
func (a *API) check() error {
	if a.caller == nil {
		return misconfigured("NewAPI was given a nil caller")
	}
	return nil
}

func (a *API) call(ctx context.Context, method string, params, result any) error {
	if err := a.check(); err != nil {
		return err
	}
	return a.caller.Call(ctx, method, params, result)
}

// Bind creates the subscription. It succeeds if the subscription already exists.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-bind.html
func (a *API) Bind(ctx context.Context, b Binding) error {
	if err := b.Validate(); err != nil {
		return err
	}
	params := b.bindParams()
	for try := 0; ; try++ {
		var done bool
		err := a.call(ctx, "event.bind", params, &done)
		switch {
		case alreadyBound(err):
			return nil
		case bindingStarted(err) && try < bindTries:
			if timing.Sleep(ctx, bindPause<<try) == nil {
				continue
			}
			return fmt.Errorf("event: binding %s: %w", params["event"], context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("event: binding %s: %w", params["event"], err)
		case !done:
			return fmt.Errorf("event: binding %s: the portal returned false", params["event"])
		default:
			return nil
		}
	}
}

// A portal refuses a binding that another process is creating at the same moment, such as another
// replica of a deployment. Bind tries again after 0.1, 0.2, 0.4 … seconds.
const (
	bindTries = 5
	bindPause = 100 * time.Millisecond
)

// bindingStarted reports whether the portal refused a binding because another call is creating it.
func bindingStarted(err error) bool {
	var ce CallError
	return errors.As(err, &ce) && strings.Contains(strings.ToLower(ce.ErrorDescription()), "binding the handler has already started")
}

// alreadyBound reports whether the portal refused a duplicate. The code is the catch-all
// ERROR_CORE, so the text has to decide. The code that is compared here appears in third-party
// documentation only.
func alreadyBound(err error) bool {
	var ce CallError
	if !errors.As(err, &ce) {
		return false
	}
	return strings.EqualFold(ce.ErrorCode(), "ERROR_EVENT_BINDING_EXISTS") ||
		strings.Contains(strings.ToLower(ce.ErrorDescription()), "already binded")
}

// Unbind removes the subscription and returns how many rows it removed, 0 if there was none. With
// an administrator's token, it removes an online binding with AuthType 0 for every user.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-unbind.html
func (a *API) Unbind(ctx context.Context, b Binding) (int, error) {
	if strings.TrimSpace(b.Event) == "" || (!b.Offline && b.Handler == "") {
		return 0, misconfigured("unbinding needs an event name and, online, a handler URL")
	}
	var result struct {
		Count int `json:"count"`
	}
	if err := a.call(ctx, "event.unbind", b.params(), &result); err != nil {
		return 0, fmt.Errorf("event: unbinding %s: %w", redact.Clean(b.wireName(), maxBindingText), err)
	}
	return result.Count, nil
}

// UnbindAll removes every subscription of the application that the token's user can see, with any
// handler URL, and returns how many rows it removed. Those that the platform creates by itself
// stay; see [API.Plan]. It is meant for leaving a portal. To follow the handlers of a mux, use
// [API.Reconcile].
func (a *API) UnbindAll(ctx context.Context) (int, error) {
	have, err := a.Bindings(ctx)
	if err != nil {
		return 0, err
	}
	var commands []command
	for _, b := range have {
		if !b.byPlatform() {
			commands = append(commands, command{"event.unbind", b.params()})
		}
	}
	results, err := a.batch(ctx, commands)
	count := 0
	errs := []error{err}
	for _, reply := range results {
		var result struct {
			Count int `json:"count"`
		}
		if reply.sent && reply.err == nil {
			reply.err = json.Unmarshal(reply.result, &result)
		}
		count += result.Count
		errs = append(errs, reply.err)
	}
	return count, errors.Join(errs...)
}

// Bindings lists the application's subscriptions on the portal. The token of a user who is not an
// administrator sees only the user's own, and no offline ones. The portal does not return
// MinTimeout or the connector of an online binding.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-get.html
func (a *API) Bindings(ctx context.Context) ([]Binding, error) {
	var rows []row
	if err := a.call(ctx, "event.get", nil, &rows); err != nil {
		return nil, fmt.Errorf("event: listing bindings: %w", err)
	}
	all := make([]Binding, len(rows))
	for i, r := range rows {
		all[i] = Binding(r)
	}
	return all, nil
}

// row reads a row of event.get, in which scalars are numbers or strings.
type row Binding

// UnmarshalJSON reads both shapes of a row: an offline one has a connector_id but no handler and no
// auth_type.
func (r *row) UnmarshalJSON(doc []byte) error {
	var wire struct {
		Event     string `b24:"event"`
		Handler   string `b24:"handler"`
		AuthType  int64  `b24:"auth_type"`
		Offline   bool   `b24:"offline"`
		Connector string `b24:"connector_id"`
	}
	v, err := phpform.DecodeJSON(doc, phpform.Limits{})
	if err != nil {
		return bodyError(err)
	}
	if err := decodeInto(nil, v, &wire); err != nil {
		return err
	}
	*r = row{
		Event: strings.ToUpper(wire.Event), Handler: wire.Handler, AuthType: wire.AuthType,
		Offline: wire.Offline, Connector: wire.Connector,
	}
	return nil
}

// Available lists the wire names that the application may bind on this portal, including names of
// smart processes such as ONCRMDYNAMICITEMADD_147. An empty scope means all scopes that the
// application was granted.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/events.html
func (a *API) Available(ctx context.Context, scope string) ([]string, error) {
	var params any
	if scope != "" {
		params = map[string]any{"SCOPE": scope}
	}
	var names []string
	if err := a.call(ctx, "events", params, &names); err != nil {
		return nil, fmt.Errorf("event: listing available events: %w", err)
	}
	return names, nil
}

// Test makes the portal send [OnAppTest] to the application's handlers, with params as its Query.
// It checks the whole path from the portal to the handler. The portal does not send the keys auth
// and start back.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/test-handler.html
func (a *API) Test(ctx context.Context, params map[string]any) error {
	var p any
	if len(params) > 0 {
		p = params
	}
	if err := a.call(ctx, "event.test", p, nil); err != nil {
		return fmt.Errorf("event: requesting a test event: %w", err)
	}
	return nil
}

// Features lists what the portal's plan allows.
type Features struct {
	OfflineExtended bool // reservations of the offline queue: event.offline.get with clear=0
	AuthConnector   bool // separate queues by auth_connector
}

// Features returns the features of the plan. It takes one request. A boxed portal responds with the
// name of its edition, which counts as yes.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/system/feature-get.html
func (a *API) Features(ctx context.Context) (Features, error) {
	var f Features
	wanted := []struct {
		code string
		has  *bool
	}{{"rest_offline_extended", &f.OfflineExtended}, {"rest_auth_connector", &f.AuthConnector}}
	commands := make([]command, len(wanted))
	for i, w := range wanted {
		commands[i] = command{"feature.get", map[string]any{"CODE": w.code}}
	}
	results, err := a.batch(ctx, commands)
	if err != nil {
		return Features{}, fmt.Errorf("event: reading the features of the plan: %w", err)
	}
	for i, w := range wanted {
		var result struct {
			Value string `json:"value"`
		}
		if err := results[i].err; err != nil {
			return Features{}, fmt.Errorf("event: reading the feature %s: %w", w.code, err)
		}
		if json.Unmarshal(results[i].result, &result) != nil {
			return Features{}, fmt.Errorf("event: reading the feature %s: the response is not understood", w.code)
		}
		*w.has = result.Value != "" && result.Value != "N"
	}
	return f, nil
}
