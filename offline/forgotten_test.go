package offline_test

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// requireDrains drains a queue, which must not take hours.
func requireDrains(t *testing.T, c *offline.Consumer) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Hour)
	defer stop()
	require.NoError(t, c.Drain(ctx))
}

// A batch whose answer cannot be read is made again as single calls. What these reserve is tried as
// well.
func TestParkedRecordsThatASingleCallReservedAreTried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, h := newFixture(t), new(refuses)
		for _, id := range upTo(120) {
			f.change("UPDATE", id)
			h.set(true, strconv.Itoa(id))
		}
		f.drain(h.HandleEvent)
		require.Len(t, f.states(), 120)
		for _, id := range upTo(120) {
			h.set(false, strconv.Itoa(id))
		}
		f.change("UPDATE", 500) // its ack makes a batch with the reservation of parked records
		reserving, spoiled := false, false
		c := newConsumer(t, tap{Caller: f.api, before: func(method string, params map[string]any) error {
			reserving = reserving || (method == "event.offline.get" && params["error"] != nil)
			return nil
		}, after: func(method string, answer json.RawMessage) json.RawMessage {
			if method == "batch" && reserving && !spoiled {
				spoiled = true
				return json.RawMessage(`{}`)
			}
			return answer
		}}, h.HandleEvent)
		requireDrains(t, c)
		require.True(t, spoiled)
		require.Empty(t, f.states())
	})
}

// A hook that panics leaves a record and the older rows of its change for later, and nothing of
// them stays in work.
func TestHookThatPanicsForSeveralParkedRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, h := newParked(t)
		reserve := func() {
			_, err := f.queue().ReserveParked(t.Context(), 10) // so that the next change is a row of its own
			require.NoError(t, err)
		}
		reserve()
		f.change("UPDATE", 1)
		f.drain(h.HandleEvent)
		reserve()
		require.Equal(t, []string{"parked, reserved", "parked, reserved"}, f.states())

		h.set(false, "1")
		var once sync.Once
		c := newConsumer(t, f.api, h.HandleEvent, offline.WithHooks(offline.Hooks{
			Handled: func(context.Context, *event.Delivery, time.Duration) { once.Do(func() { panic("hook") }) },
		}))
		requireDrains(t, c)
		requireDrains(t, c)
		require.Empty(t, f.states())
	})
}

// While the portal does not list the queue, nobody can tell whether there are more orphans. New
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

// Looking for orphans asks for no more than workers can take, however many there are.
func TestOrphansAreReadAsWorkersNeedThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(3000)...)
		for range 6 {
			_, err := f.queue().Reserve(t.Context(), 500)
			require.NoError(t, err)
		}
		c := newConsumer(t, tap{Caller: f.api, whole: func(string, map[string]any) {
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // in fake time
		}}, func(context.Context, *event.Delivery) error {
			time.Sleep(200 * time.Millisecond) //nolint:forbidigo // in fake time
			return nil
		})
		start := time.Now()
		requireDrains(t, c)
		require.Less(t, time.Since(start), 20*time.Second)
		require.Less(t, c.Stats().Requests, uint64(20))
		require.Empty(t, f.states())
	})
}

// Parked records that are taken along to the spool are taken as workers need them.
func TestParkedRecordsAreTakenAsWorkersNeedThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, h := newFixture(t), new(refuses)
		for _, id := range upTo(1000) {
			f.change("UPDATE", id)
			h.set(true, strconv.Itoa(id))
		}
		f.drain(h.HandleEvent)
		require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
		var mu sync.Mutex
		var most uint64
		var c *offline.Consumer
		c = newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
			time.Sleep(time.Second) //nolint:forbidigo // in fake time
			s := c.Stats()
			mu.Lock()
			defer mu.Unlock()
			most = max(most, s.Spooled-s.Handled)
			return nil
		}, offline.WithSpool(t.TempDir()))
		requireDrains(t, c)
		require.Empty(t, f.states())
		require.EqualValues(t, 1000, c.Stats().Handled)
		require.Less(t, most, uint64(500))
	})
}

// Records that are given up one after another are parked together, as others are cleared together.
func TestDeadLettersAreParkedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(500)...)
		c := newConsumer(t, tap{Caller: f.api, whole: func(string, map[string]any) {
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // in fake time
		}}, func(_ context.Context, d *event.Delivery) error {
			time.Sleep(time.Second + time.Duration(dealID(t, d)*7919%50)*40*time.Millisecond) //nolint:forbidigo // in fake time
			return final(errHandler)
		})
		requireDrains(t, c)
		require.Less(t, c.Stats().Requests, uint64(40))
		require.Len(t, f.states(), 500)
	})
}
