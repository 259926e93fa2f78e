package eventtest_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// TestEverythingAtOnce does everything that can be done to portals, from many goroutines. In a
// bubble, a deadlock ends the test immediately, and so does a goroutine that outlives the portals.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			n := eventtest.NewNetwork()
			var portals [2]*world
			for i := range portals {
				w := newWorld(t, n, eventtest.WithParallelDelivery(4))
				w.takes(time.Second)
				call := w.caller(t)
				call("event.bind", obj{"event": "ONCRMDEALUPDATE", "event_type": "offline"})
				call("event.bind", obj{"event": "ONCRMDEALUPDATE", "handler": bubbleHandler})
				call("event.bind", obj{"event": "ONOFFLINEEVENT", "handler": bubbleHandler})
				addDeal(t, w.Portal)
				portals[i] = w
			}
			var all sync.WaitGroup
			for worker := range uint64(8) {
				r := rand.New(rand.NewPCG(seed, worker)) //nolint:gosec // a test that can be repeated
				all.Go(func() {
					for range 60 {
						act(t, portals[r.IntN(2)], r)
						time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond) //nolint:forbidigo // the bubble's clock
					}
				})
			}
			all.Wait()
			for _, w := range portals {
				require.NoError(t, w.ChangeQuirks(func(q *eventtest.Quirks) { *q = eventtest.Quirks{TokenLifetime: time.Hour} }))
				w.Heal()
				wait(t, w.Portal)
				unreserved := map[string]bool{}
				for _, row := range w.OfflineRows() {
					if row.ProcessID == "" {
						require.False(t, unreserved[row.MessageID], "two rows of one message that nobody has reserved")
						unreserved[row.MessageID] = true
					}
				}
				require.Empty(t, w.Lanes())
			}
		})
	}
}

// act does one random thing.
func act(t *testing.T, w *world, r *rand.Rand) {
	t.Helper()
	faults := []eventtest.Fault{
		eventtest.Reset(), eventtest.LoseAnswer(), eventtest.CutAnswer(), eventtest.Delay(time.Minute), eventtest.HTML(502),
		eventtest.ExpiredToken(), eventtest.WrongEncoding(), eventtest.Before(func(*http.Request) { w.Advance(time.Second) }),
	}
	methods := []string{"event.offline.get", "batch", "oauth/token", eventtest.AnyMethod}
	flip := func() bool { return r.IntN(2) == 0 }
	switch r.IntN(14) {
	case 0:
		w.Once(methods[r.IntN(len(methods))], faults[r.IntN(len(faults))])
	case 1:
		w.Always(methods[r.IntN(len(methods))], faults[r.IntN(len(faults))])
	case 2:
		w.Heal()
	case 3:
		m := eventtest.Quirks{
			NoUser: flip(), NoData: flip(), RacingReservations: flip(), RacingBinds: flip(), Box: flip(), TokenLifetime: time.Minute,
			Latency: time.Duration(r.IntN(2)) * time.Second, OfflineLag: time.Duration(r.IntN(2)) * time.Second,
			DeliveryJitter: time.Duration(r.IntN(2)) * time.Second,
			SlowHandlers:   time.Duration(r.IntN(2)) * time.Millisecond,
		}
		require.NoError(t, w.ChangeQuirks(func(now *eventtest.Quirks) { *now = m }))
	case 4:
		w.Advance(time.Duration(r.IntN(3600)) * time.Second)
	case 5:
		require.NoError(t, w.Rename(t.Context()))
	case 6:
		w.ExpireAccessTokens()
		w.app.RevokeTokens()
	case 7:
		w.ResetRecords()
	default:
		g, err := w.app.Grant(eventtest.AdminID)
		require.NoError(t, err)
		token := "?auth=" + string(g.AccessToken)
		change(t, w.Portal, 1)
		for _, path := range []string{
			"event.offline.get" + token + "&clear=0", "event.offline.get" + token + "&clear=1&limit=1", "event.offline.list" + token,
			"batch" + token + "&cmd[a]=event.offline.get%3Fclear%3D0", "event.bind" + token + "&event=ONCRMDEALADD&handler=" + bubbleHandler,
			"event.offline.error" + token + "&process_id=x&message_id[]=y",
		} {
			_, _ = get(t, w.n, w.ClientEndpoint()+path) // any response will do
		}
		_, _ = get(t, w.n, "https://oauth.bitrix.info/oauth/token/?grant_type=refresh_token"+
			"&client_id=local.app&client_secret=secret&refresh_token="+
			string(g.RefreshToken))
		_, _, _, _, _ = w.Deliveries(), w.Calls(), w.OfflineRows(), w.Lanes(), w.Buckets()
	}
}

// TestRenameWhileClosing renames a portal while it closes, for the race detector.
func TestRenameWhileClosing(t *testing.T) {
	t.Parallel()
	for range 20 {
		p, err := eventtest.New()
		require.NoError(t, err)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := p.Rename(t.Context()); err != nil && !errors.Is(err, eventtest.ErrClosed) {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
	}
}
