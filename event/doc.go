// Package event holds what every part of the SDK shares: the [Delivery] of a Bitrix24 event, the
// catalogue of all documented events with a payload type each, the [Mux] that runs handlers, and
// the [API] that subscribes an application to what its mux handles.
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
// To handle an event that the catalogue lacks, define it: event.Define[MyPayload]("ONMYEVENT"). An
// event without a handler goes to [Mux.Unhandled]. Without that, it ends with [ErrUnhandled], which
// is not a success: package webhook acknowledges and counts it, and package offline parks its
// record.
//
// # Payload types
//
// A payload is a struct. The b24 tag of each field says where in data its value is:
//
//	type MyPayload struct {
//		ID     int64          `b24:"FIELDS.ID|ID"` // alternatives; the first that holds something wins
//		Paid   bool           `b24:"PAID"`         // Y, N, 1, 0, true, false
//		Opened time.Time      `b24:"OPENED"`
//		Rows   []Row          `b24:"ROWS"`
//		More   map[string]any `b24:",rest"` // the keys that no other field reads
//	}
//
// The path "." is the section itself, for events whose data is a single value. The option rest must
// stand alone. Without a b24 tag, the name in the json tag counts, which is not a path, and then
// the field's name. "-" leaves a field out. Fields of embedded structs belong to the outer struct,
// whose own fields hide them. A key matches exactly or, if no key does, in another case. [Define]
// and [On] panic for a type that no data can ever fill.
//
// A value that does not fit its field leaves the field zero. The rest is decoded and the handler
// runs: [Delivery.Misfits] lists what did not fit, and packages webhook and offline log it once for
// each event and path. There is one exception: if a documented event is about the state or the
// deletion of an object, the ID of the object must be there and fit. [Descriptor.Decode] and
// [Data.Decode] are strict: they return an error for what did not fit.
//
// What fits:
//
//   - Null, false, an empty text or list, and (in task events) the text undefined are empty for
//     every field. A field whose value is empty or absent stays as it was. A pointer, slice or map
//     becomes nil, but an empty list makes a slice or map without elements. A *string keeps an
//     empty text, and a *bool keeps false.
//   - Numbers are decimal, also as text: 7, "7", 7.0, 1e3. They are read digit by digit: an integer
//     must be exactly whole and in range, and a float must be within its range. Hexadecimal
//     numbers, underscores, NaN, infinities and commas are misfits: "1,250" may be a thousand or
//     one and a quarter.
//   - Flags are Y, N, 1, 0, true and false. Nothing else is a flag.
//   - A string takes every scalar: a number as it is written, true as "1".
//   - A time is in RFC 3339 or one of 2025-01-15T10:30:00, 2025-01-15 10:30:00, 2025-01-15,
//     15.01.2025 10:30:00 and 15.01.2025, or in seconds since 1970 with nine digits or more, so
//     that a year is not a time. Without a zone it is in UTC, though portals may mean the time of
//     their server or user. 0 and 0000-00-00 mean that there is no time. Times that encoding/json
//     cannot write are misfits.
//   - A list may have gaps, may be an object whose keys are numbers, and may be a single value. A
//     map or struct may arrive as a list, whose positions are the keys. An array keeps as many
//     elements as it has room for; more are a misfit.
//   - []byte is base64, and [json.RawMessage] the JSON of the value.
//   - Types with UnmarshalText or UnmarshalJSON read themselves.
//
// [NewData] writes data that decodes to the same value, but leaves out zero fields.
//
// # Guarantees
//
// No input makes this package panic or lose a field. What a payload type does not read, or what
// does not fit, stays in [Delivery.Data]. Keys of the envelope without a field of their own stay in
// [Delivery.Extra]. A delivery takes less memory than twice its body plus half a kilobyte, even for
// a hostile body. [Delivery.AppendStored] and [ParseStored] keep a whole delivery in a queue or a
// journal.
//
// The package does I/O only through a [Caller] or the request that it parses. Printing, logging or
// encoding any of its types as JSON shows no token. A delivery proves nothing about its sender
// until a verifier of package webhook has accepted it. Types are safe for concurrent use once
// built; a [Mux] takes no handlers after its first delivery.
//
// # Errors
//
//	ErrConfig       a nil caller, an option or a binding that makes no sense
//	ErrMalformed    the body or a value has the wrong shape; a *DecodeError says where
//	ErrTooLarge     the body passes a limit
//	ErrContentType  neither a form nor JSON
//	ErrForbidden    from a verifier: not authentic; ErrUnknownPortal also says why
//	ErrSecret       a binary encoder was given a token
//	ErrUnhandled    no handler is registered for the event
//	ErrStored       a document is not a stored delivery, or is damaged
//	ErrUnknown      the catalogue has no such event, or no method to fetch its object
//	ErrGone         the object to fetch was deleted
//	ErrNotVisible   the object to fetch was deleted, or the token may not see it
//	*ScopeError     the application lacks a scope that the fetch needs
//	*PanicError     a handler panicked
//
// With [Drop] and [Retry], a handler tells the queue what to do after an error.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
package event
