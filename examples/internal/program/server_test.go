package program_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
)

// limited serves a handler with a limit of connections. It returns the address.
func limited(t *testing.T, limit int, h http.Handler) string {
	t.Helper()
	server := program.Server(h, programtest.Silent())
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(program.LimitConnections(server, l, limit)) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return l.Addr().String()
}

// client is a connection that is used for several requests.
type client struct {
	net.Conn

	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(programtest.Patience)))
	return &client{conn, bufio.NewReader(conn)}
}

func (c *client) send(t *testing.T) {
	t.Helper()
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
}

func (c *client) answered(t *testing.T) {
	t.Helper()
	answer, err := http.ReadResponse(c.r, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

// Connections that do nothing, whether they had a request or not, keep no other out.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const limit = 5
	addr := limited(t, limit, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	var all []*client
	for i := range 10 * limit {
		c := dial(t, addr)
		if i%2 == 0 {
			c.send(t)
			c.answered(t)
		}
		all = append(all, c)
	}
	last := dial(t, addr)
	last.send(t)
	last.answered(t)
	_, err := all[0].r.ReadByte()
	require.Error(t, err, "it was closed to make room")
	last.send(t)
	last.answered(t)
}

// A connection with a request is never closed for another one, which waits.
func TestRequestsUnderWayAreKept(t *testing.T) {
	t.Parallel()
	const limit = 3
	begun, release := make(chan struct{}), make(chan struct{})
	addr := limited(t, limit, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case begun <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		<-release
	}))
	var busy []*client
	for range limit {
		c := dial(t, addr)
		c.send(t)
		<-begun
		busy = append(busy, c)
	}
	late := dial(t, addr)
	late.send(t)
	select {
	case <-begun:
		require.Fail(t, "one more than the limit")
	case release <- struct{}{}:
	}
	<-begun // the late one, in place of the first to become idle
	for range limit {
		release <- struct{}{}
	}
	late.answered(t)
	answered := 0
	for _, c := range busy {
		if answer, err := http.ReadResponse(c.r, nil); err == nil {
			require.NoError(t, answer.Body.Close())
			answered++
		}
	}
	require.Equal(t, limit, answered)
}

// A listener that is closed ends an Accept that waits for room.
func TestCloseEndsTheWaitForRoom(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Second}
	limiter := program.LimitConnections(server, l, 1)
	dial(t, l.Addr().String())
	first, err := limiter.Accept()
	require.NoError(t, err)
	server.ConnState(first, http.StateActive)
	dial(t, l.Addr().String())
	ended := make(chan error, 1)
	go func() {
		_, err := limiter.Accept()
		ended <- err
	}()
	require.NoError(t, limiter.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
	require.NoError(t, first.Close())
}

func TestConnectionsLeaveDescriptors(t *testing.T) {
	t.Parallel()
	n := program.Connections()
	require.Positive(t, n)
	require.LessOrEqual(t, n, 10_000)
}
