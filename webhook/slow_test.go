package webhook_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// dribble sends a request whose body never ends, a byte at a time, and returns the response.
func dribble(t *testing.T, server *httptest.Server) *http.Response {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\nevent=", form)
	require.NoError(t, err)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := conn.Write([]byte("x")); err != nil {
				return
			}
		}
	}()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestDribbledBody(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		own, server time.Duration
	}{
		"our limit":              {500 * time.Millisecond, 0},
		"the server's is longer": {500 * time.Millisecond, time.Hour},
		"the server's is ours":   {500 * time.Millisecond, 500 * time.Millisecond},
		"the server's limit":     {time.Hour, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rec recorder
			h := newHandler(t, &rec, webhook.WithReadTimeout(test.own))
			server := httptest.NewUnstartedServer(h)
			server.Config.ReadTimeout = test.server
			server.Start()
			defer server.Close()
			resp := dribble(t, server) //nolint:bodyclose // dribble closes it
			require.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
			require.True(t, resp.Close)
			require.EqualValues(t, 1, h.Stats().Rejected[webhook.ReasonTimeout])
			require.Empty(t, rec.deliveries())
		})
	}
}

// TestHostileConnections: on a real connection, too, nothing stays charged, and a body is what
// arrived of it.
func TestHostileConnections(t *testing.T) {
	t.Parallel()
	event := dealUpdate(1)
	large := sized(1, 200<<10)
	for name, test := range map[string]struct {
		head, body string
		status     string
	}{
		"longer than declared": {fmt.Sprintf("Content-Length: %d\r\n", len(event)), event + "&auth[application_token]=x", "200"},
		"breaks off":           {"Content-Length: 300000\r\n", large, "400"},
		"breaks off early":     {"Content-Length: 300000\r\n", "event=ON", "400"},
		"declares too much":    {"Content-Length: 10737418240\r\n", strings.Repeat("x", 1<<20+1), "413"},
		"chunked":              {"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(large), large), "200"},
		"chunked, breaks off":  {"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s", 2*len(large), large), "400"},
		"chunked, no chunks":   {"Transfer-Encoding: chunked\r\n", large, "400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHandler(t, nothing())
			server := httptest.NewServer(h)
			defer server.Close()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			go func() {
				_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\n%s\r\n%s", form, test.head, test.body)
				_ = conn.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it is one
			}()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, test.status, resp.Status[:3])
			shutdown(t, h)
			server.Close()
			require.Zero(t, h.Stats().InFlight)
		})
	}
}

// deadlines is a ResponseWriter that records the read deadlines that it gets.
type deadlines struct {
	httptest.ResponseRecorder

	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// TestReadDeadline: it is lifted once the body was read, and stays on a body that was not.
func TestReadDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, nothing(), webhook.WithReadTimeout(time.Minute))
		var w deadlines
		h.ServeHTTP(&w, request(dealUpdate(7)))
		require.Equal(t, []time.Time{time.Now().Add(time.Minute), {}}, w.set)

		w.set = nil
		r := request(dealUpdate(7))
		r.Header.Set("Content-Type", "text/plain")
		h.ServeHTTP(&w, r)
		require.Equal(t, []time.Time{time.Now().Add(time.Minute)}, w.set)
		shutdown(t, h)
	})
}

// TestReadTimeoutIsForTheBodyOnly: neither a handler nor a later request on the same connection
// suffers from it.
func TestReadTimeoutIsForTheBodyOnly(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
				timer := time.NewTimer(700 * time.Millisecond)
				defer timer.Stop()
				select {
				case <-timer.C:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}), webhook.WithReadTimeout(500*time.Millisecond), webhook.WithSync())
			ended := make(chan error, 3)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r)
				ended <- r.Context().Err()
			}))
			server.EnableHTTP2 = http2
			server.StartTLS()
			defer server.Close()
			for range 3 {
				r := request(dealUpdate(1)).WithContext(t.Context())
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, r.Body)
				require.NoError(t, err)
				r.Header.Set("Content-Type", form)
				resp, err := server.Client().Do(r)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, http.StatusOK, resp.StatusCode)
				require.NoError(t, <-ended)
			}
		})
	}
}
