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
	e.reclaim = reclaimer{next: time.Now().Add(time.Hour)}
	e.pace.came(0, 1, time.Now())
	return e
}

// A queue that has no memory because others have it all looks again soon.
func TestPauseWithoutMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newIdleEngine(t)
		e.pace.wake(time.Now(), true)
		e.ledger.budget.used.Store(fleetMemory + 1)
		require.Equal(t, DefaultFleetMinInterval, e.pause(time.Now()))
		e.ledger.budget.used.Store(0)
		require.Zero(t, e.pause(time.Now()))
	})
}

// What waits for memory does not wait for a list that failed some time ago.
func TestPauseWithoutMemoryAfterAListFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newIdleEngine(t)
		e.reclaim = reclaimer{due: true}
		require.NoError(t, e.listed(t.Context(), ErrBadResponse))
		time.Sleep(time.Minute) //nolint:forbidigo // in fake time
		e.ledger.budget.used.Store(fleetMemory + 1)
		require.Positive(t, e.pause(time.Now()))
	})
}
