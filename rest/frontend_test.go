package rest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// frontEnd is an answer that does not come from a portal's method, once, and what a call makes of
// it. After it the portal answers.
type frontEnd struct {
	status     int
	retryAfter string
	packed     bool // the body is sent as gzip
	body       string

	min, max time.Duration // until the call is sent again
	notRun   bool          // then a call that writes is sent again too
	final    bool          // no call is sent again within a minute
	after    time.Duration // what Retryable says, if it is final
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

const (
	aboutASecond = 750 * time.Millisecond
	soon         = 150 * time.Millisecond
)

func frontEnds() map[string]frontEnd {
	second := frontEnd{min: aboutASecond, max: 1250 * time.Millisecond, notRun: true}
	limit := func(body string) frontEnd {
		f := second
		f.status, f.body = 429, body
		return f
	}
	unsure := func(status int, body string) frontEnd {
		return frontEnd{status: status, body: body, min: soon, max: 250 * time.Millisecond}
	}
	busy := func(body string) frontEnd {
		f := second
		f.status, f.body, f.notRun = 503, body, false
		return f
	}
	packed := func(f frontEnd) frontEnd { f.packed = true; return f }
	asked := func(f frontEnd, after string, exactly time.Duration) frontEnd {
		f.retryAfter, f.min, f.max, f.notRun = after, exactly, exactly, true
		return f
	}
	return map[string]frontEnd{
		"429, a page":                  limit("<html><h1>429 Too Many Requests</h1></html>"),
		"429, nothing":                 limit(""),
		"429, foreign JSON":            limit(`{"message":"API rate limit exceeded"}`),
		"429, words for a code":        limit(`{"error":"Too Many Requests"}`),
		"429, the status for a code":   limit(`{"error":{"code":429,"message":"slow down"}}`),
		"429, a code of a bot's limit": limit(`{"error":"TOO_MANY_REQUESTS","error_description":"too many"}`),
		"429, Retry-After in seconds":  asked(limit("<html>"), "2", 2*time.Second),
		"503, a page":                  busy("<html>503</html>"),
		"503, words for a code":        busy(`{"error":"Service Unavailable"}`),
		"503, Retry-After":             asked(busy("<html>"), "3", 3*time.Second),
		"503, broken gzip":             packed(busy("no gzip")),
		"503, Retry-After beyond what is waited": {
			status: 503, retryAfter: "600", body: "<html>", notRun: true, final: true, after: 10 * time.Minute,
		},
		"429, Retry-After of a day":    {status: 429, retryAfter: "86400", notRun: true, final: true, after: 10 * time.Minute},
		"401, a page":                  {status: 401, body: "<html>Log in</html>", final: true},
		"403, a page":                  {status: 403, body: "<html>Blocked</html>", final: true},
		"200, a page":                  unsure(200, "<html>Log in</html>"),
		"200, nothing":                 unsure(200, ""),
		"200, cut off":                 unsure(200, `{"result":{"ID":`),
		"200, a warning before":        unsure(200, "<br />\n<b>Warning</b>: x in y\n"+fine),
		"200, a comment after":         unsure(200, fine+"<!-- 0.12 s -->"),
		"200, broken gzip":             packed(unsure(200, "no gzip")),
		"502, a page":                  unsure(502, "<html>502</html>"),
		"502, 8 MiB of spaces as gzip": packed(unsure(502, zipped(strings.Repeat(" ", 8<<20)))),
		"504, foreign JSON":            unsure(504, `{"message":"Endpoint request timed out"}`),
		"500, a code":                  unsure(500, `{"error":"INTERNAL_SERVER_ERROR"}`),
	}
}

// responsesTo returns the response of a good portal to a request, which may be a batch.
func responsesTo(s sent) string {
	if s.method != "batch" {
		return fine
	}
	var results []string
	for key := range s.form {
		if name, ok := strings.CutPrefix(key, "cmd["); ok {
			results = append(results, `"`+strings.TrimSuffix(name, "]")+`":true`)
		}
	}
	return `{"result":{"result":{` + strings.Join(results, ",") + `}}}`
}

// ways are how a call can be made. Each makes one or two calls of a method and returns the error of
// one.
func ways() map[string]func(ctx context.Context, t *testing.T, api *rest.Clients, method string) error {
	return map[string]func(context.Context, *testing.T, *rest.Clients, string) error{
		"Client": func(ctx context.Context, _ *testing.T, api *rest.Clients, method string) error {
			return api.Portal("a").Call(ctx, method, nil, nil)
		},
		"Batch": func(ctx context.Context, _ *testing.T, api *rest.Clients, method string) error {
			b := rest.NewBatch()
			rest.Add[bool](b, "one", method, nil)
			rest.Add[bool](b, "two", method, nil)
			if err := api.Portal("a").Batch(ctx, b); err != nil {
				return err
			}
			return b.Err()
		},
		"Coalescer, alone": func(ctx context.Context, _ *testing.T, api *rest.Clients, method string) error {
			return api.Coalescer("a").Call(ctx, method, nil, nil)
		},
		"Coalescer, in company": func(ctx context.Context, t *testing.T, api *rest.Clients, method string) error {
			t.Helper()
			errs := make([]error, 2)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { errs[i] = api.Coalescer("a").Call(ctx, method, map[string]any{"n": i}, nil) })
			}
			wg.Wait()
			if (errs[0] == nil) != (errs[1] == nil) {
				t.Errorf("one of two calls failed: %v, %v", errs[0], errs[1])
			}
			return errors.Join(errs...)
		},
	}
}

// TestFrontEnds: an answer of a front end costs the call about a second, or what it asked for, and
// no other call anything. What may have run is not sent again unless it only reads.
func TestFrontEnds(t *testing.T) {
	t.Parallel()
	for name, f := range frontEnds() {
		for way, call := range ways() {
			for _, method := range []string{"crm.deal.get", "crm.deal.add"} {
				t.Run(name+"/"+way+"/"+method, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { f.check(t, call, method) })
				})
			}
		}
	}
}

func (f frontEnd) check(t *testing.T, call func(context.Context, *testing.T, *rest.Clients, string) error, method string) {
	t.Helper()
	var requests atomic.Int64
	tr := newScript(t, func(s sent) (int, string, error) {
		if s.method == "profile" {
			return 200, fine, nil
		}
		if requests.Add(1) == 1 {
			return f.status, f.body, nil
		}
		return 200, responsesTo(s), nil
	})
	tr.header = func(s sent, h http.Header) {
		if requests.Load() != 1 || s.method == "profile" {
			return
		}
		if f.retryAfter != "" {
			h.Set("Retry-After", f.retryAfter)
		}
		if f.packed {
			h.Set("Content-Encoding", "gzip")
		}
	}
	api := newHosts(t, on(unpacking{tr}))
	start := time.Now()
	var other sync.WaitGroup
	other.Go(func() { // of another method, while the first call waits
		pauseFor(100 * time.Millisecond)
		if err := api.Portal("a").Call(t.Context(), "profile", nil, nil); err != nil || time.Since(start) != 100*time.Millisecond {
			t.Errorf("another method: %v after %v", err, time.Since(start))
		}
	})
	err := call(t.Context(), t, api, method)
	took := time.Since(start)
	other.Wait()
	if again := !f.final && (f.notRun || method == "crm.deal.get"); again {
		require.NoError(t, err)
		require.GreaterOrEqual(t, took, f.min)
		require.LessOrEqual(t, took, f.max+2*rest.DefaultWindow)
		require.GreaterOrEqual(t, requests.Load(), int64(2))
		return
	}
	require.Error(t, err)
	require.Equal(t, int64(1), requests.Load())
	require.LessOrEqual(t, took, rest.DefaultWindow)
	for _, one := range unjoined(err) {
		var n interface{ NotRun() bool }
		require.ErrorAs(t, one, &n)
		require.Equal(t, f.notRun, n.NotRun(), "%v", one)
	}
	after, ok := rest.Retryable(err)
	require.Equal(t, f.notRun, ok)
	if f.final {
		require.LessOrEqual(t, after, f.after)
		require.GreaterOrEqual(t, after, f.after-time.Second)
	}
}

func unjoined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

func pauseFor(d time.Duration) { <-time.After(d) }

// unpacking does what http.Transport does with gzip, which the network in memory does not.
type unpacking struct{ next http.RoundTripper }

func (u unpacking) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := u.next.RoundTrip(r)
	if err == nil && response.Header.Get("Content-Encoding") == "gzip" {
		response.Body = &lateGzip{body: response.Body}
	}
	return response, err
}

// lateGzip opens the stream when it is read.
type lateGzip struct {
	body interface {
		Read(p []byte) (int, error)
		Close() error
	}
	zr *gzip.Reader
}

func (g *lateGzip) Read(p []byte) (int, error) {
	if g.zr == nil {
		var err error
		if g.zr, err = gzip.NewReader(g.body); err != nil {
			return 0, err
		}
	}
	return g.zr.Read(p)
}

func (g *lateGzip) Close() error { return g.body.Close() }

// TestPagesTwice: two pages of 429 in a row cost less than five seconds.
func TestPagesTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, "<html>429", "<html>429", fine)
		start := time.Now()
		require.NoError(t, newHosts(t, on(tr)).Portal("a").Call(t.Context(), "event.offline.get", nil, nil))
		require.Less(t, time.Since(start), 5*time.Second)
	})
}

// TestPagesForEver: a front end that never lets a call through costs it a quarter of a minute.
func TestPagesForEver(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"429": "<html>429", "503": "<html>503"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTransport(t, body)
				client := newHosts(t, on(tr)).Portal("a")
				for range 3 { // the later ones no longer than the first
					start := time.Now()
					err := client.Call(t.Context(), "crm.deal.get", nil, nil)
					require.ErrorIs(t, err, rest.ErrBadResponse)
					require.LessOrEqual(t, time.Since(start), 19*time.Second)
				}
			})
		})
	}
}

// TestWaitsForFrontEndsAreBounded: a front end asks again and again to come later. A call waits for
// half a minute in all.
func TestWaitsForFrontEndsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, "<html>503")
		tr.header = func(_ sent, h http.Header) { h.Set("Retry-After", "12") }
		start := time.Now()
		err := newHosts(t, on(tr)).Portal("a").Call(t.Context(), "crm.deal.add", nil, nil)
		require.ErrorIs(t, err, rest.ErrBadResponse)
		require.Equal(t, 24*time.Second, time.Since(start))
		require.Equal(t, 3, tr.count())
	})
}

// TestRetryAfterOfHugeNumbers: the time is capped, not ignored.
func TestRetryAfterOfHugeNumbers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"99999999999999999999", "9223372036854775807", "86400", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(sent) (int, string, error) { return 503, "<html>", nil })
				tr.header = func(_ sent, h http.Header) { h.Set("Retry-After", text) }
				err := newHosts(t, on(tr)).Portal("a").Call(t.Context(), "crm.deal.add", nil, nil)
				require.Equal(t, 1, tr.count())
				after, ok := rest.Retryable(err)
				require.True(t, ok, "the front end asked to come later")
				require.GreaterOrEqual(t, after, 2*time.Minute)
				require.LessOrEqual(t, after, 10*time.Minute)
			})
		})
	}
}

// TestForeignJSON: JSON of a front end with an error member that is not a portal's code.
func TestForeignJSON(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"message":"busy"}`, `{"error":"Service Unavailable"}`, `{"error":{"code":503,"message":"x"}}`, `{"error":true,"message":"x"}`,
		`{"error":{"message":"overloaded"}}`, `{"error":{"status":503}}`, `{"error":["x"]}`, `{"error":"unavailable","error_description":null}`,
		`{"error":1}`,
		`{"error":""}`, `{"error":null}`, `{"error":{}}`, `{"error":[]}`, `[]`, `""`, `null`, `{"error":{"code":"rate_limited","type":"x"}}`,
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(sent) (int, string, error) { return 503, body, nil })
				tr.header = func(_ sent, h http.Header) { h.Set("Retry-After", "120") }
				err := newHosts(t, on(tr)).Portal("a").Call(t.Context(), "crm.deal.add", nil, nil)
				after, ok := rest.Retryable(err)
				require.True(t, ok, "%v", err)
				require.Equal(t, 2*time.Minute, after)
			})
		})
	}
}
