package offline_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

// latency is what a request to the portals of the benchmarks takes.
const latency = 100 * time.Millisecond

// inBubble runs f on a clock that costs no time: what the benchmarks report are figures of that
// clock, and counts.
func inBubble(b *testing.B, f func(t *testing.T)) {
	b.Helper()
	all := func(string, string) (bool, error) { return true, nil }
	run := func(t *testing.T) { //nolint:thelper // the test itself
		synctest.Test(t, f)
	}
	if !testing.RunTests(all, []testing.InternalTest{{Name: b.Name(), F: run}}) {
		b.FailNow()
	}
}

// loaded is a portal with n changed deals, and clients of its application with a limit of their
// own.
func loaded(t *testing.T, n int, limit rest.Option, opts ...eventtest.Option) (*fixture, *rest.Clients) {
	t.Helper()
	f := newFixture(t, append(opts, eventtest.WithQuirks(func(m *eventtest.Quirks) { m.Latency = latency }))...)
	for range n {
		_, err := f.Add(eventtest.Deal, map[string]any{"TITLE": "Boats", "OPPORTUNITY": 100}, eventtest.AdminID)
		require.NoError(t, err)
	}
	g, err := f.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	c := credentials{endpoint: g.ClientEndpoint, token: string(g.AccessToken)}
	portals, err := rest.NewClients(c, rest.WithHTTPClient(f.net.Client()), limit)
	require.NoError(t, err)
	f.ResetRecords()
	return f, portals
}

// fetching is a handler that reads the object of each record, together with its neighbours.
func fetching(portals *rest.Clients) event.HandlerFunc {
	return func(ctx context.Context, d *event.Delivery) error {
		_, err := event.Fetch[map[string]any](ctx, portals.Coalescer(d.MemberID()), d)
		return err
	}
}

func noticing(context.Context, *event.Delivery) error { return nil }

// BenchmarkRequests reports the HTTP requests that an event costs: of a queue of 500 changed deals,
// the look for abandoned and parked records at the start and the last reservation, which is empty,
// included.
func BenchmarkRequests(b *testing.B) {
	for _, fetch := range []bool{false, true} {
		b.Run(map[bool]string{false: "notices", true: "objects"}[fetch], func(b *testing.B) {
			const n = 500
			made := 0
			for b.Loop() {
				inBubble(b, func(t *testing.T) { //nolint:thelper // the test itself
					f, portals := loaded(t, n, rest.WithoutRateLimit())
					handle := event.HandlerFunc(noticing)
					if fetch {
						handle = fetching(portals)
					}
					c := newConsumer(t, portals.Portal(f.MemberID()), handle)
					require.NoError(t, c.Drain(t.Context()))
					require.EqualValues(t, n, c.Stats().Handled)
					made += f.Requests().REST
				})
			}
			b.ReportMetric(float64(made)/float64(b.N*n), "requests/event")
		})
	}
}

// BenchmarkDrain reports how many events a second can be worked off under the platform's 2 requests
// a second, once its burst is used up.
func BenchmarkDrain(b *testing.B) {
	for _, fetch := range []bool{false, true} {
		b.Run(map[bool]string{false: "notices", true: "objects"}[fetch], func(b *testing.B) {
			const n = 10_000
			var took time.Duration
			refused := 0
			for b.Loop() {
				inBubble(b, func(t *testing.T) { //nolint:thelper // the test itself
					f, portals := loaded(t, n, rest.WithRateLimit(rest.DefaultRate, 1), eventtest.WithRateLimit(rest.DefaultRate, rest.DefaultBurst))
					handle := event.HandlerFunc(noticing)
					if fetch {
						handle = fetching(portals)
					}
					start := time.Now()
					c := newConsumer(t, portals.Portal(f.MemberID()), handle)
					require.NoError(t, c.Drain(t.Context()))
					took += time.Since(start)
					require.EqualValues(t, n, c.Stats().Handled)
					for _, call := range f.Calls() {
						if call.ErrorCode == "QUERY_LIMIT_EXCEEDED" {
							refused++
						}
					}
				})
			}
			b.ReportMetric(float64(b.N*n)/took.Seconds(), "events/s")
			b.ReportMetric(float64(refused), "refused")
		})
	}
}

// BenchmarkWake reports the time from a change to its handler, for a queue that is idle but for a
// change every five seconds or so: with the portal's signal, and by polling alone.
func BenchmarkWake(b *testing.B) {
	for _, signal := range []bool{true, false} {
		b.Run(map[bool]string{true: "signal", false: "polling"}[signal], func(b *testing.B) {
			var lags []time.Duration
			for b.Loop() {
				inBubble(b, func(t *testing.T) { //nolint:thelper // the test itself
					lags = append(lags, wakeLags(t, signal)...)
				})
			}
			slices.Sort(lags)
			b.ReportMetric(lags[len(lags)/2].Seconds(), "lag-p50-s")
			b.ReportMetric(lags[len(lags)*99/100].Seconds(), "lag-p99-s")
		})
	}
}

func wakeLags(t *testing.T, signal bool) []time.Duration {
	t.Helper()
	f, portals := loaded(t, 0, rest.WithRateLimit(rest.DefaultRate, rest.DefaultBurst))
	var mu sync.Mutex
	changed := make(map[int]time.Time)
	var lags []time.Duration
	c := newConsumer(t, portals.Portal(f.MemberID()), func(_ context.Context, d *event.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		lags = append(lags, time.Since(changed[dealID(t, d)]))
		return nil
	})
	if signal {
		f.net.Handle("app.example.com", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { c.Wake() }))
		b := event.Binding{Event: "ONOFFLINEEVENT", Handler: "https://app.example.com/bitrix24"}
		require.NoError(t, event.NewAPI(f.api).Bind(t.Context(), b))
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	const changes = 500
	for id := range changes {
		time.Sleep(time.Duration(id%10) * time.Second) //nolint:forbidigo // in fake time
		mu.Lock()
		changed[id+1] = time.Now()
		mu.Unlock()
		f.change("UPDATE", id+1)
	}
	time.Sleep(offline.DefaultMaxInterval) //nolint:forbidigo // in fake time
	stop()
	require.NoError(t, <-ended)
	require.Len(t, lags, changes)
	return lags
}
