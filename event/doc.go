// Package event holds what every part of the SDK shares: the [Delivery] of a Bitrix24 event, the catalogue of all documented events with a
// payload type each, the [Mux] that runs handlers, and the [API] that subscribes an application to what its mux handles.
//
// # Start
//
//	mux := event.NewMux()
//	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
//		log.Printf("portal %s: deal %d changed", d.MemberID(), e.ID)
//		return nil
//	})
//	h, err := webhook.NewHandler(webhook.Tokens(os.Getenv("B24_TOKEN")), mux)
//	if err != nil {
//		log.Fatal(err)
//	}
//	http.Handle("/bitrix24", h)
//
// An event that the catalogue lacks is one line away: event.Define[MyPayload]("ONMYEVENT"). Events that nobody handles go to
// [Mux.Unhandled], with everything that arrived in [Delivery.Data].
//
// # Payload types
//
// A payload is a struct. Each field names, in its b24 tag, where its value stands below data:
//
//	type MyPayload struct {
//		ID     int64          `b24:"FIELDS.ID|ID"` // alternatives; the first that holds something wins
//		Paid   bool           `b24:"PAID"`         // Y, N, 1, 0, true, false
//		Opened time.Time      `b24:"OPENED"`
//		Rows   []Row          `b24:"ROWS"`
//		More   map[string]any `b24:",rest"` // the keys that no other field reads
//	}
//
// A path of "." is the section itself, for events whose data is a single value. Without a b24 tag the name in the json tag counts, then the field's
// name. Keys match exactly or, failing that, without regard to case. Decoding is tolerant where Bitrix24 is careless: numbers may be
// text, a missing section, null, false, an empty string, an empty list or (in task events) the text undefined mean "nothing" and leave the zero value,
// a list may stand where a map is meant and a single value where a list is. Anything else that does not fit is a [DecodeError], which
// names the path and never the value.
//
// # Guarantees
//
// No input makes this package panic or lose a field: what a payload type does not read stays in [Delivery.Data]. Nothing in it does
// I/O, except through a [Caller] or the request it is given. Printing, logging or encoding any of its types shows no token.
// A delivery proves nothing about its sender until a verifier (package webhook) accepted it.
// Types are safe for concurrent use once built; a [Mux] is built when it gets its first delivery.
//
// # Errors
//
//	ErrMalformed    the body or a value has the wrong shape; a *DecodeError says where
//	ErrTooLarge     the body passes a limit
//	ErrContentType  neither a form nor JSON
//	ErrForbidden    a verifier's answer: not authentic
//	ErrUnknown      the catalogue has no such event, or no method to fetch its object
//	ErrGone         the object to fetch was deleted
//	*PanicError     a handler panicked
//
// Handlers steer the queue that runs them with [Drop] and [Retry].
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
package event
