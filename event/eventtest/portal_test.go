package eventtest_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

func TestOptionsRefuse(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]eventtest.Option{
		"no address":     eventtest.WithListen(""),
		"no logger":      eventtest.WithLogger(nil),
		"member id":      eventtest.WithMemberID("ABC"),
		"token lifetime": eventtest.WithTokenLifetime(time.Millisecond),
		"delivery wait":  eventtest.WithDeliveryTimeout(0),
		"no parallel":    eventtest.WithParallelDelivery(0),
		"parallel":       eventtest.WithParallelDelivery(17),
		"rate":           eventtest.WithRateLimit(0, 5),
		"burst":          eventtest.WithRateLimit(5, 0),
		"no oauth":       eventtest.WithOAuthListen(""),
		"no fallback":    eventtest.WithFallback(nil),
		"no quirks":      eventtest.WithQuirks(nil),
	} {
		p, err := eventtest.New(opt)
		require.ErrorIs(t, err, eventtest.ErrConfig, name)
		require.Nil(t, p)
	}
	_, err := eventtest.New(eventtest.WithListen("nowhere:x"))
	require.Error(t, err)
	require.NotErrorIs(t, err, eventtest.ErrConfig, "the machine cannot listen there")
}

func TestOptions(t *testing.T) {
	t.Parallel()
	const id = "0123456789abcdef0123456789abcdef"
	p, c := newPortal(t, nil, eventtest.WithMemberID(id), eventtest.WithTokenLifetime(90*time.Second), eventtest.WithListen("0.0.0.0:0"))
	require.Equal(t, id, p.MemberID())
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, p.Domain())
	c.ok("server.time", nil)
	g, err := c.app.Grant(1)
	require.NoError(t, err)
	require.WithinDuration(t, p.Now().Add(90*time.Second), g.Expires, 2*time.Second)
	p.Advance(91 * time.Second)
	require.Equal(t, "expired_token", c.call("server.time", nil).Error)
	before := p.Now()
	p.Advance(-time.Hour)
	require.False(t, p.Now().Before(before))
}

func TestLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	var out safeBuffer
	p, c := newPortal(t, eventtest.WithLogger(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	in := newInbox(t)
	c.bind(obj{"event": "ONAPPTEST", "handler": in.URL + "/secret-path"})
	c.ok("event.test", nil)
	wait(t, p)
	log := out.String()
	require.Contains(t, log, "ONAPPTEST")
	for _, secret := range []string{c.token, string(c.app.ApplicationToken()), "secret-path"} {
		require.NotContains(t, log, secret)
	}
}

// TestServerErrorsAreLogged lets the fallback panic, which net/http reports to the server's log.
func TestServerErrorsAreLogged(t *testing.T) {
	t.Parallel()
	var out safeBuffer
	p := eventtest.NewPortal(t, eventtest.WithLogger(slog.New(slog.NewJSONHandler(&out, nil))),
		eventtest.WithFallback(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("planted") })))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"/", http.NoBody)
	require.NoError(t, err)
	resp, err := client.Do(r)
	if err == nil {
		_ = resp.Body.Close()
	}
	require.Error(t, err, "the connection breaks")
	require.NoError(t, p.Close(), "every request has ended")
	require.Contains(t, out.String(), `"level":"WARN"`)
	require.Contains(t, out.String(), "planted")
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestClose(t *testing.T) {
	t.Parallel()
	p, err := eventtest.New()
	require.NoError(t, err)
	c := install(t, p, eventtest.App{Scope: []string{"crm"}})
	release, reached := make(chan struct{}), make(chan struct{}, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached <- struct{}{}
		<-release
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(release) })
	c.bind(obj{"event": "ONCRMDEALADD", "handler": srv.URL})
	addDeal(t, p)
	addDeal(t, p)
	<-reached
	waited := make(chan error, 1)
	go func() { waited <- p.Wait(t.Context()) }()
	require.NoError(t, p.Close(), "with a delivery under way and one queued")
	require.ErrorIs(t, <-waited, eventtest.ErrClosed)
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.Wait(t.Context()), eventtest.ErrClosed)
	require.ErrorIs(t, p.Raise("X", nil, 1), eventtest.ErrClosed)
	require.ErrorIs(t, p.Resend(eventtest.Attempt{URL: srv.URL}), eventtest.ErrClosed)
	require.ErrorIs(t, p.Rename(t.Context()), eventtest.ErrClosed)
	require.ErrorIs(t, c.app.Install(t.Context()), eventtest.ErrClosed)
	_, err = p.Add(eventtest.Deal, nil, 1)
	require.ErrorIs(t, err, eventtest.ErrClosed)
	_, err = client.Get(p.ClientEndpoint() + "server.time") //nolint:noctx,bodyclose // nobody is there
	require.Error(t, err)
}

// TestCloseLeavesNoGoroutines is not parallel, because it counts the goroutines of the process.
func TestCloseLeavesNoGoroutines(t *testing.T) { //nolint:paralleltest // see above
	before := runtime.NumGoroutine()
	for range 5 {
		p, err := eventtest.New()
		require.NoError(t, err)
		c := install(t, p, eventtest.App{Scope: []string{"crm"}})
		c.ok("server.time", nil)
		require.NoError(t, p.Rename(t.Context()))
		c.ok("server.time", nil)
		require.NoError(t, p.Close())
	}
	client.CloseIdleConnections()
	deadline := time.After(30 * time.Second) // connections end in goroutines of net/http
	for tick := time.NewTicker(time.Millisecond); runtime.NumGoroutine() > before; {
		select {
		case <-tick.C:
		case <-deadline:
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t, eventtest.WithParallelDelivery(8))
	in := newInbox(t)
	c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
	c.bind(obj{"event": "ONCRMDEALUPDATE", "event_type": "offline"})
	var wg sync.WaitGroup
	const workers, rounds = 8, 25
	for range workers {
		wg.Go(func() {
			for range rounds {
				id, err := p.Add(eventtest.Deal, nil, 1)
				if err != nil {
					t.Error(err)
					return
				}
				if err := p.Update(eventtest.Deal, id, nil, 1); err != nil {
					t.Error(err)
				}
				if a := c.call("event.offline.get", obj{"clear": 1, "limit": 1}); a.Status != http.StatusOK {
					t.Error(a.Raw)
				}
				_, _, _ = p.Deliveries(), p.Calls(), p.OfflineRows()
			}
		})
	}
	wg.Wait()
	wait(t, p)
	require.Len(t, in.forms(t), workers*rounds)
	require.Empty(t, p.OfflineRows())
	require.Equal(t, workers*rounds, p.CallCount("event.offline.get"))
}
