package webhook_test

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// of is a change of a deal of a portal.
func of(portal string, deal int) string {
	return body("ONCRMDEALUPDATE", fields{"auth[member_id]": portal, "data[FIELDS][ID]": strconv.Itoa(deal)})
}

// delays notes when deliveries were handled, by portal and event: the last one of each.
type delays struct {
	mu    sync.Mutex
	start time.Time
	last  map[string]time.Duration
}

func (d *delays) note(e *event.Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		d.last = make(map[string]time.Duration)
	}
	d.last[e.MemberID()+" "+e.Name] = time.Since(d.start)
}

// restart measures from now on.
func (d *delays) restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.start = time.Now()
}

// of returns the delay of a portal's last event of a name.
func (d *delays) of(event string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	took, ok := d.last[event]
	if !ok {
		return -1
	}
	return took
}

// TestStormOfOnePortal: behind 1,500 events of one portal, another portal's event and the stormy
// portal's own uninstallation are handled at once.
func TestStormOfOnePortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := delays{start: time.Now()}
		h := newHandler(t, do(func(_ context.Context, d *event.Delivery) error {
			seen.note(d)
			<-time.After(100 * time.Millisecond)
			return nil
		}), webhook.WithWorkers(8))
		for deal := range 1500 {
			require.Equal(t, http.StatusOK, post(h, of("stormy", deal+1)))
		}
		require.Equal(t, http.StatusOK, post(h, of("calm", 1)))
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", fields{"auth[member_id]": "stormy"})))
		require.NoError(t, h.Idle(t.Context()))
		require.Zero(t, seen.of("calm ONCRMDEALUPDATE"), "it has a worker of its own")
		require.Zero(t, seen.of("stormy ONAPPUNINSTALL"))
		require.Equal(t, 24900*time.Millisecond, seen.of("stormy ONCRMDEALUPDATE"), "six at a time")
		balanced(t, h.Stats(), 0)
	})
}

// TestStormInTheMiddle: portals that come when all workers are taken wait for one handler at most.
func TestStormInTheMiddle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := delays{}
		h := newHandler(t, do(func(_ context.Context, d *event.Delivery) error {
			seen.note(d)
			<-time.After(100 * time.Millisecond)
			return nil
		}), webhook.WithWorkers(8))
		for deal := range 500 {
			post(h, of("a", deal+1))
			post(h, of("b", deal+1))
		}
		<-time.After(time.Second + 50*time.Millisecond)
		seen.restart()
		for _, portal := range []string{"c", "d", "e"} {
			require.Equal(t, http.StatusOK, post(h, of(portal, 1)))
		}
		require.NoError(t, h.Idle(t.Context()))
		for _, portal := range []string{"c", "d", "e"} {
			require.LessOrEqual(t, seen.of(portal+" ONCRMDEALUPDATE"), 100*time.Millisecond)
		}
		balanced(t, h.Stats(), 0)
	})
}

// TestNoisyPortal: a portal that fills the queue loses its own events, and no other's.
func TestNoisyPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { <-release; return nil }),
			webhook.WithQueueSize(100), webhook.WithEnqueueTimeout(50*time.Millisecond))
		statuses := make(map[int]int)
		for deal := range 100 {
			statuses[post(h, of("noisy", deal+1))]++
		}
		require.Equal(t, map[int]int{http.StatusOK: 75, http.StatusServiceUnavailable: 25}, statuses)
		require.Equal(t, http.StatusOK, post(h, of("calm", 1)))
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", fields{"auth[member_id]": "noisy"})))
		close(release)
		shutdown(t, h)
		balanced(t, h.Stats(), 0)
	})
}

// TestRoomOfApplicationEvents: they have an eighth of the queue to themselves, and no more.
func TestRoomOfApplicationEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, do(slow(time.Second)), webhook.WithQueueSize(16), webhook.WithEnqueueTimeout(0))
		payment := func(portal string) int { return post(h, body("ONAPPPAYMENT", fields{"auth[member_id]": portal})) }
		require.Equal(t, http.StatusOK, payment("a"))
		require.Equal(t, http.StatusServiceUnavailable, payment("a"), "the other place is for another portal")
		require.Equal(t, http.StatusOK, payment("b"))
		require.Equal(t, http.StatusServiceUnavailable, payment("c"))
		require.Equal(t, http.StatusOK, post(h, of("c", 1)))
		shutdown(t, h)
		balanced(t, h.Stats(), 0)
	})
}

// TestHangingHandlers: handlers of one portal that hang hold up that portal, and after a few
// seconds nobody else.
func TestHangingHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := delays{}
		h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
			if d.MemberID() == "calm" {
				seen.note(d)
				return nil
			}
			<-ctx.Done()
			return event.Drop(ctx.Err())
		}), webhook.WithWorkers(4), webhook.WithHandlerTimeout(time.Minute))
		for _, portal := range []string{"a", "b"} { // two handlers each: all workers
			for deal := range 10 {
				post(h, of(portal, deal+1))
			}
		}
		synctest.Wait()
		require.Equal(t, 4, h.Stats().Running)
		seen.restart()
		post(h, of("calm", 1))
		<-time.After(6 * time.Second)
		require.Equal(t, 5*time.Second, seen.of("calm ONCRMDEALUPDATE"))
		seen.restart()
		post(h, of("calm", 2))
		synctest.Wait()
		require.Zero(t, seen.of("calm ONCRMDEALUPDATE"))
		require.NoError(t, h.Idle(t.Context()))
		balanced(t, h.Stats(), 0)
	})
}

// TestOrderWhenFull: requests that wait for room keep the order in which they came.
func TestOrderWhenFull(t *testing.T) {
	t.Parallel()
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			rec := recorder{then: func(_ context.Context, d *event.Delivery) error {
				if d.Entity().ID != "1" {
					<-release
				}
				return nil
			}}
			h := newHandler(t, &rec, webhook.WithWorkers(8), webhook.WithQueueSize(11), webhook.WithEnqueueTimeout(10*time.Second))
			for other := range 8 { // all that one portal may hold
				require.Equal(t, http.StatusOK, post(h, dealUpdate(100+other)))
			}
			var group sync.WaitGroup
			for n := range 6 {
				group.Go(func() {
					if status := post(h, numbered("ONCRMDEALUPDATE", 1, n+1)); status != http.StatusOK {
						t.Errorf("status %d", status)
					}
				})
				synctest.Wait()
			}
			require.Equal(t, 8, h.Stats().Running+h.Stats().Queued)
			close(release)
			group.Wait()
			require.NoError(t, h.Idle(t.Context()))
			var order []string
			for _, d := range rec.deliveries() {
				if d.Entity().ID == "1" {
					order = append(order, d.Data.Get("N").Text())
				}
			}
			require.Equal(t, []string{"1", "2", "3", "4", "5", "6"}, order)
		})
	}
}

// TestNewestWhenFull: deliveries that wait for room are coalesced, and the newest stays.
func TestNewestWhenFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := recorder{then: slow(time.Second / 2)}
		h := newHandler(t, &rec, webhook.WithQueueSize(4), webhook.WithCoalescing(event.OnCrmDealUpdate))
		for other := range 3 {
			require.Equal(t, http.StatusOK, post(h, dealUpdate(100+other)))
		}
		var group sync.WaitGroup
		for n := range 6 {
			group.Go(func() { post(h, numbered("ONCRMDEALUPDATE", 1, n+1)) })
			synctest.Wait()
		}
		group.Wait()
		require.NoError(t, h.Idle(t.Context()))
		got := rec.numbers()
		require.Len(t, got, 4)
		require.Equal(t, "ONCRMDEALUPDATE 6", got[3])
		require.EqualValues(t, 5, h.Stats().Coalesced)
		balanced(t, h.Stats(), 0)
	})
}

// TestIdle: a test waits for what its event causes, retries included.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		attempts := 0
		h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
			if attempts++; event.AttemptOf(ctx).Number < 3 {
				return event.Retry(context.DeadlineExceeded, time.Minute)
			}
			return nil
		}))
		require.NoError(t, h.Idle(t.Context()), "nothing came so far")
		post(h, dealUpdate(1))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errPanic)
		defer cancel()
		require.ErrorIs(t, h.Idle(ctx), errPanic, "the cause of the context")
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, 2*time.Minute, time.Since(start))
		require.Equal(t, 3, attempts)
	})
}

// TestAttempts: a handler can see the number of its attempt, and whether it is the last.
func TestAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []event.Attempt
		arrived := time.Now()
		h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
			got = append(got, event.AttemptOf(ctx))
			return context.DeadlineExceeded
		}), webhook.WithMaxAttempts(3))
		post(h, dealUpdate(1))
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, []event.Attempt{
			{Number: 1, Max: 3, Received: arrived}, {Number: 2, Max: 3, Received: arrived}, {Number: 3, Max: 3, Received: arrived},
		}, got)
	})
}
