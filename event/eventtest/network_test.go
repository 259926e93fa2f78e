package eventtest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// got is a response with its body.
type got struct {
	status int
	text   string // of the status
	header http.Header
	length int64 // as declared
	body   string
}

// get requests an address of a network.
func get(t *testing.T, n *eventtest.Network, target string) (got, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	require.NoError(t, err)
	resp, err := n.Client().Do(r)
	if err != nil {
		return got{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	body, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Status, resp.Header, resp.ContentLength, string(body)}, err
}

func TestNetworkRoutes(t *testing.T) {
	t.Parallel()
	n := eventtest.NewNetwork()
	named := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			scheme := "http"
			if r.TLS != nil {
				scheme = "https"
			}
			_, _ = io.WriteString(w, name+" "+scheme+" "+r.Host+" "+r.RequestURI) //nolint:gosec // nobody shows it
		})
	}
	n.Handle("Example.com", named("any port"))
	n.Handle("example.com:8443", named("one port"))
	n.Handle("example.com:80", named("port of http"))
	for target, want := range map[string]string{
		"https://example.com/a?b=c":  "any port https example.com /a?b=c",
		"https://EXAMPLE.com.":       "any port https EXAMPLE.com. /",
		"https://example.com:9/":     "any port https example.com:9 /",
		"https://example.com:8443/":  "one port https example.com:8443 /",
		"http://example.com/%2F%20/": "port of http http example.com /%2F%20/",
	} {
		a, err := get(t, n, target)
		require.NoError(t, err, target)
		require.Equal(t, want, a.body)
		require.Equal(t, "200 OK", a.text)
		require.Equal(t, int64(len(want)), a.length)
		require.Equal(t, "text/plain; charset=utf-8", a.header.Get("Content-Type"))
		require.NotEmpty(t, a.header.Get("Date"))
	}
	n.Handle("example.com", nil)
	_, err := get(t, n, "https://example.com/")
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "dial", op.Op)
	var dns *net.DNSError
	require.ErrorAs(t, err, &dns)
	require.True(t, dns.IsNotFound)
	for _, target := range []string{"ftp://example.com/", "https:///nowhere", "/relative"} {
		_, err := get(t, n, target)
		require.Error(t, err, target)
	}
}

func TestNetworkBreak(t *testing.T) {
	t.Parallel()
	n := eventtest.NewNetwork()
	n.Handle("example.com", http.NotFoundHandler())
	refused := errors.New("connection refused")
	n.Break("example.com", refused)
	_, err := get(t, n, "https://example.com/")
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "dial", op.Op)
	require.ErrorIs(t, err, refused)
	own := &net.OpError{Op: "remote error", Err: tls.AlertError(40)}
	n.Break("example.com", own)
	_, err = get(t, n, "https://example.com:444/")
	require.ErrorIs(t, err, own)
	n.Break("example.com", nil)
	a, err := get(t, n, "https://example.com/")
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, a.status)
}

func TestNetworkRequest(t *testing.T) {
	t.Parallel()
	n := eventtest.NewNetwork()
	n.Handle("example.com", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, err := httputil.DumpRequest(r, true)
		if err != nil {
			panic(err)
		}
		w.Header().Set("X-Length", http.StatusText(int(r.ContentLength)))
		_, _ = w.Write([]byte(r.RemoteAddr + "\n" + string(dump))) //nolint:gosec // nobody shows it
	}))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://user:pass@example.com/path?q=1#fragment",
		strings.NewReader("a=b"))
	require.NoError(t, err)
	r.Header.Set("X-Test", "1")
	resp, err := n.Client().Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "192.0.2.1:49152\nPOST /path?q=1 HTTP/1.1\r\nHost: example.com\r\nAuthorization: Basic dXNlcjpwYXNz\r\n"+
		"User-Agent: Go-http-client/1.1\r\nX-Test: 1\r\n\r\na=b", string(body))

	broken := errors.New("disk on fire")
	r, err = http.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/", iotest.ErrReader(broken))
	require.NoError(t, err)
	_, err = n.Client().Do(r) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, broken)
}

func TestNetworkAnswers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100)
	for _, tt := range []struct {
		name    string
		verb    string
		handler http.HandlerFunc
		status  int
		body    string
		err     string // of the request or of reading its body
	}{
		{"nothing", http.MethodGet, func(http.ResponseWriter, *http.Request) {}, 200, "", ""},
		{"a status", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418); w.WriteHeader(500) }, 418, "", ""},
		{"early hints", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(201) }, 201, "", ""},
		{"a late header", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "x")
			w.Header().Set("X-Late", "1")
		}, 200, "x", ""},
		{"no body where none is allowed", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				w.WriteHeader(500)
			}
		}, 204, "", ""},
		{"HEAD", http.MethodHead, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, 200, "", ""},
		{"a reset", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "x")
			panic(http.ErrAbortHandler)
		}, 0, "", "connection reset by peer"},
		{"a reset after a part", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "part")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, 200, "part", "unexpected EOF"},
		{"less than promised", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "four")
		}, 200, "four", "unexpected EOF"},
		{"without end", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			chunk := make([]byte, 1<<20)
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, 0, "", "connection reset by peer"},
		{"a panic", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, long)
			panic("on purpose")
		}, 0, "", "the handler of example.com panicked: on purpose"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := eventtest.NewNetwork()
			n.Handle("example.com", tt.handler)
			r, err := http.NewRequestWithContext(t.Context(), tt.verb, "https://example.com/", http.NoBody)
			require.NoError(t, err)
			resp, err := n.Client().Do(r)
			if tt.status == 0 {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.status, resp.StatusCode)
			require.Empty(t, resp.Header.Get("X-Late"))
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, tt.body, string(body))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
		})
	}
}

func TestNetworkContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := eventtest.NewNetwork()
		gone := make(chan error, 1)
		n.Handle("example.com", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			gone <- r.Context().Err()
		}))
		cause := errors.New("no patience")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, cause)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://example.com/", http.NoBody)
		require.NoError(t, err)
		start := time.Now()
		_, err = n.RoundTrip(r) //nolint:bodyclose // there is none
		require.ErrorIs(t, err, cause)
		require.Equal(t, time.Hour, time.Since(start))
		require.ErrorIs(t, <-gone, context.Canceled, "the handler is told")

		_, err = n.RoundTrip(r) //nolint:bodyclose // there is none
		require.ErrorIs(t, err, cause, "and nothing is called where it ended before")
		synctest.Wait()
		require.Empty(t, gone)

		n.Handle("endless.example.com", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			_, err := w.Write([]byte("x"))
			gone <- err
		}))
		r.URL.Host = "endless.example.com"
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = n.RoundTrip(r.WithContext(ctx)) //nolint:bodyclose // there is none
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, <-gone, net.ErrClosed)

		client := n.Client()
		client.Timeout = time.Minute
		_, err = client.Get("https://example.com/") //nolint:noctx,bodyclose // the client's own time limit
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		require.True(t, timeout.Timeout())
	})
}
