package offline

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
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
		require.NoError(t, e.listDone(t.Context(), ErrBadAnswer))
		time.Sleep(time.Minute) //nolint:forbidigo // in fake time
		e.ledger.budget.used.Store(fleetMemory + 1)
		require.Positive(t, e.untilNextTurn(time.Now()))
	})
}
