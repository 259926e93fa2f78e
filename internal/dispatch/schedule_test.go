package dispatch

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// schedule is what happens to a dispatcher, and how its handlers behave.
type schedule struct {
	cfg     Config
	portals []portalSpec
	steps   []*step
}

type portalSpec struct {
	owned bool
	limit int
}

type stepKind uint8

const (
	stepEnqueue stepKind = iota
	stepDo
	stepAdd
	stepRemove
	stepBar
	stepStop
	stepCancel
	stepShutdown
)

type step struct {
	at       time.Duration
	kind     stepKind
	portal   int
	items    []*itemSpec
	fired    time.Time     // of a removal
	cutAfter time.Duration // of a Shutdown; 0 for never
}

type itemSpec struct {
	id       int
	object   string
	urgent   bool
	mergeKey string
	fired    time.Time
	cost     int64
	patience time.Duration
	begun    int
	max      int
	arrived  time.Duration
	calls    []callSpec
}

type callEnd uint8

const (
	endDone callEnd = iota
	endFails
	endAsks
	endDrops
	endUnhandled
	endPanics
	endExits
)

// callSpec is how a call of the handler goes.
type callSpec struct {
	lasts time.Duration
	end   callEnd
	asks  time.Duration
	deaf  bool          // it does not look at its context
	late  time.Duration // how long it goes on after its context ended
}

func (s *itemSpec) class() class {
	if s.urgent {
		return classUrgent
	}
	return classOrdinary
}

func (s *itemSpec) limit(cfg Config) int { return cmp.Or(s.max, cfg.MaxAttempts) }

func (s *itemSpec) firedBefore(other *itemSpec) bool {
	return !s.fired.IsZero() && !other.fired.IsZero() && s.fired.Before(other.fired)
}

// call returns the nth call.
func (s *itemSpec) call(n int) callSpec { return s.calls[min(n, len(s.calls))-1] }

// endOfCall returns when a call ends whose context ends at a time besides its deadline; it is
// negative for none.
func (it *modelItem) endOfCall(began, ended, timeout time.Duration) time.Duration {
	call := it.call(it.calls)
	end := began + timeout
	if ended >= 0 {
		end = min(end, max(ended, began))
	}
	if call.deaf || began+call.lasts < end {
		return began + call.lasts
	}
	return end + call.late
}

// epoch is when a bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// maker makes schedules. No two things in one happen at the same time, unless one causes the other.
type maker struct {
	*rand.Rand
	ids int
}

func (r *maker) upTo(d time.Duration) time.Duration { return 1 + time.Duration(r.Int64N(int64(d))) }

func (r *maker) one(in int) bool { return r.IntN(in) == 0 }

func newSchedule(seed uint64) *schedule {
	r := &maker{Rand: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // it must be repeatable
	workers, most := 1+r.IntN(5), 5
	if r.one(3) {
		workers, most = 6+r.IntN(7), 6 // so that a quarter is more than one
	}
	s := &schedule{cfg: Config{
		Workers: workers, Limit: 1 + r.IntN(min(workers, most)), SlowShare: 1 + r.IntN(workers), Overflow: 1 + r.IntN(2*workers),
		Urgent: 1 + r.IntN(2),
		Size:   int64(r.IntN(3) * (4 + r.IntN(20))), UrgentSize: int64(2 + r.IntN(6)), Timeout: 20 * time.Second,
		MaxAttempts: 1 + r.IntN(4), MaxWait: time.Duration(r.IntN(2)) * 3 * time.Second, Grace: 2 * time.Second,
		Backoff: func(n int) time.Duration { return time.Second << (2 * (n - 1)) },
		Closed:  ErrClosed, TimedOut: errors.New("timeout"), Logger: slog.New(slog.DiscardHandler),
	}}
	if r.one(4) {
		s.cfg.SlowShare = max(1, workers-1) // one worker for all others, if slow ones have theirs
	}
	for range 1 + r.IntN(4) {
		s.portals = append(s.portals, portalSpec{limit: s.cfg.Limit})
	}
	for range r.IntN(4) {
		s.portals = append(s.portals, portalSpec{owned: true, limit: 1 + r.IntN(min(workers, most))})
	}
	pace := []time.Duration{time.Millisecond, 100 * time.Millisecond, 3 * time.Second}[r.IntN(3)]
	var at time.Duration
	for range 8 + r.IntN(40) {
		at += r.upTo(pace)
		if r.one(12) {
			at += r.upTo(20 * time.Second)
		}
		s.steps = append(s.steps, r.steps(s, at)...)
	}
	end := &step{at: at + r.upTo(pace), kind: stepShutdown}
	if r.one(2) {
		end.cutAfter = r.upTo(10 * time.Second)
	}
	s.steps = append(s.steps, end)
	for range r.IntN(4) { // what comes too late
		s.steps = append(s.steps, r.steps(s, end.at+r.upTo(12*time.Second))...)
	}
	slices.SortStableFunc(s.steps, func(a, b *step) int { return cmp.Compare(a.at, b.at) })
	return s
}

func (r *maker) steps(s *schedule, at time.Duration) []*step {
	st := &step{at: at, portal: r.IntN(len(s.portals))}
	if s.portals[st.portal].owned {
		switch r.IntN(24) {
		case 0:
			st.kind = stepStop
		case 1:
			st.kind = stepBar
			return []*step{st, {at: at + r.upTo(3*time.Second), kind: stepStop, portal: st.portal}}
		case 2:
			st.kind = stepCancel
		case 3, 4, 5, 6, 7, 8: // a storm
			st.kind = stepAdd
			st.items = r.storm(at)
		default:
			st.kind = stepAdd
			for range 1 + r.IntN(4) {
				st.items = append(st.items, r.item(at))
			}
		}
		return []*step{st}
	}
	switch r.IntN(16) {
	case 0:
		st.kind = stepRemove
		if !r.one(3) {
			st.fired = r.fired()
		}
	case 1:
		st.kind = stepDo
		st.items = []*itemSpec{r.item(at)}
	case 2:
		st.items = r.storm(at)
	default:
		st.items = []*itemSpec{r.item(at)}
	}
	return []*step{st}
}

// storm returns items without lanes, which do not wait for room.
func (r *maker) storm(at time.Duration) []*itemSpec {
	items := make([]*itemSpec, 4+r.IntN(12))
	for i := range items {
		items[i] = r.item(at)
		items[i].object, items[i].urgent, items[i].patience = "", false, 0
	}
	return items
}

func (r *maker) fired() time.Time { return epoch.Add(time.Duration(r.IntN(20)) * time.Second) }

func (r *maker) item(at time.Duration) *itemSpec {
	r.ids++
	it := &itemSpec{id: r.ids, urgent: r.one(8), cost: 1, arrived: at + time.Duration(r.ids)}
	if !r.one(5) {
		it.object = fmt.Sprint("object ", r.IntN(3))
	}
	if r.one(3) {
		it.cost = int64(1 + r.IntN(12))
	}
	if r.one(2) {
		it.mergeKey = fmt.Sprint("event ", r.IntN(2))
	}
	if !r.one(4) {
		it.fired = r.fired()
	}
	if r.one(2) {
		it.patience = r.upTo(10 * time.Second)
	}
	if r.one(8) {
		it.begun = r.IntN(3)
	}
	if r.one(8) {
		it.max = 1 + r.IntN(3)
	}
	for range 1 + r.IntN(3) {
		it.calls = append(it.calls, r.call())
	}
	return it
}

func (r *maker) call() callSpec {
	c := callSpec{lasts: r.upTo(2 * time.Second), late: r.upTo(time.Second), deaf: r.one(10)}
	switch r.IntN(12) {
	case 0:
		c.lasts = r.upTo(time.Microsecond)
	case 1, 2:
		c.lasts = SlowAfter + r.upTo(30*time.Second)
	case 3:
		c.lasts = r.upTo(20 * time.Second)
	}
	switch r.IntN(12) {
	case 0, 1:
		c.end = endFails
	case 2:
		c.end = endAsks
		c.asks = time.Duration(r.IntN(2)) * r.upTo(10*time.Second)
	case 3:
		c.end = []callEnd{endDrops, endUnhandled, endPanics, endExits}[r.IntN(4)]
	}
	return c
}

// run executes a schedule. It is the front of all portals.
type run struct {
	d       *Dispatcher
	portals []*Portal // of Open; nil for others
	bars    []context.CancelFunc
	began   time.Time

	mu    sync.Mutex
	log   []entry
	calls map[int]int
}

var errFails = errors.New("fails")

func (r *run) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, entry{at: time.Since(r.began), what: fmt.Sprintf(format, args...)})
}

func specOf(it *Item) *itemSpec { return it.Front.(*itemSpec) } //nolint:forcetypeassert // a test's own

func (r *run) Handle(ctx context.Context, it *Item) error {
	s := specOf(it)
	r.mu.Lock()
	r.calls[s.id]++
	call := s.call(r.calls[s.id])
	r.mu.Unlock()
	a := event.AttemptOf(ctx)
	r.note("begin %d: attempt %d of %d, merged %d", s.id, a.Number, a.Max, a.Merged)
	timer := time.NewTimer(call.lasts)
	defer timer.Stop()
	if call.deaf {
		<-timer.C
	} else {
		select {
		case <-timer.C:
		case <-ctx.Done():
			<-time.After(call.late)
			return ctx.Err()
		}
	}
	switch call.end {
	case endDone:
		return nil
	case endAsks:
		return event.Retry(errFails, call.asks)
	case endDrops:
		return event.Drop(errFails)
	case endUnhandled:
		return fmt.Errorf("mux: %w", event.ErrUnhandled)
	case endPanics:
		panic("boom")
	case endExits:
		runtime.Goexit()
	case endFails:
	}
	return errFails
}

func (r *run) Retrying(it *Item, _ error, wait time.Duration) {
	r.note("retry %d in %v", specOf(it).id, wait)
}

func (r *run) Finished(it *Item, o Outcome, _ error) {
	r.note("finish %d: %d, merged %d", specOf(it).id, o, it.Merged)
}

func (r *run) item(s *itemSpec) *Item {
	it := &Item{
		Delivery: &event.Delivery{Time: s.fired}, Urgent: s.urgent, Merge: s.mergeKey, Cost: s.cost, Attempts: s.begun,
		MaxAttempts: s.max, Arrived: r.began.Add(s.arrived), Front: s,
	}
	if s.object != "" {
		it.Lane = event.Entity{Kind: "object", ID: s.object}
	}
	return it
}

func key(portal int) Key { return Key{MemberID: strconv.Itoa(portal)} }

func (r *run) do(s *step) {
	switch s.kind {
	case stepEnqueue:
		go func() {
			for _, spec := range s.items {
				what := "ok"
				switch err := r.d.Enqueue(key(s.portal), r.item(spec), spec.patience); {
				case errors.Is(err, ErrFull):
					what = "full"
				case errors.Is(err, ErrClosed):
					what = "closed"
				}
				r.note("enqueue %d: %s", spec.id, what)
			}
		}()
	case stepDo:
		go func() {
			what := "exited"
			defer func() { r.note("do %d: %s", s.items[0].id, what) }()
			o, err := r.d.Do(key(s.portal), r.item(s.items[0]))
			what = fmt.Sprint(o)
			if errors.Is(err, ErrClosed) {
				what = "closed"
			}
		}()
	case stepAdd:
		items := make([]*Item, len(s.items))
		for i, spec := range s.items {
			items[i] = r.item(spec)
		}
		r.portals[s.portal].Add(items...)
	case stepRemove:
		r.d.removed("", key(s.portal).MemberID, s.fired)
	case stepBar:
		r.bars[s.portal]()
	case stepStop:
		r.portals[s.portal].Stop(errFails)
		done := r.portals[s.portal].Done()
		go func() {
			<-done
			r.note("done %d", s.portal)
		}()
	case stepCancel:
		r.portals[s.portal].Cancel(errFails)
	case stepShutdown:
		r.shutdown(s.cutAfter)
	}
}

func (r *run) shutdown(cutAfter time.Duration) {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if cutAfter > 0 {
		ctx, cancel = context.WithTimeout(ctx, cutAfter)
	}
	go func() {
		defer cancel()
		var cut *CutError
		err := r.d.Shutdown(ctx)
		left := 0
		if errors.As(err, &cut) {
			left = cut.Left
		}
		r.note("shutdown: %d left", left)
	}()
}

// execute returns what the front saw.
func execute(t *testing.T, s *schedule) *run {
	t.Helper()
	r := &run{calls: make(map[int]int)}
	synctest.Test(t, func(*testing.T) {
		r.began = time.Now()
		cfg := s.cfg
		cfg.Front = r
		r.d = New(cfg)
		for i, spec := range s.portals {
			var p *Portal
			intake, bar := context.WithCancel(context.Background())
			defer bar()
			if spec.owned {
				p = r.d.Open(key(i), PortalOptions{Front: r, Limit: spec.limit, Intake: intake, OnSlack: func() { r.note("slack %d", i) }})
			}
			r.portals, r.bars = append(r.portals, p), append(r.bars, bar)
		}
		for _, st := range s.steps {
			<-time.After(time.Until(r.began.Add(st.at)))
			r.do(st)
			synctest.Wait()
			if problem := r.d.inspect(); problem != "" {
				r.note("%s", problem)
			}
		}
		<-time.After(time.Hour)
		if problem := r.d.inspect(); problem != "" {
			r.note("%s", problem)
		}
		for _, p := range r.portals {
			if p != nil {
				p.Close()
			}
		}
		if problem := r.d.leftovers(); problem != "" {
			r.note("%s", problem)
		}
	})
	return r
}

var (
	schedules = flag.Int("dispatch.schedules", 0, "number of random schedules; 0 for the usual number")
	seed      = flag.Uint64("dispatch.seed", 0, "seed of the first schedule; 0 for the usual ones")
)

// TestModel runs random schedules, and compares what the front sees with what the model says.
func TestModel(t *testing.T) {
	t.Parallel()
	n, first := usualSchedules, uint64(1)
	if testing.Short() {
		n /= 10
	}
	if *schedules > 0 {
		n = *schedules
	}
	if *seed > 0 {
		first = *seed
	}
	const parts = 4
	for part := range parts {
		t.Run(strconv.Itoa(part), func(t *testing.T) {
			t.Parallel()
			for i := part; i < n; i += parts {
				s := first + uint64(i) //nolint:gosec // small
				if difference := compare(t, newSchedule(s)); difference != "" {
					t.Fatalf("%s\nrepeat: go test ./internal/dispatch -run TestModel -dispatch.schedules 1 -dispatch.seed %d", difference, s)
				}
			}
		})
	}
}

func compare(t *testing.T, s *schedule) string {
	t.Helper()
	m := simulate(s)
	r := execute(t, s)
	c := r.d.Counts()
	var sum uint64
	for _, n := range c.Outcomes {
		sum += n
	}
	sorted := func(log []entry) []entry {
		slices.SortFunc(log, func(a, b entry) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.what, b.what)) })
		return log
	}
	want, got := sorted(m.log), sorted(r.log)
	for i := range max(len(want), len(got)) {
		var w, g entry
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			return fmt.Sprintf("the model says  %v\nthe front saw   %v\nafter %v", w, g, want[max(0, i-8):min(i, len(want))])
		}
	}
	if c.Accepted != sum || c.Accepted != uint64(m.accepted) { //nolint:gosec // small
		return fmt.Sprintf("accepted %d, finished %d, in the model %d", c.Accepted, sum, m.accepted)
	}
	return ""
}

func TestSchedulesVary(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	for i := range min(usualSchedules, 1000) {
		m := simulate(newSchedule(uint64(i)))
		for what, n := range m.saw {
			seen[what] += n
		}
		for _, e := range m.log {
			kind, rest, _ := strings.Cut(e.what, " ")
			switch kind {
			case "finish", "enqueue", "do":
				_, how, _ := strings.Cut(rest, ": ")
				how, _, _ = strings.Cut(how, ",")
				kind += " " + how
			}
			seen[kind]++
		}
	}
	for _, kind := range []string{
		"begin", "retry", "finish 0", "finish 1", "finish 2", "finish 3", "finish 4", "finish 5", "enqueue ok", "enqueue full",
		"enqueue closed", "do 0", "do 2", "do closed", "do exited", "slack", "done", "shutdown:",
		"ordinary to busy", "ordinary to slow", "busy to ordinary", "busy to slow", "slow to ordinary", "slow to busy", "a turn goes on",
		"a busy portal where nobody else waits", "a busy portal before an ordinary one", "an ordinary portal before a busy one",
		"the one worker serves a busy portal next", "the one worker serves an ordinary portal next",
	} {
		require.Positive(t, seen[kind], kind)
	}
	require.NotContains(t, seen, "unfair:")
}
