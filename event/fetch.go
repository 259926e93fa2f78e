package event

import (
	"context"
	"fmt"
	"strings"
)

// FetchOption changes how [Fetch] and [FetchByID] read an object.
type FetchOption func(*fetchConfig) error

type fetchConfig struct{ method string }

// WithMethod selects another method of [Info.Fetch] than the first one. It may return the same
// object with other field names: crm.item.get returns stageId, crm.deal.get STAGE_ID. [Fetch] does
// not compare its scope with that of the delivery. If the method is not in the list, the error
// matches [ErrConfig] and is final; see [OutcomeOf].
func WithMethod(name string) FetchOption {
	return func(c *fetchConfig) error {
		if name == "" {
			return misconfigured("WithMethod with an empty name")
		}
		c.method = name
		return nil
	}
}

// ScopeError is returned by [Fetch] and [FetchByID] when the application lacks a permission that
// the fetch method needs. An administrator of the application has to grant it, so no retry helps:
// the error is final, see [OutcomeOf].
type ScopeError struct {
	Event   string   // wire name
	Method  string   // the method that was to be called
	Missing []string // the missing scopes, as far as they are known from the delivery or the method's page
	Err     error    // the portal's refusal; nil if no call was made
}

// Error names the missing scopes.
func (e *ScopeError) Error() string {
	text := "event: " + e.Event + ": " + e.Method + " needs the scope " + strings.Join(e.Missing, ", ")
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the portal's refusal.
func (e *ScopeError) Unwrap() error { return e.Err }

// Permanent reports that no retry helps.
func (e *ScopeError) Permanent() bool { return true }

// Fetch calls the method that returns the object of a delivery, and decodes the object into a T.
//
//	type Deal struct {
//		ID      int64
//		Title   string
//		Sum     float64   `json:"opportunity"`
//		Closes  time.Time `json:"closedate"`
//	}
//	deal, err := event.Fetch[Deal](ctx, api.Portal(d.MemberID()), d)
//
// It always calls the first method of the event's [Info.Fetch], whatever scopes the token has, so
// that the same T always fits. [WithMethod] selects another. Fetch takes the object out of the
// method's result (out of {"item": …}, for example), and T is decoded by the rules for payloads in
// the package documentation: numbers may be text, and the case of names does not matter. T can also
// be a [Data], a map[string]any, or a [json.RawMessage] for the object as the portal sent it.
//
// # Errors
//
//   - [ErrGone]: the object does not exist any more. The event says so (then Fetch makes no call),
//     or the method returns an error that its page documents for this case only. An object can be
//     deleted between its change and the call, so every handler that fetches sees this error. A
//     mirror must delete its row, as it does for the event of the deletion. A handler that keeps no
//     copy can return the error: it is [OutcomeDropped], and package offline treats it as success.
//   - [ErrNotVisible]: the token sees no such object. It is gone, or the token may not see it.
//     A mirror must keep its row.
//   - [ErrUnknown]: no method reads the object; see [Delivery.FetchCall]. It is final too.
//   - [ScopeError]: the application lacks a scope that the method needs. If the delivery says which
//     scopes the application has, Fetch makes no call.
//   - [DecodeError]: the data lacks a parameter, or the object does not fit T. A struct that reads
//     no member of the object does not fit; the error names one of the members.
//   - Any other error comes from the caller. Missing rights, limits and broken responses are never
//     [ErrGone].
func Fetch[T any](ctx context.Context, c Caller, d *Delivery, opts ...FetchOption) (T, error) {
	var object, none T
	cfg, err := fetchConfigOf(opts)
	if err != nil {
		return none, err
	}
	call, err := d.fetchCall(cfg.method)
	if err != nil {
		return none, err
	}
	if cfg.method == "" {
		if err := call.checkScope(d.Auth.Scope); err != nil {
			return none, err
		}
	}
	if err := call.run(ctx, c, d, &object); err != nil {
		return none, err
	}
	return object, nil
}

// FetchByID reads an object without a delivery: the one with this ID, of the kind that the event e
// is about. e must not be a deletion. It returns the errors of [Fetch], including [ErrGone].
//
//	deal, err := event.FetchByID[Deal](ctx, api.Portal(member), event.OnCrmDealUpdate, 42)
//
// If the method takes several values, id is a text that joins them with colons in the order of
// [FetchMethod.Params], without the literal ones: "147:42" for event.OnCrmDynamicItemUpdate. An
// event of one smart process, such as event.OnCrmDynamicItemUpdateOf(147), needs only the ID of the
// item.
func FetchByID[T, P any, K interface {
	~int | ~int32 | ~int64 | ~uint32 | ~uint64 | ~string
}](ctx context.Context, c Caller, e Descriptor[P], id K, opts ...FetchOption) (T, error) {
	var object, none T
	cfg, err := fetchConfigOf(opts)
	if err != nil {
		return none, err
	}
	call, err := callByID(e.Name(), cfg.method, fmt.Sprint(id))
	if err != nil {
		return none, err
	}
	if err := call.run(ctx, c, nil, &object); err != nil {
		return none, err
	}
	return object, nil
}

func fetchConfigOf(opts []FetchOption) (fetchConfig, error) {
	var cfg fetchConfig
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return fetchConfig{}, err
		}
	}
	return cfg, nil
}
