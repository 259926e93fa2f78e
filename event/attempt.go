package event

import (
	"context"
	"time"
)

// Attempt says how a delivery came to its handler. Packages webhook and offline put it into the
// context of each call to a handler; see [AttemptOf].
type Attempt struct {
	// Number is 1 for the first attempt with this delivery. Attempts of an earlier process count too
	// if they are known.
	Number int
	// Max is the number of the last attempt, or 0 if it is not known.
	Max int
	// Parked reports that the delivery was parked before and is now retried.
	Parked bool
	// Received is when the delivery came into the queue that calls the handler: when its request
	// arrived, for package webhook also in an earlier process, or when package offline read its
	// record. It is zero if that is not known.
	Received time.Time
	// Merged is the number of other deliveries that this one stands for: coalescing took them out of
	// the queue because they are about the same object.
	Merged int
}

// AttemptKey is the key of the [Attempt] in a handler's context. To save the allocations of
// [WithAttempt], a context type of your own can return a *Attempt for Value(event.AttemptKey{}).
type AttemptKey struct{}

// WithAttempt returns a context in which [AttemptOf] finds a. It is for code that calls handlers
// itself, such as tests and the workers of your own queue.
func WithAttempt(ctx context.Context, a Attempt) context.Context {
	return context.WithValue(ctx, AttemptKey{}, &a)
}

// AttemptOf returns what is known of the attempt that ctx belongs to. If ctx has no [Attempt], it
// returns a first attempt.
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
