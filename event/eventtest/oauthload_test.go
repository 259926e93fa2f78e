package eventtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// TestOAuthCounters checks that requests to the OAuth server are counted by kind, and those with
// the secret.
func TestOAuthCounters(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	g, err := c.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	code, err := c.app.Code(eventtest.AdminID)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, trade(t, p, c.app, g.RefreshToken).Status)
	require.Equal(t, http.StatusBadRequest, trade(t, p, c.app, "made up").Status)
	tokens(t, p, tokenForm(c.app, "authorization_code", "code", code))
	nothing := tokenForm(c.app, "refresh_token", "refresh_token", "x")
	nothing.Del("client_secret")
	tokens(t, p, nothing)
	send(t, http.MethodGet, p.ServerEndpoint()+"app.info?auth="+c.token, "", "")
	p.Once("oauth/token", eventtest.Reset())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tokenURL(p),
		strings.NewReader(tokenForm(c.app, "refresh_token", "refresh_token", "x").Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = client.Do(r) //nolint:bodyclose // there is none
	require.Error(t, err)
	got := p.Requests()
	require.Equal(t, eventtest.Requests{OAuth: 6, Secrets: 4, Codes: 1, Refreshes: 4, TokenInfos: 1}, got)
	p.ResetRecords()
	require.Zero(t, p.Requests())
}

// TestOAuthLatency checks that the OAuth server can be slow while REST stays quick, and that a
// caller can stop waiting.
func TestOAuthLatency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := eventtest.NewNetwork()
		p := eventtest.NewPortal(t, eventtest.WithNetwork(n),
			eventtest.WithQuirks(func(q *eventtest.Quirks) { q.OAuthLatency = 200 * time.Millisecond }))
		app, err := p.AddApp(eventtest.App{})
		require.NoError(t, err)
		require.NoError(t, app.Install(t.Context()))
		g, err := app.Grant(eventtest.AdminID)
		require.NoError(t, err)
		ask := func(ctx context.Context, url string) (int, time.Duration) {
			began := time.Now()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			require.NoError(t, err)
			resp, err := n.Client().Do(r)
			if err != nil {
				return 0, time.Since(began)
			}
			require.NoError(t, resp.Body.Close())
			return resp.StatusCode, time.Since(began)
		}
		status, took := ask(t.Context(), p.ServerEndpoint()+"app.info?auth="+string(g.AccessToken))
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, 200*time.Millisecond, took)
		status, took = ask(t.Context(), tokenURL(p)+"?"+tokenForm(app, "refresh_token", "refresh_token", g.RefreshToken).Encode())
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, 200*time.Millisecond, took)
		status, took = ask(t.Context(), p.ClientEndpoint()+"app.info?auth="+string(g.AccessToken))
		require.Equal(t, http.StatusOK, status)
		require.Zero(t, took)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		status, took = ask(ctx, p.ServerEndpoint()+"app.info?auth="+string(g.AccessToken))
		require.Zero(t, status)
		require.Equal(t, 50*time.Millisecond, took)
		require.ErrorIs(t, p.ChangeQuirks(func(q *eventtest.Quirks) { q.OAuthLatency = -1 }), eventtest.ErrConfig)
		require.ErrorIs(t, p.ChangeQuirks(func(q *eventtest.Quirks) { q.UserReady = 3 }), eventtest.ErrConfig)
	})
}

// TestOddTokenAnswers checks odd responses with valid tokens.
func TestOddTokenAnswers(t *testing.T) {
	t.Parallel()
	const plain = "application/json; charset=utf-8"
	for _, tt := range []struct {
		name    string
		fault   eventtest.Fault
		kind    string // Content-Type
		prefix  string
		expires string // raw JSON of expires_in; empty if it is missing
	}{
		{"text/plain", eventtest.PlainText(), "text/plain; charset=utf-8", "{", "3600"},
		{"byte order mark", eventtest.BOM(), plain, "\ufeff{", "3600"},
		{"notice of PHP", eventtest.Notice(), "text/html; charset=UTF-8", "<br />\n<b>Notice</b>:", "3600"},
		{"empty text", eventtest.ExpiresIn(`""`), plain, "{", `""`},
		{"number as text", eventtest.ExpiresIn(`"3600"`), plain, "{", `"3600"`},
		{"number with a fraction", eventtest.ExpiresIn("3600.0"), plain, "{", "3600.0"},
		{"false", eventtest.ExpiresIn("false"), plain, "{", "false"},
		{"missing", eventtest.ExpiresIn(""), plain, "{", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			g, err := c.app.Grant(eventtest.AdminID)
			require.NoError(t, err)
			p.Once("oauth/token", tt.fault)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tokenURL(p),
				strings.NewReader(tokenForm(c.app, "refresh_token", "refresh_token", g.RefreshToken).Encode()))
			require.NoError(t, err)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := client.Do(r)
			require.NoError(t, err)
			defer resp.Body.Close() //nolint:errcheck // read to the end below
			var raw bytes.Buffer
			_, err = raw.ReadFrom(resp.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.Equal(t, tt.kind, resp.Header.Get("Content-Type"))
			require.True(t, strings.HasPrefix(raw.String(), tt.prefix), raw.String())
			var pair struct {
				AccessToken  string          `json:"access_token"`
				RefreshToken string          `json:"refresh_token"`
				ExpiresIn    json.RawMessage `json:"expires_in"`
			}
			require.NoError(t, json.Unmarshal(raw.Bytes()[bytes.IndexByte(raw.Bytes(), '{'):], &pair), raw.String())
			require.Equal(t, tt.expires, string(pair.ExpiresIn))
			c.token = pair.AccessToken
			c.ok("app.info", nil)
			require.Equal(t, "invalid_grant", trade(t, p, c.app, g.RefreshToken).Error, "the old refresh token is spent")
			again := trade(t, p, c.app, g.RefreshToken)
			require.Equal(t, "application/json; charset=utf-8", again.Header.Get("Content-Type"), "once")
		})
	}
}
