package offline

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// newIdleEngine returns an engine whose queue was found empty.
func newIdleEngine(t *testing.T) *engine {
	t.Helper()
	cfg := fleetDefaults()
	cfg.logger = slog.New(slog.DiscardHandler)
	cfg.connect(1, 1, fleetMemory)
	e := newEngine(&cfg, nil, "app.1", "portal", func() {})
	e.start(t.Context())
	e.orphans = orphanSearch{next: time.Now().Add(time.Hour)}
	e.reserve.received(0, 1, time.Now())
	return e
}

// A queue that has no memory because others have it all looks again soon.
func TestPauseWithoutMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newIdleEngine(t)
		e.reserve.wake(time.Now(), true)
		e.ledger.budget.used.Store(fleetMemory + 1)
		require.Equal(t, DefaultFleetMinInterval, e.untilNextTurn(time.Now()))
		e.ledger.budget.used.Store(0)
		require.Zero(t, e.untilNextTurn(time.Now()))
	})
}

// What waits for memory does not wait for a list that failed some time ago.
func TestPauseWithoutMemoryAfterAListFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newIdleEngine(t)
		e.orphans = orphanSearch{due: true}
		require.NoError(t, e.listDone(t.Context(), ErrBadResponse))
		time.Sleep(time.Minute) //nolint:forbidigo // in fake time
		e.ledger.budget.used.Store(fleetMemory + 1)
		require.Positive(t, e.untilNextTurn(time.Now()))
	})
}

// Parked rows without a message ID are changes of their own.
func TestParkedRowsWithoutAMessageID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := consumerDefaults()
		cfg.connect(1, 1, consumerMemory)
		e := newEngine(&cfg, nil, "app.1", "portal", func() {})
		e.startParkedPass()
		row := func(id int64) Record {
			return Record{ID: id, Parked: true, ProcessID: "p1", Delivery: new(event.Delivery)}
		}
		e.tryParked(t.Context(), []Record{row(1)})
		first := e.parked.queue[0]
		e.parked.queue = nil
		e.park(first) // it failed
		e.tryParked(t.Context(), []Record{row(2)})
		require.Len(t, e.parked.queue, 1, "it is tried as well")
		require.Zero(t, e.ledger.unsent(), "the first one is not cleared")
	})
}
