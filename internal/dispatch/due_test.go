package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/dispatch"
)

func TestDue(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for title, test := range map[string]struct {
		due  []time.Duration // of items of one object
		want []time.Duration // when they begin; each takes a second
	}{
		"none":                     {[]time.Duration{0, 0}, []time.Duration{0, s}},
		"the first":                {[]time.Duration{10 * s, 0}, []time.Duration{10 * s, 11 * s}},
		"the second":               {[]time.Duration{0, 10 * s}, []time.Duration{0, 10 * s}},
		"the second, while it ran": {[]time.Duration{10 * s, 10 * s}, []time.Duration{10 * s, 11 * s}},
		"long ago":                 {[]time.Duration{-s, -s}, []time.Duration{0, s}},
	} {
		for how, add := range map[string]func(d *dispatch.Dispatcher, r *recorder, items []*dispatch.Item){
			"Enqueue": func(d *dispatch.Dispatcher, _ *recorder, items []*dispatch.Item) {
				for _, it := range items {
					_ = d.Enqueue(portal("p"), it, 0)
				}
			},
			"Add": func(d *dispatch.Dispatcher, r *recorder, items []*dispatch.Item) {
				d.Open(portal("p"), dispatch.PortalOptions{Front: r, Limit: 1}).Add(items...)
			},
		} {
			t.Run(title+", "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := newRecorder(nil)
					d := dispatch.New(setup(r))
					var items []*dispatch.Item
					for i, due := range test.due {
						it := named(string(rune('a'+i)), "1")
						if due != 0 {
							it.Due = time.Now().Add(due)
						}
						items = append(items, it)
					}
					add(d, r, items)
					require.NoError(t, d.Idle(t.Context()))
					require.Equal(t, test.want, []time.Duration{r.times("a")[0], r.times("b")[0]})
					accountsAddUp(t, d)
					require.NoError(t, d.Shutdown(t.Context()))
				})
			})
		}
	}
}

func TestDueHoldsUpItsLaneOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(nil)
		d := dispatch.New(setup(r))
		p := d.Open(portal("p"), dispatch.PortalOptions{Front: r, Limit: 1})
		late, other := named("late", "1"), named("other", "2")
		late.Due = time.Now().Add(time.Hour)
		p.Add(late, other)
		require.Equal(t, dispatch.PortalDepth{Running: 1, Resting: 1, Queued: 1}, p.Depth())
		<-time.After(2 * time.Second)
		require.Equal(t, []string{"other"}, r.names())
		p.Stop(errBoom)
		<-p.Done()
		require.Equal(t, dispatch.OutcomeCut, r.outcome(t, "late"))
		accountsAddUp(t, d)
		p.Close()
		require.NoError(t, d.Shutdown(t.Context()))
	})
}

func TestShutdownTriesAtOnceWhatIsNotDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(nil)
		d := dispatch.New(setup(r))
		first, second := named("first", "1"), named("second", "1")
		first.Due, second.Due = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		require.NoError(t, d.Enqueue(portal("p"), first, 0))
		require.NoError(t, d.Enqueue(portal("p"), second, 0))
		require.NoError(t, d.Shutdown(t.Context()))
		require.Equal(t, []time.Duration{0}, r.times("first"))
		require.Equal(t, []time.Duration{time.Second}, r.times("second"))
	})
}

func TestPostponed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const postponed = 10
		calls := 0
		r := newRecorder(func(context.Context, *dispatch.Item) error {
			if calls++; calls <= postponed {
				return dispatch.PostponedError(time.Second)
			}
			return errBoom
		})
		cfg := setup(r)
		cfg.MaxAttempts = 2
		d := dispatch.New(cfg)
		require.NoError(t, d.Enqueue(portal("p"), named("a", "1"), 0))
		behind := named("b", "1")
		behind.MaxAttempts = 1
		require.NoError(t, d.Enqueue(portal("p"), behind, 0))
		require.NoError(t, d.Idle(t.Context()))
		times := r.times("a")
		require.Len(t, times, postponed+2, "a postponed call is no attempt")
		require.Equal(t, []time.Duration{0, time.Second, 2 * time.Second}, times[:3])
		require.Equal(t, []time.Duration{time.Second}, r.waits, "nor is it reported as a retry")
		require.EqualValues(t, 1, d.Counts().Retried)
		require.Equal(t, dispatch.OutcomeFailed, r.outcome(t, "a"))
		require.Len(t, r.times("b"), 1, "the order is kept")
		require.Equal(t, times[len(times)-1], r.times("b")[0])
		for i, c := range r.calls[:postponed+1] {
			require.Equal(t, 1, c.n, "call %d", i)
		}
		accountsAddUp(t, d)
		require.NoError(t, d.Shutdown(t.Context()))
	})
}

func TestPostponedIsCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(context.Context, *dispatch.Item) error { return dispatch.PostponedError(time.Second) })
		d := dispatch.New(setup(r))
		p := d.Open(portal("p"), dispatch.PortalOptions{Front: r, Limit: 1})
		it := named("a", "1")
		it.Attempts = 2
		p.Add(it)
		<-time.After(1500 * time.Millisecond)
		p.Stop(errBoom)
		<-p.Done()
		require.Equal(t, dispatch.OutcomeCut, r.outcome(t, "a"))
		require.Equal(t, 2, it.Attempts)
		accountsAddUp(t, d)
		p.Close()
		require.NoError(t, d.Shutdown(t.Context()))
	})
}

func TestRemovalOfAnOpenPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(nil)
		dropped := 0
		cfg := setup(r)
		cfg.Removed = func(key dispatch.Key, n int) {
			require.Equal(t, portal("p"), key)
			dropped = n
		}
		d := dispatch.New(cfg)
		p := d.Open(portal("p"), dispatch.PortalOptions{Front: r, Limit: 1})
		now := time.Now()
		fired := func(name, object string, after time.Duration) *dispatch.Item {
			it := named(name, object)
			it.Delivery = nil // the front has put it aside
			it.Fired = now.Add(after).Unix()
			return it
		}
		install := fired("install", "", -time.Second)
		install.Urgent = true
		p.Add(fired("runs", "1", 0), fired("waits", "1", 0), fired("later", "1", time.Second), install)
		synctest.Wait()
		p.Remove(now)
		require.NoError(t, d.Idle(t.Context()))
		require.Equal(t, 1, dropped)
		require.Equal(t, dispatch.OutcomeRemoved, r.outcome(t, "waits"))
		for _, name := range []string{"runs", "later", "install"} {
			require.Equal(t, dispatch.OutcomeDone, r.outcome(t, name), name)
		}
		p.Close()
		require.NoError(t, d.Shutdown(t.Context()))
	})
}
