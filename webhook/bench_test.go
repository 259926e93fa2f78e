package webhook_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// sink is a ResponseWriter that keeps the status.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(status int)      { s.status = status }

// reread is a request that can be served again and again.
type reread struct {
	r    *http.Request
	body *strings.Reader
	text string
}

func newReread(text string) *reread {
	body := strings.NewReader(text)
	r := request("")
	r.Body = io.NopCloser(body)
	return &reread{r: r, body: body, text: text}
}

func (r *reread) serve(b *testing.B, h http.Handler, want int) {
	b.Helper()
	r.body.Reset(r.text)
	r.r.Body = io.NopCloser(r.body)
	w := sink{header: make(http.Header)}
	h.ServeHTTP(&w, r.r)
	if w.status != want {
		b.Fatalf("status %d", w.status)
	}
}

const (
	unbounded = 1 << 30
	patience  = webhook.DefaultEnqueueTimeout * 60
)

func BenchmarkServeHTTP(b *testing.B) {
	accepted := dealUpdate(7)
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"accepted":  {accepted, http.StatusOK},
		"forbidden": {strings.ReplaceAll(accepted, token, strings.Repeat("f", 32)), http.StatusForbidden},
		"malformed": {"event[]=x", http.StatusBadRequest},
	} {
		b.Run(name, func(b *testing.B) {
			h := newHandler(b, nothing(), webhook.WithQueueSize(unbounded), webhook.WithEnqueueTimeout(patience))
			r := newReread(test.body)
			b.ReportAllocs()
			for b.Loop() {
				r.serve(b, h, test.status)
			}
			b.StopTimer()
			shutdown(b, h)
		})
	}
}

// BenchmarkParse is the part of BenchmarkServeHTTP that package event does.
func BenchmarkParse(b *testing.B) {
	text := []byte(dealUpdate(7))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := event.Parse(form, text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkServeHTTPParallel(b *testing.B) {
	for name, opts := range map[string][]webhook.Option{
		"many objects": nil,
		"coalesced":    {webhook.WithCoalescing(event.OnCrmDealUpdate)},
	} {
		b.Run(name, func(b *testing.B) {
			h := newHandler(b, nothing(), append(opts, webhook.WithQueueSize(unbounded), webhook.WithEnqueueTimeout(patience))...)
			var senders atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := newReread(dealUpdate(int(senders.Add(1))))
				for pb.Next() {
					r.serve(b, h, http.StatusOK)
				}
			})
			b.StopTimer()
			shutdown(b, h)
		})
	}
}

// nowhere discards log lines after they were formatted.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkForbiddenLogged measures a forged request with its log line.
func BenchmarkForbiddenLogged(b *testing.B) {
	h := newHandler(b, nothing(), webhook.WithLogger(slog.New(slog.NewJSONHandler(nowhere{}, nil))))
	r := newReread(strings.ReplaceAll(dealUpdate(7), token, strings.Repeat("f", 32)))
	b.ReportAllocs()
	for b.Loop() {
		r.serve(b, h, http.StatusForbidden)
	}
}

// BenchmarkHeld reports the memory of a queued delivery.
func BenchmarkHeld(b *testing.B) {
	release := make(chan struct{})
	h := newHandler(b, do(func(_ context.Context, _ *event.Delivery) error {
		<-release
		return nil
	}), webhook.WithQueueSize(unbounded))
	b.ReportAllocs()
	before := heap()
	n := 0
	for b.Loop() {
		n++
		r := newReread(dealUpdate(n))
		r.serve(b, h, http.StatusOK)
	}
	b.ReportMetric(float64(heap()-before)/float64(n), "B/held")
	b.ReportMetric(float64(len(dealUpdate(n))), "B/body")
	close(release)
	shutdown(b, h)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far from overflow
}

func BenchmarkStats(b *testing.B) {
	h := newHandler(b, nothing())
	for id := range 100 {
		post(h, dealUpdate(id+1))
	}
	b.ReportAllocs()
	for b.Loop() {
		if h.Stats().Accepted != 100 {
			b.Fatal("lost count")
		}
	}
	shutdown(b, h)
}
