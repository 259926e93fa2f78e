package offline_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

// shaky is a leaser whose store can go away, and whose leases can be given to somebody else.
type shaky struct {
	*offline.MemoryLeaser

	down, taken atomic.Bool
}

func (s *shaky) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	switch {
	case s.down.Load():
		return nil, errors.New("no connection")
	case s.taken.Load():
		return nil, nil
	default:
		return s.MemoryLeaser.Acquire(ctx, owner, ttl, names...)
	}
}

func TestOneOfSeveralConsumersWorksTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		leaser := offline.NewMemoryLeaser()
		var mu sync.Mutex
		by := make(map[string]int)
		counts := func() map[string]int {
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(by)
		}
		run := func(name string) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
				mu.Lock()
				defer mu.Unlock()
				by[name]++
				return nil
			}, offline.WithLeaser(leaser), offline.WithInterval(time.Second, time.Second))
			ended := make(chan error, 1)
			go func() { ended <- c.Run(ctx) }()
			synctest.Wait()
			return func() {
				cancel()
				require.NoError(t, <-ended)
			}
		}
		stopA := run("a")
		stopB := run("b")
		defer stopB()
		for id := range 20 {
			f.change("UPDATE", id+1)
			time.Sleep(3 * time.Second) //nolint:forbidigo // in fake time
		}
		require.Equal(t, map[string]int{"a": 20}, counts())

		stopA()
		f.change("UPDATE", 21)
		time.Sleep(6 * time.Second) //nolint:forbidigo // in fake time
		require.Equal(t, map[string]int{"a": 20, "b": 1}, counts(), "the lease was given back")

		require.ErrorIs(t, newConsumer(t, f.api, new(journal).HandleEvent, offline.WithLeaser(leaser)).Drain(t.Context()), offline.ErrLeaseHeld)
	})
}

func TestLostLease(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		lose func(*shaky)
		most time.Duration // until the handler's context ends
	}{
		{"the store does not answer", func(s *shaky) { s.down.Store(true) }, 15 * time.Second},
		{"another has it", func(s *shaky) { s.taken.Store(true) }, 5*time.Second + 3*time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", 1, 2, 3)
				leaser := &shaky{MemoryLeaser: offline.NewMemoryLeaser()}
				var first, second sync.Once
				var cause error
				var took time.Duration
				var seen journal
				var during, after []string // states of the records
				var parked, without int    // calls without a lease
				c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
					_ = seen.HandleEvent(ctx, d)
					switch dealID(t, d) {
					case 1:
						return nil
					case 2:
						second.Do(func() { <-ctx.Done() })
						return final(errHandler)
					}
					first.Do(func() {
						tt.lose(leaser)
						start := time.Now()
						<-ctx.Done()
						took, cause = time.Since(start), context.Cause(ctx)
						during = f.states()
					})
					return ctx.Err()
				}, offline.WithLeaser(leaser))
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				time.AfterFunc(30*time.Second, func() {
					after, parked = f.states(), f.CallCount("event.offline.error")
					f.ResetRecords()
				})
				time.AfterFunc(40*time.Second, func() {
					without = f.Requests().REST
					leaser.down.Store(false)
					leaser.taken.Store(false)
				})
				require.NoError(t, c.Run(ctx))
				require.ErrorIs(t, cause, offline.ErrLeaseLost)
				require.LessOrEqual(t, took, tt.most)
				require.Subset(t, []string{"reserved"}, during)
				require.Contains(t, []int{2, 3}, len(during), "the first may be cleared already")
				require.Equal(t, []string{"reserved", "reserved"}, after, "what was handled is cleared, and nothing is parked")
				require.Zero(t, parked)
				require.Zero(t, without, "nothing is done without a lease")
				require.Len(t, seen.entries(), 5, "the second and the third again")
				require.Equal(t, []string{"parked"}, f.states(), "by the holder of the lease")
			})
		})
	}
}

// The lease may be lost while the consumer stops: the grace period is not to outlast it, and what
// was given up is not parked.
func TestLeaseLostDuringAStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1, 2)
		leaser := &shaky{MemoryLeaser: offline.NewMemoryLeaser()}
		ctx, stop := context.WithCancel(t.Context())
		start := time.Now()
		time.AfterFunc(8*time.Second, stop)
		var cause error
		var took time.Duration
		c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
			if dealID(t, d) == 2 {
				time.Sleep(9 * time.Second) //nolint:forbidigo // in fake time; until the consumer is being stopped
				return final(errHandler)
			}
			leaser.down.Store(true)
			<-ctx.Done()
			cause, took = context.Cause(ctx), time.Since(start)
			return ctx.Err()
		}, offline.WithLeaser(leaser), offline.WithGrace(time.Minute))
		require.NoError(t, c.Run(ctx))
		require.ErrorIs(t, cause, offline.ErrLeaseLost)
		require.Less(t, took, offline.DefaultLeaseTTL)
		require.Equal(t, []string{"reserved", "reserved"}, f.states())
		require.Zero(t, f.CallCount("event.offline.error"))
	})
}

func TestLeaserThatFailsAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1)
		leaser := &shaky{MemoryLeaser: offline.NewMemoryLeaser()}
		leaser.down.Store(true)
		time.AfterFunc(time.Minute, func() { leaser.down.Store(false) })
		var seen journal
		start := time.Now()
		f.drain(seen.HandleEvent, offline.WithLeaser(leaser))
		require.Len(t, seen.entries(), 1)
		require.Less(t, time.Since(start), 70*time.Second)

		leaser.down.Store(true)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		c := newConsumer(t, f.api, seen.HandleEvent, offline.WithLeaser(leaser))
		require.NoError(t, c.Run(ctx))
		require.ErrorIs(t, c.Drain(ctx), context.DeadlineExceeded)
	})
}
