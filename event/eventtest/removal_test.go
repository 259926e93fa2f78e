package eventtest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// TestRemovedApplication checks that all access and refresh tokens of the application fail with the
// error of a removal.
func TestRemovedApplication(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		silent bool
	}{{"noticed", false}, {"while its process was down", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := eventtest.NewPortal(t)
			in := newInbox(t)
			c := install(t, p, eventtest.App{Scope: []string{"crm"}, HandlerURL: in.URL})
			c.bind(obj{"event": "ONAPPUNINSTALL", "handler": in.URL})
			c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
			employee := p.AddUser(eventtest.User{Name: "Plain"})
			var grants []eventtest.Grant
			for _, user := range []int64{eventtest.AdminID, employee} {
				g, err := c.app.Grant(user)
				require.NoError(t, err)
				grants = append(grants, g)
			}
			require.NoError(t, p.ChangeQuirks(func(q *eventtest.Quirks) { q.NoUninstallEvent = tt.silent }))
			require.NoError(t, c.app.Uninstall(false))
			wait(t, p)
			want := []string{"ONAPPINSTALL", "ONAPPUNINSTALL"}
			if tt.silent {
				want = want[:1]
			}
			require.Equal(t, want, in.events(t))
			require.Empty(t, p.Bindings())
			require.Empty(t, p.OfflineRows())
			for _, g := range grants {
				c.token = string(g.AccessToken)
				for _, method := range []string{"app.info", "event.offline.get", "user.admin", "batch"} {
					refusal := c.call(method, nil)
					require.Equal(t, http.StatusUnauthorized, refusal.Status, method)
					require.Equal(t, "APPLICATION_NOT_FOUND", refusal.Error, method)
				}
				refusal := trade(t, p, c.app, g.RefreshToken)
				require.Equal(t, http.StatusUnauthorized, refusal.Status)
				require.Equal(t, "invalid_client", refusal.Error, "5.3 application not installed")
			}
			_, err := c.app.Grant(eventtest.AdminID)
			require.ErrorIs(t, err, eventtest.ErrNotInstalled)

			require.NoError(t, c.app.Install(t.Context()))
			for _, g := range grants {
				c.token = string(g.AccessToken)
				require.Equal(t, "invalid_token", c.call("app.info", nil).Error, "old tokens do not come back to life")
				require.Equal(t, "invalid_grant", trade(t, p, c.app, g.RefreshToken).Error)
			}
		})
	}
}

// TestRemovalOnOneOfTwoPortals checks that a shared OAuth server finds the portal of each token.
func TestRemovalOnOneOfTwoPortals(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	spec := eventtest.App{ClientID: "app.1", ClientSecret: "s3cret"}
	gone := install(t, p, spec)
	other := eventtest.NewPortal(t, eventtest.WithOAuthServerOf(p))
	stays := install(t, other, spec)
	dead, err := gone.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	live, err := stays.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, gone.app.Uninstall(true))
	require.Equal(t, "invalid_client", trade(t, p, gone.app, dead.RefreshToken).Error)
	require.Equal(t, http.StatusOK, trade(t, p, stays.app, live.RefreshToken).Status)
}

// TestTwoApplications checks that two applications on one portal share neither tokens nor events,
// and that removing one leaves the other.
func TestTwoApplications(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	in := [2]*inbox{newInbox(t), newInbox(t)}
	var apps [2]*caller
	for i := range apps {
		apps[i] = install(t, p, eventtest.App{Scope: []string{"crm"}, HandlerURL: in[i].URL})
		apps[i].bind(obj{"event": "ONCRMDEALADD", "handler": in[i].URL})
		apps[i].bind(obj{"event": "ONAPPUNINSTALL", "handler": in[i].URL})
		apps[i].bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
	}
	require.NotEqual(t, apps[0].app.ApplicationToken(), apps[1].app.ApplicationToken(), "6 the token is the application's own")
	g, err := apps[0].app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	require.Equal(t, "invalid_grant", trade(t, p, apps[1].app, g.RefreshToken).Error, "another application cannot trade it")
	addDeal(t, p)
	require.Len(t, p.OfflineRows(), 2)
	require.NoError(t, apps[0].app.Uninstall(false))
	addDeal(t, p)
	wait(t, p)
	require.Equal(t, []string{"ONAPPINSTALL", "ONCRMDEALADD", "ONAPPUNINSTALL"}, in[0].events(t))
	require.Equal(t, []string{"ONAPPINSTALL", "ONCRMDEALADD", "ONCRMDEALADD"}, in[1].events(t))
	for i, form := range in[1].forms(t) {
		require.Equal(t, string(apps[1].app.ApplicationToken()), form.Get("auth[application_token]"), i)
	}
	require.Equal(t, "APPLICATION_NOT_FOUND", apps[0].call("app.info", nil).Error)
	apps[1].ok("app.info", nil)
	rows := p.OfflineRows()
	require.Len(t, rows, 2)
	for _, row := range rows {
		require.Equal(t, apps[1].app.ClientID(), row.ClientID)
	}
}
