package rest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

func TestWhatIsRepeated(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	tests := map[string]struct {
		err         error
		body        string
		write, read int // requests
		retryable   bool
	}{
		"connection refused":        {err: dial(syscall.ECONNREFUSED), write: 5, read: 5, retryable: true},
		"name not resolved for now": {err: dial(&net.DNSError{Err: "try again", IsTemporary: true}), write: 5, read: 5, retryable: true},
		"no such name":              {err: dial(&net.DNSError{Err: "no such host", IsNotFound: true}), write: 1, read: 1},
		"proxy unreachable":         {err: &net.OpError{Op: "proxyconnect", Err: syscall.ECONNREFUSED}, write: 5, read: 5, retryable: true},
		"reset while reading":       {err: &net.OpError{Op: "read", Err: syscall.ECONNRESET}, write: 1, read: 5},
		"closed without an answer":  {err: io.EOF, write: 1, read: 5},
		"certificate":               {err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, write: 1, read: 1},
		"OAuth server not reached":  {body: `{"error":"CONNECTION_ERROR"}`, write: 5, read: 5, retryable: true},
		"rate limit":                {body: limited, write: 5, read: 5, retryable: true},
		"operating time":            {body: blocked, write: 2, read: 2, retryable: true},
		"busy page":                 {body: `<html>503`, write: 1, read: 5},
		"limit page":                {body: `<html>429`, write: 5, read: 5, retryable: true},
		"gateway page":              {body: `<html>502`, write: 1, read: 5},
		"internal error":            {body: `{"error":"INTERNAL_SERVER_ERROR"}`, write: 1, read: 5},
		"refusal":                   {body: `{"error":"ACCESS_DENIED"}`, write: 1, read: 1},
		"core error":                {body: `{"error":"ERROR_CORE"}`, write: 1, read: 1},
	}
	vias := map[string]func(*rest.Clients, ...rest.CallOption) rest.Doer{
		"Client":    func(api *rest.Clients, opts ...rest.CallOption) rest.Doer { return api.Portal("a").With(opts...) },
		"Coalescer": func(api *rest.Clients, opts ...rest.CallOption) rest.Doer { return api.Coalescer("a").With(opts...) },
	}
	for name, test := range tests {
		for via, client := range vias {
			t.Run(name+"/"+via, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					calls := func(method string, opts ...rest.CallOption) int {
						tr := newTransport(t, test.body)
						through, requests := on(tr), tr.count
						if test.err != nil { // before anything is sent
							var n atomic.Int64
							through = on(roundTrip(func(*http.Request) (*http.Response, error) { n.Add(1); return nil, test.err }))
							requests = func() int { return int(n.Load()) }
						}
						_, err := client(newHosts(t, through), opts...).Do(t.Context(), method, nil)
						require.Error(t, err)
						requireNoSecrets(t, err)
						_, ok := rest.Retryable(fmt.Errorf("wrapped: %w", err))
						require.Equal(t, test.retryable, ok)
						return requests()
					}
					require.Equal(t, test.write, calls("crm.deal.add"))
					require.Equal(t, test.read, calls("crm.deal.get"))
					require.Equal(t, test.read, calls("crm.deal.update", rest.Idempotent()))
					require.Equal(t, 1, calls("crm.deal.get", rest.Retries(0)))
				})
			})
		}
	}
}

func TestReadsByName(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"crm.deal.get": true, "crm.deal.list": true, "crm.deal.fields": true, "CRM.Deal.List": true, "tasks.task.getFields": true,
		"user.current": true, "profile": true, "event.get": true, "event.offline.list": true, "app.info": true,
		"event.offline.get": false, "event.offline.clear": false, "imbot.v2.Event.get": false, "crm.deal.add": false,
		"crm.deal.update": false, "batch": false, "event.bind": false, "widget": false, "target": false,
	}
	for method, read := range tests {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(sent) (int, string, error) { return 0, "", io.EOF })
				require.Error(t, newHosts(t, on(tr)).Portal("a").Call(t.Context(), method, nil, nil))
				require.Equal(t, read, tr.count() > 1)
			})
		})
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(sent) (int, string, error) { return 0, "", io.EOF })
		start := time.Now()
		require.Error(t, newHosts(t, on(tr)).Portal("a").Call(t.Context(), "profile", nil, nil))
		require.GreaterOrEqual(t, time.Since(start), 2250*time.Millisecond, "0.2+0.4+0.8+1.6 s, less a quarter")
		require.LessOrEqual(t, time.Since(start), 3750*time.Millisecond)

		// If the context leaves no time, the failure itself is returned, and at once.
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start = time.Now()
		err := newHosts(t, on(tr)).Portal("b").Call(ctx, "profile", nil, nil)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Zero(t, time.Since(start))
	})
}

func TestRetryable(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err   error
		after time.Duration
		ok    bool
	}{
		"nil":             {},
		"other":           {err: errors.New("x")},
		"context":         {err: context.DeadlineExceeded},
		"query limit":     {&rest.Error{Code: "query_limit_exceeded", Status: 503}, time.Second, true},
		"operating":       {&rest.Error{Code: rest.ErrOperationTimeLimit, Status: 429}, time.Second, true},
		"authorization":   {&rest.Error{Code: rest.ErrOAuthUnreachable}, time.Second, true},
		"page":            {err: &rest.Error{Code: rest.ErrBadResponse, Status: 503}},
		"limit page":      {&rest.Error{Code: rest.ErrBadResponse, Status: 429}, time.Second, true},
		"gateway timeout": {err: &rest.Error{Code: rest.ErrBadResponse, Status: 504}},
		"text only":       {err: &rest.Error{Code: "ERROR_CORE", Description: "Too many requests", Status: 503}},
		"access denied":   {err: &rest.Error{Code: rest.ErrAccessDenied, Status: 503}},
		"not run":         {err: &rest.Error{Code: rest.ErrNotRun}},
		"removed":         {err: &rest.Error{Code: rest.ErrApplicationMissing, Status: 503}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, ok := rest.Retryable(test.err)
			require.Equal(t, test.ok, ok)
			require.Equal(t, test.after, after)
		})
	}
}

// TestRetryableIsBounded: the wait counts from now, and is ten minutes at most.
func TestRetryableIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newHosts(t, on(newTransport(t, fine)), rest.WithRateLimit(0.001, 1)).Portal("a")
		require.NoError(t, client.Call(t.Context(), "profile", nil, nil))
		err := client.With(rest.Timeout(time.Second)).Call(t.Context(), "profile", nil, nil)
		for _, want := range []time.Duration{10 * time.Minute, 400 * time.Second, 0} { // its turn was 1,000 s after the first call
			after, ok := rest.Retryable(err)
			require.True(t, ok)
			require.Equal(t, want, after)
			pauseFor(10 * time.Minute)
		}
	})
}

// TestRetryableOfSeveral: if there are several errors, all must say that the call may be made
// again, and the longest wait counts.
func TestRetryableOfSeveral(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newHosts(t, on(newTransport(t, blockedFor(5*time.Minute))), rest.WithRetries(0)).Portal("a")
		long := client.Call(t.Context(), "crm.deal.add", nil, nil)
		short := &rest.Error{Code: rest.ErrQueryLimit}
		for _, err := range []error{errors.Join(long, short), errors.Join(short, long)} {
			after, ok := rest.Retryable(err)
			require.True(t, ok)
			require.Equal(t, 5*time.Minute, after)
		}
		_, ok := rest.Retryable(errors.Join(long, errors.New("x")))
		require.False(t, ok)
	})
}

// On a real portal: a lost response must not make a second deal, and a read is made again.
func TestLostResponses(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	w := newWorld(t)
	client := w.client(t)
	add := map[string]any{"fields": map[string]any{"TITLE": "x"}}

	w.Once("crm.deal.add", eventtest.LoseAnswer())
	err := client.Call(t.Context(), "crm.deal.add", add, nil)
	require.Error(t, err)
	require.Equal(t, 1, w.CallCount("crm.deal.add"))
	_, ok := rest.Retryable(err)
	require.False(t, ok)

	for _, fault := range []eventtest.Fault{
		eventtest.LoseAnswer(), eventtest.Reset(), eventtest.HTML(502), eventtest.Fail(500, "INTERNAL_SERVER_ERROR", "Internal server error"),
	} {
		w.Once("crm.deal.get", fault)
		deal, err := rest.Call[struct{ TITLE string }](t.Context(), client, "crm.deal.get", map[string]any{"id": 1})
		require.NoError(t, err)
		require.Equal(t, "x", deal.TITLE)
	}
	for _, fault := range []eventtest.Fault{
		eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"), eventtest.Fail(401, "CONNECTION_ERROR", ""), eventtest.HTML(429),
	} {
		client = w.client(t) // with a limiter that was not refused before
		before := w.CallCount("crm.deal.add")
		w.Once("crm.deal.add", fault)
		require.NoError(t, client.Call(t.Context(), "crm.deal.add", add, nil))
		require.Equal(t, before+2, w.CallCount("crm.deal.add"))
	}
	_, ok = w.Object(eventtest.Deal, 4)
	require.True(t, ok)
	_, ok = w.Object(eventtest.Deal, 5)
	require.False(t, ok)
}
