package oauth_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

func TestVerifyPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := w.installed(t)
	user := w.AddUser(eventtest.User{Name: "Zoe"})
	g, err := w.app.Grant(user)
	require.NoError(t, err)

	in, err := w.portals(t, w.store).VerifyPage(t.Context(), pageOf(g))

	require.NoError(t, err)
	require.Equal(t, user, in.UserID)
	require.Equal(t, w.MemberID(), in.MemberID)
	require.Equal(t, w.ClientEndpoint(), in.ClientEndpoint)
	require.Equal(t, g.AccessToken, in.AccessToken)
	require.Equal(t, g.RefreshToken, in.RefreshToken, "it was only looked at")
	require.Empty(t, in.ApplicationToken)
	require.Equal(t, app, load(t, w.store, w.MemberID()))
	_, _, err = w.store.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: w.MemberID(), UserID: user})
	require.ErrorIs(t, err, oauth.ErrNotFound, "nothing is stored")

	w.ExpireAccessTokens()
	_, err = w.portals(t, w.store).VerifyPage(t.Context(), pageOf(g))
	require.ErrorIs(t, err, event.ErrForbidden)
}

func TestVerifyPageRefusals(t *testing.T) {
	t.Parallel()
	info := func(members string) string { return `{"result":{` + members + `}}` }
	ours := `"client_id":"` + clientID + `",`
	profile7 := func(string, sent) (int, string) { return 200, `{"result":{"ID":"7"}}` }
	odd := func(string, sent) (int, string) { return 200, `{"result":[]}` }
	tests := map[string]struct {
		change func(*event.Auth)
		info   string
		portal func(string, sent) (int, string)
		kind   oauth.ErrorKind // empty if it works, for user 7
		calls  int
	}{
		"works":                    {same2, info(ours + `"user_id":7,"member_id":"` + member + `"`), nil, "", 1},
		"user from the portal":     {same2, info(ours + `"member_id":"` + member + `"`), profile7, "", 1},
		"user nowhere":             {same2, info(ours + `"member_id":"` + member + `"`), odd, oauth.ErrUnverified, 1},
		"portal refuses the token": {same2, info(ours + `"member_id":"` + member + `"`), withoutApp, oauth.ErrUnverified, 1},
		"no token":                 {func(a *event.Auth) { a.AccessToken = "" }, "", nil, oauth.ErrUnverified, 0},
		"no portal":                {func(a *event.Auth) { a.MemberID = "" }, "", nil, oauth.ErrUnverified, 0},
		"unknown portal":           {func(a *event.Auth) { a.MemberID = "b" }, "", nil, oauth.ErrNotFound, 0},
		"hostile OAuth server": {
			func(a *event.Auth) { a.ServerEndpoint = "https://evil.example/rest/" }, "", nil, oauth.ErrUnverified, 0,
		},
		"portal that is not https": {
			func(a *event.Auth) { a.ClientEndpoint = "http://example.bitrix24.com/rest/" }, "", nil, oauth.ErrUnverified, 0,
		},
		"another portal": {same2, info(ours + `"user_id":7,"member_id":"b"`), nil, oauth.ErrUnverified, 1},
		"another portal's address": {
			same2, info(ours + `"user_id":7,"client_endpoint":"https://other.bitrix24.com/rest/"`), nil, oauth.ErrUnverified, 1,
		},
		"no portal named":                    {same2, info(ours + `"user_id":7`), profile7, "", 1},
		"no portal named, and refused there": {same2, info(ours + `"user_id":7`), withoutApp, oauth.ErrUnverified, 1},
		"another application's token": {
			same2, info(`"client_id":"other","user_id":7,"member_id":"` + member + `"`), nil, oauth.ErrUnverified, 1,
		},
		"application not named, token known": {same2, info(`"user_id":7,"member_id":"` + member + `"`), nil, "", 1},
		"application not named": {
			func(a *event.Auth) { a.ApplicationToken = "guess" }, info(`"user_id":7,"member_id":"` + member + `"`), nil, oauth.ErrUnverified, 1,
		},
		"expired":                   {same2, `{"error":"expired_token"}`, nil, oauth.ErrUnverified, 1},
		"OAuth server out of order": {same2, `oops`, nil, oauth.ErrTemporary, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{identifies: true, portal: test.portal, respond: func(r sent) (int, string) {
				require.False(t, r.form.Has("grant_type"), "a page's refresh token is not spent")
				return 200, test.info
			}}
			store := stored(t)
			before := load(t, store, member)
			auth := claim()
			auth.UserID = 99 // which a page cannot prove
			test.change(&auth)

			in, err := scripted(t, store, s).VerifyPage(t.Context(), auth)

			require.Len(t, s.requests(), test.calls)
			require.Equal(t, before, load(t, store, member))
			if test.kind != "" {
				require.ErrorIs(t, err, test.kind)
				require.Empty(t, in)
				return
			}
			require.NoError(t, err)
			require.Equal(t, int64(7), in.UserID)
			require.Equal(t, "https://example.bitrix24.com/rest/", in.ClientEndpoint)
		})
	}
}

func same2(*event.Auth) {}

// open posts a page to a handler and returns the response.
func open(t *testing.T, h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func TestPageHandler(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	app, err := p.AddApp(eventtest.App{ClientID: clientID, HandlerURL: "http://127.0.0.1:9/page"})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	w := &world{Portal: p, app: app, store: oauth.NewMemoryStore()}
	portals := w.portals(t, w.store)
	user := w.AddUser(eventtest.User{Name: "Zoe"})
	var seen []oauth.Installation
	serve := func(w http.ResponseWriter, _ *http.Request, page *event.Delivery, access oauth.Installation) {
		seen = append(seen, access)
		_, _ = io.WriteString(w, page.Data.Get("PLACEMENT").Text())
	}
	frame := func(user int64) *http.Request {
		r, err := app.Frame(t.Context(), user, eventtest.Placement{Name: "CRM_DEAL_DETAIL_TAB"})
		require.NoError(t, err)
		return r
	}

	response := open(t, built(t)(oauth.PageHandler(portals.Install, serve)), frame(eventtest.AdminID))
	require.Equal(t, 200, response.Code)
	installed := load(t, w.store, w.MemberID())
	require.Equal(t, seen[0], installed)
	require.Equal(t, app.ApplicationToken(), installed.ApplicationToken)

	response = open(t, built(t)(oauth.PageHandler(portals.VerifyPage, serve)), frame(user))
	require.Equal(t, 200, response.Code)
	require.Equal(t, "no-store", response.Header().Get("Cache-Control"))
	require.Equal(t, "CRM_DEAL_DETAIL_TAB", response.Body.String())
	require.Equal(t, user, seen[1].UserID)

	response = open(t, built(t)(oauth.PageHandler(portals.KeepUser, serve)), frame(user))
	require.Equal(t, 200, response.Code)
	_, token, err := portals.User(user).Access(t.Context(), w.MemberID())
	require.NoError(t, err)
	require.Equal(t, string(seen[2].AccessToken), token)
	require.Equal(t, installed, load(t, w.store, w.MemberID()))
}

func TestPageHandlerRefuses(t *testing.T) {
	t.Parallel()
	const form = "application/x-www-form-urlencoded"
	page := "AUTH_ID=" + planted + "&member_id=" + member + "&PLACEMENT=" + planted
	tests := map[string]struct {
		method, contentType, body string
		err                       error
		status                    int
	}{
		"GET":               {http.MethodGet, "", "", nil, 405},
		"HEAD":              {http.MethodHead, "", "", nil, 405},
		"PUT":               {http.MethodPut, form, page, nil, 405},
		"other type":        {http.MethodPost, "text/" + planted, page, nil, 415},
		"too long":          {http.MethodPost, form, page + "&x=" + strings.Repeat("y", 300_000), nil, 413},
		"too many keys":     {http.MethodPost, form, page + strings.Repeat("&a[]=b", 40_000), nil, 413},
		"not a form":        {http.MethodPost, form, "%zz", nil, 400},
		"empty":             {http.MethodPost, form, "", nil, 400},
		"an event":          {http.MethodPost, form, "event=ONCRMDEALADD&auth[member_id]=" + member, nil, 400},
		"anything":          {http.MethodPost, form, "a=b", nil, 400},
		"unverified":        {http.MethodPost, form, page, &oauth.Error{Kind: oauth.ErrUnverified}, 403},
		"unknown portal":    {http.MethodPost, form, page, &oauth.Error{Kind: oauth.ErrNotFound}, 403},
		"store unavailable": {http.MethodPost, form, page, &oauth.Error{Kind: oauth.ErrStore}, 503},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := built(t)(oauth.PageHandler(func(context.Context, event.Auth) (oauth.Installation, error) {
				require.Error(t, test.err, "what is no page must not be verified")
				return oauth.Installation{}, test.err
			}, func(http.ResponseWriter, *http.Request, *event.Delivery, oauth.Installation) { panic("served") }))
			r := httptest.NewRequestWithContext(t.Context(), test.method, "/?DOMAIN="+planted, strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)

			response := open(t, h, r)

			require.Equal(t, test.status, response.Code)
			require.NotContains(t, response.Body.String(), planted)
			require.Equal(t, "no-store", response.Header().Get("Cache-Control"))
		})
	}
}

func TestPageOfAnotherPortalsUser(t *testing.T) {
	t.Parallel()
	w, foreign := newWorld(t), newWorld(t)
	w.installed(t)
	foreign.installed(t)
	portals := w.portals(t, w.store, oauth.WithHosts(foreign.OAuthHost()))
	auth := pageOf(foreign.grant(t))
	auth.MemberID = w.MemberID() // a user of one portal pretends to be one of another
	for name, server := range map[string]string{"its own OAuth server": foreign.ServerEndpoint(), "the right one": w.ServerEndpoint()} {
		auth.ServerEndpoint = server
		_, err := portals.VerifyPage(t.Context(), auth)
		require.ErrorIs(t, err, oauth.ErrUnverified, name)
		_, err = portals.KeepUser(t.Context(), auth)
		require.Error(t, err, name)
	}
	var keys []oauth.Key
	for key := range oauth.Keys(t.Context(), w.store, clientID) {
		keys = append(keys, key)
	}
	require.Equal(t, []oauth.Key{w.key}, keys)
}
