package dispatch_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// open returns a portal of two items at a time, in a dispatcher of four workers, and when OnSlack
// was called.
func open(r *recorder) (*dispatch.Dispatcher, *dispatch.Portal, *[]time.Duration) {
	cfg := setup(r)
	cfg.Workers, cfg.Limit, cfg.SlowShare, cfg.Size = 4, 2, 4, 1
	d := dispatch.New(cfg)
	slack := new([]time.Duration)
	note := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		*slack = append(*slack, time.Since(r.began))
	}
	p := d.Open(portal("a"), dispatch.PortalOptions{Front: r, Limit: 2, OnSlack: note})
	return d, p, slack
}

// TestOnSlack: every call of the handler takes a second, unless it rests for ten.
func TestOnSlack(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for title, test := range map[string]struct {
		items []string // rests, or the object
		want  []time.Duration
	}{
		"one item":                              {[]string{"1"}, []time.Duration{s}},
		"as many as may run":                    {[]string{"1", "2"}, []time.Duration{s, s}},
		"more":                                  {[]string{"1", "2", "3"}, []time.Duration{s, 2 * s}},
		"many":                                  {[]string{"1", "2", "3", "4", "5"}, []time.Duration{2 * s, 3 * s}},
		"one lane":                              {[]string{"1", "1", "1"}, []time.Duration{s, 3 * s}},
		"one that rests leaves room for others": {[]string{"rests", "2", "3"}, []time.Duration{s, 11 * s}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rested := false
				r := newRecorder(func(_ context.Context, it *dispatch.Item) error {
					if name(it) == "rests" && !rested {
						rested = true
						return event.Retry(errBoom, 10*s)
					}
					<-time.After(s)
					return nil
				})
				d, p, slack := open(r)
				var items []*dispatch.Item
				for _, object := range test.items {
					items = append(items, named(object, object))
				}
				p.Add(items...)
				require.NoError(t, d.Idle(t.Context()))
				require.Equal(t, test.want, *slack)
				p.Close()
				require.NoError(t, d.Shutdown(t.Context()))
				accountsAddUp(t, d)
			})
		})
	}
}

// TestRefill: OnSlack adds more, and so a portal is worked until there is no more.
func TestRefill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(nil)
		cfg := setup(r)
		cfg.Workers, cfg.Size = 4, 1
		d := dispatch.New(cfg)
		var n atomic.Int64
		var p *dispatch.Portal
		more := func() {
			for range 3 {
				if i := int(n.Add(1)); i <= 60 {
					p.Add(named(strconv.Itoa(i), strconv.Itoa(i)))
				}
			}
		}
		p = d.Open(portal("a"), dispatch.PortalOptions{Front: r, Limit: 3, OnSlack: more})
		more()
		require.NoError(t, d.Idle(t.Context()))
		require.Len(t, r.calls, 60)
		require.Equal(t, 20*time.Second, time.Since(r.began))
		require.Equal(t, dispatch.PortalDepth{}, p.Depth())
		p.Close()
		require.NoError(t, d.Shutdown(t.Context()))
	})
}

// TestAddNeedsNoRoom: items of Open neither wait for room nor take it.
func TestAddNeedsNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(nil)
		d, p, _ := open(r)
		var items []*dispatch.Item
		for i := range 10 {
			it := costly(strconv.Itoa(i), "1", 50)
			it.Merge = fmt.Sprint("m", i/5)
			items = append(items, it)
		}
		p.Add(items...)
		require.NoError(t, d.Enqueue(portal("a"), named("other", "1"), 0))
		require.ErrorIs(t, d.Enqueue(portal("a"), named("full", "1"), 0), dispatch.ErrFull)
		require.NoError(t, d.Idle(t.Context()))
		require.NoError(t, d.Enqueue(portal("b"), named("b", "1"), 0))
		require.NoError(t, d.Shutdown(t.Context()))
		p.Close()
		require.EqualValues(t, 8, d.Counts().Outcomes[dispatch.OutcomeMerged])
		accountsAddUp(t, d)
	})
}

// TestStop: what waits and rests is cut, what runs goes on, and Done is closed when it is back.
func TestStop(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		fails, cancels, deaf, shutdown bool
		done                           time.Duration
		want                           dispatch.Outcome // of what runs
	}{
		"what runs succeeds":        {done: 11 * time.Second, want: dispatch.OutcomeDone},
		"what runs fails":           {fails: true, done: 11 * time.Second, want: dispatch.OutcomeCut},
		"it is cancelled":           {cancels: true, done: 2 * time.Second, want: dispatch.OutcomeCut},
		"it is cancelled and deaf":  {cancels: true, deaf: true, done: 11 * time.Second, want: dispatch.OutcomeDone},
		"Shutdown gives it up":      {shutdown: true, deaf: true, done: 10 * time.Second, want: dispatch.OutcomeCut},
		"Shutdown gives up a retry": {shutdown: true, deaf: true, fails: true, done: 10 * time.Second, want: dispatch.OutcomeCut},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder(func(ctx context.Context, it *dispatch.Item) error {
					if name(it) == "rests" {
						return event.Retry(errBoom, time.Hour)
					}
					ended := ctx.Done()
					if test.deaf {
						ended = nil
					}
					select {
					case <-ended:
						require.ErrorIs(t, context.Cause(ctx), errClosed)
						return ctx.Err()
					case <-time.After(10 * time.Second):
					}
					if test.fails {
						return errBoom
					}
					return nil
				})
				r.report = func(*dispatch.Item, dispatch.Outcome) { <-time.After(time.Second) }
				d, p, slack := open(r)
				p.Add(named("rests", "1"), named("runs", "2"), named("behind", "2"))
				synctest.Wait()
				*slack = nil
				require.Equal(t, dispatch.PortalDepth{Running: 1, Resting: 1, Queued: 2}, p.Depth())
				go p.Stop(errBoom)
				synctest.Wait()
				done := p.Done()
				require.Equal(t, dispatch.PortalDepth{Running: 1}, p.Depth())
				select {
				case <-done:
					require.Fail(t, "something runs")
				default:
				}
				if test.cancels {
					<-time.After(time.Second)
					p.Cancel(errClosed)
				}
				if test.shutdown {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					require.Error(t, d.Shutdown(ctx))
				}
				<-done
				require.Equal(t, test.done, time.Since(r.began))
				<-p.Done()
				require.Equal(t, test.want, r.outcome(t, "runs"))
				for _, n := range []string{"rests", "behind"} {
					require.Equal(t, dispatch.OutcomeCut, r.outcome(t, n))
					require.ErrorIs(t, r.errs[n], errBoom)
				}
				require.Empty(t, *slack, "a stopped portal asks for nothing")
				p.Add(named("late", "1"))
				require.Equal(t, dispatch.OutcomeCut, r.outcome(t, "late"))
				p.Close()
				require.True(t, test.shutdown || d.Shutdown(t.Context()) == nil)
				accountsAddUp(t, d)
			})
		})
	}
}

// TestDoneWaitsForReports: Done is closed when the last report returned, although nothing runs.
func TestDoneWaitsForReports(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(context.Context, *dispatch.Item) error { return event.Retry(errBoom, time.Hour) })
		r.report = func(*dispatch.Item, dispatch.Outcome) { <-time.After(time.Second) }
		d, p, _ := open(r)
		var items []*dispatch.Item
		for i := range 40 {
			items = append(items, named(strconv.Itoa(i), strconv.Itoa(i%2)))
		}
		p.Add(items...)
		synctest.Wait()
		go p.Stop(errBoom)
		synctest.Wait()
		<-p.Done()
		require.Equal(t, 3*time.Second, time.Since(r.began), "16 reports at a time")
		require.EqualValues(t, 40, d.Counts().Outcomes[dispatch.OutcomeCut])
		p.Close()
		require.NoError(t, d.Shutdown(t.Context()))
		accountsAddUp(t, d)
	})
}

// TestStopOfASlowPortal: others get the worker that it leaves.
func TestStopOfASlowPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(hangs)
		cfg := setup(r)
		cfg.Workers, cfg.Limit, cfg.SlowShare, cfg.Overflow = 3, 2, 1, 1
		d := dispatch.New(cfg)
		p := d.Open(portal("a"), dispatch.PortalOptions{Front: r, Limit: 3})
		p.Add(named("hangs", "1"))
		<-time.After(dispatch.SlowAfter)
		synctest.Wait()
		p.Add(named("waits", "2"))
		synctest.Wait()
		for i := range 4 {
			require.NoError(t, d.Enqueue(portal(fmt.Sprint("b", i)), named("hangs", ""), 0))
		}
		synctest.Wait()
		require.Equal(t, 3, d.Depth().Running)
		p.Stop(errBoom)
		p.Cancel(errBoom)
		synctest.Wait()
		require.Equal(t, dispatch.OutcomeCut, r.outcome(t, "waits"))
		require.Equal(t, 3, d.Depth().Running)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, d.Shutdown(ended))
		p.Close()
	})
}

// TestIntake: nothing starts after its end, and nobody else is held up.
func TestIntake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(nil)
		d := dispatch.New(setup(r))
		intake, end := context.WithCancel(t.Context())
		p := d.Open(portal("a"), dispatch.PortalOptions{Front: r, Limit: 1, Intake: intake})
		p.Add(named("runs", "1"), named("waits", "1"), named("waits too", "2"))
		synctest.Wait()
		require.NoError(t, d.Enqueue(portal("b"), named("b", ""), 0))
		end()
		<-time.After(3 * time.Second)
		require.Equal(t, []string{"runs", "b"}, r.names())
		require.Equal(t, 2, p.Depth().Queued)
		p.Stop(errBoom)
		<-p.Done()
		require.Equal(t, dispatch.OutcomeCut, r.outcome(t, "waits"))
		p.Close()
		require.NoError(t, d.Shutdown(t.Context()))
		accountsAddUp(t, d)
	})
}

// TestSlowReports: while the front gets an item, the item holds its worker and its place.
func TestSlowReports(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(context.Context, *dispatch.Item) error { return nil })
		reports, most := 0, 0
		r.report = func(*dispatch.Item, dispatch.Outcome) {
			r.mu.Lock()
			reports++
			most = max(most, reports)
			r.mu.Unlock()
			<-time.After(time.Second)
			r.mu.Lock()
			reports--
			r.mu.Unlock()
		}
		cfg := setup(r)
		cfg.Workers, cfg.Limit = 3, 2
		d := dispatch.New(cfg)
		for i := range 30 {
			require.NoError(t, d.Enqueue(portal(strconv.Itoa(i%5)), named("", ""), 0))
			synctest.Wait()
		}
		require.NoError(t, d.Idle(t.Context()))
		require.Equal(t, 3, most)
		require.Equal(t, 10*time.Second, time.Since(r.began))
		require.NoError(t, d.Shutdown(t.Context()))
	})
}

// TestRetryingComesFirst: the next attempt begins after the report of the last one.
func TestRetryingComesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(context.Context, *dispatch.Item) error { return event.Retry(errBoom, time.Millisecond) })
		r.retries = func(it *dispatch.Item, _ time.Duration) {
			n := it.Attempts
			<-time.After(time.Second)
			require.Equal(t, n, it.Attempts)
		}
		cfg := setup(r)
		cfg.Workers = 4
		d := dispatch.New(cfg)
		require.NoError(t, d.Enqueue(portal("a"), named("a", "1"), 0))
		require.NoError(t, d.Idle(t.Context()))
		const both = time.Second + time.Millisecond // the rest begins when the report is over
		require.Equal(t, []time.Duration{0, both, 2 * both}, r.times("a"))

		require.NoError(t, d.Enqueue(portal("a"), named("cut", "1"), 0))
		synctest.Wait()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, d.Shutdown(ended))
		require.Equal(t, dispatch.OutcomeCut, r.outcome(t, "cut"))
		accountsAddUp(t, d)
	})
}

// TestIdle ends with its context, or when nothing is under way.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(nil)
		d := dispatch.New(setup(r))
		require.NoError(t, d.Idle(t.Context()))
		require.NoError(t, d.Enqueue(portal("a"), named("a", "1"), 0))
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errBoom)
		require.ErrorIs(t, d.Idle(ctx), errBoom)
		idle := make(chan error)
		for range 3 {
			go func() { idle <- d.Idle(t.Context()) }()
		}
		for range 3 {
			require.NoError(t, <-idle)
		}
		require.Equal(t, time.Second, time.Since(r.began))
		require.NoError(t, d.Shutdown(t.Context()))
	})
}
