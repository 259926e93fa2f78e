package webhook_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// numbered is a change of a deal with a number that the handler can see.
func numbered(name string, deal, n int) string {
	return body(name, fields{"data[FIELDS][ID]": strconv.Itoa(deal), "data[N]": strconv.Itoa(n)})
}

// numbers returns the numbers in the order in which they were handled.
func (r *recorder) numbers() []string {
	var all []string
	for _, d := range r.deliveries() {
		all = append(all, d.Name+" "+d.Data.Get("N").Text())
	}
	return all
}

func slow(d time.Duration) func(context.Context, *event.Delivery) error {
	return func(context.Context, *event.Delivery) error {
		<-time.After(d)
		return nil
	}
}

func TestCoalescing(t *testing.T) {
	t.Parallel()
	type step struct {
		name    string
		deal, n int
	}
	for name, test := range map[string]struct {
		events    []webhook.Event
		steps     []step
		handled   []string
		coalesced uint64
	}{
		"thousand changes of one deal": {
			events:    []webhook.Event{event.OnCrmDealUpdate},
			steps:     repeat(1000, func(n int) step { return step{"ONCRMDEALUPDATE", 1, n} }),
			handled:   []string{"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 999"},
			coalesced: 998,
		},
		"any case": {
			events:    []webhook.Event{event.Define[event.Data](" onCrmDealUpdate ")},
			steps:     repeat(3, func(n int) step { return step{"ONCRMDEALUPDATE", 1, n} }),
			handled:   []string{"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 2"},
			coalesced: 1,
		},
		"not past a deletion": {
			events: []webhook.Event{event.OnCrmDealUpdate},
			steps: []step{
				{"ONCRMDEALADD", 1, 0}, {"ONCRMDEALUPDATE", 1, 1}, {"ONCRMDEALDELETE", 1, 2}, {"ONCRMDEALADD", 1, 3}, {"ONCRMDEALUPDATE", 1, 4},
			},
			handled: []string{"ONCRMDEALADD 0", "ONCRMDEALUPDATE 1", "ONCRMDEALDELETE 2", "ONCRMDEALADD 3", "ONCRMDEALUPDATE 4"},
		},
		"with the last in line only": {
			events: []webhook.Event{event.OnCrmDealUpdate},
			steps: []step{
				{"ONCRMDEALADD", 1, 0}, {"ONCRMDEALUPDATE", 1, 1}, {"ONCRMDEALDELETE", 1, 2}, {"ONCRMDEALUPDATE", 1, 3}, {"ONCRMDEALUPDATE", 1, 4},
			},
			handled:   []string{"ONCRMDEALADD 0", "ONCRMDEALUPDATE 1", "ONCRMDEALDELETE 2", "ONCRMDEALUPDATE 4"},
			coalesced: 1,
		},
		"a new object under an old ID": {
			events: []webhook.Event{event.OnCrmDealAdd, event.OnCrmDealUpdate, event.OnCrmDealDelete},
			steps: []step{
				{"ONCRMDEALADD", 9, 9}, {"ONCRMDEALADD", 1, 0}, {"ONCRMDEALDELETE", 1, 1}, {"ONCRMDEALADD", 1, 2},
			},
			handled: []string{"ONCRMDEALADD 9", "ONCRMDEALADD 0", "ONCRMDEALDELETE 1", "ONCRMDEALADD 2"},
		},
		"only the names given": {
			events:  []webhook.Event{event.OnCrmLeadUpdate},
			steps:   repeat(3, func(n int) step { return step{"ONCRMDEALUPDATE", 1, n} }),
			handled: []string{"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 1", "ONCRMDEALUPDATE 2"},
		},
		"not without an object": {
			events:  []webhook.Event{event.OnCrmDealUpdate},
			steps:   repeat(3, func(n int) step { return step{"ONCRMDEALUPDATE", 0, n} }),
			handled: []string{"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 1", "ONCRMDEALUPDATE 2"},
		},
		"not across objects": {
			events: []webhook.Event{event.OnCrmDealUpdate},
			steps: []step{
				{"ONCRMDEALUPDATE", 1, 0}, {"ONCRMDEALUPDATE", 2, 1}, {"ONCRMDEALUPDATE", 3, 2}, {"ONCRMDEALUPDATE", 1, 3},
			},
			handled: []string{"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 1", "ONCRMDEALUPDATE 2", "ONCRMDEALUPDATE 3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec := recorder{then: slow(time.Second)}
				h := newHandler(t, &rec, webhook.WithWorkers(1), webhook.WithCoalescing(test.events...))
				for _, s := range test.steps {
					require.Equal(t, http.StatusOK, post(h, numbered(s.name, s.deal, s.n)))
					synctest.Wait() // the first is running by then
				}
				shutdown(t, h)
				require.Equal(t, test.handled, rec.numbers())
				s := h.Stats()
				require.Equal(t, test.coalesced, s.Coalesced)
				require.EqualValues(t, len(test.steps), s.Accepted)
				balanced(t, s, 0)
			})
		})
	}
}

func repeat[T any](n int, f func(int) T) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = f(i)
	}
	return all
}

func TestCoalescingNeedsNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := recorder{then: slow(time.Second)}
		h := newHandler(t, &rec, webhook.WithQueueSize(3), webhook.WithEnqueueTimeout(0), // 2 places for a portal
			webhook.WithCoalescing(event.OnCrmDealUpdate))
		for n := range 500 {
			require.Equal(t, http.StatusOK, post(h, numbered("ONCRMDEALUPDATE", 1, n)))
			synctest.Wait()
		}
		require.Equal(t, http.StatusServiceUnavailable, post(h, numbered("ONCRMDEALUPDATE", 2, 0)))
		// A larger body needs the difference.
		large := body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": "1", "data[X]": strings.Repeat("x", 10<<10)})
		require.Equal(t, http.StatusServiceUnavailable, post(h, large))
		<-time.After(time.Minute)
		require.Equal(t, []string{"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 499"}, rec.numbers())

		// And gives it back.
		for _, b := range []string{large, dealUpdate(1)} {
			require.Equal(t, http.StatusOK, post(h, b))
			<-time.After(time.Minute)
		}
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(2)))
		shutdown(t, h)
		balanced(t, h.Stats(), 0)
	})
}

// TestCoalescingResizes replaces small by large and large by small, and then counts the places that
// are left.
func TestCoalescingResizes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const places = 8 // for one portal, of 11
		h := newHandler(t, do(slow(time.Second)), webhook.WithQueueSize(11), webhook.WithEnqueueTimeout(0),
			webhook.WithCoalescing(event.OnCrmDealUpdate))
		for round := range 40 {
			size := []int{1, 30, 10, 50, 1}[round%5] << 10
			post(h, body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": "1", "data[X]": strings.Repeat("x", size)}))
			synctest.Wait()
			<-time.After(time.Second / 3)
		}
		<-time.After(time.Hour)
		synctest.Wait()
		balanced(t, h.Stats(), 0)
		accepted := 0
		for id := range 2 * places {
			if post(h, dealUpdate(id+1)) == http.StatusOK {
				accepted++
			}
		}
		require.Equal(t, places, accepted)
		shutdown(t, h)
	})
}

// TestCoalescingAfterWaitingForRoom: two requests about one object wait for room; the second finds
// the first in line when it gets some.
func TestCoalescingAfterWaitingForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := recorder{then: slow(10 * time.Second)}
		h := newHandler(t, &rec, webhook.WithWorkers(1), webhook.WithQueueSize(4), webhook.WithEnqueueTimeout(time.Hour),
			webhook.WithCoalescing(event.OnCrmDealUpdate))
		for id := range 3 {
			require.Equal(t, http.StatusOK, post(h, dealUpdate(id+7)))
		}
		for n := range 2 {
			go post(h, numbered("ONCRMDEALUPDATE", 1, n))
			synctest.Wait()
		}
		<-time.After(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"7", "8", "9", "1"}, rec.ids())
		require.Equal(t, "ONCRMDEALUPDATE 1", rec.numbers()[3])
		s := h.Stats()
		require.EqualValues(t, 1, s.Coalesced)
		balanced(t, s, 0)

		// No place was lost: three are taken at once, the fourth waits.
		start := time.Now()
		for id := range 4 {
			require.Equal(t, http.StatusOK, post(h, dealUpdate(id+1)))
			if id == 2 {
				require.Zero(t, time.Since(start))
			}
		}
		require.Equal(t, 10*time.Second, time.Since(start))
		require.NoError(t, h.Shutdown(within(t, time.Hour)))
	})
}

// TestCoalescingPastOthers: a delivery that is tried again is not replaced by a newer one if there
// are others between the two.
func TestCoalescingPastOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := recorder{then: func(ctx context.Context, d *event.Delivery) error {
			if d.Data.Get("N").Text() == "0" && event.AttemptOf(ctx).Number == 1 {
				<-time.After(time.Second)
				return event.Retry(io.EOF, time.Minute)
			}
			return nil
		}}
		h := newHandler(t, &rec, webhook.WithCoalescing(event.OnCrmDealUpdate))
		post(h, numbered("ONCRMDEALUPDATE", 1, 0))
		synctest.Wait()
		post(h, numbered("ONCRMDEALADD", 1, 1))
		post(h, numbered("ONCRMDEALUPDATE", 1, 2))
		<-time.After(2 * time.Second) // failed
		post(h, numbered("ONCRMDEALDELETE", 1, 3))
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, []string{
			"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 0", "ONCRMDEALADD 1", "ONCRMDEALUPDATE 2", "ONCRMDEALDELETE 3",
		}, rec.numbers())
		require.Zero(t, h.Stats().Coalesced)
		balanced(t, h.Stats(), 0)
	})
}

// TestCoalescingOfRetries: a newer delivery replaces one that waits for its next attempt, keeps its
// wait, and has all attempts ahead.
func TestCoalescingOfRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		var lost drops
		rec := recorder{then: func(context.Context, *event.Delivery) error {
			at = append(at, time.Since(start))
			return event.Retry(io.EOF, time.Minute)
		}}
		h := newHandler(t, &rec, webhook.WithMaxAttempts(3), webhook.WithCoalescing(event.OnCrmDealUpdate), lost.option())
		post(h, numbered("ONCRMDEALUPDATE", 1, 0))
		<-time.After(90 * time.Second) // two attempts, the third is due in 30 seconds
		post(h, numbered("ONCRMDEALUPDATE", 1, 1))
		<-time.After(time.Hour)
		synctest.Wait()
		require.Equal(t, []time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute}, at)
		require.Equal(t, "ONCRMDEALUPDATE 1", rec.numbers()[2])
		s := h.Stats()
		require.EqualValues(t, 1, s.Failed)
		require.EqualValues(t, 1, s.Coalesced)
		balanced(t, s, 0)
		ids, _ := lost.list()
		require.Len(t, ids, 1)
	})
}

// TestCoalescingWithAFailedOne: a delivery fails while a newer one waits right behind it, and is
// replaced by that one.
func TestCoalescingWithAFailedOne(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]bool{"next in line": false, "others between": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec := recorder{then: func(ctx context.Context, d *event.Delivery) error {
					<-time.After(time.Second)
					if d.Data.Get("N").Text() == "0" && event.AttemptOf(ctx).Number == 1 {
						return io.EOF
					}
					return nil
				}}
				h := newHandler(t, &rec, webhook.WithCoalescing(event.OnCrmDealUpdate),
					webhook.WithQueueSize(7), webhook.WithEnqueueTimeout(0)) // 5 places for a portal
				post(h, numbered("ONCRMDEALUPDATE", 1, 0))
				synctest.Wait()
				want, coalesced := []string{"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 2"}, 1
				if between {
					post(h, numbered("ONCRMDEALADD", 1, 1))
					want, coalesced = []string{"ONCRMDEALUPDATE 0", "ONCRMDEALUPDATE 0", "ONCRMDEALADD 1", "ONCRMDEALUPDATE 2"}, 0
				}
				post(h, numbered("ONCRMDEALUPDATE", 1, 2))
				if between {
					post(h, numbered("ONCRMDEALDELETE", 1, 3))
					want = append(want, "ONCRMDEALDELETE 3")
				}
				<-time.After(time.Hour)
				synctest.Wait()
				require.Equal(t, want, rec.numbers())
				s := h.Stats()
				require.EqualValues(t, coalesced, s.Coalesced)
				require.EqualValues(t, 1, s.Retried)
				balanced(t, s, 0)
				for id := range 5 { // no place was lost
					require.Equal(t, http.StatusOK, post(h, dealUpdate(id+1)))
				}
				require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(6)))
				shutdown(t, h)
			})
		})
	}
}

// TestMergedReachesTheHandler: a handler can see how many deliveries were merged into its own.
func TestMergedReachesTheHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var merged []int
		h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
			merged = append(merged, event.AttemptOf(ctx).Merged)
			<-time.After(time.Second)
			return nil
		}), webhook.WithCoalescing(event.OnCrmDealUpdate))
		for range 10 {
			post(h, dealUpdate(1))
			synctest.Wait()
		}
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, []int{0, 8}, merged)
		require.EqualValues(t, 8, h.Stats().Coalesced)
	})
}

// TestCoalescingByTime: the platform promises no order, so the delivery that was fired later stays,
// whichever came first.
func TestCoalescingByTime(t *testing.T) {
	t.Parallel()
	moved := func(n int, fired string) string {
		return body("ONCRMDEALMOVETOCATEGORY", fields{"data[FIELDS][ID]": "1", "data[N]": strconv.Itoa(n), "ts": fired})
	}
	for name, test := range map[string]struct {
		fired []string // of the second and later deliveries, which wait
		last  string   // number of the one that is handled
	}{
		"in order":               {[]string{"1727018930", "1727018990"}, "2"},
		"the older one is late":  {[]string{"1727018990", "1727018930"}, "1"},
		"in one second":          {[]string{"1727018990", "1727018990"}, "2"},
		"without a time":         {[]string{"1727018990", ""}, "2"},
		"the oldest one is last": {[]string{"1727018990", "1727018995", "1727018930"}, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec := recorder{then: slow(time.Second)}
				h := newHandler(t, &rec, webhook.WithCoalescing(event.OnCrmDealMoveToCategory))
				post(h, moved(0, "1727018900"))
				for i, fired := range test.fired {
					synctest.Wait()
					post(h, moved(i+1, fired))
				}
				require.NoError(t, h.Idle(t.Context()))
				require.Equal(t, []string{"ONCRMDEALMOVETOCATEGORY 0", "ONCRMDEALMOVETOCATEGORY " + test.last}, rec.numbers())
				balanced(t, h.Stats(), 0)
			})
		})
	}
}
