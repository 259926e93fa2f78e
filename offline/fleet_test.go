package offline_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

// world is some portals with one application, on a network in memory, and what the fleets do there.
type world struct {
	t       *testing.T
	network *eventtest.Network
	api     *rest.Clients
	ids     []string // of the portals
	all     map[string]*eventtest.Portal
	apps    map[string]*eventtest.Application

	mu      sync.Mutex
	grants  map[string]eventtest.Grant
	handled map[string][]string // by portal: the numbers of the deals
	at      map[string]time.Time
	before  func(ctx context.Context, memberID string) error   // each call
	inside  func(ctx context.Context, d *event.Delivery) error // each handler
	calls   map[string]int                                     // under way
}

func newWorld(t *testing.T, portals int, opts ...eventtest.Option) *world {
	t.Helper()
	w := &world{
		t: t, all: make(map[string]*eventtest.Portal), apps: make(map[string]*eventtest.Application), grants: make(map[string]eventtest.Grant),
		handled: make(map[string][]string), at: make(map[string]time.Time), calls: make(map[string]int),
	}
	n := eventtest.NewNetwork()
	api, err := rest.NewClients(w, rest.WithHTTPClient(n.Client()), rest.WithRetries(0))
	require.NoError(t, err)
	w.api = api
	w.network = n
	for range portals {
		w.install(opts...)
	}
	return w
}

// install adds a portal.
func (w *world) install(opts ...eventtest.Option) {
	w.t.Helper()
	p := eventtest.NewPortal(w.t, append([]eventtest.Option{eventtest.WithNetwork(w.network)}, opts...)...)
	addUsers(p)
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm"}})
	require.NoError(w.t, err)
	require.NoError(w.t, app.Install(w.t.Context()))
	id := p.MemberID()
	w.ids, w.all[id], w.apps[id] = append(w.ids, id), p, app
	w.grants[id], err = app.Grant(eventtest.AdminID)
	require.NoError(w.t, err)
	require.NoError(w.t, event.NewAPI(w.api.Portal(id)).Bind(w.t.Context(), event.Binding{Event: "ONCRMDEALUPDATE", Offline: true}))
}

// Access makes the world its clients' credentials.
func (w *world) Access(_ context.Context, memberID string) (endpoint, token string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.grants[memberID]
	return g.ClientEndpoint, string(g.AccessToken), nil
}

// Renew fetches another token.
func (w *world) Renew(ctx context.Context, memberID, _ string) (endpoint, token string, err error) {
	g, err := w.apps[memberID].Grant(eventtest.AdminID)
	if err != nil {
		return "", "", err
	}
	w.mu.Lock()
	w.grants[memberID] = g
	w.mu.Unlock()
	return w.Access(ctx, memberID)
}

// change changes deals of a portal.
func (w *world) change(memberID string, deals ...int) {
	w.t.Helper()
	for _, deal := range deals {
		require.NoError(w.t, w.all[memberID].Raise("ONCRMDEALUPDATE", map[string]any{"FIELDS": map[string]any{"ID": deal}}, 7))
	}
}

// caller is what fleets call a portal with. It fails the test if two call one portal at once.
func (w *world) caller(memberID string) event.Caller {
	return callerOf(func(ctx context.Context, method string, params, result any) error {
		w.mu.Lock()
		w.calls[memberID]++
		if w.calls[memberID] > 1 {
			w.t.Errorf("%s is called twice at the same time", memberID)
		}
		before := w.before
		w.mu.Unlock()
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.calls[memberID]--
		}()
		if before != nil {
			if err := before(ctx, memberID); err != nil {
				return err
			}
		}
		return w.api.Portal(memberID).Call(ctx, method, params, result)
	})
}

type callerOf func(ctx context.Context, method string, params, result any) error

func (c callerOf) Call(ctx context.Context, method string, params, result any) error {
	return c(ctx, method, params, result)
}

// HandleEvent notes the deal.
func (w *world) HandleEvent(ctx context.Context, d *event.Delivery) error {
	w.mu.Lock()
	inside := w.inside
	w.mu.Unlock()
	if inside != nil {
		if err := inside(ctx, d); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id := d.MemberID()
	w.handled[id] = append(w.handled[id], d.Entity().ID)
	w.at[id+"/"+d.Entity().ID] = time.Now()
	return nil
}

// deals returns the deals of a portal that were handled, sorted.
func (w *world) deals(memberID string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(slices.Values(w.handled[memberID]))
}

// when returns how long after start a deal was handled last.
func (w *world) when(memberID string, deal int, start time.Time) time.Duration {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.at[fmt.Sprintf("%s/%d", memberID, deal)]
	require.True(w.t, ok, "deal %d was not handled", deal)
	return at.Sub(start)
}

func (w *world) fleet(opts ...offline.FleetOption) *offline.Fleet {
	w.t.Helper()
	f, err := offline.NewFleet(w.caller, w, append([]offline.FleetOption{silent(), offline.WithClientID("app.1")}, opts...)...)
	require.NoError(w.t, err)
	return f
}

// add adds portals.
func (w *world) add(f *offline.Fleet, ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		require.NoError(w.t, f.Add(id))
	}
}

// running runs a fleet until the function is called that it returns.
func running(t *testing.T, f *offline.Fleet) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, <-ended)
	}
}

// empty checks that nothing is left in the queue of a portal.
func (w *world) empty(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		require.Empty(w.t, w.all[id].OfflineRows(), "the queue of a portal")
	}
}

func TestFleetWorksEveryPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5)
		f := w.fleet()
		w.add(f, w.ids...)
		require.NoError(t, f.Add(w.ids[0]), "a portal may be added again")
		require.ErrorIs(t, f.Add(""), offline.ErrMemberID)
		for i, id := range w.ids {
			w.change(id, 10*i+1, 10*i+2)
		}
		stop := running(t, f)
		pass(t, 5*time.Second)
		for i, id := range w.ids {
			require.Equal(t, []string{strconv.Itoa(10*i + 1), strconv.Itoa(10*i + 2)}, w.deals(id))
		}
		w.empty(w.ids...)
		require.ErrorIs(t, f.Run(t.Context()), offline.ErrRunning)
		stats := f.Stats()
		require.Equal(t, 5, stats.Portals)
		require.Equal(t, 5, stats.Owned)
		require.EqualValues(t, 10, stats.Handled)
		require.EqualValues(t, 10, stats.Lag.Count())
		require.Zero(t, stats.Failures)
		require.ElementsMatch(t, w.ids, f.MemberIDs())
		portal, known := f.Portal(w.ids[0])
		require.True(t, known)
		require.EqualValues(t, 2, portal.Cleared)
		require.WithinRange(t, portal.Next, time.Now(), time.Now().Add(offline.DefaultFleetMaxInterval))
		stop()

		w.change(w.ids[0], 7)
		stop = running(t, f)
		pass(t, 5*time.Second)
		stop()
		require.Contains(t, w.deals(w.ids[0]), "7", "a fleet runs again")
		w.empty(w.ids...)
	})
}

// A record whose object is gone is as finished for the fleet as it is for its portal.
func TestFleetCountsWhatIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.inside = func(context.Context, *event.Delivery) error { return event.ErrGone }
		f := w.fleet()
		w.add(f, w.ids...)
		w.change(w.ids[0], 1, 2)
		stop := running(t, f)
		pass(t, time.Minute)
		stop()
		w.empty(w.ids...)
		portal, _ := f.Portal(w.ids[0])
		s := f.Stats()
		require.Equal(t, uint64(2), portal.Handled)
		require.Equal(t, uint64(2), s.Handled)
		require.EqualValues(t, 2, s.Lag.Count())
	})
}

// day is an interval of which half has to pass before a fleet asks an empty queue again.
const day = 24 * time.Hour

func TestFleetWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		f := w.fleet(offline.WithInterval(day, day))
		w.add(f, w.ids...)
		defer running(t, f)()
		pass(t, time.Hour)
		start := time.Now()
		w.change(w.ids[0], 1)
		w.change(w.ids[1], 1)
		f.Wake(w.ids[0])
		f.Wake("no such portal")
		pass(t, day)
		require.Less(t, w.when(w.ids[0], 1, start), time.Second)
		require.GreaterOrEqual(t, w.when(w.ids[1], 1, start), time.Second, "without a wake-up, by its interval")
		require.ElementsMatch(t, w.ids, f.MemberIDs())
	})
}

// A portal that is woken while its turn is under way gets another one.
func TestFleetWakesDuringATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		id := w.ids[0]
		f := w.fleet()
		w.add(f, id)
		var once sync.Once
		w.inside = func(context.Context, *event.Delivery) error {
			once.Do(func() {
				w.change(id, 2)
				f.Wake(id)
			})
			return nil
		}
		w.change(id, 1)
		start := time.Now()
		defer running(t, f)()
		pass(t, time.Minute)
		require.Less(t, w.when(id, 2, start), time.Second)
	})
}

// faults is what is wrong with most portals of a world.
type faults struct {
	before func(ctx context.Context, memberID string) error
	inside func(ctx context.Context, d *event.Delivery) error
}

// If many portals fail, in any way, the others are worked as if these were not there.
func TestFleetKeepsPortalsApart(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, wrong := range map[string]faults{
		"portals that never answer": {before: func(ctx context.Context, _ string) error { return hang(ctx) }},
		"portals that answer late": {before: func(ctx context.Context, _ string) error {
			select {
			case <-time.After(40 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}},
		"portals that fail":        {before: func(context.Context, string) error { return refusal{code: "INTERNAL_SERVER_ERROR"} }},
		"portals that refuse":      {before: func(context.Context, string) error { return refusal{code: "ACCESS_DENIED"} }},
		"callers that panic":       {before: func(context.Context, string) error { panic("caller") }},
		"callers that end it all":  {before: func(context.Context, string) error { goexit(); return nil }},
		"handlers that hang":       {inside: func(ctx context.Context, _ *event.Delivery) error { return hang(ctx) }},
		"handlers that fail":       {inside: func(context.Context, *event.Delivery) error { return errors.New("no") }},
		"handlers that end it all": {inside: func(context.Context, *event.Delivery) error { goexit(); return nil }},
		"handlers that panic":      {inside: func(context.Context, *event.Delivery) error { panic("handler") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const bad, good = 24, 4
				w := newWorld(t, bad+good)
				faulty := make(map[string]bool)
				for _, id := range w.ids[:bad] {
					faulty[id] = true
					w.change(id, 1, 2, 3)
				}
				w.before = func(ctx context.Context, memberID string) error {
					if wrong.before != nil && faulty[memberID] {
						return wrong.before(ctx, memberID)
					}
					return nil
				}
				w.inside = func(ctx context.Context, d *event.Delivery) error {
					if wrong.inside != nil && faulty[d.MemberID()] {
						return wrong.inside(ctx, d)
					}
					return nil
				}
				f := w.fleet(offline.WithTurns(8), offline.WithHandlers(8))
				w.add(f, w.ids...)
				stop := running(t, f)
				// Each of them holds up to five seconds of an ordinary place, once.
				pass(t, time.Minute)
				for deal := 1; deal <= 60; deal++ {
					for _, id := range w.ids[bad:] {
						start := time.Now()
						w.change(id, deal)
						f.Wake(id)
						pass(t, time.Second)
						require.Less(t, w.when(id, deal, start), time.Second)
					}
				}
				w.empty(w.ids[bad:]...)
				require.Positive(t, f.Stats().Turns)
				stop()
			})
		})
	}
}

// Handlers that ignore their contexts hold up their own portal, and not for good those whose turns
// take long too.
func TestFleetStuckHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		release := make(chan struct{})
		slow := w.ids[5]
		w.inside = func(_ context.Context, d *event.Delivery) error {
			if d.MemberID() == slow {
				<-time.After(7 * time.Second)
				return nil
			}
			<-release
			return nil
		}
		f := w.fleet(offline.WithTurns(4), offline.WithHandlers(4))
		w.add(f, w.ids...)
		for _, id := range w.ids {
			w.change(id, 1, 2, 3)
		}
		stop := running(t, f)
		pass(t, 10*time.Minute)
		require.Equal(t, 15, f.Stats().Stuck, "handlers")
		for deal := 4; deal <= 10; deal++ {
			start := time.Now()
			w.change(slow, deal)
			f.Wake(slow)
			pass(t, 10*time.Second)
			require.Less(t, w.when(slow, deal, start), 10*time.Second)
		}
		close(release)
		pass(t, time.Minute)
		require.Zero(t, f.Stats().Stuck)
		require.Zero(t, f.Stats().Running)
		pass(t, 5*time.Minute)
		w.empty(w.ids...)
		stop()
	})
}

// What was wrong gets right again, and what waited is handled.
func TestFleetTriesPortalsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		f := w.fleet()
		w.add(f, w.ids...)
		w.change(w.ids[0], 1)
		var broken atomic.Bool
		broken.Store(true)
		w.before = func(_ context.Context, memberID string) error {
			if broken.Load() && memberID == w.ids[0] {
				return refusal{code: "INTERNAL_SERVER_ERROR"}
			}
			return nil
		}
		defer running(t, f)()
		pass(t, time.Hour)
		stats := f.Stats()
		require.Equal(t, 1, stats.Failing)
		require.Zero(t, stats.Refused)
		require.Greater(t, stats.Failures, uint64(10), "each five minutes at least")
		require.Less(t, stats.Failures, uint64(40), "and not much more often")
		portal, _ := f.Portal(w.ids[0])
		require.EqualValues(t, stats.Failures, portal.Failures)
		require.ErrorContains(t, portal.Err, "INTERNAL_SERVER_ERROR")
		broken.Store(false)
		pass(t, 5*time.Minute)
		require.Equal(t, []string{"1"}, w.deals(w.ids[0]))
		require.Zero(t, f.Stats().Failing)
		portal, _ = f.Portal(w.ids[0])
		require.NoError(t, portal.Err)
	})
}

// A portal that refuses for good is reported once, tried each half hour, and at once when it is
// added again.
func TestFleetRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		refused := make(map[string]int)
		var mu sync.Mutex
		f := w.fleet(offline.WithOnRefused(func(memberID string, err error) {
			mu.Lock()
			defer mu.Unlock()
			require.ErrorIs(t, err, offline.ErrAccessDenied)
			refused[memberID]++
		}))
		w.add(f, w.ids...)
		var calls, refusing atomic.Int64
		refusing.Store(1)
		w.before = func(_ context.Context, memberID string) error {
			if memberID != w.ids[0] {
				return nil
			}
			calls.Add(1)
			if refusing.Load() == 1 {
				return refusal{code: "ACCESS_DENIED"}
			}
			return nil
		}
		defer running(t, f)()
		w.change(w.ids[0], 1)
		pass(t, 2*time.Hour)
		n := calls.Load()
		require.GreaterOrEqual(t, n, int64(2*3))
		require.Less(t, n, int64(2*10), "a refused batch is tried in single calls too")
		require.Equal(t, map[string]int{w.ids[0]: 1}, refused)
		require.Equal(t, 1, f.Stats().Refused)
		s, _ := f.Portal(w.ids[0])
		pass(t, time.Until(s.Next)+time.Second) // no turn of its own is near
		n = calls.Load()
		f.Wake(w.ids[0])
		pass(t, time.Second)
		require.Equal(t, n, calls.Load(), "a wake-up does not mend a refusal")
		for range 10 { // as a program does that compares with its store each minute
			require.NoError(t, f.Add(w.ids[0]))
			pass(t, time.Minute)
		}
		require.Greater(t, calls.Load(), n)
		require.Equal(t, map[string]int{w.ids[0]: 1}, refused, "the same refusal is reported once")

		refusing.Store(0)
		require.NoError(t, f.Add(w.ids[0]))
		pass(t, 35*time.Second)
		require.Equal(t, []string{"1"}, w.deals(w.ids[0]))
		require.Zero(t, f.Stats().Refused)
		refusing.Store(1)
		pass(t, time.Hour)
		require.Equal(t, 2, refused[w.ids[0]], "a new refusal is reported anew")
	})
}

func TestFleetWithoutCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reported error
		f, err := offline.NewFleet(
			func(string) event.Caller { return nil },
			new(world),
			silent(),
			offline.WithOnRefused(func(_ string, err error) { reported = err }),
		)
		require.NoError(t, err)
		require.NoError(t, f.Add("m"))
		stop := running(t, f)
		pass(t, time.Minute)
		stop()
		require.ErrorContains(t, reported, "no caller for the portal")
	})
}

// A large backlog is worked off one reservation at a time, and others come between.
func TestFleetIsFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 12, eventtest.WithQuirks(func(m *eventtest.Quirks) { m.Latency = 100 * time.Millisecond }))
		f := w.fleet(offline.WithTurns(4), offline.WithBatchSize(10))
		for deal := range 300 {
			for _, id := range w.ids[:10] {
				w.change(id, deal+1)
			}
		}
		w.add(f, w.ids...)
		stop := running(t, f)
		pass(t, 2*time.Second) // the first turns
		for deal := 1; deal <= 20; deal++ {
			for _, id := range w.ids[10:] {
				start := time.Now()
				w.change(id, deal)
				f.Wake(id)
				pass(t, 2*time.Second)
				require.Less(t, w.when(id, deal, start), 2*time.Second, "no more than one turn of each of the others comes before")
			}
		}
		least, most := 300, 0
		for _, id := range w.ids[:10] {
			least, most = min(least, len(w.deals(id))), max(most, len(w.deals(id)))
		}
		require.LessOrEqual(t, most-least, 20, "large backlogs take turns")
		pass(t, time.Hour)
		stop()
		w.empty(w.ids...)
	})
}

// Portals allow two requests a second. A fleet, whose clients keep to that, is never refused, and
// what one portal waits for delays no other.
func TestFleetKeepsToTheLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, eventtest.WithQuirks(func(m *eventtest.Quirks) {
			m.RatePerSecond, m.RateBurst, m.Latency = rest.DefaultRate, rest.DefaultBurst, 100*time.Millisecond
		}))
		quiet := w.ids[3]
		w.inside = func(ctx context.Context, d *event.Delivery) error { // fetches by itself, the most that a handler can do wrong
			return w.api.Portal(d.MemberID()).Call(ctx, "app.info", nil, nil)
		}
		f := w.fleet(offline.WithTurns(8), offline.WithHandlers(200), offline.WithHandlerTimeout(10*time.Minute))
		w.add(f, w.ids...)
		for _, id := range w.ids[:3] {
			for deal := 1; deal <= 300; deal++ {
				w.change(id, deal)
			}
		}
		stop := running(t, f)
		for deal := 1; deal <= 20; deal++ {
			pass(t, 10*time.Second)
			start := time.Now()
			w.change(quiet, deal)
			f.Wake(quiet)
			pass(t, time.Second)
			require.Less(t, w.when(quiet, deal, start), time.Second)
		}
		pass(t, 5*time.Minute)
		stop()
		w.empty(w.ids...)
		for _, id := range w.ids {
			for _, call := range w.all[id].Calls() {
				require.NotEqual(t, "QUERY_LIMIT_EXCEEDED", call.ErrorCode)
			}
		}
		require.Zero(t, f.Stats().Failures)
	})
}

func TestFleetRemove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		id := w.ids[0]
		f := w.fleet(offline.WithGrace(time.Second))
		w.add(f, id)
		f.Remove("no such portal")
		started := make(chan struct{}, 1)
		var cause error
		w.inside = func(ctx context.Context, _ *event.Delivery) error {
			started <- struct{}{}
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		}
		w.change(id, 1)
		stop := running(t, f)
		<-started
		f.Remove(id)
		require.Empty(t, f.MemberIDs())
		_, known := f.Portal(id)
		require.False(t, known)
		require.Zero(t, f.Stats().Portals)
		f.Wake(id)
		pass(t, time.Hour)
		require.ErrorIs(t, cause, offline.ErrStopped)
		require.Len(t, w.all[id].OfflineRows(), 1, "what the turn left is reserved")

		w.inside = nil
		w.add(f, id)
		pass(t, 5*time.Second)
		require.Equal(t, []string{"1"}, w.deals(id), "a portal may come back, and its reservation is found")
		f.Remove(id)
		w.change(id, 2)
		pass(t, time.Hour)
		stop()
		require.Equal(t, []string{"1"}, w.deals(id), "a removed portal is left alone")
	})
}

// A portal that is added again while its last turn goes on is worked when that has ended.
func TestFleetAddsAgainDuringATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		id := w.ids[0]
		f := w.fleet()
		w.add(f, id)
		var once sync.Once
		w.inside = func(context.Context, *event.Delivery) error {
			once.Do(func() {
				f.Remove(id)
				w.add(f, id)
			})
			return nil
		}
		w.change(id, 1, 2, 3)
		stop := running(t, f)
		pass(t, time.Minute)
		require.Equal(t, []string{id}, f.MemberIDs())
		w.change(id, 4)
		f.Wake(id)
		pass(t, time.Second)
		stop()
		require.Subset(t, w.deals(id), []string{"1", "2", "3", "4"})
		w.empty(id)
	})
}

// A turn that ends because the portal was removed is no failure of the portal, if it is added
// again.
func TestFleetAddsAgainDuringACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		id := w.ids[0]
		var calls int
		w.before = func(ctx context.Context, _ string) error {
			if calls++; calls > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		w.change(id, 1)
		f := w.fleet()
		w.add(f, id)
		stop := running(t, f)
		pass(t, time.Second)
		f.Remove(id)
		w.add(f, id)
		pass(t, time.Second)
		p, known := f.Portal(id)
		require.True(t, known)
		require.NoError(t, p.Err)
		require.Zero(t, p.Failures)
		require.Zero(t, f.Stats().Failures)
		require.Equal(t, []string{"1"}, w.deals(id))
		stop()
		w.empty(id)
	})
}

// Portals are added, removed and woken from everywhere while a fleet runs; never are two turns of
// one under way, and nothing is lost.
func TestFleetRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8)
	f := w.fleet(offline.WithTurns(4), offline.WithInterval(offline.MinInterval, offline.MinInterval))
	stop := running(t, f)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // a test
			for deal := 1; deal <= 200; deal++ {
				id := w.ids[random.IntN(len(w.ids))]
				switch random.IntN(4) {
				case 0:
					f.Remove(id)
				case 1:
					_ = f.Add(id)
				case 2:
					f.Wake(id)
				default:
					w.change(id, deal)
				}
				_ = f.Stats()
			}
		})
	}
	all.Wait()
	w.add(f, w.ids...)
	for _, id := range w.ids {
		w.change(id, 1000)
	}
	require.Eventually(t, func() bool {
		for _, id := range w.ids {
			if len(w.all[id].OfflineRows()) > 0 {
				return false
			}
		}
		return true
	}, 30*time.Second, 10*time.Millisecond)
	stop()
	for _, id := range w.ids {
		require.Contains(t, w.deals(id), "1000")
	}
}

// The first turns of very many portals do not come at once, and neither do they take long to come.
func TestFleetSpreadsFirstTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		called := make(map[string]bool)
		caller := func(memberID string) event.Caller {
			mu.Lock()
			defer mu.Unlock()
			called[memberID] = true
			return callerOf(func(context.Context, string, any, any) error { return refusal{code: "ACCESS_DENIED"} })
		}
		f, err := offline.NewFleet(caller, new(world), silent(), offline.WithTurns(8))
		require.NoError(t, err)
		for i := range 960 {
			require.NoError(t, f.Add(strconv.Itoa(i)))
		}
		stop := running(t, f)
		pass(t, 10*time.Second)
		mu.Lock()
		require.InDelta(t, 160, len(called), 5, "16 portals a second")
		mu.Unlock()
		pass(t, time.Minute)
		stop()
		require.Len(t, called, 960)
	})
}

func TestFleetEndsCleanly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		f := w.fleet()
		w.add(f, w.ids...)
		slow := make(chan struct{})
		w.inside = func(ctx context.Context, d *event.Delivery) error {
			if d.Entity().ID == "2" {
				close(slow)
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		w.change(w.ids[0], 1, 2)
		stop := running(t, f)
		<-slow
		synctest.Wait() // until the other handler has ended
		stop()
		left := w.all[w.ids[0]].OfflineRows()
		require.Len(t, left, 1, "what was finished is cleared, what was not stays reserved")
		require.NotEmpty(t, left[0].ProcessID)
		require.Zero(t, f.Stats().Busy)
		require.Zero(t, f.Stats().Running)
	})
}

// Portals whose plan cannot reserve records are worked through spools, each its own.
func TestFleetSpools(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, eventtest.WithQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
		dir := t.TempDir()
		for round := range 3 {
			f := w.fleet(offline.WithSpool(dir))
			w.add(f, w.ids...)
			stop := running(t, f)
			for i, id := range w.ids {
				w.change(id, 10*round+i+1)
				f.Wake(id)
			}
			pass(t, 10*time.Second)
			stop() // which gives the spools back
			for i, id := range w.ids {
				require.Contains(t, w.deals(id), strconv.Itoa(10*round+i+1))
			}
			w.empty(w.ids...)
			require.Zero(t, f.Stats().Refused)
		}
	})
}

func nothing(context.Context, string, any, any) error { return nil }
