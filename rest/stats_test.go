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
				info, after := seen[0], api.Stats()
				require.Equal(t, info.LimitWait, after.LimitWait-before.LimitWait)
				require.Equal(t, info.PauseWait, after.PauseWait-before.PauseWait)
				require.Equal(t, info.BackoffWait, after.BackoffWait-before.BackoffWait)
				require.Equal(t, info.Took, after.Took.Sum()-before.Took.Sum())
				if err == nil {
					require.True(t, time.Now().Equal(after.LastResponse))
				} else {
					require.Equal(t, before.LastResponse, after.LastResponse)
				}
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

// counts returns the stats without times.
func counts(s rest.Stats) rest.Stats {
	s.LimitWait, s.PauseWait, s.BackoffWait, s.Took, s.LastResponse = 0, 0, 0, rest.Latency{}, time.Time{}
	return s
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
		require.Equal(t, rest.Stats{Calls: 1, Requests: 1, Waiting: 2}, counts(api.Stats()))
		all.Wait()
		require.Equal(t, rest.Stats{Calls: 3, Requests: 3}, counts(api.Portal("b").Stats()))
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

type spanKey struct{}

// spans returns the spans that the functions of WithContext put into a context.
func spans(ctx context.Context) string {
	all, _ := ctx.Value(spanKey{}).(string)
	return all
}

func addSpan(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, spanKey{}, spans(ctx)+"/"+name)
}

// spying is credentials that note the contexts that they get.
type spying struct {
	hosts

	seen *[]string
}

func (c spying) Renew(ctx context.Context, memberID, _ string) (endpoint, token string, err error) {
	*c.seen = append(*c.seen, "renew"+spans(ctx))
	return c.Access(ctx, memberID)
}

// TestCallContext: the credentials, the HTTP client and the observers get what the functions of
// WithContext return, and a function that panics or returns nil changes nothing.
func TestCallContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		tr := newTransport(t, `{"error":"expired_token"}`, fine)
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			seen = append(seen, "request"+spans(r.Context()))
			return tr.RoundTrip(r)
		})
		api, err := rest.NewClients(spying{seen: &seen}, on(transport),
			rest.WithContext(addSpan),
			rest.WithContext(func(context.Context, string) context.Context { return nil }),
			rest.WithContext(func(context.Context, string) context.Context { panic("span") }),
			rest.WithContext(func(ctx context.Context, _ string) context.Context { return addSpan(ctx, "second") }),
			rest.WithObserver(func(ctx context.Context, info rest.CallInfo) { seen = append(seen, info.Method+spans(ctx)) }))
		require.NoError(t, err)
		require.NoError(t, api.Portal("a").Call(addSpan(t.Context(), "handler"), "profile", nil, nil))
		const path = "/handler/profile/second"
		require.Equal(t, []string{"request" + path, "renew" + path, "request" + path, "profile" + path}, seen)
	})
}

// TestJoinedContexts: an observer of a joined request gets the contexts of all calls in it, those
// that share a read included.
func TestJoinedContexts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var infos []rest.CallInfo
		var first string
		api := newHosts(t, on(newTransport(t, `{"result":{"result":{"c0":1,"c1":1}}}`, fine)),
			rest.WithObserver(func(ctx context.Context, info rest.CallInfo) { infos, first = append(infos, info), spans(ctx) }))
		var all sync.WaitGroup
		for i, id := range []int{1, 2, 2} {
			all.Go(func() {
				ctx := addSpan(t.Context(), "handler"+strconv.Itoa(i))
				_ = api.Coalescer("a").Call(ctx, "crm.deal.get", map[string]any{"id": id}, nil)
			})
			synctest.Wait()
		}
		all.Wait()
		require.Len(t, infos, 1)
		require.Equal(t, 2, infos[0].Commands)
		var joined []string
		for _, ctx := range infos[0].Joined {
			joined = append(joined, spans(ctx))
		}
		require.Equal(t, []string{"/handler0", "/handler1", "/handler2"}, joined)
		require.Equal(t, "/handler0", first)
		require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
		require.Nil(t, infos[1].Joined)
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
