package oauth_test

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

// TestAuthorizeInABrowser goes from the first click to the stored tokens, over TLS, because the
// cookie requires it.
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
	states := portals.CookieStates()
	var last error
	mux.HandleFunc("GET /start", func(w http.ResponseWriter, r *http.Request) {
		require.NoError(t, states.Authorize(w, r, r.FormValue("portal"))) //nolint:testifylint // a failure shows in the status
	})
	mux.Handle("/back", built(t)(oauth.RedirectHandler(portals.Exchange, states,
		func(w http.ResponseWriter, _ *http.Request, in oauth.Installation, err error) {
			if last = err; err != nil {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			_, _ = w.Write([]byte(in.MemberID))
		})))
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
		response, err := c.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return page{response.StatusCode, response.Header, response.Request.URL.String()}
	}

	honest := browser()
	response := visit(honest, site.URL+"/start?portal="+w.Domain())
	require.Equal(t, 200, response.status)
	require.NoError(t, last)
	in := load(t, w.store, w.MemberID())
	require.NotEmpty(t, in.RefreshToken)
	require.Equal(t, "no-referrer", response.header.Get("Referrer-Policy"))
	require.Equal(t, "no-store", response.header.Get("Cache-Control"))

	// The same redirect again: the state is used up.
	require.Equal(t, 403, visit(honest, response.address).status)
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
	states := scripted(t, oauth.NewMemoryStore(), counting()).CookieStates()
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/start", nil)

	require.NoError(t, states.Authorize(rec, r, "Example.bitrix24.com"))

	response := rec.Result()
	require.Equal(t, http.StatusFound, response.StatusCode)
	require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
	target, err := response.Location()
	require.NoError(t, err)
	require.Equal(t, "https://example.bitrix24.com/oauth/authorize/", target.Scheme+"://"+target.Host+target.Path)
	require.Equal(t, clientID, target.Query().Get("client_id"))
	require.False(t, target.Query().Has("redirect_uri"))
	require.GreaterOrEqual(t, len(target.Query().Get("state")), 26, "128 bits")
	require.Len(t, response.Cookies(), 1)
	c := response.Cookies()[0]
	require.True(t, c.Secure && c.HttpOnly && c.SameSite == http.SameSiteLaxMode && c.Path == "/" && c.Domain == "")
	require.True(t, strings.HasPrefix(c.Name, "__Host-"))
	require.NotContains(t, c.Value, target.Query().Get("state"), "whoever sees the redirect cannot make the cookie")

	for _, domain := range []string{
		"", "example.com/evil", "user@example.com", "example.com?x", "example.com#", "a b", "https://example.com", "exa\nmple.com",
		"example..com", "example.com:x",
	} {
		rec = httptest.NewRecorder()
		require.ErrorIs(t, states.Authorize(rec, r, domain), oauth.ErrEndpoint, domain)
		require.Empty(t, rec.Result().Cookies())
		require.Equal(t, 200, rec.Code, "nothing was written yet")
	}
}

// session is an application's own session.
type session struct{ value string }

func (s *session) states(tb testing.TB, p *oauth.Portals) *oauth.States {
	tb.Helper()
	states, err := p.SessionStates(
		func(_ http.ResponseWriter, _ *http.Request, value string) error { s.value = value; return nil },
		func(http.ResponseWriter, *http.Request) string { v := s.value; s.value = ""; return v })
	require.NoError(tb, err)
	return states
}

// authorize begins an authorization and returns the state that the portal will send back.
func authorize(tb testing.TB, states *oauth.States) string {
	tb.Helper()
	rec := httptest.NewRecorder()
	require.NoError(tb,
		states.Authorize(rec, httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "/start", nil), "example.bitrix24.com"))
	target, err := rec.Result().Location()
	require.NoError(tb, err)
	return target.Query().Get("state")
}

func TestRedirectHandler(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 600)
	tests := map[string]struct {
		method, query string // STATE is replaced by the state of the session
		status        int    // 0 if done answers
		exchanged     bool   // and no error
	}{
		"good":                  {"GET", "code=c&state=STATE&server_domain=oauth.bitrix.info&domain=d&member_id=m&scope=crm", 0, true},
		"without a server":      {"GET", "code=c&state=STATE", 0, true},
		"no code":               {"GET", "state=STATE", 0, false},
		"no state":              {"GET", "code=c", 0, false},
		"empty state":           {"GET", "code=c&state=", 0, false},
		"another state":         {"GET", "code=c&state=t", 0, false},
		"longer state":          {"GET", "code=c&state=STATEs", 0, false},
		"two codes":             {"GET", "code=c&code=c&state=STATE", 0, false},
		"two states":            {"GET", "code=c&state=STATE&state=STATE", 0, false},
		"two servers":           {"GET", "code=c&state=STATE&server_domain=a&server_domain=b", 0, false},
		"long code":             {"GET", "code=" + long + "&state=STATE", 0, false},
		"long state":            {"GET", "code=c&state=" + long, 0, false},
		"long server":           {"GET", "code=c&state=STATE&server_domain=" + long, 0, false},
		"long query":            {"GET", "code=c&state=STATE&x=" + strings.Repeat(long, 10), 0, false},
		"malformed query":       {"GET", "code=c&state=STATE&x=%zz", 0, false},
		"semicolons":            {"GET", "code=c;state=STATE", 0, false},
		"empty query":           {"GET", "", 0, false},
		"POST":                  {"POST", "code=c&state=STATE", 405, false},
		"HEAD, such as preview": {"HEAD", "code=c&state=STATE", 405, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			states := (&session{}).states(t, scripted(t, oauth.NewMemoryStore(), counting()))
			state := authorize(t, states)
			var exchanged, done bool
			h := built(t)(oauth.RedirectHandler(
				func(_ context.Context, code oauth.Code) (oauth.Installation, error) {
					exchanged = true
					require.Equal(t, "c", string(code.Code))
					require.Equal(t, "example.bitrix24.com", code.Domain)
					return oauth.Installation{MemberID: member}, nil
				},
				states,
				func(_ http.ResponseWriter, _ *http.Request, in oauth.Installation, err error) {
					done = true
					if test.exchanged {
						require.NoError(t, err)
						require.Equal(t, member, in.MemberID)
						return
					}
					require.ErrorIs(t, err, oauth.ErrRedirect)
					require.Empty(t, in)
				}))
			rec := httptest.NewRecorder()
			address := "/back?" + strings.ReplaceAll(test.query, "STATE", state)

			h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), test.method, address, nil))

			require.Equal(t, test.exchanged, exchanged)
			require.Equal(t, test.status == 0, done)
			if test.status != 0 {
				require.Equal(t, test.status, rec.Code)
				require.Equal(t, http.MethodGet, rec.Header().Get("Allow"))
			}
		})
	}
}

// TestStatesThatNobodyBegan checks that no text from a request, another application or another time
// is accepted as a session's.
func TestStatesThatNobodyBegan(t *testing.T) {
	t.Parallel()
	portals := scripted(t, oauth.NewMemoryStore(), counting())
	other, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "another secret"}, oauth.NewMemoryStore())
	require.NoError(t, err)
	foreign, own := &session{}, &session{}
	authorize(t, foreign.states(t, other))
	state := authorize(t, own.states(t, portals))
	payload, sum, _ := strings.Cut(own.value, ".")
	for name, value := range map[string]string{
		"empty": "", "state itself": state, "another secret": foreign.value, "no seal": payload, "empty seal": payload + ".",
		"cut seal": payload + "." + sum[:10], "other payload": "e30." + sum, "not base64": "%%.%%", "long": strings.Repeat("x", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			states := (&session{value: value}).states(t, portals)
			var got error
			h := built(t)(oauth.RedirectHandler(portals.Exchange, states,
				func(_ http.ResponseWriter, _ *http.Request, _ oauth.Installation, err error) { got = err }))
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/back?code=c&state="+state, nil))
			require.ErrorIs(t, got, oauth.ErrRedirect)
		})
	}
}

func TestStateRunsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		portals := scripted(t, oauth.NewMemoryStore(), counting())
		states := (&session{}).states(t, portals)
		state := authorize(t, states)
		pass(15 * time.Minute)
		var got error
		h := built(t)(oauth.RedirectHandler(portals.Exchange, states,
			func(_ http.ResponseWriter, _ *http.Request, _ oauth.Installation, err error) { got = err }))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/back?code=c&state="+state, nil))
		require.ErrorIs(t, got, oauth.ErrRedirect)
	})
}

// TestCodeOfAnotherPortal sends a victim to a portal of an attacker's choice. The victim comes back
// with the attacker's code.
func TestCodeOfAnotherPortal(t *testing.T) {
	t.Parallel()
	store := oauth.NewMemoryStore()
	portals := scripted(t, store, &script{respond: says(200, pair("a2", "r2", nil))}) // the code is of example.bitrix24.com
	for _, domain := range []string{"evil.example", "example.bitrix24.com.evil.example", "example.bitrix24.com:444"} {
		_, err := portals.Exchange(t.Context(), oauth.Code{Code: "c0de", Domain: domain})
		require.ErrorIs(t, err, oauth.ErrRedirect, domain)
		_, err = portals.ExchangeUser(t.Context(), oauth.Code{Code: "c0de", Domain: domain})
		require.ErrorIs(t, err, oauth.ErrRedirect, domain)
		requireEmpty(t, store, member)
	}
	_, err := portals.Exchange(t.Context(), oauth.Code{Code: "c0de", Domain: "Example.Bitrix24.com"})
	require.NoError(t, err)
}

func TestRedirectOfAHostileServer(t *testing.T) {
	t.Parallel()
	s := counting()
	portals := scripted(t, oauth.NewMemoryStore(), s)
	states := (&session{}).states(t, portals)
	var got error
	h := built(t)(oauth.RedirectHandler(portals.Exchange, states,
		func(_ http.ResponseWriter, _ *http.Request, _ oauth.Installation, err error) { got = err }))
	for _, server := range []string{
		"evil.example", "oauth.bitrix.info.evil.example", "oauth.bitrix.info@evil.example",
		"oauth.bitrix.info:444",
	} {
		query := url.Values{"code": {planted}, "state": {authorize(t, states)}, "server_domain": {server}}
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+query.Encode(), nil))
		require.True(t, isAny(got, oauth.ErrHostNotAllowed, oauth.ErrEndpoint), server)
		requireNothingPlanted(t, got)
	}
	require.Empty(t, s.requests())
}
