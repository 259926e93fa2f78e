package offline

import (
	"context"
	"time"
)

// DefaultLeaseTTL is how long a lease lasts that is not renewed. After so long at most, another
// process takes over from one that died.
const DefaultLeaseTTL = 15 * time.Second

// MinLeaseTTL is the shortest that [WithLeaseTTL] takes. A holder renews its leases five times in
// that long.
const MinLeaseTTL = 3 * time.Second

// Errors of leases.
const (
	// ErrLeaseHeld means that another owner holds the lease of the queue.
	ErrLeaseHeld Error = "offline: another process holds the lease of the queue; stop it, or wait until its lease has run out"
	// ErrLeaseLost is the cause with which contexts end when a lease was lost: it could not be
	// renewed in time, or another owner has it.
	ErrLeaseLost Error = "offline: the lease was lost"
)

// Leaser hands out leases, so that one process at a time works a queue. A program implements it
// over a store that its processes share: a table of a name, an owner and an end will do, or keys
// with a time to live. [MemoryLeaser] is for the goroutines of one process. Package offlinetest has
// tests for an implementation.
//
// A lease is in force until ttl has passed since it was taken or renewed, on the store's clock; the
// clocks of owners may differ. Owners count from before they called, so they stop before the store
// lets others in. Names and owners are printable ASCII without spaces and are compared byte by
// byte. After an error the store may have taken the leases all the same. Implementations must be
// safe for concurrent use and return when their context ends.
type Leaser interface {
	// Acquire takes the named leases for owner, or renews those that it holds, to ttl from now,
	// each by itself and atomically. It returns those that owner holds now; the others are
	// another's.
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	// Release ends the named leases that owner holds. Those of others stay as they are.
	Release(ctx context.Context, owner string, names ...string) error
	// Held returns the leases in force whose names begin with prefix, by name, with their owners.
	Held(ctx context.Context, prefix string) (map[string]string, error)
}
