package offline

import (
	"context"
	"strings"
	"sync"
	"time"
)

// Leaser grants leases, so that one process at a time works a queue. A program implements it over a
// store that its processes share, for example a table with a name, an owner and an end, or keys
// with a time to live. [MemoryLeaser] is for the goroutines of one process. Package offlinetest has
// tests for an implementation.
//
// A lease is in force until ttl has passed since it was taken or renewed, by the store's clock. The
// clocks of owners may differ. Owners count from the time before their call, so they stop before
// the store grants the lease to others. Names and owners are printable ASCII without spaces and are
// compared byte by byte. After an error the store may have granted the leases nevertheless.
// Implementations must be safe for concurrent use and return when their context ends.
type Leaser interface {
	// Acquire takes the named leases for owner, or renews those that it holds, to ttl from now,
	// each by itself and atomically. It returns those that owner holds now. The others belong to other
	// owners.
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	// Release ends the named leases that owner holds. Leases of others stay as they are.
	Release(ctx context.Context, owner string, names ...string) error
	// Held returns the leases in force whose names begin with prefix, by name, with their owners.
	Held(ctx context.Context, prefix string) (map[string]string, error)
}

// MemoryLeaser is a [Leaser] for consumers and fleets of one process, and for tests. It is safe for
// concurrent use. Make one with [NewMemoryLeaser].
type MemoryLeaser struct {
	mu     sync.Mutex
	leases map[string]memoryLease
	swept  time.Time
}

type memoryLease struct {
	owner string
	until time.Time
}

// leaseSweep is how often a MemoryLeaser drops leases that ran out.
const leaseSweep = time.Minute

// NewMemoryLeaser returns an empty in-memory [Leaser].
func NewMemoryLeaser() *MemoryLeaser {
	return &MemoryLeaser{leases: make(map[string]memoryLease), swept: time.Now()}
}

// Acquire implements [Leaser]. Its only error is that of ctx.
func (m *MemoryLeaser) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.sweepLocked(now)
	var held []string
	for _, name := range names {
		if l, taken := m.leases[name]; taken && l.owner != owner && l.until.After(now) {
			continue
		}
		m.leases[name] = memoryLease{owner: owner, until: now.Add(ttl)}
		held = append(held, name)
	}
	return held, nil
}

// Release implements [Leaser]. Its only error is that of ctx.
func (m *MemoryLeaser) Release(ctx context.Context, owner string, names ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if m.leases[name].owner == owner {
			delete(m.leases, name)
		}
	}
	return nil
}

// Held implements [Leaser]. Its only error is that of ctx.
func (m *MemoryLeaser) Held(ctx context.Context, prefix string) (map[string]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	owners := make(map[string]string)
	for name, l := range m.leases {
		if l.until.After(now) && strings.HasPrefix(name, prefix) {
			owners[name] = l.owner
		}
	}
	return owners, nil
}

// sweepLocked drops leases that ran out, now and then. m.mu must be held.
func (m *MemoryLeaser) sweepLocked(now time.Time) {
	if now.Sub(m.swept) < leaseSweep {
		return
	}
	m.swept = now
	for name, l := range m.leases {
		if !l.until.After(now) {
			delete(m.leases, name)
		}
	}
}
