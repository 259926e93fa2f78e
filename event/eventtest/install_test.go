package eventtest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

func TestInstallWithoutPages(t *testing.T) {
	t.Parallel()
	p, in := eventtest.NewPortal(t), newInbox(t)
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm", "task"}, HandlerURL: in.URL + "/install?tenant=1"})
	require.NoError(t, err)
	require.False(t, app.Installed())
	require.NoError(t, app.Install(t.Context()))
	require.True(t, app.Installed(), "5.5 installed at once")
	require.ErrorIs(t, app.Install(t.Context()), eventtest.ErrInstalled)
	require.ErrorIs(t, app.FinishInstall(), eventtest.ErrInstalled)
	wait(t, p)
	d := parse(t, p.Deliveries()[0].Body)
	require.Equal(t, "ONAPPINSTALL", d.Name)
	require.Equal(t, app.ApplicationToken(), d.Auth.ApplicationToken)
	require.Regexp(t, "^[0-9a-f]{32}$", string(d.Auth.ApplicationToken), "6 the token is 32 hexadecimal digits")
	require.NotEmpty(t, d.Auth.AccessToken)
	require.NotEmpty(t, d.Auth.RefreshToken, "4.4 a refresh token comes along")
	require.Equal(t, []string{"crm", "task"}, d.Auth.Scope.List())
	require.Equal(t, p.Domain(), d.Auth.Domain, "4.4 the portal's host here")
	payload, err := event.OnAppInstall.Decode(d)
	require.NoError(t, err)
	require.Equal(t, "1", payload.Version)
	require.Equal(t, p.Bindings()[0].ID, d.HandlerID)
	require.Equal(t, in.URL+"/install?tenant=1", p.Bindings()[0].Handler)
}

func TestInstallWithPages(t *testing.T) {
	t.Parallel()
	type opened struct{ query, body url.Values }
	pages := make(chan opened, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Error(err)
		}
		pages <- opened{r.URL.Query(), form}
	}))
	t.Cleanup(srv.Close)
	p, in := eventtest.NewPortal(t), newInbox(t)
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: srv.URL + "/page?x=1", UI: true})
	require.NoError(t, err)
	require.ErrorIs(t, app.FinishInstall(), eventtest.ErrNotInstalled)
	require.NoError(t, app.Install(t.Context()))
	page := <-pages
	require.Equal(t, "1", page.query.Get("x"))
	require.Equal(t, p.Domain(), page.query.Get("DOMAIN"))
	require.Equal(t, "0", page.query.Get("PROTOCOL"))
	require.NotEmpty(t, page.query.Get("APP_SID"))
	require.NotEqual(t, string(app.ApplicationToken()), page.query.Get("APP_SID"), "6 APP_SID is not the token")
	require.Equal(t, "3600", page.body.Get("AUTH_EXPIRES"))
	require.Equal(t, string(app.ApplicationToken()), page.body.Get("APPLICATION_TOKEN"))
	require.Equal(t, "crm", page.body.Get("APPLICATION_SCOPE"))
	require.Equal(t, p.ServerEndpoint(), page.body.Get("SERVER_ENDPOINT"))
	require.Equal(t, p.MemberID(), page.body.Get("member_id"))
	require.Equal(t, "DEFAULT", page.body.Get("PLACEMENT"))
	require.Equal(t, "[]", page.body.Get("PLACEMENT_OPTIONS"))
	require.NotEmpty(t, page.body.Get("REFRESH_ID"))
	require.NotContains(t, page.body, "client_endpoint", "5.4 there is none")

	require.False(t, app.Installed(), "5.5 only installFinish installs")
	c := &caller{t: t, p: p, app: app, token: page.body.Get("AUTH_ID")}
	require.Equal(t, false, c.ok("app.info", nil).object(t)["INSTALLED"])
	c.bind(obj{"event": "ONAPPINSTALL", "handler": in.URL})
	c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
	c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
	addDeal(t, p)
	wait(t, p)
	require.Empty(t, in.events(t), "4.6 bound, and silent until installed")
	require.Empty(t, p.OfflineRows())

	require.NoError(t, app.FinishInstall())
	addDeal(t, p)
	wait(t, p)
	require.Equal(t, []string{"ONAPPINSTALL", "ONCRMDEALADD"}, in.events(t))
	require.Len(t, p.OfflineRows(), 1)
}

func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	app, err := p.AddApp(eventtest.App{ClientID: "taken"})
	require.NoError(t, err)
	require.Error(t, app.InstallAs(t.Context(), p.AddUser(eventtest.User{})), "only administrators")
	require.ErrorIs(t, app.InstallAs(t.Context(), 99), eventtest.ErrNotFound)
	for name, spec := range map[string]eventtest.App{
		"client id twice":       {ClientID: "taken"},
		"pages without address": {UI: true},
		"relative address":      {HandlerURL: "/x"},
		"scheme":                {HandlerURL: "ftp://example.com"},
		"fragment":              {HandlerURL: "https://example.com/#x"},
		"port":                  {HandlerURL: "https://example.com:65536/"},
	} {
		_, err := p.AddApp(spec)
		require.ErrorIs(t, err, eventtest.ErrConfig, name)
	}
	in := newInbox(t)
	in.status = http.StatusInternalServerError
	ui, err := p.AddApp(eventtest.App{HandlerURL: in.URL, UI: true})
	require.NoError(t, err)
	require.Error(t, ui.Install(t.Context()), "the page failed")
}

func TestFrame(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	c := install(t, p, eventtest.App{HandlerURL: newInbox(t).URL})
	r, err := c.app.Frame(t.Context(), 1, eventtest.Placement{Name: "CRM_DEAL_DETAIL_TAB", Options: map[string]any{"ID": "7"}})
	require.NoError(t, err)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	d, err := event.Parse(r.Header.Get("Content-Type"), body)
	require.NoError(t, err)
	require.Equal(t, event.KindFrame, d.Kind)
	form, err := url.ParseQuery(string(body))
	require.NoError(t, err)
	require.Equal(t, "CRM_DEAL_DETAIL_TAB", form.Get("PLACEMENT"))
	var options obj
	require.NoError(t, json.Unmarshal([]byte(form.Get("PLACEMENT_OPTIONS")), &options))
	require.Equal(t, obj{"ID": "7"}, options)
	_, err = c.app.Frame(t.Context(), 99, eventtest.Placement{})
	require.ErrorIs(t, err, eventtest.ErrNotFound)
	_, err = install(t, p, eventtest.App{}).app.Frame(t.Context(), 1, eventtest.Placement{})
	require.Error(t, err, "nowhere to open")
}

func TestUninstall(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		clean bool
		want  string
	}{{"4.5 keep the data", false, "0"}, {"4.5 wipe the data", true, "1"}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			in := newInbox(t)
			c.bind(obj{"event": "ONAPPUNINSTALL", "handler": in.URL})
			token := c.app.ApplicationToken()
			require.NoError(t, c.app.Uninstall(tt.clean))
			require.ErrorIs(t, c.app.Uninstall(tt.clean), eventtest.ErrNotInstalled)
			wait(t, p)
			form := in.forms(t)[0]
			require.Equal(t, tt.want, form.Get("data[CLEAN]"))
			require.Equal(t, string(token), form.Get("auth[application_token]"), "6 the only proof")
			require.Equal(t, []string{"application_token", "client_endpoint", "domain", "member_id", "server_endpoint"}, authKeys(form))
			require.Empty(t, p.Bindings(), "2.1 handlers vanish")
			require.Equal(t, "APPLICATION_NOT_FOUND", c.call("app.info", nil).Error, "6 REST is dead already")

			require.NoError(t, c.app.Install(t.Context()), "and it can be installed again")
			require.Equal(t, token, c.app.ApplicationToken())
			require.NotEqual(t, token, c.app.RotateApplicationToken())
			require.Equal(t, "invalid_token", c.call("app.info", nil).Error, "6 REST is dead for the tokens of the installation before")
		})
	}
}
