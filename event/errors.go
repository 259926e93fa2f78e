package event

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

// Is reports that [ErrUnknownPortal] is an [ErrForbidden].
func (e Error) Is(target error) bool { return e == ErrUnknownPortal && target == ErrForbidden }

const (
	// ErrMalformed means that a body is not a well-formed form or JSON document, or that a value has the wrong shape.
	ErrMalformed Error = "event: malformed body"
	// ErrTooLarge means that a body passes a limit on bytes, keys or depth.
	ErrTooLarge Error = "event: body too large"
	// ErrContentType means that a request declares a content type that no Bitrix24 body has.
	ErrContentType Error = "event: unsupported content type"
	// ErrUnknown means that the catalogue has no event of that name, or no method that returns its object.
	ErrUnknown Error = "event: unknown event"
	// ErrGone means that the object a delivery is about does not exist any more: see [Fetch].
	ErrGone Error = "event: the object is gone"
	// ErrForbidden means that a delivery does not prove where it comes from: its application token is missing, wrong, or
	// belongs to another portal. Verifiers return it; any other error of theirs means that they could not tell.
	ErrForbidden Error = "event: delivery not authenticated"
	// ErrUnknownPortal means that a verifier does not know the portal of a delivery, so that
	// another verifier may. It is also an [ErrForbidden].
	ErrUnknownPortal Error = "event: delivery not authenticated: unknown portal"
	// ErrSecret means that encoding/gob or another binary encoder was given a [Secret], or
	// something that holds one.
	ErrSecret Error = "event: a secret has no binary encoding; take it out with string(s) and encrypt it"
)

// DecodeError tells where a payload does not fit its type. It names the path and the expected type, never the value.
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
	// Default leaves the decision to the queue: retry with backoff, then give up.
	Default Outcome = iota
	// Dropped means never try again; see [Drop].
	Dropped
	// Retried means try again, not before the time given; see [Retry].
	Retried
)

type outcomeError struct {
	err   error
	after time.Duration
	kind  Outcome
}

func (e *outcomeError) Error() string { return e.err.Error() }
func (e *outcomeError) Unwrap() error { return e.err }

// Drop marks err as final: the delivery is not tried again. On the offline queue its record is parked with
// event.offline.error. Drop(nil) is nil.
func Drop(err error) error {
	if err == nil {
		return nil
	}
	return &outcomeError{err: err, kind: Dropped}
}

// Retry asks for another try, not before after has passed. Retry(nil, …) is nil.
func Retry(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &outcomeError{err: err, after: max(after, 0), kind: Retried}
}

// OutcomeOf returns what a handler's error asks for and, for [Retried], after how long. A nil error
// and an error that was made by neither [Drop] nor [Retry] are [Default]; a payload that does not
// fit its type, an object that is gone, and an error whose method Permanent() bool says so (such as
// package oauth's for a portal that is forgotten) are [Dropped], since no retry mends them, unless
// errors.Join puts another failure beside it.
func OutcomeOf(err error) (Outcome, time.Duration) {
	var o *outcomeError
	if errors.As(err, &o) {
		return o.kind, o.after
	}
	if isFinal(err) {
		return Dropped, 0
	}
	return Default, 0
}

// isFinal reports whether no retry mends any part of an error.
func isFinal(err error) bool {
	var p interface{ Permanent() bool }
	if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrGone) && (!errors.As(err, &p) || !p.Permanent()) {
		return false
	}
	for err != nil {
		if parts, ok := err.(interface{ Unwrap() []error }); ok && reflect.TypeOf(err) == reflect.TypeOf(errors.Join(err)) {
			return !slices.ContainsFunc(parts.Unwrap(), func(part error) bool { return !isFinal(part) })
		}
		err = errors.Unwrap(err)
	}
	return true
}
