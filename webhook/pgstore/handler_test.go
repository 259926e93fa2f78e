package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

const applicationToken = "0123456789abcdef0123456789abcdef"

// portal returns the member ID of a portal.
func portal(n int) string { return fmt.Sprintf("%032x", n) }

// portals is a verifier for a number of portals.
func portals(n int) webhook.Verifier {
	var all []webhook.Verifier
	for i := range n {
		all = append(all, webhook.TokensOf(portal(i), applicationToken))
	}
	return webhook.Any(all...)
}

// dealUpdate is what a portal posts when a deal changes.
func dealUpdate(ctx context.Context, member string, deal int, at time.Time) (*http.Request, error) {
	return eventtest.NewRequest(ctx, event.OnCrmDealUpdate, event.CRMEntity{ID: int64(deal)},
		eventtest.WithMember(member), eventtest.WithToken(applicationToken), eventtest.WithTime(at))
}

// process is a process with a Handler.
type process struct {
	*webhook.Handler

	store *pgstore.Store
}

func (k *kit) process(verifier webhook.Verifier, h event.Handler, opts ...pgstore.Option) *process {
	k.Helper()
	s := k.open(opts...)
	handler, err := webhook.NewHandler(verifier, h, webhook.WithStore(s), webhook.WithLeaseTTL(webhook.MinLeaseTTL),
		webhook.WithLogger(slog.New(slog.NewTextHandler(k.Output(), nil))), webhook.WithEnqueueTimeout(patient))
	require.NoError(k, err)
	p := &process{Handler: handler, store: s}
	k.Cleanup(func() { p.shutdown() })
	return p
}

// shutdown ends the process in good order.
func (p *process) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	_ = p.Shutdown(ctx)
	_ = p.store.Close()
}

// TestReplicas: three processes receive changes of the deals of many portals, and handle them with
// a transaction each. One of them goes away in between, another fails now and then. Each change is
// in the table once, and those of a deal are in order.
func TestReplicas(t *testing.T) {
	t.Parallel()
	const members, deals, changes = 12, 4, 12
	k := newKit(t)
	l := ledgerOn(k)
	k.exec(`ALTER TABLE {s}.ledger ADD n bigserial, ADD deal text, ADD change int`)
	var calls, failures atomic.Int64
	handle := event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
		tx, err := pgstore.Tx(ctx)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, l.sql(`INSERT INTO {s}.ledger (what, deal, change) VALUES ('change', $1, $2)`),
			d.MemberID()+" "+d.Entity().ID, d.Time.Unix())
		if calls.Add(1)%50 == 0 {
			failures.Add(1)
			return event.Retry(errors.Join(err, errHandler), time.Millisecond)
		}
		return err
	})
	var all []*process
	for range 3 {
		all = append(all, k.process(portals(members), handle, pgstore.WithPartitions(16)))
	}
	var posts sync.WaitGroup
	for member := range members {
		posts.Go(func() {
			for change := range changes {
				for deal := range deals {
					r, err := dealUpdate(t.Context(), portal(member), deal+1, time.Unix(int64(change+1), 0))
					if err != nil {
						t.Error(err)
						return
					}
					w := httptest.NewRecorder()
					all[(member+change)%len(all)].ServeHTTP(w, r)
					if !assert.Equal(t, http.StatusOK, w.Code) {
						return
					}
				}
			}
		})
	}
	posts.Wait()
	all[1].shutdown() // its partitions go to the others
	eventually(t, "everything is handled", func() bool { return l.pending() == 0 })
	require.Equal(t, int64(members*deals*changes), k.number(`SELECT count(*) FROM {s}.ledger`))
	require.Equal(t, int64(members*deals*changes), k.number(`SELECT count(*) FROM (SELECT DISTINCT deal, change FROM {s}.ledger) x`))
	require.Zero(t, k.number(`SELECT count(*) FROM (SELECT change - lag(change) OVER (PARTITION BY deal ORDER BY n) AS step FROM {s}.ledger) x WHERE step <> 1`),
		"changes of a deal are in order")
	require.Positive(t, failures.Load())
	for _, p := range []*process{all[0], all[2]} {
		require.NoError(t, p.Health())
	}
}

// TestHandlerParks: deliveries that fail for good are parked, listed and replayed; others are kept.
func TestHandlerParks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	var broken atomic.Bool
	broken.Store(true)
	p := k.process(portals(1), event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
		if broken.Load() && d.Entity().ID == "2" {
			panic("broken")
		}
		return nil
	}), pgstore.WithKeep(time.Hour))
	for deal := range 3 {
		r, err := dealUpdate(t.Context(), portal(0), deal+1, time.Now())
		require.NoError(t, err)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code)
	}
	require.NoError(t, p.Idle(t.Context()))
	archive, err := webhook.NewArchive(p.store)
	require.NoError(t, err)
	parked, err := archive.Parked(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, parked, 1)
	require.Equal(t, "2", parked[0].Delivery.Entity().ID)
	require.Equal(t, portal(0), parked[0].MemberID)
	broken.Store(false)
	n, err := archive.Replay(t.Context(), parked[0].ID)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, p.Idle(t.Context()))
	kept, err := archive.Kept(t.Context(), "", 10)
	require.NoError(t, err)
	var ids []string
	for _, a := range kept {
		ids = append(ids, a.Delivery.Entity().ID)
	}
	require.ElementsMatch(t, []string{"1", "3"}, ids[:2]) // of different objects: in any order
	require.Equal(t, []string{"2"}, ids[2:])
	depth, err := archive.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, webhook.Depth{Kept: 3}, depth)
}
