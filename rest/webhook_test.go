package rest_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

func TestWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 60, strconv.Itoa)
	address, err := w.AddIncomingWebhook(eventtest.AdminID, "crm")
	require.NoError(t, err)
	secret := string(address)[strings.Index(string(address), "/rest/1/")+len("/rest/1/"):]
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client, err := rest.NewWebhook(string(address), rest.WithInsecureHTTP(), rest.WithLogger(log))
	require.NoError(t, err)
	require.Empty(t, client.MemberID())

	got, err := rest.Call[deal](t.Context(), client, "crm.deal.get", map[string]any{"id": 7})
	require.NoError(t, err)
	require.Equal(t, "7", got.Title)
	all, err := collect(t, rest.All[deal](t.Context(), client, "crm.deal.list", nil, rest.ByID("ID")))
	require.NoError(t, err)
	require.Len(t, all, 60)
	c, err := rest.NewCoalescer(client)
	require.NoError(t, err)
	got, err = rest.Call[deal](t.Context(), c, "crm.deal.get", map[string]any{"id": 8})
	require.NoError(t, err)
	require.Equal(t, "8", got.Title)

	b := rest.NewBatch()
	bound := rest.Add[bool](b, "bind", "event.bind", map[string]any{"event": "ONCRMDEALADD"})
	require.NoError(t, client.Batch(t.Context(), b))
	_, inBatch := bound.Result()
	alone := client.Call(t.Context(), "event.get", nil, nil)
	for _, err := range []error{inBatch, alone} {
		require.ErrorIs(t, err, rest.ErrWrongAuthType)
		var e *rest.Error
		require.ErrorAs(t, err, &e)
		require.NotEmpty(t, e.Hint)
		require.Contains(t, e.Error(), e.Hint)
	}

	require.NotContains(t, out.String(), strings.Trim(secret, "/"))
	require.Contains(t, out.String(), `"host":"`+w.Domain()+`"`)
}

func TestWebhookOnTheWire(t *testing.T) {
	t.Parallel()
	p := newPortal(t, says(200, `{"result":1}`))
	client, err := rest.NewWebhook(p.URL()+"/rest/1/s3cr3t", rest.WithInsecureHTTP())
	require.NoError(t, err)
	require.NoError(t, client.Call(t.Context(), "crm.deal.get", map[string]any{"id": 1}, nil))
	seen := p.requests()
	require.Equal(t, "/rest/1/s3cr3t/crm.deal.get", seen[0].path)
	require.Equal(t, "id=1", seen[0].body)
	require.Empty(t, seen[0].query)

	require.ErrorIs(t, client.Call(t.Context(), "crm.deal.get", map[string]any{"auth": "x"}, nil), rest.ErrBadCall)
}

// A call fails in every possible way, with the secret in the URL and echoed by the portal.
func TestWebhookKeepsItsSecret(t *testing.T) {
	t.Parallel()
	closed := newPortal(t, says(200, ""))
	require.NoError(t, closed.Close())
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1"+r.URL.Path, http.StatusFound) //nolint:gosec // what a test is about
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	responses := map[string]http.HandlerFunc{
		"refused":      says(401, `{"error":"INVALID_CREDENTIALS","error_description":"no s3cr3tCODE here","argument":"s3cr3tCODE"}`),
		"code":         says(400, `{"error":"s3cr3tCODE"}`),
		"page":         says(502, `<html>/rest/1/s3cr3tCODE/profile</html>`),
		"moved":        redirect,
		"closed":       cut,
		"odd result":   says(200, `{"result":"s3cr3tCODE"}`),
		"event method": says(403, `{"error":"WRONG_AUTH_TYPE","error_description":"s3cr3tCODE"}`),
		"not HTTP":     nil,
	}
	for name, response := range responses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			address := closed.URL()
			if response != nil {
				address = newPortal(t, response).URL()
			}
			client, err := rest.NewWebhook(address+"/rest/1/s3cr3tCODE/", rest.WithInsecureHTTP(), rest.WithLogger(log), rest.WithRetries(0))
			require.NoError(t, err)
			c, err := rest.NewCoalescer(client)
			require.NoError(t, err)
			var result struct{ ID int }
			b := rest.NewBatch()
			command := rest.Add[bool](b, "a", "profile", nil)
			requireNoSecrets(t, client.Call(t.Context(), "profile", nil, &result))
			requireNoSecrets(t, c.Call(t.Context(), "profile", nil, &result))
			requireNoSecrets(t, client.Batch(t.Context(), b))
			_, err = command.Result()
			requireNoSecrets(t, err)
			for _, err := range rest.All[int](t.Context(), client, "crm.deal.list", nil) {
				requireNoSecrets(t, err)
			}
			for _, v := range []any{client, c, b, command} {
				requireNoSecrets(t, v)
				log.LogAttrs(t.Context(), slog.LevelInfo, "planted", slog.Any("v", v))
			}
			require.NotEmpty(t, out.String())
			require.NotContains(t, out.String(), "s3cr3t")
		})
	}
}

func TestWebhookThatMoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	address, err := w.AddIncomingWebhook(eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, w.Rename(t.Context()))
	requests := w.Requests().REST
	client, err := rest.NewWebhook(string(address), rest.WithInsecureHTTP())
	require.NoError(t, err)

	err = client.Call(t.Context(), "profile", nil, nil)

	require.ErrorIs(t, err, rest.ErrMoved)
	var e *rest.Error
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Hint)
	require.Equal(t, requests, w.Requests().REST)
}

func TestNewWebhookRefuses(t *testing.T) {
	t.Parallel()
	urls := map[string]string{ //nolint:gosec // made up
		"empty": "", "no scheme": "example.bitrix24.com/rest/1/s3cr3t/", "http": "http://example.bitrix24.com/rest/1/s3cr3t/",
		"no secret": "https://example.bitrix24.com/rest/1/", "with a method": "https://example.bitrix24.com/rest/1/s3cr3t/profile.json",
		"user is no number": "https://example.bitrix24.com/rest/x/s3cr3t/", "not rest": "https://example.bitrix24.com/hook/1/s3cr3t/",
		"query": "https://example.bitrix24.com/rest/1/s3cr3t/?a=1", "userinfo": "https://u:s3cr3t@example.bitrix24.com/rest/1/s3cr3t/",
		"junk": "https://[::1/rest/1/s3cr3t", "control": "https://example.bitrix24.com/rest/1/s3cr3t\x7f/",
		"other scheme": "ftp://e.com/rest/1/s3cr3t/",
		"escaped":      "https://example.bitrix24.com/rest/1%2Fs3cr3t/x/", "REST 3.0": "https://example.bitrix24.com/rest/api/1/",
		"fragment": "https://example.bitrix24.com/rest/1/s3cr3t/#s3cr3t", "dot": "https://example.bitrix24.com/rest/1/s3cr3t/..",
	}
	for name, address := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rest.NewWebhook(address)
			require.ErrorIs(t, err, rest.ErrConfig)
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "s3cr3t")
		})
	}
	_, err := rest.NewWebhook("https://example.bitrix24.com/rest/api/1/s3cr3t/")
	require.ErrorContains(t, err, "leave out api/")
	require.NotContains(t, err.Error(), "s3cr3t")
	for name, address := range map[string]string{
		"plain": "https://example.bitrix24.com/rest/1/s3cr3t/", "without a slash": "https://example.bitrix24.com/rest/1/s3cr3t",
		"port and folder": "https://b24.example.com:8443/portal/rest/17/s3cr3t/", "spaces around": " https://e.bitrix24.com/rest/1/s3cr3t/\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rest.NewWebhook(address)
			require.NoError(t, err)
		})
	}
	_, err = rest.NewWebhook("https://example.bitrix24.com/rest/1/s3cr3t/", rest.WithRateLimit(0, 0))
	require.ErrorIs(t, err, rest.ErrConfig)
}

// TestWebhooksShareConnections: if each job makes a webhook's client, the client must not keep a
// connection (and two goroutines) of its own for 90 seconds.
func TestWebhooksShareConnections(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(fine)) }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for range 50 {
		hook, err := rest.NewWebhook(server.URL+"/rest/1/s3cr3t/", rest.WithInsecureHTTP())
		require.NoError(t, err)
		require.NoError(t, hook.Call(t.Context(), "profile", nil, nil))
	}
	require.LessOrEqual(t, connections.Load(), int64(5))
}
