package rest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

func hostileNotRun(err error) bool {
	var e interface{ NotRun() bool }
	return errors.As(err, &e) && e.NotRun()
}

// TestHostileSecondAttemptNotSent: the first attempt may have run, the second is not sent. The error must not say that the call
// did not run.
func TestHostileSecondAttemptNotSent(t *testing.T) {
	t.Parallel()
	lost := func(sent) (int, string, error) { return 0, "", io.EOF }
	page := func(sent) (int, string, error) { return 502, "<html>", nil }
	for name, first := range map[string]func(sent) (int, string, error){"broken": lost, "page": page} {
		for how, second := range map[string]string{"refused": limited, "late": "", "canceled": "", "credentials": ""} {
			t.Run(name+", then "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					requests := 0
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					creds := &hostileFailing{}
					tr := newScript(t, func(s sent) (int, string, error) {
						switch requests++; {
						case s.method == "profile":
							return 200, fine, nil
						case s.method == "crm.deal.update" && requests > 2:
							return 503, second, nil
						default:
							if how == "credentials" {
								creds.fail.Lock()
							}
							return first(s)
						}
					})
					api, err := rest.NewClients(creds, on(tr), rest.WithRateLimit(0.1, 2))
					require.NoError(t, err)
					client := api.Portal("a").With(rest.Idempotent())
					switch how {
					case "refused":
						client = client.With(rest.Timeout(15 * time.Second))
					case "late":
						require.NoError(t, client.Call(ctx, "profile", nil, nil))
						client = client.With(rest.Timeout(5 * time.Second))
					case "canceled":
						require.NoError(t, client.Call(ctx, "profile", nil, nil))
						time.AfterFunc(5*time.Second, cancel)
					}
					if how == "refused" {
						require.NoError(t, client.Call(ctx, "profile", nil, nil))
					}
					err = client.Call(ctx, "crm.deal.update", nil, nil)
					require.Error(t, err)
					t.Logf("%d requests: %v", tr.count(), err)
					require.False(t, hostileNotRun(err), "the first attempt may have run")
				})
			})
		}
	}
}

// hostileFailing is credentials that fail once they are locked.
type hostileFailing struct {
	hosts

	fail hostileFlag
}

type hostileFlag struct {
	mu sync.Mutex
	on bool
}

func (f *hostileFlag) Lock() { f.mu.Lock(); f.on = true; f.mu.Unlock() }

func (c *hostileFailing) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	c.fail.mu.Lock()
	defer c.fail.mu.Unlock()
	if c.fail.on {
		return "", "", errors.New("the store is down")
	}
	return c.hosts.Access(ctx, memberID)
}

// TestHostileSecondRequestOfABatch: the first request of a batch ran, the second was refused. Sending the batch again runs the
// first one twice.
func TestHostileSecondRequestOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		tr := newScript(t, func(s sent) (int, string, error) {
			if requests++; requests > 1 {
				return 503, limited, nil
			}
			return 200, answers(s), nil
		})
		client := newHosts(t, on(tr), rest.WithRetries(0)).Portal("a")
		b := rest.NewBatch()
		for i := range 60 {
			rest.Add[any](b, "n"+strconv.Itoa(i), "crm.deal.add", nil)
		}
		err := client.Batch(t.Context(), b)
		require.ErrorIs(t, err, rest.ErrQueryLimit)
		_, ok := rest.Retryable(b.Err())
		require.False(t, ok)
		require.False(t, hostileNotRun(b.Err()))
		_, ok = rest.Retryable(err)
		require.False(t, ok, "50 commands ran: what Client.Batch returns must not say that it may be sent again")
		require.False(t, hostileNotRun(err))
	})
}

// TestHostileBatchThatDidNotRun: nothing ran, for a reason that passes; so the whole may be repeated.
func TestHostileBatchThatDidNotRun(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		commands int
		halt     bool
		status   int
		body     string
	}{
		"one request":                {3, false, 503, limited},
		"two requests":               {60, false, 503, limited},
		"halted at the first, 429":   {3, true, 200, `{"result":{"result":[],"result_error":{"n0":{"error":"OPERATION_TIME_LIMIT"}}}}`},
		"halted at the first, token": {3, true, 200, `{"result":{"result":[],"result_error":{"n0":{"error":"CONNECTION_ERROR"}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newScript(t, func(sent) (int, string, error) { return tt.status, tt.body, nil })
				b := rest.NewBatch()
				for i := range tt.commands {
					rest.Add[any](b, "n"+strconv.Itoa(i), "crm.deal.add", nil)
				}
				if tt.halt {
					b.Halt()
				}
				_ = newHosts(t, on(tr), rest.WithRetries(0)).Portal("a").Batch(t.Context(), b)
				require.True(t, hostileNotRun(b.Err()))
				_, ok := rest.Retryable(b.Err())
				require.True(t, ok)
			})
		})
	}
}

// TestHostileTransportThatRepeats: a transport of the caller's repeats by itself. The first try may have run; the second found no
// connection.
func TestHostileTransportThatRepeats(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]error{
		"dial":     &net.OpError{Op: "dial", Err: errors.New("refused")},
		"no host":  &net.DNSError{Err: "no such host", IsNotFound: true},
		"no proxy": &net.OpError{Op: "proxyconnect", Err: errors.New("refused")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := roundTrip(func(r *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, r.Body) // sent, and the answer was lost
				return nil, second                 // of the second try
			})
			err := newHosts(t, on(tr), rest.WithRetries(0)).Portal("a").Call(t.Context(), "crm.deal.add", map[string]any{"n": 1}, nil)
			require.Error(t, err)
			require.False(t, hostileNotRun(err), "the body was read: when unsure, it may have run")
		})
	}
}

// TestHostileSeeOther: 303 is how a web application answers a POST that it has processed.
func TestHostileSeeOther(t *testing.T) {
	t.Parallel()
	for _, status := range []int{300, 303, 304} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			tr := newScript(t, func(sent) (int, string, error) { return status, "", nil })
			err := newHosts(t, on(tr), rest.WithRetries(0)).Portal("a").Call(t.Context(), "crm.deal.add", nil, nil)
			require.Error(t, err)
			require.False(t, hostileNotRun(err), "no Location, or one that says that the request was processed")
		})
	}
}

// TestHostileNeighbourWithoutRetries: one caller wants no repetition. That is no reason for the calls that it happens to leave
// with not to be repeated.
func TestHostileNeighbourWithoutRetries(t *testing.T) {
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
					return 200, answers(s), nil
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

// TestHostileAllPausedInAGathering: all calls of a gathering turn out to be blocked when its turn comes. That is no panic.
func TestHostileAllPausedInAGathering(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "crm.item.update" && s.form.Get("n") == "" {
				return 429, blocked, nil
			}
			return 200, answers(s), nil
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

// hostileGoexit is credentials that end their goroutine, as require does in those of a test.
type hostileGoexit struct {
	hosts

	mu   sync.Mutex
	done bool
}

func (c *hostileGoexit) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	c.mu.Lock()
	first := !c.done
	c.done = true
	c.mu.Unlock()
	if first {
		runtime.Goexit()
	}
	return c.hosts.Access(ctx, memberID)
}

// TestHostileGoexit: a gathering that ended so must not take calls for ever.
func TestHostileGoexit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, err := rest.NewClients(&hostileGoexit{}, on(newTransport(t, fine)))
		require.NoError(t, err)
		c := api.Coalescer("a")
		require.Error(t, c.Call(t.Context(), "crm.deal.add", nil, nil))
		pauseFor(time.Second)
		require.NoError(t, c.Call(t.Context(), "crm.deal.add", nil, nil), "the credentials work again")
	})
}

// TestHostileGoexitAfterSending: the transport ends the goroutine after the request was sent.
func TestHostileGoexitAfterSending(t *testing.T) {
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
		require.False(t, hostileNotRun(err), "it was sent")
	}
}

// TestHostileObserverPanics: the call succeeded; that an observer panics must not make it fail, least of all for fifty callers.
func TestHostileObserverPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := newHosts(t, on(newTransport(t, fine)), rest.WithObserver(func(context.Context, rest.CallInfo) { panic("label") }))
		err := api.Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil)
		if err != nil {
			require.NotContains(t, err.Error(), "the credentials or the HTTP client panicked", "it was the observer")
		}
	})
}

// TestHostileHandlerPanics: a panic in a goroutine of the coalescer ends the process, if the handler of the log panics.
func TestHostileHandlerPanics(t *testing.T) {
	t.Parallel()
	if os.Getenv("REST_TEST_CRASH") != "" {
		api := newHosts(t, on(newTransport(t, fine)), rest.WithLogger(slog.New(hostileHandler{})))
		_ = api.Coalescer("a").Call(t.Context(), "crm.deal.add", nil, nil)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestHostileHandlerPanics$") //nolint:gosec // itself
	cmd.Env = append(os.Environ(), "REST_TEST_CRASH=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "the process ended: %.600s", out)
}

type hostileHandler struct{}

func (hostileHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (hostileHandler) Handle(context.Context, slog.Record) error { panic("disk full") }
func (h hostileHandler) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (h hostileHandler) WithGroup(string) slog.Handler           { return h }

// TestHostileRetryAfterOfHugeNumbers: the time is capped, not ignored.
func TestHostileRetryAfterOfHugeNumbers(t *testing.T) {
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

// hostileTheirs is credentials with an HTTP client, such as one with a proxy.
type hostileTheirs struct {
	hosts

	client *http.Client
}

func (c hostileTheirs) HTTPClient() *http.Client { return c.client }

// TestHostileIdleConnectionsKeepTheProxy: the credentials' client has a proxy. The number of idle connections must not make calls
// go around it without a word.
func TestHostileIdleConnectionsKeepTheProxy(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, fine)
	api, err := rest.NewClients(hostileTheirs{client: &http.Client{Transport: tr}}, rest.WithIdleConnections(2, 20), rest.WithRetries(0))
	if err != nil {
		return // said so
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_ = api.Portal("a.invalid").Call(ctx, "profile", nil, nil)
	require.Equal(t, 1, tr.count(), "the call went around the client of the credentials")
}

// TestHostileForeignJSON: JSON of a front end whose error member is no portal's code.
func TestHostileForeignJSON(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"message":"busy"}`, `{"error":"Service Unavailable"}`, `{"error":{"code":503,"message":"x"}}`, `{"error":true,"message":"x"}`,
		`{"error":{"message":"overloaded"}}`, `{"error":{"status":503}}`, `{"error":["x"]}`, `{"error":"unavailable","error_description":null}`, `{"error":1}`,
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

// TestHostileUnreadableSuccess: reads are repeated with any status of success.
func TestHostileUnreadableSuccess(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 201, 202, 203, 206} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := 0
				tr := newScript(t, func(sent) (int, string, error) {
					if n++; n == 1 {
						return status, `{"resu`, nil
					}
					return 200, fine, nil
				})
				require.NoError(t, newHosts(t, on(tr)).Portal("a").Call(t.Context(), "crm.deal.get", nil, nil))
			})
		})
	}
}
