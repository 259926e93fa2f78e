//go:build !race

// These tests measure memory and time, and run processes of their own: the race detector makes some
// of them too slow.

package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// oddStore is a store whose methods a test replaces.
type oddStore struct {
	*webhooktest.MemoryStore

	commit  func(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error
	feed    func(ctx context.Context, part int) iter.Seq2[*webhook.Record, error]
	load    func(ctx context.Context, part int, ids []string) ([]*webhook.Record, error)
	acquire func(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	held    func(ctx context.Context, prefix string) (map[string]string, error)
}

func (s *oddStore) Commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	if s.commit != nil {
		return s.commit(ctx, add, marks)
	}
	return s.MemoryStore.Commit(ctx, add, marks)
}

func (s *oddStore) Feed(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
	if s.feed != nil {
		return s.feed(ctx, part)
	}
	return s.MemoryStore.Feed(ctx, part)
}

func (s *oddStore) Load(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
	if s.load != nil {
		return s.load(ctx, part, ids)
	}
	return s.MemoryStore.Load(ctx, part, ids)
}

func (s *oddStore) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if s.acquire != nil {
		return s.acquire(ctx, owner, ttl, names...)
	}
	return s.MemoryStore.Acquire(ctx, owner, ttl, names...)
}

func (s *oddStore) Held(ctx context.Context, prefix string) (map[string]string, error) {
	if s.held != nil {
		return s.held(ctx, prefix)
	}
	return s.MemoryStore.Held(ctx, prefix)
}

// inChild runs the rest of a test in a process of its own, because the test may end its process or
// block it for ever. It reports whether this is that process.
func inChild(t *testing.T) bool {
	t.Helper()
	const variable = "WEBHOOK_TEST_CHILD"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=20s") //nolint:gosec // this test
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the process did not survive: %v\n%s", err, out[:min(len(out), 1500)])
	}
	return false
}

// inTime fails a test whose process is blocked. It is for processes of inChild.
func inTime(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(8 * time.Second):
		fmt.Println("BLOCKED:", what) //nolint:forbidigo // the test cannot end: a lock is held
		os.Exit(3)
	}
}

// TestHostileFeedOfANilRecord: a Feed that yields neither a record nor an error panics in offer
// with the lock of durable held. The panic is caught, and everything blocks for ever.
func TestHostileFeedOfANilRecord(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	s := &oddStore{MemoryStore: newStore(t)}
	var fed atomic.Int32
	s.feed = func(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
		if fed.Add(1) > 1 {
			return s.MemoryStore.Feed(ctx, part)
		}
		return func(yield func(*webhook.Record, error) bool) { yield(nil, nil) }
	}
	var r recorder
	h, err := webhook.NewHandler(anyPortal(), &r, silent(), webhook.WithStore(s))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
	inTime(t, "Health, Stats and Idle", func() {
		_, _ = h.Health(), h.Stats()
		require.NoError(t, h.Idle(context.Background()))
	})
	require.Len(t, r.deliveries(), 1)
	require.NoError(t, h.Shutdown(t.Context()))
}

// TestHostileLoadOfANilRecord: a Load that returns a nil record panics outside of any guard.
func TestHostileLoadOfANilRecord(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	s := &oddStore{MemoryStore: newStore(t)}
	var loads atomic.Int32
	s.load = func(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
		recs, err := s.MemoryStore.Load(ctx, part, ids)
		if loads.Add(1) == 1 {
			recs = append(recs, nil)
		}
		return recs, err
	}
	posted := make(chan struct{}) // until then the first one holds up the others
	r := recorder{then: func(context.Context, *event.Delivery) error { <-posted; return nil }}
	h, err := webhook.NewHandler(anyPortal(), &r, silent(), webhook.WithStore(s), webhook.WithQueueSize(1))
	require.NoError(t, err)
	for i := range 10 {
		require.Equal(t, http.StatusOK, post(h, deal(7, i+1)))
	}
	close(posted)
	inTime(t, "Idle", func() { require.NoError(t, h.Idle(context.Background())) })
	require.NotZero(t, loads.Load())
	require.NoError(t, h.Shutdown(t.Context()))
}

// odd is an error whose Error method panics, like that of the nil *url.Error that a careless store
// returns.
type odd struct{ text string }

func (e *odd) Error() string { return e.text }

// TestHostileErrorWhoseTextPanics: the text of an error of Commit or Feed is read in goroutines
// without a guard.
func TestHostileErrorWhoseTextPanicsInCommit(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	s := &oddStore{MemoryStore: newStore(t)}
	s.commit = func(context.Context, []*webhook.Record, []webhook.Mark) error { return (*odd)(nil) }
	h, err := webhook.NewHandler(anyPortal(), nothing(), silent(), webhook.WithStore(s))
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(1)))
	<-time.After(100 * time.Millisecond) // the log line
	stop(h)
}

// TestHostileErrorWhoseTextPanicsInFeed is the same for Feed.
func TestHostileErrorWhoseTextPanicsInFeed(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	s := &oddStore{MemoryStore: newStore(t)}
	s.feed = func(context.Context, int) iter.Seq2[*webhook.Record, error] {
		return func(yield func(*webhook.Record, error) bool) { yield(nil, (*odd)(nil)) }
	}
	h, err := webhook.NewHandler(anyPortal(), nothing(), silent(), webhook.WithStore(s))
	require.NoError(t, err)
	<-time.After(100 * time.Millisecond)
	require.Error(t, h.Health())
	stop(h)
}

// panicLog is a slog handler that panics, as one that writes with t.Log after the end of a test.
type panicLog struct{ slog.Handler }

func (panicLog) Enabled(context.Context, slog.Level) bool  { return true }
func (panicLog) Handle(context.Context, slog.Record) error { panic("log") }

// TestHostileLoggerThatPanics: in the memory queue a logger that panics costs a line. With a store
// it costs the process.
func TestHostileLoggerThatPanics(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	if !inChild(t) {
		return
	}
	s := newStore(t)
	s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
		if c.Op == webhooktest.OpFeed {
			return webhooktest.Fault{Err: errBoom}
		}
		return webhooktest.Fault{}
	})
	h, err := webhook.NewHandler(anyPortal(), nothing(), webhook.WithLogger(slog.New(panicLog{})), webhook.WithStore(s))
	require.NoError(t, err)
	<-time.After(time.Second)
	require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
	stop(h)
}

// TestHostileCommitThatExits: runtime.Goexit in Commit, as t.FailNow does, ends the goroutine of
// the journal, and nothing is stored any more.
func TestHostileCommitThatExits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		exit := true
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit && exit {
				exit = false
				runtime.Goexit()
			}
			return webhooktest.Fault{}
		})
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s))
		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(1)))
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("the request waits %v for a goroutine that is gone", took)
		}
		for i := range 3 {
			if status := post(h, dealUpdate(i+2)); status != http.StatusOK {
				t.Errorf("delivery %d after the exit: %d", i+1, status)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := h.Idle(ctx); err != nil {
			t.Errorf("it does not become idle: %v", err)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileFeedThatExits: the partition is never fed again, and Health returns nil.
func TestHostileFeedThatExits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		exit := true
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpFeed && exit {
				exit = false
				runtime.Goexit()
			}
			return webhooktest.Fault{}
		})
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s))
		synctest.Wait()
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Minute)
		if len(r.deliveries()) == 0 {
			t.Errorf("nothing is handled a minute later, and Health returns %v", h.Health())
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileLoadThatExits: what is put aside in the partition is never loaded again, and each try
// leaves something in memory.
func TestHostileLoadThatExits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		exit := true
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpLoad && exit {
				exit = false
				runtime.Goexit()
			}
			return webhooktest.Fault{}
		})
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(1))
		for i := range 10 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := h.Idle(ctx); err != nil {
			t.Errorf("%d of 10 are handled an hour later; %d are pending, and Health returns %v", len(r.deliveries()), pending(t, s), h.Health())
		}
		stop(h)
		<-time.After(time.Hour)
	})
}

// TestHostileTextOfMarks: Mark.Err is "valid UTF-8 …, at most 512 bytes". A text that ends in an
// ellipsis of three bytes is cut within it.
func TestHostileTextOfMarks(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"two-byte letters, odd":    "a" + strings.Repeat("я", 400),
		"two-byte letters, even":   strings.Repeat("я", 400),
		"three-byte letters":       strings.Repeat("語", 300),
		"three-byte letters, by 1": "a" + strings.Repeat("語", 300),
		"four-byte letters, by 3":  "abc" + strings.Repeat("😀", 300),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				var mu sync.Mutex
				var marks []webhook.Mark
				s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
					mu.Lock()
					defer mu.Unlock()
					for _, m := range c.Marks {
						if m.Err != "" { // of a failed attempt
							marks = append(marks, m)
						}
					}
					return webhooktest.Fault{}
				})
				r := recorder{then: func(context.Context, *event.Delivery) error { return errors.New(text) }}
				h := newHandler(t, &r, webhook.WithStore(s), webhook.WithMaxAttempts(2))
				synctest.Wait() // for the feed: it takes what was there before for recovered
				require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
				require.NoError(t, h.Idle(t.Context()))
				mu.Lock()
				defer mu.Unlock()
				require.Len(t, marks, 2)
				for _, m := range marks {
					if !utf8.ValidString(m.Err) || len(m.Err) > 512 {
						t.Errorf("a mark with %d bytes that end in %q", len(m.Err), m.Err[len(m.Err)-5:])
					}
				}
			})
		})
	}
}

// TestHostileUnlimitedQueue: 20 × the size of the queue overflows, so that the feed finds the
// memory full for ever.
func TestHostileUnlimitedQueue(t *testing.T) {
	t.Parallel()
	for _, size := range []int{math.MaxInt, math.MaxInt / 20, math.MaxInt/20 + 1} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				h := newHandler(t, &r, webhook.WithStore(newStore(t)), webhook.WithQueueSize(size))
				for i := range 5 {
					require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if err := h.Idle(ctx); err != nil {
					t.Errorf("%d of 5 are handled an hour later", len(r.deliveries()))
				}
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestHostileHandlersOverlapAfterTakeBack: another process joins while a handler of this one takes
// 30 seconds and ignores its context. This process loses no lease and is not frozen, but runs the
// next delivery of the same object beside the first.
func TestHostileHandlersOverlapAfterTakeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		first, fail := true, true
		w.then = func(_ context.Context, d *event.Delivery) error {
			if d.Time.Unix() == 1 && first {
				first = false
				<-time.After(30 * time.Second)
				if fail {
					return errBoom
				}
			}
			return nil
		}
		s := newStore(t, webhooktest.WithPartitions(2))
		one := newHandler(t, w, webhook.WithStore(s.Open()))
		<-time.After(10 * time.Second)
		for n := range 1 {
			require.Equal(t, http.StatusOK, post(one, dealOf(n, 1, 1)))
			require.Equal(t, http.StatusOK, post(one, dealOf(n, 1, 2)))
		}
		<-time.After(time.Second)
		two := newHandler(t, w, webhook.WithStore(s.Open()))
		three := newHandler(t, w, webhook.WithStore(s.Open()))
		require.NoError(t, two.Idle(t.Context()))
		if w.over > 0 {
			t.Errorf("%d handlers of the same object overlapped in a process that lost no lease", w.over)
		}
		for _, h := range []*webhook.Handler{one, two, three} {
			require.NoError(t, h.Shutdown(t.Context()))
		}
	})
}

// TestHostileLeaseThatFlaps: a tenure waits 10 s for the handlers of the previous one. If it ended
// before it began to feed, it counts as drained although the previous one is not.
func TestHostileLeaseThatFlaps(t *testing.T) {
	t.Parallel()
	for losses := 1; losses <= 2; losses++ {
		t.Run(strconv.Itoa(losses), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWatch(t)
				w.then = func(ctx context.Context, _ *event.Delivery) error {
					select {
					case <-time.After(20 * time.Second):
						return nil
					case <-ctx.Done():
						<-time.After(6 * time.Second) // it ends soon after its context: it waits for a response
						return context.Cause(ctx)
					}
				}
				s := &oddStore{MemoryStore: newStore(t, webhooktest.WithPartitions(2))}
				var mu sync.Mutex
				lose := false
				s.acquire = func(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
					held, err := s.MemoryStore.Acquire(ctx, owner, ttl, names...)
					mu.Lock()
					defer mu.Unlock()
					if lose {
						lose, held = false, nil // another had them for a moment
					}
					return held, err
				}
				h := newHandler(t, w, webhook.WithStore(s))
				<-time.After(10 * time.Second)
				require.Equal(t, http.StatusOK, post(h, dealOf(1, 1, 1)))
				require.Equal(t, http.StatusOK, post(h, dealOf(1, 1, 2)))
				<-time.After(time.Second)
				for range losses {
					mu.Lock()
					lose = true
					mu.Unlock()
					<-time.After(2500 * time.Millisecond)
				}
				require.NoError(t, h.Idle(t.Context()))
				if w.over > 0 {
					t.Errorf("%d handlers of the same object overlapped, although they ended 6 s after their contexts", w.over)
				}
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestHostileMarksOfOneRecord: while commits fail, each retry of a record leaves a mark in memory.
func TestHostileMarksOfOneRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var broken atomic.Bool
		var most atomic.Int64
		broken.Store(true)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op != webhooktest.OpCommit {
				return webhooktest.Fault{}
			}
			most.Store(max(most.Load(), int64(len(c.Marks))))
			if broken.Load() && len(c.Marks) > 0 {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, do(func(context.Context, *event.Delivery) error {
			if broken.Load() {
				return event.Retry(errBoom, 100*time.Millisecond)
			}
			return nil
		}), webhook.WithStore(s), webhook.WithMaxAttempts(1<<30))
		synctest.Wait() // for the feed to begin: nothing is recovered
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(10 * time.Minute)
		broken.Store(false)
		require.NoError(t, h.Idle(t.Context()))
		if n := h.Stats().Store.Marks; n > 100 {
			t.Errorf("one record had %d marks in memory after 10 minutes; up to %d in one Commit", n, most.Load())
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileOneMarkThatFails: a mark that the store cannot apply, such as one of a row that
// another transaction has locked, keeps all others from being applied, for as long as it lasts.
func TestHostileOneMarkThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit {
				for _, m := range c.Marks {
					if m.ID == "1" {
						return webhooktest.Fault{Err: errBoom}
					}
				}
			}
			return webhooktest.Fault{}
		})
		var r recorder
		red := 0
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(10))
		for i := range 300 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
			<-time.After(100 * time.Millisecond)
			if h.Health() != nil {
				red++
			}
		}
		<-time.After(50 * time.Millisecond)
		if n := len(r.deliveries()); n < 300 {
			t.Errorf("one mark fails: %d of 300 are handled, %d are pending; Health was red in %d of 300 looks", n, pending(t, s), red)
		}
		s.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileHealthWhenOutcomesAreNotStored: no outcome can be stored, and each delivery that is
// stored in between turns Health green.
func TestHostileHealthWhenOutcomesAreNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit && len(c.Marks) > 0 {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(10))
		green := 0
		for i := range 600 {
			_ = post(h, deal(i+1, 1))
			<-time.After(90 * time.Millisecond)
			if i >= 100 && h.Health() == nil {
				green++
			}
			<-time.After(10 * time.Millisecond)
		}
		if green > 50 {
			t.Errorf("no outcome was stored for a minute, %d of 600 were handled at all, and Health was green in %d of 500 looks",
				len(r.deliveries()), green)
		}
		s.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileHealthWithoutLeases: the process works no partition because the leases cannot be had.
func TestHostileHealthWithoutLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithPartitions(2))
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpAcquire || c.Op == webhooktest.OpHeld || c.Op == webhooktest.OpRelease {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s))
		<-time.After(time.Minute)
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Minute)
		require.Zero(t, h.Stats().Store.Partitions)
		if h.Health() == nil {
			t.Error("no lease can be had for two minutes, nothing is handled, and Health returns nil")
		}
		stop(h)
	})
}

// TestHostileSuspectThatHangs: after a crash the records that were being handled are handled one at
// a time, of all portals together. One whose handler hangs keeps all others waiting.
func TestHostileSuspectThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var bodies []string
		for n := range 10 {
			bodies = append(bodies, dealOf(n, 1, 1))
		}
		stored(t, s, bodies)
		var marks []webhook.Mark
		for i := range bodies { // a process that was killed was handling them
			marks = append(marks, webhook.Mark{ID: strconv.Itoa(i + 1), State: webhook.StatePending, Interrupted: 1})
		}
		require.NoError(t, s.Commit(t.Context(), nil, marks))
		release := make(chan struct{})
		var calls atomic.Int32
		r := recorder{then: func(context.Context, *event.Delivery) error {
			if calls.Add(1) == 1 {
				<-release // it waits for something that never comes
			}
			return nil
		}}
		h := newHandler(t, &r, webhook.WithStore(s.Open()), webhook.WithHandlerTimeout(time.Minute))
		<-time.After(10 * time.Minute)
		if n := len(r.deliveries()); n < 10 {
			t.Errorf("the handler of one portal hangs for ten minutes: %d of the records of 10 portals were begun", n)
		}
		close(release)
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileRemovalOfWhatIsNotInMemory: "What package webhook still holds of that portal and
// application, and was fired at the time of d or earlier, is dropped and counted; it could only
// fail", says ReportRemoval.
func TestHostileRemovalOfWhatIsNotInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		bodies := []string{body("ONAPPUNINSTALL", fields{"ts": "100"})}
		for i := range 60 {
			bodies = append(bodies, deal(i+1, 1))
		}
		stored(t, s, bodies)
		var after atomic.Int32
		var removed atomic.Bool
		h := newHandler(t, event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
			switch {
			case d.Name == "ONAPPUNINSTALL":
				<-time.After(time.Second)
				event.ReportRemoval(ctx, d)
				removed.Store(true)
			case removed.Load():
				after.Add(1)
			default:
				<-time.After(time.Minute)
			}
			return nil
		}), webhook.WithStore(s.Open()), webhook.WithQueueSize(1), webhook.WithWorkers(2))
		require.NoError(t, h.Idle(t.Context()))
		if n := after.Load(); n > 0 {
			t.Errorf("%d of 60 older deliveries were handled after the removal; %d were dropped", n, h.Stats().Removed)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// slowTx is a Transactor whose Attempt takes long, for example because it waits for a connection.
type slowTx struct {
	*webhooktest.MemoryStore

	attempt func(ctx context.Context)
}

func (s *slowTx) Attempt(ctx context.Context, _ int, _ string) (context.Context, func(error) error) {
	s.attempt(ctx)
	return ctx, func(err error) error { return err }
}

// TestHostileHandlerBeginsAfterShutdown: Attempt returns after Shutdown did. The handler still
// begins, and gets no delivery.
func TestHostileHandlerBeginsAfterShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowTx{MemoryStore: newStore(t)}
		s.attempt = func(context.Context) { <-time.After(10 * time.Second) }
		var calls, without atomic.Int32
		h := newHandler(t, event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
			calls.Add(1)
			if d == nil {
				without.Add(1)
			}
			return nil
		}), webhook.WithStore(s))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Second)
		stop(h)
		<-time.After(time.Minute)
		if n := calls.Load(); n > 0 {
			t.Errorf("%d handlers began after Shutdown had returned, %d of them with a nil delivery", n, without.Load())
		}
	})
}

// TestHostileHandlerBeginsWithoutLease: Attempt returns after the lease was lost, and the handler
// begins.
func TestHostileHandlerBeginsWithoutLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowTx{MemoryStore: newStore(t, webhooktest.WithPartitions(2))}
		s.attempt = func(context.Context) { <-time.After(20 * time.Second) }
		var calls atomic.Int32
		h := newHandler(t, event.HandlerFunc(func(context.Context, *event.Delivery) error {
			calls.Add(1)
			return nil
		}), webhook.WithStore(s))
		<-time.After(10 * time.Second)
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Second)
		s.SetFaults(func(context.Context, webhooktest.Call) webhooktest.Fault { return webhooktest.Fault{Err: errBoom} })
		<-time.After(time.Minute)
		require.Zero(t, h.Stats().Store.Partitions)
		if n := calls.Load(); n > 0 {
			t.Errorf("%d handlers began although the lease had been lost", n)
		}
		stop(h)
	})
}

// TestHostileInterruptedIsReported: "WithOnDropped sets a function that gets every delivery that
// was authentic and is not processed".
func TestHostileInterruptedIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		stored(t, s, []string{deal(1, 1)})
		require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: "1", State: webhook.StatePending, Interrupted: 5}}))
		var lost drops
		h := newHandler(t, nothing(), webhook.WithStore(s.Open()), lost.option())
		require.NoError(t, h.Idle(t.Context()))
		require.EqualValues(t, 1, h.Stats().Store.Parked)
		if got, _ := lost.list(); len(got) == 0 {
			t.Errorf("a delivery was given up and not reported; Failed is %d", h.Stats().Failed)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileLoadOfDamagedData: a record that cannot be read when it is loaded is tried each second
// for ever, and holds up its object. One that cannot be read when it is fed is parked.
func TestHostileLoadOfDamagedData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &oddStore{MemoryStore: newStore(t)}
		var loads atomic.Int32
		s.load = func(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
			recs, err := s.MemoryStore.Load(ctx, part, ids)
			for _, rec := range recs {
				if rec.ID == "3" {
					loads.Add(1)
					rec.Data = rec.Data[:len(rec.Data)-1]
				}
			}
			return recs, err
		}
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(1))
		for i := range 6 {
			require.Equal(t, http.StatusOK, post(h, deal(7, i+1)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if h.Idle(ctx) != nil {
			t.Errorf("an hour later %d of 6 are handled, none is parked, the damaged record was loaded %d times", len(r.deliveries()), loads.Load())
		}
		stop(h)
	})
}

// TestHostileRemovalWhileTheStoreDoesNotLoad: records that were put aside are removed while Load
// fails. One was about to be handled. There was no attempt, so the report has no error of one. All
// must be reported.
func TestHostileRemovalWhileTheStoreDoesNotLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpLoad {
				<-time.After(3 * time.Second)
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		var lost drops
		var out loot
		h := newHandler(t, event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
			<-time.After(2 * time.Second)
			event.ReportRemoval(ctx, d)
			<-time.After(time.Minute)
			return nil
		}), webhook.WithStore(s), webhook.WithQueueSize(1), webhook.WithWorkers(2), lost.option(),
			webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", nil)))
		synctest.Wait()
		for i := range 3 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		<-time.After(30 * time.Second)
		s.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		_, errs := lost.list()
		for _, err := range errs {
			if strings.Contains(err.Error(), "postponed") {
				t.Errorf("a delivery that was not tried is reported with %q", err)
			}
		}
		if strings.Contains(out.String(), "postponed") {
			t.Error("the log speaks of a handler that failed where there was no attempt")
		}
		if n := int(h.Stats().Removed); len(errs) < n { //nolint:gosec // small
			t.Errorf("%d were removed, %d of them were reported to WithOnDropped", n, len(errs))
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileDueOfAClockThatWasWrong: a process whose clock was a year ahead left a record. No wait
// is longer than an hour.
func TestHostileDueOfAClockThatWasWrong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		stored(t, s, []string{deal(1, 1), deal(1, 2)})
		due := time.Now().Add(365 * 24 * time.Hour)
		require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: "1", State: webhook.StatePending, Attempts: 1, Due: due}}))
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s.Open()))
		<-time.After(24 * time.Hour)
		if n := len(r.deliveries()); n < 2 {
			t.Errorf("%d of 2 deliveries of the object are handled a day later", n)
		}
		stop(h)
	})
}

// TestHostileSwappedData: the data of two records are swapped in the database. Each is authentic,
// and belongs to another record.
func TestHostileSwappedData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := webhook.WithEncryptionKey(make([]byte, 32))
		s := newStore(t)
		stored(t, s, []string{dealOf(1, 1, 1), dealOf(2, 2, 1)}, key)
		swapped := &oddStore{MemoryStore: s.Open()}
		swapped.feed = func(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
			return func(yield func(*webhook.Record, error) bool) {
				for rec, err := range swapped.MemoryStore.Feed(ctx, part) {
					if rec != nil {
						other := map[string]string{"1": "2", "2": "1"}[rec.ID]
						recs, _ := s.Load(ctx, part, []string{other})
						if len(recs) == 1 {
							rec.Data = recs[0].Data
						}
					}
					if !yield(rec, err) {
						return
					}
				}
			}
		}
		r := recorder{then: func(context.Context, *event.Delivery) error { return permanentError{} }}
		h := newHandler(t, &r, webhook.WithStore(swapped), key)
		<-time.After(time.Second)
		if got := r.deliveries(); len(got) > 0 {
			t.Errorf("%d deliveries were handled under records that they do not belong to", len(got))
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileClearDataWithAKey: with a key, everything in the store is encrypted, except for
// records older than the key. Somebody who can write to the store can make a delivery with any
// proof.
func TestHostileClearDataWithAKey(t *testing.T) {
	t.Parallel()
	t.Skip("a question, not a failure: a Handler with a key accepts deliveries in clear, see TestTokensInTheStore, a key that came later")
}

// TestHostileLateMark: a mark of counters that a process could not store before it lost the
// partition replaces what the next owner has noted meanwhile.
func TestHostileLateMark(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		data := newStore(t, webhooktest.WithPartitions(2))
		one, two := data.Open(), data.Open()
		fail := event.HandlerFunc(func(context.Context, *event.Delivery) error { return event.Retry(errBoom, 20*time.Second) })
		var cut atomic.Bool
		one.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if cut.Load() || c.Op == webhooktest.OpCommit && len(c.Marks) > 0 {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		first := newHandler(t, fail, webhook.WithStore(one))
		<-time.After(10 * time.Second)
		require.Equal(t, http.StatusOK, post(first, dealUpdate(1))) // fails once; the mark cannot be stored
		<-time.After(time.Second)
		cut.Store(true)
		second := newHandler(t, fail, webhook.WithStore(two))
		<-time.After(60 * time.Second) // it has tried several times
		attempts := func() int {
			for part := range 2 {
				if recs, err := data.Load(t.Context(), part, []string{"1"}); err == nil && len(recs) == 1 {
					return recs[0].Attempts
				}
			}
			return -1
		}
		before := attempts()
		require.GreaterOrEqual(t, before, 2)
		one.SetFaults(nil) // the first reaches the store again
		<-time.After(6 * time.Second)
		if after := attempts(); after < before && after >= 0 {
			t.Errorf("the record had %d failed attempts, and has %d after the late mark of a process that lost the partition", before, after)
		}
		stop(first)
		stop(second)
	})
}

// TestHostileSettledByAnother: a record that another process settled was not processed here.
func TestHostileSettledByAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &oddStore{MemoryStore: newStore(t)}
		var r recorder
		r.then = func(context.Context, *event.Delivery) error { <-time.After(time.Second); return nil }
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(1), webhook.WithWorkers(1), webhook.WithPortalWorkers(1))
		for i := range 4 {
			require.Equal(t, http.StatusOK, post(h, deal(7, i+1)))
		}
		synctest.Wait()
		require.NoError(t,
			s.MemoryStore.Commit(t.Context(), nil, []webhook.Mark{{ID: "2", State: webhook.StateDone}, {ID: "3", State: webhook.StateDone}}))
		require.NoError(t, h.Idle(t.Context()))
		if n, handled := h.Stats().Handled, len(r.deliveries()); int(n) != handled { //nolint:gosec // small
			t.Errorf("Processed is %d, and the handler returned nil %d times", n, handled)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileTokensUnderOtherKeys looks for tokens in the store of a Handler without a key.
func TestHostileTokensUnderOtherKeys(t *testing.T) {
	t.Parallel()
	const secret = "plantedtokenplantedtokenplanted1"
	for name, more := range map[string]fields{
		"an application page's names": {"AUTH_ID": secret, "REFRESH_ID": secret},
		"the same in data":            {"data[AUTH_ID]": secret, "data[REFRESH_ID]": secret},
		"the same in auth":            {"auth[AUTH_ID]": secret},
		"auth is the token":           {"data[auth]": secret},
		"a JSON text":                 {"data[PARAMS]": `{"auth":{"access_token":"` + secret + `"}}`},
		"a JSON text in a list":       {"data[PARAMS][]": `{"access_token":"` + secret + `"}`},
		"a form text":                 {"data[QUERY]": "a=1&access_token=" + secret},
		"an address":                  {"data[URL]": "https://p.bitrix24.com/rest/x?auth=" + secret},
		"an endpoint":                 {"auth[client_endpoint]": "https://p.bitrix24.com/rest/?access_token=" + secret},
		"with a hyphen":               {"data[access-token]": secret},
		"in camel case":               {"data[accessToken]": secret},
		"the same token elsewhere":    {"auth[access_token]": secret, "data[FIELDS][COMMENT]": "see " + secret},
		"a key that is the token":     {"auth[access_token]": secret, "data[" + secret + "]": "1"},
		"a client secret":             {"data[client_secret]": secret},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				var mu sync.Mutex
				record, mark := false, false
				s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
					mu.Lock()
					defer mu.Unlock()
					for _, rec := range c.Add {
						record = record || containsText(rec.Data, secret) || strings.Contains(rec.Name+rec.MemberID, secret)
					}
					for _, m := range c.Marks {
						mark = mark || strings.Contains(m.Err, secret)
					}
					return webhooktest.Fault{}
				})
				more["data[FIELDS][ID]"] = "1"
				r := recorder{then: func(_ context.Context, d *event.Delivery) error {
					doc, _ := d.MarshalUnredacted()
					return fmt.Errorf("refused: %s", doc)
				}}
				h := newHandler(t, &r, webhook.WithStore(s), webhook.WithMaxAttempts(1))
				if post(h, body("ONCRMDEALUPDATE", more)) != http.StatusOK {
					t.Skip("refused")
				}
				require.NoError(t, h.Idle(t.Context()))
				require.NoError(t, h.Shutdown(t.Context()))
				if record || mark {
					t.Errorf("the token is in the store: in the record: %t, in the error of a mark: %t", record, mark)
				}
			})
		})
	}
}

// TestHostileOnePortalFillsTheMemory: 20 times the size of the queue may rest, all of one portal.
// Then no other portal is served.
func TestHostileOnePortalFillsTheMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := recorder{then: func(_ context.Context, d *event.Delivery) error {
			if d.MemberID() == memberOf(1) {
				return event.Retry(errBoom, time.Hour) // the portal is down
			}
			return nil
		}}
		h := newHandler(t, &r, webhook.WithStore(newStore(t)), webhook.WithQueueSize(10))
		for i := range 300 {
			require.Equal(t, http.StatusOK, post(h, dealOf(1, i+1, 1)))
		}
		<-time.After(time.Second)
		for i := range 10 {
			require.Equal(t, http.StatusOK, post(h, dealOf(2, i+1, 1)))
		}
		<-time.After(3 * time.Hour)
		n := 0
		for _, d := range r.deliveries() {
			if d.MemberID() == memberOf(2) {
				n++
			}
		}
		if n < 10 {
			t.Errorf("one portal is down: three hours later %d of 10 deliveries of another were handled, and Health returns %v", n, h.Health())
		}
		stop(h)
		<-time.After(time.Hour)
	})
}

// TestHostileNamesOfLeases: the leases of a store with the name "a/member" look like members of the
// store with the name "a".
func TestHostileNamesOfLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leases := newStore(t)
		var all []*webhook.Handler
		for _, name := range []string{"a", "a/member"} {
			h, err := webhook.NewHandler(anyPortal(), nothing(), silent(), webhook.WithStore(newStore(t, webhooktest.WithPartitions(4))),
				webhook.WithLeaser(name, leases))
			if err != nil {
				require.ErrorIs(t, err, webhook.ErrConfig)
				for _, h := range all {
					stop(h)
				}
				<-time.After(time.Minute)
				return
			}
			all = append(all, h)
		}
		<-time.After(time.Minute)
		if n := all[0].Stats().Store.Partitions; n != 4 {
			t.Errorf("the only process of a store works %d of 4 partitions", n)
		}
		for _, h := range all {
			stop(h)
		}
		<-time.After(time.Minute)
	})
}

// TestHostileLostLeasesAreNoCrashes: the process lives, and its leases are lost five times while a
// long handler runs.
func TestHostileLostLeasesAreNoCrashes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &oddStore{MemoryStore: newStore(t, webhooktest.WithPartitions(2))}
		stored(t, s.MemoryStore, []string{dealUpdate(1)})
		var mu sync.Mutex
		lose := false
		s.acquire = func(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
			held, err := s.MemoryStore.Acquire(ctx, owner, ttl, names...)
			mu.Lock()
			defer mu.Unlock()
			if lose {
				lose, held = false, nil
			}
			return held, err
		}
		r := recorder{then: func(ctx context.Context, _ *event.Delivery) error {
			select {
			case <-time.After(3 * time.Minute):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}}
		h := newHandler(t, &r, webhook.WithStore(s))
		<-time.After(10 * time.Second)
		for range 6 {
			mu.Lock()
			lose = true
			mu.Unlock()
			<-time.After(time.Minute)
		}
		require.NoError(t, h.Idle(t.Context()))
		parked, err := archive(t, s).Parked(t.Context(), "", 10)
		require.NoError(t, err)
		for _, p := range parked {
			t.Errorf("parked after %d calls in a process that never ended: %s", len(r.deliveries()), p.Err)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileCountersOutOfRange: somebody edited the numbers in the database.
func TestHostileCountersOutOfRange(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attempts int
		most     int // calls
	}{
		"negative": {-1000, 5},
		"huge":     {math.MaxInt, 5},
		"large":    {math.MaxInt32, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				stored(t, s, []string{dealUpdate(1)})
				require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: "1", State: webhook.StatePending, Attempts: test.attempts}}))
				r := recorder{then: func(context.Context, *event.Delivery) error { return errBoom }}
				h := newHandler(t, &r, webhook.WithStore(s.Open()))
				ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
				defer cancel()
				_ = h.Idle(ctx)
				if n := len(r.deliveries()); n > test.most {
					t.Errorf("%d attempts in a day; at most 5 are allowed", n)
				}
				stop(h)
			})
		})
	}
}

// TestGuardShutdownOfAFullMemory: Shutdown returns soon, although it has to remove each record from
// memory. (On an idle machine it takes a third of a second.)
func TestGuardShutdownOfAFullMemory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	s := newStore(t)
	const n = 200_000
	recs := make([]*webhook.Record, 0, n)
	source := newStore(t)
	stored2 := newHandler(t, nothing(), webhook.WithStore(source), webhook.WithReceiveOnly())
	var data []byte
	source.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
		for _, rec := range c.Add {
			data = rec.Data
		}
		return webhooktest.Fault{}
	})
	require.Equal(t, http.StatusOK, post(stored2, dealUpdate(1)))
	for range n {
		recs = append(recs, &webhook.Record{Data: data, Received: time.Now()})
	}
	require.NoError(t, s.Commit(t.Context(), recs, nil))
	gate := make(chan struct{})
	defer close(gate)
	h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return ctx.Err()
	}), webhook.WithStore(s))
	require.Eventually(t, func() bool { return h.Stats().Store.InMemory >= n*3/4 }, time.Minute, 10*time.Millisecond)
	start := time.Now()
	stop(h)
	took := time.Since(start)
	t.Logf("%d records in memory: Shutdown took %v", n, took)
	if took > 5*webhook.ShutdownGrace { // the machine may be busy
		t.Errorf("Shutdown took %v", took)
	}
}

// TestHostileRemovalOfAPostponedDelivery: the store does not take the mark that says that an
// attempt begins, so there was no attempt.
func TestHostileRemovalOfAPostponedDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		stored(t, s, []string{dealUpdate(1)})
		data := s.Open()
		data.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit && len(c.Marks) > 0 {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		var lost drops
		h := newHandler(t, event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
			event.ReportRemoval(ctx, d)
			return nil
		}), webhook.WithStore(data), lost.option())
		synctest.Wait()
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", nil)))
		<-time.After(30 * time.Second)
		data.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		_, errs := lost.list()
		require.Len(t, errs, 1)
		require.ErrorIs(t, errs[0], webhook.ErrRemoved)
		if strings.Contains(errs[0].Error(), "postponed") {
			t.Errorf("a delivery that was not tried is reported with %q", errs[0])
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// heapInUse returns the bytes in use after a collection.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // it fits
}

// TestHostileMemoryOfWhatRests: a delivery that rests gives its places back when the memory is more
// than half full. Its lane and its merge key are parts of its text and keep it in memory.
func TestHostileMemoryOfWhatRests(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	if !inChild(t) {
		return
	}
	const n, size, places = 400, 100 << 10, 200
	bodyOf := func(i int) string {
		return body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": strconv.Itoa(i + 1), "data[X]": strings.Repeat("x", size)})
	}
	fill := func(mark bool, opts ...webhook.Option) (*webhook.Handler, int64) {
		before := heapInUse()
		s := &oddStore{MemoryStore: newStore(t)}
		s.commit = func(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
			for _, rec := range add {
				rec.Name, rec.MemberID = strings.Clone(rec.Name), strings.Clone(rec.MemberID) // they are parts of the body, too
			}
			return s.MemoryStore.Commit(ctx, add, marks)
		}
		h, err := webhook.NewHandler(anyPortal(), do(func(context.Context, *event.Delivery) error { return event.Retry(errBoom, time.Hour) }),
			append(opts, silent(), webhook.WithStore(s))...)
		require.NoError(t, err)
		for i := range n {
			require.Equal(t, http.StatusOK, post(h, bodyOf(i)))
			for deadline := time.Now().Add(5 * time.Second); !mark && int(h.Stats().Retried) < i+1 && time.Now().Before(deadline); { //nolint:gosec // small
				runtime.Gosched()
			}
			if mark { // so that the store keeps the data only
				require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: strconv.Itoa(i + 1), State: webhook.StatePending}}))
			}
		}
		<-time.After(time.Second)
		return h, heapInUse() - before
	}
	receiver, inStore := fill(true, webhook.WithReceiveOnly())
	h, all := fill(false, webhook.WithQueueSize(places))
	held, charged := all-inStore, h.Stats().Store.Places*8<<10
	t.Logf("%d deliveries of %d KiB rest: %d KiB in the store, %d KiB beside it, %d KiB charged, the limit is %d KiB",
		n, size>>10, inStore>>10, held>>10, charged>>10, places*8)
	if held > 4*places*8<<10 {
		t.Errorf("%d deliveries rest: they hold %d MiB, and WithQueueSize allows %d MiB", n, held>>20, places*8>>10)
	}
	stop(h)
	stop(receiver)
}

// lockless is a Leaser without locks, so that it does not synchronize goroutines by accident.
type lockless struct{ looks atomic.Int32 }

func (*lockless) Acquire(_ context.Context, _ string, _ time.Duration, names ...string) ([]string, error) {
	return names, nil
}
func (*lockless) Release(context.Context, string, ...string) error { return nil }
func (l *lockless) Held(_ context.Context, prefix string) (map[string]string, error) {
	if l.looks.Add(1) < 4 {
		return nil, nil
	}
	return map[string]string{prefix + "member/another": "another"}, nil
}

// TestHostileRaceOfShares fails with -race only: the callbacks read durable.shares, which is
// assigned after their goroutine was started.
func TestHostileRaceOfShares(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	if !inChild(t) {
		return
	}
	var all []*webhook.Handler
	for range 6 { // the detector does not see each
		h, err := webhook.NewHandler(anyPortal(), nothing(), silent(), webhook.WithStore(newStore(t, webhooktest.WithPartitions(2))),
			webhook.WithLeaser("a", new(lockless)), webhook.WithLeaseTTL(time.Second))
		require.NoError(t, err)
		all = append(all, h)
	}
	<-time.After(3 * time.Second)
	for _, h := range all {
		stop(h)
	}
}

// TestHostileLogOfAStoreThatDoesNotLoad: each record that was put aside has a line in the log each
// second, and Health returns nil although none can be handled.
func TestHostileLogOfAStoreThatDoesNotLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpLoad {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		var out loot
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { <-time.After(time.Second); return nil }), webhook.WithStore(s),
			webhook.WithQueueSize(25), webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		for i := range 500 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		<-time.After(time.Minute)
		if n := strings.Count(out.String(), "\n"); n > 600 {
			t.Errorf("%d lines in a minute; Health returns %v, and %d deliveries wait", n, h.Health(), h.Stats().Queued)
		}
		s.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// panicOn is a slog handler that panics for one message.
type panicOn struct {
	slog.Handler

	text string
}

func (h panicOn) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.text) {
		panic("log")
	}
	return h.Handler.Handle(ctx, r)
}

// TestHostileParkingIsLoggedBeforeItIsMarked: if the line about a record that is parked panics, the
// record stays in memory, without a mark, for ever.
func TestHostileParkingIsLoggedBeforeItIsMarked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		require.NoError(t, s.Commit(t.Context(), []*webhook.Record{{Data: []byte("x"), Received: time.Now()}}, nil))
		h := newHandler(t, nothing(), webhook.WithStore(s), webhook.WithLogger(slog.New(panicOn{alwaysOn{}, "it is parked"})))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := h.Idle(ctx); err != nil {
			t.Errorf("an hour later %d are pending and %d in memory; Health returns %v", pending(t, s), h.Stats().Store.InMemory, h.Health())
		}
		stop(h)
	})
}

// TestHostileRetryIsLoggedBeforeItIsMarked: if the line about an attempt that failed panics, the
// attempt is not counted in the store.
func TestHostileRetryIsLoggedBeforeItIsMarked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		r := recorder{then: func(context.Context, *event.Delivery) error { return event.Retry(errBoom, time.Hour) }}
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithLogger(slog.New(panicOn{alwaysOn{}, "trying again"})))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Minute)
		recs, err := s.Load(t.Context(), 0, []string{"1"})
		require.NoError(t, err)
		require.Len(t, recs, 1)
		if len(r.deliveries()) != recs[0].Attempts || recs[0].Due.IsZero() {
			t.Errorf("%d attempts failed, the store knows of %d; due: %v", len(r.deliveries()), recs[0].Attempts, recs[0].Due)
		}
		stop(h)
	})
}

// alwaysOn is a slog handler that writes nothing.
type alwaysOn struct{ slog.Handler }

func (alwaysOn) Enabled(context.Context, slog.Level) bool  { return true }
func (alwaysOn) Handle(context.Context, slog.Record) error { return nil }

// TestHostileTwoCallsOfShutdown: the second call does not wait until the first has stopped the
// feeds. So what rests is tried at once, although "what waits stays in the store".
func TestHostileTwoCallsOfShutdown(t *testing.T) {
	t.Parallel()
	const parts, each = 8, 2000
	source := newStore(t)
	var data []byte
	source.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
		for _, rec := range c.Add {
			data = rec.Data
		}
		return webhooktest.Fault{}
	})
	receiver := newHandler(t, nothing(), webhook.WithStore(source), webhook.WithReceiveOnly())
	require.Equal(t, http.StatusOK, post(receiver, body("ONX", nil)))
	s := newStore(t, webhooktest.WithPartitions(parts))
	for part := range parts {
		recs := make([]*webhook.Record, 0, each)
		for range each {
			recs = append(recs, &webhook.Record{Part: part, Data: data, Received: time.Now(), Attempts: 1, Due: time.Now().Add(time.Hour)})
		}
		require.NoError(t, s.Commit(t.Context(), recs, nil))
	}
	var r recorder
	h := newHandler(t, &r, webhook.WithStore(s.Open()))
	require.Eventually(t, func() bool { return h.Stats().Store.InMemory == parts*each }, time.Minute, 10*time.Millisecond)
	require.Empty(t, r.deliveries())
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() { _ = h.Shutdown(context.Background()) })
	}
	calls.Wait()
	if n := len(r.deliveries()); n > 0 {
		t.Errorf("%d deliveries were handled an hour before they are due", n)
	}
}

// TestHostileMarkThatHangs: a Commit of marks alone has five seconds, five times what a request
// waits. If it waits for a lock, the events that come meanwhile are lost.
func TestHostileMarkThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(ctx context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op != webhooktest.OpCommit {
				return webhooktest.Fault{}
			}
			for _, m := range c.Marks {
				if m.ID == "1" { // another transaction has locked it
					<-ctx.Done()
					return webhooktest.Fault{Err: ctx.Err()}
				}
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s))
		lost := 0
		var all sync.WaitGroup
		var mu sync.Mutex
		for i := range 600 {
			all.Go(func() {
				if post(h, deal(i+1, 1)) != http.StatusOK {
					mu.Lock()
					defer mu.Unlock()
					lost++
				}
			})
			<-time.After(100 * time.Millisecond)
		}
		all.Wait()
		if lost > 60 {
			t.Errorf("one record is locked for a minute: %d of 600 deliveries were answered 503", lost)
		}
		s.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileIdleOfAStoreThatFails: Idle "returns the cause of ctx if that ends first".
func TestHostileIdleOfAStoreThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		once := true
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpDepth && once {
				once = false
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		if err := h.Idle(t.Context()); err != nil {
			t.Errorf("its context has not ended: %v", err)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileErrOfAnAttempt: a record keeps the error of its last failed attempt while the next one
// runs. See Record.Err.
func TestHostileErrOfAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		stored(t, s, []string{deal(1, 1)})
		require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: "1", State: webhook.StatePending, Attempts: 2, Err: "boom"}}))
		r := recorder{then: func(context.Context, *event.Delivery) error { <-time.After(time.Minute); return nil }}
		h := newHandler(t, &r, webhook.WithStore(s.Open()))
		<-time.After(time.Second)
		recs, err := s.Load(t.Context(), 0, []string{"1"})
		require.NoError(t, err)
		require.Len(t, recs, 1)
		if recs[0].Err != "boom" {
			t.Errorf("two attempts failed, and the store has forgotten why: %+q", recs[0].Err)
		}
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// oddTx is a Transactor of which a method panics once.
type oddTx struct {
	*webhooktest.MemoryStore

	attempt, finish bool
}

func (s *oddTx) Attempt(ctx context.Context, _ int, _ string) (context.Context, func(error) error) {
	if s.attempt {
		s.attempt = false
		panic("attempt")
	}
	return ctx, func(err error) error {
		if s.finish {
			s.finish = false
			panic("finish")
		}
		return err
	}
}

// TestHostileTransactorThatPanics: after a panic of the store in Commit, Feed or Load the Handler
// tries again. In Attempt and finish it parks a delivery that is not to blame.
func TestHostileTransactorThatPanics(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"attempt", "finish"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &oddTx{newStore(t), where == "attempt", where == "finish"}
				h := newHandler(t, nothing(), webhook.WithStore(s))
				require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
				require.NoError(t, h.Idle(t.Context()))
				if n := h.Stats().Store.Parked; n > 0 {
					t.Errorf("%d parked, and no handler failed", n)
				}
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestHostileManyCallsOfShutdown: "All calls return the same, and the first context that ends, ends
// the wait for all". If the store of the leases hangs, the other calls go on waiting for it.
func TestHostileManyCallsOfShutdown(t *testing.T) {
	t.Parallel()
	for _, hangs := range []bool{false, true} {
		t.Run(strconv.FormatBool(hangs), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t, webhooktest.WithPartitions(2))
				release := make(chan struct{})
				h := newHandler(t, do(func(context.Context, *event.Delivery) error { <-release; return nil }), webhook.WithStore(s),
					webhook.WithLeaseTTL(30*time.Second))
				<-time.After(10 * time.Second)
				for i := range 5 {
					require.Equal(t, http.StatusOK, post(h, dealOf(i, 1, 1)))
				}
				synctest.Wait()
				if hangs {
					s.SetFaults(func(ctx context.Context, _ webhooktest.Call) webhooktest.Fault {
						<-ctx.Done()
						return webhooktest.Fault{Err: ctx.Err()}
					})
				}
				start := time.Now()
				var all sync.WaitGroup
				var mu sync.Mutex
				var errs []error
				for i := range 5 {
					all.Go(func() {
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(3+10*i)*time.Second)
						defer cancel()
						err := h.Shutdown(ctx)
						mu.Lock()
						defer mu.Unlock()
						errs = append(errs, err)
					})
				}
				all.Wait()
				if took := time.Since(start); took > 3*time.Second+webhook.ShutdownGrace {
					t.Errorf("the first context ended after 3s, the last call returned after %v", took)
				}
				for _, err := range errs {
					require.Equal(t, errs[0], err)
					require.ErrorIs(t, err, webhook.ErrShutdown)
				}
				require.Equal(t, errs[0], h.Shutdown(t.Context()))
				close(release)
				<-time.After(time.Minute)
			})
		})
	}
}

// TestHostileLoadOfOtherData: Load returns the delivery of another portal and object under the ID
// that was asked for. It is handled in the place of the first, outside of the order of its own
// object.
func TestHostileLoadOfOtherData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &oddStore{MemoryStore: newStore(t)}
		s.load = func(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
			recs, err := s.MemoryStore.Load(ctx, part, ids)
			other, _ := s.MemoryStore.Load(ctx, part, []string{"1"})
			for _, rec := range recs {
				if len(other) == 1 {
					rec.Data = other[0].Data
				}
			}
			return recs, err
		}
		w := newWatch(t)
		w.then = func(context.Context, *event.Delivery) error { <-time.After(time.Minute); return nil }
		h := newHandler(t, w, webhook.WithStore(s), webhook.WithQueueSize(1))
		require.Equal(t, http.StatusOK, post(h, dealOf(1, 1, 1)))
		synctest.Wait()
		require.Equal(t, http.StatusOK, post(h, dealOf(2, 2, 1)))
		<-time.After(30 * time.Second)
		if w.over > 0 {
			t.Errorf("%d handlers of one object overlap", w.over)
		}
		stop(h)
		<-time.After(time.Hour)
	})
}

// TestHostilePortalThatFoundNoRoom: the memory was full when the first record of a portal came.
// Then a quarter of it is free, and the portal waits until half of it is.
func TestHostilePortalThatFoundNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := recorder{then: func(_ context.Context, d *event.Delivery) error {
			switch d.MemberID() {
			case memberOf(1):
				return event.Retry(errBoom, time.Hour) // the portal is down
			case memberOf(2), memberOf(3):
				<-gate
			}
			return nil
		}}
		h := newHandler(t, &r, webhook.WithStore(newStore(t)), webhook.WithQueueSize(1)) // 20 records
		synctest.Wait()
		send := func(portal, n int) {
			for i := range n {
				require.Equal(t, http.StatusOK, post(h, dealOf(portal, i+1, 1)))
				synctest.Wait()
			}
		}
		send(1, 30) // 15 of them in memory
		send(2, 3)
		send(3, 2)
		require.Equal(t, 20, h.Stats().Store.InMemory)
		send(4, 1)
		close(gate)
		<-time.After(3 * time.Hour)
		n := 0
		for _, d := range r.deliveries() {
			if d.MemberID() == memberOf(4) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("%d of 20 records are in memory, and nothing of the fourth portal was handled in three hours; Health returns %v",
				h.Stats().Store.InMemory, h.Health())
		}
		stop(h)
		<-time.After(time.Hour)
	})
}

// TestHostileBacklogIsReadAgain: records that find no room are read and decoded, left, and read
// again each time that the feed restarts.
func TestHostileBacklogIsReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		s := newStore(t)
		source := newStore(t)
		receiver := newHandler(t, nothing(), webhook.WithStore(source), webhook.WithReceiveOnly())
		require.Equal(t, http.StatusOK, post(receiver, body("ONX", nil)))
		recs, err := source.Load(t.Context(), 0, []string{"1"})
		require.NoError(t, err)
		all := make([]*webhook.Record, 0, n)
		for range n {
			rec := *recs[0]
			rec.ID = ""
			all = append(all, &rec)
		}
		require.NoError(t, s.Commit(t.Context(), all, nil))
		var read atomic.Int64
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpFeed {
				read.Add(1)
			}
			return webhooktest.Fault{}
		})
		start := time.Now()
		h := newHandler(t, nothing(), webhook.WithStore(s), webhook.WithQueueSize(10))
		require.NoError(t, h.Idle(t.Context()))
		if took := time.Since(start); read.Load() > 6*n || took > 30*time.Second {
			t.Errorf("%d records that take no time took %v, and %d were read", n, took, read.Load())
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostileInstalledAgain: a portal removes the application and installs it again. Events that
// come afterwards are not "what package webhook still holds", even if they do not say when they
// were fired.
func TestHostileInstalledAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ removal, later fields }{
		"the removal has no time":         {fields{"ts": ""}, fields{"ts": "5000"}},
		"the event has no time":           {fields{"ts": "1000"}, fields{"ts": ""}},
		"the portal's clock was set back": {fields{"ts": "1000"}, fields{"ts": "990"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := recorder{then: func(ctx context.Context, d *event.Delivery) error {
					if d.Name == "ONAPPUNINSTALL" {
						event.ReportRemoval(ctx, d)
					}
					return nil
				}}
				h := newHandler(t, &r, webhook.WithStore(newStore(t)))
				require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", test.removal)))
				require.NoError(t, h.Idle(t.Context()))
				<-time.After(10 * time.Minute)
				test.later["data[FIELDS][ID]"] = "7"
				require.Equal(t, http.StatusOK, post(h, body("ONAPPINSTALL", nil)))
				require.Equal(t, http.StatusOK, post(h, body("ONCRMDEALUPDATE", test.later)))
				require.NoError(t, h.Idle(t.Context()))
				if n := len(r.deliveries()); n < 3 {
					t.Errorf("%d of 3 were handled, %d were dropped: the change came ten minutes after the removal", n, h.Stats().Removed)
				}
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestHostileLeaseLostThenLeft: the lease is lost while a handler runs that ends 6 s after its
// context, then it is gained and asked for by another process. The partition must not be another's
// before the handler has ended.
func TestHostileLeaseLostThenLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		w.then = func(ctx context.Context, _ *event.Delivery) error {
			select {
			case <-time.After(30 * time.Second):
				return nil
			case <-ctx.Done():
				<-time.After(6 * time.Second)
				return context.Cause(ctx)
			}
		}
		data := newStore(t, webhooktest.WithPartitions(2))
		s := &oddStore{MemoryStore: data.Open()}
		var mu sync.Mutex
		lose := false
		s.acquire = func(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
			held, err := s.MemoryStore.Acquire(ctx, owner, ttl, names...)
			mu.Lock()
			defer mu.Unlock()
			if lose {
				lose, held = false, nil
			}
			return held, err
		}
		one := newHandler(t, w, webhook.WithStore(s))
		<-time.After(10 * time.Second)
		for n := range 8 {
			require.Equal(t, http.StatusOK, post(one, dealOf(n, 1, 1)))
		}
		<-time.After(time.Second)
		mu.Lock()
		lose = true
		mu.Unlock()
		<-time.After(1300 * time.Millisecond)
		two := newHandler(t, w, webhook.WithStore(data.Open()))
		require.NoError(t, two.Idle(t.Context()))
		if w.over > 0 {
			t.Errorf("%d handlers of the same object overlapped", w.over)
		}
		require.NoError(t, one.Shutdown(t.Context()))
		require.NoError(t, two.Shutdown(t.Context()))
	})
}

// TestHostileRemovalBehindAHandler: what waits for the end of a handler of an earlier tenure is
// dropped, too, when the portal removes the application.
func TestHostileRemovalBehindAHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var after atomic.Int32
		release := make(chan struct{})
		handler := do(func(ctx context.Context, d *event.Delivery) error {
			switch {
			case d.Name == "ONAPPUNINSTALL":
				event.ReportRemoval(ctx, d)
			case d.Time.Unix() == 1:
				<-release
			default:
				after.Add(1)
			}
			return nil
		})
		s := newStore(t, webhooktest.WithPartitions(2))
		one := newHandler(t, handler, webhook.WithStore(s.Open()))
		<-time.After(10 * time.Second)
		for n := range 6 {
			require.Equal(t, http.StatusOK, post(one, dealOf(n, 1, 1)))
			require.Equal(t, http.StatusOK, post(one, dealOf(n, 1, 2)))
		}
		<-time.After(time.Second)
		two := newHandler(t, handler, webhook.WithStore(s.Open()))
		<-time.After(time.Minute) // one has its partitions back
		for n := range 6 {
			require.Equal(t, http.StatusOK, post(one, body("ONAPPUNINSTALL", fields{"ts": "10", "auth[member_id]": memberOf(n)})))
		}
		<-time.After(time.Second)
		close(release)
		require.NoError(t, two.Idle(t.Context()))
		if n := after.Load(); n > 0 {
			t.Errorf("%d older deliveries were handled after the removal", n)
		}
		require.NoError(t, one.Shutdown(t.Context()))
		require.NoError(t, two.Shutdown(t.Context()))
	})
}

// TestHostileTextsOfPeople: texts that people write are not tokens. Without a key, a handler gets
// different texts from a store than from the memory queue.
func TestHostileTextsOfPeople(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a message about a login": "the new login is bob, password=correcthorsebattery",
		"a link":                  "see https://shop.example.com/reset?token=1234567890abcdef1234",
		"a code":                  "Authorization: Bearer is missing in my request",
		"a JSON text":             `{"password":"correcthorsebattery","answer":42}`,
		"a field of the portal's": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := body("ONIMBOTMESSAGEADD", fields{"data[PARAMS][MESSAGE]": text, "data[PARAMS][MESSAGE_ID]": "7"})
				if text == "" {
					b = body("ONIMBOTMESSAGEADD", fields{"data[PARAMS][PASSWORD_RESET_CODE]": "4711 4711 4711", "data[PARAMS][MESSAGE_ID]": "7"})
				}
				var got []string
				for _, opts := range [][]webhook.Option{nil, {webhook.WithStore(newStore(t))}} {
					var r recorder
					h := newHandler(t, &r, opts...)
					require.Equal(t, http.StatusOK, post(h, b))
					require.NoError(t, h.Idle(t.Context()))
					require.NoError(t, h.Shutdown(t.Context()))
					got = append(got, string(r.deliveries()[0].Data.JSON()))
				}
				if got[0] != got[1] {
					t.Errorf("the handler gets %s, and %s from the memory queue", got[1], got[0])
				}
			})
		})
	}
}

// TestHostileOrderAfterALostLease: the lease is lost while a handler runs, which fails a little
// after its context has ended. The process has the partition again. The delivery that failed comes
// before the next of its object.
func TestHostileOrderAfterALostLease(t *testing.T) {
	t.Parallel()
	for name, takes := range map[string]time.Duration{
		"at once": 0, "half a second": 500 * time.Millisecond, "three seconds": 3 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &oddStore{MemoryStore: newStore(t, webhooktest.WithPartitions(2))}
				var mu sync.Mutex
				lose := false
				s.acquire = func(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
					held, err := s.MemoryStore.Acquire(ctx, owner, ttl, names...)
					mu.Lock()
					defer mu.Unlock()
					if lose {
						lose, held = false, nil
					}
					return held, err
				}
				var handled []int64
				h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
					select {
					case <-time.After(10 * time.Second):
					case <-ctx.Done():
						<-time.After(takes)
						return context.Cause(ctx)
					}
					mu.Lock()
					defer mu.Unlock()
					handled = append(handled, d.Time.Unix())
					return nil
				}), webhook.WithStore(s))
				<-time.After(10 * time.Second)
				for ts := range 4 {
					require.Equal(t, http.StatusOK, post(h, dealOf(1, 1, ts+1)))
				}
				<-time.After(time.Second)
				mu.Lock()
				lose = true
				mu.Unlock()
				require.NoError(t, h.Idle(t.Context()))
				for i, ts := range handled {
					if int(ts) != i+1 {
						t.Errorf("handled in the order %v", handled)
						break
					}
				}
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestHostileOrderAfterTakeBack is the same for a partition that is taken back because a handler
// goes on although its context has ended. It fails then.
func TestHostileOrderAfterTakeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		handled := make(map[string][]int64)
		failed := make(map[string]bool)
		handler := do(func(_ context.Context, d *event.Delivery) error {
			mu.Lock()
			fails := d.Time.Unix() == 1 && !failed[d.MemberID()]
			failed[d.MemberID()] = failed[d.MemberID()] || fails
			mu.Unlock()
			if fails {
				<-time.After(30 * time.Second)
				return errBoom
			}
			mu.Lock()
			defer mu.Unlock()
			handled[d.MemberID()] = append(handled[d.MemberID()], d.Time.Unix())
			return nil
		})
		s := newStore(t, webhooktest.WithPartitions(2))
		one := newHandler(t, handler, webhook.WithStore(s.Open()))
		<-time.After(10 * time.Second)
		for ts := range 4 {
			for n := range 6 {
				require.Equal(t, http.StatusOK, post(one, dealOf(n, 1, ts+1)))
			}
		}
		<-time.After(time.Second)
		two := newHandler(t, handler, webhook.WithStore(s.Open()))
		require.NoError(t, two.Idle(t.Context()))
		for member, order := range handled {
			require.Len(t, order, 4, member)
			for i, ts := range order {
				if int(ts) != i+1 {
					t.Errorf("handled in the order %v", order)
					break
				}
			}
		}
		require.NoError(t, one.Shutdown(t.Context()))
		require.NoError(t, two.Shutdown(t.Context()))
	})
}

// TestHostileShutdownWhileRemovalIsReported: Shutdown waits for reports to WithOnDropped. A
// delivery that was reported as removed is not handled after the next start.
func TestHostileShutdownWhileRemovalIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var reported atomic.Int32
		release := make(chan struct{})
		h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
			if d.Name == "ONAPPUNINSTALL" {
				<-release
				event.ReportRemoval(ctx, d)
			}
			return nil
		}), webhook.WithStore(s), webhook.WithQueueSize(10), webhook.WithWorkers(1), webhook.WithPortalWorkers(1),
			webhook.WithOnDropped(func(*event.Delivery, error) {
				<-time.After(100 * time.Millisecond)
				reported.Add(1)
			}))
		synctest.Wait()
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit && len(c.Marks) > 0 {
				<-time.After(10 * time.Millisecond)
			}
			return webhooktest.Fault{}
		})
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", fields{"ts": "1000"})))
		synctest.Wait()
		for i := range 100 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		close(release)
		<-time.After(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, h.Shutdown(ctx))
		atReturn := reported.Load()
		<-time.After(time.Minute)
		if later := reported.Load(); later > atReturn {
			t.Errorf("%d were reported after Shutdown had returned", later-atReturn)
		}
		var r recorder
		again := newHandler(t, &r, webhook.WithStore(s.Open()))
		require.NoError(t, again.Idle(t.Context()))
		if n := len(r.deliveries()) + int(reported.Load()); n > 100 {
			t.Errorf("%d of 100 were reported as removed, and %d were handled after the next start", reported.Load(), len(r.deliveries()))
		}
		require.NoError(t, again.Shutdown(t.Context()))
	})
}

// TestHostileWhatWaitsIsNotLeft: with a store, ShutdownError counts the deliveries whose handlers
// did not end in time. No handler runs here, so nothing is left.
func TestHostileWhatWaitsIsNotLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { return event.Retry(errBoom, time.Hour) }),
			webhook.WithStore(newStore(t)))
		for i := range 2000 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		<-time.After(time.Minute)
		require.Zero(t, h.Stats().Running)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("no handler ran, everything is in the store: %v", err)
		}
		<-time.After(time.Minute)
	})
}

// The tests below pass. They catch changes of the code that no other test catches.

// TestGuardStaleRecord: a feed that read a record before it was settled yields it afterwards.
func TestGuardStaleRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &oddStore{MemoryStore: newStore(t)}
		read := make(chan struct{})
		feeds := 0
		s.feed = func(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
			feeds++
			if feeds == 1 {
				return func(yield func(*webhook.Record, error) bool) {
					for rec, err := range s.MemoryStore.Feed(ctx, part) {
						if yield(rec, err) {
							yield(nil, errBoom)
						}
						return
					}
				}
			}
			return func(yield func(*webhook.Record, error) bool) {
				stale, err := s.MemoryStore.Load(ctx, part, []string{"1"})
				require.NoError(t, err)
				if feeds == 2 {
					require.Len(t, stale, 1)
					close(read)
				}
				<-time.After(time.Second)
				for _, rec := range stale {
					if !yield(rec, nil) {
						return
					}
				}
				s.MemoryStore.Feed(ctx, part)(yield)
			}
		}
		r := recorder{then: func(context.Context, *event.Delivery) error { <-read; return nil }}
		h := newHandler(t, &r, webhook.WithStore(s))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(10 * time.Second)
		require.NoError(t, h.Idle(t.Context()))
		require.Len(t, r.deliveries(), 1, "a record that was settled is not handled again")
		require.Equal(t, 2, feeds)
		require.Zero(t, h.Stats().Store.InMemory)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardPlacesOfAPortal: a portal that always has records in memory gets its places back.
func TestGuardPlacesOfAPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		loads := 0
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpLoad {
				loads++
			}
			return webhooktest.Fault{}
		})
		rest := true
		r := recorder{then: func(_ context.Context, d *event.Delivery) error {
			if d.Entity().ID == "1" && rest {
				return event.Retry(errBoom, time.Hour)
			}
			return nil
		}}
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(8))
		for i := range 200 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
			synctest.Wait()
			<-time.After(100 * time.Millisecond)
		}
		require.Zero(t, loads, "there was room for each")
		require.LessOrEqual(t, h.Stats().Store.Places, int64(1))
		rest = false
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardPortalsAreLetGo: a portal without records in memory takes no memory.
func TestGuardPortalsAreLetGo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	if !inChild(t) {
		return
	}
	h, err := webhook.NewHandler(anyPortal(), nothing(), silent(), webhook.WithStore(newStore(t)))
	require.NoError(t, err)
	round := func(from int) int64 {
		for i := range 5000 {
			require.Equal(t, http.StatusOK, post(h, dealOf(from+i, 1, 1)))
		}
		require.NoError(t, h.Idle(t.Context()))
		return heapInUse()
	}
	round(0)
	round(5000) // all that is remembered for a while is
	before := round(10_000)
	if grown := round(15_000) - before; grown > 2<<20 {
		t.Errorf("5000 portals came and went, and left %d KiB", grown>>10)
	}
	require.NoError(t, h.Shutdown(t.Context()))
}

// TestGuardFeedThatEnds: a feed that ends without an error begins again, after a while.
func TestGuardFeedThatEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, fails := range []error{nil, errBoom} {
			s := &oddStore{MemoryStore: newStore(t)}
			feeds := 0
			s.feed = func(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
				if feeds++; feeds > 20 {
					return s.MemoryStore.Feed(ctx, part)
				}
				return func(yield func(*webhook.Record, error) bool) {
					if fails != nil {
						yield(nil, fails)
					}
				}
			}
			var r recorder
			h := newHandler(t, &r, webhook.WithStore(s))
			<-time.After(10 * time.Second)
			require.Error(t, h.Health())
			require.LessOrEqual(t, feeds, 7, "the waits are longer each time")
			require.GreaterOrEqual(t, feeds, 4)
			require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
			require.NoError(t, h.Idle(t.Context()))
			require.NoError(t, h.Health())
			require.Len(t, r.deliveries(), 1)
			require.NoError(t, h.Shutdown(t.Context()))
		}
	})
}

// TestGuardPartitionOfAPortal: it never changes, because processes of two versions share a store.
func TestGuardPartitionOfAPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithPartitions(64))
		got := make(map[string]int)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			for _, rec := range c.Add {
				got[rec.MemberID] = rec.Part
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s), webhook.WithReceiveOnly())
		for n := range 20 {
			require.Equal(t, http.StatusOK, post(h, dealOf(n, 1, 1)))
			sum := uint32(2166136261)
			for _, c := range []byte(clientID + "\x00" + memberOf(n)) {
				sum = (sum ^ uint32(c)) * 16777619
			}
			require.Equal(t, int(sum%64), got[memberOf(n)])
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardPartitionIsFreeAgain: a partition was kept because a handler did not end. It is left
// once the handler has ended.
func TestGuardPartitionIsFreeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newStore(t, webhooktest.WithPartitions(2))
		stuck := do(func(context.Context, *event.Delivery) error { <-release; return nil })
		one := newHandler(t, stuck, webhook.WithStore(s.Open()))
		<-time.After(10 * time.Second)
		for n := range 10 {
			require.Equal(t, http.StatusOK, post(one, dealOf(n, 99, 1)))
		}
		<-time.After(time.Second)
		two := newHandler(t, nothing(), webhook.WithStore(s.Open()))
		<-time.After(time.Minute)
		require.Equal(t, 2, one.Stats().Store.Partitions)
		close(release)
		<-time.After(time.Minute)
		require.Equal(t, 1, one.Stats().Store.Partitions)
		require.Equal(t, 1, two.Stats().Store.Partitions)
		require.NoError(t, one.Shutdown(t.Context()))
		require.NoError(t, two.Shutdown(t.Context()))
	})
}

// TestGuardCoalescingOfWhatWasPutAside: the delivery that was fired later stays, even if neither of
// the two is in memory.
func TestGuardCoalescingOfWhatWasPutAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		gate := make(chan struct{})
		r := recorder{then: func(context.Context, *event.Delivery) error { <-gate; return nil }}
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(1), webhook.WithCoalescing(event.OnCrmDealUpdate))
		for _, ts := range []int{1, 5, 3, 9, 2} {
			require.Equal(t, http.StatusOK, post(h, deal(7, ts)))
			synctest.Wait()
		}
		close(gate)
		require.NoError(t, h.Idle(t.Context()))
		got := r.deliveries()
		require.Len(t, got, 2)
		require.EqualValues(t, 9, got[1].Time.Unix())
		require.EqualValues(t, 3, h.Stats().Coalesced)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardExitOfOnDropped: the record is still parked.
func TestGuardExitOfOnDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { return errBoom }), webhook.WithStore(s),
			webhook.WithMaxAttempts(2), webhook.WithOnDropped(func(*event.Delivery, error) { runtime.Goexit() }))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(7)))
		require.NoError(t, h.Idle(t.Context()))
		parked, err := archive(t, s).Parked(t.Context(), "", 10)
		require.NoError(t, err)
		require.Len(t, parked, 1)
		require.Equal(t, 2, parked[0].Attempts)
		require.Equal(t, "boom", parked[0].Err)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardCountersOfAnAttempt follows the counters of a recovered record in the store.
func TestGuardCountersOfAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		stored(t, s, []string{dealUpdate(1)})
		require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: "1", State: webhook.StatePending, Attempts: 1, Interrupted: 1}}))
		record := func() *webhook.Record {
			recs, err := s.Load(t.Context(), 0, []string{"1"})
			require.NoError(t, err)
			require.Len(t, recs, 1)
			return recs[0]
		}
		r := recorder{then: func(ctx context.Context, _ *event.Delivery) error {
			select {
			case <-time.After(10 * time.Second):
				return event.Retry(errBoom, 10*time.Second)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}}
		h := newHandler(t, &r, webhook.WithStore(s.Open()))
		<-time.After(5 * time.Second)
		require.Equal(t, 2, record().Interrupted, "the attempt began")
		require.Equal(t, 1, record().Attempts)
		<-time.After(10 * time.Second)
		rests := record()
		require.Zero(t, rests.Interrupted, "it ended")
		require.Equal(t, 2, rests.Attempts)
		require.Equal(t, "boom", rests.Err)
		require.InDelta(t, 5, time.Until(rests.Due).Seconds(), 1)
		<-time.After(10 * time.Second)
		require.Equal(t, 1, record().Interrupted, "the next one began")
		require.Equal(t, 2, record().Attempts)
		stop(h)
		require.Zero(t, record().Interrupted, "it was cut")
		require.Equal(t, 2, record().Attempts)
	})
}

// TestGuardBoundsOfCommits: a Commit and a Load have no more records than they may.
func TestGuardBoundsOfCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var mu sync.Mutex
		refuse := false
		most := func(ctx context.Context, within time.Duration) {
			end, ok := ctx.Deadline()
			require.True(t, ok)
			require.LessOrEqual(t, time.Until(end), within)
		}
		s.SetFaults(func(ctx context.Context, c webhooktest.Call) webhooktest.Fault {
			switch c.Op { //nolint:exhaustive // the others have no bound
			case webhooktest.OpCommit:
				most(ctx, 5*time.Second)
				size := 0
				for _, rec := range c.Add {
					size += len(rec.Data)
				}
				require.LessOrEqual(t, len(c.Add), 512)
				require.True(t, len(c.Add) == 1 || size <= 4<<20, "%d records of %d bytes", len(c.Add), size)
				require.LessOrEqual(t, len(c.Marks), 4096)
				<-time.After(100 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				if refuse && len(c.Marks) > 0 {
					return webhooktest.Fault{Err: errBoom}
				}
			case webhooktest.OpLoad:
				most(ctx, 5*time.Second)
				require.LessOrEqual(t, len(c.IDs), 64)
				<-time.After(100 * time.Millisecond)
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s), webhook.WithQueueSize(250), webhook.WithWorkers(200), webhook.WithPortalWorkers(200),
			webhook.WithMaxInFlightBytes(1<<30), webhook.WithEnqueueTimeout(4*time.Second))
		var all sync.WaitGroup
		for i := range 1500 {
			all.Go(func() { require.Equal(t, http.StatusOK, post(h, deal(i+1, 1))) })
		}
		all.Wait()
		require.NoError(t, h.Idle(t.Context()))
		for i := range 20 {
			all.Go(func() {
				require.Equal(t, http.StatusOK,
					post(h, body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": strconv.Itoa(i), "data[X]": strings.Repeat("x", 700<<10)})))
			})
		}
		all.Wait()
		require.NoError(t, h.Idle(t.Context()))
		mu.Lock()
		refuse = true
		mu.Unlock()
		for i := range 4800 {
			all.Go(func() { _ = post(h, deal(i+1, 1)) })
			if i%400 == 399 {
				all.Wait()
			}
		}
		<-time.After(time.Minute)
		mu.Lock()
		refuse = false
		mu.Unlock()
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardPanicsOfTheStore: they become errors.
func TestGuardPanicsOfTheStore(t *testing.T) {
	t.Parallel()
	for _, op := range []webhooktest.Op{webhooktest.OpCommit, webhooktest.OpLoad, webhooktest.OpFeed} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				var calls atomic.Int32
				s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
					if c.Op == op && calls.Add(1) <= 2 {
						panic("boom")
					}
					return webhooktest.Fault{}
				})
				var r recorder
				h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(1))
				accepted := 0
				for i := range 10 {
					if post(h, deal(i+1, 1)) == http.StatusOK {
						accepted++
					}
				}
				require.GreaterOrEqual(t, accepted, 8)
				require.NoError(t, h.Idle(t.Context()))
				require.Len(t, r.deliveries(), accepted)
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestGuardLastMarks: they are stored although the context of Shutdown has ended. The log counts
// those that cannot be stored.
func TestGuardLastMarks(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		t.Run(strconv.FormatBool(fails), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
					if c.Op == webhooktest.OpCommit && len(c.Marks) > 0 {
						<-time.After(200 * time.Millisecond)
						if fails {
							return webhooktest.Fault{Err: errBoom}
						}
					}
					return webhooktest.Fault{}
				})
				var r recorder
				var out loot
				h := newHandler(t, &r, webhook.WithStore(s), webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
				synctest.Wait() // for the feed to begin: nothing is recovered
				require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
				synctest.Wait()
				require.Len(t, r.deliveries(), 1)
				start := time.Now()
				stop(h)
				require.Less(t, time.Since(start), webhook.ShutdownGrace)
				if fails {
					require.Contains(t, out.String(), "records=1")
					require.Equal(t, 1, pending(t, s))
					return
				}
				require.Zero(t, pending(t, s))
			})
		})
	}
}

// TestGuardRemovalKeepsWhatIsNewer: deliveries that were fired after the removal stay, because
// there may be a new installation.
func TestGuardRemovalKeepsWhatIsNewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost drops
		r := recorder{then: func(ctx context.Context, d *event.Delivery) error {
			if d.Name == "ONAPPUNINSTALL" {
				<-time.After(time.Second)
				event.ReportRemoval(ctx, d)
				return nil
			}
			<-time.After(10 * time.Second)
			return nil
		}}
		h := newHandler(t, &r, webhook.WithStore(newStore(t)), webhook.WithQueueSize(2), webhook.WithWorkers(1),
			webhook.WithPortalWorkers(1), lost.option())
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", fields{"ts": "100"})))
		for i, ts := range []int{10, 99, 100, 101, 200} {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, ts)))
			synctest.Wait()
		}
		require.NoError(t, h.Idle(t.Context()))
		require.ElementsMatch(t, []string{"", "1", "4", "5"}, ids(r.deliveries()))
		got, _ := lost.list()
		require.ElementsMatch(t, []string{"2", "3"}, got)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardHandOverWaits: handlers have three seconds before their contexts end.
func TestGuardHandOverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithPartitions(2))
		var cut, calls atomic.Int32
		handler := do(func(ctx context.Context, _ *event.Delivery) error {
			calls.Add(1)
			select {
			case <-time.After(2500 * time.Millisecond):
				return nil
			case <-ctx.Done():
				cut.Add(1)
				return context.Cause(ctx)
			}
		})
		one := newHandler(t, handler, webhook.WithStore(s.Open()))
		<-time.After(10 * time.Second)
		two := newHandler(t, handler, webhook.WithStore(s.Open()))
		for i := range 20 {
			for n := range 4 {
				require.Equal(t, http.StatusOK, post(one, dealOf(n, i+1, 1)))
			}
			<-time.After(500 * time.Millisecond)
		}
		require.NoError(t, two.Idle(t.Context()))
		require.Equal(t, 1, two.Stats().Store.Partitions)
		require.Zero(t, cut.Load())
		require.EqualValues(t, 80, calls.Load())
		require.NoError(t, one.Shutdown(t.Context()))
		require.NoError(t, two.Shutdown(t.Context()))
	})
}

// TestGuardPartitionGainedWhileClosing: the leases come after Shutdown was called.
func TestGuardPartitionGainedWhileClosing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithPartitions(2))
		stored(t, s, []string{dealUpdate(1)})
		data := s.Open()
		data.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpAcquire && len(c.Names) > 1 {
				<-time.After(time.Second)
			}
			return webhooktest.Fault{}
		})
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(data))
		<-time.After(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		require.NoError(t, h.Shutdown(ctx))
		require.Less(t, time.Since(start), 10*time.Second)
		<-time.After(time.Minute)
		require.Empty(t, r.deliveries())
		held, err := s.Held(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, held)
	})
}

// TestGuardMarksRide: outcomes are stored together with the next deliveries. While deliveries come,
// outcomes cost no commits of their own.
func TestGuardMarksRide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, nothing(), webhook.WithStore(newStore(t)))
		synctest.Wait() // for the feed to begin: nothing is recovered
		for i := range 100 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
			<-time.After(10 * time.Millisecond)
		}
		require.NoError(t, h.Idle(t.Context()))
		require.LessOrEqual(t, h.Stats().Store.Commits, uint64(110))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardPlacesOfWhatRuns: a delivery that was loaded is charged while it is handled. One that
// rests is not charged if the memory is half full.
func TestGuardPlacesOfWhatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rest := true
		r := recorder{then: func(context.Context, *event.Delivery) error {
			<-time.After(time.Second)
			if rest {
				return event.Retry(errBoom, time.Hour)
			}
			return nil
		}}
		h := newHandler(t, &r, webhook.WithStore(newStore(t)), webhook.WithQueueSize(4), webhook.WithWorkers(6), webhook.WithPortalWorkers(6))
		for i := range 20 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		<-time.After(500 * time.Millisecond)
		require.Equal(t, 6, h.Stats().Running)
		require.GreaterOrEqual(t, h.Stats().Store.Places, int64(6))
		<-time.After(time.Minute)
		require.Equal(t, 20, h.Stats().Queued)
		require.LessOrEqual(t, h.Stats().Store.Places, int64(2))
		rest = false
		require.NoError(t, h.Idle(t.Context()))
		require.Zero(t, h.Stats().Store.Places)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestGuardRequestsAtTheEnd: a request that waits for the store returns when Shutdown gives up.
func TestGuardRequestsAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(ctx context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit {
				<-ctx.Done()
				return webhooktest.Fault{Err: ctx.Err()}
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s), webhook.WithEnqueueTimeout(time.Hour))
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() { require.Equal(t, http.StatusServiceUnavailable, post(h, deal(i+1, 1))) })
			<-time.After(time.Millisecond)
		}
		start := time.Now()
		stop(h)
		all.Wait()
		require.LessOrEqual(t, time.Since(start), webhook.ShutdownGrace)
		require.EqualValues(t, 3, h.Stats().Lost)
	})
}
