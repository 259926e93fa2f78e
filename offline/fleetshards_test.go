package offline_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

const (
	ttl  = offline.DefaultLeaseTTL
	step = ttl / 5 * 5 / 4 // between two looks of a fleet at its leases, at most
)

// process is a fleet whose process may die: from then on nothing that it calls responds.
type process struct {
	*offline.Fleet
	world  *world
	leaser offline.Leaser
	dead   chan struct{}
	kill   func()
	stop   func()
	broken atomic.Bool  // the leaser returns errors
	late   atomic.Int64 // how late the leaser responds, in nanoseconds
	hung   atomic.Bool  // the leaser does not respond
	keeps  atomic.Bool  // it does not let go of leases
	doomed atomic.Bool  // the process dies in its next handler

	mu     sync.Mutex
	worked map[string]int // handlers run, by portal
}

func newProcess(w *world, l offline.Leaser) *process {
	w.t.Helper()
	p := &process{world: w, leaser: l, dead: make(chan struct{}), worked: make(map[string]int)}
	p.kill = sync.OnceFunc(func() { close(p.dead) })
	f, err := offline.NewFleet(p.caller, p, silent(), offline.WithLeaser(p), offline.WithClientID("app.1"))
	require.NoError(w.t, err)
	p.Fleet = f
	w.add(f, w.ids...)
	p.stop = running(w.t, f)
	return p
}

// alive waits for the end of ctx if the process is dead.
func (p *process) alive(ctx context.Context) error {
	select {
	case <-p.dead:
		<-ctx.Done()
		return ctx.Err()
	default:
		return nil
	}
}

// reaches waits for the end of ctx if the leaser does not respond.
func (p *process) reaches(ctx context.Context) error {
	if p.hung.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return p.alive(ctx)
}

func (p *process) caller(memberID string) event.Caller {
	return callerOf(func(ctx context.Context, method string, params, result any) error {
		if err := p.alive(ctx); err != nil {
			return err
		}
		return p.world.caller(memberID).Call(ctx, method, params, result)
	})
}

func (p *process) HandleEvent(ctx context.Context, d *event.Delivery) error {
	p.mu.Lock()
	p.worked[d.MemberID()]++
	p.mu.Unlock()
	if p.doomed.Load() {
		p.kill()
	}
	if err := p.alive(ctx); err != nil {
		return err
	}
	return p.world.HandleEvent(ctx, d)
}

// count returns how many handlers ran for a portal.
func (p *process) count(memberID string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.worked[memberID]
}

var errBroken = errors.New("the leaser is broken")

func (p *process) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if err := p.reaches(ctx); err != nil {
		return nil, err
	}
	if p.broken.Load() {
		return nil, errBroken
	}
	<-time.After(time.Duration(p.late.Load())) // also after the context has ended
	return p.leaser.Acquire(context.WithoutCancel(ctx), owner, ttl, names...)
}

func (p *process) Release(ctx context.Context, owner string, names ...string) error {
	if p.keeps.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := p.reaches(ctx); err != nil {
		return err
	}
	if p.broken.Load() {
		return errBroken
	}
	return p.leaser.Release(ctx, owner, names...)
}

func (p *process) Held(ctx context.Context, prefix string) (map[string]string, error) {
	if err := p.reaches(ctx); err != nil {
		return nil, err
	}
	if p.broken.Load() {
		return nil, errBroken
	}
	return p.leaser.Held(ctx, prefix)
}

// shares returns how many shards and portals processes have.
func shares(processes ...*process) (shards, portals []int) {
	for _, p := range processes {
		s := p.Stats()
		shards, portals = append(shards, s.Shards), append(portals, s.Owned)
	}
	return shards, portals
}

func sum(numbers []int) int {
	n := 0
	for _, i := range numbers {
		n += i
	}
	return n
}

// holder returns the process that works a portal, and another.
func holder(t *testing.T, memberID string, processes ...*process) (holds, other *process) {
	t.Helper()
	for _, p := range processes {
		if s, _ := p.Portal(memberID); !s.Next.IsZero() {
			require.Nil(t, holds, "a portal of two processes")
			holds = p
		} else {
			other = p
		}
	}
	require.NotNil(t, holds, "a portal of no process")
	return holds, other
}

func TestFleetsShareThePortals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 30)
		l := offline.NewMemoryLeaser()
		a, b := newProcess(w, l), newProcess(w, l)
		pass(t, 4*step)
		shards, portals := shares(a, b)
		require.Equal(t, []int{128, 128}, shards)
		require.Equal(t, 30, sum(portals))

		c := newProcess(w, l)
		for deal := 1; deal <= 10; deal++ { // while they move
			for _, id := range w.ids {
				w.change(id, deal)
				for _, p := range []*process{a, b, c} {
					p.Wake(id)
				}
			}
			pass(t, step/2)
		}
		shards, portals = shares(a, b, c)
		slices.Sort(shards)
		require.Equal(t, []int{85, 85, 86}, shards, "each has its part soon after one joined")
		require.Equal(t, 30, sum(portals))
		pass(t, offline.DefaultFleetMaxInterval)
		w.empty(w.ids...)
		for _, id := range w.ids {
			require.Len(t, w.deals(id), 10, "each change was handled once")
		}

		b.stop()
		require.Zero(t, b.Stats().Shards)
		pass(t, step+time.Second)
		shards, _ = shares(a, c)
		require.Equal(t, []int{128, 128}, shards, "what a process hands over is taken at once")
		a.stop()
		c.stop()
		held, err := l.Held(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, held, "nothing stays behind")
	})
}

// A process dies without a word, with records reserved, and the others finish these and go on
// within seconds.
func TestFleetsTakeOverFromTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 30)
		l := offline.NewMemoryLeaser()
		all := []*process{newProcess(w, l), newProcess(w, l), newProcess(w, l)}
		pass(t, 10*step)
		victim := all[0]
		lost := victim.Stats().Owned
		require.Positive(t, lost)
		victim.doomed.Store(true) // before anything of it is cleared
		start := time.Now()
		for _, id := range w.ids {
			w.change(id, 1)
			for _, p := range all {
				p.Wake(id)
			}
		}
		pass(t, time.Second)
		require.Positive(t, victim.Stats().Running, "a record is reserved by the dead")

		pass(t, ttl+step+5*time.Second-time.Since(start))
		shards, portals := shares(all[1:]...)
		require.Equal(t, []int{128, 128}, shards)
		require.Equal(t, 30, sum(portals))
		w.empty(w.ids...)
		for _, id := range w.ids {
			require.Contains(t, w.deals(id), "1")
		}
		require.Zero(t, victim.Stats().Owned, "the dead, were it only asleep, would work nothing")
		for _, p := range all {
			p.kill()
			p.stop()
		}
	})
}

// While the leaser cannot be reached for longer than a lease lasts, nothing is worked, and what was
// under way ends in time.
func TestFleetLosesItsLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		p := newProcess(w, offline.NewMemoryLeaser())
		pass(t, 4*step)
		var cause error
		var ended time.Time
		w.inside = func(ctx context.Context, d *event.Delivery) error {
			if d.Entity().ID == "1" {
				<-ctx.Done()
				cause, ended = context.Cause(ctx), time.Now()
				return ctx.Err()
			}
			return nil
		}
		p.broken.Store(true)
		start := time.Now()
		w.change(w.ids[0], 1)
		p.Wake(w.ids[0])
		pass(t, time.Minute)
		require.ErrorIs(t, cause, offline.ErrLeaseLost)
		require.Less(t, ended.Sub(start), ttl, "handlers end before another process may begin")
		require.Zero(t, p.Stats().Shards)
		n := w.all[w.ids[1]].OfflineRows()
		w.change(w.ids[1], 2)
		p.Wake(w.ids[1])
		pass(t, time.Hour)
		require.Len(t, w.all[w.ids[1]].OfflineRows(), len(n)+1)
		require.Empty(t, w.deals(w.ids[1]), "nothing is worked without a lease")

		w.inside = nil
		p.broken.Store(false)
		pass(t, step+time.Second)
		require.Equal(t, []string{"1"}, w.deals(w.ids[0]))
		require.Equal(t, []string{"2"}, w.deals(w.ids[1]))
		w.empty(w.ids...)
		p.stop()
	})
}

// A process that was asleep, or whose leaser was, may find its leases still there. It works on,
// from the start.
func TestFleetFindsItsLeasesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		p := newProcess(w, offline.NewMemoryLeaser())
		pass(t, 4*step)
		p.late.Store(int64(2 * ttl))
		pass(t, ttl+step) // by now the leases have run out, and no process knows
		for _, id := range w.ids {
			w.change(id, 1)
			p.Wake(id)
		}
		pass(t, time.Second)
		require.Empty(t, w.deals(w.ids[0]))
		p.late.Store(0)
		pass(t, 3*ttl)
		for _, id := range w.ids {
			require.Equal(t, []string{"1"}, w.deals(id))
		}
		p.stop()
	})
}

// A leaser that grows slow and then hangs leaves no time between two looks at the leases. What is
// under way ends before they run out all the same.
func TestFleetLeaserThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 60) // of which each of three processes surely has some
		l := offline.NewMemoryLeaser()
		last := &lastAcquire{Leaser: l}
		a, b := newProcess(w, last), newProcess(w, l)
		pass(t, 4*step)
		var ended time.Time
		w.inside = func(ctx context.Context, _ *event.Delivery) error {
			<-ctx.Done()
			ended = time.Now()
			return ctx.Err()
		}
		a.keeps.Store(true)
		c := newProcess(w, l) // to which shards are to pass
		pass(t, 4*step)
		var mine, others string
		for _, id := range w.ids {
			if s, _ := a.Portal(id); !s.Next.IsZero() {
				mine = id
			} else {
				others = id
			}
		}
		prolonged := make(chan time.Time, 1)
		then := func() {
			prolonged <- time.Now()
			a.hung.Store(true)
		}
		a.late.Store(int64(ttl/5 - time.Millisecond))
		last.then.Store(&then)
		start := (<-prolonged).Add(-time.Duration(a.late.Load())) // when the fleet asked for the last time with success
		w.change(mine, 1)
		a.Wake(mine)
		for range 150 {
			a.Wake(others)
			pass(t, 100*time.Millisecond)
		}
		require.False(t, ended.IsZero(), "the handler goes on after its lease ran out")
		require.LessOrEqual(t, ended.Sub(start), ttl)
		require.Empty(t, w.deals(mine))
		a.kill()
		b.kill()
		c.kill()
		a.stop()
		b.stop()
		c.stop()
	})
}

// lastAcquire is a leaser that reports an acquisition.
type lastAcquire struct {
	offline.Leaser
	then atomic.Pointer[func()]
}

func (l *lastAcquire) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if then := l.then.Swap(nil); then != nil {
		(*then)()
	}
	return l.Leaser.Acquire(ctx, owner, ttl, names...)
}

// A fleet that is stopped while it talks to the leaser leaves nothing behind either: others would
// keep a part for it until its lease had run out.
func TestFleetStoppedDuringACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		l := &lastAcquire{Leaser: offline.NewMemoryLeaser()}
		for range 20 {
			p := newProcess(w, l)
			pass(t, 4*step)
			inside := make(chan struct{})
			then := func() {
				close(inside)
				<-time.After(time.Second)
			}
			l.then.Store(&then)
			<-inside
			p.stop()
			held, err := l.Held(t.Context(), "")
			require.NoError(t, err)
			require.Empty(t, held)
		}
	})
}

// A short outage of the leaser disturbs nothing.
func TestFleetSurvivesAShortOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		p := newProcess(w, offline.NewMemoryLeaser())
		pass(t, 4*step)
		for deal := 1; deal <= 20; deal++ {
			p.broken.Store(deal%2 == 0)
			start := time.Now()
			w.change(w.ids[0], deal)
			p.Wake(w.ids[0])
			pass(t, ttl/2)
			require.Less(t, w.when(w.ids[0], deal, start), time.Second)
		}
		p.stop()
	})
}

// ONOFFLINEEVENT reaches any of the processes, and is passed on to the one that works the portal.
func TestFleetsPassWakeUpsOn(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		l := offline.NewMemoryLeaser()
		a, b := newProcess(w, l), newProcess(w, l)
		pass(t, time.Hour)
		for deal := 1; deal <= 5; deal++ {
			for _, id := range w.ids {
				holds, other := holder(t, id, a, b)
				before := holds.count(id)
				start := time.Now()
				w.change(id, deal)
				other.Wake(id)
				pass(t, step+time.Second)
				require.Less(t, w.when(id, deal, start), step+time.Second)
				require.Equal(t, before+1, holds.count(id))
			}
		}
		a.stop()
		b.stop()
	})
}

// A portal that refuses for good is not asked sooner because another process was woken for it.
func TestFleetsPassNoWakeUpsOnToTheRefused(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		l := offline.NewMemoryLeaser()
		var mu sync.Mutex
		var turns map[string]map[time.Time]bool // of each portal; the requests of one turn come at the same time
		w.before = func(_ context.Context, id string) error {
			mu.Lock()
			defer mu.Unlock()
			if turns != nil {
				if turns[id] == nil {
					turns[id] = make(map[time.Time]bool)
				}
				turns[id][time.Now()] = true
			}
			return refusal{code: "ACCESS_DENIED"}
		}
		a, b := newProcess(w, l), newProcess(w, l)
		pass(t, time.Hour)
		mu.Lock()
		turns = make(map[string]map[time.Time]bool)
		mu.Unlock()
		for range 10 {
			for _, id := range w.ids {
				a.Wake(id)
				b.Wake(id)
			}
			pass(t, time.Minute)
		}
		for id, asked := range turns {
			require.Len(t, asked, 1, "%s: once in half an hour or more", id)
		}
		a.stop()
		b.stop()
	})
}

// A portal that only one process knows is worked by the one that holds its shard, once the
// other was woken for it.
func TestFleetsToldOfDifferentPortals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 20)
		l := offline.NewMemoryLeaser()
		a, b := newProcess(w, l), newProcess(w, l)
		for _, id := range w.ids {
			b.Remove(id)
		}
		pass(t, 4*step)
		for _, id := range w.ids {
			w.change(id, 1)
			a.Wake(id)
			b.Wake(id)
		}
		pass(t, step+time.Second)
		for _, id := range w.ids {
			require.Equal(t, []string{"1"}, w.deals(id))
		}
		require.Len(t, a.MemberIDs(), 20)
		require.NotEmpty(t, b.MemberIDs(), "it has taken portals on")
		require.Less(t, len(b.MemberIDs()), 20, "but only its own")
		a.stop()
		b.stop()
	})
}

// Processes come, go, die and lose sight of the leaser, in any order. No portal is worked by two at
// a time, and no change is missed.
func TestFleetsThroughChurn(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { churn(t, rand.New(rand.NewPCG(seed, 7))) }) //nolint:gosec // a test
		})
	}
}

func churn(t *testing.T, random *rand.Rand) {
	t.Helper()
	w := newWorld(t, 12)
	var mu sync.Mutex
	inside := make(map[string]int)
	w.inside = func(ctx context.Context, d *event.Delivery) error {
		object := d.MemberID() + "/" + d.Entity().ID
		mu.Lock()
		inside[object]++
		if inside[object] > 1 {
			t.Errorf("%s is handled twice at the same time", object)
		}
		wait := time.Duration(random.Int64N(int64(3 * time.Second)))
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			inside[object]--
		}()
		select {
		case <-time.After(wait):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	pick := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	l := offline.NewMemoryLeaser()
	living := []*process{newProcess(w, l), newProcess(w, l)}
	var gone []*process
	for deal := 1; deal <= 40; deal++ {
		at := pick(len(living))
		switch what := pick(6); {
		case what == 0 && len(living) < 4:
			living = append(living, newProcess(w, l))
		case what == 1 && len(living) > 1:
			living[at].stop()
			living = slices.Delete(living, at, at+1)
		case what == 2 && len(living) > 1:
			living[at].kill()
			gone = append(gone, living[at])
			living = slices.Delete(living, at, at+1)
		case what == 3:
			living[at].broken.Store(!living[at].broken.Load())
		}
		for range 5 {
			id := w.ids[pick(len(w.ids))]
			w.change(id, deal)
			for _, p := range living {
				p.Wake(id)
			}
		}
		pass(t, time.Duration(pick(int(10*time.Second))))
	}
	for _, p := range living {
		p.broken.Store(false)
	}
	pass(t, 2*ttl+offline.DefaultFleetMaxInterval)
	w.empty(w.ids...)
	shards, _ := shares(living...)
	require.Equal(t, 256, sum(shards))
	for _, p := range append(gone, living...) {
		p.stop()
	}
}
