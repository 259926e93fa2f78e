package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

var _ event.Caller = (*rest.Coalescer)(nil)

func TestFiftyCallsOneRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 50, func(i int) string { return "deal " + strconv.Itoa(i) })
	c, err := rest.NewCoalescer(w.client(t), rest.WithWindow(rest.MaxWindow)) // so that a slow machine does not matter
	require.NoError(t, err)
	requests := w.Requests().REST
	var wg sync.WaitGroup
	for i := 1; i <= 50; i++ {
		wg.Go(func() {
			got, err := rest.Call[deal](t.Context(), c, "crm.deal.get", map[string]any{"id": i})
			if err != nil || got.Title != "deal "+strconv.Itoa(i) {
				t.Errorf("call %d: %v, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, w.Requests().REST-requests)
	require.Equal(t, 50, w.CallCount("crm.deal.get"))
}

// echo answers crm.deal.get with the parameter id, by itself and in a batch, after a delay; and with the error that id names.
func echo(delay time.Duration) *transport {
	one := func(method, query string) (any, any) {
		form, _ := url.ParseQuery(query)
		id := form.Get("id")
		if n, err := strconv.Atoi(id); err != nil && id != "" {
			return nil, map[string]any{"error": id, "error_description": ""}
		} else if n > 0 {
			return n, nil
		}
		return method, nil
	}
	tr := &transport{}
	tr.answer = func(s sent) (int, string, error) {
		if delay > 0 {
			<-time.After(delay)
		}
		if s.method != "batch" {
			result, failure := one(s.method, s.form.Encode())
			if failure != nil {
				body, err := json.Marshal(failure)
				return 400, string(body), err
			}
			body, err := json.Marshal(map[string]any{"result": result})
			return 200, string(body), err
		}
		results, failures := map[string]any{}, map[string]any{}
		for key, values := range s.form {
			if name, ok := strings.CutPrefix(key, "cmd["); ok {
				name = strings.TrimSuffix(name, "]")
				method, query, _ := strings.Cut(values[0], "?")
				if result, failure := one(method, query); failure != nil {
					failures[name] = failure
				} else {
					results[name] = result
				}
			}
		}
		body, err := json.Marshal(map[string]any{"result": map[string]any{"result": results, "result_error": failures}})
		return 200, string(body), err
	}
	return tr
}

// commands counts the commands of a batch.
func (s sent) commands() int {
	n := 0
	for key := range s.form {
		if strings.HasPrefix(key, "cmd[") {
			n++
		}
	}
	return n
}

func get(ctx context.Context, c rest.Doer, id any) (int, error) {
	return rest.Call[int](ctx, c, "crm.deal.get", map[string]any{"id": id})
}

func TestGathering(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ids  []int
		opts []rest.CoalescerOption
		want []int // commands in each request; 0 for a plain call
	}{
		"alone":        {ids: []int{7}, want: []int{0}},
		"two":          {ids: []int{7, 8}, want: []int{2}},
		"equal reads":  {ids: []int{7, 7, 7}, want: []int{0}},
		"some equal":   {ids: []int{7, 8, 7, 8}, want: []int{2}},
		"full":         {ids: upTo(50), want: []int{50}},
		"more":         {ids: upTo(51), want: []int{50, 0}},
		"small groups": {ids: upTo(7), opts: []rest.CoalescerOption{rest.WithSize(3)}, want: []int{3, 3, 0}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := echo(0)
				c, err := rest.NewCoalescer(newHosts(t, on(tr)).Portal("a"), test.opts...)
				require.NoError(t, err)
				start := time.Now()
				var wg sync.WaitGroup
				for _, id := range test.ids {
					wg.Go(func() {
						got, err := get(t.Context(), c, id)
						if err != nil || got != id {
							t.Errorf("%d: %d, %v", id, got, err)
						}
					})
				}
				wg.Wait()
				require.LessOrEqual(t, time.Since(start), rest.DefaultWindow)
				var sizes []int
				for _, s := range tr.seen {
					sizes = append(sizes, s.commands())
				}
				require.ElementsMatch(t, test.want, sizes)
			})
		})
	}
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

func TestWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := echo(0)
		c, err := rest.NewCoalescer(newHosts(t, on(tr)).Portal("a"), rest.WithWindow(time.Second))
		require.NoError(t, err)
		start := time.Now()
		var wg sync.WaitGroup
		for i := 1; i <= 4; i++ {
			wg.Go(func() {
				<-time.After(time.Duration(i-1) * 450 * time.Millisecond) // 0, 0.45, 0.9 and 1.35 s
				_, err := get(t.Context(), c, i)
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Len(t, tr.seen, 2)
		require.Equal(t, 3, tr.seen[0].commands())
		require.Equal(t, 0, tr.seen[1].commands())
		require.Equal(t, 2350*time.Millisecond, time.Since(start))
	})
}

// While the limit holds a request back, calls gather: 500 of them, all within a second, take eleven requests and not 500.
func TestGatheringWhileTheLimitHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := echo(0)
		api := newHosts(t, on(tr), rest.WithRateLimit(1, 1))
		c := api.Coalescer("a")
		var wg sync.WaitGroup
		for i := 1; i <= 500; i++ {
			wg.Go(func() {
				<-time.After(time.Duration(i) * time.Millisecond)
				if got, err := get(t.Context(), c, i); err != nil || got != i {
					t.Errorf("%d: %d, %v", i, got, err)
				}
			})
		}
		wg.Wait()
		require.LessOrEqual(t, tr.count(), 11)
	})
}

func TestWritesAreNotJoinedIntoOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.portals(t).Coalescer(w.MemberID())
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := c.Call(t.Context(), "crm.deal.add", map[string]any{"fields": map[string]any{"TITLE": "same"}}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, ok := w.Object(eventtest.Deal, 5)
	require.True(t, ok)
}

func TestPortalsDoNotMix(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := echo(0)
		api := newHosts(t, on(tr))
		var wg sync.WaitGroup
		for i := 1; i <= 20; i++ {
			wg.Go(func() {
				if _, err := get(t.Context(), api.Coalescer([]string{"a", "b"}[i%2]), i); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Len(t, tr.seen, 2)
		require.NotEqual(t, tr.seen[0].host, tr.seen[1].host)
	})
}

func TestEachGetsItsOwnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newHosts(t, on(echo(0))).Coalescer("a")
		var wg sync.WaitGroup
		for i, id := range []any{1, "ACCESS_DENIED", 3, "not_found"} {
			wg.Go(func() {
				got, err := get(t.Context(), c, id)
				if n, ok := id.(int); ok {
					if err != nil || got != n {
						t.Errorf("%v: %d, %v", id, got, err)
					}
					return
				}
				var e *rest.Error
				if !errors.As(err, &e) || e.Method != "crm.deal.get" || !errors.Is(err, rest.ErrorCode(strings.ToUpper(fmt.Sprint(id)))) {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestErrorsOfTheWholeRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(`{"error":"ACCESS_DENIED","error_description":"REST is available only on commercial plans."}`)
		c := newHosts(t, on(tr)).Coalescer("a")
		var wg sync.WaitGroup
		for _, method := range []string{"profile", "crm.deal.get", "crm.lead.get"} {
			wg.Go(func() {
				err := c.Call(t.Context(), method, nil, nil)
				var e *rest.Error
				if !errors.As(err, &e) || e.Method != method || e.Code != rest.ErrAccessDenied {
					t.Error(method, err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, tr.count())
	})
}

func TestOneCallerLeaves(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"before it is sent": time.Millisecond, "while it is under way": rest.DefaultWindow + time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := echo(time.Second)
				c := newHosts(t, on(tr)).Coalescer("a")
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				var wg sync.WaitGroup
				// The one that leaves is the first, whose context the request could have been bound to.
				wg.Go(func() {
					if _, err := get(ctx, c, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != after {
						t.Error(err, time.Since(start))
					}
				})
				synctest.Wait()
				for i := 2; i <= 4; i++ {
					wg.Go(func() {
						if got, err := get(t.Context(), c, i); err != nil || got != i {
							t.Error(i, got, err)
						}
					})
				}
				wg.Wait()
				require.Equal(t, 1, tr.count())
				require.Equal(t, map[bool]int{true: 3, false: 4}[after < rest.DefaultWindow], tr.seen[0].commands())
			})
		})
	}
}

func TestOneOfEqualReadsLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := echo(0)
		c := newHosts(t, on(tr)).Coalescer("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := get(ctx, c, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got, err := get(t.Context(), c, 1); err != nil || got != 1 {
				t.Error(got, err)
			}
		})
		wg.Wait()
		require.Equal(t, 1, tr.count())
	})
}

// blocking is a transport that answers only when its request is cancelled.
type blocking struct{ started, cancelled atomic.Int64 }

func (b *blocking) RoundTrip(r *http.Request) (*http.Response, error) {
	b.started.Add(1)
	<-r.Context().Done()
	b.cancelled.Add(1)
	return nil, r.Context().Err()
}

func TestAllCallersLeave(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after    time.Duration
		requests int64
	}{
		"before it is sent":     {time.Millisecond, 0},
		"while it is under way": {time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := &blocking{}
				c := newHosts(t, on(tr)).Coalescer("a")
				ctx, cancel := context.WithTimeout(t.Context(), test.after)
				defer cancel()
				var wg sync.WaitGroup
				for i := 1; i <= 3; i++ {
					wg.Go(func() {
						if _, err := get(ctx, c, i); !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				synctest.Wait() // what is left over would keep the bubble from ending
				require.Equal(t, test.requests, tr.started.Load())
				require.Equal(t, test.requests, tr.cancelled.Load())

				ended, end := context.WithCancel(t.Context())
				end()
				_, err := get(ended, c, 1)
				require.ErrorIs(t, err, context.Canceled)
				require.Equal(t, test.requests, tr.started.Load())
			})
		})
	}
}

func TestWhatGoesByItself(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		method string
		params any
		alone  bool
	}{
		"call":              {"crm.deal.get", map[string]any{"x": "$5 [and] $result"}, false},
		"batch":             {"batch", map[string]any{"cmd": map[string]any{"a": "profile"}}, true},
		"upload":            {"upload", nil, true},
		"download":          {"Download", nil, true},
		"connector":         {"event.offline.get", map[string]any{"auth_connector": ""}, true},
		"text of strangers": {"crm.deal.add", map[string]any{"fields": map[string]any{"TITLE": "I write $result[c0][SECRET] here"}}, true},
		"other case":        {"crm.deal.add", url.Values{"TITLE": {"$Result[c0"}}, true},
		"large":             {"crm.deal.add", map[string]any{"file": strings.Repeat("x", 70_000)}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := echo(0)
				c := newHosts(t, on(tr)).Coalescer("a")
				var wg sync.WaitGroup
				wg.Go(func() { _ = c.Call(t.Context(), test.method, test.params, nil) })
				for i := range 2 {
					wg.Go(func() { _, _ = get(t.Context(), c, i+1) })
				}
				wg.Wait()
				require.Equal(t, map[bool]int{true: 2, false: 1}[test.alone], tr.count())
			})
		})
	}
}

func TestRefusedInABatchAndMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 3, strconv.Itoa)
	w.renewable(t)
	c := w.portals(t).Coalescer(w.MemberID())
	w.Once("crm.deal.get", eventtest.Fail(401, "expired_token", ""))
	w.Once("crm.deal.get", eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", ""))
	var wg sync.WaitGroup
	for i := 1; i <= 3; i++ {
		wg.Go(func() {
			if got, err := rest.Call[deal](t.Context(), c, "crm.deal.get", map[string]any{"id": i}); err != nil || got.Title != strconv.Itoa(i) {
				t.Error(i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestPausedMethodsGoByThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(blocked, `{"result":{"result":{"c0":1,"c1":2},"result_error":[]}}`, fine)
		api := newHosts(t, on(tr), rest.WithRetries(1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, api.Portal("a").Call(ctx, "crm.item.update", nil, nil), rest.ErrOperationTimeLimit)
		start := time.Now()
		c := api.Coalescer("a")
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Call(t.Context(), "crm.item.update", nil, nil); err != nil || time.Since(start) != time.Minute {
				t.Error(err, time.Since(start))
			}
		})
		for i := range 2 {
			wg.Go(func() {
				if _, err := get(t.Context(), c, i+1); err != nil || time.Since(start) > time.Second {
					t.Error(err, time.Since(start))
				}
			})
		}
		wg.Wait()
	})
}

func TestAnswersOfEqualReadsAreApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newHosts(t, on(echo(0))).Coalescer("a")
		answers := make([]*rest.Response, 2)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i], _ = c.Do(t.Context(), "crm.deal.get", map[string]any{"id": 7}) })
		}
		wg.Wait()
		answers[0].Result[0] = '9'
		require.JSONEq(t, "7", string(answers[1].Result))
	})
}

func TestCoalescerOptions(t *testing.T) {
	t.Parallel()
	client := newHosts(t).Portal("a")
	for name, opt := range map[string]rest.CoalescerOption{
		"no window": rest.WithWindow(0), "long window": rest.WithWindow(time.Minute), "size 1": rest.WithSize(1), "size 51": rest.WithSize(51),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rest.NewCoalescer(client, opt)
			require.Error(t, err)
		})
	}
	_, err := rest.NewCoalescer(nil)
	require.Error(t, err)
	c, err := rest.NewCoalescer(client, nil, rest.WithSize(2))
	require.NoError(t, err)
	require.Equal(t, "a", c.MemberID())
	require.ErrorIs(t, c.Call(t.Context(), "bad method", nil, nil), rest.ErrBadCall)
}
