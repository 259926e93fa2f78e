package event

import (
	"time"

	"github.com/b24events/b24events/internal/errtree"
)

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

// decides reports whether an error alone says what happens to the delivery. It does not unwrap.
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
