package offline

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

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
