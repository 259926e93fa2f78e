package lease

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var errStore = errors.New("no connection")

func down(context.Context, string) error { return errStore }

func acquire(t *testing.T, k *Keeper, names ...string) []*Lease {
	t.Helper()
	leases, err := k.Acquire(t.Context(), names...)
	require.NoError(t, err)
	return leases
}

func lost(l *Lease) bool {
	select {
	case <-l.Lost():
		return true
	default:
		return false
	}
}

func TestLeasesAreHeldUntilTheyAreReleased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c := s.client()
		k, other := start(t, c, &wallClock{}), start(t, s.client(), &wallClock{})
		theirs := acquire(t, other, "c")
		leases := acquire(t, k, "a", "b", "c")
		require.Len(t, leases, 2, "the third is another owner's")
		require.Empty(t, acquire(t, other, "a", "b"))
		pass(time.Hour)
		require.Empty(t, acquire(t, other, "a", "b"))
		for _, l := range leases {
			require.True(t, l.Valid())
			require.False(t, lost(l))
			require.LessOrEqual(t, l.Remaining(), ttl-ttl/10)
			require.True(t, k.Holds(l.Name()))
		}
		require.Same(t, leases[0], acquire(t, k, leases[0].Name())[0], "it is renewed")
		asked := c.report().asked
		renewal := asked[len(asked)-2]
		slices.Sort(renewal)
		require.Equal(t, []string{"a", "b"}, renewal, "all in one call")

		require.NoError(t, k.Release(t.Context(), leases...))
		require.Empty(t, s.names("a"))
		require.Len(t, acquire(t, other, "a", "b"), 2)
		for _, l := range leases {
			require.Zero(t, l.Remaining())
			require.False(t, lost(l), "a release is no loss")
		}
		require.NoError(t, other.Release(t.Context(), theirs...))
		other.Stop()
		require.Empty(t, s.names(""))
		_, err := other.Acquire(t.Context(), "a")
		require.ErrorIs(t, err, errStopped)
		other.Stop()
	})
}

// Whatever happens, the holder of a lease knows that it is lost before the store gives it to
// another owner.
func TestLeaseIsLostInTime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		happen func(s *store, c *client, w *wallClock) (end func())
		within time.Duration // since it happened; 0 for what the store allows
	}{
		{"the store fails", func(_ *store, c *client, _ *wallClock) func() { c.fail(down); return nil }, 0},
		{"the store does not answer", func(_ *store, c *client, _ *wallClock) func() {
			c.fail(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
			return nil
		}, 0},
		{"a call hangs and ignores its context", func(_ *store, c *client, _ *wallClock) func() { return c.hang() }, 0},
		{"calls panic", func(_ *store, c *client, _ *wallClock) func() {
			c.fail(func(context.Context, string) error { panic("store") })
			return nil
		}, 0},
		{"calls end their goroutine", func(_ *store, c *client, _ *wallClock) func() {
			c.fail(func(context.Context, string) error { runtime.Goexit(); return nil })
			return nil
		}, 0},
		{"answers come late", func(_ *store, c *client, _ *wallClock) func() {
			c.fail(func(context.Context, string) error { <-time.After(step + 1); return nil })
			return nil
		}, 0},
		{"the clock is set back while the store is away", func(_ *store, c *client, w *wallClock) func() {
			w.set(-time.Hour)
			c.fail(down)
			return nil
		}, 0},
		{"the machine slept, or the clock is set ahead", func(_ *store, _ *client, w *wallClock) func() { w.set(ttl); return nil }, step / 2},
		{"another owner has it", func(s *store, _ *client, _ *wallClock) func() { s.give("a", "another"); return nil }, whole},
		{"the store says that another owner has it", func(_ *store, c *client, _ *wallClock) func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lie = func([]string) []string { return []string{"b", "not asked for"} }
			return nil
		}, whole},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				c, w := s.client(), &wallClock{}
				k := start(t, c, w)
				l := acquire(t, k, "a")[0]
				pass(time.Minute)
				require.True(t, l.Valid())
				happened := time.Now()
				last := c.report().last
				if end := tt.happen(s, c, w); end != nil {
					defer end()
				}
				<-l.Lost()
				if tt.within > 0 {
					require.LessOrEqual(t, time.Since(happened), tt.within)
				} else {
					require.LessOrEqual(t, time.Since(last), ttl-ttl/10, "a margin before it may be another's")
					require.Greater(t, time.Since(last), ttl/2, "a short outage does no harm")
				}
				require.False(t, l.Valid())
				require.Zero(t, l.Remaining())
				require.False(t, k.Holds("a"))
				pass(time.Minute)
				require.True(t, lost(l))
				require.Equal(t, 1, c.report().most, "never two calls at a time")
			})
		})
	}
}

// The alarm sees a jump of the clock while a call holds everything else up.
func TestClockIsLookedAtNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, w := newStore().client(), &wallClock{}
		k := start(t, c, w)
		l := acquire(t, k, "a")[0]
		var jumped time.Time
		c.fail(func(ctx context.Context, _ string) error {
			jumped = time.Now()
			w.set(ttl)
			<-ctx.Done()
			return ctx.Err()
		})
		<-l.Lost()
		require.LessOrEqual(t, time.Since(jumped), step/2)
	})
}

// A lease lasts from before the store was asked, however long the response took.
func TestTimeCountsFromTheQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c := s.client()
		k := start(t, c, &wallClock{})
		c.fail(func(context.Context, string) error {
			<-time.After(step - 1)
			return nil
		})
		began := time.Now()
		l := acquire(t, k, "a")[0]
		require.LessOrEqual(t, l.Remaining(), ttl-ttl/10-time.Since(began))
		pass(time.Minute)
		require.True(t, l.Valid())
		c.fail(down)
		<-l.Lost()
		require.LessOrEqual(t, time.Since(c.report().last), ttl-ttl/10)
		_, left := s.owner("a")
		require.Greater(t, left, step)
	})
}

// After the machine slept, the first look at a lease shows that it is lost, before any timer fires.
func TestLeaseIsLookedAtAfterASleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wallClock{}
		k := start(t, newStore().client(), w)
		l := acquire(t, k, "a")[0]
		w.set(ttl - ttl/10 - 1)
		require.True(t, l.Valid())
		w.set(ttl - ttl/10)
		require.False(t, l.Valid())
		require.True(t, lost(l))
		w.set(0)
		require.False(t, l.Valid(), "lost for good, also if the clock goes back")
		again := acquire(t, k, "a")
		require.Len(t, again, 1, "as another lease")
		require.NotSame(t, l, again[0])
		require.True(t, again[0].Valid())
	})
}

// A jump of the clock that comes and goes between two looks does no harm. Neither does a clock that
// is set back.
func TestClockJumpsUnseen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wallClock{}
		k := start(t, newStore().client(), w)
		l := acquire(t, k, "a")[0]
		w.set(time.Hour)
		w.set(0)
		pass(time.Minute)
		w.set(-time.Hour)
		pass(time.Minute)
		require.True(t, l.Valid())
	})
}

// The clock is set ahead during a call. Nobody knows then how long the call took.
func TestClockJumpsDuringACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, w := newStore().client(), &wallClock{}
		k := start(t, c, w)
		c.fail(func(context.Context, string) error { w.set(time.Hour); return nil })
		require.Empty(t, acquire(t, k, "a"))
		c.fail(nil)
		l := acquire(t, k, "a")[0]
		c.fail(func(context.Context, string) error { w.set(2 * time.Hour); return nil })
		<-l.Lost()
	})
}

// A call that hangs is one goroutine, not one for each step, and the Keeper goes on when it
// returns.
func TestHangingCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c := s.client()
		k := start(t, c, &wallClock{})
		l := acquire(t, k, "a")[0]
		free := c.hang()
		before := c.report().calls
		<-l.Lost()
		began := time.Now()
		_, err := k.Acquire(t.Context(), "a", "b")
		require.ErrorIs(t, err, errHanging)
		require.LessOrEqual(t, time.Since(began), step)
		require.ErrorIs(t, k.Release(t.Context(), l), errHanging)
		pass(time.Hour)
		require.Equal(t, before+1, c.report().calls)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = k.Acquire(ctx, "a")
		require.ErrorIs(t, err, context.Canceled)

		free()
		synctest.Wait()
		require.Len(t, acquire(t, k, "a", "b"), 2)
		k.Stop()
		require.Empty(t, s.names(""))
		require.Equal(t, 1, c.report().most)
	})
}

// Stop ends although the store hangs.
func TestStopWhileACallHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newStore().client()
		k := start(t, c, &wallClock{})
		acquire(t, k, "a")
		free := c.hang()
		pass(time.Minute)
		began := time.Now()
		k.Stop()
		require.LessOrEqual(t, time.Since(began), 2*step)
		free()
	})
}

// A short outage, of which the store recovers within half the time that a lease lasts, is harmless
// at any moment.
func TestShortOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newStore().client()
		l := acquire(t, start(t, c, &wallClock{}), "a")[0]
		for i := range 500 {
			c.fail(down)
			pass(ttl / 2)
			c.fail(nil)
			pass(whole + time.Duration(i)*10*time.Millisecond)
			require.True(t, l.Valid())
		}
	})
}

// Names that the store may have given are released at the end, although there is no lease of them.
func TestStopReleasesWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	fails := func(method string, n int) func(c *client) {
		return func(c *client) {
			c.fail(func(_ context.Context, m string) error {
				if m != method || n == 0 {
					return nil
				}
				n--
				return errStore
			})
		}
	}
	t.Run("the answer was lost", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			c := s.client()
			c.mu.Lock()
			c.lie = func([]string) []string { panic("the connection broke") }
			c.mu.Unlock()
			k := start(t, c, &wallClock{})
			_, err := k.Acquire(t.Context(), "a")
			require.Error(t, err)
			require.Equal(t, []string{"a"}, s.names(""))
			k.Stop()
			require.Empty(t, s.names(""))
		})
	})
	t.Run("the caller did not wait", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			c := s.client()
			c.fail(func(context.Context, string) error { <-time.After(step / 2); return nil })
			k := start(t, c, &wallClock{})
			ctx, cancel := context.WithTimeout(t.Context(), step/4)
			defer cancel()
			_, err := k.Acquire(ctx, "a")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			c.fail(nil)
			k.Stop()
			require.Empty(t, s.names(""))
		})
	})
	t.Run("the release failed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			c := s.client()
			k := start(t, c, &wallClock{})
			l := acquire(t, k, "a")[0]
			fails("Release", 1)(c)
			require.ErrorIs(t, k.Release(t.Context(), l), errStore)
			require.False(t, l.Valid())
			pass(whole)
			require.Empty(t, s.names(""), "it is tried again")
		})
	})
}

// The log has one line for each series of failures, without the address of the store.
func TestFailuresAreLoggedOnceAStreak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var out bytes.Buffer
		c := newStore().client()
		log := slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(p)
		}), nil))
		k := Start(t.Context(), Config{Leaser: c, TTL: ttl, Log: log})
		defer k.Stop()
		acquire(t, k, "a")
		for range 3 {
			c.fail(func(context.Context, string) error {
				return &url.Error{Op: "Get", URL: "https://store/?key=" + "secret", Err: errStore}
			})
			pass(time.Minute)
			_, err := k.Acquire(t.Context(), "a")
			require.ErrorIs(t, err, errStore)
			c.fail(nil)
			acquire(t, k, "a")
			pass(time.Minute)
		}
		mu.Lock()
		defer mu.Unlock()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 3)
		for _, line := range lines {
			require.Contains(t, line, "level=WARN")
			require.Contains(t, line, errStore.Error())
			require.NotContains(t, line, "secret")
		}
	})
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestNotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		var mu sync.Mutex
		var read []string
		holder := Start(t.Context(), Config{Leaser: s.client(), TTL: ttl, Prefix: "p/", Log: quiet(), Noted: func(text string) {
			mu.Lock()
			defer mu.Unlock()
			read = append(read, text)
		}})
		defer holder.Stop()
		noted := func() []string {
			mu.Lock()
			defer mu.Unlock()
			all := read
			read = nil
			slices.Sort(all)
			return all
		}
		c := s.client()
		other := start(t, c, &wallClock{})
		acquire(t, holder, "a")
		for range 20 {
			require.True(t, other.Note("m 1/ä%"))
			require.True(t, other.Note(""))
			require.True(t, other.Note(""))
			pass(step/10 + whole)
			require.Equal(t, []string{"", "m 1/ä%"}, noted(), "once, soon")
			require.LessOrEqual(t, len(s.names("p/wake/")), 2*4, "they do not stay")
		}
		for _, name := range s.names("") {
			require.Regexp(t, `^[!-~]+$`, name)
		}
		pass(time.Minute)
		require.Empty(t, noted())

		for i := range MaxNotes {
			require.True(t, other.Note(strconv.Itoa(i)))
		}
		require.False(t, other.Note("one more"))
		require.True(t, other.Note("0"), "that one is among them")
		before := c.report().calls
		pass(step/10 + whole)
		require.Equal(t, before+1, c.report().calls, "in one call")
		require.Len(t, noted(), MaxNotes)
		require.True(t, other.Note("one more"), "the limit holds for a moment")
		other.Stop()
		require.False(t, other.Note("late"))
	})
}
