package event

import (
	"context"
)

// Attempt says how a delivery came to its handler. Packages webhook and offline put it into the
// context of each call; see [AttemptOf].
type Attempt struct {
	// Number is 1 for the first attempt with this delivery. Attempts of an earlier process count
	// if they are known.
	Number int
	// Max is the number of the last attempt. 0 means that it is not known.
	Max int
	// Parked says that the delivery was parked before, and is tried again.
	Parked bool
	// Merged is the number of deliveries that this one stands for besides itself: earlier or later
	// ones about the same object that coalescing took out of the queue.
	Merged int
}

// AttemptKey is the key of the [Attempt] in a handler's context. A context type of the caller's own
// can return a *Attempt for Value(event.AttemptKey{}), and save the allocations of [WithAttempt].
type AttemptKey struct{}

// WithAttempt returns a context in which [AttemptOf] finds a. Programs that call handlers
// themselves, such as a test or the workers of a queue of their own, may use it.
func WithAttempt(ctx context.Context, a Attempt) context.Context {
	return context.WithValue(ctx, AttemptKey{}, &a)
}

// AttemptOf returns what is known of the attempt that ctx belongs to. It returns a first attempt
// if ctx does not say.
//
//	if a := event.AttemptOf(ctx); a.Number == a.Max {
//		alert(d) // the last try before the delivery is given up
//	}
func AttemptOf(ctx context.Context) Attempt {
	if a, ok := ctx.Value(AttemptKey{}).(*Attempt); ok && a != nil {
		return *a
	}
	return Attempt{Number: 1}
}
