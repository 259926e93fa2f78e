package rest_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// TestHostileDeadlineAfterDeparture: the portal refuses a gathered request, and the caller's deadline leaves no time to wait. The
// Client says at once that the call did not run; so does the Coalescer.
func TestHostileDeadlineAfterDeparture(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status     int
		body       string
		retryAfter string
		company    bool
	}{
		"method blocked":           {429, blocked, "", false},
		"refused":                  {503, limited, "", false},
		"refused, in company":      {503, limited, "", true},
		"page with a time":         {429, "<html>", "20", false},
		"page with a time, others": {429, "<html>", "20", true},
	} {
		for kind := range 2 {
			t.Run(name+[]string{", Client", ", Coalescer"}[kind], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					tr := newScript(t, func(sent) (int, string, error) { return tt.status, tt.body, nil })
					tr.header = func(_ sent, h http.Header) {
						if tt.retryAfter != "" {
							h.Set("Retry-After", tt.retryAfter)
						}
					}
					api := newHosts(t, on(tr), rest.WithRateLimit(0.05, 5))
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					var doer rest.Doer = api.Portal("a")
					if kind == 1 {
						doer = api.Coalescer("a")
					}
					var others sync.WaitGroup
					if tt.company {
						others.Go(func() {
							own, cancel := context.WithTimeout(t.Context(), time.Minute)
							defer cancel()
							_, _ = doer.Do(own, "crm.contact.add", nil)
						})
					}
					start := time.Now()
					_, err := doer.Do(ctx, "crm.deal.add", nil)
					took := time.Since(start)
					others.Wait()
					require.Error(t, err)
					require.True(t, hostileNotRun(err), "the portal said so: %v", err)
					_, ok := rest.Retryable(err)
					require.True(t, ok, "%v", err)
					require.Less(t, took, time.Second, "%v", err)
				})
			})
		}
	}
}

// TestHostileObserverOfAPanic: the call failed; observers and counters must not take it for a success.
func TestHostileObserverOfAPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []rest.CallInfo
		api := newHosts(t, on(newTransport(t, fine)), rest.WithObserver(func(_ context.Context, info rest.CallInfo) { seen = append(seen, info) }))
		require.Error(t, api.As(panicking{}).Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil))
		require.Len(t, seen, 1)
		require.Error(t, seen[0].Err)
		require.EqualValues(t, 1, api.Stats().Failed)
	})
}

// TestHostileCountersOfDials: requests that were sent are those that had a connection.
func TestHostileCountersOfDials(t *testing.T) {
	t.Parallel()
	inner := &http.Transport{}
	api, err := rest.NewClients(hosts{}, rest.WithHTTPClient(&http.Client{Transport: inner}), rest.WithRetries(0))
	require.NoError(t, err)
	err = api.Portal("nobody.invalid").Call(t.Context(), "profile", nil, nil)
	require.Error(t, err)
	require.True(t, hostileNotRun(err))
	require.Zero(t, api.Stats().Requests, "nothing was sent: %v", err)
}
