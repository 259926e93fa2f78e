package webhook_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// graceOfHandlers is how long a handler has to return after its context has ended.
const graceOfHandlers = webhook.ShutdownGrace * 3 / 4

// within returns a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), d)
	t.Cleanup(cancel)
	return ctx
}

func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost drops
		rec := recorder{then: func(ctx context.Context, _ *event.Delivery) error {
			<-time.After(time.Second)
			return ctx.Err() // contexts stay alive
		}}
		h := newHandler(t, &rec, webhook.WithWorkers(2), webhook.WithPortalWorkers(2), lost.option())
		for id := range 10 {
			post(h, dealUpdate(id+1))
		}
		start := time.Now()
		require.NoError(t, h.Shutdown(within(t, time.Minute)))
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Len(t, rec.ids(), 10)
		s := h.Stats()
		require.EqualValues(t, 10, s.Handled)
		balanced(t, s, 0)

		require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(11)))
		require.NoError(t, h.Shutdown(within(t, 0)), "once more")
		s = h.Stats()
		require.EqualValues(t, 1, s.Rejected[webhook.ReasonShuttingDown])
		require.EqualValues(t, 1, s.Lost)
		require.Len(t, rec.ids(), 10)
		ids, _ := lost.list()
		require.Empty(t, ids, "refused before it was read")
	})
}

func TestShutdownOfIdleHandler(t *testing.T) {
	t.Parallel()
	h := newHandler(t, nothing())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, h.Shutdown(ended))
	require.NoError(t, h.Shutdown(ended))
}

func TestShutdownCutsOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost drops
		var causes []error
		rec := recorder{then: func(ctx context.Context, d *event.Delivery) error {
			switch d.Entity().ID {
			case "1": // gives up when told
				<-ctx.Done()
				causes = append(causes, context.Cause(ctx))
				return ctx.Err()
			case "2": // comes to an end in the grace
				<-ctx.Done()
				<-time.After(time.Second)
				return nil
			default: // does not listen
				<-time.After(time.Hour)
				return nil
			}
		}}
		h := newHandler(t, &rec, webhook.WithWorkers(3), webhook.WithPortalWorkers(3), lost.option())
		for id := range 5 {
			post(h, dealUpdate(id+1))
		}
		start := time.Now()
		err := h.Shutdown(within(t, 10*time.Second))
		require.Equal(t, 10*time.Second+graceOfHandlers, time.Since(start))
		require.ErrorIs(t, err, webhook.ErrShutdown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var left *webhook.ShutdownError
		require.ErrorAs(t, err, &left)
		require.Equal(t, 4, left.Left)
		require.Len(t, causes, 1)
		require.ErrorIs(t, causes[0], webhook.ErrShutdown)

		ids, errs := lost.list()
		require.ElementsMatch(t, []string{"1", "3", "4", "5"}, ids)
		for _, err := range errs {
			require.ErrorIs(t, err, webhook.ErrShutdown)
		}
		s := h.Stats()
		require.EqualValues(t, 1, s.Handled)
		require.EqualValues(t, 4, s.Lost)
		require.Zero(t, s.Failed)
		balanced(t, s, 4)
		require.Equal(t, err, h.Shutdown(within(t, time.Minute)), "the same answer once more")

		<-time.After(2 * time.Hour) // the deaf handler returns, and changes nothing
		after := h.Stats()
		require.EqualValues(t, 3, after.Handlers["ONCRMDEALUPDATE"].Count(), "those that were cut off ran all the same")
		s.Handlers, after.Handlers = nil, nil
		require.Equal(t, s, after)
		ids, _ = lost.list()
		require.Len(t, ids, 4)
	})
}

// TestShutdownWithSlowReports: a slow function of WithOnDropped does not keep Shutdown longer than
// the grace, and gets everything all the same.
func TestShutdownWithSlowReports(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		slow time.Duration // of a report
		took time.Duration // after the end of the context
		late bool          // some reports come after Shutdown has returned
	}{
		"5 ms":       {5 * time.Millisecond, graceOfHandlers, false}, // the handler is stuck
		"a second":   {time.Second, webhook.ShutdownGrace, true},
		"for always": {24 * time.Hour, webhook.ShutdownGrace, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var reports atomic.Int32
				h := newHandler(t, do(func(context.Context, *event.Delivery) error { <-release; return nil }), webhook.WithWorkers(1),
					webhook.WithOnDropped(func(*event.Delivery, error) {
						<-time.After(test.slow)
						reports.Add(1)
					}))
				const waiting = 600
				for id := range waiting {
					require.Equal(t, http.StatusOK, post(h, dealUpdate(id+1)))
				}
				start := time.Now()
				err := h.Shutdown(within(t, 100*time.Millisecond))
				require.LessOrEqual(t, time.Since(start), 100*time.Millisecond+webhook.ShutdownGrace)
				require.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond+test.took)
				var left *webhook.ShutdownError
				require.ErrorAs(t, err, &left)
				require.Equal(t, waiting, left.Left)
				if test.late {
					require.Less(t, reports.Load(), int32(waiting))
				}
				close(release)
				<-time.After(60 * 24 * time.Hour)
				require.EqualValues(t, waiting, reports.Load())
				require.EqualValues(t, waiting, h.Stats().Lost)
			})
		})
	}
}

func TestShutdownCutsOffWithoutLoss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
			<-ctx.Done()
			return nil // cleans up and is content
		}))
		post(h, dealUpdate(1))
		require.NoError(t, h.Shutdown(within(t, time.Second)))
		require.EqualValues(t, 1, h.Stats().Handled)
	})
}

func TestShutdownRunsWaitingRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := make(map[string]int)
		rec := recorder{then: func(_ context.Context, d *event.Delivery) error {
			id := d.Entity().ID
			tries[id]++
			switch {
			case id == "1" && tries[id] == 1:
				return event.Retry(io.EOF, time.Hour)
			case id == "2" && tries[id] < 3:
				return event.Retry(io.EOF, 5*time.Second)
			}
			return nil
		}}
		h := newHandler(t, &rec, webhook.WithWorkers(1))
		for _, id := range []int{1, 2, 1} {
			post(h, dealUpdate(id))
		}
		synctest.Wait()
		require.Equal(t, 3, h.Stats().Queued)
		start := time.Now()
		require.NoError(t, h.Shutdown(within(t, time.Minute)))
		require.Equal(t, 5*time.Second, time.Since(start), "a further failure waits as usual")
		require.Equal(t, map[string]int{"1": 3, "2": 3}, tries)
		balanced(t, h.Stats(), 0)
	})
}

func TestShutdownCutsOffRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost drops
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { return event.Retry(io.EOF, time.Hour) }), lost.option())
		for _, id := range []int{1, 2, 2} {
			post(h, dealUpdate(id))
		}
		err := h.Shutdown(within(t, time.Minute))
		var left *webhook.ShutdownError
		require.ErrorAs(t, err, &left)
		require.Equal(t, 3, left.Left)
		ids, _ := lost.list()
		require.ElementsMatch(t, []string{"1", "2", "2"}, ids)
		balanced(t, h.Stats(), 3)
		<-time.After(3 * time.Hour)
		require.Equal(t, 0, h.Stats().Running, "no timer brings them back")
	})
}

func TestShutdownReleasesRequestsThatWaitForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost drops
		h := newHandler(t, do(slow(time.Second)), webhook.WithQueueSize(1), webhook.WithEnqueueTimeout(time.Hour), lost.option())
		post(h, dealUpdate(1))
		status := make(chan int)
		go func() { status <- post(h, dealUpdate(2)) }()
		synctest.Wait()
		done := make(chan error)
		go func() { done <- h.Shutdown(within(t, time.Minute)) }()
		require.Equal(t, http.StatusServiceUnavailable, <-status)
		require.NoError(t, <-done)
		ids, errs := lost.list()
		require.Equal(t, []string{"2"}, ids)
		require.ErrorIs(t, errs[0], webhook.ErrShutdown)
		require.EqualValues(t, 1, h.Stats().Rejected[webhook.ReasonShuttingDown])
	})
}

func TestShutdownsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(slow(time.Hour)))
		for id := range 4 {
			post(h, dealUpdate(id+1))
		}
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				err := h.Shutdown(within(t, time.Duration(i+1)*time.Second))
				var left *webhook.ShutdownError
				if !errors.As(err, &left) || left.Left != 4 {
					t.Errorf("call %d: %v", i, err)
				}
				if took := time.Since(start); took != time.Second+graceOfHandlers {
					t.Errorf("call %d took %s: the first context that ends, ends the wait for all", i, took)
				}
			})
		}
		wg.Wait()
		<-time.After(2 * time.Hour)
	})
}

func TestShutdownWaitsForSyncHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(slow(5*time.Second)), webhook.WithSync())
		status := make(chan int)
		go func() { status <- post(h, dealUpdate(1)) }()
		synctest.Wait()
		require.Equal(t, 1, h.Stats().Running)
		start := time.Now()
		done := make(chan error)
		go func() { done <- h.Shutdown(within(t, time.Minute)) }()
		require.Equal(t, http.StatusOK, <-status)
		require.NoError(t, <-done)
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestShutdownWaitsForReports(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reported := false
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { return io.EOF }), webhook.WithSync(),
			webhook.WithOnDropped(func(*event.Delivery, error) {
				<-time.After(5 * time.Second)
				reported = true
			}))
		status := make(chan int, 1)
		go func() { status <- post(h, dealUpdate(1)) }()
		synctest.Wait()
		require.NoError(t, h.Shutdown(within(t, time.Minute)))
		require.True(t, reported)
		require.Equal(t, http.StatusInternalServerError, <-status)
	})
}

func TestShutdownWaitsForTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost drops
		h := newHandler(t, nothing(), lost.option(), webhook.WithEnqueueTimeout(time.Hour),
			webhook.WithQueue(queueFunc(func(ctx context.Context, d *event.Delivery) error {
				if d.Entity().ID == "1" {
					<-time.After(3 * time.Second)
					return nil
				}
				<-ctx.Done()
				if d.Entity().ID == "2" {
					return context.Cause(ctx)
				}
				return io.EOF // whatever it says
			})))
		status := make(chan int, 3)
		for id := range 3 {
			go func() { status <- post(h, dealUpdate(id+1)) }()
		}
		synctest.Wait()
		err := h.Shutdown(within(t, 10*time.Second))
		var cut *webhook.ShutdownError
		require.ErrorAs(t, err, &cut)
		require.Equal(t, 2, cut.Left)
		require.Equal(t, http.StatusOK, <-status)
		require.Equal(t, http.StatusServiceUnavailable, <-status)
		require.Equal(t, http.StatusServiceUnavailable, <-status)
		ids, errs := lost.list()
		require.ElementsMatch(t, []string{"2", "3"}, ids)
		for _, err := range errs {
			require.ErrorIs(t, err, webhook.ErrShutdown)
		}
		require.EqualValues(t, 2, h.Stats().Rejected[webhook.ReasonShuttingDown])
	})
}

// TestShutdownDuringIntake stops handlers in the middle of a flood. Each delivery with the response
// 200 is processed or reported, exactly once, and nothing else is processed.
func TestShutdownDuringIntake(t *testing.T) {
	t.Parallel()
	for name, timeout := range map[string]time.Duration{"drained": time.Minute, "cut off": time.Millisecond, "at once": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const senders, each = 8, 300
			var (
				mu     sync.Mutex
				count  = make(map[string]int)
				sent   atomic.Int32
				lost   = make(map[string]int)
				middle = make(chan struct{})
				once   sync.Once
			)
			h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
				n := d.Data.Get("N").Text()
				mu.Lock()
				count[n]++
				first := count[n] == 1
				mu.Unlock()
				if first && len(n) > 0 && n[len(n)-1] == '7' {
					return event.Retry(io.EOF, time.Millisecond)
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return nil
			}), webhook.WithWorkers(4), webhook.WithQueueSize(200), webhook.WithOnDropped(func(d *event.Delivery, _ error) {
				mu.Lock()
				defer mu.Unlock()
				lost[d.Data.Get("N").Text()]++
			}))
			accepted := make([]map[string]bool, senders)
			var wg sync.WaitGroup
			for s := range senders {
				accepted[s] = make(map[string]bool)
				wg.Go(func() {
					for i := range each {
						n := s*each + i
						if post(h, numbered("ONCRMDEALUPDATE", n%50+1, n)) == http.StatusOK {
							accepted[s][strconv.Itoa(n)] = true
						}
						if sent.Add(1) == senders*each/2 {
							once.Do(func() { close(middle) })
						}
					}
				})
			}
			<-middle
			err := h.Shutdown(within(t, timeout))
			wg.Wait()

			mu.Lock()
			defer mu.Unlock()
			total, cut := 0, 0
			for _, set := range accepted {
				for n := range set {
					total++
					if lost[n] > 1 {
						t.Errorf("delivery %s reported %d times", n, lost[n])
					}
					if lost[n] == 0 && count[n] == 0 {
						t.Errorf("delivery %s was neither processed nor reported", n)
					}
					cut += lost[n]
				}
			}
			for n := range count {
				taken := false
				for _, set := range accepted {
					taken = taken || set[n]
				}
				if !taken {
					t.Errorf("delivery %s was handled and not accepted", n)
				}
			}
			s := h.Stats()
			require.EqualValues(t, total, s.Accepted)
			require.NotZero(t, s.Rejected[webhook.ReasonShuttingDown])
			balanced(t, s, cut)
			if cut == 0 {
				require.NoError(t, err)
				return
			}
			var left *webhook.ShutdownError
			require.ErrorAs(t, err, &left)
			require.Equal(t, cut, left.Left)
		})
	}
}
