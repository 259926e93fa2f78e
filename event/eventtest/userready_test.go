package eventtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// trade asks the OAuth server for new tokens.
func trade(t *testing.T, p *eventtest.Portal, app *eventtest.Application, refresh event.Secret) answer {
	t.Helper()
	form := tokenForm(app, "refresh_token", "refresh_token", refresh)
	return send(t, http.MethodPost, tokenURL(p), "application/x-www-form-urlencoded", form.Encode())
}

// fixedToken is an oauth source with a fixed token.
type fixedToken struct{ eventtest.Grant }

func (h fixedToken) Access(context.Context, string) (endpoint, token string, err error) {
	return h.ClientEndpoint, string(h.AccessToken), nil
}

func (fixedToken) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errors.New("no refresh in this test")
}

// sdk returns the SDK's client with an administrator's token.
func sdk(t *testing.T, app *eventtest.Application) *rest.Client {
	t.Helper()
	g, err := app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	portals, err := rest.NewClients(fixedToken{g}, rest.WithInsecureHTTP(), rest.WithoutRateLimit())
	require.NoError(t, err)
	return portals.Portal(g.MemberID)
}

func TestUserReady(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		when eventtest.UserReady
		ui   bool
		want []string
	}{
		{"never", eventtest.UserReadyNever, false, []string{"ONAPPINSTALL"}},
		{"before", eventtest.UserReadyBefore, false, []string{"ONAPPUSERREADY", "ONAPPINSTALL"}},
		{"after", eventtest.UserReadyAfter, false, []string{"ONAPPINSTALL", "ONAPPUSERREADY"}},
		{"with pages", eventtest.UserReadyAfter, true, []string{"", "ONAPPUSERREADY"}}, // the first is the page's POST
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := eventtest.NewPortal(t, eventtest.WithQuirks(func(q *eventtest.Quirks) { q.UserReady = tt.when }))
			in := newInbox(t)
			app, err := p.AddApp(eventtest.App{Scope: []string{"crm", "task"}, HandlerURL: in.URL + "/install", UI: tt.ui})
			require.NoError(t, err)
			require.NoError(t, app.Install(t.Context()))
			if tt.ui {
				require.NoError(t, app.FinishInstall())
			}
			wait(t, p)
			require.Equal(t, tt.want, in.events(t))
			i := slices.Index(tt.want, "ONAPPUSERREADY")
			if i < 0 {
				require.Zero(t, app.SystemUser())
				return
			}
			d := parse(t, event.Secret(in.bodies[i]))
			ready, err := event.OnAppUserReady.Decode(d)
			require.NoError(t, err)

			// PROTOCOL 10.3 the system user's tokens stand inside data, the installer's beside the
			// application token
			system := app.SystemUser()
			require.Equal(t, system, ready.UserID)
			require.Equal(t, eventtest.AdminID, d.Auth.UserID)
			require.Equal(t, app.ApplicationToken(), d.Auth.ApplicationToken)
			require.NotEmpty(t, d.Auth.RefreshToken)
			require.Equal(t, event.AppUserReady{
				AccessToken: ready.AccessToken, RefreshToken: ready.RefreshToken, ExpiresIn: 3600, Scope: "crm,task",
				Domain: p.OAuthHost(), ServerEndpoint: p.ServerEndpoint(), ClientEndpoint: p.ClientEndpoint(),
				MemberID: p.MemberID(), UserID: system, ClientID: app.ClientID(), Status: "L", LanguageID: "en",
			}, ready)

			c := &caller{t: t, p: p, app: app, token: string(ready.AccessToken)}
			require.JSONEq(t, "false", string(c.ok("user.admin", nil).Result), "10.7 the system user is no administrator")
			pair := trade(t, p, app, ready.RefreshToken)
			require.Equal(t, http.StatusOK, pair.Status, "10.3 the refresh token lives long and can be traded")
			var traded struct {
				AccessToken string `json:"access_token"`
				MemberID    string `json:"member_id"`
				UserID      int64  `json:"user_id"`
			}
			require.NoError(t, json.Unmarshal([]byte(pair.Raw), &traded))
			require.Equal(t, p.MemberID(), traded.MemberID)
			require.Equal(t, system, traded.UserID)
			c.token = traded.AccessToken
			require.JSONEq(t, "false", string(c.ok("user.admin", nil).Result))

			admin := as(t, p, app, eventtest.AdminID)
			row := obj{"event": "ONAPPUSERREADY", "handler": in.URL + "/install", "auth_type": "0", "offline": 0.0}
			require.Contains(t, admin.ok("event.get", nil).list(t), any(row), "10.3 the platform registers the handler itself")
			require.Equal(t, "ERROR_EVENT_NOT_FOUND", admin.call("event.bind", obj{"event": "ONAPPUSERREADY", "handler": in.URL}).Error)
			require.Equal(t, obj{"count": 1.0}, admin.ok("event.unbind", obj{"event": "ONAPPUSERREADY", "handler": in.URL + "/install"}).object(t))
			require.NotContains(t, admin.ok("event.get", nil).list(t), any(row))
		})
	}
}

// TestUserReadyOnce covers PROTOCOL 10.3: it is sent once for each installation.
func TestUserReadyOnce(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t, eventtest.WithQuirks(func(q *eventtest.Quirks) { q.UserReady = eventtest.UserReadyAfter }))
	in := newInbox(t)
	app, err := p.AddApp(eventtest.App{HandlerURL: in.URL})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	require.NoError(t, app.Update())
	wait(t, p)
	require.Equal(t, []string{"ONAPPINSTALL", "ONAPPUSERREADY"}, in.events(t), "10.3 it is sent once")
	system := app.SystemUser()
	require.NoError(t, app.Uninstall(false))
	require.NoError(t, app.Install(t.Context()))
	wait(t, p)
	require.Len(t, in.events(t), 4)
	require.Equal(t, system, app.SystemUser(), "a reinstallation brings the user back")
	require.JSONEq(t, "false", string(as(t, p, app, system).ok("user.admin", nil).Result))
}

// TestUserReadyQuirks checks that NoData and NoUser do not affect ONAPPUSERREADY, and that a late
// ONAPPINSTALL keeps its order.
func TestUserReadyQuirks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		quirks func(*eventtest.Quirks)
		early  []string // before the delay is over
		want   []string
	}{
		{"no data, no user", func(q *eventtest.Quirks) { q.NoData, q.NoUser = true, true }, []string{"ONAPPUSERREADY", "ONAPPINSTALL"}, nil},
		{"late installation", func(q *eventtest.Quirks) { q.InstallDelay = time.Hour }, []string{"ONAPPUSERREADY"}, []string{"ONAPPINSTALL"}},
		{"after a late one", func(q *eventtest.Quirks) {
			q.InstallDelay, q.UserReady = time.Hour, eventtest.UserReadyAfter
		}, nil, []string{"ONAPPINSTALL", "ONAPPUSERREADY"}},
		{"instead of it", func(q *eventtest.Quirks) { q.NoInstallEvent = true }, []string{"ONAPPUSERREADY"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := eventtest.NewNetwork()
				p := eventtest.NewPortal(t, eventtest.WithNetwork(n), eventtest.WithQuirks(func(q *eventtest.Quirks) {
					q.UserReady = eventtest.UserReadyBefore
					tt.quirks(q)
				}))
				n.Handle("app.example.com", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
				app, err := p.AddApp(eventtest.App{HandlerURL: "https://app.example.com/"})
				require.NoError(t, err)
				require.NoError(t, app.Install(t.Context()))
				synctest.Wait()
				names := func() (list []string) {
					for _, a := range p.Deliveries() {
						list = append(list, a.Event)
					}
					return list
				}
				require.Equal(t, tt.early, names())
				p.Advance(2 * time.Hour)
				wait(t, p)
				require.Equal(t, append(slices.Clone(tt.early), tt.want...), names())
				for _, a := range p.Deliveries() {
					d := parse(t, a.Body)
					require.NotEmpty(t, d.Auth.AccessToken)
					require.False(t, d.Data.IsZero(), a.Event)
				}
			})
		})
	}
}

// TestReconcileLeavesThePlatformsHandlers checks that Reconcile keeps the handlers that the
// platform bound.
func TestReconcileLeavesThePlatformsHandlers(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t, eventtest.WithQuirks(func(q *eventtest.Quirks) { q.UserReady = eventtest.UserReadyAfter }))
	in := newInbox(t)
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm", "imbot"}, HandlerURL: in.URL})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	_, err = app.AddBot(eventtest.Bot{Webhook: in.URL})
	require.NoError(t, err)
	require.Len(t, p.Bindings(), 10)
	api := event.NewAPI(sdk(t, app))
	mux := event.NewMux()
	done := event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil })
	for _, name := range []string{"ONAPPINSTALL", "ONAPPUSERREADY", "ONIMBOTV2MESSAGEADD", "ONCRMDEALADD"} {
		mux.Handle(name, done)
	}
	require.NoError(t, api.Reconcile(t.Context(), mux.Bindings(in.URL), event.WithOwnedPrefix(in.URL)))
	require.Len(t, p.Bindings(), 11, "one more, and none less")
	require.Zero(t, p.CallCount("event.unbind"))
	n, err := api.UnbindAll(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Len(t, p.Bindings(), 10)
}
