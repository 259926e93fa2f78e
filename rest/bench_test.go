package rest_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/rest"
)

// instant responds at once, so that the benchmark measures this package and the client of net/http
// around it.
func instant(body string) rest.Option {
	return on(roundTrip(func(r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body)
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}))
}

func BenchmarkCall(b *testing.B) {
	const body = `{"result":{"ID":"42","TITLE":"x"},"time":{"start":1,"finish":2,"operating":0.1}}`
	client := newHosts(b, instant(body), rest.WithoutRateLimit()).Portal("a")
	params := map[string]map[string]any{
		"small": {"id": 42},
		"list": {
			"filter": map[string]any{">ID": 100, "@STAGE_ID": []string{"NEW", "WON"}},
			"select": []string{"ID", "TITLE", "STAGE_ID", "CONTACT_ID"}, "order": map[string]any{"ID": "ASC"},
		},
	}
	for name, p := range params {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var d deal
				if err := client.Call(b.Context(), "crm.deal.get", p, &d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBatch(b *testing.B) {
	var body strings.Builder
	for i := range 50 {
		body.WriteString(`,"n` + strconv.Itoa(i) + `":{"ID":"42","TITLE":"x"}`)
	}
	client := newHosts(b, instant(`{"result":{"result":{`+body.String()[1:]+`},"result_error":[]}}`), rest.WithoutRateLimit()).Portal("a")
	b.ReportAllocs()
	for b.Loop() {
		batch := rest.NewBatch()
		for i := range 50 {
			rest.Add[deal](batch, "n"+strconv.Itoa(i), "crm.deal.get", map[string]any{"id": i})
		}
		if err := client.Batch(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		if err := batch.Err(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCoalescer makes calls at the same time on a portal over real HTTP. The figure that
// counts is requests per call.
func BenchmarkCoalescer(b *testing.B) {
	for _, callers := range []int{50, 500} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			w := newWorld(b)
			w.deals(b, 50, strconv.Itoa)
			tr := &tap{next: http.DefaultTransport}
			c := w.portals(b, on(tr), rest.WithoutRateLimit()).Coalescer(w.MemberID())
			calls := 0
			b.ReportAllocs()
			for b.Loop() {
				var wg sync.WaitGroup
				for i := range callers {
					wg.Go(func() {
						if err := c.Call(b.Context(), "crm.deal.get", map[string]any{"id": i%50 + 1, "n": i}, nil); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				calls += callers
			}
			b.ReportMetric(float64(tr.count())/float64(calls), "requests/call")
		})
	}
}

// BenchmarkAfterACancelledCrowd measures how long a call waits after 500 waiting calls were
// canceled. The portal lets two a second through, so half a second is the least.
func BenchmarkAfterACancelledCrowd(b *testing.B) {
	var waited time.Duration
	for b.Loop() {
		client := newHosts(b, instant(fine)).Portal("a")
		ctx, cancel := context.WithCancel(b.Context())
		var crowd sync.WaitGroup
		for range 550 { // the bucket takes 50
			crowd.Go(func() { _ = client.Call(ctx, "crm.deal.add", nil, nil) })
		}
		for client.Stats().Waiting < 500 {
			runtime.Gosched()
		}
		cancel()
		crowd.Wait()
		start := time.Now()
		if err := client.Call(b.Context(), "crm.deal.add", nil, nil); err != nil {
			b.Fatal(err)
		}
		waited += time.Since(start)
	}
	b.ReportMetric(float64(waited.Milliseconds())/float64(b.N), "ms-waited")
}

// BenchmarkFetch500 fetches 500 objects, as the handlers of a burst of events do. The figure that
// counts is requests.
func BenchmarkFetch500(b *testing.B) {
	w := newWorld(b)
	w.deals(b, 500, strconv.Itoa)
	tr := &tap{next: http.DefaultTransport}
	c := w.portals(b, on(tr), rest.WithoutRateLimit()).Coalescer(w.MemberID())
	n := 0
	for b.Loop() {
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				if _, err := event.FetchByID[deal](b.Context(), c, event.OnCrmDealUpdate, int64(i+1)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		n++
	}
	b.ReportMetric(float64(tr.count())/float64(n), "requests")
}

// roundTrip responds without a network, for benchmarks.
func (tb *table) roundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	status, text, err := tb.respond(sent{method: path.Base(r.URL.Path), form: form})
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

// BenchmarkRows reads 100,000 rows from a portal that answers at once. The figure that counts is
// requests: portals in the cloud allow two a second.
func BenchmarkRows(b *testing.B) {
	const rows = 100_000
	for _, bench := range []struct {
		name string
		opts []rest.ListOption
	}{
		{"by position", nil},
		{"by ID, single pages", []rest.ListOption{rest.ByID("ID"), rest.SinglePages()}},
		{"by ID, in batches", []rest.ListOption{rest.ByID("ID")}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			tb := count(rows)
			client := newHosts(b, on(roundTrip(tb.roundTrip)), rest.WithoutRateLimit()).Portal("a")
			requests := 0
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for _, err := range rest.All[struct{ ID int64 }](b.Context(), client, "crm.deal.list", nil, bench.opts...) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != rows {
					b.Fatal(n, "rows")
				}
				requests += len(tb.requests())
			}
			b.ReportMetric(float64(requests)/float64(b.N), "requests")
		})
	}
}
