package routers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/routers"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

const token = "0123456789abcdef0123456789abcdef"

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode) // gin prints its routes otherwise
	os.Exit(m.Run())
}

// reader is what a middleware of the application does with the body before the handler.
type reader int

const (
	readNothing reader = iota
	readForm           // r.FormValue, as for a method override
	readAll            // reads the body and does not put it back
	readAndPutBack
)

// router is one of the five, with a middleware that reads bodies in the router's own way.
type router struct {
	name   string
	origin func(context.Context, *http.Request) context.Context
	make   func(h *webhook.Handler, read reader) routers.Server
	// bodies says that a middleware which reads the body leaves it to the handler.
	bodies bool
	// patience sets the server's read timeout.
	patience func(s routers.Server, d time.Duration)
}

func all() []router {
	return []router{
		{"net/http", routers.NetHTTPOrigin, func(h *webhook.Handler, read reader) routers.Server {
			return routers.NetHTTP(h, reading(read))
		}, false, httpPatience},
		{"net/http with TimeoutHandler", routers.NetHTTPOrigin, func(h *webhook.Handler, read reader) routers.Server {
			return routers.NetHTTP(h, reading(read), func(next http.Handler) http.Handler {
				return http.TimeoutHandler(next, 10*time.Second, "")
			})
		}, false, httpPatience},
		{"chi", routers.ChiOrigin, func(h *webhook.Handler, read reader) routers.Server {
			return routers.Chi(h, reading(read))
		}, false, httpPatience},
		{"gin", routers.GinOrigin, func(h *webhook.Handler, read reader) routers.Server {
			return routers.Gin(h, func(c *gin.Context) {
				if read == readForm {
					_ = c.PostForm("_method")
				} else {
					readBody(c.Request, read)
				}
			})
		}, false, httpPatience},
		{"echo", routers.EchoOrigin, func(h *webhook.Handler, read reader) routers.Server {
			return routers.Echo(h, func(next echo.HandlerFunc) echo.HandlerFunc {
				return func(c echo.Context) error {
					if read == readForm {
						_ = c.FormValue("_method")
					} else {
						readBody(c.Request(), read)
					}
					return next(c)
				}
			})
		}, false, httpPatience},
		{"fiber", routers.FiberOrigin, func(h *webhook.Handler, read reader) routers.Server {
			return routers.Fiber(h, func(c fiber.Ctx) error {
				switch read {
				case readForm:
					_ = c.FormValue("_method")
				case readAll, readAndPutBack:
					_ = c.Body()
				case readNothing:
				}
				return c.Next()
			})
		}, true, func(s routers.Server, d time.Duration) { s.(*routers.FiberServer).App.Server().ReadTimeout = d }}, //nolint:forcetypeassert // Fiber's
	}
}

func httpPatience(s routers.Server, d time.Duration) { s.(*http.Server).ReadTimeout = d } //nolint:forcetypeassert // the other four

func reading(read reader) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			readBody(r, read)
			next.ServeHTTP(w, r)
		})
	}
}

func readBody(r *http.Request, read reader) {
	switch read {
	case readForm:
		_ = r.FormValue("_method")
	case readAll:
		_, _ = io.Copy(io.Discard, r.Body)
	case readAndPutBack:
		text, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(text))
	case readNothing:
	}
}

// app is a server that runs until the test ends, or until stop.
type app struct {
	url, addr string
	events    *webhook.Handler
	stop      func() error
	client    *http.Client
}

// start serves events to h.
func start(t *testing.T, r router, read reader, h event.HandlerFunc, prepare func(routers.Server), opts ...webhook.Option) *app {
	t.Helper()
	opts = append([]webhook.Option{webhook.WithContext(r.origin), webhook.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	events, err := webhook.NewHandler(webhook.Tokens(token), h, opts...)
	require.NoError(t, err)
	return run(t, r.make(events, read), events, nil, prepare)
}

func run(t *testing.T, s routers.Server, events *webhook.Handler, store io.Closer, prepare func(routers.Server)) *app {
	t.Helper()
	if prepare != nil {
		prepare(s)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- routers.Serve(ctx, l, s, events, store) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	a := &app{url: "http://" + l.Addr().String(), addr: l.Addr().String(), events: events, client: &http.Client{Transport: transport, Timeout: time.Minute}}
	a.stop = sync.OnceValue(func() error {
		transport.CloseIdleConnections()
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = a.stop() })
	return a
}

// post sends an event about a deal to a tenant's path.
func (a *app) post(ctx context.Context, tenant string, deal int64, change func(*http.Request)) (int, error) {
	r, err := eventtest.NewRequest(ctx, event.OnCrmDealUpdate, event.CRMEntity{ID: deal},
		eventtest.WithToken(token), eventtest.WithURL(a.url+"/bitrix24/"+tenant))
	if err != nil {
		return 0, err
	}
	if change != nil {
		change(r)
	}
	return a.do(r)
}

func (a *app) do(r *http.Request) (int, error) {
	r.RequestURI = ""
	resp, err := a.client.Do(r)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// TestResponses: what the handler promises about responses holds behind each router.
func TestResponses(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, r := range all() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			deals := make(chan int64, 1)
			a := start(t, r, readNothing, func(_ context.Context, d *event.Delivery) error {
				e, err := event.OnCrmDealUpdate.Decode(d)
				deals <- e.ID
				return err
			}, nil)
			for name, test := range map[string]struct {
				change func(*http.Request)
				want   int
			}{
				"an event":                              {nil, http.StatusOK},
				"an event, the response may be gzip":    {set("Accept-Encoding", "gzip"), http.StatusOK},
				"an event that a browser sends":         {set("Sec-Fetch-Site", "same-origin"), http.StatusOK},
				"GET":                                   {func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0 }, http.StatusNoContent},
				"HEAD":                                  {func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodHead, nil, 0 }, http.StatusNoContent},
				"PUT":                                   {func(r *http.Request) { r.Method = http.MethodPut }, http.StatusMethodNotAllowed},
				"XML":                                   {set("Content-Type", "application/xml"), http.StatusUnsupportedMediaType},
				"another path":                          {func(r *http.Request) { r.URL.Path = "/other" }, http.StatusNotFound},
				"too large":                             {body("event=" + strings.Repeat("x", 1<<20)), http.StatusRequestEntityTooLarge},
				"malformed":                             {body("%zz"), http.StatusBadRequest},
				"not an event":                          {body("a=b"), http.StatusBadRequest},
				"forged":                                {body("event=ONCRMDEALUPDATE&data[FIELDS][ID]=1&auth[application_token]=guess"), http.StatusForbidden},
				"an event in chunks of unknown length":  {func(r *http.Request) { r.ContentLength = -1 }, http.StatusOK},
				"an event whose sender closes at once":  {func(r *http.Request) { r.Close = true }, http.StatusOK},
				"an event with a foreign request ID":    {set("X-Request-Id", "id\t\x7f"), 0},
				"an event with another tenant, escaped": {func(r *http.Request) { r.URL.RawPath = "/bitrix24/%61" }, http.StatusOK},
			} {
				t.Run(name, func(t *testing.T) {
					got, err := a.post(t.Context(), "a", 42, test.change)
					for range 100 {
						if err == nil || r.name != "fiber" || test.want != http.StatusRequestEntityTooLarge {
							break
						}
						// It closes the connection before the body was sent, so the response may get lost.
						got, err = a.post(t.Context(), "a", 42, test.change)
					}
					if test.want == 0 {
						require.Error(t, err, "the client refuses to send it")
						return
					}
					if r.name == "fiber" && test.want == http.StatusNotFound {
						test.want = http.StatusForbidden // its CSRF check comes before the route
					}
					if r.name == "echo" && test.want == http.StatusNotFound {
						test.want = http.StatusBadRequest // the same
					}
					require.NoError(t, err)
					require.Equal(t, test.want, got)
					if got == http.StatusOK {
						require.EqualValues(t, 42, <-deals)
					}
				})
			}
			require.NoError(t, a.stop())
			require.Empty(t, deals, "nothing else reached the event handler")
		})
	}
}

func body(text string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength, r.GetBody = io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
	}
}

// TestTenants: each event handler gets the tenant and the request ID of its own request, although
// it runs after the router has reused the request's memory.
func TestTenants(t *testing.T) {
	t.Parallel()
	const events, again = 300, 300
	for _, r := range all() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			answered := make(chan struct{})
			var mu sync.Mutex
			got := make(map[int64]routers.Origin)
			a := start(t, r, readNothing, func(ctx context.Context, d *event.Delivery) error {
				<-answered // all requests are over, and their memory was used again
				e, err := event.OnCrmDealUpdate.Decode(d)
				mu.Lock()
				defer mu.Unlock()
				got[e.ID] = routers.OriginOf(ctx)
				return errors.Join(err, ctx.Err()) // it does not end with the request
			}, nil)
			want := make(map[int64]routers.Origin)
			var wg sync.WaitGroup
			failed := make(chan error, events+again)
			send := func(i int) {
				tenant, id := fmt.Sprintf("tenant-%04d", i), fmt.Sprintf("request-%06d", i)
				status, err := a.post(t.Context(), tenant, int64(i), func(r *http.Request) { r.Header.Set("X-Request-Id", id) })
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("the response is %d", status)
				}
				failed <- err
			}
			for i := range events {
				want[int64(i+1)] = routers.Origin{Tenant: fmt.Sprintf("tenant-%04d", i+1), RequestID: fmt.Sprintf("request-%06d", i+1)}
				wg.Go(func() { send(i + 1) })
			}
			wg.Wait()
			for i := range again { // the same connections, one after the other
				id := events + i + 1
				want[int64(id)] = routers.Origin{Tenant: fmt.Sprintf("tenant-%04d", id), RequestID: fmt.Sprintf("request-%06d", id)}
				send(id)
			}
			close(failed)
			for err := range failed {
				require.NoError(t, err)
			}
			close(answered)
			require.NoError(t, a.stop())
			require.Equal(t, want, got)
			require.EqualValues(t, events+again, a.events.Stats().Handled)
		})
	}
}

// TestBodyReaders: a middleware that reads the body first.
func TestBodyReaders(t *testing.T) {
	t.Parallel()
	for _, r := range all() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]struct {
				read reader
				want int
			}{
				"reads the form":         {readForm, http.StatusOK},
				"reads and puts back":    {readAndPutBack, http.StatusOK},
				"reads and forgets":      {readAll, http.StatusBadRequest},
				"does not read the body": {readNothing, http.StatusOK},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					var logs syncBuffer
					a := start(t, r, test.read, func(context.Context, *event.Delivery) error { return nil }, nil,
						webhook.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
					status, err := a.post(t.Context(), "a", 42, nil)
					require.NoError(t, err)
					require.NoError(t, a.stop())
					if r.bodies {
						test.want = http.StatusOK
					}
					require.Equal(t, test.want, status)
					require.Equal(t, test.want == http.StatusBadRequest, strings.Contains(logs.String(), "middleware"), "the log names the cause")
					require.NotContains(t, logs.String(), token)
				})
			}
		})
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestCrossOrigin: the protection against forged requests from browsers lets the events of portals
// through and nothing else.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	for _, r := range all() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			a := start(t, r, readNothing, func(context.Context, *event.Delivery) error { return nil }, nil)
			status, err := a.post(t.Context(), "a", 42, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status)
			resp, err := a.post(t.Context(), "a", 42, func(r *http.Request) {
				r.URL.Path = "/other"
				r.Header.Set("Origin", "https://evil.example")
				r.Header.Set("Sec-Fetch-Site", "cross-site")
			})
			require.NoError(t, err)
			require.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, resp)
		})
	}
}

// TestSlowBody: a sender that never finishes its body is cut off, also if a middleware hides the
// deadlines of the connection.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	for _, r := range all() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			a := start(t, r, readNothing, func(context.Context, *event.Delivery) error { return nil },
				func(s routers.Server) { r.patience(s, 100*time.Millisecond) })
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", a.addr)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			_, err = io.WriteString(conn, "POST /bitrix24/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nevent=")
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
			_, err = io.Copy(io.Discard, conn) // a response or none, then the end of the connection
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is still open")
			require.NoError(t, a.stop())
			require.Zero(t, a.events.Stats().Accepted)
		})
	}
}

// TestLimits: each server bounds what strangers may send before the handler sees it. That of fiber
// has to bound the body too, because its handler gets whole bodies only.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, r := range all() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			h, err := webhook.NewHandler(webhook.Tokens(token), event.NewMux())
			require.NoError(t, err)
			switch s := r.make(h, readNothing).(type) {
			case *http.Server:
				require.Positive(t, s.ReadHeaderTimeout)
				require.Positive(t, s.ReadTimeout)
				require.Less(t, s.ReadTimeout, routers.Drain, "a slow sender leaves the handler time to drain")
			case *routers.FiberServer:
				require.Positive(t, s.App.Server().ReadTimeout)
				require.Less(t, s.App.Server().ReadTimeout, routers.Drain)
				require.Equal(t, webhook.DefaultMaxBodyBytes, s.App.Server().MaxRequestBodySize)
			}
			require.NoError(t, h.Shutdown(t.Context()))
		})
	}
}

// slowVerifier holds a request within the handler until release is closed.
type slowVerifier struct {
	webhook.Verifier

	entered chan struct{}
	release chan struct{}
}

func (v slowVerifier) Verify(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	v.entered <- struct{}{}
	select {
	case <-v.release:
	case <-ctx.Done():
		return event.Proof{}, context.Cause(ctx)
	}
	return v.Verifier.Verify(ctx, d)
}

// TestLateResponse: an event whose response a middleware has given up is handled all the same.
func TestLateResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := slowVerifier{webhook.Tokens(token), make(chan struct{}, 1), make(chan struct{})}
		handled := 0
		h, err := webhook.NewHandler(v, event.HandlerFunc(func(context.Context, *event.Delivery) error {
			handled++
			return nil
		}))
		require.NoError(t, err)
		server := routers.NetHTTP(h, func(next http.Handler) http.Handler {
			return http.TimeoutHandler(next, 10*time.Second, "")
		})
		r, err := eventtest.NewRequest(t.Context(), event.OnCrmDealUpdate, event.CRMEntity{ID: 42},
			eventtest.WithToken(token), eventtest.WithURL("https://example.com/bitrix24/a"))
		require.NoError(t, err)
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, r)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		close(v.release)
		synctest.Wait()
		require.Equal(t, 1, handled)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// closer records when the store was closed.
type closer struct {
	*webhooktest.MemoryStore

	events *webhook.Handler
	handed int64
	closed bool
}

func (c *closer) Close() error {
	c.closed, c.handed = true, int64(c.events.Stats().Handled) //nolint:gosec // a few
	return nil
}

// TestShutdown: a request under way when the stop begins is still accepted, what was acknowledged
// is handled, and the store is closed last.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{false, true} {
		t.Run("durable "+strconv.FormatBool(durable), func(t *testing.T) {
			t.Parallel()
			for _, r := range all() {
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					const events = 20
					v := slowVerifier{webhook.Tokens(token), make(chan struct{}, events), make(chan struct{})}
					handle := event.HandlerFunc(func(ctx context.Context, _ *event.Delivery) error { return ctx.Err() })
					opts := []webhook.Option{webhook.WithLogger(slog.New(slog.DiscardHandler))}
					store := &closer{}
					if durable {
						memory, err := webhooktest.NewMemoryStore()
						require.NoError(t, err)
						store.MemoryStore = memory
						opts = append(opts, webhook.WithStore(memory))
					} else {
						opts = append(opts, webhook.WithContext(r.origin))
					}
					h, err := webhook.NewHandler(v, handle, opts...)
					require.NoError(t, err)
					store.events = h
					a := run(t, r.make(h, readNothing), h, store, nil)

					answers := make(chan int, events)
					for i := range events {
						go func() {
							status, err := a.post(context.WithoutCancel(t.Context()), "a", int64(i+1), nil)
							if err != nil {
								status = -1
							}
							answers <- status
						}()
					}
					for range events {
						<-v.entered
					}
					stopped := make(chan error, 1)
					go func() { stopped <- a.stop() }()
					require.Eventually(t, func() bool { // the server has begun to stop
						conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", a.addr)
						if err == nil {
							_ = conn.Close()
						}
						return err != nil
					}, 10*time.Second, time.Millisecond)
					close(v.release)
					for range events {
						require.Equal(t, http.StatusOK, <-answers)
					}
					require.NoError(t, <-stopped)
					stats := h.Stats()
					require.EqualValues(t, events, stats.Accepted)
					require.Zero(t, stats.Lost)
					require.True(t, store.closed)
					require.EqualValues(t, stats.Handled, store.handed, "the store was closed after the last handler")
					if durable {
						depth, err := store.Depth(t.Context())
						require.NoError(t, err)
						require.EqualValues(t, events, stats.Handled+uint64(depth.Pending), "handled, or kept for the next start") //nolint:gosec // a few
					} else {
						require.EqualValues(t, events, stats.Handled)
					}
				})
			}
		})
	}
}

// TestServeFails: a server that cannot serve ends Serve, and everything is stopped all the same.
func TestServeFails(t *testing.T) {
	t.Parallel()
	for _, r := range all() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			h, err := webhook.NewHandler(webhook.Tokens(token), event.NewMux(), webhook.WithLogger(slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			require.NoError(t, l.Close())
			store := &closer{events: h}
			require.Error(t, routers.Serve(t.Context(), l, r.make(h, readNothing), h, store))
			require.True(t, store.closed)
		})
	}
}
