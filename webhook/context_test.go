package webhook_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// router keeps data of a request in the request's context, and uses their memory again for the next
// request, as common routers do.
type router struct {
	next http.Handler
	pool sync.Pool
}

type routeKey struct{}

type route struct{ tenant string }

func (r *router) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	at, ok := r.pool.Get().(*route)
	if !ok {
		at = new(route)
	}
	at.tenant = strings.TrimPrefix(request.URL.Path, "/b24/")
	r.next.ServeHTTP(w, request.WithContext(context.WithValue(request.Context(), routeKey{}, at)))
	at.tenant = ""
	r.pool.Put(at)
}

// tenantKey is the key of a copied path parameter.
type tenantKey struct{}

func copyTenant(ctx context.Context, r *http.Request) context.Context {
	at, ok := r.Context().Value(routeKey{}).(*route)
	if !ok {
		return nil
	}
	return context.WithValue(ctx, tenantKey{}, at.tenant)
}

// TestPathParameters: a handler that reads a path parameter gets that of its own delivery, or
// nothing.
func TestPathParameters(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]webhook.Option{
		"queued":            {webhook.WithContext(copyTenant)},
		"within a request":  {webhook.WithContext(copyTenant), webhook.WithSync()},
		"without the copy":  nil,
		"another function":  {webhook.WithContext(func(context.Context, *http.Request) context.Context { return nil })},
		"a nil of its type": {webhook.WithContext(func(context.Context, *http.Request) context.Context { return (*nilContext)(nil) })},
		"the last one set":  {webhook.WithContext(func(ctx context.Context, _ *http.Request) context.Context { return ctx }), webhook.WithContext(copyTenant)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied := !strings.HasPrefix(name, "without") && !strings.HasPrefix(name, "a")
			var (
				mu    sync.Mutex
				wrong []string
			)
			h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
				runtime.Gosched()
				want, tenant := any(nil), ctx.Value(tenantKey{})
				if copied {
					want = d.Data.Get("N").Text()
				}
				mu.Lock()
				defer mu.Unlock()
				if tenant != want || ctx.Value(routeKey{}) != nil {
					wrong = append(wrong, d.Data.Get("N").Text())
				}
				return nil
			}), opts...)
			r := &router{next: h}
			var group sync.WaitGroup
			for sender := range 4 {
				group.Go(func() {
					for i := range 75 {
						n := 75*sender + i
						request := request(numbered("ONCRMDEALUPDATE", n+1, n))
						request.URL.Path = "/b24/" + strconv.Itoa(n)
						r.ServeHTTP(httptest.NewRecorder(), request)
					}
				})
			}
			group.Wait()
			shutdown(t, h)
			require.Empty(t, wrong)
			require.EqualValues(t, 300, h.Stats().Handled)
		})
	}
}

// nilContext panics when it is used.
type nilContext struct{ context.Context } //nolint:containedctx // it stands for a mistake

// TestEndOfContext: the end of what WithContext returns is not that of the handler.
func TestEndOfContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	for name, opt := range map[string]webhook.Option{"queued": nil, "within a request": webhook.WithSync()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var value any
			var limited bool
			ended, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "mine"))
			cancel()
			h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
				value = ctx.Value(key{})
				_, limited = ctx.Deadline()
				return ctx.Err()
			}), webhook.WithContext(func(ctx context.Context, r *http.Request) context.Context {
				_, has := ctx.Deadline()
				if has || ctx.Done() != nil || ctx.Value(http.ServerContextKey) != nil {
					t.Error("the context is not an empty one")
				}
				if r.Context().Value(http.ServerContextKey) == nil {
					t.Error("the request is not that of the server")
				}
				return ended
			}), opt)
			server := httptest.NewServer(h)
			defer server.Close()
			require.Equal(t, http.StatusOK, send(server.URL, dealUpdate(1)))
			shutdown(t, h)
			require.Equal(t, "mine", value)
			require.True(t, limited)
			require.EqualValues(t, 1, h.Stats().Handled)
		})
	}
}

// TestContextOfTheQueue: the queue of WithQueue gets the same values.
func TestContextOfTheQueue(t *testing.T) {
	t.Parallel()
	var value, request any
	h := newHandler(t, nothing(), webhook.WithContext(copyTenant),
		webhook.WithQueue(queueFunc(func(ctx context.Context, _ *event.Delivery) error {
			value, request = ctx.Value(tenantKey{}), ctx.Value(routeKey{})
			return nil
		})))
	r := requestOf("/b24/42", dealUpdate(1))
	(&router{next: h}).ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, "42", value)
	require.Nil(t, request)
}

func requestOf(path, body string) *http.Request {
	r := request(body)
	r.URL.Path = path
	return r
}

// TestVerifierSeesTheRequest: verification happens within the request, so a verifier may use its
// values.
func TestVerifierSeesTheRequest(t *testing.T) {
	t.Parallel()
	var tenant string
	h, err := webhook.NewHandler(verifierFunc(func(ctx context.Context, _ *event.Delivery) error {
		if at, ok := ctx.Value(routeKey{}).(*route); ok {
			tenant = at.tenant
		}
		return nil
	}), nothing(), silent())
	require.NoError(t, err)
	(&router{next: h}).ServeHTTP(httptest.NewRecorder(), requestOf("/b24/7", dealUpdate(1)))
	shutdown(t, h)
	require.Equal(t, "7", tenant)
}

// exited serves a request whose goroutine the program's own code ends, as a failing test does.
func exited(h http.Handler, body string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(httptest.NewRecorder(), request(body))
	}()
	<-done
}

// TestFunctionsThatDoNotReturn: code of the program that panics or ends its goroutine loses one
// delivery, which is counted, logged and, if it was verified, reported.
func TestFunctionsThatDoNotReturn(t *testing.T) {
	t.Parallel()
	leave := map[string]func(){"panic": func() { panic("SECRETpanic") }, "goexit": runtime.Goexit}
	for name, end := range leave {
		for where, lost := range map[string]int{"context": 1, "verifier": 0} {
			t.Run(name+" in "+where, func(t *testing.T) {
				t.Parallel()
				var log loot
				var dropped drops
				broken := true
				run := func(at string) {
					if at == where && broken {
						end()
					}
				}
				h, err := webhook.NewHandler(verifierFunc(func(context.Context, *event.Delivery) error {
					run("verifier")
					return nil
				}), nothing(), dropped.option(), webhook.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
					webhook.WithContext(func(ctx context.Context, _ *http.Request) context.Context {
						run("context")
						return ctx
					}))
				require.NoError(t, err)
				if name == "panic" {
					require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(1)))
				} else {
					exited(h, dealUpdate(1))
				}
				broken = false
				require.Equal(t, http.StatusOK, post(h, dealUpdate(2)))
				shutdown(t, h)
				s := h.Stats()
				require.EqualValues(t, 1, s.Rejected[webhook.ReasonUnavailable])
				require.EqualValues(t, 1, s.Lost)
				require.EqualValues(t, 1, s.Handled)
				require.Zero(t, s.InFlight)
				balanced(t, s, 0)
				ids, _ := dropped.list()
				require.Len(t, ids, lost)
				require.Equal(t, 1, strings.Count(log.String(), "level=ERROR msg=\"webhook: event lost\""))
				log.clean(t)
			})
		}
	}
}

// TestGoexitWithinARequest: a handler or a queue ends the goroutine of its request. The delivery is
// counted and reported, and Shutdown does not wait for it.
func TestGoexitWithinARequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opt             webhook.Option
		failed, dropped uint64
	}{
		"sync": {webhook.WithSync(), 1, 0},
		"queue": {webhook.WithQueue(queueFunc(func(context.Context, *event.Delivery) error {
			runtime.Goexit()
			return nil
		})), 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lost drops
			h := newHandler(t, do(func(context.Context, *event.Delivery) error {
				runtime.Goexit()
				return nil
			}), test.opt, lost.option())
			exited(h, dealUpdate(1))
			require.NoError(t, h.Shutdown(within(t, 10*time.Second)))
			require.Equal(t, test.failed, h.Stats().Failed)
			require.Equal(t, test.dropped, h.Stats().Lost)
			ids, _ := lost.list()
			require.Len(t, ids, 1)
		})
	}
}

// TestOnDroppedEndsItsGoroutine: the object goes on, and so does Shutdown.
func TestOnDroppedEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	var rec recorder
	rec.then = func(context.Context, *event.Delivery) error { return event.Drop(io.EOF) }
	h := newHandler(t, &rec, webhook.WithOnDropped(func(*event.Delivery, error) { runtime.Goexit() }))
	for range 3 {
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
	}
	require.NoError(t, h.Idle(within(t, 10*time.Second)))
	require.Len(t, rec.ids(), 3)
	require.NoError(t, h.Shutdown(within(t, 10*time.Second)))
	require.EqualValues(t, 3, h.Stats().Failed)
	balanced(t, h.Stats(), 0)
}
