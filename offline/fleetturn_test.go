package offline_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

// However many portals have handlers that run, all of them get one grace period at the end of Run.
func TestFleetEndsWithManyHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 40)
		var began, ended atomic.Int64
		w.inside = func(ctx context.Context, _ *event.Delivery) error {
			began.Add(1)
			defer ended.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}
		for _, id := range w.ids {
			w.change(id, 1)
		}
		f := w.fleet(offline.WithTurns(4), offline.WithHandlers(100), offline.WithHandlerTimeout(time.Hour))
		w.add(f, w.ids...)
		stop := running(t, f)
		time.Sleep(time.Minute) //nolint:forbidigo // in fake time
		require.EqualValues(t, len(w.ids), began.Load())
		require.Zero(t, ended.Load())
		start := time.Now()
		stop()
		require.Equal(t, offline.DefaultGrace, time.Since(start))
		require.EqualValues(t, len(w.ids), ended.Load())
	})
}

// Acks that the portal does not take while a consumer stops do not prolong the grace period.
func TestGraceWhileThePortalHangs(t *testing.T) {
	t.Parallel()
	for range 8 { // what is due at the same time comes in any order
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.change("UPDATE", 1, 2)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var hanging atomic.Bool
			var took time.Duration
			c := newConsumer(t, callerOf(func(ctx context.Context, method string, params, result any) error {
				if hanging.Load() {
					<-ctx.Done()
					return ctx.Err()
				}
				return f.api.Call(ctx, method, params, result)
			}), func(ctx context.Context, d *event.Delivery) error {
				if dealID(t, d) == 1 {
					return nil
				}
				hanging.Store(true)
				stop()
				start := time.Now()
				<-ctx.Done()
				took = time.Since(start)
				return nil
			}, offline.WithClientID(f.app.ClientID()), offline.WithMemberID(f.MemberID()), offline.WithHandlerTimeout(time.Hour))
			require.NoError(t, c.Run(ctx))
			require.Equal(t, offline.DefaultGrace, took)
		})
	}
}

// A caller that ends the goroutine while a portal is being stopped leaves no handler behind.
func TestCallerThatExitsWhileAPortalStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		id := w.ids[0]
		w.change(id, 1, 2)
		var stopping atomic.Bool
		var inside, most atomic.Int64
		w.before = func(context.Context, string) error {
			if stopping.CompareAndSwap(true, false) {
				goexit()
			}
			return nil
		}
		w.inside = func(ctx context.Context, d *event.Delivery) error {
			if d.Entity().ID == "1" {
				return nil
			}
			most.Store(max(most.Load(), inside.Add(1)))
			defer inside.Add(-1)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Second):
				return nil
			}
		}
		f := w.fleet(offline.WithGrace(time.Minute))
		w.add(f, id)
		stop := running(t, f)
		time.Sleep(time.Second) //nolint:forbidigo // in fake time
		stopping.Store(true)
		f.Remove(id)
		time.Sleep(10 * time.Second) //nolint:forbidigo // in fake time
		w.add(f, id)
		time.Sleep(10 * time.Minute) //nolint:forbidigo // in fake time
		require.EqualValues(t, 1, most.Load())
		require.False(t, stopping.Load())
		w.empty(id)
		stop()
	})
}
