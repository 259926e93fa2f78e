package rest_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// For ten minutes 100 goroutines call as often as the limiter lets them: the portal never has to
// refuse, and the limit is used up.
func TestLimiterOverTenMinutes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rate, burst int
		opt         rest.Option
	}{
		"default":    {2, 50, nil},
		"enterprise": {5, 250, rest.WithRateLimit(rest.EnterpriseRate, rest.EnterpriseBurst)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newBubble(t, eventtest.WithRateLimit(float64(test.rate), test.burst))
				client := w.client(t, test.opt)
				start := time.Now()
				ctx, cancel := context.WithDeadline(t.Context(), start.Add(10*time.Minute))
				defer cancel()
				var wg sync.WaitGroup
				for range 100 {
					wg.Go(func() {
						for client.Call(ctx, "profile", nil, nil) == nil {
						}
					})
				}
				wg.Wait()
				responses := map[int]int{}
				for _, call := range w.Calls() {
					responses[call.Status]++
				}
				most := test.burst + 10*60*test.rate
				require.Contains(t, []int{most, most - 1}, responses[200], "the last may meet the deadline")
				require.Len(t, responses, 1, "none is refused")
				t.Logf("%d calls in 10 minutes, none refused", responses[200])
			})
		})
	}
}

func TestLimitAndDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, fine)
		creds := &asked{Credentials: hosts{}}
		api, err := rest.NewClients(creds, on(tr), rest.WithRateLimit(1, 1))
		require.NoError(t, err)
		client := api.Portal("a")
		start := time.Now()
		require.NoError(t, client.Call(t.Context(), "profile", nil, nil))

		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err = client.Call(ctx, "profile", nil, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, rest.ErrQueryLimit)
		require.Zero(t, time.Since(start), "it fails at once")
		require.EqualValues(t, 2, creds.times.Load(), "and is not tried again")
		after, ok := rest.Retryable(err)
		require.True(t, ok)
		require.Equal(t, time.Second, after)
		require.Equal(t, 1, tr.count())

		// A call that is canceled leaves its place to the next.
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		err = client.Call(ctx, "profile", nil, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, rest.ErrQueryLimit)
		require.Equal(t, 300*time.Millisecond, time.Since(start))

		require.NoError(t, client.Call(t.Context(), "profile", nil, nil))
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestRefusalDrainsTheBucket(t *testing.T) {
	t.Parallel()
	for _, status := range []int{503, 429, 400} { // the code counts
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				tr := newScript(t, func(sent) (int, string, error) {
					if requests++; requests == 1 {
						return status, limited, nil
					}
					return 200, fine, nil
				})
				api := newHosts(t, on(tr))
				start := time.Now()

				// A call that writes is retried too: the portal refused it before it ran.
				require.NoError(t, api.Portal("a").Call(t.Context(), "crm.deal.add", nil, nil))
				first := time.Since(start)
				require.GreaterOrEqual(t, first, 1250*time.Millisecond, "a pause of 0.75 s at least, then the bucket drains for half a second")
				require.LessOrEqual(t, first, 1750*time.Millisecond)

				for range 10 {
					require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
				}
				require.Equal(t, 5*time.Second, time.Since(start)-first, "nothing is left of the burst")

				start = time.Now()
				require.NoError(t, api.Portal("b").Call(t.Context(), "profile", nil, nil))
				require.Zero(t, time.Since(start), "another portal has its own bucket")
			})
		})
	}
}

func TestRefusalHoldsAllCallsOfThePortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var arrived []time.Duration
		start := time.Now()
		tr := newScript(t, func(sent) (int, string, error) {
			at := time.Since(start)
			mu.Lock()
			arrived = append(arrived, at)
			mu.Unlock()
			<-time.After(100 * time.Millisecond)
			if at == 0 {
				return 503, limited, nil
			}
			return 200, fine, nil
		})
		client := newHosts(t, on(tr)).Portal("a")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := client.Call(t.Context(), "crm.deal.add", nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Len(t, arrived, 40, "each was refused once and repeated once")
		require.GreaterOrEqual(t, arrived[20], 750*time.Millisecond)
		for i := 21; i < 40; i++ {
			require.Equal(t, 500*time.Millisecond, arrived[i]-arrived[i-1], "at the steady rate")
		}
	})
}

func TestRefusalsWithoutEnd(t *testing.T) {
	t.Parallel()
	for name, response := range map[string]string{"code": limited, "page": "<html>429"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTransport(t, response)
				client := newHosts(t, on(tr), rest.WithoutRateLimit()).Portal("a")
				start := time.Now()

				err := client.Call(t.Context(), "crm.deal.add", nil, nil)

				require.Error(t, err)
				require.Equal(t, 1+rest.DefaultRetries, tr.count())
				took := time.Since(start)
				require.GreaterOrEqual(t, took, 11*time.Second, "1+2+4+8 s, less a quarter")
				require.LessOrEqual(t, took, 19*time.Second)
				after, ok := rest.Retryable(err)
				require.True(t, ok)
				require.GreaterOrEqual(t, after, 12*time.Second)
				require.LessOrEqual(t, after, 20*time.Second)
			})
		})
	}
}

func TestLimiterIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter, err := rest.NewLimiter(1, 2)
		require.NoError(t, err)
		tr := newTransport(t, fine)
		one, two := newHosts(t, on(tr), rest.WithLimiter(limiter)), newHosts(t, on(tr), rest.WithLimiter(limiter))
		hook, err := rest.NewWebhook("https://A.example/rest/1/s3cr3t/", on(tr), rest.WithLimiter(limiter))
		require.NoError(t, err)
		start := time.Now()
		require.NoError(t, one.Portal("a").Call(t.Context(), "profile", nil, nil))
		require.NoError(t, two.Portal("a").Call(t.Context(), "profile", nil, nil))
		require.Zero(t, time.Since(start))
		require.NoError(t, hook.Call(t.Context(), "profile", nil, nil))
		require.Equal(t, time.Second, time.Since(start), "the three draw on one bucket")
	})
}

func TestOperatingTimeLimit(t *testing.T) {
	t.Parallel()
	heavy := func(in time.Duration) string {
		return fmt.Sprintf(`{"result":true,"time":{"operating":419.5,"operating_reset_at":%d}}`, time.Now().Add(in).Unix())
	}
	tests := map[string]struct {
		before   func() string
		response func() string
		want     time.Duration
	}{
		"reset known from the answer before": {
			func() string { return heavy(3 * time.Minute) }, func() string { return blocked }, 3 * time.Minute,
		},
		"reset unknown": {func() string { return fine }, func() string { return blocked }, time.Minute},
		"reset passed":  {func() string { return heavy(-time.Minute) }, func() string { return blocked }, time.Minute},
		"reset too far": {
			func() string { return heavy(24 * time.Hour) }, func() string { return blocked }, 10 * time.Minute,
		},
		"reset in the error": {func() string { return fine }, func() string {
			return fmt.Sprintf(`{"error":"OPERATION_TIME_LIMIT","time":{"operating_reset_at":%d}}`, time.Now().Add(5*time.Minute).Unix())
		}, 5 * time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTransport(t, test.before(), test.response(), fine)
				api := newHosts(t, on(tr))
				client := api.Portal("a")
				require.NoError(t, client.Call(t.Context(), "crm.item.update", nil, nil))
				start := time.Now()

				// A caller without the time gets the error at once.
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				err := client.Call(ctx, "crm.item.update", nil, nil)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorIs(t, err, rest.ErrOperationTimeLimit)
				require.Zero(t, time.Since(start))
				after, ok := rest.Retryable(err)
				require.True(t, ok)
				require.Equal(t, test.want, after)

				// Other methods go on, the same one of another portal does.
				require.NoError(t, client.Call(t.Context(), "crm.item.get", nil, nil))
				require.NoError(t, api.Portal("b").Call(t.Context(), "crm.item.update", nil, nil))
				require.Zero(t, time.Since(start))

				require.NoError(t, client.Call(t.Context(), "CRM.item.update", nil, nil))
				require.Equal(t, test.want, time.Since(start))
			})
		})
	}
}

// TestOperatingTimeInABatch: the operating time of a command counts for single calls of its method,
// too.
func TestOperatingTimeInABatch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		response string // what the batch gets
		want     time.Duration
	}{
		"blocked": {`{"result":{"result":[],"result_error":{"a":{"error":"OPERATION_TIME_LIMIT"}}}}`, time.Minute},
		"counted": {`{"result":{"result":{"a":1},"result_time":{"a":{"operating":419.5,"operating_reset_at":%d}}}}`, 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				response := strings.Replace(test.response, "%d", strconv.FormatInt(time.Now().Add(3*time.Minute).Unix(), 10), 1)
				calls := 0
				tr := newScript(t, func(s sent) (int, string, error) {
					if s.method == "batch" {
						return 200, response, nil
					}
					if calls++; calls == 1 && name == "counted" {
						return 429, blocked, nil
					}
					return 200, fine, nil
				})
				client := newHosts(t, on(tr)).Portal("a")
				start := time.Now()
				b := rest.NewBatch()
				rest.Add[any](b, "a", "crm.item.update", nil)
				require.NoError(t, client.Batch(t.Context(), b))
				require.NoError(t, client.Call(t.Context(), "crm.item.update", nil, nil))
				require.Equal(t, test.want, time.Since(start))
			})
		})
	}
}

// blockedFor is the refusal of a method that is blocked for the given time. If that is zero, the
// portal does not say for how long.
func blockedFor(d time.Duration) string {
	if d == 0 {
		return blocked
	}
	return fmt.Sprintf(`{"error":"OPERATION_TIME_LIMIT","time":{"operating_reset_at":%d}}`, time.Now().Add(d).Unix())
}

// TestLaterEndOfAPauseCounts: two calls of a method are blocked at the same time, for different
// spans.
func TestLaterEndOfAPauseCounts(t *testing.T) {
	t.Parallel()
	for name, spans := range map[string][2]time.Duration{
		"longer first": {9 * time.Minute, 0}, "longer last": {2 * time.Minute, 5 * time.Minute},
		"shorter last": {5 * time.Minute, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTransport(t, blockedFor(spans[0]), blockedFor(spans[1]), fine)
				slow := roundTrip(func(r *http.Request) (*http.Response, error) { pauseFor(time.Millisecond); return tr.RoundTrip(r) })
				client := newHosts(t, on(slow)).Portal("a")
				start := time.Now()
				var both sync.WaitGroup
				for range 2 {
					both.Go(func() { _ = client.With(rest.Retries(0)).Call(t.Context(), "crm.deal.list", nil, nil) })
				}
				both.Wait()
				require.NoError(t, client.Call(t.Context(), "crm.deal.list", nil, nil))
				require.Equal(t, max(spans[0], spans[1]), time.Since(start).Truncate(time.Second))
			})
		})
	}
}

// TestPauseThatGrows: a call waits for the end of a pause, which another call has moved to a later
// time.
func TestPauseThatGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		tr := newScript(t, func(sent) (int, string, error) {
			switch requests++; requests {
			case 1:
				pauseFor(30 * time.Second)
				return 429, blockedFor(5 * time.Minute), nil
			case 2:
				return 429, blocked, nil
			default:
				return 200, fine, nil
			}
		})
		client := newHosts(t, on(tr)).Portal("a")
		start := time.Now()
		var slow sync.WaitGroup
		slow.Go(func() { _ = client.With(rest.Retries(0)).Call(t.Context(), "crm.deal.list", nil, nil) })
		synctest.Wait()
		require.NoError(t, client.Call(t.Context(), "crm.deal.list", nil, nil))
		slow.Wait()
		require.Equal(t, 5*time.Minute+30*time.Second, time.Since(start))
		require.Equal(t, 3, tr.count())
	})
}

func TestBlockedTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, blocked)
		client := newHosts(t, on(tr)).Portal("a")
		start := time.Now()
		err := client.Call(t.Context(), "crm.item.update", nil, nil)
		require.ErrorIs(t, err, rest.ErrOperationTimeLimit)
		require.Equal(t, time.Minute, time.Since(start), "one pause is waited for, not four")
		require.Equal(t, 2, tr.count())
	})
}

func TestPauseEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newHosts(t, on(newTransport(t, blocked))).Portal("a")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		start := time.Now()
		err := client.Call(ctx, "crm.item.update", nil, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, rest.ErrOperationTimeLimit, "the caller left")
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

// A real portal with a real limit, and a second client with another limiter that stands for another
// process.
func TestTwoProcessesOnOnePortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, eventtest.WithRateLimit(20, 10))
	var wg sync.WaitGroup
	for range 2 {
		client := w.client(t, rest.WithRateLimit(20, 10), rest.WithRetries(20))
		for range 10 {
			wg.Go(func() {
				if err := client.Call(t.Context(), "profile", nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	succeeded := 0
	for _, call := range w.Calls() {
		if call.Status == 200 {
			succeeded++
		}
	}
	require.Equal(t, 20, succeeded)
}

func TestLimiterOptions(t *testing.T) {
	t.Parallel()
	limiter, err := rest.NewLimiter(5, 250)
	require.NoError(t, err)
	require.Equal(t, "rest.Limiter(5/s, 250)", fmt.Sprintf("%+v", limiter))
	_, err = rest.NewLimiter(0, 1)
	require.ErrorIs(t, err, rest.ErrConfig)
	tests := map[string][]rest.Option{
		"nil limiter":        {rest.WithLimiter(nil)},
		"zero rate":          {rest.WithRateLimit(0, 1)},
		"rate of no number":  {rest.WithRateLimit(math.NaN(), 1)},
		"infinite rate":      {rest.WithRateLimit(math.Inf(1), 1)},
		"no burst":           {rest.WithRateLimit(1, 0)},
		"two limits":         {rest.WithLimiter(limiter), rest.WithRateLimit(1, 1)},
		"limit and no limit": {rest.WithRateLimit(1, 1), rest.WithoutRateLimit()},
		"two limiters":       {rest.WithoutRateLimit(), rest.WithLimiter(limiter)},
		"negative retries":   {rest.WithRetries(-1)},
	}
	for name, opts := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rest.NewClients(hosts{}, opts...)
			require.ErrorIs(t, err, rest.ErrConfig)
		})
	}
}

// TestCancelledCrowd: 550 calls are cancelled while most of them wait. The next one waits for the
// steady rate, not for them.
func TestCancelledCrowd(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*rest.Clients) rest.Doer{
		"Client":    func(api *rest.Clients) rest.Doer { return api.Portal("a") },
		"Coalescer": func(api *rest.Clients) rest.Doer { return api.Coalescer("a") },
	}
	for name, doer := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(s sent) (int, string, error) { return 200, responsesTo(s), nil })
				api := newHosts(t, on(tr))
				ctx, cancel := context.WithCancel(t.Context())
				var crowd sync.WaitGroup
				for i := range 550 {
					crowd.Go(func() { _, _ = api.Portal("a").Do(ctx, "profile", map[string]any{"n": i}) })
				}
				synctest.Wait()
				pauseFor(time.Millisecond)
				cancel()
				crowd.Wait()
				start := time.Now()
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := doer(api).Do(ctx, "profile", nil)
				require.NoError(t, err)
				require.LessOrEqual(t, time.Since(start), 500*time.Millisecond)
				require.Equal(t, 51, tr.count())
			})
		})
	}
}

// TestNobodyOvertakes: 250 calls wait, the portal refuses one request, and newcomers come all the
// time. All are sent in the order in which they came.
func TestNobodyOvertakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		requests := 0
		tr := newScript(t, func(s sent) (int, string, error) {
			mu.Lock()
			defer mu.Unlock()
			if requests++; requests == 60 {
				return 503, limited, nil
			}
			order = append(order, s.form.Get("n"))
			return 200, fine, nil
		})
		client := newHosts(t, on(tr)).Portal("a")
		var all sync.WaitGroup
		var want []string
		call := func(n int) {
			want = append(want, strconv.Itoa(n))
			all.Go(func() {
				if err := client.Call(t.Context(), "crm.deal.add", map[string]any{"n": n}, nil); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for n := range 250 {
			call(n)
		}
		for n := range 100 {
			pauseFor(600*time.Millisecond + time.Microsecond)
			call(250 + n)
		}
		all.Wait()
		require.Equal(t, want, order)
	})
}

// TestDeadlinesInALine: a deadline that can be met is met. One that cannot fails at once, also if a
// refusal is the reason.
func TestDeadlinesInALine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		tr := newScript(t, func(sent) (int, string, error) {
			if requests++; requests == 3 {
				return 503, limited, nil
			}
			return 200, fine, nil
		})
		client := newHosts(t, on(tr), rest.WithRateLimit(1, 1)).Portal("a")
		start := time.Now()
		type result struct {
			err error
			at  time.Duration
		}
		results := make([]result, 6)
		var all sync.WaitGroup
		for n, timeout := range []time.Duration{0, 0, 0, 3500 * time.Millisecond, time.Minute, 3900 * time.Millisecond} {
			all.Go(func() {
				c := client
				if timeout > 0 {
					c = client.With(rest.Timeout(timeout))
				}
				err := c.Call(t.Context(), "crm.deal.add", nil, nil)
				results[n] = result{err, time.Since(start)}
			})
			synctest.Wait()
		}
		all.Wait()
		require.Equal(t, result{nil, 0}, results[0])
		require.Equal(t, result{nil, time.Second}, results[1])
		require.NoError(t, results[2].err, "it was refused, and is the first after the pause")
		require.ErrorIs(t, results[3].err, rest.ErrQueryLimit, "it would have been the fourth; the refusal at two seconds made that too late")
		require.ErrorIs(t, results[3].err, context.DeadlineExceeded)
		require.Equal(t, 2*time.Second, results[3].at)
		require.NoError(t, results[4].err)
		require.ErrorIs(t, results[5].err, rest.ErrQueryLimit, "it could never be the sixth")
		require.Zero(t, results[5].at)
		for _, i := range []int{3, 5} {
			_, ok := rest.Retryable(results[i].err)
			require.True(t, ok)
		}
	})
}
