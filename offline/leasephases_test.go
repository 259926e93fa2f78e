package offline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// inTime is when a handler has to end at the latest after the store of the leases went away.
const inTime = ttl - ttl/10

// blocker is a handler of deal 1 that goes on until its context ends. All other deals fail.
type blocker struct {
	in    chan struct{} // closed when it is in
	out   chan struct{} // closed when its context has ended
	cause error         // why
	ended time.Time
	once  sync.Once
}

func newBlocker() *blocker { return &blocker{in: make(chan struct{}), out: make(chan struct{})} }

func (b *blocker) HandleEvent(ctx context.Context, d *event.Delivery) error {
	if d.Entity().ID != "1" {
		return errHandler
	}
	b.once.Do(func() {
		close(b.in)
		<-ctx.Done()
		b.cause, b.ended = context.Cause(ctx), time.Now()
		close(b.out)
	})
	return ctx.Err()
}

// builder makes a consumer or a fleet for one portal with one record, and returns its Run. before
// is called before each call of the portal.
type builder func(t *testing.T, h event.HandlerFunc, before func(context.Context) error, opts ...offline.WorkOption) func(context.Context) error

func builders() map[string]builder {
	return map[string]builder{
		"consumer": func(t *testing.T, h event.HandlerFunc, before func(context.Context) error, opts ...offline.WorkOption) func(context.Context) error {
			t.Helper()
			f := newFixture(t)
			f.change("UPDATE", 1)
			api := callerOf(func(ctx context.Context, method string, params, result any) error {
				if err := before(ctx); err != nil {
					return err
				}
				return f.api.Call(ctx, method, params, result)
			})
			own := []offline.ConsumerOption{offline.WithClientID(f.app.ClientID()), offline.WithMemberID(f.MemberID())}
			return newConsumer(t, api, h, append(own, optionsAs[offline.ConsumerOption](t, opts)...)...).Run
		},
		"fleet": func(t *testing.T, h event.HandlerFunc, before func(context.Context) error, opts ...offline.WorkOption) func(context.Context) error {
			t.Helper()
			w := newWorld(t, 1)
			w.inside = h
			w.before = func(ctx context.Context, _ string) error { return before(ctx) }
			w.change(w.ids[0], 1)
			f := w.fleet(optionsAs[offline.FleetOption](t, opts)...)
			w.add(f, w.ids...)
			return f.Run
		},
	}
}

func noWait(context.Context) error { return nil }

// start runs something until the function is called that it returns.
func start(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, <-ended)
	}
}

// A call of the portal that is under way when the lease is lost ends too, and no handler starts
// with what it returns.
func TestCallEndsWhenTheLeaseIsLost(t *testing.T) {
	t.Parallel()
	for name, build := range builders() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &shaky{MemoryLeaser: offline.NewMemoryLeaser()}
				var handled atomic.Int64
				ended := make(chan error, 100)
				stop := start(t, build(t, func(context.Context, *event.Delivery) error {
					handled.Add(1)
					return nil
				}, func(ctx context.Context) error {
					if l.down.CompareAndSwap(false, true) {
						<-ctx.Done()
						ended <- context.Cause(ctx)
					}
					return ctx.Err()
				}, offline.WithLeaser(l)))
				began := time.Now()
				require.ErrorIs(t, <-ended, offline.ErrLeaseLost)
				require.LessOrEqual(t, time.Since(began), inTime)
				pass(t, time.Minute)
				require.Zero(t, handled.Load())
				stop()
			})
		})
	}
}

// A fleet's handlers end in time after the lease was lost, in whichever way the turn was ending
// already, and nothing is parked without a lease.
func TestFleetSeesALostLeaseInEveryPhase(t *testing.T) {
	t.Parallel()
	phases := map[string]func(t *testing.T, w *world, f *offline.Fleet, l offline.Leaser, stop func()){
		"working": func(*testing.T, *world, *offline.Fleet, offline.Leaser, func()) {},
		"removal": func(_ *testing.T, w *world, f *offline.Fleet, _ offline.Leaser, _ func()) { f.Remove(w.ids[0]) },
		"stop":    func(_ *testing.T, _ *world, _ *offline.Fleet, _ offline.Leaser, stop func()) { go stop() },
		"handover": func(t *testing.T, w *world, f *offline.Fleet, l offline.Leaser, _ func()) {
			t.Helper()
			t.Cleanup(running(t, w.fleet(offline.WithLeaser(l))))
			pass(t, 3*step)
			require.Equal(t, 129, f.Stats().Shards, "one of those that are to pass is still here")
		},
	}
	for name, begin := range phases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, b := newWorldOfAShard(t, 1), newBlocker()
				w.inside = b.HandleEvent
				portal := w.all[w.ids[0]]
				w.change(w.ids[0], 1, 2)
				l := offline.NewMemoryLeaser()
				mine := &shaky{MemoryLeaser: l}
				f := w.fleet(
					offline.WithLeaser(mine),
					offline.WithGrace(10*time.Minute),
					offline.WithHandlerTimeout(time.Hour),
					offline.WithMaxAttempts(1),
				)
				w.add(f, w.ids...)
				stop := sync.OnceFunc(running(t, f))
				<-b.in
				begin(t, w, f, l, stop)
				pass(t, time.Second)
				select {
				case <-b.out:
					t.Fatal("the handler ended before the lease was lost")
				default:
				}
				mine.down.Store(true)
				lost := time.Now()
				<-b.out
				parked := portal.CallCount("event.offline.error")
				require.ErrorIs(t, b.cause, offline.ErrLeaseLost)
				require.LessOrEqual(t, b.ended.Sub(lost), inTime)
				pass(t, time.Minute)
				require.Equal(t, parked, portal.CallCount("event.offline.error"), "nothing is parked without a lease")
				stop()
			})
		})
	}
}

// A turn that had to end because the places for long turns are taken sees the loss of its lease
// too.
func TestFleetSeesALostLeaseWhenATurnIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		var mu sync.Mutex
		causes := make(map[string]error)
		w.inside = func(ctx context.Context, d *event.Delivery) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			causes[d.MemberID()] = context.Cause(ctx)
			return ctx.Err()
		}
		l := &shaky{MemoryLeaser: offline.NewMemoryLeaser()}
		f := w.fleet(offline.WithLeaser(l), offline.WithTurns(4), offline.WithGrace(10*time.Minute), offline.WithHandlerTimeout(time.Hour))
		w.add(f, w.ids...)
		w.change(w.ids[0], 1)
		w.change(w.ids[1], 1)
		stop := running(t, f)
		pass(t, 10*time.Second)
		require.Equal(t, 2, f.Stats().Running)
		l.down.Store(true)
		pass(t, inTime)
		mu.Lock()
		require.Len(t, causes, 2)
		for _, cause := range causes {
			require.ErrorIs(t, cause, offline.ErrLeaseLost)
		}
		mu.Unlock()
		stop()
	})
}

// A process that cannot reach the store of the leases is replaced by another. The two never handle
// one object at a time.
func TestFleetsDoNotOverlapWhenTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		var mu sync.Mutex
		inside, most, ran := 0, 0, 0
		w.inside = func(ctx context.Context, _ *event.Delivery) error {
			count := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				inside += n
				most, ran = max(most, inside), max(ran, ran+n)
			}
			count(1)
			defer count(-1)
			select {
			case <-time.After(40 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		l := offline.NewMemoryLeaser()
		mine := &shaky{MemoryLeaser: l}
		a := w.fleet(offline.WithLeaser(mine), offline.WithGrace(time.Minute))
		w.add(a, w.ids...)
		stopA := running(t, a)
		pass(t, 10*time.Second)
		w.change(w.ids[0], 1)
		a.Wake(w.ids[0])
		pass(t, time.Second)
		mine.down.Store(true)
		var stopping sync.WaitGroup
		stopping.Go(stopA)
		b := w.fleet(offline.WithLeaser(l))
		w.add(b, w.ids...)
		stopB := running(t, b)
		pass(t, 2*time.Minute)
		mu.Lock()
		require.Equal(t, 1, most)
		require.Equal(t, 2, ran, "each had its turn")
		mu.Unlock()
		require.Equal(t, []string{"1"}, w.deals(w.ids[0]))
		stopping.Wait()
		stopB()
	})
}

// deaf is a leaser whose calls hang and ignore their contexts while on is set.
type deaf struct {
	*offline.MemoryLeaser
	hangs atomic.Bool
	free  chan struct{}
}

func (d *deaf) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if d.hangs.Load() {
		<-d.free
		return nil, errors.New("at last")
	}
	return d.MemoryLeaser.Acquire(ctx, owner, ttl, names...)
}

// A call of the leaser that hangs and ignores its context delays neither the end of handlers nor
// that of Run.
func TestLeaserThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	for name, build := range builders() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &deaf{MemoryLeaser: offline.NewMemoryLeaser(), free: make(chan struct{})}
				b := newBlocker()
				stop := start(t, build(t, b.HandleEvent, noWait, offline.WithLeaser(l), offline.WithHandlerTimeout(time.Hour)))
				<-b.in
				l.hangs.Store(true)
				hung := time.Now()
				<-b.out
				require.ErrorIs(t, b.cause, offline.ErrLeaseLost)
				require.LessOrEqual(t, b.ended.Sub(hung), inTime)
				pass(t, time.Minute)
				began := time.Now()
				stop()
				require.LessOrEqual(t, time.Since(began), ttl)
				close(l.free)
			})
		})
	}
}

// The machine sleeps, which only the wall clock sees. The handler ends soon after, and the work
// goes on under a new lease. A clock that jumps and goes back when a portal is due forgets no
// portal.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprint("and goes back ", back), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, b := newWorld(t, 2), newBlocker()
				w.inside = func(ctx context.Context, d *event.Delivery) error {
					if d.MemberID() == w.ids[0] {
						return b.HandleEvent(ctx, d)
					}
					return nil
				}
				var ahead atomic.Int64
				wall := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
				f := w.fleet(offline.WithLeaser(offline.NewMemoryLeaser()), offline.WithWallClock(wall), offline.WithHandlerTimeout(time.Hour))
				w.add(f, w.ids...)
				stop := running(t, f)
				pass(t, time.Minute)
				w.change(w.ids[0], 1)
				f.Wake(w.ids[0])
				<-b.in

				w.change(w.ids[1], 1)
				jumped := time.Now()
				ahead.Store(int64(time.Hour))
				f.Wake(w.ids[1])
				if back {
					ahead.Store(0)
				} else {
					<-b.out
					require.ErrorIs(t, b.cause, offline.ErrLeaseLost)
					require.LessOrEqual(t, b.ended.Sub(jumped), step)
				}
				pass(t, 3*step)
				require.Equal(t, []string{"1"}, w.deals(w.ids[1]))
				pass(t, time.Minute)
				require.Equal(t, 256, f.Stats().Shards)
				stop()
			})
		})
	}
}

func TestConsumerSleepsWithItsMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, b := newFixture(t), newBlocker()
		var ahead atomic.Int64
		wall := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		c := newConsumer(
			t,
			f.api,
			b.HandleEvent,
			offline.WithLeaser(offline.NewMemoryLeaser()),
			offline.WithWallClock(wall),
			offline.WithHandlerTimeout(time.Hour),
		)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		f.change("UPDATE", 1)
		<-b.in
		jumped := time.Now()
		ahead.Store(int64(time.Hour))
		<-b.out
		require.ErrorIs(t, b.cause, offline.ErrLeaseLost)
		require.LessOrEqual(t, b.ended.Sub(jumped), step)
		f.change("UPDATE", 1)
		b.once.Do(func() { t.Error("it ran before") })
		stop()
		require.NoError(t, <-ended)
	})
}

// A consumer looks at its lease before it asks the portal, because the alarm may not have gone off
// yet when the machine wakes up.
func TestConsumerThatSleptAsksForItsLeaseFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var ahead atomic.Int64
		wall := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		c := newConsumer(t, f.api, new(journal).HandleEvent, offline.WithLeaser(offline.NewMemoryLeaser()), offline.WithWallClock(wall),
			offline.WithInterval(time.Hour, time.Hour))
		stop := start(t, c.Run)
		pass(t, time.Minute)
		requests := f.Requests().REST
		ahead.Store(int64(time.Hour))
		c.Wake()
		pass(t, time.Millisecond)
		require.Equal(t, requests, f.Requests().REST)
		pass(t, 2*step)
		require.Greater(t, f.Requests().REST, requests)
		stop()
	})
}

// A fleet that stops hands over at once what is at rest, while a handler uses its grace period.
func TestFleetHandsOverWhileItStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		free := make(chan struct{})
		w.inside = func(context.Context, *event.Delivery) error {
			<-free
			return nil
		}
		l := offline.NewMemoryLeaser()
		a, b := w.fleet(offline.WithLeaser(l), offline.WithGrace(time.Hour)), w.fleet(offline.WithLeaser(l))
		w.add(a, w.ids...)
		w.add(b, w.ids...)
		stopA := running(t, a)
		pass(t, 10*time.Second)
		w.change(w.ids[0], 1)
		a.Wake(w.ids[0])
		pass(t, time.Second)
		stopB := running(t, b)
		var stopping sync.WaitGroup
		stopping.Go(stopA)
		pass(t, 2*step)
		require.Equal(t, []int{1, 255}, []int{a.Stats().Shards, b.Stats().Shards})
		pass(t, 10*time.Minute)
		require.Equal(t, []int{1, 255}, []int{a.Stats().Shards, b.Stats().Shards}, "the lease is renewed while the handler runs")
		close(free)
		stopping.Wait()
		pass(t, 2*step)
		require.Equal(t, []int{0, 256}, []int{a.Stats().Shards, b.Stats().Shards})
		require.Equal(t, []string{"1"}, w.deals(w.ids[0]), "once")
		stopB()
		w.empty(w.ids...)
	})
}

// newWorldOfAShard returns a world whose portals are all of one shard, one that passes to the
// second fleet that comes.
func newWorldOfAShard(t *testing.T, portals int) *world {
	t.Helper()
	w := newWorld(t, 0)
	for i := 0; len(w.ids) < portals; i++ {
		if id := fmt.Sprintf("%032x", i); offline.ShardOf(id) == 255 {
			w.install(eventtest.WithMemberID(id))
		}
	}
	return w
}

// A handler that ignores its context keeps its portal from passing to another process. The other
// portals of the shard are worked all the same.
func TestStuckHandlerHoldsUpItsPortalOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOfAShard(t, 2)
		free := make(chan struct{})
		w.inside = func(_ context.Context, d *event.Delivery) error {
			if d.MemberID() == w.ids[0] {
				<-free
			}
			return nil
		}
		l := offline.NewMemoryLeaser()
		join := func() (*offline.Fleet, func()) {
			f := w.fleet(offline.WithLeaser(l), offline.WithGrace(10*time.Second))
			w.add(f, w.ids...)
			return f, running(t, f)
		}
		a, stopA := join()
		pass(t, 10*time.Second)
		w.change(w.ids[0], 1)
		a.Wake(w.ids[0])
		pass(t, time.Second)
		b, stopB := join()
		pass(t, 4*step)
		require.Equal(t, 128, b.Stats().Shards+1, "one shard is about to pass")
		w.change(w.ids[1], 1)
		a.Wake(w.ids[1]) // which no process works at the moment
		pass(t, time.Minute)
		require.Equal(t, []string{"1"}, w.deals(w.ids[1]))
		require.Equal(t, []int{128, 128}, []int{a.Stats().Shards, b.Stats().Shards}, "another shard passed instead")
		require.Equal(t, 1, a.Stats().Stuck)
		for deal := 2; deal <= 10; deal++ {
			began := time.Now()
			w.change(w.ids[1], deal)
			b.Wake(w.ids[1])
			pass(t, 5*time.Minute)
			require.Less(t, w.when(w.ids[1], deal, began), step+time.Second)
		}

		close(free)
		pass(t, time.Minute)
		require.Equal(t, []string{"1"}, w.deals(w.ids[0]))
		require.Zero(t, a.Stats().Stuck)
		c, stopC := join()
		pass(t, time.Minute)
		require.Zero(t, a.Stats().Owned, "the shard may pass now")
		require.Equal(t, 256, a.Stats().Shards+b.Stats().Shards+c.Stats().Shards)
		require.Equal(t, 2, a.Stats().Owned+b.Stats().Owned+c.Stats().Owned)
		stopA()
		stopB()
		stopC()
		w.empty(w.ids...)
	})
}

// A portal that is woken while it passes to another process is woken there.
func TestWakeDuringAHandover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOfAShard(t, 2)
		free := make(chan struct{})
		w.inside = func(_ context.Context, d *event.Delivery) error {
			if d.MemberID() == w.ids[0] {
				<-free
			}
			return nil
		}
		l := offline.NewMemoryLeaser()
		join := func() (*offline.Fleet, func()) {
			f := w.fleet(offline.WithLeaser(l), offline.WithGrace(10*time.Minute))
			w.add(f, w.ids...)
			return f, running(t, f)
		}
		a, stopA := join()
		pass(t, 10*time.Second)
		w.change(w.ids[0], 1)
		a.Wake(w.ids[0])
		pass(t, time.Second)
		b, stopB := join()
		pass(t, 4*step)
		require.Equal(t, 127, b.Stats().Shards)

		w.change(w.ids[1], 1)
		a.Wake(w.ids[1])
		pass(t, time.Second)
		held, err := l.Held(t.Context(), "")
		require.NoError(t, err)
		notes := 0
		for name := range held {
			if strings.Contains(name, "/wake/"+w.ids[1]+"/") {
				notes++
			}
		}
		require.Equal(t, 1, notes)
		close(free)
		pass(t, 2*step)
		require.Equal(t, []string{"1"}, w.deals(w.ids[1]))
		require.Equal(t, 128, b.Stats().Shards)
		stopA()
		stopB()
	})
}

// A consumer that is woken passes that on to the process that holds the lease.
func TestConsumersPassWakeUpsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		l := offline.NewMemoryLeaser()
		var handled atomic.Pointer[time.Time]
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		var consumers []*offline.Consumer
		for range 2 {
			c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
				now := time.Now()
				handled.Store(&now)
				return nil
			}, offline.WithLeaser(l), offline.WithInterval(time.Hour, time.Hour))
			consumers = append(consumers, c)
			c.Wake() // before it runs
			go func() { ended <- c.Run(ctx) }()
			pass(t, time.Second)
		}
		for range 10 {
			for _, c := range consumers {
				handled.Store(nil)
				f.change("UPDATE", 1)
				changed := time.Now()
				c.Wake()
				pass(t, step+time.Second)
				require.NotNil(t, handled.Load())
				require.LessOrEqual(t, handled.Load().Sub(changed), step+time.Second)
				pass(t, 7*time.Second)
			}
		}
		held, err := l.Held(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, held, 1, "the notes do not stay")
		requests := f.Requests().REST
		pass(t, 5*step)
		require.Equal(t, requests, f.Requests().REST, "a note wakes once")
		stop()
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
	})
}
