package eventtest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

func TestFaultsWithAnswers(t *testing.T) {
	t.Parallel()
	moved := http.RedirectHandler("https://example.com/", http.StatusMovedPermanently)
	for _, tt := range []struct {
		name        string
		fault       eventtest.Fault
		status      int
		code        string
		contentType string
		body        string // a part of it
		ran         bool
	}{
		{"expired", eventtest.ExpiredToken(), 401, "expired_token", "application/json", "has expired", false},
		{"revoked", eventtest.RevokedToken(), 401, "invalid_token", "application/json", "", false},
		{"refused", eventtest.RefusedRefresh(), 400, "invalid_grant", "application/json", "", false},
		{"raw", eventtest.Raw(429, "text/html", "busy"), 429, "", "text/html", "busy", false},
		{"raw result", eventtest.Raw(200, "application/json", `{"result":7}`), 200, "", "application/json", `{"result":7}`, false},
		{"empty", eventtest.Raw(200, "application/json", ""), 200, "", "application/json", "", false},
		{"handler", eventtest.Answer(moved), 301, "", "", "", false},
		{"page", eventtest.HTML(503), 503, "", "text/html", "<h1>Service Unavailable", false},
		{"encoding", eventtest.WrongEncoding(), 200, "WRONG_ENCODING", "application/json", "Wrong request encoding", true},
		{"rewritten", eventtest.Rewrite(func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"result":1`), []byte(`"result":"one"`), 1)
		}), 200, "", "application/json", `"result":"one"`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			p.Once("crm.deal.add", tt.fault)
			body := `{"fields":{},"auth":"` + c.token + `"}`
			a := send(t, http.MethodPost, p.ClientEndpoint()+"crm.deal.add", "application/json", body)
			require.Equal(t, tt.status, a.Status)
			require.Equal(t, tt.code, a.Error)
			require.True(t, strings.HasPrefix(a.Header.Get("Content-Type"), tt.contentType), a.Header)
			require.Contains(t, a.Raw, tt.body)
			_, ran := p.Object(eventtest.Deal, 1)
			require.Equal(t, tt.ran, ran)
			last := p.Calls()[len(p.Calls())-1]
			require.Equal(t, "crm.deal.add", last.Method)
			require.Equal(t, tt.status, last.Status)
			c.ok("crm.deal.add", obj{"fields": obj{}})
		})
	}
}

func TestFaultsInBatches(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	p.Once("user.admin", eventtest.Raw(200, "application/json", `{"result":{"a":[]},"total":7,"next":5}`))
	p.Once("scope", eventtest.Raw(400, "application/json", `{"error":"X","error_description":"y","argument":"Z"}`))
	p.Once("profile", eventtest.Raw(200, "application/json", `7`), eventtest.Fail(400, "LATER", ""))
	p.Always("server.time", eventtest.ExpiredToken())
	b := c.batch(obj{
		"a": "user.admin", "b": "scope", "c": "server.time", "d": "server.time", "e": "method.get?name=profile",
		"f": "profile",
	}, 0)
	var results map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(b.Result, &results))
	require.JSONEq(t, `{"a":[]}`, string(results["a"]))
	require.Contains(t, results, "f", "what no item can say waits")
	require.JSONEq(t, `{"a":7}`, string(b.Total))
	require.JSONEq(t, `{"a":5}`, string(b.Next))
	require.JSONEq(t, `{"b":{"error":"X","error_description":"y","argument":"Z"},
		"c":{"error":"expired_token","error_description":"The access token provided has expired"},
		"d":{"error":"expired_token","error_description":"The access token provided has expired"}}`, string(b.Errors))
	require.Equal(t, "7", c.call("profile", nil).Raw)
	require.Equal(t, "LATER", c.call("profile", nil).Error)
}

func TestFaultsUntilHealed(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	down := func(method string) bool { return c.call(method, nil).Status == http.StatusBadGateway }
	p.Times(2, "profile", eventtest.HTML(http.StatusBadGateway))
	require.True(t, down("profile"))
	require.True(t, down("profile"))
	require.False(t, down("profile"))

	p.Always("profile", eventtest.HTML(http.StatusBadGateway))
	p.Once("profile", eventtest.Fail(400, "FIRST", ""))
	require.Equal(t, "FIRST", c.call("profile", nil).Error)
	for range 3 {
		require.True(t, down("Profile.json"))
	}
	require.False(t, down("server.time"))
	p.Heal("server.time")
	require.True(t, down("profile"))
	p.Heal("PROFILE")
	require.False(t, down("profile"))

	p.Always(eventtest.AnyMethod, eventtest.HTML(http.StatusBadGateway))
	p.Once("profile", eventtest.Fail(400, "FIRST", ""))
	require.True(t, down("server.time"))
	require.True(t, down("no.such.method"))
	require.Equal(t, "FIRST", c.call("profile", nil).Error, "the method's own come first")
	require.True(t, down("profile"))
	g, err := c.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, refresh(t, p, c.app, string(g.RefreshToken)).Status, "the OAuth server is another")
	p.Heal()
	require.False(t, down("profile"))
}

func refresh(t *testing.T, p *eventtest.Portal, app *eventtest.Application, token string) answer {
	t.Helper()
	return send(t, http.MethodPost, strings.TrimSuffix(p.ServerEndpoint(), "rest/")+"oauth/token/", "application/x-www-form-urlencoded",
		url.Values{
			"grant_type": {"refresh_token"}, "client_id": {app.ClientID()}, "client_secret": {string(app.ClientSecret())}, "refresh_token": {token},
		}.Encode())
}

func TestFaultBefore(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	p.Once("crm.deal.get", eventtest.Before(func(r *http.Request) {
		if r.Context().Err() == nil {
			_, _ = p.Add(eventtest.Deal, map[string]any{"TITLE": "just in time"}, eventtest.AdminID)
		}
	}))
	require.Equal(t, "just in time", c.ok("crm.deal.get", obj{"id": 1}).object(t)["TITLE"])
}

func TestFaultsOfTokens(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	g, err := c.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	p.Once("oauth/token", eventtest.RefusedRefresh(), eventtest.Rewrite(func([]byte) []byte { return []byte(`{"odd":true}`) }))
	require.Equal(t, "invalid_grant", refresh(t, p, c.app, string(g.RefreshToken)).Error)
	require.JSONEq(t, `{"odd":true}`, refresh(t, p, c.app, string(g.RefreshToken)).Raw)
	require.Equal(t, "invalid_grant", refresh(t, p, c.app, string(g.RefreshToken)).Error, "it was used up")
	require.Equal(t, []string{"invalid_grant", "", "invalid_grant"},
		[]string{p.OAuthCalls()[0].ErrorCode, p.OAuthCalls()[1].ErrorCode, p.OAuthCalls()[2].ErrorCode})

	g, err = c.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	other := install(t, p, eventtest.App{})
	c.app.RevokeTokens()
	require.Equal(t, "invalid_token", c.call("profile", nil).Error)
	require.Equal(t, "invalid_grant", refresh(t, p, c.app, string(g.RefreshToken)).Error)
	other.ok("profile", nil)
	as(t, p, c.app, eventtest.AdminID).ok("profile", nil)
}

func TestFaultCutAnswer(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	p.Once("crm.deal.add", eventtest.CutAnswer())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.ClientEndpoint()+"crm.deal.add?fields[TITLE]=x&auth="+c.token,
		http.NoBody)
	require.NoError(t, err)
	resp, err := client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it was cut
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	require.Error(t, err)
	require.True(t, strings.HasPrefix(body.String(), `{"result":1`), body.String())
	require.Equal(t, int64(2*body.Len()), resp.ContentLength-resp.ContentLength%2)
	_, ran := p.Object(eventtest.Deal, 1)
	require.True(t, ran)
}
