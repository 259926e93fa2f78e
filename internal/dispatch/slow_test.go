package dispatch_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// hangs is a handler under which items hang whose names begin so. Others take 100 milliseconds.
func hangs(ctx context.Context, it *dispatch.Item) error {
	if strings.HasPrefix(name(it), "hangs") {
		<-ctx.Done()
		return ctx.Err()
	}
	<-time.After(100 * time.Millisecond)
	return nil
}

func TestSlowPortals(t *testing.T) {
	t.Parallel()
	setUp := func(t *testing.T) (*recorder, *dispatch.Dispatcher) {
		t.Helper()
		r := newRecorder(hangs)
		cfg := setup(r)
		cfg.Workers, cfg.Limit, cfg.SlowShare, cfg.MaxAttempts = 8, 4, 4, 1
		d := dispatch.New(cfg)
		t.Cleanup(func() { accountsAddUp(t, d) })
		return r, d
	}
	enqueue := func(t *testing.T, d *dispatch.Dispatcher, p, what string, n int) {
		t.Helper()
		for i := range n {
			require.NoError(t, d.Enqueue(portal(p), named(what, strconv.Itoa(i)), 0))
		}
	}
	for title, test := range map[string]func(t *testing.T, r *recorder, d *dispatch.Dispatcher){
		"one hanging portal holds up nobody": func(t *testing.T, r *recorder, d *dispatch.Dispatcher) {
			t.Helper()
			enqueue(t, d, "a", "hangs", 100)
			enqueue(t, d, "b", "b", 4)
			synctest.Wait()
			require.Len(t, r.times("hangs"), 4)
			require.Equal(t, []time.Duration{0, 0, 0, 0}, r.times("b"))
		},
		"several hold up others for five seconds": func(t *testing.T, r *recorder, d *dispatch.Dispatcher) {
			t.Helper()
			enqueue(t, d, "a", "hangs", 100)
			enqueue(t, d, "b", "hangs", 100)
			enqueue(t, d, "c", "c", 8)
			<-time.After(dispatch.SlowAfter)
			synctest.Wait()
			require.Len(t, r.times("hangs"), 8)
			require.Len(t, r.times("c"), 4, "half of the workers")
			require.Equal(t, dispatch.SlowAfter, r.times("c")[0])
			r.mu.Lock()
			defer r.mu.Unlock()
			require.Equal(t, 12, r.most)
		},
		"no more than twice the workers run": func(t *testing.T, r *recorder, d *dispatch.Dispatcher) {
			t.Helper()
			for i := range 40 {
				enqueue(t, d, fmt.Sprint("p", i), "hangs", 4)
			}
			<-time.After(50 * time.Second)
			r.mu.Lock()
			defer r.mu.Unlock()
			require.LessOrEqual(t, r.most, 16)
			require.Greater(t, r.most, 8)
		},
		"slow ones are not starved": func(t *testing.T, r *recorder, d *dispatch.Dispatcher) {
			t.Helper()
			enqueue(t, d, "a", "hangs", 1)
			<-time.After(dispatch.SlowAfter)
			synctest.Wait()
			for i := range 3 {
				enqueue(t, d, fmt.Sprint("p", i), "busy", 3000)
			}
			require.NoError(t, d.Enqueue(portal("a"), named("a", "other"), 0))
			<-time.After(time.Second)
			require.Len(t, r.times("a"), 1)
			require.LessOrEqual(t, r.times("a")[0], dispatch.SlowAfter+100*time.Millisecond)
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, d := setUp(t)
				test(t, r, d)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_ = d.Shutdown(ctx)
			})
		})
	}
}

// TestSlowAgain: a portal is slow until an item ends in time, half a minute after the last that did
// not.
func TestSlowAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(ctx context.Context, it *dispatch.Item) error {
			if name(it) == "rests" {
				return event.Retry(errBoom, time.Hour) // so that the portal is not forgotten
			}
			return hangs(ctx, it)
		})
		cfg := setup(r)
		cfg.Workers, cfg.Limit, cfg.SlowShare, cfg.MaxAttempts = 8, 8, 4, 2
		d := dispatch.New(cfg)
		enqueue := func(what string, n int) {
			for i := range n {
				it := named(what, strconv.Itoa(i))
				it.MaxAttempts = 1
				require.NoError(t, d.Enqueue(portal("a"), it, 0))
			}
			synctest.Wait()
		}
		require.NoError(t, d.Enqueue(portal("a"), named("rests", "rests"), 0))
		enqueue("a", 8)
		require.Equal(t, 8, d.Depth().Running)
		<-time.After(time.Second)
		enqueue("hangs", 1)
		<-time.After(61 * time.Second) // it ended a second ago
		enqueue("a", 8)
		require.Equal(t, 4, d.Depth().Running, "it is slow")
		<-time.After(28 * time.Second)
		enqueue("a", 8)
		require.Equal(t, 4, d.Depth().Running, "it stays so")
		<-time.After(time.Second)
		enqueue("a", 1)
		<-time.After(time.Second)
		enqueue("a", 8)
		require.Equal(t, 8, d.Depth().Running, "it is as others are")
		require.NoError(t, d.Shutdown(t.Context()))
		accountsAddUp(t, d)
	})
}

// TestTurnsOfSlowPortals: a slow portal begins as many items in its turn as may run at a time, so
// that their calls can be made together.
func TestTurnsOfSlowPortals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(ctx context.Context, it *dispatch.Item) error {
			if name(it) == "hangs" {
				<-ctx.Done()
				return ctx.Err()
			}
			<-time.After(time.Second)
			return nil
		})
		cfg := setup(r)
		cfg.Workers, cfg.Limit, cfg.SlowShare, cfg.MaxAttempts = 8, 2, 2, 1
		d := dispatch.New(cfg)
		var portals []*dispatch.Portal
		for _, p := range []string{"a", "b"} {
			o := d.Open(portal(p), dispatch.PortalOptions{Front: r, Limit: 2})
			o.Add(named("hangs", ""))
			portals = append(portals, o)
		}
		<-time.After(61 * time.Second)
		portals[0].Add(named("a1", ""), named("a2", ""), named("a3", ""))
		portals[1].Add(named("b1", ""), named("b2", ""), named("b3", ""))
		require.NoError(t, d.Idle(t.Context()))
		start := 61 * time.Second
		for what, second := range map[string]int{"a1": 0, "a2": 0, "b1": 1, "b2": 1, "a3": 2, "b3": 2} {
			require.Equal(t, []time.Duration{start + time.Duration(second)*time.Second}, r.times(what), what)
		}
		require.NoError(t, d.Shutdown(t.Context()))
		for _, p := range portals {
			p.Close()
		}
	})
}

// TestStuck: what goes on although its context has ended is counted among none, but its lane and
// its portal's limit know it.
func TestStuck(t *testing.T) {
	t.Parallel()
	for title, share := range map[string]int{"with slow portals": 1, "without": 2} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				r := newRecorder(func(_ context.Context, it *dispatch.Item) error {
					if name(it) == "stuck" {
						<-release
					}
					return nil
				})
				cfg := setup(r)
				cfg.Workers, cfg.Limit, cfg.SlowShare, cfg.Overflow = 2, 2, share, 1
				d := dispatch.New(cfg)
				for i := range 2 {
					require.NoError(t, d.Enqueue(portal("a"), named("stuck", strconv.Itoa(i)), 0))
				}
				require.NoError(t, d.Enqueue(portal("a"), named("behind", "0"), 0))
				require.NoError(t, d.Enqueue(portal("a"), named("besides", "2"), 0))
				<-time.After(time.Minute + dispatch.SlowAfter - time.Second)
				require.Zero(t, d.Depth().Stuck)
				<-time.After(2 * time.Second)
				require.Equal(t, dispatch.Depth{Queued: 2, Running: 2, Stuck: 2}, d.Depth())
				for i := range 2 {
					require.NoError(t, d.Enqueue(portal(fmt.Sprint("b", i)), named("b", ""), 0))
				}
				synctest.Wait()
				require.Len(t, r.times("b"), 2)
				require.Empty(t, r.times("behind"))
				require.Empty(t, r.times("besides"))
				close(release)
				require.NoError(t, d.Idle(t.Context()))
				require.Equal(t, dispatch.OutcomeDone, r.outcome(t, "behind"))
				require.NoError(t, d.Shutdown(t.Context()))
				accountsAddUp(t, d)
			})
		})
	}
}
