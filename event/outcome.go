package event

import (
	"time"

	"github.com/b24events/b24events/internal/errtree"
)

// Outcome says what a queue does after a handler returned an error.
type Outcome int

const (
	// OutcomeDefault leaves the decision to the queue: retry with backoff, then give up.
	OutcomeDefault Outcome = iota
	// OutcomeDropped means that the delivery is not retried; see [Drop].
	OutcomeDropped
	// OutcomeRetried means that the delivery is retried, but not before the time given; see [Retry].
	OutcomeRetried
)

type outcomeError struct {
	err   error
	after time.Duration
	kind  Outcome
}

func (e *outcomeError) Error() string { return e.err.Error() }
func (e *outcomeError) Unwrap() error { return e.err }

// Dropped reports whether the handler itself dropped the delivery. Other final errors do not have
// this method.
func (e *outcomeError) Dropped() bool { return e.kind == OutcomeDropped }

// Drop marks err as final: the delivery is not retried. Package offline clears its record, while
// any other final error parks the record for a later version of the program. Drop(nil) is nil.
func Drop(err error) error {
	if err == nil {
		return nil
	}
	return &outcomeError{err: err, kind: OutcomeDropped}
}

// Retry requests another attempt, but not before after has passed. Retry(nil, …) is nil.
func Retry(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &outcomeError{err: err, after: max(after, 0), kind: OutcomeRetried}
}

// OutcomeOf returns the outcome that a handler's error requests and, for [OutcomeRetried], the
// delay. For an error of [Drop] or [Retry], it is what that function says. Any other error is
// [OutcomeDropped] if no retry can help:
//
//   - the payload does not fit its type ([ErrMalformed])
//   - the object is gone ([ErrGone]), or perhaps only not visible ([ErrNotVisible])
//   - the catalogue has no such event or method ([ErrUnknown]), or the event has no handler
//     ([ErrUnhandled])
//   - the handler panicked ([PanicError])
//   - the error, or one that it wraps, has a method Permanent() bool that returns true, such as
//     package oauth's error for a removed portal
//
// Any other error is [OutcomeDefault], and so is nil.
//
// If an error wraps several, as those of errors.Join and of fmt.Errorf with two %w do, one that
// requests a retry decides, with the longest delay of all that do. Otherwise the error is
// OutcomeDropped only if each of them is: if one object was gone but a database was down for
// another, a retry can help.
func OutcomeOf(err error) (Outcome, time.Duration) {
	all, longest := OutcomeDropped, time.Duration(0)
	for found := range errtree.Branches(err, decides) {
		marked, _ := found.(*outcomeError) //nolint:errorlint // Branches unwraps
		switch {
		case marked != nil && marked.kind == OutcomeRetried:
			all, longest = OutcomeRetried, max(longest, marked.after)
		case found == nil && all == OutcomeDropped:
			all = OutcomeDefault
		}
	}
	return all, longest
}

// decides reports whether an error decides the outcome. It does not unwrap the error.
func decides(err error) bool {
	_, marked := err.(*outcomeError) //nolint:errorlint // Branches unwraps
	return marked || isFinal(err)
}

// isFinal reports whether no retry can help after this error. It does not unwrap.
func isFinal(err error) bool {
	switch e := err.(type) { //nolint:errorlint // Branches unwraps
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
