package webhook_test

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// TestDoneAfterTheLease: a handler ended well after the lease of its partition was lost. That is
// stored, although counters of the record would not be.
func TestDoneAfterTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithPartitions(2))
		calls := 0
		h := newHandler(t, do(func(context.Context, *event.Delivery) error {
			calls++
			<-time.After(30 * time.Second)
			return nil
		}), webhook.WithStore(s))
		<-time.After(10 * time.Second)
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpAcquire {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		<-time.After(25 * time.Second)
		require.Zero(t, h.Stats().Store.Partitions, "the leases are lost")
		require.Equal(t, 1, pending(t, s))
		<-time.After(10 * time.Second)
		require.Zero(t, pending(t, s))
		s.SetFaults(nil)
		<-time.After(time.Minute)
		require.Equal(t, 1, calls)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestMarksAfterAFailure: marks that failed are tried one at a time in the end. Once the store works
// again they are many at a time.
func TestMarksAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		s := newStore(t)
		var refuse atomic.Bool
		var commits, most atomic.Int64
		refuse.Store(true)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op != webhooktest.OpCommit || len(c.Marks) == 0 {
				return webhooktest.Fault{}
			}
			if refuse.Load() {
				return webhooktest.Fault{Err: errBoom}
			}
			commits.Add(1)
			most.Store(max(most.Load(), int64(len(c.Marks))))
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s))
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { _ = post(h, deal(i+1, 1)) })
		}
		all.Wait()
		<-time.After(time.Minute)
		require.NotZero(t, pending(t, s))
		refuse.Store(false)
		require.NoError(t, h.Idle(t.Context()))
		require.Zero(t, pending(t, s))
		require.Less(t, commits.Load(), int64(20))
		require.Greater(t, most.Load(), int64(50))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestMarkThatFailsRests: one mark fails whenever it is tried, and others are stored all the time. It
// is tried now and then only.
func TestMarkThatFailsRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var tried atomic.Int64
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			for _, m := range c.Marks {
				if m.ID == "1" {
					tried.Add(1)
					return webhooktest.Fault{Err: errBoom}
				}
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s))
		for i := range 3000 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
			<-time.After(20 * time.Millisecond)
		}
		require.Greater(t, tried.Load(), int64(5))
		require.Less(t, tried.Load(), int64(50), "in a minute")
		s.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestMarkUnderWayAtTheEnd: a commit of a mark hangs when Shutdown stops waiting. The mark counts as
// one that was not stored.
func TestMarkUnderWayAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(ctx context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit && len(c.Marks) > 0 {
				<-ctx.Done()
				return webhooktest.Fault{Err: ctx.Err()}
			}
			return webhooktest.Fault{}
		})
		var out loot
		h := newHandler(t, nothing(), webhook.WithStore(s), webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Second)
		stop(h)
		require.Contains(t, out.String(), "records=1")
		require.Equal(t, 1, pending(t, s))
		<-time.After(time.Minute)
	})
}
