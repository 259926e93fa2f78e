package rest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

func notRun(err error) bool {
	var e interface{ NotRun() bool }
	return errors.As(err, &e) && e.NotRun()
}

// TestSecondAttemptNotSent: the first attempt may have run, the second is not sent. The
// error must not say that the call did not run.
func TestSecondAttemptNotSent(t *testing.T) {
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
					creds := &failingCreds{}
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
					require.False(t, notRun(err), "the first attempt may have run")
				})
			})
		}
	}
}

// failingCreds are credentials that fail once they are locked.
type failingCreds struct {
	hosts

	fail lockFlag
}

func (c *failingCreds) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	c.fail.mu.Lock()
	defer c.fail.mu.Unlock()
	if c.fail.on {
		return "", "", errors.New("the store is down")
	}
	return c.hosts.Access(ctx, memberID)
}

type lockFlag struct {
	mu sync.Mutex
	on bool
}

func (f *lockFlag) Lock() { f.mu.Lock(); f.on = true; f.mu.Unlock() }

// TestSecondRequestOfABatch: the first request of a batch ran, the second was refused.
// Sending the batch again runs the first one twice.
func TestSecondRequestOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		tr := newScript(t, func(s sent) (int, string, error) {
			if requests++; requests > 1 {
				return 503, limited, nil
			}
			return 200, responsesTo(s), nil
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
		require.False(t, notRun(b.Err()))
		_, ok = rest.Retryable(err)
		require.False(t, ok, "50 commands ran: what Client.Batch returns must not say that it may be sent again")
		require.False(t, notRun(err))
	})
}

// TestBatchThatDidNotRun: nothing ran, for a temporary reason, so the whole batch may be retried.
func TestBatchThatDidNotRun(t *testing.T) {
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
				require.True(t, notRun(b.Err()))
				_, ok := rest.Retryable(b.Err())
				require.True(t, ok)
			})
		})
	}
}

// TestTransportThatRepeats: a transport of the caller retries by itself. The first try may have
// run; the second found no connection.
func TestTransportThatRepeats(t *testing.T) {
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
			require.False(t, notRun(err), "the body was read: when unsure, it may have run")
		})
	}
}

// TestSeeOther: a web application sends 303 after a POST that it has processed.
func TestSeeOther(t *testing.T) {
	t.Parallel()
	for _, status := range []int{300, 303, 304} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			tr := newScript(t, func(sent) (int, string, error) { return status, "", nil })
			err := newHosts(t, on(tr), rest.WithRetries(0)).Portal("a").Call(t.Context(), "crm.deal.add", nil, nil)
			require.Error(t, err)
			require.False(t, notRun(err), "no Location, or one that says that the request was processed")
		})
	}
}

// TestUnreadableSuccess: reads are retried with any status of success.
func TestUnreadableSuccess(t *testing.T) {
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
