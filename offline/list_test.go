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

// While the portal does not list the queue, it is unknown whether there are more orphans. New
// records do not wait for that.
func TestRecordsAreReservedWhileOrphansCannotBeLooked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(200)...)
		_, err := f.queue().Reserve(t.Context(), 200)
		require.NoError(t, err)
		lists := 0
		var latest time.Duration
		raised := time.Now()
		c := newConsumer(t, tap{Caller: f.api, before: func(method string, _ map[string]any) error {
			if method == "event.offline.list" {
				lists++
			}
			if lists == 3 { // the first two are those of the start; more pages of orphans follow
				f.Always("event.offline.list", eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."))
			}
			return nil
		}}, func(_ context.Context, d *event.Delivery) error {
			if d.Entity().ID == "1000" {
				latest = time.Since(raised)
			}
			return nil
		}, offline.WithInterval(time.Second, time.Second))
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
		defer stop()
		time.AfterFunc(time.Minute, func() {
			raised = time.Now()
			f.change("UPDATE", 1000)
		})
		require.NoError(t, c.Run(ctx))
		require.Positive(t, latest)
		require.LessOrEqual(t, latest, time.Second)
		require.Less(t, c.Stats().Requests, uint64(300))
		f.Heal()
		requireDrains(t, c)
		require.Empty(t, f.states())
	})
}
