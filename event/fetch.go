package event

import (
	"context"
	"fmt"
	"strings"
)

// FetchOption changes how [Fetch] and [FetchByID] read an object.
type FetchOption func(*fetchConfig) error

type fetchConfig struct{ method string }

// WithMethod chooses another method of [Info.Fetch] than the first. The same object can have other
// field names there: crm.item.get returns stageId, crm.deal.get STAGE_ID. [Fetch]
// calls it whatever scope the delivery has. If it is not in the list, the error matches [ErrConfig]
// and is final; see [OutcomeOf].
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
// the fetch method needs. Whoever administers the application grants it, so no retry helps: the
// error is final, see [OutcomeOf].
type ScopeError struct {
	Event   string   // wire name
	Method  string   // the method that was to be called
	Missing []string // the scopes that are missing, as far as the delivery or the method's page says
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

// Fetch calls the method that returns the object a delivery is about, and decodes the object into a
// T.
//
//	type Deal struct {
//		ID      int64
//		Title   string
//		Sum     float64   `json:"opportunity"`
//		Closes  time.Time `json:"closedate"`
//	}
//	deal, err := event.Fetch[Deal](ctx, api.Portal(d.MemberID()), d)
//
// The method is the first of the event's [Info.Fetch] for every token and its scopes, so
// that the same T always fits. [WithMethod] chooses another. Fetch takes the object out of the
// method's result (out of {"item": …}, for example), and T is decoded by the rules for payloads in
// the package documentation: numbers may be text, and names compare without regard to case. T can
// also be a [Data], a map[string]any, or a [json.RawMessage] for the object as the portal sent it.
//
// # Errors
//
//   - [ErrGone]: the object does not exist any more. The event says so (no call is made), or the
//     method does, with an error that its page documents for this alone. An object can be deleted
//     between its change and the call, so every handler that fetches meets this. A mirror must
//     delete its row, as it does for the event of the deletion. A handler that keeps no copy can
//     return the error: it is [OutcomeDropped], and package offline takes it for success.
//   - [ErrNotVisible]: there is no object for this token. It is gone, or the token may not see it.
//     A mirror must keep its row.
//   - [ErrUnknown]: no method reads the object; see [Delivery.FetchCall]. It is final too.
//   - [ScopeError]: the application lacks a scope that the method needs. If the delivery says which
//     scopes the application has, no call is made.
//   - [DecodeError]: the data lacks a parameter, or the object does not fit T. A struct that reads
//     no member of the object does not fit; the error names the members that are there.
//   - Any other error is the caller's. Missing rights, limits and broken responses are never
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

// FetchByID reads an object without a delivery: the one with this ID that the events of e are
// about. It needs an event that is not a deletion, and returns what [Fetch] returns, [ErrGone]
// included.
//
//	deal, err := event.FetchByID[Deal](ctx, api.Portal(member), event.OnCrmDealUpdate, 42)
//
// If the method takes several values, id is a text that joins them with colons in the order of
// [FetchMethod.Params], without the literal ones: "147:42" for event.OnCrmDynamicItemUpdate. An
// event of one smart process, such as event.OnCrmDynamicItemUpdateOf(147), needs the ID of the item
// alone.
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
