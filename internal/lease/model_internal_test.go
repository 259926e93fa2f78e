package lease

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var modelRuns = flag.Int("lease.runs", 40, "how many random runs TestModel makes")

const modelParts = 12

// model is some members that share parts, with who works which part.
type model struct {
	t      *testing.T
	store  *store
	random *rand.Rand // guarded by mu

	mu    sync.Mutex
	calm  bool
	works map[int]*work // parts that are worked
	all   sync.WaitGroup
}

// work is the work on a part under one lease.
type work struct {
	by    *member
	lease *Lease
	leave chan struct{} // closed when it is to end
}

// member is a member of the model, and its worker.
type member struct {
	model  *model
	client *client
	clock  *wallClock
	shares *Shares
	heal   []func() // ends of faults
	killed chan struct{}
}

func (m *model) pick(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

func (m *model) join() *member {
	b := &member{model: m, client: m.store.client(), clock: &wallClock{}, killed: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	b.shares = StartShares(m.t.Context(), Config{Leaser: b.client, TTL: ttl, Prefix: "p/", Log: quiet(), Wall: b.clock.wall}, modelParts, b)
	return b
}

func (b *member) dead() bool {
	select {
	case <-b.killed:
		return true
	default:
		return false
	}
}

// Gained begins the work on parts.
func (b *member) Gained(leases map[int]*Lease) {
	m := b.model
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, l := range leases {
		if b.dead() || !l.Valid() {
			continue
		}
		if other := m.works[i]; other != nil && other.by != b {
			m.t.Errorf("part %d is worked by two", i)
		}
		m.beginLocked(i, &work{by: b, lease: l, leave: make(chan struct{})})
	}
}

// beginLocked begins work. m.mu is held.
func (m *model) beginLocked(i int, w *work) {
	m.works[i] = w
	m.all.Go(func() { m.work(i, w) })
}

// work works a part until the part is lost or left.
func (m *model) work(i int, w *work) {
	rest := false
	select {
	case <-w.lease.Lost():
	case <-w.by.killed:
	case <-w.leave:
		var longest time.Duration
		if m.mu.Lock(); !m.calm {
			longest = time.Duration(m.random.Int64N(int64(2 * ttl)))
		}
		m.mu.Unlock()
		select {
		case <-w.lease.Lost():
		case <-w.by.killed:
		case <-time.After(longest):
			rest = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.works[i] != w {
		return
	}
	if rest && !m.calm && m.random.IntN(4) == 0 && w.by.shares.TakeBack(i) {
		m.beginLocked(i, &work{by: w.by, lease: w.lease, leave: make(chan struct{})})
		return
	}
	delete(m.works, i)
	if rest {
		w.by.shares.Rest(i)
	}
}

// Leave begins to end the work on parts.
func (b *member) Leave(parts []int) {
	m := b.model
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range parts {
		if w := m.works[i]; w != nil && w.by == b {
			close(w.leave)
		} else {
			b.shares.Rest(i)
		}
	}
}

// Lost checks that the leases were lost.
func (b *member) Lost(parts []int) {
	m := b.model
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range parts {
		if w := m.works[i]; w != nil && w.by == b && w.lease.Valid() {
			m.t.Errorf("part %d is said to be lost and is not", i)
		}
	}
}

// Noted does nothing.
func (b *member) Noted(string) {}

// disturb does something to a member that may happen to it.
func (b *member) disturb() {
	m := b.model
	b.endFaults()
	switch m.pick(8) {
	case 0:
		b.heal = append(b.heal, b.client.hang())
	case 1:
		b.client.fail(down)
	case 2:
		b.client.fail(func(context.Context, string) error {
			<-time.After(time.Duration(m.pick(int(step * 5 / 4))))
			return nil
		})
	case 3:
		b.client.fail(func(context.Context, string) error {
			if m.pick(2) == 0 {
				return errStore
			}
			return nil
		})
	case 4: // responses get lost
		b.client.mu.Lock()
		b.client.lie = func(got []string) []string {
			if m.pick(2) == 0 {
				panic("the connection broke")
			}
			return got
		}
		b.client.mu.Unlock()
	case 5:
		b.clock.set(time.Duration(m.pick(int(2*time.Hour))) - time.Hour)
	case 6:
		b.clock.set(time.Duration(m.pick(int(2*ttl))) - ttl)
	case 7:
		b.clock.set(0)
	}
}

// endFaults ends the faults of a member's calls.
func (b *member) endFaults() {
	for _, heal := range b.heal {
		heal()
	}
	b.heal = nil
	b.client.fail(nil)
	b.client.mu.Lock()
	b.client.lie = nil
	b.client.mu.Unlock()
}

func (b *member) kill() {
	m := b.model
	b.client.fail(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
	m.mu.Lock()
	defer m.mu.Unlock()
	close(b.killed)
	for i, w := range m.works {
		if w.by == b {
			delete(m.works, i)
		}
	}
}

func (m *model) run() {
	living := []*member{m.join(), m.join()}
	var gone []*member
	for range 60 {
		at := m.pick(len(living))
		b := living[at]
		switch what := m.pick(10); {
		case what == 0 && len(living) < 4:
			living = append(living, m.join())
		case what == 1 && len(living) > 1:
			b.kill()
			gone = append(gone, b)
			living = slices.Delete(living, at, at+1)
		case what == 2 && len(living) > 1:
			b.shares.Quit()
			gone = append(gone, b)
			living = slices.Delete(living, at, at+1)
		case what < 7:
			b.disturb()
		}
		pass(time.Duration(m.pick(int(ttl * 3 / 2))))
	}

	m.mu.Lock()
	m.calm = true
	m.mu.Unlock()
	for _, b := range slices.Concat(living, gone) {
		if !b.dead() {
			b.endFaults()
		}
	}
	for _, b := range living {
		for i := range modelParts {
			b.shares.Unpin(i)
		}
	}
	pass(2*ttl + settled + ttl) // work that was to end may take two TTL
	m.check(living)
	for _, b := range slices.Concat(living, gone) {
		b.endFaults()
		b.shares.Quit()
	}
	pass(settled)
	for _, b := range slices.Concat(living, gone) {
		b.shares.Stop()
	}
	m.all.Wait()
}

// check checks that each part is in work by the member that holds it, and that all have equally
// many.
func (m *model) check(living []*member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := make(map[*member]int)
	for i := range modelParts {
		w := m.works[i]
		if w == nil {
			m.t.Errorf("part %d is not worked", i)
			continue
		}
		b := w.by
		n[b]++
		if owner, _ := m.store.owner(b.shares.partName(i)); owner != b.shares.keeper.owner {
			m.t.Errorf("part %d is worked without a lease", i)
		}
	}
	for _, b := range living {
		if share := modelParts / len(living); n[b] < share || n[b] > share+1 {
			m.t.Errorf("a member has %d parts, its share is %d", n[b], share)
		}
		require.LessOrEqual(m.t, b.client.report().most, 1)
	}
}

// Members come, go, die, lose the store and have wrong clocks, at random. No two members work a
// part at a time. Once nothing disturbs them, every part is in work, in equal shares.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range *modelRuns {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &model{t: t, store: newStore(), works: make(map[int]*work), random: rand.New(rand.NewPCG(uint64(seed), 11))} //nolint:gosec // a test
				m.run()
			})
		})
	}
}
