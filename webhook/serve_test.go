package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
)

// freeAddress returns an address on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// get asks until the server listens.
func get(t *testing.T, url string) (*http.Response, error) {
	t.Helper()
	client := http.Client{Timeout: time.Minute}
	for {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		response, err := client.Do(request)
		var refused *net.OpError
		if errors.As(err, &refused) && refused.Op == "dial" {
			continue
		}
		return response, err
	}
}

// TestServeStopsInOrder: the request that is being served ends before the first function is called,
// and each function gets a context that is still alive.
func TestServeStopsInOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var steps []string
	var served atomic.Bool
	server := &http.Server{Addr: freeAddress(t), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		<-ctx.Done()
		served.Store(true)
		w.WriteHeader(http.StatusOK)
	})}
	failed := errors.New("a function failed")
	ended := make(chan error, 1)
	go func() {
		ended <- webhook.Serve(ctx, server, time.Minute,
			func(ctx context.Context) error {
				steps = append(steps, fmt.Sprint("handler ", served.Load(), ctx.Err()))
				return failed
			},
			func(ctx context.Context) error {
				steps = append(steps, fmt.Sprint("store ", ctx.Err()))
				return nil
			})
	}()
	response, err := get(t, "http://"+server.Addr)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.ErrorIs(t, <-ended, failed)
	require.Equal(t, []string{"handler true <nil>", "store <nil>"}, steps)
}

// TestServeCannotListen: what stands behind the server is stopped all the same.
func TestServeCannotListen(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	stopped := 0
	server := &http.Server{Addr: taken.Addr().String(), ReadHeaderTimeout: time.Minute}
	err = webhook.Serve(t.Context(), server, time.Minute, func(context.Context) error { stopped++; return nil })
	var refused *net.OpError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 1, stopped)
}

// TestServeEndsBeforeItBegins: a context that has ended already is a program that stops as it
// should. So is a server that somebody else has shut down.
func TestServeEndsBeforeItBegins(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, webhook.Serve(over, &http.Server{Addr: "127.0.0.1:0", ReadHeaderTimeout: time.Minute}, time.Minute))
	down := &http.Server{Addr: "127.0.0.1:0", ReadHeaderTimeout: time.Minute}
	require.NoError(t, down.Shutdown(t.Context()))
	require.NoError(t, webhook.Serve(t.Context(), down, time.Minute))
}

// TestServeCutsOffSlowRequests: a request that does not end takes a third of the time at most.
func TestServeCutsOffSlowRequests(t *testing.T) {
	t.Parallel()
	const grace = 300 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	server := &http.Server{Addr: freeAddress(t), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-release
	})}
	ended := make(chan error, 1)
	var left time.Duration
	go func() {
		ended <- webhook.Serve(ctx, server, grace, func(ctx context.Context) error {
			end, _ := ctx.Deadline()
			left = time.Until(end)
			return nil
		})
	}()
	_, err := get(t, "http://"+server.Addr) //nolint:bodyclose // there is no response
	require.ErrorIs(t, err, io.EOF, "it was cut off")
	require.ErrorIs(t, <-ended, context.DeadlineExceeded)
	require.LessOrEqual(t, left, grace*2/3)
	require.Positive(t, left)
}

// TestServeGivesFunctionsTheirTime uses a fake clock: the deadline of the functions is grace after
// the end of ctx, whatever that context was.
func TestServeGivesFunctionsTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("over"))
		down := &http.Server{ReadHeaderTimeout: time.Minute}
		require.NoError(t, down.Shutdown(t.Context()))
		err := webhook.Serve(ctx, down, time.Minute, func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
