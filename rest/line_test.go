package rest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// TestCancelledCrowd: 550 calls are cancelled while most of them wait. The next one waits for the steady rate, not for them.
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
				tr := newScript(t, func(s sent) (int, string, error) { return 200, answers(s), nil })
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

// TestCancelledGatherings: 5,000 gathered calls are cancelled while their requests wait. None of
// those is sent.
func TestCancelledGatherings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) { return 200, answers(s), nil })
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

// TestNobodyOvertakes: 250 calls wait, the portal refuses one request, and newcomers come all the time. All are sent in the order
// in which they came.
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

// TestDeadlinesInALine: a deadline that can be met is met, one that cannot be fails at once, also when a refusal makes it so.
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

// TestDeadlineOfAGatheredCall: a coalesced call fails at once if its turn comes too late, as with a Client.
func TestDeadlineOfAGatheredCall(t *testing.T) {
	t.Parallel()
	for _, company := range []int{0, 1, 5} {
		t.Run(fmt.Sprint(company, " others"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(s sent) (int, string, error) { return 200, answers(s), nil })
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

// TestGatheredCallBehindOthers: the turn of a gathering is behind those of two calls. A caller who
// cannot wait for so long is told at once.
func TestGatheredCallBehindOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) { return 200, answers(s), nil })
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

// TestGatheredCallBehindARefusal: a gathering waits for its turn, and the portal refuses the
// request of another call. Now that turn comes too late for a caller, who is told at once.
func TestGatheredCallBehindARefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		tr := newScript(t, func(s sent) (int, string, error) {
			if requests++; requests == 2 {
				return 503, limited, nil
			}
			return 200, answers(s), nil
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

// TestMadeAgainAndRefused: a read is made again by itself, because the answer to its batch was
// lost. It is refused then, but it may have run in the batch.
func TestMadeAgainAndRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "batch" {
				return 502, "<html>", nil
			}
			return 503, limited, nil
		})
		get, _ := inCompany(t, newHosts(t, on(tr), rest.WithRetries(1)), "crm.deal.add")
		require.ErrorIs(t, get, rest.ErrQueryLimit)
		require.False(t, hostileNotRun(get))
		_, ok := rest.Retryable(get)
		require.False(t, ok)
		require.Equal(t, 3, tr.count())
	})
}

// TestGatheredCallThatMayHaveRun: a gathered call is sent, its answer is lost, and its next turn
// comes too late for the caller.
func TestGatheredCallThatMayHaveRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := newHosts(t, on(newTransport(t, "<html>502")), rest.WithRateLimit(0.1, 1))
		start := time.Now()
		err := api.Coalescer("a").With(rest.Timeout(5*time.Second)).Call(t.Context(), "crm.deal.get", nil, nil)
		require.ErrorIs(t, err, rest.ErrQueryLimit)
		require.Less(t, time.Since(start), time.Second)
		require.False(t, hostileNotRun(err))
		_, ok := rest.Retryable(err)
		require.False(t, ok)
	})
}

// TestLeftBackAndGone: a method is blocked when its gathering leaves. The caller of that call ends
// while the others are under way.
func TestLeftBackAndGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "crm.item.update" {
				return 429, blocked, nil
			}
			pauseFor(time.Second)
			return 200, answers(s), nil
		})
		api := newHosts(t, on(tr))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			err := api.Coalescer("a").Call(ctx, "crm.item.update", nil, nil)
			if !errors.Is(err, context.Canceled) || !hostileNotRun(err) {
				t.Error(err, hostileNotRun(err))
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

// tooLarge answers a method without an end, which the network of eventtest cannot. The portal
// behind it answers other calls.
type tooLarge struct {
	*transport

	method string
	times  atomic.Int64
}

func (l *tooLarge) RoundTrip(r *http.Request) (*http.Response, error) {
	if path.Base(r.URL.Path) != l.method {
		return l.transport.RoundTrip(r)
	}
	l.times.Add(1)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(new(endless)), Request: r}, nil
}

// TestReadInCompany: a read and a write leave together, and the answer is lost. The read is made again by itself.
func TestReadInCompany(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(sent) (int, string, error){
		"a page": func(sent) (int, string, error) { return 502, "<html>", nil },
		"broken": func(sent) (int, string, error) { return 0, "", io.EOF },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(s sent) (int, string, error) {
					if s.method == "batch" {
						return lose(s)
					}
					return 200, fine, nil
				})
				get, add := inCompany(t, newHosts(t, on(tr)), "crm.deal.add")
				require.NoError(t, get)
				require.Error(t, add)
				_, ok := rest.Retryable(add)
				require.False(t, ok)
				require.Equal(t, 2, tr.count())
			})
		})
	}
}

// inCompany makes a call that reads through a coalescer, and one of another method at the same
// time.
func inCompany(t *testing.T, api *rest.Clients, method string) (read, other error) {
	t.Helper()
	c := api.Coalescer("a")
	var both sync.WaitGroup
	both.Go(func() { read = c.Call(t.Context(), "crm.deal.get", nil, nil) })
	both.Go(func() { other = c.Call(t.Context(), method, nil, nil) })
	both.Wait()
	return read, other
}

// TestTooLargeInCompany: the results of two calls are within the limit each, and not in one answer.
// Reads are made again by themselves, and the batch is not.
func TestTooLargeInCompany(t *testing.T) {
	t.Parallel()
	for second, want := range map[string]struct {
		err   error
		alone int
	}{
		"crm.contact.get": {nil, 2}, "crm.contact.add": {rest.ErrTooLarge, 1},
	} {
		t.Run(second, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := &tooLarge{transport: newTransport(t, fine), method: "batch"}
				read, other := inCompany(t, newHosts(t, on(tr)), second)
				require.NoError(t, read)
				require.ErrorIs(t, other, want.err)
				require.False(t, other != nil && hostileNotRun(other), "%v", other)
				require.Equal(t, want.alone, tr.count())
				require.EqualValues(t, 1, tr.times.Load())
			})
		})
	}
	t.Run("no company", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			tr := &tooLarge{transport: newTransport(t, fine), method: "crm.deal.get"}
			require.ErrorIs(t, newHosts(t, on(tr)).Coalescer("a").Call(t.Context(), "crm.deal.get", nil, nil), rest.ErrTooLarge)
			require.EqualValues(t, 1, tr.times.Load())
		})
	})
}

// TestNotMadeAgain: what is not made again by itself after its batch failed, although it only
// reads.
func TestNotMadeAgain(t *testing.T) {
	t.Parallel()
	refused := `{"result":{"result":[],"result_error":{"c0":{"error":"QUERY_LIMIT_EXCEEDED"},"c1":{"error":"QUERY_LIMIT_EXCEEDED"}}}}`
	for name, test := range map[string]struct {
		retries int
		status  int
		body    string
		want    int // requests
	}{
		"no repetitions, lost":            {0, 502, "<html>", 1},
		"no repetitions, refused":         {0, 503, limited, 1},
		"no repetitions, refused within":  {0, 200, refused, 1},
		"refused as often as it was sent": {2, 503, limited, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(sent) (int, string, error) { return test.status, test.body, nil })
				get, add := inCompany(t, newHosts(t, on(tr), rest.WithRetries(test.retries)), "crm.deal.add")
				require.Error(t, get)
				require.Error(t, add)
				require.Equal(t, test.want, tr.count())
			})
		})
	}
}

// panicking is credentials with a fault.
type panicking struct{ hosts }

func (panicking) Access(context.Context, string) (endpoint, token string, err error) {
	panic("planted s3cr3t")
}

func TestPanicOfTheCredentials(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := newHosts(t, on(newTransport(t, fine)))
		c := api.As(panicking{}).Coalescer("a")
		errs := make([]error, 2)
		var both sync.WaitGroup
		for i := range errs {
			both.Go(func() { errs[i] = c.Call(t.Context(), "crm.deal.add", map[string]any{"n": i}, nil) })
		}
		both.Wait()
		for _, err := range errs {
			require.ErrorContains(t, err, "crm.deal.add: the credentials or the HTTP client panicked")
			requireNoSecrets(t, err)
			var n interface{ NotRun() bool }
			require.ErrorAs(t, err, &n)
			require.True(t, n.NotRun())
		}
	})
}

// TestPausedInCompany: a method that is blocked while its call gathers does not leave with the others.
func TestPausedInCompany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blockedOnce := false
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "crm.item.update" && !blockedOnce {
				blockedOnce = true
				return 429, blocked, nil
			}
			return 200, answers(s), nil
		})
		api := newHosts(t, on(tr), rest.WithRateLimit(1, 1))
		start := time.Now()
		_, err := api.Portal("a").With(rest.Retries(0)).Do(t.Context(), "profile", nil)
		require.NoError(t, err)
		var all sync.WaitGroup
		all.Go(func() { _ = api.Portal("a").With(rest.Retries(0)).Call(t.Context(), "crm.item.update", nil, nil) })
		synctest.Wait()
		took := make([]time.Duration, 3)
		for i, method := range []string{"crm.item.update", "crm.deal.add", "crm.contact.add"} {
			all.Go(func() {
				if err := api.Coalescer("a").Call(t.Context(), method, nil, nil); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(start)
			})
		}
		all.Wait()
		require.GreaterOrEqual(t, took[0], time.Minute)
		require.Equal(t, []time.Duration{2 * time.Second, 2 * time.Second}, took[1:])
	})
}

// other is credentials of another user of the same portals.
type other struct{ hosts }

func (other) Access(_ context.Context, memberID string) (endpoint, token string, err error) {
	return "https://" + memberID + ".example/rest/", "another-token", nil
}

// TestAs: a client for other credentials has the same limits and pauses, and its calls do not join those of others.
func TestAs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "crm.item.update" {
				return 429, blocked, nil
			}
			return 200, answers(s), nil
		})
		api := newHosts(t, on(tr), rest.WithRateLimit(1, 1))
		start := time.Now()
		require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
		require.NoError(t, api.Portal("a").As(other{}).Call(t.Context(), "profile", nil, nil))
		require.Equal(t, time.Second, time.Since(start))
		seen := tr.requests()
		require.Equal(t, secretToken, seen[0].form.Get("auth"))
		require.Equal(t, "another-token", seen[1].form.Get("auth"))

		require.Error(t, api.Portal("a").With(rest.Retries(0)).Call(t.Context(), "crm.item.update", nil, nil))
		start = time.Now()
		err := api.As(other{}).Portal("a").With(rest.Timeout(30*time.Second)).Call(t.Context(), "crm.item.update", nil, nil)
		require.ErrorIs(t, err, rest.ErrOperationTimeLimit)
		require.Zero(t, time.Since(start))

		var both sync.WaitGroup
		for _, c := range []*rest.Coalescer{api.Coalescer("a"), api.As(other{}).Coalescer("a")} {
			both.Go(func() {
				if err := c.Call(t.Context(), "crm.deal.add", nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		for _, s := range tr.requests() {
			require.NotEqual(t, "batch", s.method)
		}

		err = api.Portal("a").As(nil).Call(t.Context(), "profile", nil, nil)
		require.ErrorContains(t, err, "the credentials given to As are nil")
		_, ok := rest.Retryable(err)
		require.False(t, ok)
	})
}

func TestCallOptions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, fine)
		client := newHosts(t, on(tr)).Portal("a")
		for _, opt := range []rest.CallOption{rest.Timeout(0), rest.Timeout(-1), rest.Retries(-1)} {
			for _, err := range []error{
				client.With(opt).Call(t.Context(), "profile", nil, nil),
				client.With(nil, opt, rest.Idempotent()).Batch(t.Context(), rest.NewBatch()),
			} {
				require.ErrorIs(t, err, rest.ErrBadCall)
			}
		}
		require.Zero(t, tr.count())
		require.NoError(t, client.Call(t.Context(), "profile", nil, nil), "the client stays as it was")
	})
}

// TestIdempotentIsOfOneClient: a helper that the caller uses has a client of its own, and its calls
// are not repeated.
func TestIdempotentIsOfOneClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := make(map[string]int)
		tr := newScript(t, func(s sent) (int, string, error) {
			requests[s.method]++
			return 504, "<html>", nil
		})
		client := newHosts(t, on(tr), rest.WithRetries(1)).Portal("a")
		require.Error(t, client.With(rest.Idempotent()).Call(t.Context(), "crm.deal.update", nil, nil))
		require.Error(t, client.Call(t.Context(), "crm.timeline.comment.add", nil, nil))
		require.Equal(t, map[string]int{"crm.deal.update": 2, "crm.timeline.comment.add": 1}, requests)
	})
}
