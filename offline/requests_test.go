package offline_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// The platform's limits are per method: event.offline.list can be blocked for hours while all
// others work. It is needed to find abandoned records, and for nothing else.
func TestFailingListDelaysNothing(t *testing.T) {
	t.Parallel()
	for name, healthy := range map[string]time.Duration{"from the start": 0, "from the first minute on": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const changes = 50
			var s offline.Stats
			var worst time.Duration
			var handled int
			synctest.Test(t, func(t *testing.T) {
				f, w := newFixture(t), newWaits()
				c := newConsumer(t, f.api, func(_ context.Context, d *event.Delivery) error {
					w.handled(dealID(t, d))
					return nil
				})
				blocked := eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.")
				if healthy == 0 {
					f.Always("event.offline.list", blocked)
				}
				stop := background(t, c)
				<-time.After(healthy)
				f.Always("event.offline.list", blocked)
				for i := range changes {
					w.changed(1 + i)
					f.change("UPDATE", 1+i)
					c.Wake()
					<-time.After(time.Minute)
				}
				stop()
				s = c.Stats()
				worst, handled = w.result()
			})
			expect(t, handled == changes, "%d of %d changes were handled", handled, changes)
			expect(t, worst <= soon, "a change waited for %s", worst)
			expect(t, s.Requests < 20*changes, "%d requests in %d minutes", s.Requests, changes)
		})
	}
}

// A crowd of small reservations, as a process leaves them that was restarted again and again.
func TestManySmallReservationsAreClearedInFewRequests(t *testing.T) {
	t.Parallel()
	const records = 1000
	f := newFixture(t)
	f.change("UPDATE", upTo(records)...)
	q := f.queue()
	for range records {
		_, err := q.Reserve(t.Context(), 1)
		require.NoError(t, err)
	}
	f.ResetRecords()
	var j journal
	f.drain(j.HandleEvent)
	require.Empty(t, f.states())
	require.Len(t, j.entries(), records)
	requests := f.Requests().REST
	expect(t, requests <= records/20, "%d requests for %d reservations of one record", requests, records)
}

// An interval of a nanosecond is refused or raised: it is a typing error that would use up the
// portal's limit for everybody.
func TestIntervalsHaveAFloor(t *testing.T) {
	t.Parallel()
	requests := 0
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.ResetRecords()
		c, err := offline.NewConsumer(f.api, new(journal), offline.WithInterval(1, 1), offline.WithParkedInterval(1))
		if err != nil {
			return
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Microsecond)
		defer stop()
		require.NoError(t, c.Run(ctx))
		requests = f.Requests().REST
	})
	expect(t, requests <= 5, "%d requests in 1 µs", requests)
}
