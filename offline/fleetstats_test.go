package offline_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	var none offline.Latency
	require.Zero(t, none.Quantile(0.5))
	require.Zero(t, none.Count())
}

// TestFleetStatsOfHandlers: a fleet has the durations of handlers by event, over all portals, and
// when a portal last responded and a record was last handled.
func TestFleetStatsOfHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.inside = func(_ context.Context, d *event.Delivery) error {
			<-time.After(2 * time.Second)
			switch d.Entity().ID {
			case "2":
				return event.Drop(errHandler)
			case "3":
				return event.ErrGone
			}
			return nil
		}
		f := w.fleet(offline.WithInterval(day, day))
		s := f.Stats()
		require.Empty(t, s.Handlers)
		require.Zero(t, s.LastResponse)
		require.Zero(t, s.LastHandled)

		w.add(f, w.ids...)
		stop := running(t, f)
		pass(t, time.Minute)
		s = f.Stats()
		require.Empty(t, s.Handlers)
		require.Zero(t, s.LastHandled, "the queues are empty")
		asked := s.LastResponse
		require.WithinRange(t, asked, time.Now().Add(-time.Minute), time.Now())

		pass(t, time.Hour)
		require.Equal(t, asked, f.Stats().LastResponse, "it was asked once")
		began := time.Now()
		w.change(w.ids[0], 1)
		w.change(w.ids[1], 2, 3)
		for _, id := range w.ids {
			f.Wake(id)
		}
		pass(t, time.Minute)
		stop()
		s = f.Stats()
		require.EqualValues(t, 2, s.Handled, "a dropped record is not handled, one of an object that is gone is")
		require.EqualValues(t, 2, s.Lag.Count())
		require.Len(t, s.Handlers, 1)
		require.EqualValues(t, 3, s.Handlers["ONCRMDEALUPDATE"].Count())
		require.Equal(t, 6*time.Second, s.Handlers["ONCRMDEALUPDATE"].Sum())
		require.WithinRange(t, s.LastHandled, began.Add(2*time.Second), began.Add(10*time.Second))
		require.False(t, s.LastResponse.Before(s.LastHandled), "what was handled is cleared")
		require.LessOrEqual(t, s.LastResponse.Sub(began), time.Minute)
	})
}
