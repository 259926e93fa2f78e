package eventtest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	t.Run("Fail happens once, and the method does not run", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		p.Once("Crm.Deal.Add", eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."))
		p.Once("crm.deal.add", eventtest.Fail(500, "INTERNAL_SERVER_ERROR", ""))
		c.ok("server.time", nil)
		a := c.call("crm.deal.add", obj{"fields": obj{}})
		require.Equal(t, http.StatusTooManyRequests, a.Status)
		require.Equal(t, "OPERATION_TIME_LIMIT", a.Error)
		require.Equal(t, http.StatusInternalServerError, c.call("crm.deal.add", obj{"fields": obj{}}).Status)
		require.JSONEq(t, "1", string(c.ok("crm.deal.add", obj{"fields": obj{}}).Result))
		require.Equal(t, "OPERATION_TIME_LIMIT", p.Calls()[1].ErrorCode)
		require.Equal(t, 3, p.CallCount("crm.deal.add"))
	})
	t.Run("HTML", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		p.Once("server.time", eventtest.HTML(http.StatusBadGateway))
		a := c.call("server.time", nil)
		require.Equal(t, http.StatusBadGateway, a.Status)
		require.Equal(t, "text/html; charset=utf-8", a.Header.Get("Content-Type"))
		require.Contains(t, a.Raw, "<html>")
		c.ok("server.time", nil)
	})
	t.Run("connections", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct {
			name  string
			fault eventtest.Fault
			ran   int
		}{
			{"Reset does not run the method", eventtest.Reset(), 0},
			{"LoseAnswer runs it", eventtest.LoseAnswer(), 1},
		} {
			p, c := newPortal(t)
			p.Once("crm.deal.add", tt.fault)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.ClientEndpoint()+"crm.deal.add?auth="+c.token,
				io.NopCloser(strings.NewReader(`{"fields":{}}`)))
			require.NoError(t, err)
			r.Header.Set("Content-Type", "application/json")
			_, err = client.Do(r) //nolint:bodyclose // there is none
			require.Error(t, err, tt.name)
			_, there := p.Object(eventtest.Deal, 1)
			require.Equal(t, tt.ran == 1, there, tt.name)
			require.Equal(t, 1, p.CallCount("crm.deal.add"))
		}
	})
	t.Run("a lost answer of event.offline.get loses the rows", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 2)
		p.Once("event.offline.get", eventtest.LoseAnswer())
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.ClientEndpoint()+"event.offline.get?auth="+c.token, http.NoBody)
		require.NoError(t, err)
		resp, err := client.Do(r)
		if err == nil { // the transport repeats a GET on a reused connection
			require.NoError(t, resp.Body.Close())
		}
		require.Empty(t, p.OfflineRows())
	})
	t.Run("Delay", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		p.Once("server.time", eventtest.Delay(30*time.Millisecond))
		start := time.Now()
		c.ok("server.time", nil)
		require.GreaterOrEqual(t, time.Since(start), 30*time.Millisecond)
	})
	t.Run("in a batch only Fail", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		p.Once("user.admin", eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"))
		p.Once("scope", eventtest.HTML(500))
		b := c.batch(obj{"a": "user.admin", "b": "user.admin", "c": "scope"}, 0)
		require.JSONEq(t, `{"a":{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}}`, string(b.Errors))
		require.Equal(t, http.StatusInternalServerError, c.call("scope", nil).Status, "the other waited")
	})
	t.Run("a whole batch", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		p.Once("batch", eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"))
		require.Equal(t, http.StatusServiceUnavailable, c.call("batch", obj{"cmd": []string{"scope"}}).Status)
		require.Zero(t, p.CallCount("scope"))
	})
}

// say returns a handler that responds with a status and a text.
func say(status int, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	p.Once("crm.deal.add", eventtest.Answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && strings.Contains(string(body), "Rocket") {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write(body)
	})))
	a := c.call("crm.deal.add", obj{"fields": obj{"TITLE": "Rocket"}})
	require.Equal(t, http.StatusTeapot, a.Status)
	require.Contains(t, a.Raw, "Rocket")
	require.Equal(t, http.StatusTeapot, p.Calls()[0].Status)
	_, ran := p.Object(eventtest.Deal, 1)
	require.False(t, ran)
	require.JSONEq(t, "1", string(c.ok("crm.deal.add", obj{"fields": obj{}}).Result), "once")

	p.Once("server.time", eventtest.Answer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.ClientEndpoint()+"server.time", nil)
	require.NoError(t, err)
	_, err = client.Do(r) //nolint:bodyclose // there is none
	require.Error(t, err)
	require.Zero(t, p.Calls()[2].Status)
}

func TestFaultsThatStay(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	p.Always("Server.Time", eventtest.Answer(say(http.StatusGone, "{}")))
	p.Always(eventtest.AnyMethod, eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", ""))
	p.Once("server.time", eventtest.HTML(http.StatusBadGateway))
	p.Once(eventtest.AnyMethod, eventtest.HTML(http.StatusGatewayTimeout))
	for _, status := range []int{502, 504, 410, 410} {
		require.Equal(t, status, c.call("server.time", nil).Status, "its own before those of any method, once before always")
	}
	require.Equal(t, 503, c.call("profile", nil).Status)
	require.Equal(t, 503, c.call("no.such", nil).Status)
	p.Once("profile", eventtest.HTML(http.StatusBadGateway))
	p.Heal("profile")
	p.Heal(eventtest.AnyMethod)
	c.ok("profile", nil)
	require.Equal(t, 410, c.call("server.time", nil).Status)
	p.Heal("server.time")
	c.ok("server.time", nil)

	p.Always("crm.deal.get", eventtest.Fail(400, "", "Access denied"))
	for range 2 {
		b := c.batch(obj{"a": "crm.deal.get?id=1", "b": "server.time"}, 0)
		require.Contains(t, string(b.Errors), "Access denied")
		require.Contains(t, string(b.Result), `"b"`)
	}
}
