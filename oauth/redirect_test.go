package oauth_test

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

// TestAuthorizeInABrowser goes from the first click to the stored tokens, over TLS as in life, since the cookie asks for it.
func TestAuthorizeInABrowser(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	mux := http.NewServeMux()
	site := httptest.NewTLSServer(mux)
	defer site.Close()
	app, err := p.AddApp(eventtest.App{ClientID: clientID, RedirectURL: site.URL + "/back"})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	w := &world{Portal: p, app: app, store: oauth.NewMemoryStore()}
	portals := w.portals(t, w.store)
	var last error
	mux.HandleFunc("GET /start", func(w http.ResponseWriter, r *http.Request) {
		require.NoError(t, portals.Authorize(w, r, r.FormValue("portal"))) //nolint:testifylint // a failure shows in the status
	})
	mux.Handle("/back", oauth.RedirectHandler(portals.Exchange, oauth.CookieState,
		func(w http.ResponseWriter, _ *http.Request, in oauth.Installation, err error) {
			if last = err; err != nil {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			_, _ = w.Write([]byte(in.MemberID))
		}))
	browser := func() *http.Client {
		c := site.Client()
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		return &http.Client{Transport: c.Transport, Jar: jar}
	}
	type page struct {
		status  int
		header  http.Header
		address string // after all redirects
	}
	visit := func(c *http.Client, address string) page {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		require.NoError(t, err)
		answer, err := c.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return page{answer.StatusCode, answer.Header, answer.Request.URL.String()}
	}

	honest := browser()
	answer := visit(honest, site.URL+"/start?portal="+w.Domain())
	require.Equal(t, 200, answer.status)
	require.NoError(t, last)
	in := load(t, w.store, w.MemberID())
	require.NotEmpty(t, in.RefreshToken)
	require.Equal(t, "no-referrer", answer.header.Get("Referrer-Policy"))
	require.Equal(t, "no-store", answer.header.Get("Cache-Control"))

	// The same redirect again: the state is used up.
	require.Equal(t, 403, visit(honest, answer.address).status)
	require.ErrorIs(t, last, oauth.ErrRedirect)

	// A victim is sent to the redirect of an attacker, with a live code.
	code, err := app.Code(eventtest.AdminID)
	require.NoError(t, err)
	link := site.URL + "/back?" + url.Values{"code": {string(code)}, "state": {"attackers"}, "server_domain": {w.OAuthHost()}}.Encode()
	w.ResetRecords()
	require.Equal(t, 403, visit(browser(), link).status)
	require.ErrorIs(t, last, oauth.ErrRedirect)
	require.Zero(t, w.renewals(), "the code was not even looked at")
	require.Equal(t, in, load(t, w.store, w.MemberID()))
}

func TestAuthorizeCookie(t *testing.T) {
	t.Parallel()
	portals := scripted(t, oauth.NewMemoryStore(), counting())
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/start", nil)

	require.NoError(t, portals.Authorize(rec, r, "Example.bitrix24.com"))

	answer := rec.Result()
	require.Equal(t, http.StatusFound, answer.StatusCode)
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	target, err := answer.Location()
	require.NoError(t, err)
	require.Equal(t, "example.bitrix24.com", target.Host)
	require.Len(t, answer.Cookies(), 1)
	c := answer.Cookies()[0]
	require.Equal(t, target.Query().Get("state"), c.Value)
	require.GreaterOrEqual(t, len(c.Value), 26, "128 bits")
	require.True(t, c.Secure && c.HttpOnly && c.SameSite == http.SameSiteLaxMode && c.Path == "/" && c.Domain == "")
	require.True(t, strings.HasPrefix(c.Name, "__Host-"))

	rec = httptest.NewRecorder()
	require.ErrorIs(t, portals.Authorize(rec, r, "example.com/evil"), oauth.ErrEndpoint)
	require.Empty(t, rec.Result().Cookies())
	require.Equal(t, 200, rec.Code, "nothing was written yet")

	// Two cookies of the name: one was planted.
	r.AddCookie(c)
	rec = httptest.NewRecorder()
	require.Equal(t, c.Value, oauth.CookieState(rec, r))
	require.Negative(t, rec.Result().Cookies()[0].MaxAge, "it is removed")
	r.AddCookie(&http.Cookie{Name: c.Name, Value: "planted"}) //nolint:gosec // it is a request's
	require.Empty(t, oauth.CookieState(httptest.NewRecorder(), r))
}

func TestRedirectHandler(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 600)
	tests := map[string]struct {
		method, query, state string
		status               int  // 0 where done answers
		exchanged            bool // and no error
	}{
		"good":                  {"GET", "code=c&state=s&server_domain=oauth.bitrix.info&domain=d&member_id=m&scope=crm", "s", 0, true},
		"without a server":      {"GET", "code=c&state=s", "s", 0, true},
		"no code":               {"GET", "state=s", "s", 0, false},
		"no state":              {"GET", "code=c", "s", 0, false},
		"empty state":           {"GET", "code=c&state=", "", 0, false},
		"no state expected":     {"GET", "code=c&state=s", "", 0, false},
		"another state":         {"GET", "code=c&state=t", "s", 0, false},
		"longer state":          {"GET", "code=c&state=ss", "s", 0, false},
		"two codes":             {"GET", "code=c&code=c&state=s", "s", 0, false},
		"two states":            {"GET", "code=c&state=s&state=s", "s", 0, false},
		"two servers":           {"GET", "code=c&state=s&server_domain=a&server_domain=b", "s", 0, false},
		"long code":             {"GET", "code=" + long + "&state=s", "s", 0, false},
		"long state":            {"GET", "code=c&state=" + long, long, 0, false},
		"long server":           {"GET", "code=c&state=s&server_domain=" + long, "s", 0, false},
		"long query":            {"GET", "code=c&state=s&x=" + strings.Repeat(long, 10), "s", 0, false},
		"malformed query":       {"GET", "code=c&state=s&x=%zz", "s", 0, false},
		"semicolons":            {"GET", "code=c;state=s", "s", 0, false},
		"empty query":           {"GET", "", "s", 0, false},
		"POST":                  {"POST", "code=c&state=s", "s", 405, false},
		"HEAD, such as preview": {"HEAD", "code=c&state=s", "s", 405, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var exchanged, done bool
			h := oauth.RedirectHandler(
				func(_ context.Context, code, server string) (oauth.Installation, error) {
					exchanged = true
					require.Equal(t, "c", code)
					return oauth.Installation{MemberID: member, ServerEndpoint: server}, nil
				},
				func(http.ResponseWriter, *http.Request) string { return test.state },
				func(_ http.ResponseWriter, _ *http.Request, in oauth.Installation, err error) {
					done = true
					if test.exchanged {
						require.NoError(t, err)
						require.Equal(t, member, in.MemberID)
						return
					}
					require.ErrorIs(t, err, oauth.ErrRedirect)
					require.Empty(t, in)
				})
			rec := httptest.NewRecorder()

			h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), test.method, "/back?"+test.query, nil))

			require.Equal(t, test.exchanged, exchanged)
			require.Equal(t, test.status == 0, done)
			if test.status != 0 {
				require.Equal(t, test.status, rec.Code)
				require.Equal(t, http.MethodGet, rec.Header().Get("Allow"))
			}
		})
	}
}

func TestRedirectOfAHostileServer(t *testing.T) {
	t.Parallel()
	s := counting()
	portals := scripted(t, oauth.NewMemoryStore(), s)
	var got error
	h := oauth.RedirectHandler(portals.Exchange, func(http.ResponseWriter, *http.Request) string { return "s" },
		func(_ http.ResponseWriter, _ *http.Request, _ oauth.Installation, err error) { got = err })
	for _, server := range []string{"evil.example", "oauth.bitrix.info.evil.example", "oauth.bitrix.info@evil.example", "oauth.bitrix.info:444"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?code="+planted+"&state=s&server_domain="+url.QueryEscape(server), nil)
		h.ServeHTTP(httptest.NewRecorder(), r)
		require.True(t, isAny(got, oauth.ErrHostNotAllowed, oauth.ErrEndpoint), server)
		requireNothingPlanted(t, got)
	}
	require.Empty(t, s.requests())
}
