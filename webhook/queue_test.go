package webhook_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// TestOrder sends many changes of many objects through many workers: each object's come in order
// and one at a time, and objects do not wait for each other.
func TestOrder(t *testing.T) {
	t.Parallel()
	const objects, changes = 20, 50
	var (
		mu       sync.Mutex
		seen     = make(map[event.Entity][]string)
		busy     = make(map[event.Entity]bool)
		overlaps int
		most     atomic.Int32
		now      atomic.Int32
	)
	h := newHandler(t, do(func(_ context.Context, d *event.Delivery) error {
		e := d.Entity()
		mu.Lock()
		if busy[e] {
			overlaps++
		}
		busy[e] = true
		seen[e] = append(seen[e], d.Data.Get("N").Text())
		mu.Unlock()
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		for range 20 {
			runtime.Gosched()
		}
		now.Add(-1)
		mu.Lock()
		busy[e] = false
		mu.Unlock()
		return nil
	}), webhook.WithWorkers(8))

	var wg sync.WaitGroup
	want := make([]string, changes)
	for n := range changes {
		want[n] = strconv.Itoa(n)
	}
	for id := range objects {
		wg.Go(func() {
			for n := range changes {
				post(h, body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": strconv.Itoa(id + 1), "data[N]": strconv.Itoa(n)}))
			}
		})
	}
	wg.Wait()
	shutdown(t, h)
	require.Zero(t, overlaps)
	require.Len(t, seen, objects)
	for e, got := range seen {
		require.Equal(t, want, got, e.ID)
	}
	require.LessOrEqual(t, most.Load(), int32(8))
	balanced(t, h.Stats(), 0)
	require.EqualValues(t, objects*changes, h.Stats().Handled)
}

// TestLanes checks what runs at the same time: a handler that waits for the other proves it.
func TestLanes(t *testing.T) {
	t.Parallel()
	deal := func(more fields) string {
		f := fields{"data[FIELDS][ID]": "7"}
		maps.Copy(f, more)
		return body("ONCRMDEALUPDATE", f)
	}
	for name, test := range map[string]struct {
		a, b     string
		together bool
	}{
		"same object":               {deal(nil), deal(nil), false},
		"another event of it":       {deal(nil), body("ONCRMDEALDELETE", fields{"data[FIELDS][ID]": "7"}), false},
		"another object":            {deal(nil), dealUpdate(8), true},
		"another kind of object":    {deal(nil), body("ONCRMLEADUPDATE", fields{"data[FIELDS][ID]": "7"}), true},
		"another portal":            {deal(nil), deal(fields{"auth[member_id]": "b"}), true},
		"no object":                 {body("ONSOMETHINGNEW", nil), body("ONSOMETHINGNEW", nil), true},
		"install and uninstall":     {body("ONAPPINSTALL", nil), body("ONAPPUNINSTALL", nil), false},
		"installs of two portals":   {body("ONAPPINSTALL", nil), body("ONAPPINSTALL", fields{"auth[member_id]": "b"}), true},
		"object named by odd texts": {deal(fields{"data[FIELDS][ID]": "7\x00"}), deal(nil), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var now, most atomic.Int32
				h := newHandler(t, do(func(context.Context, *event.Delivery) error {
					most.Store(max(most.Load(), now.Add(1)))
					<-time.After(time.Second)
					now.Add(-1)
					return nil
				}))
				require.Equal(t, http.StatusOK, post(h, test.a))
				require.Equal(t, http.StatusOK, post(h, test.b))
				shutdown(t, h)
				if test.together {
					require.EqualValues(t, 2, most.Load())
				} else {
					require.EqualValues(t, 1, most.Load())
				}
			})
		})
	}
}

func TestBusyObjectDoesNotStarveOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := recorder{then: func(context.Context, *event.Delivery) error {
			<-time.After(time.Second)
			return nil
		}}
		h := newHandler(t, &rec, webhook.WithWorkers(1))
		for range 50 {
			post(h, dealUpdate(1))
		}
		post(h, dealUpdate(2))
		shutdown := context.WithoutCancel(t.Context())
		require.NoError(t, h.Shutdown(shutdown))
		require.Equal(t, 1, slices.Index(rec.ids(), "2"), "second in line")
	})
}

func TestRetry(t *testing.T) {
	t.Parallel()
	fail := errors.New("portal is down")
	always := func(err error) func(int) error { return func(int) error { return err } }
	for name, test := range map[string]struct {
		answer   func(try int) error // from 1
		options  []webhook.Option
		tries    int
		min, max time.Duration // from the first attempt to the last
		failed   bool
	}{
		"fails once":    {answer: func(try int) error { return errorUntil(try, 2, fail) }, tries: 2, min: time.Second / 2, max: time.Second},
		"keeps failing": {answer: always(fail), tries: 5, min: 42 * time.Second, max: 85 * time.Second, failed: true},
		"more attempts": {
			answer: always(fail), options: []webhook.Option{webhook.WithMaxAttempts(8)}, tries: 8,
			min: 42*time.Second + 6*time.Minute, max: 85*time.Second + 14*time.Minute, failed: true,
		},
		"one attempt": {answer: always(fail), options: []webhook.Option{webhook.WithMaxAttempts(1)}, tries: 1, failed: true},
		"drop":        {answer: always(event.Drop(fail)), tries: 1, failed: true},
		"drop and another error": {
			answer: always(errors.Join(event.Drop(io.EOF), fail)), tries: 5, min: 42 * time.Second, max: 85 * time.Second, failed: true,
		},
		"drop and retry": {
			answer: always(errors.Join(event.Drop(io.EOF), event.Retry(fail, time.Minute))), tries: 5, min: 4 * time.Minute, max: 4 * time.Minute, failed: true,
		},
		"two drops":     {answer: always(errors.Join(event.Drop(io.EOF), event.Drop(fail))), tries: 1, failed: true},
		"wrong payload": {answer: always(&event.DecodeError{Path: "data.FIELDS.ID"}), tries: 1, failed: true},
		"retry": {
			answer: func(try int) error { return errorUntil(try, 2, event.Retry(fail, 90*time.Second)) },
			tries:  2, min: 90 * time.Second, max: 90 * time.Second,
		},
		"retry at once":      {answer: always(event.Retry(fail, 0)), tries: 5, failed: true},
		"retry in a century": {answer: func(try int) error { return errorUntil(try, 2, event.Retry(fail, 1e6*time.Hour)) }, tries: 2, min: time.Hour, max: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var lost drops
				var starts []time.Time
				h := newHandler(t, do(func(context.Context, *event.Delivery) error {
					starts = append(starts, time.Now())
					return test.answer(len(starts))
				}), append(test.options, lost.option())...)
				post(h, dealUpdate(7))
				<-time.After(24 * time.Hour)
				synctest.Wait()

				require.Len(t, starts, test.tries)
				took := starts[len(starts)-1].Sub(starts[0])
				require.GreaterOrEqual(t, took, test.min)
				require.LessOrEqual(t, took, test.max)
				s := h.Stats()
				require.EqualValues(t, test.tries-1, s.Retried)
				require.Equal(t, test.failed, s.Failed == 1)
				require.EqualValues(t, 1, s.Lag.Count(), "lag is that of the first attempt")
				balanced(t, s, 0)
				ids, errs := lost.list()
				if test.failed {
					require.Equal(t, []string{"7"}, ids)
					require.ErrorIs(t, errs[0], test.answer(test.tries))
				} else {
					require.Empty(t, ids)
				}
			})
		})
	}
}

// errorUntil returns err before the attempt with that number.
func errorUntil(try, good int, err error) error {
	if try < good {
		return err
	}
	return nil
}

func TestRetryBlocksOnlyItsLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := true
		rec := recorder{then: func(_ context.Context, d *event.Delivery) error {
			if d.Name == "ONCRMDEALADD" && first {
				first = false
				return event.Retry(io.EOF, time.Minute)
			}
			return nil
		}}
		h := newHandler(t, &rec, webhook.WithWorkers(1))
		post(h, body("ONCRMDEALADD", fields{"data[FIELDS][ID]": "1"}))
		post(h, dealUpdate(1))
		post(h, dealUpdate(2))
		synctest.Wait()
		require.Equal(t, []string{"1", "2"}, rec.ids())
		s := h.Stats()
		require.Equal(t, 2, s.Queued, "the one that waits to be tried again, and the one behind it")
		require.Zero(t, s.Running)

		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"1", "2", "1", "1"}, rec.ids())
		require.Equal(t, "ONCRMDEALADD", rec.deliveries()[2].Name, "the failed one first")
		balanced(t, h.Stats(), 0)
	})
}

func TestPanic(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{
		"text": "secret", "error": io.EOF, "abort": http.ErrAbortHandler, "wants a retry": event.Retry(io.EOF, time.Second), "nil": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var lost drops
				rec := recorder{then: func(_ context.Context, d *event.Delivery) error {
					if d.Entity().ID == "1" {
						panic(value)
					}
					return nil
				}}
				h := newHandler(t, &rec, lost.option(), webhook.WithWorkers(1))
				post(h, dealUpdate(1))
				post(h, dealUpdate(2))
				synctest.Wait()
				require.Equal(t, []string{"1", "2"}, rec.ids())
				s := h.Stats()
				require.EqualValues(t, 1, s.Failed)
				require.EqualValues(t, 1, s.Handled)
				require.Zero(t, s.Retried)
				_, errs := lost.list()
				var p *event.PanicError
				require.ErrorAs(t, errs[0], &p)
				require.Contains(t, string(p.Stack), "queue_test.go")
			})
		})
	}
}

func TestGoexit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := recorder{then: func(context.Context, *event.Delivery) error {
			runtime.Goexit()
			return nil
		}}
		h := newHandler(t, &rec, webhook.WithWorkers(1))
		for range 3 {
			post(h, dealUpdate(1))
		}
		synctest.Wait()
		require.Len(t, rec.ids(), 3, "workers are replaced")
		require.EqualValues(t, 3, h.Stats().Failed)
		balanced(t, h.Stats(), 0)
		shutdown(t, h)
	})
}

func TestPanicInOnDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { return event.Drop(io.EOF) }),
			webhook.WithOnDropped(func(*event.Delivery, error) { panic("callback") }))
		post(h, dealUpdate(1))
		post(h, dealUpdate(1))
		synctest.Wait()
		require.EqualValues(t, 2, h.Stats().Failed)
		shutdown(t, h)
	})
}

func TestHandlerTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cause error
		var took time.Duration
		h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
			start := time.Now()
			<-ctx.Done()
			cause, took = context.Cause(ctx), time.Since(start)
			return ctx.Err()
		}), webhook.WithHandlerTimeout(3*time.Second), webhook.WithMaxAttempts(1))
		post(h, dealUpdate(1))
		shutdown(t, h)
		require.ErrorIs(t, cause, webhook.ErrTimeout)
		require.Equal(t, 3*time.Second, took)
		require.EqualValues(t, 1, h.Stats().Failed)
	})
}

func TestVerifyTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := webhook.NewHandler(verifierFunc(func(ctx context.Context, _ *event.Delivery) error {
			<-ctx.Done()
			return ctx.Err()
		}), nothing(), webhook.WithVerifyTimeout(3*time.Second))
		require.NoError(t, err)
		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(1)))
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost drops
		release := make(chan struct{})
		h := newHandler(t, do(func(context.Context, *event.Delivery) error {
			<-release
			return nil
		}), webhook.WithQueueSize(4), webhook.WithWorkers(2), webhook.WithPortalWorkers(2), webhook.WithEnqueueTimeout(2*time.Second), lost.option())
		for id := range 3 { // the fourth place is not for this portal
			require.Equal(t, http.StatusOK, post(h, dealUpdate(id+1)))
		}
		synctest.Wait()
		s := h.Stats()
		require.Equal(t, 1, s.Queued)
		require.Equal(t, 2, s.Running)

		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(4)))
		require.Equal(t, 2*time.Second, time.Since(start))
		ids, errs := lost.list()
		require.Equal(t, []string{"4"}, ids)
		require.ErrorIs(t, errs[0], webhook.ErrQueueFull)

		// Room that comes in time is taken.
		go func() {
			<-time.After(time.Second)
			close(release)
		}()
		start = time.Now()
		require.Equal(t, http.StatusOK, post(h, dealUpdate(5)))
		require.Equal(t, time.Second, time.Since(start))
		shutdown(t, h)
		s = h.Stats()
		require.EqualValues(t, 4, s.Handled)
		require.EqualValues(t, 1, s.Lost)
		require.EqualValues(t, 1, s.Rejected[webhook.ReasonQueueFull])
		require.LessOrEqual(t, s.Ack.Quantile(1), 1200*time.Millisecond)
		balanced(t, s, 0)
	})
}

func TestNoWaitingForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(func(context.Context, *event.Delivery) error {
			<-time.After(time.Second)
			return nil
		}), webhook.WithQueueSize(1), webhook.WithEnqueueTimeout(0))
		start := time.Now()
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(2)))
		require.Zero(t, time.Since(start))
		<-time.After(time.Minute)
		require.Equal(t, http.StatusOK, post(h, dealUpdate(2)))
		shutdown(t, h)
	})
}

// TestLargeBodies shows that the size of the queue also bounds the memory that it holds.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		of := func(portal string, kib int) string {
			return body("ONCRMDEALUPDATE", fields{"auth[member_id]": portal, "data[FIELDS][ID]": "1", "data[X]": strings.Repeat("x", kib<<10)})
		}
		h := newHandler(t, do(slow(10*time.Second)), webhook.WithQueueSize(10), webhook.WithEnqueueTimeout(0))
		require.Equal(t, http.StatusOK, post(h, of("a", 60)), "8 places")
		require.Equal(t, http.StatusOK, post(h, of("b", 1)))
		require.Equal(t, http.StatusServiceUnavailable, post(h, of("c", 10)), "2 places")
		require.Equal(t, http.StatusServiceUnavailable, post(h, of("b", 1)), "the last place is for a portal that has none")
		require.Equal(t, http.StatusOK, post(h, of("c", 1)))
		require.Equal(t, http.StatusServiceUnavailable, post(h, of("d", 1)))
		<-time.After(time.Hour)
		require.Equal(t, http.StatusOK, post(h, of("a", 500)), "more than there are, so all of them")
		require.Equal(t, http.StatusServiceUnavailable, post(h, of("b", 1)))
		<-time.After(time.Hour)
		require.Equal(t, http.StatusOK, post(h, of("b", 1)))
		shutdown(t, h)
		balanced(t, h.Stats(), 0)
	})
}

// TestShareOfOnePortal: a portal holds up to three quarters of the queue, and two hold equal parts.
func TestShareOfOnePortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(slow(time.Second)), webhook.WithQueueSize(70), webhook.WithEnqueueTimeout(0))
		fill := func(portal string, from int) int {
			for n := 0; ; n++ {
				b := body("ONCRMDEALUPDATE", fields{"auth[member_id]": portal, "data[FIELDS][ID]": strconv.Itoa(from + n)})
				if post(h, b) != http.StatusOK {
					return n
				}
			}
		}
		require.Equal(t, 52, fill("a", 1), "three quarters of 70")
		require.Equal(t, 13, fill("b", 1), "three quarters of what is left")
		<-time.After(time.Hour)
		for n := range 30 {
			post(h, body("ONCRMDEALUPDATE", fields{"auth[member_id]": "a", "data[FIELDS][ID]": strconv.Itoa(n + 1)}))
		}
		require.Equal(t, 30, fill("b", 1), "three sevenths each")
		require.Zero(t, fill("a", 100))
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUPDATE", fields{"auth[member_id]": "a"})), "there is room for application events")
		shutdown(t, h)
		balanced(t, h.Stats(), 0)
	})
}

func TestLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(func(context.Context, *event.Delivery) error {
			<-time.After(8 * time.Second)
			return nil
		}))
		post(h, dealUpdate(1))
		post(h, dealUpdate(1))
		shutdown(t, h)
		lag := h.Stats().Lag
		require.EqualValues(t, 2, lag.Count())
		require.Equal(t, 8*time.Second, lag.Sum())
		require.Less(t, lag.Quantile(0.5), time.Millisecond)
		require.InDelta(t, 8, lag.Quantile(0.99).Seconds(), 1)
	})
}

func TestIdleHandlerHasNoGoroutines(t *testing.T) {
	t.Parallel()
	// A bubble fails if goroutines are left in it.
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, nothing())
		for id := range 100 {
			post(h, dealUpdate(id+1))
		}
		synctest.Wait()
		require.EqualValues(t, 100, h.Stats().Handled)
	})
}
