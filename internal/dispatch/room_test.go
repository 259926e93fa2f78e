package dispatch_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// blocked returns a dispatcher with a room, and a function that lets its handlers go on. Until then
// they hold their room.
func blocked(size int64) (r *recorder, d *dispatch.Dispatcher, release func()) {
	gate := make(chan struct{})
	r = newRecorder(func(context.Context, *dispatch.Item) error {
		<-gate
		return nil
	})
	cfg := setup(r)
	cfg.Size, cfg.UrgentSize = size, 10
	return r, dispatch.New(cfg), sync.OnceFunc(func() { close(gate) })
}

func costly(name, object string, cost int64) *dispatch.Item {
	it := named(name, object)
	it.Cost = cost
	return it
}

func TestRoomForPortals(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		portals, size int
		want          int // items of each
	}{
		"one":              {1, 100, 75},
		"two":              {2, 98, 42},
		"three":            {3, 100, 30},
		"ten":              {10, 310, 30},
		"no bound":         {1, 0, 1000},
		"more than places": {20, 10, 0},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, d, release := blocked(int64(test.size))
				admitted := make([]int, test.portals)
				for range 1000 {
					for p := range test.portals {
						if d.Enqueue(portal(strconv.Itoa(p)), named("", ""), 0) == nil {
							admitted[p]++
						}
					}
				}
				sum := 0
				for _, n := range admitted {
					sum += n
					require.InDelta(t, test.want, n, 1)
				}
				if test.size > 0 {
					require.LessOrEqual(t, sum, test.size)
				}
				require.NoError(t, d.Enqueue(portal("0"), &dispatch.Item{Delivery: named("", "").Delivery, Urgent: true, Cost: 1}, 0),
					"urgent items have room of their own")
				release()
				require.NoError(t, d.Shutdown(t.Context()))
				accountsAddUp(t, d)
			})
		})
	}
}

// TestOrderWhenFull: requests that come one after the other keep their order, although all wait for
// room.
func TestOrderWhenFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(context.Context, *dispatch.Item) error {
			<-time.After(time.Millisecond)
			return nil
		})
		cfg := setup(r)
		cfg.Size, cfg.Workers, cfg.Limit = 4, 4, 4
		d := dispatch.New(cfg)
		var want []string
		for i := range 300 {
			it := named(strconv.Itoa(i), "1")
			want = append(want, strconv.Itoa(i))
			go func() { assert.NoError(t, d.Enqueue(portal("a"), it, time.Hour)) }()
			synctest.Wait()
		}
		require.NoError(t, d.Idle(t.Context()))
		require.Equal(t, want, r.names())
		require.NoError(t, d.Shutdown(t.Context()))
	})
}

// waiting enqueues an item that waits for room, and returns when it does.
func waiting(d *dispatch.Dispatcher, p string, it *dispatch.Item, patience time.Duration, log func(string, error)) {
	go func() {
		err := d.Enqueue(portal(p), it, patience)
		log(name(it), err)
	}()
	synctest.Wait()
}

func TestWaitingForRoom(t *testing.T) {
	t.Parallel()
	type result struct {
		name string
		err  error
	}
	for title, test := range map[string]struct {
		size int64
		run  func(t *testing.T, d *dispatch.Dispatcher, wait func(p, name string, cost int64, patience time.Duration), release func())
		want []result
	}{
		"first in, first out within a portal": {4, func(t *testing.T, d *dispatch.Dispatcher, wait func(p, name string, cost int64, patience time.Duration), release func()) {
			t.Helper()
			require.NoError(t, d.Enqueue(portal("a"), costly("holder", "", 3), 0))
			wait("a", "large", 3, time.Hour)
			wait("a", "small", 1, time.Hour)
			release()
		}, []result{{"large", nil}, {"small", nil}}},
		"one that gives up lets those behind it in": {4, func(t *testing.T, d *dispatch.Dispatcher, wait func(p, name string, cost int64, patience time.Duration), _ func()) {
			t.Helper()
			require.NoError(t, d.Enqueue(portal("a"), costly("holder", "", 1), 0))
			wait("a", "large", 3, time.Second)
			wait("a", "small", 1, time.Hour)
			<-time.After(time.Second)
		}, []result{{"large", dispatch.ErrFull}, {"small", nil}}},
		"a small one of another portal passes": {8, func(t *testing.T, d *dispatch.Dispatcher, wait func(p, name string, cost int64, patience time.Duration), release func()) {
			t.Helper()
			require.NoError(t, d.Enqueue(portal("a"), costly("holder", "", 5), 0))
			wait("a", "large", 5, time.Hour)
			wait("b", "small", 1, time.Hour)
			release()
		}, []result{{"small", nil}, {"large", nil}}},
		"a larger one of a portal without items is next": {40, func(t *testing.T, d *dispatch.Dispatcher, wait func(p, name string, cost int64, patience time.Duration), release func()) {
			t.Helper()
			require.NoError(t, d.Enqueue(portal("a"), costly("holder", "", 30), 0))
			require.NoError(t, d.Enqueue(portal("b"), costly("holder", "", 5), 0))
			wait("c", "large", 10, time.Hour)
			wait("d", "small", 1, time.Hour)
			release()
		}, []result{{"large", nil}, {"small", nil}}},
		"one that is larger than the room gets all of it": {8, func(t *testing.T, d *dispatch.Dispatcher, wait func(p, name string, cost int64, patience time.Duration), release func()) {
			t.Helper()
			require.NoError(t, d.Enqueue(portal("a"), costly("holder", "", 1), 0))
			wait("b", "huge", 1000, time.Hour)
			release()
		}, []result{{"huge", nil}}},
		"Shutdown refuses": {4, func(t *testing.T, d *dispatch.Dispatcher, wait func(p, name string, cost int64, patience time.Duration), release func()) {
			t.Helper()
			require.NoError(t, d.Enqueue(portal("a"), costly("holder", "", 4), 0))
			wait("a", "a", 1, time.Hour)
			wait("b", "b", 1, time.Hour)
			release()
			require.NoError(t, d.Shutdown(t.Context()))
			require.ErrorIs(t, d.Enqueue(portal("a"), named("late", ""), time.Hour), dispatch.ErrClosed)
		}, nil},
		"without patience": {4, func(t *testing.T, d *dispatch.Dispatcher, _ func(p, name string, cost int64, patience time.Duration), _ func()) {
			t.Helper()
			require.NoError(t, d.Enqueue(portal("a"), costly("holder", "", 4), 0))
			require.ErrorIs(t, d.Enqueue(portal("a"), named("a", "1"), 0), dispatch.ErrFull)
			require.ErrorIs(t, d.Enqueue(portal("a"), named("a", "1"), 0), dispatch.ErrFull)
		}, nil},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, d, release := blocked(test.size)
				var mu sync.Mutex
				var got []result
				log := func(name string, err error) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, result{name, err})
				}
				test.run(t, d, func(p, name string, cost int64, patience time.Duration) {
					waiting(d, p, costly(name, "1", cost), patience, log)
				}, release)
				synctest.Wait()
				release()
				require.NoError(t, d.Shutdown(t.Context()))
				synctest.Wait()
				if title == "Shutdown refuses" {
					require.ElementsMatch(t, []result{{"a", dispatch.ErrClosed}, {"b", dispatch.ErrClosed}}, got)
					require.NotContains(t, r.finished, "a", "a refused item is the caller's")
				} else if test.want != nil {
					require.ElementsMatch(t, test.want, got)
					var began []string
					for _, n := range r.names() {
						if n != "holder" {
							began = append(began, n)
						}
					}
					var want []string
					for _, w := range test.want {
						if w.err == nil {
							want = append(want, w.name)
						}
					}
					require.Equal(t, want, began)
				}
				accountsAddUp(t, d)
			})
		})
	}
}

// TestRoomOfAMerger: what a smaller item leaves free is used at once.
func TestRoomOfAMerger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(_ context.Context, it *dispatch.Item) error {
			if name(it) == "rests" {
				return event.Retry(errBoom, time.Hour)
			}
			return nil
		})
		cfg := setup(r)
		cfg.Size = 8
		d := dispatch.New(cfg)
		rests, smaller := costly("rests", "1", 5), costly("smaller", "1", 1)
		rests.Merge, smaller.Merge = "m", "m"
		require.NoError(t, d.Enqueue(portal("a"), rests, 0))
		waiting(d, "b", costly("waits", "1", 6), time.Hour, func(_ string, err error) { assert.NoError(t, err) })
		require.Empty(t, r.times("waits"))
		require.NoError(t, d.Enqueue(portal("a"), smaller, 0))
		synctest.Wait()
		require.Equal(t, dispatch.OutcomeDone, r.outcome(t, "waits"))
		require.NoError(t, d.Shutdown(t.Context()))
		accountsAddUp(t, d)
	})
}

// TestRefusedItem: a refused item may be passed on again.
func TestRefusedItem(t *testing.T) {
	t.Parallel()
	for title, again := range map[string]func(d *dispatch.Dispatcher, it *dispatch.Item) error{
		"to Enqueue": func(d *dispatch.Dispatcher, it *dispatch.Item) error { return d.Enqueue(portal("a"), it, time.Hour) },
		"to Do": func(d *dispatch.Dispatcher, it *dispatch.Item) error {
			_, err := d.Do(portal("a"), it)
			return err
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, d, release := blocked(4)
				require.NoError(t, d.Enqueue(portal("a"), costly("holder", "1", 4), 0))
				it := named("again", "2")
				require.ErrorIs(t, d.Enqueue(portal("a"), it, time.Second), dispatch.ErrFull)
				other := named("other", "3") // may get the lane that the other one had
				go func() { assert.NoError(t, d.Enqueue(portal("b"), other, time.Hour)) }()
				synctest.Wait()
				errs := make(chan error)
				go func() { errs <- again(d, it) }()
				synctest.Wait()
				release()
				require.NoError(t, <-errs)
				require.NoError(t, d.Idle(t.Context()))
				for _, n := range []string{"holder", "other", "again"} {
					require.Equal(t, dispatch.OutcomeDone, r.outcome(t, n))
				}
				require.NoError(t, d.Shutdown(t.Context()))
				accountsAddUp(t, d)
			})
		})
	}
}
