package polling_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/polling"
)

var modelSeed = flag.Uint64("model.seed", 0, "of the one run of TestModel; 0 for many")

// model knows which events there were and which are done, and checks every offset against that.
type model struct {
	t      *testing.T
	f      *fixture
	random *rand.Rand
	leaser *fragileLeaser

	mu     sync.Mutex
	raised map[int64]string // IDs of events, with what the handler does
	done   map[int64]int    // how often an event was handled, dropped or given up
	order  map[string]int64 // the last event of each chat that was handled for the first time
	kept   int64            // in the store
	once   map[turn]bool    // what each process did while it had the lease without a break
}

// turn is the work on an event by a process, between a start and a stop of it.
type turn struct {
	p     *process
	start int64
	id    int64
}

// process is a consumer that can die at any moment: nothing that it does afterwards has an effect.
type process struct {
	*running

	m    *model
	c    *polling.Consumer
	dead atomic.Bool

	starts atomic.Int64 // how often it began to poll
}

var errDead = errors.New("the process is dead")

// ClientID and MemberID identify the caller.
func (p *process) ClientID() string { return p.m.f.app.ClientID() }
func (p *process) MemberID() string { return p.m.f.MemberID() }

// Call implements event.Caller. It fails before or after the call now and then.
func (p *process) Call(ctx context.Context, method string, params, result any) error {
	m := p.m
	chance := m.roll(20)
	if p.dead.Load() || chance == 0 {
		return errDead
	}
	if values, ok := params.(map[string]any); ok && method == "imbot.v2.Event.get" {
		offset, _ := values["offset"].(int64)
		m.checkOffset(offset)
		m.mu.Lock()
		if offset > m.kept {
			m.t.Errorf("it asks with offset %d, which was not kept", offset)
		}
		m.mu.Unlock()
	}
	err := m.f.api.Call(ctx, method, params, result)
	if chance == 1 || p.dead.Load() {
		return errDead
	}
	return err
}

// Load implements polling.Store. A consumer loads the offset once, when it begins to poll.
func (p *process) Load(ctx context.Context, key polling.Key) (int64, error) {
	p.starts.Add(1)
	return p.m.f.store.Load(ctx, key)
}

// Keep implements polling.Store. It fails now and then, before or after it has written.
func (p *process) Keep(ctx context.Context, key polling.Key, offset int64) error {
	m := p.m
	if p.dead.Load() {
		return errDead
	}
	m.checkOffset(offset)
	m.mu.Lock()
	defer m.mu.Unlock()
	chance := m.random.IntN(20)
	if chance == 0 {
		return errDead
	}
	m.kept = max(m.kept, offset)
	if err := m.f.store.Keep(ctx, key, offset); err != nil || chance == 1 {
		return errDead
	}
	return nil
}

// checkOffset checks that every event below an offset is done.
func (m *model) checkOffset(offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.raised {
		if id < offset && m.done[id] == 0 {
			m.t.Errorf("offset %d passes event %d (%s), which nobody has handled", offset, id, m.raised[id])
		}
	}
}

// HandleEvent implements event.Handler.
func (p *process) HandleEvent(ctx context.Context, d *event.Delivery) error {
	m := p.m
	m.mu.Lock()
	what := m.raised[d.ID]
	wait := time.Duration(m.random.IntN(3000)) * time.Millisecond
	fails := m.random.IntN(3) == 0
	m.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.dead.Load() {
		return errDead
	}
	switch {
	case what == "drop":
		return event.Drop(errTest)
	case what == "never", what == "sometimes" && fails:
		return errTest
	case what == "panic" && fails:
		panic("a handler")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	chat := d.Lane().ID
	if m.done[d.ID] == 0 {
		if m.order[chat] >= d.ID {
			m.t.Errorf("event %d comes after %d of its chat", d.ID, m.order[chat])
		}
		m.order[chat] = d.ID
	}
	p.finishLocked(d.ID)
	return nil
}

// finishLocked notes that an event is done. Only a new start may repeat it. model.mu is held.
func (p *process) finishLocked(id int64) {
	key := turn{p, p.starts.Load(), id}
	if p.m.once[key] {
		p.m.t.Errorf("event %d was handled twice without a new start between", id)
	}
	p.m.once[key] = true
	p.m.done[id]++
}

func (p *process) dropped(_ context.Context, e polling.Event, _ error) error {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	if p.dead.Load() || p.m.random.IntN(10) == 0 {
		return errDead
	}
	p.finishLocked(e.ID)
	return nil
}

// roll returns a random number below n.
func (m *model) roll(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

func (m *model) start() *process {
	p := &process{m: m}
	c, err := polling.NewBot(p, m.f.bot, p, p, silent(), polling.WithMaxAttempts(3), polling.WithBatchSize(7), polling.WithGrace(time.Second),
		polling.WithWorkers(5), polling.WithInterval(2*time.Second, 5*time.Second), polling.WithLeaser(m.leaser),
		polling.WithHooks(polling.Hooks{Dropped: p.dropped}))
	require.NoError(m.t, err)
	p.c, p.running = c, run(m.t, c)
	return p
}

// write lets a user write to the bot, or raises an event that cannot be read.
func (m *model) write(users []int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	what := []string{"ok", "ok", "ok", "ok", "sometimes", "never", "drop", "panic"}[m.random.IntN(8)]
	m.f.say(users[m.random.IntN(len(users))], what)
	logged := m.f.LoggedEvents()
	m.raised[logged[len(logged)-1].ID] = what
}

func TestModel(t *testing.T) {
	t.Parallel()
	seeds := []uint64{*modelSeed}
	if *modelSeed == 0 {
		seeds = nil
		for n := range 6 {
			seeds = append(seeds, uint64(n+1))
		}
		if testing.Short() {
			seeds = seeds[:2]
		}
	}
	for _, seed := range seeds {
		t.Run("seed "+strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { runModel(t, seed) })
		})
	}
}

func runModel(t *testing.T, seed uint64) {
	t.Helper()
	f := newFixture(t)
	m := &model{
		t: t, f: f, random: rand.New(rand.NewPCG(seed, 7)), leaser: &fragileLeaser{MemoryLeaser: offline.NewMemoryLeaser()}, //nolint:gosec // repeatable
		raised: map[int64]string{}, done: map[int64]int{}, order: map[string]int64{}, once: map[turn]bool{},
	}
	users := f.users(4)
	processes := []*process{m.start(), m.start()}
	for range 50 {
		choice, wait, which := m.roll(12), time.Duration(m.roll(4000))*time.Millisecond, m.roll(2)
		switch choice {
		case 0: // kill -9; its lease runs out by itself
			p := processes[which]
			p.dead.Store(true)
			p.stop()
			processes[which] = m.start()
		case 1:
			require.NoError(t, processes[which].end())
			balanced(t, processes[which].c.Stats())
			processes[which] = m.start()
		case 2:
			m.leaser.broken.Store(true)
			pass(wait * 6)
			m.leaser.broken.Store(false)
		case 3:
			f.Once("imbot.v2.event.get", []eventtest.Fault{
				eventtest.Fail(429, "QUERY_LIMIT_EXCEEDED", ""), eventtest.LoseAnswer(), eventtest.Fail(500, "INTERNAL_SERVER_ERROR", ""),
			}[m.roll(3)])
		default:
			for range choice {
				m.write(users)
			}
		}
		pass(wait)
	}
	f.Heal()
	for began := time.Now(); len(f.LoggedEvents()) > 0; pass(time.Second) {
		if time.Since(began) > time.Hour {
			t.Error("events are left")
			break
		}
	}
	for _, p := range processes {
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
	repeats := 0
	for id, what := range m.raised {
		require.NotZero(t, m.done[id], "event %d (%s) was lost", id, what)
		repeats += m.done[id] - 1
	}
	t.Logf("%d events, %d repeated", len(m.raised), repeats)
}
