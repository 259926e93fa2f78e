package oauth

import (
	"context"
	"time"
)

// Locker gives named locks to processes that share a [Store], so that one of them at a time renews
// the tokens of a portal. It saves requests to the OAuth server and decides nothing: without it, or
// when a lock has run out, the compare-and-swap of the store still lets one renewal win.
//
// An offline.Leaser is a Locker. Implementations must be safe for concurrent use. They compare
// names and owners byte by byte.
type Locker interface {
	// Acquire takes the named locks for owner, or prolongs those that owner holds, to ttl from now
	// by the clock of the locker. It does not wait. It returns the names that owner holds now;
	// another owner holds the rest. After an error, locks may have been taken all the same.
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	// Release ends the named locks that owner holds. It leaves those of others as they are.
	Release(ctx context.Context, owner string, names ...string) error
}
