package offline_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

type turnKey struct{}

// turnOf returns the number of the turn whose context it is, 0 for none.
func turnOf(ctx context.Context) int {
	n, _ := ctx.Value(turnKey{}).(int)
	return n
}

// contextCaller notes the turns of calls.
type contextCaller struct {
	event.Caller

	seen func(turn int)
}

func (c contextCaller) Call(ctx context.Context, method string, params, result any) error {
	c.seen(turnOf(ctx))
	return c.Caller.Call(ctx, method, params, result)
}

// TestRequestContext: calls, observers and the handlers of the records get the values of the
// function of WithContext. One that panics or returns nil changes nothing.
func TestRequestContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1, 2)
		var mu sync.Mutex
		turns, observed := 0, 0
		calls, handled := make(map[int]int), make(map[string]int)
		var infos []offline.RequestInfo
		caller := contextCaller{f.api, func(turn int) { calls[turn]++ }}
		c := newConsumer(t, caller, func(ctx context.Context, d *event.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			handled[d.Entity().ID] = turnOf(ctx)
			require.NoError(t, ctx.Err())
			require.False(t, event.AttemptOf(ctx).Received.IsZero())
			if d.Entity().ID == "1" && len(handled) < 3 {
				return event.Retry(errHandler, time.Minute)
			}
			return nil
		},
			offline.WithMemberID(f.MemberID()), offline.WithClientID(f.app.ClientID()),
			offline.WithContext(func(ctx context.Context, memberID string) context.Context {
				require.Equal(t, f.MemberID(), memberID)
				turns++
				return context.WithValue(ctx, turnKey{}, turns)
			}),
			offline.WithContext(func(context.Context, string) context.Context { return nil }),
			offline.WithContext(func(context.Context, string) context.Context { panic("span") }),
			offline.WithObserver(func(context.Context, offline.RequestInfo) { panic("metric") }),
			offline.WithObserver(func(ctx context.Context, info offline.RequestInfo) {
				observed++
				require.Equal(t, observed, turnOf(ctx))
				info.Took = 0
				infos = append(infos, info)
			}))
		time.AfterFunc(30*time.Second, func() { f.change("UPDATE", 3) })
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
		defer stop()
		require.NoError(t, c.Run(ctx))
		require.Equal(t, turns, observed)
		require.Equal(t, 1, handled["1"], "the second attempt has them, too")
		require.Equal(t, 1, handled["2"])
		require.Greater(t, handled["3"], 1)
		require.Equal(t, offline.RequestInfo{MemberID: f.MemberID(), Requests: 1, Records: 2}, infos[0])
		require.Equal(t, 1, infos[handled["3"]-1].Records)
		require.Positive(t, calls[1])
		require.Zero(t, calls[0], "each request of a turn is observed")
	})
}

// TestRequestObserverOfFailures: an observer gets the error of the requests.
func TestRequestObserverOfFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.net.Break(f.Domain(), errors.New("no route"))
		failed := 0
		c := newConsumer(t, f.api, new(journal).HandleEvent, offline.WithObserver(func(_ context.Context, info offline.RequestInfo) {
			if info.Err != nil {
				failed++
			}
		}))
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		require.NoError(t, c.Run(ctx))
		require.Positive(t, failed)
	})
}

// TestHandlerDurations: the stats have the durations of handlers by event, and the lag of all
// records.
func TestHandlerDurations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.bindRaw("ONCRMCONTACTUPDATE")
		f.change("UPDATE", 1, 2)
		f.change("ADD", 3)
		require.NoError(t, f.Raise("ONCRMCONTACTUPDATE", map[string]any{"FIELDS": map[string]any{"ID": 4}}, 0))
		c := f.drain(func(context.Context, *event.Delivery) error {
			<-time.After(2 * time.Second)
			return nil
		})
		s := c.Stats()
		require.EqualValues(t, 4, s.Handled)
		require.EqualValues(t, 4, s.Lag.Count())
		sums := make(map[string]time.Duration)
		for name, took := range s.Handlers {
			sums[name] = took.Sum()
		}
		require.Equal(t, map[string]time.Duration{
			"ONCRMDEALUPDATE": 4 * time.Second, "ONCRMDEALADD": 2 * time.Second, "ONCRMCONTACTUPDATE": 2 * time.Second,
		}, sums)
	})
}

func TestObserverOptions(t *testing.T) {
	t.Parallel()
	for i, opt := range []offline.WorkOption{offline.WithContext(nil), offline.WithObserver(nil)} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			_, err := offline.NewConsumer(newClient(t, &http.Client{}, credentials{}, "m"), event.HandlerFunc(new(journal).HandleEvent), opt)
			require.ErrorIs(t, err, offline.ErrConfig)
		})
	}
}
