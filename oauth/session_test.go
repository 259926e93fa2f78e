package oauth_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

const (
	keyA = event.Secret("0123456789abcdef0123456789abcdef")
	keyB = event.Secret("fedcba9876543210fedcba9876543210")
)

// application returns the Portals of an application that needs no portal.
func application(tb testing.TB, id string, secret event.Secret) *oauth.Portals {
	tb.Helper()
	p, err := oauth.NewPortals(oauth.Config{ClientID: id, ClientSecret: secret}, oauth.NewMemoryStore(), silent())
	require.NoError(tb, err)
	return p
}

func sessionsOf(tb testing.TB, p *oauth.Portals, opts ...oauth.SessionOption) *oauth.Sessions {
	tb.Helper()
	s, err := p.Sessions(opts...)
	require.NoError(tb, err)
	return s
}

var zoe = oauth.Installation{MemberID: member, UserID: 7, AccessToken: planted, RefreshToken: planted}

func issue(tb testing.TB, s *oauth.Sessions) string {
	tb.Helper()
	token, _, err := s.Issue(zoe)
	require.NoError(tb, err)
	return token
}

func TestSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionsOf(t, application(t, "app", "secret"), nil)
		token, made, err := s.Issue(zoe)
		require.NoError(t, err)
		require.Equal(t, oauth.Session{MemberID: member, UserID: 7, Expires: time.Now().Add(time.Hour).UTC()}, made)
		require.NotContains(t, token, planted)

		got, err := s.Check(token)
		require.NoError(t, err)
		require.Equal(t, made, got)
		got, err = sessionsOf(t, application(t, "app", "secret")).Check(token)
		require.NoError(t, err, "another replica")
		require.Equal(t, made, got)

		pass(time.Hour - time.Second)
		_, err = s.Check(token)
		require.NoError(t, err)
		pass(time.Second)
		_, err = s.Check(token)
		require.ErrorIs(t, err, oauth.ErrSessionExpired)
		require.NotErrorIs(t, err, oauth.ErrSession)
	})
}

func TestSessionIsBound(t *testing.T) {
	t.Parallel()
	token := issue(t, sessionsOf(t, application(t, "app", "secret")))
	for name, s := range map[string]*oauth.Sessions{
		"another application": sessionsOf(t, application(t, "other", "secret")),
		"another secret":      sessionsOf(t, application(t, "app", "new secret")),
		"a key":               sessionsOf(t, application(t, "app", "secret"), oauth.WithSessionKeys(keyA)),
		"the zero Sessions":   {},
	} {
		_, err := s.Check(token)
		require.ErrorIs(t, err, oauth.ErrSession, name)
	}
	shared := issue(t, sessionsOf(t, application(t, "app", "secret"), oauth.WithSessionKeys(keyA)))
	_, err := sessionsOf(t, application(t, "other", "secret"), oauth.WithSessionKeys(keyA)).Check(shared)
	require.ErrorIs(t, err, oauth.ErrSession, "two applications with the same key")
}

func TestSessionKeyRotation(t *testing.T) {
	t.Parallel()
	p := application(t, "app", "secret")
	before := sessionsOf(t, p, oauth.WithSessionKeys(keyA))
	during := sessionsOf(t, p, oauth.WithSessionKeys(keyB, keyA))
	after := sessionsOf(t, p, oauth.WithSessionKeys(keyB))
	old, young := issue(t, before), issue(t, during)
	for _, token := range []string{old, young} {
		_, err := during.Check(token)
		require.NoError(t, err)
	}
	_, err := after.Check(young)
	require.NoError(t, err)
	_, err = after.Check(old)
	require.ErrorIs(t, err, oauth.ErrSession)
	_, err = before.Check(young)
	require.ErrorIs(t, err, oauth.ErrSession)
}

func TestForgedSessions(t *testing.T) {
	t.Parallel()
	s := sessionsOf(t, application(t, "app", "secret"))
	token := issue(t, s)
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	admin := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"u":7`, `"u":1`, 1)))
	for name, forged := range map[string]string{
		"empty": "", "dots": "...", "mark": "s1.", "mark and dot": "s1..", "no sum": "s1." + parts[1], "empty sum": "s1." + parts[1] + ".",
		"other user": "s1." + admin + "." + parts[2], "other version": "s2." + parts[1] + "." + parts[2],
		"cut": token[:len(token)-1], "longer": token + "A", "space": token + " ", "line": "\n" + token, "two": token + token,
		"huge": token + strings.Repeat("A", 1<<20), "zero bytes": strings.Repeat("\x00", 200), "no payload": "s1.." + parts[2],
	} {
		_, err := s.Check(forged)
		require.ErrorIs(t, err, oauth.ErrSession, name)
		require.NotContains(t, err.Error(), parts[2], name)
	}
	for i := range token { // each byte counts
		changed := []byte(token)
		changed[i] ^= 1
		_, err := s.Check(string(changed))
		require.ErrorIs(t, err, oauth.ErrSession, i)
	}
}

func TestSessionNeedsAUser(t *testing.T) {
	t.Parallel()
	s := sessionsOf(t, application(t, "app", "secret"))
	for name, in := range map[string]oauth.Installation{
		"no user": {MemberID: member}, "no portal": {UserID: 7}, "negative": {MemberID: member, UserID: -1}, "nothing": {},
	} {
		rec := httptest.NewRecorder()
		_, err := s.Start(rec, in)
		require.ErrorIs(t, err, oauth.ErrUnverified, name)
		require.Empty(t, rec.Header(), name)
	}
	_, _, err := (&oauth.Sessions{}).Issue(zoe)
	require.ErrorIs(t, err, oauth.ErrConfig)
}

func TestSessionOptions(t *testing.T) {
	t.Parallel()
	p := application(t, "app", "secret")
	for name, opt := range map[string]oauth.SessionOption{
		"no key": oauth.WithSessionKeys(), "short": oauth.WithSessionKeys(keyA, "short"), "empty": oauth.WithSessionKeys(""),
		"no time": oauth.WithSessionLifetime(0), "negative": oauth.WithSessionLifetime(-time.Hour),
	} {
		_, err := p.Sessions(opt)
		require.ErrorIs(t, err, oauth.ErrConfig, name)
	}
	s := sessionsOf(t, p, oauth.WithSessionKeys(keyA))
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", s, s, s, s), string(keyA))
}

func TestSessionCookie(t *testing.T) {
	t.Parallel()
	s := sessionsOf(t, application(t, "app", "secret"), oauth.WithSessionLifetime(10*time.Minute))
	rec := httptest.NewRecorder()
	token, err := s.Start(rec, zoe)
	require.NoError(t, err)
	require.Equal(t, "__Host-b24-session="+token+"; Path=/; Max-Age=600; HttpOnly; Secure; SameSite=None; Partitioned",
		rec.Header().Get("Set-Cookie"))
	rec = httptest.NewRecorder()
	s.End(rec)
	require.Equal(t, "__Host-b24-session=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=None; Partitioned", rec.Header().Get("Set-Cookie"))
}

// request is one to a handler of the application at app.example.com.
func request(t *testing.T, method string, headers ...string) *http.Request { // names and values, in turn
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "https://app.example.com/api", nil)
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

func TestSessionsRequire(t *testing.T) {
	t.Parallel()
	p := application(t, "app", "secret")
	s := sessionsOf(t, p)
	token := issue(t, s)
	foreign := issue(t, sessionsOf(t, application(t, "other", "secret")))
	cookie, bearer := "__Host-b24-session="+token, "Bearer "+token
	tests := map[string]struct {
		request *http.Request
		status  int
		body    string
	}{
		"bearer":                       {request(t, "POST", "Authorization", bearer), 200, "7"},
		"bearer in small letters":      {request(t, "POST", "Authorization", "bearer "+token), 200, "7"},
		"bearer of another site":       {request(t, "POST", "Authorization", bearer, "Sec-Fetch-Site", "cross-site"), 200, "7"},
		"cookie":                       {request(t, "GET", "Cookie", cookie), 200, "7"},
		"cookie, own POST":             {request(t, "POST", "Cookie", cookie, "Sec-Fetch-Site", "same-origin"), 200, "7"},
		"cookie, own POST by origin":   {request(t, "POST", "Cookie", cookie, "Origin", "https://app.example.com"), 200, "7"},
		"cookie, link of another site": {request(t, "GET", "Cookie", cookie, "Sec-Fetch-Site", "cross-site"), 200, "7"},
		"cookie, POST of another site": {request(t, "POST", "Cookie", cookie, "Sec-Fetch-Site", "cross-site"), 403, "cross_origin\n"},
		"cookie, POST of a neighbor":   {request(t, "POST", "Cookie", cookie, "Sec-Fetch-Site", "same-site"), 403, "cross_origin\n"},
		"cookie, POST of an origin":    {request(t, "POST", "Cookie", cookie, "Origin", "https://evil.example"), 403, "cross_origin\n"},
		"cookie, POST of no origin":    {request(t, "POST", "Cookie", cookie, "Origin", "null"), 403, "cross_origin\n"},
		"cookie, DELETE":               {request(t, "DELETE", "Cookie", cookie, "Sec-Fetch-Site", "cross-site"), 403, "cross_origin\n"},
		"cookie, own socket":           {request(t, "GET", "Cookie", cookie, "Upgrade", "websocket", "Origin", "https://app.example.com"), 200, "7"},
		"cookie, socket of an origin":  {request(t, "GET", "Cookie", cookie, "Upgrade", "websocket", "Origin", "https://evil.example"), 403, "cross_origin\n"},
		"cookie, socket of a site":     {request(t, "GET", "Cookie", cookie, "Upgrade", "websocket", "Sec-Fetch-Site", "cross-site"), 403, "cross_origin\n"},
		"bearer, socket of a site":     {request(t, "GET", "Authorization", bearer, "Upgrade", "websocket", "Sec-Fetch-Site", "cross-site"), 200, "7"},
		"nothing":                      {request(t, "GET"), 401, "no_session\n"},
		"empty bearer":                 {request(t, "GET", "Authorization", "Bearer", "Cookie", cookie), 401, "invalid_session\n"},
		"forged bearer beats cookie":   {request(t, "GET", "Authorization", "Bearer x", "Cookie", cookie), 401, "invalid_session\n"},
		"two bearers":                  {request(t, "GET", "Authorization", bearer, "Authorization", bearer), 401, "invalid_session\n"},
		"basic and cookie":             {request(t, "GET", "Authorization", "Basic eDp5", "Cookie", cookie), 200, "7"},
		"foreign bearer":               {request(t, "GET", "Authorization", "Bearer "+foreign), 401, "invalid_session\n"},
		"foreign cookie":               {request(t, "GET", "Cookie", "__Host-b24-session="+foreign), 401, "invalid_session\n"},
		"a foreign cookie first":       {request(t, "GET", "Cookie", "__Host-b24-session="+foreign+"; "+cookie), 200, "7"},
		"a foreign cookie last":        {request(t, "GET", "Cookie", cookie+"; __Host-b24-session="+foreign), 200, "7"},
		"without the prefix":           {request(t, "GET", "Cookie", "b24-session="+token), 401, "no_session\n"},
		"many cookies": {
			request(t, "GET", "Cookie", strings.Repeat("__Host-b24-session=x; ", 1000)+cookie), 401, "invalid_session\n",
		},
	}
	h := s.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if session, ok := oauth.SessionOf(r.Context()); ok && session.MemberID == member {
			_, _ = fmt.Fprint(w, session.UserID)
		}
	}))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := open(t, h, test.request)
			require.Equal(t, test.status, rec.Code)
			require.Equal(t, test.body, rec.Body.String())
			require.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
			require.Equal(t, test.status == 401, rec.Header().Get("WWW-Authenticate") == "Bearer")
		})
	}
	_, ok := oauth.SessionOf(t.Context())
	require.False(t, ok)
}

func TestSessionsRequireAfterTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionsOf(t, application(t, "app", "secret"), oauth.WithSessionLifetime(time.Second))
		old := issue(t, s)
		pass(time.Second)
		h := s.Require(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("served") }))
		rec := open(t, h, request(t, "GET", "Cookie", "__Host-b24-session="+old))
		require.Equal(t, 401, rec.Code)
		require.Equal(t, "session_expired\n", rec.Body.String())
		rec = open(t, h, request(t, "GET", "Authorization", "Bearer "+old))
		require.Equal(t, "session_expired\n", rec.Body.String())
	})
}

// TestPagesBesideCrossOriginProtection: the whole application is behind http.CrossOriginProtection,
// and only the pages are exempt, because the portal posts to them.
func TestPagesBesideCrossOriginProtection(t *testing.T) {
	t.Parallel()
	p := application(t, "app", "secret")
	s := sessionsOf(t, p)
	routes := http.NewServeMux()
	routes.HandleFunc("POST /page", func(w http.ResponseWriter, _ *http.Request) { _, _ = s.Start(w, zoe) })
	routes.Handle("POST /api/save", s.Require(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	protection := http.NewCrossOriginProtection()
	h := protection.Handler(routes)
	post := func(path string, headers ...string) int {
		r := request(t, "POST", headers...)
		r.URL.Path = path
		return open(t, h, r).Code
	}
	portal := []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://example.bitrix24.com"}
	cookie := "__Host-b24-session=" + issue(t, s)

	require.Equal(t, 403, post("/page", portal...), "as it is, the protection refuses the portal")
	protection.AddInsecureBypassPattern("POST /page")
	require.Equal(t, 200, post("/page", portal...))
	require.Equal(t, 403, post("/api/save", append(portal, "Cookie", cookie)...), "the rest stays protected")
	require.Equal(t, 200, post("/api/save", "Sec-Fetch-Site", "same-origin", "Cookie", cookie))
	require.Equal(t, 200, post("/api/save", "Sec-Fetch-Site", "same-origin", "Authorization", "Bearer "+issue(t, s)))

	// A trusted origin is for a program with one portal. Sessions does not trust it: a page of
	// another application may be on that portal.
	require.NoError(t, protection.AddTrustedOrigin("https://example.bitrix24.com"))
	require.Equal(t, 403, post("/api/save", append(portal, "Cookie", cookie)...))
}

func FuzzSession(f *testing.F) {
	p := application(f, "app", "secret")
	s := sessionsOf(f, p)
	token := issue(f, s)
	f.Add(token)
	f.Add("s1.eyJtIjoiIn0.AAAA")
	f.Add(strings.Repeat(".", 100))
	f.Fuzz(func(t *testing.T, text string) {
		session, err := s.Check(text)
		if err == nil {
			require.Equal(t, token, text, "only this text was signed")
			require.Equal(t, int64(7), session.UserID)
		}
	})
}
