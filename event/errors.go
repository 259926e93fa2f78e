package event

import (
	"fmt"
	"time"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

// Is reports that [ErrUnknownPortal] is an [ErrForbidden].
func (e Error) Is(target error) bool { return e == ErrUnknownPortal && target == ErrForbidden }

const (
	// ErrMalformed means that a body is not a well-formed form or JSON document, or that a value has
	// the wrong shape.
	ErrMalformed Error = "event: malformed body"
	// ErrTooLarge means that a body passes a limit on bytes, keys or depth.
	ErrTooLarge Error = "event: body too large"
	// ErrContentType means that a request declares a content type that no Bitrix24 body has.
	ErrContentType Error = "event: unsupported content type"
	// ErrUnknown means that the catalogue has no event of that name, or no method that returns its
	// object.
	ErrUnknown Error = "event: unknown event"
	// ErrUnhandled means that no handler is registered for the event: see [Mux.Unhandled].
	ErrUnhandled Error = "event: no handler takes this event"
	// ErrGone means that the object a delivery is about does not exist any more: see [Fetch].
	ErrGone Error = "event: the object is gone"
	// ErrForbidden means that a delivery does not prove where it comes from: its application token is
	// missing, wrong, or belongs to another portal. Verifiers return it; any other error of theirs
	// means that they could not tell.
	ErrForbidden Error = "event: delivery not authenticated"
	// ErrUnknownPortal means that a verifier does not know the portal of a delivery, so that
	// another verifier may. It is also an [ErrForbidden].
	ErrUnknownPortal Error = "event: delivery not authenticated: unknown portal"
	// ErrStored means that a document is no delivery that [Delivery.AppendStored] wrote, or that it
	// is damaged.
	ErrStored Error = "event: not a stored delivery"
	// ErrSecret means that encoding/gob or another binary encoder was given a [Secret], or
	// something that holds one.
	ErrSecret Error = "event: a secret has no binary encoding; take it out with string(s) and encrypt it"
)

// DecodeError tells where a payload does not fit its type. It names the path and the expected type,
// never the value.
type DecodeError struct {
	Event string // wire name; empty where data was decoded outside a delivery
	Path  string // dotted path, such as data.FIELDS.ID
	Want  string // what the field takes, such as integer
}

// Error describes the mismatch without the value.
func (e *DecodeError) Error() string {
	if e.Event == "" {
		return fmt.Sprintf("event: %s is not %s", e.Path, e.Want)
	}
	return fmt.Sprintf("event: %s: %s is not %s", e.Event, e.Path, e.Want)
}

// Is reports that a DecodeError is an [ErrMalformed].
func (e *DecodeError) Is(target error) bool { return target == ErrMalformed }

// PanicError is the error for a handler that panicked. Neither Error nor fmt prints the panic
// value, because it may contain tokens.
type PanicError struct {
	Stack []byte // the stack of the goroutine that panicked, from runtime/debug

	value *any // behind a pointer, where fmt's %#v does not look
}

// NewPanicError returns the error for a recovered panic. value is what recover returned, and stack
// what debug.Stack returned in the deferred function; the error keeps both.
func NewPanicError(value any, stack []byte) *PanicError {
	return &PanicError{Stack: stack, value: &value}
}

// Value returns the panic value. It may contain tokens, so do not log it.
func (e *PanicError) Value() any {
	if e.value == nil {
		return nil
	}
	return *e.value
}

// Error names the type of the panic value, not the value, which may hold payload.
func (e *PanicError) Error() string {
	return fmt.Sprintf("event: handler panicked with a %T", e.Value())
}

// Unwrap returns the panic value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value().(error)
	return err
}

// Outcome tells a queue what to do after a handler returned an error.
type Outcome int

const (
	// OutcomeDefault leaves the decision to the queue: retry with backoff, then give up.
	OutcomeDefault Outcome = iota
	// OutcomeDropped means never try again; see [Drop].
	OutcomeDropped
	// OutcomeRetried means try again, not before the time given; see [Retry].
	OutcomeRetried
)

type outcomeError struct {
	err   error
	after time.Duration
	kind  Outcome
}

func (e *outcomeError) Error() string { return e.err.Error() }
func (e *outcomeError) Unwrap() error { return e.err }

// Dropped reports that the handler dropped the delivery, unlike other errors that are final.
func (e *outcomeError) Dropped() bool { return e.kind == OutcomeDropped }

// Drop marks err as final: the delivery is not tried again. On the offline queue its record is
// cleared, while any other final error parks it for a later version of the program. Drop(nil) is
// nil.
func Drop(err error) error {
	if err == nil {
		return nil
	}
	return &outcomeError{err: err, kind: OutcomeDropped}
}

// Retry asks for another try, not before after has passed. Retry(nil, …) is nil.
func Retry(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &outcomeError{err: err, after: max(after, 0), kind: OutcomeRetried}
}

// OutcomeOf returns what a handler's error asks for and, for [OutcomeRetried], after how long. An
// error that was made by [Drop] or [Retry] asks for just that. Without either, an error is
// [OutcomeDropped] when no retry can help:
//
//   - the payload does not fit its type ([ErrMalformed])
//   - the object is gone ([ErrGone]), or perhaps only not visible ([ErrNotVisible])
//   - the catalogue has no such event or method ([ErrUnknown]), or no handler took the event
//     ([ErrUnhandled])
//   - the handler panicked ([PanicError])
//   - the error, or one that it wraps, has a method Permanent() bool that returns true, as package
//     oauth's error for a removed portal has
//
// Any other error is [OutcomeDefault], and so is nil.
//
// When an error wraps several, as errors.Join and fmt.Errorf with two %w make them, one of them
// that asks for a retry decides, with the longest wait of those that do. Otherwise the error is
// Dropped only if each of them is: a database that was down beside an object that is gone is worth
// a retry.
func OutcomeOf(err error) (Outcome, time.Duration) {
	for err != nil {
		if o, ok := err.(*outcomeError); ok { //nolint:errorlint // this loop unwraps
			return o.kind, o.after
		}
		if isFinal(err) {
			return OutcomeDropped, 0
		}
		switch e := err.(type) { //nolint:errorlint // this is what unwraps
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			return outcomeOfAll(e.Unwrap())
		default:
			return OutcomeDefault, 0
		}
	}
	return OutcomeDefault, 0
}

func outcomeOfAll(errs []error) (all Outcome, longest time.Duration) {
	if len(errs) == 0 {
		return OutcomeDefault, 0
	}
	all = OutcomeDropped
	for _, err := range errs {
		switch kind, after := OutcomeOf(err); {
		case kind == OutcomeRetried:
			all, longest = OutcomeRetried, max(longest, after)
		case kind == OutcomeDefault && all == OutcomeDropped:
			all = OutcomeDefault
		}
	}
	return all, longest
}

// isFinal reports whether no retry can help after this error. It does not unwrap.
func isFinal(err error) bool {
	switch e := err.(type) { //nolint:errorlint // OutcomeOf unwraps
	case Error:
		return e == ErrMalformed || e == ErrGone || e == ErrNotVisible || e == ErrUnknown || e == ErrUnhandled
	case *DecodeError, *PanicError:
		return true
	case *causeError:
		return isFinal(e.is)
	case interface{ Permanent() bool }:
		return e.Permanent()
	default:
		return false
	}
}

// causeError is a sentinel of this package with its cause. Its outcome is that of the sentinel
// and does not depend on the cause.
type causeError struct {
	is    Error
	cause error
}

// because returns a sentinel with its cause.
func because(is Error, cause error) error { return &causeError{is: is, cause: cause} }

func (e *causeError) Error() string        { return string(e.is) + ": " + e.cause.Error() }
func (e *causeError) Is(target error) bool { return e.is == target || e.is.Is(target) }
func (e *causeError) Unwrap() error        { return e.cause }
