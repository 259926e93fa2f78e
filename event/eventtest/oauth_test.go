package eventtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// tokenURL derives the token URL as PROTOCOL 5.2 says.
func tokenURL(p *eventtest.Portal) string {
	return strings.TrimSuffix(p.ServerEndpoint(), "rest/") + "oauth/token/"
}

func tokenForm(app *eventtest.Application, grantType, key string, value event.Secret) url.Values {
	return url.Values{
		"grant_type": {grantType}, "client_id": {app.ClientID()}, "client_secret": {string(app.ClientSecret())}, key: {string(value)},
	}
}

// tokens posts a form to the token endpoint and returns the response.
func tokens(t *testing.T, p *eventtest.Portal, form url.Values) (int, obj) {
	t.Helper()
	a := send(t, http.MethodPost, tokenURL(p), "application/x-www-form-urlencoded", form.Encode())
	var m obj
	require.NoError(t, json.Unmarshal([]byte(a.Raw), &m), a.Raw)
	return a.Status, m
}

func secretOf(m obj, key string) event.Secret {
	s, _ := m[key].(string)
	return event.Secret(s)
}

func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	t.Run("5.2 refresh: every member", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		g, err := c.app.Grant(1)
		require.NoError(t, err)
		status, m := tokens(t, p, tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken))
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, p.MemberID(), m["member_id"])
		require.Equal(t, p.OAuthHost(), m["domain"], "the OAuth host here")
		require.Equal(t, p.ClientEndpoint(), m["client_endpoint"])
		require.Equal(t, p.ServerEndpoint(), m["server_endpoint"])
		require.Equal(t, "app", m["scope"])
		require.Equal(t, "L", m["status"])
		require.InDelta(t, 3600, m["expires_in"], 0)
		require.InDelta(t, p.Now().Add(time.Hour).Unix(), m["expires"], 2)
		require.InDelta(t, 1, m["user_id"], 0)
		require.NotEqual(t, string(g.RefreshToken), m["refresh_token"])
		(&caller{t: t, p: p, token: string(secretOf(m, "access_token"))}).ok("server.time", nil)
		(&caller{t: t, p: p, token: string(g.AccessToken)}).ok("server.time", nil)
	})
	t.Run("5.2 refresh tokens rotate", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		g, err := c.app.Grant(1)
		require.NoError(t, err)
		_, m := tokens(t, p, tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken))
		status, failed := tokens(t, p, tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken))
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, "invalid_grant", failed["error"], "the used one is dead")
		status, _ = tokens(t, p, tokenForm(c.app, "refresh_token", "refresh_token", secretOf(m, "refresh_token")))
		require.Equal(t, http.StatusOK, status)
	})
	t.Run("5.2 GET", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		g, err := c.app.Grant(1)
		require.NoError(t, err)
		form := tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken)
		require.Equal(t, http.StatusOK, send(t, http.MethodGet, tokenURL(p)+"?"+form.Encode(), "", "").Status)
	})
	t.Run("5.2 refresh tokens live 180 days", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		g, err := c.app.Grant(1)
		require.NoError(t, err)
		p.Advance(180*24*time.Hour - time.Minute)
		_, m := tokens(t, p, tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken))
		require.NotEmpty(t, m["refresh_token"])
		p.Advance(180 * 24 * time.Hour)
		_, m = tokens(t, p, tokenForm(c.app, "refresh_token", "refresh_token", secretOf(m, "refresh_token")))
		require.Equal(t, "invalid_grant", m["error"])
	})
	t.Run("5.2 access tokens live an hour", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		p.Advance(59 * time.Minute)
		c.ok("server.time", nil)
		p.Advance(2 * time.Minute)
		require.Equal(t, "expired_token", c.call("server.time", nil).Error)
	})
	t.Run("5.1 codes live 30 seconds and work once", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		code, err := c.app.Code(1)
		require.NoError(t, err)
		status, m := tokens(t, p, tokenForm(c.app, "authorization_code", "code", code))
		require.Equal(t, http.StatusOK, status)
		require.NotEmpty(t, m["refresh_token"])
		_, m = tokens(t, p, tokenForm(c.app, "authorization_code", "code", code))
		require.Equal(t, "invalid_grant", m["error"])
		code, err = c.app.Code(1)
		require.NoError(t, err)
		late, err := c.app.Code(1)
		require.NoError(t, err)
		p.Advance(20 * time.Second)
		status, _ = tokens(t, p, tokenForm(c.app, "authorization_code", "code", late))
		require.Equal(t, http.StatusOK, status)
		p.Advance(10 * time.Second)
		_, m = tokens(t, p, tokenForm(c.app, "authorization_code", "code", code))
		require.Equal(t, "invalid_grant", m["error"])
	})
	t.Run("5.3 errors", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		other := install(t, p, eventtest.App{})
		g, err := c.app.Grant(1)
		require.NoError(t, err)
		form := func(key, value string) url.Values {
			f := tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken)
			f.Set(key, value)
			return f
		}
		for _, tt := range []struct {
			name   string
			form   url.Values
			status int
			code   string
		}{
			{"grant type", form("grant_type", "password"), 400, "invalid_request"},
			{"client", form("client_id", "x"), 401, "invalid_client"},
			{"secret", form("client_secret", "x"), 401, "invalid_client"},
			{"token", form("refresh_token", "x"), 400, "invalid_grant"},
			{"token of another application", tokenForm(other.app, "refresh_token", "refresh_token", g.RefreshToken), 400, "invalid_grant"},
		} {
			status, m := tokens(t, p, tt.form)
			require.Equal(t, tt.status, status, tt.name)
			require.Equal(t, tt.code, m["error"], tt.name)
		}
		require.NoError(t, c.app.Uninstall(true))
		_, m := tokens(t, p, form("x", ""))
		require.Equal(t, "invalid_client", m["error"], "5.3 application not installed")
	})
	t.Run("records without credentials, and faults", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		g, err := c.app.Grant(1)
		require.NoError(t, err)
		p.Once("oauth/token", eventtest.Fail(400, "PAYMENT_REQUIRED", ""))
		form := tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken)
		_, m := tokens(t, p, form)
		require.Equal(t, "PAYMENT_REQUIRED", m["error"])
		status, _ := tokens(t, p, form)
		require.Equal(t, http.StatusOK, status, "the refused refresh used nothing up")
		calls := p.OAuthCalls()
		require.Len(t, calls, 2)
		require.Equal(t, "PAYMENT_REQUIRED", calls[0].ErrorCode)
		require.Equal(t, "refresh_token", calls[1].Params.Get("grant_type").Text())
		for _, key := range []string{"client_secret", "refresh_token", "code"} {
			require.True(t, calls[1].Params.Get(key).IsZero(), key)
		}
		require.Equal(t, 2, p.CallCount("oauth/token"))
		require.Equal(t, 2, p.Requests().OAuth)
		require.Empty(t, p.Calls())
	})
	t.Run("a lost answer uses the refresh token up", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		g, err := c.app.Grant(1)
		require.NoError(t, err)
		form := tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken)
		p.Once("oauth/token", eventtest.LoseAnswer())
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tokenURL(p), strings.NewReader(form.Encode()))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		_, err = client.Do(r) //nolint:bodyclose // there is none
		require.Error(t, err)
		_, m := tokens(t, p, form)
		require.Equal(t, "invalid_grant", m["error"])
	})
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	c := install(t, p, eventtest.App{Scope: []string{"crm", "task"}, RedirectURL: "https://app.example.com/back?tenant=1"})
	a := send(t, http.MethodGet, p.URL()+"/oauth/authorize/?client_id="+url.QueryEscape(c.app.ClientID())+"&state=s+1", "", "")
	require.Equal(t, http.StatusFound, a.Status)
	target, err := url.Parse(a.Header.Get("Location"))
	require.NoError(t, err)
	require.Equal(t, "app.example.com", target.Host)
	query := target.Query()
	require.Equal(t, "1", query.Get("tenant"))
	require.Equal(t, "s 1", query.Get("state"))
	require.Equal(t, p.Domain(), query.Get("domain"))
	require.Equal(t, p.MemberID(), query.Get("member_id"))
	require.Equal(t, "crm,task", query.Get("scope"))
	require.Equal(t, p.OAuthHost(), query.Get("server_domain"))
	status, _ := tokens(t, p, tokenForm(c.app, "authorization_code", "code", event.Secret(query.Get("code"))))
	require.Equal(t, http.StatusOK, status)
	a = send(t, http.MethodGet, p.URL()+"/oauth/authorize/?client_id=x", "", "")
	require.Equal(t, http.StatusNotFound, a.Status, "5.1 errors are shown, not redirected")
}

// PROTOCOL 5.6: the OAuth server's word on a token.
func TestOAuthAppInfo(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	a := send(t, http.MethodGet, p.ServerEndpoint()+"app.info?auth="+c.token, "", "")
	require.Equal(t, http.StatusOK, a.Status, a.Raw)
	info := a.object(t)
	require.Equal(t, c.app.ClientID(), info["client_id"])
	site := info["install"].(obj) //nolint:forcetypeassert // the test's point
	require.Equal(t, p.MemberID(), site["member_id"])
	require.Equal(t, p.URL(), site["uri"])
	require.Equal(t, p.Domain(), site["domain"])
	require.Equal(t, p.ClientEndpoint(), site["client_endpoint"])
	require.Equal(t, "invalid_token", send(t, http.MethodGet, p.ServerEndpoint()+"app.info?auth=dead", "", "").Error)
	require.Equal(t, "NO_AUTH_FOUND", send(t, http.MethodGet, p.ServerEndpoint()+"app.info.json", "", "").Error)
	p.ExpireAccessTokens()
	a = send(t, http.MethodPost, p.ServerEndpoint()+"app.info", "application/x-www-form-urlencoded", "auth="+c.token)
	require.Equal(t, "expired_token", a.Error)
	require.Equal(t, http.StatusUnauthorized, a.Status)
	require.Equal(t, http.StatusNotFound, send(t, http.MethodGet, p.ServerEndpoint()+"crm.deal.get", "", "").Status)
	require.Equal(t, 4, p.CallCount("oauth/app.info"))
}

func TestGrantRefuses(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	app, err := p.AddApp(eventtest.App{})
	require.NoError(t, err)
	_, err = app.Grant(1)
	require.ErrorIs(t, err, eventtest.ErrNotInstalled)
	_, err = app.Code(1)
	require.ErrorIs(t, err, eventtest.ErrNotInstalled)
	require.NoError(t, app.Install(t.Context()))
	_, err = app.Grant(77)
	require.ErrorIs(t, err, eventtest.ErrNotFound)
}

func TestNothingPrintsSecrets(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	in := newInbox(t)
	c.bind(obj{"event": "ONAPPTEST", "handler": in.URL})
	hook, err := p.AddOutgoingWebhook(in.URL, "ONCRMDEALADD")
	require.NoError(t, err)
	incoming, err := p.AddIncomingWebhook(1)
	require.NoError(t, err)
	c.ok("event.test", nil)
	wait(t, p)
	g, err := c.app.Grant(1)
	require.NoError(t, err)
	secrets := []string{
		string(hook), string(incoming), string(g.AccessToken), string(g.RefreshToken), string(g.ApplicationToken), c.token,
		string(c.app.ClientSecret()), in.forms(t)[0].Get("auth[access_token]"),
	}
	spec := eventtest.App{ClientID: "x", ClientSecret: c.app.ClientSecret()}
	var out strings.Builder
	for _, v := range []any{p, c.app, *c.app, g, spec, p.Deliveries(), p.Calls(), p.OAuthCalls(), p.Bindings(), hook, incoming} {
		fmt.Fprintf(&out, "%v %+v %#v %s ", v, v, v, v)
	}
	printed := out.String()
	for i, s := range secrets {
		require.NotEmpty(t, s)
		require.False(t, strings.Contains(printed, s), "secret %d is printed", i) //nolint:testifylint // the message must not print it too
	}
}
