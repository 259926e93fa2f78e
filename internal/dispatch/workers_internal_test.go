package dispatch

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// idleNow returns how many workers are idle.
func (d *Dispatcher) idleNow() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.idleWorkers)
}

// plainFront is a front of which only Handle does something.
type plainFront func(ctx context.Context, it *Item) error

func (f plainFront) Handle(ctx context.Context, it *Item) error { return f(ctx, it) }
func (plainFront) Retrying(*Item, error, time.Duration)         {}
func (plainFront) Finished(*Item, Outcome, error)               {}

// goroutineID returns a text that no other living goroutine has.
func goroutineID() string {
	buf := make([]byte, 64)
	return strings.Fields(string(buf[:runtime.Stack(buf, false)]))[1]
}

// TestWorkers: they are reused, end about two seconds after the last work, and none is left after
// Shutdown or Dismiss.
func TestWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ids []string
		d := New(Config{
			Workers: 4, Limit: 4, SlowShare: 4, Urgent: 1, Timeout: time.Minute, MaxAttempts: 1, Grace: time.Second,
			Front: plainFront(func(_ context.Context, it *Item) error {
				if it.Front != nil {
					<-time.After(time.Second)
				} else {
					mu.Lock()
					ids = append(ids, goroutineID())
					mu.Unlock()
				}
				return nil
			}),
		})
		enqueue := func(front any) {
			require.NoError(t, d.Enqueue(Key{}, &Item{Delivery: &event.Delivery{}, Front: front}, 0))
		}
		for range 5 {
			enqueue(nil)
			synctest.Wait()
		}
		for range 20 {
			enqueue(nil)
		}
		synctest.Wait()
		require.Equal(t, ids[0], ids[4], "one after the other on one goroutine")
		for i := range 4 {
			enqueue(strconv.Itoa(i))
		}
		require.NoError(t, d.Idle(t.Context()))
		synctest.Wait()
		require.Equal(t, 4, d.idleNow())
		<-time.After(2*idleTime + time.Millisecond)
		require.Zero(t, d.idleNow())
		require.False(t, d.reaping, "no timer is left")

		enqueue(nil)
		synctest.Wait()
		require.Equal(t, 1, d.idleNow())
		d.Dismiss()
		require.Zero(t, d.idleNow())
		enqueue(nil)
		synctest.Wait()
		require.Equal(t, 1, d.idleNow(), "new work ends the dismissal")
		enqueue("slow")
		synctest.Wait()
		d.Dismiss()
		require.NoError(t, d.Idle(t.Context()))
		synctest.Wait()
		require.Zero(t, d.idleNow())

		for i := range 4 {
			enqueue(strconv.Itoa(i))
		}
		go func() {
			<-time.After(time.Second / 2)
			_, _ = d.Do(Key{}, &Item{Delivery: &event.Delivery{}, Front: "slow"}) // ends later than the workers
		}()
		<-time.After(3 * time.Second / 4)
		began := time.Now()
		require.NoError(t, d.Shutdown(t.Context()))
		require.Equal(t, 3*time.Second/4, time.Since(began))
		require.Zero(t, d.idleNow())
	})
}

// TestSpareLanes: lanes are reused, and not all are kept.
func TestSpareLanes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(Config{
			Workers: 4, Limit: 4, SlowShare: 4, Urgent: 1, Timeout: time.Minute, MaxAttempts: 1, Grace: time.Second,
			Front: plainFront(func(context.Context, *Item) error { return nil }),
		})
		for i := range 3 * maxSpareLanes {
			lane := event.Entity{Kind: "object", ID: strconv.Itoa(i)}
			require.NoError(t, d.Enqueue(Key{}, &Item{Delivery: &event.Delivery{}, Lane: lane}, 0))
		}
		require.NoError(t, d.Idle(t.Context()))
		require.LessOrEqual(t, len(d.spareLanes), maxSpareLanes)
		require.NotEmpty(t, d.spareLanes)
		require.Empty(t, d.portals)
		require.NoError(t, d.Shutdown(t.Context()))
		require.Empty(t, d.leftovers())
	})
}
