package eventotel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// TestFleetSpans: the handlers of a fleet's records are linked to the poll of their own portal that
// brought them, through its queue and through batches that carry more than the reservation.
func TestFleetSpans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.installs() })
		client := w.clients.Portal(w.MemberID())
		require.NoError(t, event.NewAPI(client).Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Offline: true}))
		mux := event.NewMux()
		mux.Use(w.Middleware())
		attempts := make(map[string]int)
		event.On(mux, event.OnCrmDealAdd, func(_ context.Context, d *event.Delivery, _ event.CRMEntity) error {
			attempts[d.Entity().ID]++
			if d.Entity().ID == "1" && attempts["1"] == 1 {
				return errors.New("once")
			}
			return nil
		})
		f, err := offline.NewFleet(func(id string) event.Caller { return w.clients.Coalescer(id) }, mux,
			append(w.Fleet(), offline.WithLogger(silent()), offline.WithWorkers(1))...)
		require.NoError(t, err)
		for range 2 {
			_, err = w.Add(eventtest.Deal, nil, eventtest.AdminID)
			require.NoError(t, err)
		}
		require.NoError(t, f.Add(w.MemberID()))
		w.spans.Reset()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		time.Sleep(time.Minute) //nolint:forbidigo // on the clock of the bubble
		began := time.Now()
		_, err = w.Add(eventtest.Deal, nil, eventtest.AdminID) // for a later turn
		require.NoError(t, err)
		f.Wake(w.MemberID())
		time.Sleep(time.Minute) //nolint:forbidigo // on the clock of the bubble
		cancel()
		require.NoError(t, <-ended)
		require.Empty(t, w.unended())
		require.Equal(t, map[string]int{"1": 2, "2": 1, "3": 1}, attempts)

		spans := make(map[string]readOnlySpan)
		for _, s := range w.spans.Ended() {
			spans[s.SpanContext().SpanID().String()] = s
		}
		polls := make(map[string]int) // that brought records, by their IDs
		for _, s := range w.spans.Ended() {
			require.NotContains(t, attributes(s), "bitrix24.unlinked")
			switch s.Name() {
			case "bitrix24 handle ONCRMDEALADD":
				require.Len(t, s.Links(), 1)
				poll := spans[s.Links()[0].SpanContext.SpanID().String()]
				require.NotNil(t, poll)
				if attributes(s)["bitrix24.attempt"] == "1" {
					require.Equal(t, "bitrix24 queue", poll.Name())
					poll = spans[poll.Parent().SpanID().String()]
				}
				require.Equal(t, "bitrix24 poll", poll.Name())
				require.Equal(t, w.MemberID(), attributes(poll)["bitrix24.member_id"])
				require.NotEqual(t, "0", attributes(poll)["bitrix24.records"])
				require.Equal(t, s.StartTime().Before(began), poll.StartTime().Before(began), "its own turn")
				polls[poll.SpanContext().SpanID().String()]++
			case "bitrix24 call batch", "bitrix24 call event.offline.get", "bitrix24 call event.offline.list":
				require.Equal(t, "bitrix24 poll", spans[s.Parent().SpanID().String()].Name())
			}
		}
		require.Len(t, polls, 2, "each turn with records")

		s := f.Stats()
		require.EqualValues(t, 3, s.Handled)
		require.False(t, s.LastResponse.IsZero())
		points := w.collect(t)
		require.InDelta(t, 3, values(points, "b24events.handler")["event=ONCRMDEALADD,outcome=done,source=offline"], 0)
		require.InDelta(t, 1, values(points, "b24events.handler")["event=ONCRMDEALADD,outcome=failed,source=offline"], 0)
		require.InDelta(t, 3, values(points, "b24events.offline.lag")["event=ONCRMDEALADD"], 0)
	})
}
