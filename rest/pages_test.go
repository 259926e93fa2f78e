package rest_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// byID are the options of most tests here.
func byID(more ...rest.ListOption) []rest.ListOption {
	return append([]rest.ListOption{rest.ByID("ID")}, more...)
}

func TestAllByIDInBatches(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		rows uint64
		of   func(*rest.Clients) rest.Doer
	}{
		"client":    {100_000, func(p *rest.Clients) rest.Doer { return p.Portal("a") }},
		"coalescer": {3_000, func(p *rest.Clients) rest.Doer { return p.Coalescer("a") }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := count(int(test.rows)) //nolint:gosec // it is one of the above
			came := uint64(0)
			for row, err := range rest.All[idRow](t.Context(), test.of(tb.portals(t)), "crm.deal.list", nil, byID()...) {
				require.NoError(t, err)
				came++
				if row.ID.String() != strconv.FormatUint(came, 10) {
					t.Fatal(row.ID, "instead of", came)
				}
			}
			require.Equal(t, test.rows, came)
			requests := tb.requests()
			require.LessOrEqual(t, len(requests), 45)
			require.Equal(t, []int{1, 4, 16, 50}, requests[:4])
			require.LessOrEqual(t, slices.Max(requests), 50)
			require.Equal(t, 1, requests[len(requests)-1], "an empty page of a batch is asked for again")
		})
	}
}

func TestAllByIDOnAPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, eventtest.WithRateLimit(rest.DefaultRate, rest.DefaultBurst))
		w.deals(t, 220, strconv.Itoa)
		for i := range 130 {
			_, err := w.Add(eventtest.Task, map[string]any{"TITLE": strconv.Itoa(i), "RESPONSIBLE_ID": 1}, eventtest.AdminID)
			require.NoError(t, err)
		}
		tests := []struct {
			method   string
			params   any
			field    string
			rows     int
			requests int
		}{
			// one page; three full ones and what is left; none
			{"crm.deal.list", nil, "ID", 220, 3},
			{"crm.deal.list", map[string]any{"filter": map[string]any{">ID": 20}, "select": []string{"ID"}}, "ID", 200, 3},
			{"crm.item.list", map[string]any{"entityTypeId": 2}, "id", 220, 3},
			{"tasks.task.list", nil, "ID", 130, 3},
		}
		for _, test := range tests {
			before := w.tap.count()
			ids, err := read(rest.All[idRow](t.Context(), w.client(t), test.method, test.params, rest.ByID(test.field)))
			require.NoError(t, err)
			require.True(t, slices.IsSorted(ids))
			require.Len(t, slices.Compact(ids), test.rows)
			require.Equal(t, test.requests, w.tap.count()-before, test.method)
		}
	})
}

// TestAllByIDKeepsToTheLimit shares the limit with the portal, which refuses nothing.
func TestAllByIDKeepsToTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, eventtest.WithRateLimit(rest.DefaultRate, rest.DefaultBurst))
		w.deals(t, 60, strconv.Itoa)
		client := w.client(t)
		for range 25 {
			ids, err := read(rest.All[idRow](t.Context(), client, "crm.deal.list", nil, byID()...))
			require.NoError(t, err)
			require.Len(t, ids, 60)
		}
		require.Greater(t, w.tap.count(), rest.DefaultBurst)
		for _, call := range w.Calls() {
			require.Empty(t, call.ErrorCode, call.Method)
		}
	})
}

func TestAllByIDOnOddPortals(t *testing.T) {
	t.Parallel()
	third := func(id uint64) bool { return id%3 == 0 }
	none := func(uint64, bool) string { return "none" }
	tests := map[string]struct {
		table    func(*table)
		rows     int // 400 unless told otherwise
		params   any
		opts     []rest.ListOption
		want     []uint64 // 1 to rows unless told otherwise
		added    bool     // want what is there at the end
		err      error
		requests []int
	}{
		"full pages":      {requests: []int{1, 4, 16, 1}},
		"one row more":    {rows: 401, requests: []int{1, 4, 16, 1}},
		"no rows":         {rows: -1, requests: []int{1}, want: []uint64{}},
		"a page":          {rows: 50, requests: []int{1, 4}},
		"49 rows":         {rows: 49, requests: []int{1, 1}},
		"several batches": {rows: 4000, requests: []int{1, 4, 16, 50, 50, 1}},
		"single pages":    {opts: []rest.ListOption{rest.SinglePages()}, requests: []int{1, 1, 1, 1, 1, 1, 1, 1, 1}},
		"member":          {table: func(tb *table) { tb.member, tb.field = "items", "ID" }, requests: []int{1, 4, 16, 1}},
		"member, small letters": {
			table: func(tb *table) { tb.member = "tasks" }, opts: []rest.ListOption{rest.RowsAt("tasks")}, requests: []int{1, 4, 16, 1},
		},
		"member, odd name":      {table: func(tb *table) { tb.member = "the items" }, rows: 120, requests: []int{1, 1, 1, 1}},
		"small pages":           {table: func(tb *table) { tb.rows = 20 }, rows: 60, requests: []int{1, 1, 1, 1}},
		"large pages":           {table: func(tb *table) { tb.rows = 100 }, rows: 200, requests: []int{1, 1, 1}},
		"text like a reference": {params: map[string]any{"filter": map[string]any{"TITLE": "$result[p0]"}}, rows: 100, requests: []int{1, 1, 1}},
		"connector":             {params: map[string]any{"auth_connector": "a"}, rows: 100, requests: []int{1, 1, 1}},
		"large parameters": {
			params: map[string]any{"filter": map[string]any{"TITLE": strings.Repeat("x", 70<<10)}}, rows: 100, requests: []int{1, 1, 1},
		},
		"some rows are hidden": {
			table: func(tb *table) { tb.hidden = func(id uint64) bool { return id == 130 } },
			want:  span(1, 400, func(id uint64) bool { return id == 130 }), requests: []int{1, 4, 1, 2, 8, 1},
		},
		"many rows are hidden": {
			table: func(tb *table) { tb.hidden = third }, rows: 200, want: span(1, 200, third), requests: []int{1, 1, 1, 1, 1, 1},
		},
		"references to nothing": {
			table: func(tb *table) { tb.resolve = func(uint64, bool) string { return "" } }, rows: 200, requests: []int{1, 4, 1, 1, 1},
		},
		"references find no row": {table: func(tb *table) { tb.resolve = none }, rows: 200, requests: []int{1, 4, 1, 1, 1}},
		"references refused": {table: func(tb *table) {
			tb.before = func(_ int, cmd command) string {
				if cmd.inBatch > 0 {
					return `{"error":"ERROR_CORE","error_description":"a filter of texts"}`
				}
				return ""
			}
		}, rows: 200, requests: []int{1, 4, 1, 1, 1}},
		"the last row of another page": {
			table: func(tb *table) { tb.resolve = func(uint64, bool) string { return "50" } }, rows: 200, requests: []int{1, 4, 1, 1, 1},
		},
		"rows are deleted": {table: func(tb *table) {
			tb.before = func(n int, _ command) string {
				last := 30 * uint64(n) //nolint:gosec // it is no less than 0
				tb.ids = slices.DeleteFunc(tb.ids, func(id uint64) bool { return id <= last || id == 111 && n > 1 })
				return ""
			}
		}, want: span(1, 400, func(id uint64) bool { return id == 111 }), requests: []int{1, 4, 16, 1}},
		"rows are added": {table: func(tb *table) {
			tb.before = func(n int, _ command) string {
				if n%2 == 0 {
					tb.ids = append(tb.ids, tb.ids[len(tb.ids)-1]+1)
				}
				return ""
			}
		}, rows: 200, added: true, requests: []int{1, 4, 1}},
		"rows are added behind the last": {table: func(tb *table) {
			tb.before = func(n int, _ command) string {
				if n == 5 { // the page by itself that is to confirm the end
					tb.ids = append(tb.ids, tb.ids[len(tb.ids)-1]+1)
				}
				return ""
			}
		}, rows: 100, added: true, requests: []int{1, 4, 1, 1}},
		"filter is ignored": {
			table: func(tb *table) { tb.filter = "FILTER" }, rows: 100, want: span(1, 50, nil), err: rest.ErrBadResponse, requests: []int{1, 4},
		},
		"order is ignored": {table: func(tb *table) { tb.order = "ORDER" }, want: []uint64{}, err: rest.ErrBadResponse, requests: []int{1}},
		"order is lost on the way": {table: func(tb *table) {
			tb.page = func(n int, _ command, ids []uint64) []uint64 {
				if n > 3 {
					slices.Reverse(ids)
				}
				return ids
			}
		}, want: span(1, 200, nil), err: rest.ErrBadResponse, requests: []int{1, 4, 1}},
		"a row twice": {table: func(tb *table) {
			tb.page = func(_ int, _ command, ids []uint64) []uint64 { return append(ids, ids[max(len(ids)-1, 0):]...) }
		}, want: []uint64{}, err: rest.ErrBadResponse, requests: []int{1}},
		"a page twice": {table: func(tb *table) {
			tb.page = func(n int, _ command, ids []uint64) []uint64 {
				if n > 4 {
					return span(201, 250, nil)
				}
				return ids
			}
		}, want: span(1, 250, nil), err: rest.ErrBadResponse, requests: []int{1, 4, 16}},
		"longer pages in batches": {table: func(tb *table) {
			tb.page = func(_ int, cmd command, ids []uint64) []uint64 {
				if cmd.inBatch >= 0 && len(ids) > 0 {
					ids = append(ids, ids[len(ids)-1]+1)
				}
				return ids
			}
		}, rows: 200, requests: []int{1, 4, 1, 1, 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows := 400
			if test.rows != 0 {
				rows = max(test.rows, 0)
			}
			tb := count(rows)
			if test.table != nil {
				test.table(tb)
			}
			want := test.want
			if want == nil {
				want = span(1, uint64(rows), nil)
			}
			ids, err := read(rest.All[idRow](t.Context(), tb.portals(t).Portal("a"), "crm.deal.list", test.params, byID(test.opts...)...))
			require.ErrorIs(t, err, test.err)
			if test.added {
				want = tb.ids
			}
			require.Equal(t, fmt.Sprint(want), fmt.Sprint(ids))
			require.Equal(t, test.requests, tb.requests())
		})
	}
}

// TestAllByIDRefused refuses one command of the list, and says what happens then.
func TestAllByIDRefused(t *testing.T) {
	t.Parallel()
	const (
		expired = `{"error":"expired_token","error_description":""}`
		denied  = `{"error":"ACCESS_DENIED","error_description":"Access denied!"}`
		broken  = `{"error":"INTERNAL_SERVER_ERROR","error_description":""}`
		// unbatched refuses a method in a batch only
		unbatched = `{"error":"ERROR_BATCH_METHOD_NOT_ALLOWED","error_description":"Method is not allowed for batch usage"}`
	)
	always := func(int) bool { return true }
	only := func(n int) func(int) bool { return func(i int) bool { return i == n } }
	from := func(n int) func(int) bool { return func(i int) bool { return i >= n } }
	tests := map[string]struct {
		refusal  string
		at       func(n int) bool // commands from 0
		opts     []rest.CallOption
		rows     int // 400 in all
		err      error
		requests []int
		waits    bool // for the minute of a blocked method
	}{
		"limit of requests":                 {refusal: limited, at: only(4), rows: 400, requests: []int{1, 4, 1, 3, 12}},
		"limit of requests, first of batch": {refusal: limited, at: only(1), rows: 400, requests: []int{1, 4, 1, 2, 8, 1}},
		"operating time":                    {refusal: blocked, at: only(4), rows: 400, requests: []int{1, 4, 1, 3, 12}, waits: true},
		"operating time, the single page":   {refusal: blocked, at: only(0), rows: 400, requests: []int{1, 1, 4, 16, 1}, waits: true},
		"operating time, first of batch":    {refusal: blocked, at: only(1), rows: 400, requests: []int{1, 4, 1, 2, 8, 1}, waits: true},
		"operating time, without repetition": {
			refusal: blocked, at: from(4), opts: []rest.CallOption{rest.Retries(0)}, rows: 200, err: rest.ErrOperationTimeLimit,
			requests: []int{1, 4},
		},
		"operating time, for good": {
			refusal: blocked, at: from(4), rows: 200, err: rest.ErrOperationTimeLimit, requests: []int{1, 4, 1, 1}, waits: true,
		},
		"access denied":                 {refusal: denied, at: from(4), rows: 200, err: rest.ErrAccessDenied, requests: []int{1, 4, 1}},
		"access denied, first of batch": {refusal: denied, at: from(1), rows: 50, err: rest.ErrAccessDenied, requests: []int{1, 4, 1}},
		"access denied, without repetition": {
			refusal: denied, at: from(1), opts: []rest.CallOption{rest.Retries(0)}, rows: 50, err: rest.ErrAccessDenied, requests: []int{1, 4},
		},
		"not in a batch":         {refusal: unbatched, at: always, rows: 400, requests: []int{1, 4, 1, 1, 1, 1, 1, 1, 1, 1}},
		"access denied, at once": {refusal: denied, at: always, rows: 0, err: rest.ErrAccessDenied, requests: []int{1}},
		"an error that passes":   {refusal: broken, at: only(4), rows: 400, requests: []int{1, 4, 1, 3, 12}},
		"token":                  {refusal: expired, at: only(4), rows: 400, requests: []int{1, 4, 1, 3, 12}},
		"behind the end":         {refusal: denied, at: from(9), rows: 410, requests: []int{1, 4, 16, 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tb := count(400)
				if name == "behind the end" {
					tb = count(410) // a short page: what comes after it is not looked at
				}
				tb.before = func(n int, cmd command) string {
					single := cmd.inBatch < 0 && test.refusal == unbatched
					if test.at(n) && !single && (name != "behind the end" || cmd.inBatch > 0) {
						return test.refusal
					}
					return ""
				}
				start := time.Now()
				client := tb.portals(t).Portal("a").With(test.opts...)
				ids, err := read(rest.All[idRow](t.Context(), client, "crm.deal.list", nil, byID()...))
				require.ErrorIs(t, err, test.err)
				require.Equal(t, fmt.Sprint(span(1, uint64(test.rows), nil)), fmt.Sprint(ids)) //nolint:gosec // it is no less than 0
				require.Equal(t, test.requests, tb.requests())
				require.Equal(t, test.waits, time.Since(start) >= 45*time.Second)
			})
		})
	}
}

// What a failing batch does besides its response.
const (
	statusNever = -1
	statusHuge  = 299
)

// spaces is a body without end.
type spaces string

func (s spaces) Read(p []byte) (int, error) { return copy(p, s), nil }

// TestAllByIDHalves lets batches of many pages fail as a whole.
func TestAllByIDHalves(t *testing.T) {
	t.Parallel()
	large := func(most, status int, body string, err error) func(int) (int, string, error) {
		return func(commands int) (int, string, error) {
			if commands > most {
				return status, body, err
			}
			return 0, "", nil
		}
	}
	tests := map[string]struct {
		fail     func(commands int) (status int, body string, err error)
		took     float64
		working  float64 // of took, if the portal says it
		opts     []rest.CallOption
		limit    time.Duration // of the HTTP client
		rows     int           // 2,000 unless told otherwise
		err      error
		requests []int
	}{
		"too large, without repetition": {
			fail: large(9, statusHuge, "", nil), opts: []rest.CallOption{rest.Retries(0)}, rows: 300, requests: []int{1, 4, 16, 8, 1},
		},
		"bad gateway":    {fail: large(20, 502, "<html>", nil), requests: []int{1, 4, 16, 50, 25, 12, 12, 1}},
		"body too large": {fail: large(20, 413, "<html>", nil), requests: []int{1, 4, 16, 50, 25, 12, 12, 1}},
		"unavailable":    {fail: large(20, 503, "<html>", nil), requests: []int{1, 4, 16, 50, 25, 12, 12, 1}},
		"internal": {
			fail: large(20, 500, `{"error":"INTERNAL_SERVER_ERROR"}`, nil), requests: []int{1, 4, 16, 50, 25, 12, 12, 1},
		},
		"cut off":     {fail: large(20, 200, `{"result":{"result":{"p0":[`, nil), requests: []int{1, 4, 16, 50, 25, 12, 12, 1}},
		"connection":  {fail: large(20, 0, "", io.EOF), requests: []int{1, 4, 16, 50, 25, 12, 12, 1}},
		"every batch": {fail: large(1, 502, "<html>", nil), rows: 250, requests: []int{1, 4, 2, 1, 1, 1, 1, 1}},
		"without repetition": {
			fail: large(20, 502, "<html>", nil), opts: []rest.CallOption{rest.Retries(0)}, rows: 1050, err: rest.ErrBadResponse,
			requests: []int{1, 4, 16, 50},
		},
		"time limit of the HTTP client": {
			fail: large(20, statusNever, "", nil), limit: 5 * time.Second, requests: []int{1, 4, 16, 50, 25, 12, 12, 1},
		},
		"time of the call": {
			fail: large(20, statusNever, "", nil), opts: []rest.CallOption{rest.Timeout(5 * time.Second)},
			requests: []int{1, 4, 16, 50, 25, 12, 12, 1},
		},
		"refused by a front end": {fail: large(1, 403, "<html>", nil), rows: 250, requests: []int{1, 4, 1, 1, 1, 1, 1}},
		"limited by a front end": {
			fail: large(1, 429, "<html>", nil), opts: []rest.CallOption{rest.Retries(1)}, rows: 50, err: rest.ErrBadResponse,
			requests: []int{1, 4, 4},
		},
		"rounded times":   {took: 1.05, working: 0.05, rows: 6000, requests: []int{1, 4, 16, 50, 50, 1}},
		"slow pages":      {took: 1.5, requests: []int{1, 4, 13, 13, 13, 1}},
		"very slow pages": {took: 15, rows: 200, requests: []int{1, 1, 1, 1, 1}},
		"slow for the time of a call": {
			took: 1, opts: []rest.CallOption{rest.Timeout(8 * time.Second)}, rows: 500, requests: []int{1, 4, 4, 4, 1},
		},
		"absurd times": {took: 1e300, rows: 200, requests: []int{1, 4, 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rows := uint64(2000)
				if test.rows > 0 {
					rows = uint64(test.rows)
				}
				tb := count(int(rows))
				if test.err != nil {
					tb = count(2000)
				}
				tb.took, tb.working = test.took, test.working
				tr := newScript(t, func(s sent) (int, string, error) {
					if test.fail != nil && s.method == "batch" {
						status, body, err := test.fail(s.commands())
						if status != 0 || err != nil {
							tb.mu.Lock()
							tb.batches = append(tb.batches, s.commands())
							tb.mu.Unlock()
							if status == statusNever {
								<-time.After(time.Minute)
							}
							return max(status, 200), body, err
						}
					}
					return tb.respond(s)
				})
				own := http.Client{Timeout: test.limit, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					response, err := tr.RoundTrip(r)
					if err == nil && response.StatusCode == statusHuge { // more than a network in memory carries
						_ = response.Body.Close()
						response.Body = io.NopCloser(spaces(strings.Repeat(" ", 64<<10)))
					}
					return response, err
				})}
				client := newHosts(t, rest.WithHTTPClient(&own), rest.WithoutRateLimit()).Portal("a").With(test.opts...)
				ids, err := read(rest.All[idRow](t.Context(), client, "crm.deal.list", nil, byID()...))
				require.ErrorIs(t, err, test.err)
				require.Equal(t, span(1, rows, nil), ids)
				require.Equal(t, test.requests, tb.requests())
			})
		})
	}
}

// TestAllByIDGrowsAgain: a failure halves the batches for a while, and for good if it is for the
// size.
func TestAllByIDGrowsAgain(t *testing.T) {
	t.Parallel()
	for status, most := range map[int]int{502: 50, 413: 25} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tb := count(20_000)
				failed := false
				tr := newScript(t, func(s sent) (int, string, error) {
					if s.commands() == 50 && !failed {
						failed = true
						return status, "<html>", nil
					}
					return tb.respond(s)
				})
				client := newHosts(t, on(tr), rest.WithoutRateLimit()).Portal("a")
				ids, err := read(rest.All[idRow](t.Context(), client, "crm.deal.list", nil, byID()...))
				require.NoError(t, err)
				require.Len(t, ids, 20_000)
				requests := tb.requests()
				require.Equal(t, 25, requests[3], "after the 50 that failed")
				require.Equal(t, most, slices.Max(requests[4:]))
			})
		})
	}
}

// TestAllByIDWaitsForThePause: another call found that the method is blocked.
func TestAllByIDWaitsForThePause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tb := count(200)
		refuse := false
		tb.before = func(int, command) string {
			if refuse {
				return blocked
			}
			return ""
		}
		client := tb.portals(t).Portal("a")
		start := time.Now()
		ids, err := read(rest.All[idRow](t.Context(), client, "crm.deal.list", nil, byID()...), func(id uint64) bool {
			if id == 50 {
				refuse = true
				require.ErrorIs(t, client.With(rest.Retries(0)).Call(t.Context(), "crm.deal.list", nil, nil), rest.ErrOperationTimeLimit)
				refuse = false
			}
			if id == 51 {
				require.Equal(t, time.Minute, time.Since(start))
			}
			return true
		})
		require.NoError(t, err)
		require.Len(t, ids, 200)
		require.Equal(t, []int{1, 1, 4, 1}, tb.requests())
	})
}

func TestAllByIDStops(t *testing.T) {
	t.Parallel()
	t.Run("at a break, with the pages that it has", func(t *testing.T) {
		t.Parallel()
		tb := count(4000)
		client := tb.portals(t).Portal("a")
		for stop, requests := range map[uint64][]int{
			1: {1}, 50: {1}, 51: {1, 4}, 250: {1, 4}, 251: {1, 4, 16}, 1050: {1, 4, 16}, 1051: {1, 4, 16, 50},
		} {
			ids, err := read(rest.All[idRow](t.Context(), client, "crm.deal.list", nil, byID()...), func(id uint64) bool { return id < stop })
			require.NoError(t, err)
			require.Equal(t, span(1, stop, nil), ids)
			require.Equal(t, requests, tb.requests(), stop)
		}
	})
	t.Run("with the context, within a batch", func(t *testing.T) {
		t.Parallel()
		tb := count(4000)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ids, err := read(rest.All[idRow](ctx, tb.portals(t).Portal("a"), "crm.deal.list", nil, byID()...), func(id uint64) bool {
			if id == 777 {
				cancel()
			}
			return true
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, span(1, 777, nil), ids)
		require.Equal(t, []int{1, 4, 16}, tb.requests())
	})
	t.Run("with the context, while a batch is under way", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			tb := count(4000)
			tr := newScript(t, func(s sent) (int, string, error) {
				if s.commands() == 50 {
					<-time.After(time.Minute)
				}
				return tb.respond(s)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			start := time.Now()
			ids, err := read(rest.All[idRow](ctx, newHosts(t, on(tr)).Portal("a"), "crm.deal.list", nil, byID()...))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "crm.deal.list", "it is about the list, not about a batch")
			require.Equal(t, span(1, 1050, nil), ids)
			require.Equal(t, 10*time.Second, time.Since(start))
			require.Equal(t, 4, tr.count())
		})
	})
	t.Run("when there is no time for a pause", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			tb := count(400)
			tb.before = func(n int, _ command) string {
				if n >= 4 {
					return blocked
				}
				return ""
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			ids, err := read(rest.All[idRow](ctx, tb.portals(t).Portal("a"), "crm.deal.list", nil, byID()...))
			require.ErrorIs(t, err, rest.ErrOperationTimeLimit)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			_, later := rest.Retryable(err)
			require.True(t, later)
			require.Equal(t, span(1, 200, nil), ids)
			require.Equal(t, []int{1, 4}, tb.requests())
		})
	})
	t.Run("when ranged again", func(t *testing.T) {
		t.Parallel()
		tb := count(700)
		rows := rest.All[idRow](t.Context(), tb.portals(t).Portal("a"), "crm.deal.list", nil, byID()...)
		for range 2 {
			ids, err := read(rows)
			require.NoError(t, err)
			require.Equal(t, span(1, 700, nil), ids)
			require.Equal(t, []int{1, 4, 16, 1}, tb.requests())
		}
	})
}

func TestAfter(t *testing.T) {
	t.Parallel()
	const most = 1<<64 - 1
	tests := map[string]struct {
		ids    []uint64 // 1 to 200 unless told otherwise
		params any
		opts   []rest.ListOption
		want   []uint64
		bounds []string // of the first commands
		err    error
	}{
		"the start":          {opts: []rest.ListOption{rest.After(0)}, want: span(1, 200, nil), bounds: []string{"", "50"}},
		"in between":         {opts: []rest.ListOption{rest.After(77)}, want: span(78, 200, nil), bounds: []string{"77", "127"}},
		"the end":            {opts: []rest.ListOption{rest.After(200)}, bounds: []string{"200"}},
		"an ID that is gone": {ids: []uint64{1, 5, 9}, opts: []rest.ListOption{rest.After(6)}, want: []uint64{9}, bounds: []string{"6", "9"}},
		"single pages": {
			opts: []rest.ListOption{rest.After(190), rest.SinglePages()}, want: span(191, 200, nil), bounds: []string{"190", "200"},
		},
		"lower than a filter": {
			params: map[string]any{"filter": map[string]any{">ID": 150}}, opts: []rest.ListOption{rest.After(20)}, want: span(151, 200, nil),
			bounds: []string{"150", "200"},
		},
		"above a filter": {
			params: map[string]any{"filter": map[string]any{">ID": 150}}, opts: []rest.ListOption{rest.After(170)}, want: span(171, 200, nil),
			bounds: []string{"170", "200"},
		},
		"filter, start": {
			params: map[string]any{"filter": map[string]any{">ID": "150"}}, opts: []rest.ListOption{rest.After(0)}, want: span(151, 200, nil),
			bounds: []string{"150", "200"},
		},
		"numbers above 2^53": {
			ids: []uint64{1, 1<<53 + 1, 1<<53 + 2}, opts: []rest.ListOption{rest.After(1<<53 + 1)}, want: []uint64{1<<53 + 2},
			bounds: []string{"9007199254740993", "9007199254740994"},
		},
		"the largest number": {
			ids: []uint64{1, most - 1, most}, opts: []rest.ListOption{rest.After(most - 1)}, want: []uint64{most},
			bounds: []string{"18446744073709551614", "18446744073709551615"},
		},
		"filter is no number": {
			params: map[string]any{"filter": map[string]any{">ID": "planted-value"}}, opts: []rest.ListOption{rest.After(1)}, err: rest.ErrBadCall,
		},
		"filter is a list": {
			params: map[string]any{"filter": map[string]any{">ID": []int{1}}}, opts: []rest.ListOption{rest.After(20)}, want: span(21, 200, nil),
			bounds: []string{"20"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := count(200)
			if test.ids != nil {
				tb.ids = test.ids
			}
			var bounds []string
			tb.before = func(_ int, cmd command) string {
				bounds = append(bounds, cmd.get("filter[>ID]"))
				return ""
			}
			if len(test.ids) > 0 && test.ids[len(test.ids)-1] == most {
				tb.page = func(_ int, cmd command, ids []uint64) []uint64 { // one more than the largest is 0
					return slices.DeleteFunc(ids, func(uint64) bool { return cmd.get("filter[>ID]") == strconv.FormatUint(most, 10) })
				}
			}
			ids, err := read(rest.All[idRow](t.Context(), tb.portals(t).Portal("a"), "crm.deal.list", test.params, byID(test.opts...)...))
			require.ErrorIs(t, err, test.err)
			if err != nil {
				require.NotContains(t, err.Error(), "planted-value")
			}
			require.Equal(t, test.want, ids)
			require.GreaterOrEqual(t, len(bounds), len(test.bounds))
			require.Equal(t, test.bounds, bounds[:len(test.bounds)])
		})
	}
}

// TestAfterAnyBreak reads random lists, stops after a random row, and resumes after it, again and
// again. The rows are those of one reading.
func TestAfterAnyBreak(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64() //nolint:gosec // no secret depends on it
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret depends on it
	const unreachable = `{"error":"CONNECTION_ERROR","error_description":"a refusal that passes"}`
	for range 12 {
		synctest.Test(t, func(t *testing.T) {
			tb := &table{}
			id := uint64(0)
			for range random.IntN(900) {
				id += 1 + random.Uint64N(3)
				tb.ids = append(tb.ids, id)
			}
			if random.IntN(2) == 0 {
				modulus := 2 + random.Uint64N(300)
				tb.hidden = func(id uint64) bool { return id%modulus == 0 }
			}
			if random.IntN(3) == 0 {
				odd := 2 + random.IntN(20)
				tb.before = func(n int, _ command) string {
					if n%odd == 1 {
						return unreachable
					}
					return ""
				}
			}
			client := tb.portals(t).Portal("a")
			options := []rest.ListOption{rest.ByID("ID")}
			if random.IntN(4) == 0 {
				options = append(options, rest.SinglePages())
			}
			var got []uint64
			for last := uint64(0); ; {
				left := 1 + random.IntN(400)
				rows := rest.All[idRow](t.Context(), client, "crm.deal.list", nil, append(slices.Clone(options), rest.After(last))...)
				ids, err := read(rows, func(uint64) bool {
					left--
					return left > 0
				})
				require.NoError(t, err)
				got = append(got, ids...)
				if left > 0 {
					break
				}
				last = ids[len(ids)-1]
			}
			want := slices.Clone(tb.ids)
			if tb.hidden != nil {
				want = slices.DeleteFunc(want, tb.hidden)
			}
			require.Equal(t, fmt.Sprint(want), fmt.Sprint(got))
		})
	}
}

func TestAllByIDNames(t *testing.T) {
	t.Parallel()
	type of = map[string]any
	upper := tableNames{filter: "FILTER", order: "ORDER"}
	tests := map[string]struct {
		table  tableNames
		method string
		params any
		err    error
	}{
		"small letters":         {method: "crm.deal.list"},
		"groups":                {table: upper, method: "sonet_group.get"},
		"groups, any case":      {table: upper, method: "Sonet_Group.Get"},
		"groups, with a filter": {table: upper, method: "sonet_group.get", params: of{"FILTER": of{"ACTIVE": "Y"}}},
		"cash registers":        {table: upper, method: "sale.cashbox.list"},
		"tasks of workflows":    {table: upper, method: "bizproc.task.list"},
		"users":                 {table: tableNames{filter: "FILTER", sort: "sort", order: "order"}, method: "user.get"},
		"users by name":         {table: tableNames{filter: "FILTER", sort: "sort", order: "order"}, method: "user.search"},
		"users, as the caller says": {
			table: tableNames{filter: "filter", sort: "SORT", order: "ORDER"}, method: "user.get",
			params: of{"SORT": "ID", "ORDER": "asc", "filter": of{"ACTIVE": "Y"}},
		},
		"calls": {table: tableNames{filter: "FILTER", sort: "SORT", order: "ORDER"}, method: "voximplant.statistic.get"},
		"storage": {
			table: tableNames{filter: "FILTER", order: "SORT"}, method: "entity.item.get", params: of{"ENTITY": "selection"},
		},
		"lists":                  {table: tableNames{filter: "FILTER", order: "ELEMENT_ORDER"}, method: "lists.element.get"},
		"unknown method, filter": {table: upper, method: "acme.things.list", params: of{"FILTER": of{"ACTIVE": "Y"}}},
		"unknown method, order":  {table: upper, method: "acme.things.list", params: of{"ORDER": of{"ID": "ASC"}}},
		"unknown method, scalars": {
			table: tableNames{filter: "FILTER", sort: "SORT", order: "ORDER"}, method: "acme.things.list",
			params: rest.Ordered{rest.Arg("SORT", "ID"), rest.Arg("ORDER", "ASC")},
		},
		"unknown method, sort": {
			table: tableNames{filter: "FILTER", order: "SORT"}, method: "acme.things.list", params: of{"SORT": of{"ID": "ASC"}},
		},
		"unknown method, neither":    {table: upper, method: "acme.things.list", err: rest.ErrBadResponse},
		"order of the caller":        {method: "crm.deal.list", params: of{"order": of{"ID": "asc"}}},
		"order of the caller, other": {method: "crm.deal.list", params: of{"order": of{"ID": "DESC"}}, err: rest.ErrBadCall},
		"order of the caller, two":   {method: "crm.deal.list", params: of{"order": of{"ID": "ASC", "TITLE": "ASC"}}, err: rest.ErrBadCall},
		"direction without a field":  {method: "user.get", params: of{"order": "ASC"}, err: rest.ErrBadCall},
		"field without a direction":  {method: "user.get", params: of{"sort": "ID"}, err: rest.ErrBadCall},
		"another field":              {method: "user.get", params: of{"sort": "NAME", "order": "ASC"}, err: rest.ErrBadCall},
		"storage, another field":     {method: "entity.item.get", params: of{"SORT": of{"NAME": "ASC"}}, err: rest.ErrBadCall},
		"a key in a key":             {method: "crm.deal.list", params: of{"order": of{"ID": of{"a": "ASC"}}}, err: rest.ErrBadCall},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := count(130)
			tb.tableNames = test.table
			kept, mixed := 0, 0
			tb.before = func(_ int, cmd command) string {
				spellings := map[string]string{}
				for key := range cmd.form {
					if strings.HasSuffix(key, "[ACTIVE]") {
						kept++
					}
					top, _, _ := strings.Cut(key, "[")
					if other, twice := spellings[strings.ToLower(top)]; twice && other != top {
						mixed++ // a method that folds the case takes one of them
					}
					spellings[strings.ToLower(top)] = top
				}
				return ""
			}
			client := tb.portals(t).Portal("a")
			ids, err := read(rest.All[idRow](t.Context(), client, test.method, test.params, byID()...))
			require.ErrorIs(t, err, test.err)
			if err != nil {
				require.Empty(t, ids)
				return
			}
			require.Equal(t, span(1, 130, nil), ids)
			require.Equal(t, strings.Contains(fmt.Sprint(test.params), "ACTIVE"), kept > 0)
			require.Zero(t, mixed)
			ids, err = read(rest.All[idRow](t.Context(), client, test.method, test.params, byID(rest.After(60), rest.SinglePages())...))
			require.NoError(t, err)
			require.Equal(t, span(61, 130, nil), ids)
		})
	}
}

// TestAllByIDOnGroups: the portal knows ORDER alone, and orders by ID descending without it.
func TestAllByIDOnGroups(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	for i := range 120 {
		_, err := p.Add(eventtest.Workgroup, map[string]any{"NAME": strconv.Itoa(i), "VISIBLE": "Y"}, eventtest.AdminID)
		require.NoError(t, err)
	}
	address, err := p.AddIncomingWebhook(eventtest.AdminID, "sonet")
	require.NoError(t, err)
	client, err := rest.NewWebhook(string(address), rest.WithInsecureHTTP())
	require.NoError(t, err)
	ids, err := read(rest.All[idRow](t.Context(), client, "sonet_group.get", nil, byID()...))
	require.NoError(t, err)
	require.Len(t, ids, 120)
	require.True(t, slices.IsSorted(ids))
}

// doer is a Doer that is not a client.
type doer struct{ rest.Doer }

func TestAllByIDWithoutAClient(t *testing.T) {
	t.Parallel()
	tb := count(120)
	ids, err := read(rest.All[idRow](t.Context(), doer{tb.portals(t).Portal("a")}, "crm.deal.list", nil, byID()...))
	require.NoError(t, err)
	require.Equal(t, span(1, 120, nil), ids)
	require.Equal(t, []int{1, 1, 1, 1}, tb.requests())
}

// TestAllByIDOnTheWire: what a batch of pages looks like.
func TestAllByIDOnTheWire(t *testing.T) {
	t.Parallel()
	tb := count(75)
	tb.member, tb.field = "items", "id"
	tr := newScript(t, tb.respond)
	params := map[string]any{"entityTypeId": 2, "filter": map[string]any{"title": "a&b"}}
	ids, err := read(rest.All[idRow](t.Context(), newHosts(t, on(tr)).Portal("a"), "crm.item.list", params, rest.ByID("id")))
	require.NoError(t, err)
	require.Len(t, ids, 75)
	requests := tr.requests()
	require.Len(t, requests, 3)
	require.Equal(t, "crm.item.list", requests[0].method)
	require.Equal(t, url.Values{
		"entityTypeId": {"2"}, "filter[title]": {"a&b"}, "order[id]": {"ASC"}, "start": {"-1"}, "auth": {secretToken},
	}, requests[0].form)
	form := requests[1].form
	require.Equal(t, "batch", requests[1].method)
	require.Equal(t, "1", form.Get("halt"))
	for name, bound := range map[string]string{"p0": "50", "p1": "$result[p0][items][49][id]", "p3": "$result[p2][items][49][id]"} {
		method, query, _ := strings.Cut(form.Get("cmd["+name+"]"), "?")
		require.Equal(t, "crm.item.list", method)
		command, err := url.ParseQuery(query)
		require.NoError(t, err)
		require.Equal(t, url.Values{
			"entityTypeId": {"2"}, "filter[title]": {"a&b"}, "order[id]": {"ASC"}, "start": {"-1"}, "filter[>id]": {bound},
		}, command)
	}
}

// TestAllByPositionEnds: a portal cannot keep a list going without rows.
func TestAllByPositionEnds(t *testing.T) {
	t.Parallel()
	start := func(s sent) int {
		n, err := strconv.Atoi(s.form.Get("start"))
		if err != nil {
			return -1
		}
		return n
	}
	emptyFirst := func(rows int) func(int) string { // of 2
		return func(n int) string {
			return map[int]string{
				0: `{"result":[],"next":1,"total":2}`, 1: `{"result":[` + strings.Repeat(`,{"ID":1}`, rows)[1:] + `],"total":2}`,
			}[n]
		}
	}
	tests := map[string]struct {
		response func(start int) string
		rows     int
		requests int
		err      error
	}{
		"empty, no total":     {response: func(n int) string { return fmt.Sprintf(`{"result":[],"next":%d}`, n+50) }, requests: 2},
		"empty, total passed": {response: func(n int) string { return fmt.Sprintf(`{"result":[],"next":%d,"total":0}`, n+50) }, requests: 1},
		"empty, total grows": {
			response: func(n int) string { return fmt.Sprintf(`{"result":[],"next":%d,"total":%d}`, n+50, n+200) }, requests: 50,
			err: rest.ErrBadResponse,
		},
		"empty, total ends": {
			response: func(n int) string { return fmt.Sprintf(`{"result":[],"next":%d,"total":120}`, n+50) }, requests: 3, err: rest.ErrBadResponse,
		},
		"always the same page": {
			response: func(n int) string { return fmt.Sprintf(`{"result":[{"ID":1}],"next":%d}`, n+1) }, rows: 1, requests: 2,
			err: rest.ErrBadResponse,
		},
		"equal rows without IDs": {response: func(n int) string {
			return fmt.Sprintf(`{"result":[{"A":1}]%s}`, map[bool]string{true: fmt.Sprintf(`,"next":%d`, n+1)}[n < 3])
		}, rows: 4, requests: 4},
		"equal rows without end": {
			response: func(n int) string { return fmt.Sprintf(`{"result":[{"A":1}],"next":%d}`, n+50) }, rows: 50, requests: 51,
			err: rest.ErrBadResponse,
		},
		"the same IDs without end": {
			response: func(n int) string { return fmt.Sprintf(`{"result":[{"ID":1,"A":%d},{"ID":2}],"next":%d}`, n, n+50) }, rows: 100, requests: 51,
			err: rest.ErrBadResponse,
		},
		"the same IDs for two pages": {response: func(n int) string {
			return fmt.Sprintf(`{"result":[{"ID":1,"A":%d}]%s}`, n, map[bool]string{true: `,"next":50`}[n == 0])
		}, rows: 2, requests: 2},
		"empty page with rows after it": {response: emptyFirst(2), rows: 2, requests: 2},
		"empty page with rows left out": {response: emptyFirst(1), rows: 1, requests: 2, err: rest.ErrBadResponse},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newScript(t, func(s sent) (int, string, error) { return 200, test.response(start(s)), nil })
			n := 0
			var failed error
			client := newHosts(t, on(tr), rest.WithoutRateLimit()).Portal("a")
			for _, err := range rest.All[map[string]any](t.Context(), client, "crm.deal.list", nil) {
				if err != nil {
					failed = err
					break
				}
				if n++; n > 1000 { // without an end
					break
				}
			}
			require.ErrorIs(t, failed, test.err)
			require.Equal(t, test.rows, n)
			require.Equal(t, test.requests, tr.count())
		})
	}
}

func TestAllByPositionComparesTheTotal(t *testing.T) {
	t.Parallel()
	plus := func(k int) func(int) int { return func(total int) int { return total + k } }
	tests := map[string]struct {
		table  func(*table)
		params any
		rows   int
		err    error
	}{
		"equal":               {rows: 120},
		"smaller":             {table: func(tb *table) { tb.total = plus(-100) }, rows: 120},
		"the page's":          {table: func(tb *table) { tb.total = func(int) int { return 50 } }, rows: 120},
		"zero":                {table: func(tb *table) { tb.total = func(int) int { return 0 } }, rows: 120},
		"larger":              {table: func(tb *table) { tb.total = plus(1) }, rows: 120, err: rest.ErrBadResponse},
		"from a position":     {params: map[string]any{"start": 100}, rows: 20},
		"from behind the end": {params: map[string]any{"start": 500}, rows: 0},
		"from a position, larger": {
			params: map[string]any{"start": 100}, table: func(tb *table) { tb.total = plus(1) }, rows: 20, err: rest.ErrBadResponse,
		},
		"rows are deleted": {
			table: func(tb *table) { tb.before = func(n int, _ command) string { tb.ids = tb.ids[:120-n]; return "" } }, rows: 118,
		},
		"rows are deleted in front": {
			table: func(tb *table) { tb.before = func(n int, _ command) string { tb.ids = tb.ids[min(n, 1):]; return "" } }, rows: 118,
		},
		"rows are hidden before": {
			table: func(tb *table) { tb.hidden = func(id uint64) bool { return id == 10 } }, rows: 119, err: rest.ErrBadResponse,
		},
		"pages are short": {table: func(tb *table) {
			tb.page = func(_ int, _ command, ids []uint64) []uint64 { return ids[:min(20, len(ids))] }
		}, rows: 60, err: rest.ErrBadResponse},
		"rows are hidden": {
			table: func(tb *table) { tb.hidden = func(id uint64) bool { return id == 110 } }, rows: 119, err: rest.ErrBadResponse,
		},
		"by ID it does not matter": {params: map[string]any{}, table: func(tb *table) { tb.total = plus(1) }, rows: 120},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := count(120)
			if test.table != nil {
				test.table(tb)
			}
			var opts []rest.ListOption
			if strings.HasPrefix(name, "by ID") {
				opts = byID()
			}
			ids, err := read(rest.All[idRow](t.Context(), tb.portals(t).Portal("a"), "crm.deal.list", test.params, opts...))
			require.ErrorIs(t, err, test.err)
			require.Len(t, ids, test.rows)
			if err != nil {
				var e *rest.Error
				require.ErrorAs(t, err, &e)
				require.Contains(t, e.Hint, "counts 12")
			}
		})
	}
}

func ExampleAfter() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()

	type Deal struct {
		ID    uint64
		Title string
	}
	last := uint64(0) // the ID that an earlier run kept
	for range 2 {
		client := api.Portal(portal.MemberID())
		for deal, err := range rest.All[Deal](context.Background(), client, "crm.deal.list", nil, rest.ByID("ID"), rest.After(last)) {
			if err != nil {
				panic(err)
			}
			fmt.Println(deal.ID, deal.Title)
			last = deal.ID
			break // the program ends here, for one reason or another
		}
	}
	// Output:
	// 1 Chairs
	// 2 Tables
}
