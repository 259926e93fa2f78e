package rest_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// TestMadeAgainAndRefused: a read is made again by itself, because the response to its batch was
// lost. The portal refuses it then, but it may have run in the batch.
func TestMadeAgainAndRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "batch" {
				return 502, "<html>", nil
			}
			return 503, limited, nil
		})
		get, _ := inOneBatch(t, newHosts(t, on(tr), rest.WithRetries(1)), "crm.deal.add")
		require.ErrorIs(t, get, rest.ErrQueryLimit)
		require.False(t, notRun(get))
		_, ok := rest.Retryable(get)
		require.False(t, ok)
		require.Equal(t, 3, tr.count())
	})
}

// TestGroupedCallThatMayHaveRun: a coalesced call is sent, its response is lost, and its next turn
// comes too late for the caller.
func TestGroupedCallThatMayHaveRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := newHosts(t, on(newTransport(t, "<html>502")), rest.WithRateLimit(0.1, 1))
		start := time.Now()
		err := api.Coalescer("a").With(rest.Timeout(5*time.Second)).Call(t.Context(), "crm.deal.get", nil, nil)
		require.ErrorIs(t, err, rest.ErrQueryLimit)
		require.Less(t, time.Since(start), time.Second)
		require.False(t, notRun(err))
		_, ok := rest.Retryable(err)
		require.False(t, ok)
	})
}

// tooLarge sends a response without an end to a method, which the network of eventtest cannot. The
// portal behind it responds to other calls.
type tooLarge struct {
	*transport

	method string
	times  atomic.Int64
}

func (l *tooLarge) RoundTrip(r *http.Request) (*http.Response, error) {
	if path.Base(r.URL.Path) != l.method {
		return l.transport.RoundTrip(r)
	}
	l.times.Add(1)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(new(endless)), Request: r}, nil
}

// TestReadInAGroup: a read and a write are sent together, and the response is lost. The read is
// made again by itself.
func TestReadInAGroup(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(sent) (int, string, error){
		"a page": func(sent) (int, string, error) { return 502, "<html>", nil },
		"broken": func(sent) (int, string, error) { return 0, "", io.EOF },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(s sent) (int, string, error) {
					if s.method == "batch" {
						return lose(s)
					}
					return 200, fine, nil
				})
				get, add := inOneBatch(t, newHosts(t, on(tr)), "crm.deal.add")
				require.NoError(t, get)
				require.Error(t, add)
				_, ok := rest.Retryable(add)
				require.False(t, ok)
				require.Equal(t, 2, tr.count())
			})
		})
	}
}

// inOneBatch makes a call that reads through a coalescer, and one of another method at the same
// time.
func inOneBatch(t *testing.T, api *rest.Clients, method string) (read, other error) {
	t.Helper()
	c := api.Coalescer("a")
	var both sync.WaitGroup
	both.Go(func() { read = c.Call(t.Context(), "crm.deal.get", nil, nil) })
	both.Go(func() { other = c.Call(t.Context(), method, nil, nil) })
	both.Wait()
	return read, other
}

// TestTooLargeInAGroup: the results of two calls are each within the limit, but not together. Reads
// are made again by themselves, and the batch is not.
func TestTooLargeInAGroup(t *testing.T) {
	t.Parallel()
	for second, want := range map[string]struct {
		err   error
		alone int
	}{
		"crm.contact.get": {nil, 2}, "crm.contact.add": {rest.ErrTooLarge, 1},
	} {
		t.Run(second, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := &tooLarge{transport: newTransport(t, fine), method: "batch"}
				read, other := inOneBatch(t, newHosts(t, on(tr)), second)
				require.NoError(t, read)
				require.ErrorIs(t, other, want.err)
				require.False(t, other != nil && notRun(other), "%v", other)
				require.Equal(t, want.alone, tr.count())
				require.EqualValues(t, 1, tr.times.Load())
			})
		})
	}
	t.Run("no company", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			tr := &tooLarge{transport: newTransport(t, fine), method: "crm.deal.get"}
			require.ErrorIs(t, newHosts(t, on(tr)).Coalescer("a").Call(t.Context(), "crm.deal.get", nil, nil), rest.ErrTooLarge)
			require.EqualValues(t, 1, tr.times.Load())
		})
	})
}

// TestNotMadeAgain: reads that are not made again by themselves after their batch failed.
func TestNotMadeAgain(t *testing.T) {
	t.Parallel()
	refused := `{"result":{"result":[],"result_error":{"c0":{"error":"QUERY_LIMIT_EXCEEDED"},"c1":{"error":"QUERY_LIMIT_EXCEEDED"}}}}`
	for name, test := range map[string]struct {
		retries int
		status  int
		body    string
		want    int // requests
	}{
		"no repetitions, lost":            {0, 502, "<html>", 1},
		"no repetitions, refused":         {0, 503, limited, 1},
		"no repetitions, refused within":  {0, 200, refused, 1},
		"refused as often as it was sent": {2, 503, limited, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(sent) (int, string, error) { return test.status, test.body, nil })
				get, add := inOneBatch(t, newHosts(t, on(tr), rest.WithRetries(test.retries)), "crm.deal.add")
				require.Error(t, get)
				require.Error(t, add)
				require.Equal(t, test.want, tr.count())
			})
		})
	}
}

// TestPausedInAGroup: if a method is blocked while its call waits in a group, the call is not sent
// with the others.
func TestPausedInAGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blockedOnce := false
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "crm.item.update" && !blockedOnce {
				blockedOnce = true
				return 429, blocked, nil
			}
			return 200, responsesTo(s), nil
		})
		api := newHosts(t, on(tr), rest.WithRateLimit(1, 1))
		start := time.Now()
		_, err := api.Portal("a").With(rest.Retries(0)).Do(t.Context(), "profile", nil)
		require.NoError(t, err)
		var all sync.WaitGroup
		all.Go(func() { _ = api.Portal("a").With(rest.Retries(0)).Call(t.Context(), "crm.item.update", nil, nil) })
		synctest.Wait()
		took := make([]time.Duration, 3)
		for i, method := range []string{"crm.item.update", "crm.deal.add", "crm.contact.add"} {
			all.Go(func() {
				if err := api.Coalescer("a").Call(t.Context(), method, nil, nil); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(start)
			})
		}
		all.Wait()
		require.GreaterOrEqual(t, took[0], time.Minute)
		require.Equal(t, []time.Duration{2 * time.Second, 2 * time.Second}, took[1:])
	})
}

// TestAllPausedInAGroup: all calls of a group turn out to be blocked when its turn comes. That does
// not panic.
func TestAllPausedInAGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "crm.item.update" && s.form.Get("n") == "" {
				return 429, blocked, nil
			}
			return 200, responsesTo(s), nil
		})
		var log bytes.Buffer
		api := newHosts(t, on(tr), rest.WithRateLimit(1, 1), rest.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		start := time.Now()
		require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
		var all sync.WaitGroup
		all.Go(func() { _ = api.Portal("a").With(rest.Retries(0)).Call(t.Context(), "crm.item.update", nil, nil) }) // at 1 s
		synctest.Wait()
		all.Go(func() { // it has its turn at 2 s, and does not leave
			_ = api.Coalescer("a").With(rest.Timeout(10*time.Second)).Call(t.Context(), "crm.item.update", map[string]any{"n": 1}, nil)
		})
		pauseFor(1900 * time.Millisecond)
		all.Go(func() { // so this one has it
			if err := api.Portal("a").Call(t.Context(), "profile", nil, nil); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("nothing was sent at 2 s, and the place is lost: sent at %v", took)
			}
		})
		all.Wait()
		require.NotContains(t, log.String(), "panicked")
		require.Zero(t, api.Stats().Waiting)
	})
}

// TestNeighbourWithoutRetries: one caller wants no retries. The calls that happen to be in the same
// batch are retried nevertheless.
func TestNeighbourWithoutRetries(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		method string
	}{
		"query limit, write":      {503, limited, "crm.deal.add"},
		"query limit, read":       {503, limited, "crm.deal.get"},
		"429 page, write":         {429, "<html>", "crm.deal.add"},
		"connection error, write": {401, `{"error":"CONNECTION_ERROR"}`, "crm.deal.add"},
		"502 page, read":          {502, "<html>", "crm.deal.get"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				tr := newScript(t, func(s sent) (int, string, error) {
					if requests++; requests == 1 {
						return tt.status, tt.body, nil
					}
					return 200, responsesTo(s), nil
				})
				c := newHosts(t, on(tr)).Coalescer("a")
				var err error
				var both sync.WaitGroup
				both.Go(func() { err = c.Call(t.Context(), tt.method, map[string]any{"n": 1}, nil) })
				both.Go(func() {
					_ = c.With(rest.Retries(0)).Call(t.Context(), "crm.contact.get", map[string]any{"n": 2}, nil)
				})
				both.Wait()
				require.NoError(t, err, "a Client would have repeated it")
			})
		})
	}
}

// panicking are credentials that panic.
type panicking struct{ hosts }

func (panicking) Access(context.Context, string) (endpoint, token string, err error) {
	panic("planted s3cr3t")
}

func TestPanicOfTheCredentials(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := newHosts(t, on(newTransport(t, fine)))
		c := api.As(panicking{}).Coalescer("a")
		errs := make([]error, 2)
		var both sync.WaitGroup
		for i := range errs {
			both.Go(func() { errs[i] = c.Call(t.Context(), "crm.deal.add", map[string]any{"n": i}, nil) })
		}
		both.Wait()
		for _, err := range errs {
			require.ErrorContains(t, err, "crm.deal.add: the credentials or the HTTP client panicked")
			requireNoSecrets(t, err)
			var n interface{ NotRun() bool }
			require.ErrorAs(t, err, &n)
			require.True(t, n.NotRun())
		}
	})
}

// goexitCreds are credentials that end their goroutine, as require does in a test.
type goexitCreds struct {
	hosts

	mu   sync.Mutex
	done bool
}

func (c *goexitCreds) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	c.mu.Lock()
	first := !c.done
	c.done = true
	c.mu.Unlock()
	if first {
		runtime.Goexit()
	}
	return c.hosts.Access(ctx, memberID)
}

// TestGoexit: a group that ended in this way must not take calls for ever.
func TestGoexit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, err := rest.NewClients(&goexitCreds{}, on(newTransport(t, fine)))
		require.NoError(t, err)
		c := api.Coalescer("a")
		require.Error(t, c.Call(t.Context(), "crm.deal.add", nil, nil))
		pauseFor(time.Second)
		require.NoError(t, c.Call(t.Context(), "crm.deal.add", nil, nil), "the credentials work again")
	})
}

// TestGoexitAfterSending: the transport ends the goroutine after the request was sent.
func TestGoexitAfterSending(t *testing.T) {
	t.Parallel()
	{
		tr := roundTrip(func(r *http.Request) (*http.Response, error) {
			_, _ = io.Copy(io.Discard, r.Body)
			runtime.Goexit()
			return nil, nil
		})
		api := newHosts(t, on(tr))
		err := api.Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil)
		require.Error(t, err)
		require.False(t, notRun(err), "it was sent")
	}
}

// TestHandlerPanics: a panic in a goroutine of the coalescer ends the process, if the
// handler of the log panics.
func TestHandlerPanics(t *testing.T) {
	t.Parallel()
	if os.Getenv("REST_TEST_CRASH") != "" {
		api := newHosts(t, on(newTransport(t, fine)), rest.WithLogger(slog.New(panickingHandler{})))
		_ = api.Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestHandlerPanics$") //nolint:gosec // itself
	cmd.Env = append(os.Environ(), "REST_TEST_CRASH=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "the process ended: %.600s", out)
}

type panickingHandler struct{}

func (panickingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingHandler) Handle(context.Context, slog.Record) error { panic("disk full") }
func (h panickingHandler) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (h panickingHandler) WithGroup(string) slog.Handler           { return h }
