package rest_test

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// renewing is credentials that renew.
type renewing struct{ hosts }

func (c renewing) Renew(ctx context.Context, memberID, _ string) (endpoint, token string, err error) {
	return c.Access(ctx, memberID)
}

// TestStats: what one call counts as, and what observers get. The portal responds in 10 ms.
func TestStats(t *testing.T) {
	t.Parallel()
	const latency = 10 * time.Millisecond
	tests := map[string]struct {
		responses []string
		before    int // calls that use up the burst of two
		batch     int // commands
		opts      []rest.CallOption

		stats rest.Stats    // without Calls, which is 1
		info  rest.CallInfo // without the times and what is the same for all
		err   bool
		waits func(info rest.CallInfo) time.Duration // the one that is not zero
		least time.Duration
	}{
		"a call": {responses: []string{fine}, stats: rest.Stats{Requests: 1}, info: rest.CallInfo{Requests: 1, Status: 200}},
		"a batch": {
			responses: []string{`{"result":{"result":{"n0":1,"n1":1,"n2":1}}}`}, batch: 3, stats: rest.Stats{Requests: 1, Commands: 3},
			info: rest.CallInfo{Requests: 1, Status: 200, Method: "batch", Commands: 3},
		},
		"its turn": {
			responses: []string{fine}, before: 2, stats: rest.Stats{Requests: 1}, info: rest.CallInfo{Requests: 1, Status: 200},
			waits: func(info rest.CallInfo) time.Duration { return info.LimitWait }, least: 900 * time.Millisecond,
		},
		"too late": {
			responses: []string{fine}, before: 2, opts: []rest.CallOption{rest.Timeout(100 * time.Millisecond)},
			stats: rest.Stats{Failed: 1}, info: rest.CallInfo{Code: "QUERY_LIMIT_EXCEEDED"}, err: true,
		},
		"refused": {
			responses: []string{limited, fine}, stats: rest.Stats{Requests: 2, Retried: 1, Refused: 1},
			info:  rest.CallInfo{Requests: 2, Retries: 1, Status: 200},
			waits: func(info rest.CallInfo) time.Duration { return info.LimitWait }, least: 750 * time.Millisecond,
		},
		"busy": {
			responses: []string{"<html>429", fine}, stats: rest.Stats{Requests: 2, Retried: 1, Busy: 1},
			info:  rest.CallInfo{Requests: 2, Retries: 1, Status: 200},
			waits: func(info rest.CallInfo) time.Duration { return info.BackoffWait }, least: 750 * time.Millisecond,
		},
		"paused": {
			responses: []string{blocked, fine}, stats: rest.Stats{Requests: 2, Retried: 1, Paused: 1},
			info:  rest.CallInfo{Requests: 2, Retries: 1, Status: 200},
			waits: func(info rest.CallInfo) time.Duration { return info.PauseWait }, least: 50 * time.Second,
		},
		"renewed": {
			responses: []string{`{"error":"expired_token"}`, fine},
			stats:     rest.Stats{Requests: 2, Renewed: 1}, info: rest.CallInfo{Requests: 2, Renewed: true, Status: 200},
		},
		"failed": {
			responses: []string{`{"error":"ERROR_CORE"}`},
			stats:     rest.Stats{Requests: 1, Failed: 1}, info: rest.CallInfo{Requests: 1, Status: 200, Code: "ERROR_CORE"}, err: true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen []rest.CallInfo
				tr := newTransport(t, append(make([]string, test.before), test.responses...)...)
				slow := roundTrip(func(r *http.Request) (*http.Response, error) { pauseFor(latency); return tr.RoundTrip(r) })
				api, err := rest.NewClients(renewing{}, on(slow), rest.WithRateLimit(1, 2),
					rest.WithObserver(func(_ context.Context, info rest.CallInfo) { seen = append(seen, info) }))
				require.NoError(t, err)
				client := api.Portal("a").With(test.opts...)
				for range test.before {
					_ = api.Portal("a").With(rest.Retries(0)).Call(t.Context(), "profile", nil, nil)
				}
				before, start := api.Stats(), time.Now()
				seen = nil

				if test.batch > 0 {
					b := rest.NewBatch()
					for i := range test.batch {
						rest.Add[any](b, "n"+strconv.Itoa(i), "crm.deal.get", nil)
					}
					err = client.Batch(t.Context(), b)
				} else {
					err = client.Call(t.Context(), "crm.deal.add", nil, nil)
				}

				require.Equal(t, test.err, err != nil, "%v", err)
				require.Equal(t, test.stats, since(before, api.Stats()))
				require.Len(t, seen, 1)
				info := seen[0]
				require.Equal(t, err, info.Err)
				require.Equal(t, time.Since(start), info.Took)
				waited := info.LimitWait + info.PauseWait + info.BackoffWait
				require.Equal(t, info.Took, waited+time.Duration(info.Requests)*latency)
				if test.waits == nil {
					require.Zero(t, waited)
				} else {
					require.GreaterOrEqual(t, test.waits(info), test.least)
				}
				want := test.info
				want.MemberID = "a"
				want.Method = cmp.Or(want.Method, "crm.deal.add")
				if want.Requests > 0 {
					want.Host = "a.example"
				}
				info.Err, info.Took, info.LimitWait, info.PauseWait, info.BackoffWait = nil, 0, 0, 0, 0
				require.Equal(t, want, info)
			})
		})
	}
}

// since returns what one call added to the counters, and checks that it was one.
func since(before, after rest.Stats) rest.Stats {
	return rest.Stats{
		Calls: after.Calls - before.Calls - 1, Failed: after.Failed - before.Failed, Requests: after.Requests - before.Requests,
		Commands: after.Commands - before.Commands, Retried: after.Retried - before.Retried, Refused: after.Refused - before.Refused,
		Busy: after.Busy - before.Busy, Paused: after.Paused - before.Paused, Renewed: after.Renewed - before.Renewed, Waiting: after.Waiting,
	}
}

// TestStatsOfThoseWhoWait: calls count while they wait for their turn, and those of derived clients
// with the others.
func TestStatsOfThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := newHosts(t, on(newTransport(t, fine)), rest.WithRateLimit(1, 1))
		var all sync.WaitGroup
		for _, client := range []*rest.Client{api.Portal("a"), api.Portal("a").As(other{}), api.Portal("a").With(rest.Idempotent())} {
			all.Go(func() { _ = client.Call(t.Context(), "profile", nil, nil) })
		}
		synctest.Wait()
		require.Equal(t, rest.Stats{Calls: 1, Requests: 1, Waiting: 2}, api.Stats())
		all.Wait()
		require.Equal(t, rest.Stats{Calls: 3, Requests: 3}, api.Portal("b").Stats())
	})
}

// TestObserverOfAPanic: the call failed, so observers and counters must not count it as a success.
func TestObserverOfAPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []rest.CallInfo
		observe := func(_ context.Context, info rest.CallInfo) { seen = append(seen, info) }
		api := newHosts(t, on(newTransport(t, fine)), rest.WithObserver(observe))
		require.Error(t, api.As(panicking{}).Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil))
		require.Len(t, seen, 1)
		require.Error(t, seen[0].Err)
		require.EqualValues(t, 1, api.Stats().Failed)
	})
}

// TestObserverPanics: the call succeeded. A panic of an observer must not make it fail, above all
// not for fifty callers.
func TestObserverPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := newHosts(t, on(newTransport(t, fine)), rest.WithObserver(func(context.Context, rest.CallInfo) { panic("label") }))
		err := api.Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil)
		if err != nil {
			require.NotContains(t, err.Error(), "the credentials or the HTTP client panicked", "it was the observer")
		}
	})
}

// TestCountersOfDials: only requests that had a connection count as sent.
func TestCountersOfDials(t *testing.T) {
	t.Parallel()
	inner := &http.Transport{}
	api, err := rest.NewClients(hosts{}, rest.WithHTTPClient(&http.Client{Transport: inner}), rest.WithRetries(0))
	require.NoError(t, err)
	err = api.Portal("nobody.invalid").Call(t.Context(), "profile", nil, nil)
	require.Error(t, err)
	require.True(t, notRun(err))
	require.Zero(t, api.Stats().Requests, "nothing was sent: %v", err)
}
