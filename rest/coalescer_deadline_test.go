package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// TestCancelledGroups: 5,000 coalesced calls are canceled while their requests wait. None of these
// is sent.
func TestCancelledGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) { return 200, responsesTo(s), nil })
		api := newHosts(t, on(tr), rest.WithRateLimit(0.1, 1))
		require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
		ctx, cancel := context.WithCancel(t.Context())
		var crowd sync.WaitGroup
		for i := range 5000 {
			crowd.Go(func() { _ = api.Coalescer("a").Call(ctx, "crm.deal.get", map[string]any{"id": i}, nil) })
		}
		pauseFor(time.Second)
		require.Equal(t, 100, api.Stats().Waiting)
		cancel()
		crowd.Wait()
		start := time.Now()
		require.NoError(t, api.Coalescer("a").Call(t.Context(), "crm.deal.get", nil, nil))
		require.Equal(t, 9*time.Second, time.Since(start), "what was left of the gap")
		require.Equal(t, 2, tr.count())
	})
}

// TestDeadlineOfAGroupedCall: a coalesced call fails at once if its turn comes too late, as with a
// Client.
func TestDeadlineOfAGroupedCall(t *testing.T) {
	t.Parallel()
	for _, company := range []int{0, 1, 5} {
		t.Run(fmt.Sprint(company, " others"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(s sent) (int, string, error) { return 200, responsesTo(s), nil })
				api := newHosts(t, on(tr), rest.WithRateLimit(0.1, 1))
				require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
				var others sync.WaitGroup
				for n := range company {
					others.Go(func() {
						if err := api.Coalescer("a").Call(t.Context(), "crm.deal.add", map[string]any{"n": n}, nil); err != nil {
							t.Error(err)
						}
					})
				}
				synctest.Wait()
				if company == 5 { // the gathering waits for its turn already
					pauseFor(rest.DefaultWindow + time.Millisecond)
				}
				start := time.Now()
				err := api.Coalescer("a").With(rest.Timeout(time.Second)).Call(t.Context(), "profile", nil, nil)
				require.ErrorIs(t, err, rest.ErrQueryLimit)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.LessOrEqual(t, time.Since(start), rest.DefaultWindow)
				after, ok := rest.Retryable(err)
				require.True(t, ok)
				require.Greater(t, after, 5*time.Second)
				others.Wait()
			})
		})
	}
}

// TestGroupedCallBehindOthers: the turn of a group comes after the turns of two calls. A caller who
// cannot wait that long gets an error at once.
func TestGroupedCallBehindOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) { return 200, responsesTo(s), nil })
		api := newHosts(t, on(tr), rest.WithRateLimit(1, 1))
		require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
		var others sync.WaitGroup
		for range 2 { // at 1 s and at 2 s
			others.Go(func() { _ = api.Portal("a").Call(t.Context(), "crm.deal.add", nil, nil) })
		}
		synctest.Wait()
		others.Go(func() { _ = api.Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil) }) // at 3 s
		pauseFor(500 * time.Millisecond)
		start := time.Now()
		err := api.Coalescer("a").With(rest.Timeout(2*time.Second)).Call(t.Context(), "profile", nil, nil)
		require.ErrorIs(t, err, rest.ErrQueryLimit)
		require.Zero(t, time.Since(start))
		after, ok := rest.Retryable(err)
		require.True(t, ok)
		require.Equal(t, 2500*time.Millisecond, after)
		require.NoError(t, api.Coalescer("a").With(rest.Timeout(3*time.Second)).Call(t.Context(), "profile", nil, nil))
		others.Wait()
		require.Equal(t, 4, tr.count())
	})
}

// TestGroupedCallBehindARefusal: a group waits for its turn, and the portal refuses the request of
// another call. The turn then comes too late for a caller, who gets an error at once.
func TestGroupedCallBehindARefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		tr := newScript(t, func(s sent) (int, string, error) {
			if requests++; requests == 2 {
				return 503, limited, nil
			}
			return 200, responsesTo(s), nil
		})
		api := newHosts(t, on(tr), rest.WithRateLimit(1, 1))
		start := time.Now()
		require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
		var others sync.WaitGroup
		others.Go(func() { _ = api.Portal("a").Call(t.Context(), "crm.deal.add", nil, nil) }) // at 1 s
		synctest.Wait()
		others.Go(func() { _ = api.Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil) })
		err := api.Coalescer("a").With(rest.Timeout(2500*time.Millisecond)).Call(t.Context(), "crm.contact.add", nil, nil)
		require.ErrorIs(t, err, rest.ErrQueryLimit)
		require.Equal(t, time.Second, time.Since(start))
		others.Wait()
		require.Equal(t, 4, tr.count())
		require.NotEqual(t, "batch", tr.requests()[3].method, "the other caller's call goes by itself")
	})
}

// TestDeadlineAfterSending: the portal refuses the request of a group, and the caller's deadline
// leaves no time to wait. The Client says at once that the call did not run; so does the Coalescer.
func TestDeadlineAfterSending(t *testing.T) {
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
					require.True(t, notRun(err), "the portal said so: %v", err)
					_, ok := rest.Retryable(err)
					require.True(t, ok, "%v", err)
					require.Less(t, took, time.Second, "%v", err)
				})
			})
		}
	}
}

// TestLeftBackAndGone: a method is blocked when its group is sent. The caller of that call leaves
// while the other calls are running.
func TestLeftBackAndGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "crm.item.update" {
				return 429, blocked, nil
			}
			pauseFor(time.Second)
			return 200, responsesTo(s), nil
		})
		api := newHosts(t, on(tr))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			err := api.Coalescer("a").Call(ctx, "crm.item.update", nil, nil)
			if !errors.Is(err, context.Canceled) || !notRun(err) {
				t.Error(err, notRun(err))
			}
		})
		for _, method := range []string{"crm.deal.add", "crm.contact.add"} {
			all.Go(func() { _ = api.Coalescer("a").Call(t.Context(), method, nil, nil) })
		}
		synctest.Wait()
		require.Error(t, api.Portal("a").With(rest.Retries(0)).Call(t.Context(), "crm.item.update", nil, nil)) // so now it is blocked
		pauseFor(500 * time.Millisecond)
		cancel()
		all.Wait()
		require.Equal(t, 2, tr.requests()[1].commands())
	})
}
