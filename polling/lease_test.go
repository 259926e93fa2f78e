package polling_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/polling"
)

// fragileLeaser is a leaser whose store can be unreachable.
type fragileLeaser struct {
	*offline.MemoryLeaser

	broken atomic.Bool
}

func (l *fragileLeaser) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if l.broken.Load() {
		return nil, errors.New("unreachable")
	}
	return l.MemoryLeaser.Acquire(ctx, owner, ttl, names...)
}

func TestOneOfManyPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		users := f.users(1)
		leaser := offline.NewMemoryLeaser()
		var all []*polling.Consumer
		var runs []*running
		var handlers []*recorder
		for range 3 {
			h := &recorder{}
			c := f.consumer(h, polling.WithLeaser(leaser), polling.WithUserEvents(eventtest.AdminID))
			all, runs, handlers = append(all, c), append(runs, run(t, c)), append(handlers, h)
			synctest.Wait()
		}
		owners, err := leaser.Held(t.Context(), "polling/")
		require.NoError(t, err)
		require.Len(t, owners, 2, "of the bot and of the user")
		f.say(users[0], "one")
		pass(time.Minute)
		require.Equal(t, []string{"one"}, handlers[0].seen())
		require.ErrorIs(t, f.consumer(&recorder{}, polling.WithLeaser(leaser)).Drain(t.Context()), polling.ErrLeaseHeld)
		require.Zero(t, all[1].Stats().Requests+all[2].Stats().Requests)
		require.NoError(t, runs[0].end())
		f.say(users[0], "two")
		pass(time.Minute)
		require.Equal(t, []string{"two"}, slices.Concat(handlers[1].seen(), handlers[2].seen()), "another one took over")
		require.NoError(t, runs[1].end())
		require.NoError(t, runs[2].end())
		owners, err = leaser.Held(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, owners)
	})
}

// A consumer that needs two leases does not keep one of them from others.
func TestHalfOfTheLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		leaser := offline.NewMemoryLeaser()
		user, err := polling.NewUser(f.api, eventtest.AdminID, &recorder{}, f.store, silent(), polling.WithLeaser(leaser))
		require.NoError(t, err)
		first := run(t, user)
		synctest.Wait()
		both := f.consumer(&recorder{}, polling.WithLeaser(leaser), polling.WithUserEvents(eventtest.AdminID))
		second := run(t, both)
		pass(10 * time.Second)
		require.Zero(t, both.Stats().Requests)
		require.Eventually(t, func() bool {
			return f.consumer(&recorder{}, polling.WithLeaser(leaser)).Drain(t.Context()) == nil
		}, time.Minute, 100*time.Millisecond, "the bot is free most of the time")
		require.NoError(t, first.end())
		pass(10 * time.Second)
		require.NotZero(t, both.Stats().Requests)
		require.NoError(t, second.end())
	})
}

func TestLostLease(t *testing.T) {
	t.Parallel()
	for name, stopping := range map[string]bool{"at work": false, "in the grace period": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				users := f.users(2)
				leaser := &fragileLeaser{MemoryLeaser: offline.NewMemoryLeaser()}
				var cause error
				c := f.consumer(event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
					if d.Data.Get("message", "text").Text() == "slow" && cause == nil {
						<-ctx.Done()
						cause = context.Cause(ctx)
						return ctx.Err()
					}
					return nil
				}), polling.WithLeaser(leaser), polling.WithGrace(time.Hour), polling.WithHandlerTimeout(time.Hour))
				f.say(users[0], "quick")
				f.say(users[1], "slow")
				r := run(t, c)
				synctest.Wait()
				kept := f.kept(c)
				leaser.broken.Store(true)
				began := time.Now()
				if stopping {
					require.NoError(t, r.end())
				} else {
					pass(polling.DefaultLeaseTTL)
				}
				synctest.Wait()
				require.ErrorIs(t, cause, polling.ErrLeaseLost)
				require.LessOrEqual(t, time.Since(began), polling.DefaultLeaseTTL)
				if stopping {
					require.Equal(t, kept, f.kept(c), "another process may have gone on")
					return
				}
				leaser.broken.Store(false)
				pass(time.Minute)
				require.NoError(t, r.end())
				require.Empty(t, f.LoggedEvents(), "it goes on when the lease is back")
				balanced(t, c.Stats())
			})
		})
	}
}
