package event

import (
	"fmt"
	"strings"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

// Is reports that [ErrUnknownPortal] is an [ErrForbidden].
func (e Error) Is(target error) bool { return e == ErrUnknownPortal && target == ErrForbidden }

// misconfigured returns an [ErrConfig] with an explanation.
func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

const (
	// ErrMalformed means that a body is not a well-formed form or JSON document, or that a value has
	// the wrong shape.
	ErrMalformed Error = "event: malformed body"
	// ErrTooLarge means that a body passes a limit on bytes, keys or depth.
	ErrTooLarge Error = "event: body too large"
	// ErrConfig means that the program gave this package something that makes no sense: an API
	// without a caller, an option with a value that cannot be right, or a binding that no portal
	// accepts.
	ErrConfig Error = "event: invalid configuration"
	// ErrContentType means that a request declares a content type that no Bitrix24 body has.
	ErrContentType Error = "event: unsupported content type"
	// ErrUnknown means that the catalogue has no event with that name, or no method that returns its
	// object.
	ErrUnknown Error = "event: unknown event"
	// ErrUnhandled means that no handler is registered for the event: see [Mux.Unhandled].
	ErrUnhandled Error = "event: no handler is registered for this event"
	// ErrGone means that the object of a delivery does not exist any more: see [Fetch].
	ErrGone Error = "event: the object is gone"
	// ErrNotVisible means that a fetch method returned nothing for an object, for one of two reasons:
	// the object is gone, or the token may not see it. It is not [ErrGone], because a list that is
	// filtered by rights, such as sonet_group.get, returns the same for a secret group and for a
	// deleted one.
	//
	// A mirror must keep its row on ErrNotVisible, unless it knows that the token sees all objects of
	// that kind, as an administrator's token sees all tasks. A deletion has its own event.
	//
	// An error of [Fetch] that wraps it is final, see [OutcomeOf]: the delivery is [OutcomeDropped],
	// and package offline parks its record, so that it can be handled after someone has given the
	// token the rights.
	ErrNotVisible Error = "event: the object is gone, or not visible to the token"
	// ErrForbidden means that a delivery does not prove its origin: its application token is missing,
	// wrong, or belongs to another portal. Verifiers return it; any other error of a verifier means
	// that it could not check the delivery.
	ErrForbidden Error = "event: delivery not authenticated"
	// ErrUnknownPortal means that a verifier does not know the portal of a delivery, so that
	// another verifier may. It is also an [ErrForbidden].
	ErrUnknownPortal Error = "event: delivery not authenticated: unknown portal"
	// ErrStored means that a document is damaged, or was not written by [Delivery.AppendStored].
	ErrStored Error = "event: not a stored delivery"
	// ErrSecret means that encoding/gob or another binary encoder was given a [Secret], or
	// something that holds one.
	ErrSecret Error = "event: a secret has no binary encoding; take it out with string(s) and encrypt it"
)

// DecodeError reports the place at which a payload does not fit its type. It names the event, the
// object, the path and the expected type, and no value but the ID of the object.
type DecodeError struct {
	// Event is the wire name, if the catalogue or the descriptor of the handler has it. Any other name
	// is "unknown event", because it is the sender's text. It is empty if data was decoded without a
	// delivery.
	Event string
	// Entity is the object that the event is about, if its ID is known and looks like one: up to 64
	// letters, digits, and the characters _ - . and colon. Otherwise it is the zero Entity.
	Entity Entity
	Path   string // dotted path with the keys of the payload, such as data.FIELDS.ID
	Want   string // what the field takes, such as integer
}

// Error describes the mismatch without the value.
func (e *DecodeError) Error() string {
	about := ""
	if e.Event != "" {
		about = e.Event + ": "
		if e.Entity.Kind != "" {
			about = e.Event + " of " + strings.TrimSpace(e.Entity.Kind+" "+e.Entity.ID) + ": "
		}
	}
	return fmt.Sprintf("event: %s%s is not %s", about, e.Path, e.Want)
}

// Is reports that a DecodeError is an [ErrMalformed].
func (e *DecodeError) Is(target error) bool { return target == ErrMalformed }

// PanicError is the error of a handler that panicked. Neither Error nor package fmt prints the
// panic value, because it may contain tokens.
type PanicError struct {
	Stack []byte // the stack of the goroutine that panicked, from runtime/debug

	value *any // behind a pointer, which fmt's %#v does not follow
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

// Error names the type of the panic value. The value itself may hold parts of a payload.
func (e *PanicError) Error() string {
	return fmt.Sprintf("event: handler panicked with a %T", e.Value())
}

// Unwrap returns the panic value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value().(error)
	return err
}

// causeError is a sentinel of this package with its cause. The sentinel alone decides the outcome.
type causeError struct {
	is    Error
	cause error
}

// withCause returns a sentinel with its cause.
func withCause(is Error, cause error) error { return &causeError{is: is, cause: cause} }

func (e *causeError) Error() string        { return string(e.is) + ": " + e.cause.Error() }
func (e *causeError) Is(target error) bool { return e.is == target || e.is.Is(target) }
func (e *causeError) Unwrap() error        { return e.cause }
