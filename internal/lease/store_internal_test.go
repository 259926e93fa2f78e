package lease

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	ttl  = 10 * time.Second
	step = ttl / 5
	// whole is the longest pause between two cycles of calls that take no time.
	whole = step * 5 / 4
)

// store is a correct store of leases. Clients share it.
type store struct {
	mu     sync.Mutex
	leases map[string]entry
}

type entry struct {
	owner string
	until time.Time
}

func newStore() *store { return &store{leases: make(map[string]entry)} }

// owner returns who holds a lease now, and for how long.
func (s *store) owner(name string) (string, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.leases[name]
	if left := time.Until(e.until); left > 0 {
		return e.owner, left
	}
	return "", 0
}

func (s *store) names(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, e := range s.leases {
		if time.Now().Before(e.until) && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// give makes a lease another owner's.
func (s *store) give(name, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases[name] = entry{owner, time.Now().Add(time.Hour)}
}

// client is one process's access to a store. Tests set its faults at any time.
type client struct {
	*store

	mu    sync.Mutex
	fault func(ctx context.Context, method string) error // of each call, before it is made; nil for none
	lie   func(got []string) []string                    // about acquisitions
	asked [][]string                                     // names of acquisitions
	calls int
	now   int // under way
	most  int // at a time
	last  time.Time
}

func (s *store) client() *client { return &client{store: s} }

func (c *client) fail(fault func(ctx context.Context, method string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = fault
}

// hang makes calls hang that ignore their context, until free is called.
func (c *client) hang() (free func()) {
	hung := make(chan struct{})
	c.fail(func(context.Context, string) error {
		<-hung
		return nil
	})
	return sync.OnceFunc(func() {
		c.fail(nil)
		close(hung)
	})
}

func (c *client) begin(ctx context.Context, method string) error {
	c.mu.Lock()
	c.calls++
	c.now++
	c.most = max(c.most, c.now)
	fault := c.fault
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now--
	}()
	if fault == nil {
		return nil
	}
	return fault(ctx, method)
}

func (c *client) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	began := time.Now()
	if err := c.begin(ctx, "Acquire"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.asked = append(c.asked, slices.Clone(names))
	c.last = began
	lie := c.lie
	c.mu.Unlock()
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	now := time.Now()
	var got []string
	for _, name := range names {
		if e := c.leases[name]; e.owner == owner || !now.Before(e.until) {
			c.leases[name] = entry{owner, now.Add(ttl)}
			got = append(got, name)
		}
	}
	if lie != nil {
		got = lie(got)
	}
	return got, nil
}

func (c *client) Release(ctx context.Context, owner string, names ...string) error {
	if err := c.begin(ctx, "Release"); err != nil {
		return err
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for _, name := range names {
		if c.leases[name].owner == owner {
			delete(c.leases, name)
		}
	}
	return nil
}

func (c *client) Held(ctx context.Context, prefix string) (map[string]string, error) {
	if err := c.begin(ctx, "Held"); err != nil {
		return nil, err
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	owners := make(map[string]string)
	for name, e := range c.leases {
		if time.Now().Before(e.until) && strings.HasPrefix(name, prefix) {
			owners[name] = e.owner
		}
	}
	return owners, nil
}

// report is what a client saw.
type report struct {
	asked [][]string
	calls int
	most  int
	last  time.Time // when the last Acquire that returned began
}

func (c *client) report() report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return report{slices.Clone(c.asked), c.calls, c.most, c.last}
}

// wallClock is a clock whose wall clock can be set, and which therefore differs from the monotonic
// one.
type wallClock struct{ ahead atomic.Int64 }

func (w *wallClock) set(ahead time.Duration) { w.ahead.Store(int64(ahead)) }

func (w *wallClock) wall() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// pass lets time pass in a bubble, and then waits until everything blocks.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t *testing.T, c *client, w *wallClock) *Keeper {
	t.Helper()
	k := Start(t.Context(), Config{Leaser: c, TTL: ttl, Prefix: "p/", Log: quiet(), Wall: w.wall})
	t.Cleanup(k.Stop)
	return k
}

// worker records what Shares call. Parts that are to be left come to rest at once, unless keep says
// otherwise.
type worker struct {
	shares *Shares

	mu     sync.Mutex
	leases map[int]*Lease // that may be worked
	left   []int          // that were asked for
	lost   []int
	gained int
	notes  []string
	keep   func(part int) bool // parts that do not come to rest
}

func (w *worker) Gained(parts map[int]*Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.leases, parts)
	w.gained += len(parts)
}

func (w *worker) Leave(parts []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range parts {
		w.left = append(w.left, i)
		if w.keep == nil || !w.keep(i) {
			delete(w.leases, i)
			w.shares.Rest(i) // with a lock that callbacks take
		}
	}
}

func (w *worker) Lost(parts []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = append(w.lost, parts...)
	for _, i := range parts {
		delete(w.leases, i)
	}
}

func (w *worker) Noted(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, text)
}

// seen is a copy of what a worker recorded.
type seen struct {
	leases     map[int]*Lease
	left, lost []int
	gained     int
	notes      []string
}

func (w *worker) seen() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return seen{maps.Clone(w.leases), slices.Clone(w.left), slices.Clone(w.lost), w.gained, slices.Clone(w.notes)}
}

// parts returns how many parts each worker has.
func parts(workers ...*worker) []int {
	var n []int
	for _, w := range workers {
		n = append(n, len(w.seen().leases))
	}
	return n
}

func startShares(t *testing.T, c *client, clk *wallClock, n int) *worker {
	t.Helper()
	w := &worker{leases: make(map[int]*Lease)}
	w.mu.Lock()
	w.shares = StartShares(t.Context(), Config{Leaser: c, TTL: ttl, Prefix: "p/", Log: quiet(), Wall: clk.wall}, n, w)
	w.mu.Unlock()
	t.Cleanup(w.shares.Stop)
	return w
}
