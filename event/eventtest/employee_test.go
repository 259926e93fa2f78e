package eventtest_test

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// TestEmployeeOpensAPage checks that every user who opens a page gets live tokens and the
// application token. user.admin shows the user's rights.
func TestEmployeeOpensAPage(t *testing.T) {
	t.Parallel()
	p, in := eventtest.NewPortal(t), newInbox(t)
	app := install(t, p, eventtest.App{Scope: []string{"crm"}, HandlerURL: in.URL}).app
	wait(t, p)
	for _, tt := range []struct {
		name  string
		user  int64
		admin string
	}{
		{"10.7 user.admin of an employee", p.AddUser(eventtest.User{Name: "Plain", LastName: "User"}), "false"},
		{"10.7 user.admin of an administrator", p.AddUser(eventtest.User{Name: "Second", Admin: true}), "true"},
	} {
		status, err := app.OpenPage(t.Context(), tt.user, eventtest.Placement{})
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		forms := in.forms(t)
		form := forms[len(forms)-1]
		require.Equal(t, string(app.ApplicationToken()), form.Get("APPLICATION_TOKEN"), "6 everybody who opens a page can read it")
		c := &caller{t: t, p: p, app: app, token: form.Get("AUTH_ID")}
		require.JSONEq(t, tt.admin, string(c.ok("user.admin", nil).Result), tt.name)
		profile := c.ok("profile", nil).object(t)
		require.EqualValues(t, tt.user, atoi(t, profile["ID"].(string))) //nolint:forcetypeassert // a test
		require.Equal(t, tt.admin == "true", profile["ADMIN"])
		require.Equal(t, http.StatusOK, trade(t, p, app, event.Secret(form.Get("REFRESH_ID"))).Status)
	}
	in.status = http.StatusForbidden
	status, err := app.OpenPage(t.Context(), eventtest.AdminID, eventtest.Placement{})
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, status)
	_, err = app.OpenPage(t.Context(), 99, eventtest.Placement{})
	require.ErrorIs(t, err, eventtest.ErrNotFound)
	in.Close()
	_, err = app.OpenPage(t.Context(), eventtest.AdminID, eventtest.Placement{})
	require.ErrorContains(t, err, "opening the page")
	require.NotContains(t, err.Error(), "AUTH_ID")
}

// TestForgeries checks that the events that an employee can forge have the form of real ones.
func TestForgeries(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	app := install(t, p, eventtest.App{HandlerURL: newInbox(t).URL}).app
	own, err := app.Grant(p.AddUser(eventtest.User{Name: "Plain"}))
	require.NoError(t, err)
	elsewhere := eventtest.NewPortal(t)
	foreign, err := install(t, elsewhere, eventtest.App{}).app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	const madeUp event.Secret = "0123456789abcdef0123456789abcdef"
	build := func(e eventtest.Event, payload any, opts ...eventtest.RequestOption) *event.Delivery {
		t.Helper()
		body, err := eventtest.Body(e, payload, opts...)
		require.NoError(t, err)
		return parse(t, event.Secret(body))
	}

	for _, e := range []eventtest.Event{event.OnAppInstall, event.OnAppUpdate} { // own tokens, an invented application token
		d := build(e, obj{"VERSION": "1"}, eventtest.WithGrant(own), eventtest.WithToken(madeUp))
		require.Equal(t, e.Name(), d.Name)
		require.Equal(t, madeUp, d.Auth.ApplicationToken)
		require.Equal(t, own.AccessToken, d.Auth.AccessToken)
		require.Equal(t, own.RefreshToken, d.Auth.RefreshToken)
		require.Equal(t, own.UserID, d.Auth.UserID)
		require.Equal(t, p.MemberID(), d.Auth.MemberID)
	}
	for _, opts := range [][]eventtest.RequestOption{{}, {eventtest.WithoutTime()}} { // the genuine application token, with ts or without
		d := build(event.OnAppUninstall, obj{"CLEAN": 1}, append(opts, eventtest.WithPortal(own))...)
		require.Equal(t, app.ApplicationToken(), d.Auth.ApplicationToken)
		require.Equal(t, p.MemberID(), d.Auth.MemberID)
		require.Equal(t, p.ClientEndpoint(), d.Auth.ClientEndpoint)
		require.Empty(t, d.Auth.AccessToken)
		require.Equal(t, len(opts) > 0, d.Time.IsZero())
	}
	d := build(event.OnImBotV2MessageAdd, obj{"bot": obj{"id": 7, "auth": foreign.Inner()}}, eventtest.WithPortal(own))
	var v2 event.BotV2Message // it names no message
	require.NoError(t, d.Data.Decode(&v2))
	require.Equal(t, p.MemberID(), d.Auth.MemberID)
	require.Equal(t, elsewhere.MemberID(), v2.Bot.Auth.MemberID, "an inner block of another portal")
	require.Equal(t, foreign.AccessToken, v2.Bot.Auth.AccessToken)
	old := foreign.Inner()
	old["BOT_ID"], old["BOT_CODE"] = 7, "bot"
	d = build(event.OnImBotMessageAdd, obj{"BOT": obj{"7": old}}, eventtest.WithPortal(own))
	var v1 event.BotMessage
	require.NoError(t, d.Data.Decode(&v1))
	require.Equal(t, elsewhere.MemberID(), v1.Bots["7"].MemberID)
	require.Equal(t, foreign.ClientEndpoint, v1.Bots["7"].ClientEndpoint)
	d = build(event.OnImBotV2MessageAdd, obj{"bot": obj{"id": 7, "auth": foreign.Inner()}}, eventtest.WithPortal(own), eventtest.BotAuth())
	require.Empty(t, d.Auth.MemberID)
	require.Equal(t, app.ApplicationToken(), d.Auth.ApplicationToken)
}

// TestAuthorizationWithState runs the code flow for any user and with any state.
func TestAuthorizationWithState(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	app := install(t, p, eventtest.App{RedirectURL: "https://app.example.com/oauth?x=1"}).app
	employee := p.AddUser(eventtest.User{Name: "Plain"})
	r, err := app.Redirected(t.Context(), employee, "chosen by another")
	require.NoError(t, err)
	require.Equal(t, http.MethodGet, r.Method)
	query := r.URL.Query()
	require.Equal(t, "app.example.com", r.URL.Host)
	require.Equal(t, "1", query.Get("x"))
	require.Equal(t, "chosen by another", query.Get("state"))
	require.Equal(t, p.MemberID(), query.Get("member_id"))
	require.Equal(t, p.Domain(), query.Get("domain"))
	code := tokenForm(app, "authorization_code", "code", event.Secret(query.Get("code")))
	pair := send(t, http.MethodGet, tokenURL(p)+"?"+code.Encode(), "", "")
	require.Equal(t, http.StatusOK, pair.Status, pair.Raw)
	require.Contains(t, pair.Raw, `"user_id":`+strconv.FormatInt(employee, 10))

	resp := send(t, http.MethodGet, p.URL()+"/oauth/authorize/?client_id="+app.ClientID()+"&state=mine", "", "")
	require.Equal(t, http.StatusFound, resp.Status)
	target, err := url.Parse(resp.Header.Get("Location"))
	require.NoError(t, err)
	require.Equal(t, "mine", target.Query().Get("state"))

	_, err = app.Redirected(t.Context(), 99, "")
	require.ErrorIs(t, err, eventtest.ErrNotFound)
	_, err = install(t, p, eventtest.App{}).app.Redirected(t.Context(), employee, "")
	require.ErrorContains(t, err, "RedirectURL")
}

// TestPagesOfEmployeesOnANetwork opens a page in memory.
func TestPagesOfEmployeesOnANetwork(t *testing.T) {
	t.Parallel()
	n := eventtest.NewNetwork()
	p := eventtest.NewPortal(t, eventtest.WithNetwork(n))
	n.Handle("app.example.com", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("event") == "" && r.FormValue("APPLICATION_TOKEN") == "" {
			t.Error("no application token")
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	app := install(t, p, eventtest.App{HandlerURL: "https://app.example.com/page"}).app
	status, err := app.OpenPage(t.Context(), p.AddUser(eventtest.User{}), eventtest.Placement{})
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, status)
}
