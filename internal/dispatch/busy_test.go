package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// stage runs items whose handlers return when the test says so. The items of portal a are a1, a2
// and so on; most have no lane. Portals of capital letters are those of Open.
type stage struct {
	t *testing.T
	d *dispatch.Dispatcher
	r *recorder

	came   map[string]int // items, by portal
	seen   int            // calls that the test knows of
	opened map[string]*dispatch.Portal
	bars   map[string]context.CancelFunc

	mu      sync.Mutex
	returns map[string]chan error // by item
	remove  event.RemovalReporter
}

func newStage(t *testing.T, workers, limit, share int) *stage {
	t.Helper()
	s := &stage{
		t: t, came: make(map[string]int), returns: make(map[string]chan error), opened: make(map[string]*dispatch.Portal),
		bars: make(map[string]context.CancelFunc),
	}
	s.r = newRecorder(func(ctx context.Context, it *dispatch.Item) error {
		s.mu.Lock()
		if remove, ok := ctx.Value(event.RemovalReporterKey{}).(event.RemovalReporter); ok {
			s.remove = remove
		}
		returns := s.returns[name(it)]
		s.mu.Unlock()
		select {
		case err := <-returns:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	cfg := setup(s.r)
	cfg.Workers, cfg.Limit, cfg.SlowShare, cfg.MaxAttempts = workers, limit, share, 2
	s.d = dispatch.New(cfg)
	return s
}

// do does one thing: "+a*3" passes on three items of portal a, and "+a@x" one of lane x. "-a1" lets
// the handler of the first item return, and "~a1" makes it fail. "!a2" removes the items up to the
// second, "/A" ends the intake of portal A, and "6s" waits.
func (s *stage) do(what string) {
	s.t.Helper()
	switch p := what[1:]; what[0] {
	case '+':
		p, times, _ := strings.Cut(p, "*")
		p, lane, _ := strings.Cut(p, "@")
		n, _ := strconv.Atoi(times)
		for range max(n, 1) {
			s.add(p, lane)
		}
	case '-', '~':
		var err error
		if what[0] == '~' {
			err = event.Retry(errBoom, time.Hour)
		}
		s.mu.Lock()
		s.returns[p] <- err
		s.mu.Unlock()
	case '!':
		n, err := strconv.Atoi(p[1:])
		require.NoError(s.t, err)
		s.remove("app", p[:1], s.firedAt(n))
	case '/':
		s.bars[p]()
	default:
		d, err := time.ParseDuration(what)
		require.NoError(s.t, err)
		<-time.After(d)
	}
	synctest.Wait()
}

func (s *stage) firedAt(n int) time.Time { return s.r.began.Add(time.Duration(n) * time.Second) }

func (s *stage) add(p, lane string) {
	s.t.Helper()
	s.came[p]++
	it := named(p+strconv.Itoa(s.came[p]), lane)
	it.Delivery.Time = s.firedAt(s.came[p])
	s.mu.Lock()
	s.returns[name(it)] = make(chan error, 1)
	s.mu.Unlock()
	if p == strings.ToLower(p) {
		require.NoError(s.t, s.d.Enqueue(portal(p), it, 0))
		return
	}
	if s.opened[p] == nil {
		intake, bar := context.WithCancel(context.Background())
		s.bars[p] = bar
		s.opened[p] = s.d.Open(portal(p), dispatch.PortalOptions{Front: s.r, Limit: 2, Intake: intake})
	}
	s.opened[p].Add(it)
}

// play does what the lines say: what happens, and after a colon what begins.
func (s *stage) play(script ...string) {
	s.t.Helper()
	for i, line := range script {
		happens, begins, _ := strings.Cut(line, ":")
		for what := range strings.FieldsSeq(happens) {
			s.do(what)
		}
		names := s.r.names()
		began := slices.Sorted(slices.Values(names[s.seen:]))
		require.Equal(s.t, strings.Fields(begins), append([]string{}, began...), "line %d: %s", i, line)
		s.seen = len(names)
	}
}

// end ends everything.
func (s *stage) end() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.d.Shutdown(ctx)
	for name, p := range s.opened {
		s.bars[name]()
		p.Close()
	}
}

// TestBusyPortals: portals with a backlog have a quarter of the workers, and what others leave.
func TestBusyPortals(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		workers, limit, share int
		script                []string
	}{
		"they have what others leave": {4, 3, 1, []string{
			"+a*9 : a1 a2 a3",
			"+b : b1",
			"-a1 : a4",
			"-a2 : a5",
			"-b1 :",
		}},
		"a quarter is theirs before others": {8, 4, 4, []string{
			"+p +q +r +s +t +u +v +w : p1 q1 r1 s1 t1 u1 v1 w1",
			"+b +c +d +e +f :",
			"+a*12 :",
			"-p1 : a1",
			"-q1 : a2",
			"-r1 : b1",
			"-a1 : a3",
			"-s1 : c1",
			"-t1 : d1",
			"-a2 : a4",
			"-b1 : e1",
			"-u1 : f1",
			"-v1 : a5", // nobody else waits
			"-w1 : a6",
			"+g +h :",
			"-a5 : g1",
			"-a6 : h1",
			"-a3 : a7", // one of a quarter
		}},
		"a quarter of what slow portals leave": {8, 4, 4, []string{
			"+s*4 : s1 s2 s3 s4",
			"6s :",
			"+b +c +d +e : b1 c1 d1 e1",
			"+f +g +a*8 :",
			"-b1 : a1",
			"-c1 : f1",
			"-d1 : g1",
			"-e1 : a2",
		}},
		"one worker serves both in turn": {2, 2, 1, []string{
			"+s : s1",
			"6s :",
			"+x : x1",
			"+b +c +d +a*4 +e*4 :",
			"-x1 : a1",
			"-a1 : b1",
			"-b1 : a2",
			"-a2 : c1",
			"-c1 : e1",
			"-e1 : d1",
			"-d1 : e2",
			"-e2 : a3",
			"-a3 : a4",
			"+f : ",
			"-a4 : f1",
			"-f1 : e3",
		}},
		"one worker, and none is slow": {1, 2, 1, []string{
			"+x : x1",
			"+b +a*4 +c :",
			"-x1 : b1",
			"-b1 : a1",
			"-a1 : c1",
			"-c1 : a2",
		}},
		"two workers": {2, 2, 1, []string{
			"+a*6 : a1 a2",
			"+b +c +d:",
			"-a1 : a3", // a quarter, which is one
			"-a2 : b1",
			"-a3 : a4",
			"-b1 : c1",
			"-c1 : d1",
			"-d1 : a5",
		}},
		"a portal with a limit of one": {2, 1, 1, []string{
			"+x +y : x1 y1",
			"+b +a*3 :",
			"-x1 : a1",
			"-a1 : a2", // two were ready
			"-a2 : b1", // one is no backlog
			"-b1 : a3",
		}},
		"their turns are as long as their limit": {2, 2, 1, []string{
			"+x +y : x1 y1",
			"+a*6 +b*6 :",
			"-x1 : a1",
			"-y1 : a2",
			"-a1 : b1",
			"-a2 : b2",
			"-b1 : a3",
			"-a3 : a4",
			"-b2 : b3",
		}},
		"a turn ends at the limit": {3, 2, 1, []string{
			"+a +x +y : a1 x1 y1",
			"+a*5 +b*5 :",
			"-x1 : a2",
			"-a1 : b1", // not what was left of the turn of a
			"-y1 : b2",
			"-b1 : a3",
		}},
		"a turn goes on behind ordinary portals": {4, 3, 1, []string{
			"+w +x +y +z : w1 x1 y1 z1",
			"+a*6 +b*6 +c :",
			"-w1 : a1",
			"-x1 : c1",
			"-y1 : a2",
			"+d :",
			"-z1 : d1",
			"-a1 : a3",
			"-a2 : b1",
		}},
		"three storms have equal parts": {6, 2, 3, []string{
			"+a*6 +b*6 +c*6 : a1 a2 b1 b2 c1 c2",
			"-a1 : a3",
			"-b1 : b3",
			"-c1 : c3",
		}},
		"a calm portal begins at once if a worker is free": {5, 4, 2, []string{
			"+a*20 : a1 a2 a3 a4",
			"-a1 : a5",
			"-a2 : a6",
			"+b : b1",
		}},
		"a calm portal waits for one handler": {4, 4, 2, []string{
			"+a*20 : a1 a2 a3 a4",
			"-a1 : a5",
			"-a2 : a6",
			"-a3 : a7",
			"-a4 : a8",
			"+b :",
			"-a6 : b1",
			"+b*2 :",
			"-a5 : b2",
			"-a7 : b3", // a has one of four workers
			"-a8 : a9",
			"-b1 : a10",
		}},
		"a backlog that a removal shrinks": {2, 2, 1, []string{
			"+x +y : x1 y1",
			"+a*3 +b +c :",
			"!a2 :",
			"-x1 : b1",
			"-y1 : c1",
			"-b1 : a3",
		}},
		"a removal leaves the place of a backlog": {2, 2, 1, []string{
			"+x +y : x1 y1",
			"+a*4 +b*4 +c :",
			"!a2 :",
			"-x1 : a3",
			"-y1 : c1",
			"-a3 : a4",
			"-a4 : b1",
		}},
		"a removal that wakes lanes leaves the place of a backlog": {2, 2, 1, []string{
			"+a@k +a@l : a1 a2",
			"~a1 ~a2 :",
			"+x +y : x1 y1",
			"+a*2 +b*4 +a@k +a@l :",
			"!a4 :",
			"-x1 : a6", // the newest of the lanes that rested
			"-y1 : a5",
			"-a5 : b1",
		}},
		"a removal leaves a turn": {2, 2, 1, []string{
			"+x +y : x1 y1",
			"+a*4 +b +c :",
			"-x1 : a1",
			"!a3 :",
			"-a1 : a4",
			"-a4 : b1",
		}},
		"a removal of everything ends a turn": {2, 2, 1, []string{
			"+x +y : x1 y1",
			"+a*4 +b +c :",
			"-x1 : a1",
			"!a4 :",
			"+a :",
			"-a1 : b1",
			"-y1 : c1",
			"-b1 : a5",
		}},
		"the end of an intake ends a turn": {2, 2, 1, []string{
			"+x +y : x1 y1",
			"+A*4 +b*4 :",
			"-x1 : A1",
			"/A :",
			"-A1 : b1",
			"-y1 : b2",
			"-b1 : b3",
		}},
		"hanging portals do not keep a backlog from starting": {8, 4, 4, []string{
			"+h*8 +i*8 : h1 h2 h3 h4 i1 i2 i3 i4",
			"+a*8 :",
			"6s : a1 a2 a3 a4",
			"-a1 : a5",
		}},
		"nor does a backlog that hangs": {4, 2, 1, []string{
			"+w +x +y +z : w1 x1 y1 z1",
			"+h*6 +a*6 +b +c +d +e :",
			"-w1 : h1",
			"-x1 : b1",
			"-y1 : c1",
			"-z1 : d1",
			"5s : a1 a2 e1", // one worker is kept for h
		}},
		"a turn ends when the portal becomes slow": {4, 3, 1, []string{
			"+w +x +y +z : w1 x1 y1 z1",
			"+a*9 +b*9 :",
			"-w1 : a1",
			"-x1 : a2",
			"6s : b1 b2 b3",
			"6s :",
			"-y1 -z1 -a1 -a2 : a3",
			"-b1 :",
			"-a3 : a4",
			"-a4 : a5",
			"-a5 : b4",
		}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, test.workers, test.limit, test.share)
				defer s.end()
				s.play(test.script...)
			})
		})
	}
}

// TestStorms: a quarter of the workers is for the storms, in equal parts, as long as there is more
// for the others than they can do. No item of a portal without a backlog waits for longer than a
// call.
func TestStorms(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		others    int // portals with an item, each second
		least     int // items of the storms that begin in a minute
		most      int
		waitsMost time.Duration // for items of the others
	}{
		"alone":                            {others: 0, least: 8 * 60, most: 8 * 60},
		"with less than is left to others": {others: 3, least: 5 * 60, most: 5*60 + 5, waitsMost: time.Second},
		"with more than the workers can":   {others: 8, least: 2 * 60, most: 2*60 + 10, waitsMost: time.Minute},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := make(map[string]int)
				var mu sync.Mutex
				var waited time.Duration
				r := newRecorder(func(_ context.Context, it *dispatch.Item) error {
					mu.Lock()
					began[name(it)]++
					if name(it) == "other" {
						waited = max(waited, time.Since(it.Arrived))
					}
					mu.Unlock()
					<-time.After(time.Second)
					return nil
				})
				cfg := setup(r)
				cfg.Workers, cfg.Limit, cfg.SlowShare = 8, 4, 4
				d := dispatch.New(cfg)
				for _, storm := range []string{"a", "b"} {
					for range 600 {
						require.NoError(t, d.Enqueue(portal(storm), named(storm, ""), 0))
					}
				}
				<-time.After(time.Second / 2)
				for second := range 59 {
					for i := range test.others {
						<-time.After(time.Second / 10)
						require.NoError(t, d.Enqueue(portal(fmt.Sprint(second, i)), named("other", ""), 0))
					}
					<-time.After(time.Second - time.Duration(test.others)*time.Second/10)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				mu.Lock()
				one, two, waits := began["a"], began["b"], waited
				mu.Unlock()
				_ = d.Shutdown(ctx)
				require.GreaterOrEqual(t, one+two, test.least)
				require.LessOrEqual(t, one+two, test.most)
				require.InDelta(t, one, two, 8)
				require.LessOrEqual(t, waits, test.waitsMost)
			})
		})
	}
}
