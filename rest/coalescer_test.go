package rest_test

import (
	"context"
	"errors"
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

// withDeals is a bubble with 500 deals, whose ids are 1 to 500.
func withDeals(t *testing.T) *world {
	t.Helper()
	w := newBubble(t)
	w.deals(t, 500, strconv.Itoa)
	return w
}

// get reads a deal, and returns its id.
func get(ctx context.Context, c rest.Doer, id int) (int, error) {
	deal, err := rest.Call[struct {
		ID int `json:",string"`
	}](ctx, c, "crm.deal.get", map[string]any{"id": id})
	return deal.ID, err
}

func TestGroup(t *testing.T) {
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
				w := withDeals(t)
				c, err := rest.NewCoalescer(w.client(t), test.opts...)
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
				if name == "full" {
					require.Zero(t, time.Since(start), "nobody else can join")
				}
				require.LessOrEqual(t, time.Since(start), rest.DefaultWindow)
				var sizes []int
				for _, s := range w.tap.requests() {
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
		w := withDeals(t)
		c, err := rest.NewCoalescer(w.client(t), rest.WithWindow(time.Second))
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
		seen := w.tap.requests()
		require.Len(t, seen, 2)
		require.Equal(t, 3, seen[0].commands())
		require.Equal(t, 0, seen[1].commands())
		require.Equal(t, 2350*time.Millisecond, time.Since(start))
	})
}

// While the limit delays a request, calls join its group: 500 calls, all within a second, take
// eleven requests and not 500.
func TestGroupWhileTheLimitHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := withDeals(t)
		c := w.portals(t, rest.WithRateLimit(1, 1)).Coalescer(w.MemberID())
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
		require.LessOrEqual(t, w.tap.count(), 11)
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

// several are the credentials of several worlds on one network.
type several []*world

func (ws several) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	for _, w := range ws {
		if w.MemberID() == memberID {
			return w.creds.Access(ctx, memberID)
		}
	}
	return "", "", errRenew
}

func (several) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errRenew
}

func TestPortalsDoNotMix(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := eventtest.NewNetwork()
		both := several{newWorld(t, eventtest.WithNetwork(n)), newWorld(t, eventtest.WithNetwork(n))}
		for _, w := range both {
			w.deals(t, 20, strconv.Itoa)
		}
		tp := &tap{next: n}
		api, err := rest.NewClients(both, on(tp))
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := 1; i <= 20; i++ {
			wg.Go(func() {
				if got, err := get(t.Context(), api.Coalescer(both[i%2].MemberID()), i); err != nil || got != i {
					t.Error(got, err)
				}
			})
		}
		wg.Wait()
		seen := tp.requests()
		require.Len(t, seen, 2)
		require.NotEqual(t, seen[0].host, seen[1].host)
	})
}

func TestEachGetsItsOwnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := withDeals(t)
		c := w.portals(t).Coalescer(w.MemberID())
		var wg sync.WaitGroup
		for _, id := range []int{1, 3} {
			wg.Go(func() {
				if got, err := get(t.Context(), c, id); err != nil || got != id {
					t.Errorf("%d: %d, %v", id, got, err)
				}
			})
		}
		for method, want := range map[string]rest.Error{
			"crm.deal.get":       {Description: "Not found"},
			"no.such":            {Code: rest.ErrMethodNotFound, Description: "Method not found!"},
			"calendar.event.get": {Code: rest.ErrInsufficientScope},
		} {
			wg.Go(func() {
				err := c.Call(t.Context(), method, map[string]any{"id": 501}, nil)
				var e *rest.Error
				if !errors.As(err, &e) || e.Method != method || e.Code != want.Code || e.Description != want.Description {
					t.Errorf("%s: %v", method, err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, w.tap.count())
	})
}

func TestErrorsOfTheWholeRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t)
		w.Always("batch", eventtest.Fail(401, "ACCESS_DENIED", "REST is available only on commercial plans."))
		c := w.portals(t).Coalescer(w.MemberID())
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
		require.Equal(t, 1, w.tap.count())
	})
}

func TestOneCallerLeaves(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{
		"before it is sent": time.Millisecond, "while it is under way": rest.DefaultWindow + time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := withDeals(t)
				w.Always(eventtest.AnyMethod, eventtest.Delay(time.Second))
				c := w.portals(t).Coalescer(w.MemberID())
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				var wg sync.WaitGroup
				// The caller that leaves is the first, whose context the request could have been
				// bound to.
				wg.Go(func() {
					_, err := get(ctx, c, 1)
					if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != after || notRun(err) != (after < rest.DefaultWindow) {
						t.Error(err, time.Since(start), notRun(err))
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
				seen := w.tap.requests()
				require.Len(t, seen, 1)
				require.Equal(t, map[bool]int{true: 3, false: 4}[after < rest.DefaultWindow], seen[0].commands())
			})
		})
	}
}

func TestOneOfEqualReadsLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := withDeals(t)
		c := w.portals(t).Coalescer(w.MemberID())
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
		require.Equal(t, 1, w.tap.count())
	})
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
				var started, cancelled atomic.Int64
				w := newBubble(t)
				w.Always(eventtest.AnyMethod, eventtest.Answer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					started.Add(1)
					<-r.Context().Done() // it answers only when no caller waits any more
					cancelled.Add(1)
				})))
				c := w.portals(t).Coalescer(w.MemberID())
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
				require.Equal(t, test.requests, started.Load())
				require.Equal(t, test.requests, cancelled.Load())

				ended, end := context.WithCancel(t.Context())
				end()
				_, err := get(ended, c, 1)
				require.ErrorIs(t, err, context.Canceled)
				require.Equal(t, test.requests, started.Load())
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
		"letters between":   {"crm.deal.add", map[string]any{"fields": map[string]any{"TITLE": "$results.of[c0]"}}, true},
		"key of strangers":  {"crm.deal.add", map[string]any{"fields": map[string]any{"$error[c0]": 1}}, true},
		"struct":            {"crm.deal.add", struct{ Title string }{"$next[c0]"}, true},
		"in order":          {"crm.deal.add", rest.Ordered{rest.Arg("TITLE", []string{"$total[c0]"})}, true},
		"large":             {"crm.deal.add", map[string]any{"file": strings.Repeat("x", 70_000)}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := withDeals(t)
				c := w.portals(t).Coalescer(w.MemberID())
				var wg sync.WaitGroup
				wg.Go(func() { _ = c.Call(t.Context(), test.method, test.params, nil) })
				for i := range 2 {
					wg.Go(func() { _, _ = get(t.Context(), c, i+1) })
				}
				wg.Wait()
				require.Equal(t, map[bool]int{true: 2, false: 1}[test.alone], w.tap.count())
			})
		})
	}
}

// TestTextsOfStrangersDoNotRefer: a title that reads like a reference stays a title, also in the
// filter of a list.
func TestTextsOfStrangersDoNotRefer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const title = "$result[c0][TITLE] and $result[c1][TITLE]"
		w := newBubble(t)
		w.deals(t, 2, func(n int) string { return map[int]string{1: "secret", 2: title}[n] })
		c := w.portals(t).Coalescer(w.MemberID())
		filter := map[string]any{"filter": map[string]any{"TITLE": title}}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _, _ = get(t.Context(), c, 1) })
			wg.Go(func() {
				id, err := rest.Call[int](t.Context(), c, "crm.deal.add", map[string]any{"fields": map[string]any{"TITLE": title}})
				if object, _ := w.Object(eventtest.Deal, int64(id)); err != nil || object["TITLE"] != title {
					t.Error(object, err)
				}
			})
			wg.Go(func() {
				for row, err := range rest.All[deal](t.Context(), c, "crm.deal.list", filter) {
					if err != nil || row.Title != title {
						t.Error(row, err)
					}
				}
			})
		}
		wg.Wait()
	})
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
		w := withDeals(t)
		api := w.portals(t, rest.WithRetries(1))
		update := map[string]any{"id": 1, "fields": map[string]any{"TITLE": "x"}}
		w.Once("crm.deal.update", eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, api.Portal(w.MemberID()).Call(ctx, "crm.deal.update", update, nil), rest.ErrOperationTimeLimit)
		start := time.Now()
		c := api.Coalescer(w.MemberID())
		require.ErrorIs(t, c.With(rest.Timeout(time.Second)).Call(t.Context(), "crm.deal.update", update, nil), rest.ErrOperationTimeLimit)
		require.Zero(t, time.Since(start))
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Call(t.Context(), "crm.deal.update", update, nil); err != nil || time.Since(start) != time.Minute {
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

// TestBlockedBatch: the portal blocks the method batch for its operating time. Calls that wait in a
// group, and new ones, are sent by themselves.
func TestBlockedBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := withDeals(t)
		w.Once("batch", eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."))
		c := w.portals(t).Coalescer(w.MemberID())
		for _, took := range []time.Duration{rest.DefaultWindow, 0} {
			start := time.Now()
			var both sync.WaitGroup
			for i := range 2 {
				both.Go(func() {
					if got, err := get(t.Context(), c, i+1); err != nil || got != i+1 || time.Since(start) != took {
						t.Error(got, err, time.Since(start))
					}
				})
			}
			both.Wait()
		}
		require.Equal(t, 1, w.CallCount("batch"))
		require.Equal(t, 5, w.tap.count())
	})
}

func TestResponsesOfEqualReadsAreApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := withDeals(t)
		c := w.portals(t).Coalescer(w.MemberID())
		responses := make([]*rest.Response, 2)
		var wg sync.WaitGroup
		for i := range responses {
			wg.Go(func() { responses[i], _ = c.Do(t.Context(), "crm.deal.get", map[string]any{"id": 7}) })
		}
		wg.Wait()
		require.Equal(t, 1, w.CallCount("crm.deal.get"))
		clear(responses[0].Result)
		require.Contains(t, string(responses[1].Result), `"ID":"7"`)
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
			require.ErrorIs(t, err, rest.ErrConfig)
		})
	}
	_, err := rest.NewCoalescer(nil)
	require.ErrorIs(t, err, rest.ErrConfig)
	c, err := rest.NewCoalescer(client, nil, rest.WithSize(2))
	require.NoError(t, err)
	require.Equal(t, "a", c.MemberID())
	require.ErrorIs(t, c.Call(t.Context(), "bad method", nil, nil), rest.ErrBadCall)
}
