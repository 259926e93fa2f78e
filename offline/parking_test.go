package offline_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// Two consumers of one queue without a lease: one looks whether a record is still its own before it
// parks it, the other finishes the record, and the object changes before the first one parks.
// event.offline.error then deletes the row of that change and marks nothing.
func TestParkingWithoutALeaseLosesNoChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1)
	var mu sync.Mutex
	version, seen, attempts := 1, 0, 0
	second := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		seen = version
		return nil
	})
	var once sync.Once
	first := newConsumer(t, tap{Caller: f.api, before: func(method string, _ map[string]any) error {
		if method == "event.offline.error" {
			once.Do(func() {
				require.NoError(t, second.Drain(t.Context()))
				f.change("UPDATE", 1)
				mu.Lock()
				defer mu.Unlock()
				version++
			})
		}
		return nil
	}}, func(context.Context, *event.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if attempts++; attempts == 1 {
			return errHandler
		}
		seen = version // it is called once more, because the row is gone that it parked
		return nil
	}, offline.WithMaxAttempts(1))
	require.NoError(t, first.Drain(t.Context()))
	require.NoError(t, second.Drain(t.Context()))
	expect(t, seen == version, "version %d was handled last, and %d is the present one", seen, version)
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

func TestLostAnswerOfParking(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1)
	f.Once("event.offline.error", eventtest.LoseAnswer())
	f.drain(func(context.Context, *event.Delivery) error { return final(errHandler) })
	rows := f.OfflineRows()
	require.Len(t, rows, 1)
	require.True(t, rows[0].Error)
	require.Equal(t, 1, f.CallCount("event.offline.error"), "it was seen to be parked, and not parked again")
}

// The first trap of PROTOCOL 2.9: parking deletes the newer record of the same change, so the
// parked one has to stand for it.
func TestParkingDeletesTheNewerRecordAndTheParkedOneStandsForIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1)
	var h refuses
	h.set(true, "1")
	changed := false
	f.drain(func(ctx context.Context, d *event.Delivery) error {
		if !changed {
			changed = true
			f.change("UPDATE", 1) // a second row, as the first one is reserved
		}
		return h.HandleEvent(ctx, d)
	})
	require.Equal(t, []string{"parked"}, f.states(), "the newer row is gone")
	h.set(false, "1")
	f.drain(h.HandleEvent)
	require.Equal(t, []string{"UPDATE 1", "UPDATE 1"}, h.entries(), "its change reached the handler all the same")
	require.Empty(t, f.states())
}

// A record that another process finished in the meantime must not be parked: the portal would
// delete the newer change of its object.
func TestConsumerDoesNotParkWhatIsGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	f.change("UPDATE", 1)
	calls := 0
	c := f.drain(func(ctx context.Context, d *event.Delivery) error {
		if calls++; calls > 1 {
			return nil
		}
		if err := q.Clear(ctx, d.ProcessID, d.MessageID); err != nil { // by the other process
			return err
		}
		f.change("UPDATE", 1)
		return final(errHandler)
	})
	require.Equal(t, 2, calls, "the newer change reached the handler")
	require.Empty(t, f.OfflineRows())
	require.Zero(t, f.CallCount("event.offline.error"))
	require.Zero(t, c.Stats().Parked)
}
