package doctor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

const (
	host       = "app.example.com"
	handlerURL = "https://" + host + "/bitrix24"
)

// world is a portal with a sound installation of an application, in a bubble.
type world struct {
	*eventtest.Portal

	net      *eventtest.Network
	app      *eventtest.Application
	store    oauth.Store
	secret   event.Secret // of the application, as the program has it
	clientID string
	member   string
	caller   event.Caller // nil: that of the installation
	want     []event.Binding
	opts     []doctor.Option
	arrivals chan *event.Delivery
	answer   http.HandlerFunc // nil: the handler accepts
	seed     oauth.Installation
	unbound  bool // the wanted bindings are not made
	unstored bool // the installation is not stored
}

func online(events ...string) []event.Binding {
	all := make([]event.Binding, len(events))
	for i, e := range events {
		all[i] = event.Binding{Event: e, Handler: handlerURL}
	}
	return all
}

func newWorld(tb testing.TB, spec eventtest.App, opts ...eventtest.Option) *world {
	tb.Helper()
	w := &world{
		net: eventtest.NewNetwork(), store: oauth.NewMemoryStore(), arrivals: make(chan *event.Delivery, 100),
		want: online("ONCRMDEALADD", "ONCRMDEALUPDATE"),
	}
	w.net.Handle(host, w)
	w.Portal = eventtest.NewPortal(tb, append(opts, eventtest.WithNetwork(w.net), eventtest.WithHost("acme.bitrix24.com"))...)
	if spec.Scope == nil {
		spec.Scope = []string{"crm"}
	}
	spec.HandlerURL = handlerURL
	var err error
	w.app, err = w.AddApp(spec)
	require.NoError(tb, err)
	require.NoError(tb, w.app.Install(tb.Context()))
	require.NoError(tb, w.Wait(tb.Context()))
	for len(w.arrivals) > 0 { // what the installation has sent
		<-w.arrivals
	}
	w.secret, w.clientID, w.member = w.app.ClientSecret(), w.app.ClientID(), w.MemberID()
	w.seed = w.installation(tb, eventtest.AdminID)
	return w
}

// ServeHTTP is the handler of the application.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if w.answer != nil {
		w.answer(rw, r)
		return
	}
	d, err := event.ParseRequest(r)
	if err != nil {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	w.arrivals <- d
}

func (w *world) installation(tb testing.TB, user int64) oauth.Installation {
	tb.Helper()
	g, err := w.app.Grant(user)
	require.NoError(tb, err)
	return oauth.Installation{
		MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint, AccessToken: g.AccessToken,
		RefreshToken: g.RefreshToken, Expires: g.Expires, UserID: g.UserID, ApplicationToken: g.ApplicationToken,
	}
}

// bind binds as another program with an administrator's token has.
func (w *world) bind(t *testing.T, bindings ...event.Binding) {
	t.Helper()
	w.bindAs(t, eventtest.AdminID, bindings...)
}

func (w *world) bindAs(tb testing.TB, user int64, bindings ...event.Binding) {
	tb.Helper()
	portals, api := w.clients(tb, oauth.NewMemoryStore(), w.app.ClientID(), w.app.ClientSecret())
	_, err := portals.Seed(tb.Context(), w.installation(tb, user))
	require.NoError(tb, err)
	for _, b := range bindings {
		require.NoError(tb, event.NewAPI(api.Portal(w.MemberID())).Bind(tb.Context(), b), b.String())
	}
}

func (w *world) clients(tb testing.TB, store oauth.Store, id string, secret event.Secret) (*oauth.Portals, *rest.Clients) {
	tb.Helper()
	silent := slog.New(slog.DiscardHandler)
	portals, err := oauth.NewPortals(oauth.Config{ClientID: id, ClientSecret: secret}, store, oauth.WithHTTPClient(w.net.Client()),
		oauth.WithLogger(silent))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = portals.Shutdown(context.WithoutCancel(tb.Context())) }) // it may be looking into a removal
	api, err := rest.NewClients(portals, rest.WithHTTPClient(w.net.Client()), rest.WithLogger(silent), rest.WithoutRateLimit())
	require.NoError(tb, err)
	return portals, api
}

// examine examines the world with all options.
func (w *world) examine(t *testing.T) doctor.Report {
	t.Helper()
	if !w.unbound {
		w.bind(t, w.want...)
	}
	portals, api := w.clients(t, w.store, w.clientID, w.secret)
	if !w.unstored {
		w.seed.MemberID = w.member
		_, err := portals.Seed(t.Context(), w.seed)
		require.NoError(t, err)
	}
	caller := w.caller
	if caller == nil {
		caller = api.Portal(w.member)
	}
	opts := append([]doctor.Option{
		doctor.WithPortals(portals, w.member), doctor.WithRoundTrip(w.arrivals, time.Minute), doctor.WithProbe(w.net.Client()),
	}, w.opts...)
	r, err := doctor.Examine(t.Context(), caller, w.want, opts...)
	require.NoError(t, err)
	for _, b := range w.Bindings() {
		require.NotEqual(t, "ONAPPTEST", b.Event, "the test event is unbound again")
	}
	for _, secret := range []event.Secret{w.secret, w.seed.AccessToken, w.seed.RefreshToken, w.seed.ApplicationToken} {
		if secret != "" {
			require.NotContains(t, fmt.Sprintf("%+v", r), string(secret))
		}
	}
	requireOrdered(t, r)
	return r
}

// requireOrdered checks that a report has every check, in order, and that findings say what to do.
func requireOrdered(tb testing.TB, r doctor.Report) {
	tb.Helper()
	order := []string{
		"installation", "credentials", "token", "portal", "scopes", "rights", "plan", "subscription", "handler", "probe", "events", "bindings",
		"test", "deliveries", "queue", "clock",
	}
	var got []string
	for _, c := range r.Checks {
		if len(got) == 0 || got[len(got)-1] != c.Name {
			got = append(got, c.Name)
		}
		switch c.Status {
		case doctor.Warning, doctor.Failed:
			require.NotEmpty(tb, c.Code, c.Name)
			require.NotEmpty(tb, c.Cause, c.Code)
			require.NotEmpty(tb, c.Cure, c.Code)
		case doctor.OK, doctor.Skipped:
			require.NotEmpty(tb, c.Cause, c.Name)
			require.Empty(tb, c.Cure, c.Name)
		}
		require.NotContains(tb, c.Cause+c.Cure, "\n")
	}
	require.Equal(tb, order, got)
}

func codes(r doctor.Report) []doctor.Code {
	var all []doctor.Code
	for _, c := range r.Findings() {
		all = append(all, c.Code)
	}
	return all
}

func TestSound(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]event.Binding{
		"online":  online("ONCRMDEALADD", "onCrmDealUpdate"),
		"offline": {{Event: "ONCRMDEALADD", Offline: true}, {Event: "ONCRMDEALADD", Offline: true, Connector: "sync"}},
		"both":    append(online("ONCRMDEALADD", "ONOFFLINEEVENT"), event.Binding{Event: "ONCRMDEALADD", Offline: true}),
		"app":     online("ONAPPUPDATE", "ONAPPUNINSTALL"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, eventtest.App{})
				w.want = want
				w.bind(t, event.Binding{Event: "ONCRMDEALADD", Handler: "https://laptop.example.com/"},
					event.Binding{Event: "ONCRMLEADADD", Handler: handlerURL}, event.Binding{Event: "ONCRMLEADADD", Offline: true})
				w.opts = append(w.opts, doctor.WithReceived(doctor.Received{Accepted: 1, Rejected: map[string]uint64{"forbidden": 0}}))
				r := w.examine(t)
				require.Empty(t, r.Findings(), "%s", r)
				require.False(t, r.Failed())
				require.True(t, slices.ContainsFunc(r.Checks, func(c doctor.Check) bool { return c.Code == doctor.BoundByPlatform }))
				if name == "online" {
					require.Contains(t, r.String(), "test ok")
					require.Contains(t, r.String(), "probe ok: the handler responds with 400, as it should: an empty POST holds no event")
					require.Contains(t, r.String(), "2 of 2 wanted are there; besides, the application has 2 for other events, and 1 to another "+
						"handler or queue")
					require.Contains(t, r.String(), "the platform itself has bound ONAPPINSTALL")
				}
			})
		})
	}
}

func TestBroken(t *testing.T) {
	t.Parallel()
	type broken struct {
		spec    eventtest.App
		opts    []eventtest.Option
		prepare func(t *testing.T, w *world)
		want    []doctor.Code // the findings, failures first
		only    bool          // other findings follow from the first one
		says    string
	}
	status := func(code int) func(t *testing.T, w *world) {
		return func(_ *testing.T, w *world) {
			w.answer = func(rw http.ResponseWriter, r *http.Request) {
				if code/100 == 3 {
					rw.Header().Set("Location", handlerURL+"/")
				}
				rw.WriteHeader(code)
				_, _ = io.Copy(io.Discard, r.Body)
			}
		}
	}
	fault := func(method string, f eventtest.Fault) func(t *testing.T, w *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			if !w.unbound {
				w.bind(t, w.want...)
			}
			w.unbound = true
			w.Always(method, f)
		}
	}
	handler := func(url string) func(t *testing.T, w *world) {
		return func(_ *testing.T, w *world) {
			w.want, w.unbound = []event.Binding{{Event: "ONCRMDEALADD", Handler: url}}, true
		}
	}
	// bound binds something else than what is wanted.
	bound := func(want event.Binding, have ...event.Binding) func(t *testing.T, w *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			w.want, w.unbound = []event.Binding{want}, true
			w.bind(t, have...)
		}
	}
	deal := event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL}
	queued := event.Binding{Event: "ONCRMDEALADD", Offline: true}
	for name, b := range map[string]broken{
		"installation not finished": {spec: eventtest.App{UI: true}, want: []doctor.Code{doctor.NotFinished}},
		"application removed": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.unbound = true
				require.NoError(t, w.app.Uninstall(false))
			},
			want: []doctor.Code{doctor.AppRemoved}, only: true,
		},
		"application switched off": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.bind(t, w.want...)
				w.unbound = true
				w.app.SetActive(false)
			},
			want: []doctor.Code{doctor.AppRemoved}, only: true,
		},
		// Only the installation says which OAuth server has the application.
		"not stored": {
			prepare: func(_ *testing.T, w *world) {
				w.unstored = true
				w.net.Break("oauth.bitrix.info", errors.New("no such host"))
			},
			want: []doctor.Code{doctor.NotStored}, says: "credentials skipped: no installation is stored",
		},
		"no application token": {
			prepare: func(_ *testing.T, w *world) { w.seed.ApplicationToken, w.seed.InstalledAt = "", time.Now() }, want: []doctor.Code{doctor.NoAppToken},
		},
		"wrong client secret": {
			prepare: func(_ *testing.T, w *world) { w.secret = "another-secret-of-the-test" }, want: []doctor.Code{doctor.WrongCredentials},
		},
		"wrong client secret and expired token": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.bind(t, w.want...)
				w.unbound, w.secret = true, "another-secret-of-the-test"
				w.ExpireAccessTokens()
			},
			want: []doctor.Code{doctor.WrongCredentials},
		},
		"token of another application": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				other, err := w.AddApp(eventtest.App{})
				require.NoError(t, err)
				require.NoError(t, other.Install(t.Context()))
				w.clientID, w.secret = other.ClientID(), other.ClientSecret()
			},
			want: []doctor.Code{doctor.OtherApplication},
		},
		"tokens revoked": {
			prepare: func(t *testing.T, w *world) { t.Helper(); w.bind(t, w.want...); w.unbound = true; w.app.RevokeTokens() },
			want:    []doctor.Code{doctor.TokenRefused},
		},
		"refresh token used elsewhere": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.bind(t, w.want...)
				w.unbound = true
				w.ExpireAccessTokens()
				w.Always("oauth/token", eventtest.RefusedRefresh())
			},
			want: []doctor.Code{doctor.TokenRefused},
		},
		"tokens of another portal": {
			prepare: func(_ *testing.T, w *world) { w.member = "b223c6b3710f85df22e9377d6c4f7553" },
			want:    []doctor.Code{doctor.OtherPortal, doctor.TestOtherPortal},
		},
		"user dismissed": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				id := w.AddUser(eventtest.User{Admin: true})
				w.seed = w.installation(t, id)
				require.NoError(t, w.DismissUser(id))
			},
			want: []doctor.Code{doctor.UserDismissed},
		},
		"incoming webhook": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				hook, err := w.AddIncomingWebhook(eventtest.AdminID, "crm")
				require.NoError(t, err)
				c, err := rest.NewWebhook(string(hook), rest.WithHTTPClient(w.net.Client()))
				require.NoError(t, err)
				w.caller = c
			},
			want: []doctor.Code{doctor.IncomingWebhook},
		},
		"portal deleted": {
			prepare: fault(eventtest.AnyMethod, eventtest.Fail(403, "PORTAL_DELETED", "Portal was deleted")), want: []doctor.Code{doctor.PortalClosed},
		},
		"too many requests": {
			prepare: fault(eventtest.AnyMethod, eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")),
			want:    []doctor.Code{doctor.PortalBlocks},
		},
		"portal in maintenance": {prepare: fault(eventtest.AnyMethod, eventtest.HTML(502)), want: []doctor.Code{doctor.PortalFailed}},
		"portal cannot be reached": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.bind(t, w.want...)
				w.unbound = true
				w.net.Break("acme.bitrix24.com", errors.New("no route to host"))
			},
			want: []doctor.Code{doctor.PortalFailed},
		},
		"plan without REST": {
			prepare: fault(eventtest.AnyMethod, eventtest.Fail(401, "ACCESS_DENIED", "REST is available only on commercial plans.")),
			want:    []doctor.Code{doctor.PlanWithoutAPI},
		},
		"subscription ended": {
			prepare: fault("oauth/token", eventtest.Fail(400, "PAYMENT_REQUIRED", "")), want: []doctor.Code{doctor.PaymentExpired},
		},
		"portal hangs": {
			prepare: fault(eventtest.AnyMethod, eventtest.Delay(time.Hour)), want: []doctor.Code{doctor.PortalFailed},
			says: "The portal acme.bitrix24.com did not respond within 15s.",
		},
		// The examination gives up before every method has timed out.
		"portal responds to some calls": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				for _, method := range []string{"server.time", "feature.get", "scope", "events", "user.admin", "event.get"} {
					fault(method, eventtest.Delay(time.Hour))(t, w)
					w.unbound = true
				}
			},
			want: []doctor.Code{doctor.PortalFailed, doctor.CheckFailed}, says: "The portal acme.bitrix24.com did not respond within 15s.",
		},
		"OAuth server in maintenance": {prepare: fault("oauth/token", eventtest.HTML(502)), want: []doctor.Code{doctor.OAuthFailed}},
		// The portal works, and must not be blamed.
		"OAuth server in maintenance and expired token": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				fault("oauth/token", eventtest.HTML(502))(t, w)
				w.ExpireAccessTokens()
			},
			want: []doctor.Code{doctor.OAuthFailed, doctor.OAuthFailed}, says: "token failed: The access token has expired",
		},
		"OAuth server hangs and expired token": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				fault("oauth/token", eventtest.Delay(time.Hour))(t, w)
				w.ExpireAccessTokens()
			},
			want: []doctor.Code{doctor.OAuthFailed, doctor.OAuthFailed}, says: "token failed: The access token has expired",
		},
		"access token without refresh token": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.bind(t, w.want...)
				w.unbound, w.seed.RefreshToken = true, ""
				w.ExpireAccessTokens()
			},
			want: []doctor.Code{doctor.TokenExpired},
		},
		"store encrypted with a key that was not given": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.bind(t, w.want...)
				dir := t.TempDir()
				w.store = openFiles(t, dir, oauth.WithEncryptionKey(bytes.Repeat([]byte("k"), oauth.EncryptionKeySize)))
				portals, _ := w.clients(t, w.store, w.clientID, w.secret)
				_, err := portals.Seed(t.Context(), w.seed)
				require.NoError(t, err)
				w.store, w.unbound, w.unstored = openFiles(t, dir), true, true
			},
			want: []doctor.Code{doctor.StoreEncrypted}, only: true, says: "WithEncryptionKey",
		},
		"user without access to the application": {
			prepare: fault(eventtest.AnyMethod, eventtest.Fail(401, "user_access_error", "")), want: []doctor.Code{doctor.NoUserAccess},
		},
		"address of a stranger": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.bind(t, w.want...)
				w.unbound, w.unstored = true, true
				w.seed.ServerEndpoint = "https://oauth.example.com/rest/"
				w.ExpireAccessTokens()
				_, err := w.store.Swap(t.Context(), oauth.Key{ClientID: w.clientID, MemberID: w.member}, "", w.seed)
				require.NoError(t, err)
			},
			want: []doctor.Code{doctor.AddressRefused},
		},
		"one method fails": {
			prepare: fault("user.admin", eventtest.Fail(500, "ERROR_CORE", "Internal error")), want: []doctor.Code{doctor.CheckFailed},
			says: "user.admin gave no usable response",
		},
		"test event refused": {
			prepare: fault("event.test", eventtest.Fail(400, "ERROR_CORE", "no test today")), want: []doctor.Code{doctor.TestFailed},
		},
		"store of another user": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.bind(t, w.want...)
				w.store, w.unbound, w.unstored = brokenStore{w.store}, true, true
			},
			want: []doctor.Code{doctor.StoreFailed}, only: true, says: "permission denied",
		},
		"permission missing": {
			prepare: func(_ *testing.T, w *world) { w.want, w.unbound = online("ONTASKADD", "ONTASKUPDATE"), true },
			want:    []doctor.Code{doctor.ScopeMissing}, says: "permission task, which ONTASKADD, ONTASKUPDATE",
		},
		"name misspelt": {
			prepare: func(_ *testing.T, w *world) { w.want, w.unbound = online("ONCRMDEALUDPATE"), true },
			want:    []doctor.Code{doctor.UnknownEvent}, says: "Did you mean ONCRMDEALUPDATE?",
		},
		"name of nothing": {
			prepare: func(_ *testing.T, w *world) { w.want, w.unbound = online("ONSUNRISE\u202e\x1b[31m"), true },
			want:    []doctor.Code{doctor.UnknownEvent}, says: "Neither",
		},
		"template": {
			prepare: func(_ *testing.T, w *world) { w.want, w.unbound = online("ONCRMDYNAMICITEMADD_{TYPEID}"), true },
			want:    []doctor.Code{doctor.UnknownEvent}, says: "template",
		},
		"no such smart process": {
			prepare: func(_ *testing.T, w *world) { w.want, w.unbound = online("ONCRMDYNAMICITEMADD_147"), true },
			want:    []doctor.Code{doctor.EventUnavailable},
		},
		"not bindable": {
			prepare: func(_ *testing.T, w *world) {
				w.want, w.unbound = append(online("ONIMBOTV2MESSAGEADD"), event.Binding{Event: "ONOFFLINEEVENT", Offline: true}), true
			},
			want: []doctor.Code{doctor.EventNotBindable, doctor.EventNotBindable},
		},
		"user without rights, online": {
			prepare: func(t *testing.T, w *world) { t.Helper(); w.seed = w.installation(t, w.AddUser(eventtest.User{})) },
			// The portal does not show the bindings of others, and unbinds the test event for its own user.
			want: []doctor.Code{doctor.BindingMissing, doctor.BindingMissing, doctor.NotAdministrator}, says: "Or another user has bound it",
		},
		"user without rights, offline": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.want = []event.Binding{queued}
				w.seed = w.installation(t, w.AddUser(eventtest.User{}))
			},
			want: []doctor.Code{doctor.NotAdministrator, doctor.BindingMissing},
		},
		"plan without connectors": {
			opts: []eventtest.Option{eventtest.WithoutConnectors()},
			prepare: func(_ *testing.T, w *world) {
				w.want, w.unbound = []event.Binding{{Event: "ONCRMDEALADD", Offline: true, Connector: "sync"}}, true
			},
			want: []doctor.Code{doctor.NoConnectors, doctor.BindingMissing},
		},
		"plan without reservations": {
			opts:    []eventtest.Option{eventtest.WithoutExtendedOffline()},
			prepare: func(_ *testing.T, w *world) { w.want = []event.Binding{queued} },
			want:    []doctor.Code{doctor.NoReservations},
		},
		"payment expired": {
			prepare: func(_ *testing.T, w *world) { w.app.SetPaymentExpired(true) },
			want:    []doctor.Code{doctor.PaymentExpired},
		},
		"handler in clear": {prepare: handler("http://app.example.com/"), want: []doctor.Code{doctor.BadHandlerURL, doctor.BindingMissing}},
		"handler on localhost": {
			prepare: handler("http://localhost:8080/"), want: []doctor.Code{doctor.BadHandlerURL, doctor.BindingMissing}, says: "without a dot",
		},
		"handler in the private network": {
			prepare: handler("http://192.168.137.1:8001/"),
			want:    []doctor.Code{doctor.PrivateHandler, doctor.HandlerUnreachable, doctor.BindingMissing, doctor.TestNotArrived},
		},
		"handler in the network of a provider": {
			prepare: handler("https://100.64.3.4/"),
			want:    []doctor.Code{doctor.PrivateHandler, doctor.HandlerUnreachable, doctor.BindingMissing, doctor.TestNotArrived},
		},
		"handler with a name of the local network": {
			prepare: handler("https://nas.local/"),
			want:    []doctor.Code{doctor.PrivateHandler, doctor.HandlerUnreachable, doctor.BindingMissing, doctor.TestNotArrived},
		},
		"nothing bound": {
			prepare: func(_ *testing.T, w *world) { w.unbound = true }, want: []doctor.Code{doctor.BindingMissing, doctor.BindingMissing},
		},
		"bound to another URL": {
			prepare: bound(deal, event.Binding{Event: "ONCRMDEALADD", Handler: "https://old.example.com/?secret=abc"}),
			want:    []doctor.Code{doctor.BindingElsewhere}, says: "old.example.com/?…",
		},
		"bound with http": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.want, w.unbound = []event.Binding{deal}, true
				portals, api := w.clients(t, oauth.NewMemoryStore(), w.app.ClientID(), w.app.ClientSecret())
				_, err := portals.Seed(t.Context(), w.installation(t, eventtest.AdminID))
				require.NoError(t, err)
				require.NoError(t, api.Portal(w.MemberID()).Call(t.Context(), "event.bind",
					map[string]any{"event": "ONCRMDEALADD", "handler": "http://app.example.com/bitrix24"}, nil))
			},
			want: []doctor.Code{doctor.BindingScheme},
		},
		"bound offline":            {prepare: bound(deal, queued), want: []doctor.Code{doctor.BindingMode}},
		"bound online":             {prepare: bound(queued, deal), want: []doctor.Code{doctor.BindingMode}},
		"bound to another queue":   {prepare: bound(queued, event.Binding{Event: "ONCRMDEALADD", Offline: true, Connector: "x"}), want: []doctor.Code{doctor.BindingConnector}},
		"bound with another user":  {prepare: bound(deal, event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL, AuthType: 1}), want: []doctor.Code{doctor.BindingUser}},
		"bound twice":              {prepare: bound(deal, deal, event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL, AuthType: 1}), want: []doctor.Code{doctor.BindingTwice}},
		"handler without the page": {prepare: status(404), want: []doctor.Code{doctor.HandlerRefuses, doctor.TestNotArrived}},
		// To bind the wanted URL would make it worse.
		"handler without the page, bound to another URL": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				status(404)(t, w)
				bound(deal, event.Binding{Event: "ONCRMDEALADD", Handler: "https://app.example.com/events"})(t, w)
			},
			want: []doctor.Code{doctor.HandlerRefuses, doctor.BindingElsewhere, doctor.TestNotArrived},
			says: "https://app.example.com/events. First check which of the two URLs is right, because the wanted one responds with 404. Then " +
				"run event.API.Reconcile with the right one",
		},
		"handler without the page, nothing bound": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				status(405)(t, w)
				bound(deal)(t, w)
			},
			want: []doctor.Code{doctor.HandlerRefuses, doctor.BindingMissing, doctor.TestNotArrived},
			says: "is not bound. First check the wanted URL, because it responds with 405. Then run event.API.Reconcile",
		},
		// The login is in the way. The URL is right.
		"handler behind a login, bound to another URL": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				status(401)(t, w)
				bound(deal, event.Binding{Event: "ONCRMDEALADD", Handler: "https://app.example.com/events"})(t, w)
			},
			want: []doctor.Code{doctor.HandlerRefuses, doctor.BindingElsewhere, doctor.TestNotArrived},
			says: "https://app.example.com/events. Run event.API.Reconcile",
		},
		"handler behind a login":     {prepare: status(401), want: []doctor.Code{doctor.HandlerRefuses, doctor.TestNotArrived}},
		"handler behind a firewall":  {prepare: status(403), want: []doctor.Code{doctor.HandlerRefuses, doctor.TestNotArrived}, says: "HEAD"},
		"handler redirects":          {prepare: status(301), want: []doctor.Code{doctor.HandlerRedirects, doctor.TestNotArrived}},
		"handler redirects the body": {prepare: status(308), want: []doctor.Code{doctor.TestNotArrived, doctor.HandlerRedirects}},
		"handler fails":              {prepare: status(500), want: []doctor.Code{doctor.HandlerFails, doctor.TestNotArrived}},
		"handler down": {
			prepare: func(_ *testing.T, w *world) { w.net.Break(host, errors.New("connection refused")) },
			want:    []doctor.Code{doctor.HandlerUnreachable, doctor.TestNotArrived}, says: "If only this machine cannot reach it, see the check test.",
		},
		"handler with a certificate of its own": {
			prepare: func(_ *testing.T, w *world) {
				w.net.Break(host, &tls.CertificateVerificationError{Err: errors.New("signed by unknown authority")})
			},
			want: []doctor.Code{doctor.HandlerTLS, doctor.TestNotArrived},
		},
		"handler hangs": {
			prepare: func(_ *testing.T, w *world) {
				w.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
			},
			want: []doctor.Code{doctor.HandlerSlow, doctor.TestNotArrived},
		},
		"handler is slow": {
			prepare: func(_ *testing.T, w *world) {
				w.answer = func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(5 * time.Second) //nolint:forbidigo // in a bubble
					d, err := event.ParseRequest(r)
					if err != nil {
						rw.WriteHeader(http.StatusBadRequest)
						return
					}
					w.arrivals <- d
				}
			},
			want: []doctor.Code{doctor.HandlerSlow},
		},
		"application token replaced": {
			prepare: func(_ *testing.T, w *world) { w.app.RotateApplicationToken() }, want: []doctor.Code{doctor.WrongAppToken},
		},
		"every delivery rejected": {
			prepare: func(_ *testing.T, w *world) {
				w.opts = append(w.opts, doctor.WithReceived(doctor.Received{Rejected: map[string]uint64{"forbidden": 7}}))
			},
			want: []doctor.Code{doctor.DeliveriesRejected}, says: "forbidden 7",
		},
		"nothing received": {
			prepare: func(_ *testing.T, w *world) {
				w.opts = append(w.opts, doctor.WithReceived(doctor.Received{Since: time.Now().Add(-time.Hour)}))
			},
			want: []doctor.Code{doctor.NothingReceived},
		},
		"deliveries late and lost": {
			prepare: func(_ *testing.T, w *world) {
				now := time.Now()
				w.opts = append(w.opts, doctor.WithReceived(doctor.Received{
					Accepted: 9, Dropped: 1, Ack: 10 * time.Second, Rejected: map[string]uint64{"malformed": 1},
					Last: []doctor.Arrival{{Fired: now.Add(-5 * time.Minute), At: now}, {Fired: now, At: now}, {}},
				}))
			},
			want: []doctor.Code{doctor.DeliveriesRejected, doctor.DeliveriesDropped, doctor.HandlerSlow, doctor.DeliveriesLate}, says: "1 of 3 deliveries",
		},
		"offline queue without a reader": {
			prepare: func(t *testing.T, w *world) { t.Helper(); w.fillQueue(t, func(*rest.Client) {}) }, want: []doctor.Code{doctor.QueueWaits},
		},
		"offline records reserved by a dead consumer": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.fillQueue(t, func(c *rest.Client) {
					require.NoError(t, c.Call(t.Context(), "event.offline.get", map[string]any{"clear": 0}, nil))
				})
			},
			want: []doctor.Code{doctor.QueueStuck},
		},
		"offline records given up": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.fillQueue(t, func(c *rest.Client) {
					var batch struct {
						Process string `json:"process_id"`
						Events  []struct {
							Message string `json:"MESSAGE_ID"`
						}
					}
					require.NoError(t, c.Call(t.Context(), "event.offline.get", map[string]any{"clear": 0}, &batch))
					require.NoError(t, c.Call(t.Context(), "event.offline.error",
						map[string]any{"process_id": batch.Process, "message_id": []string{batch.Events[0].Message}}, nil))
				})
			},
			want: []doctor.Code{doctor.QueueParked},
		},
		"clock is wrong": {
			prepare: func(_ *testing.T, w *world) { w.Advance(10 * time.Minute) }, want: []doctor.Code{doctor.ClockSkew}, says: "10m apart",
		},
		// Ages count by the portal's clock.
		"clock is wrong and deliveries are late": {
			prepare: func(_ *testing.T, w *world) {
				w.Advance(10 * time.Minute)
				w.opts = append(w.opts, doctor.WithReceived(doctor.Received{
					Accepted: 1, Last: []doctor.Arrival{{Fired: w.Now().Add(-5 * time.Minute), At: time.Now()}},
				}))
			},
			want: []doctor.Code{doctor.DeliveriesLate, doctor.ClockSkew}, says: "by 5m",
		},
		"clock is wrong and nobody reads the queue": {
			prepare: func(t *testing.T, w *world) {
				t.Helper()
				w.Advance(10 * time.Minute)
				w.fillQueue(t, func(*rest.Client) {})
			},
			want: []doctor.Code{doctor.QueueWaits, doctor.ClockSkew},
		},
		"trial ends": {
			prepare: fault("app.info", eventtest.Rewrite(func(body []byte) []byte {
				return []byte(strings.NewReplacer(`"DAYS":null`, `"DAYS":"2"`, `"STATUS":"L"`, `"STATUS":"T"`).Replace(string(body)))
			})),
			want: []doctor.Code{doctor.PaymentEnds},
		},
		"odd responses": {
			prepare: fault(eventtest.AnyMethod, eventtest.Raw(200, "application/json", `{"result":[]}`)), want: []doctor.Code{doctor.PortalFailed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, b.spec, b.opts...)
				if b.prepare != nil {
					b.prepare(t, w)
				}
				r := w.examine(t)
				got := codes(r)
				if b.only && len(got) > len(b.want) {
					got = got[:len(b.want)]
				}
				require.Equal(t, b.want, got, "%s", r)
				require.Contains(t, r.String(), b.says)
				require.NotContains(t, r.String(), "\x1b")
				require.NotContains(t, r.String(), "\u202e")
			})
		})
	}
}

// fillQueue binds an event offline, changes something, and lets time pass.
func (w *world) fillQueue(t *testing.T, then func(*rest.Client)) {
	t.Helper()
	w.want = []event.Binding{{Event: "ONCRMDEALADD", Offline: true}}
	w.bind(t, w.want...)
	w.unbound = true
	_, err := w.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	portals, api := w.clients(t, oauth.NewMemoryStore(), w.app.ClientID(), w.app.ClientSecret())
	_, err = portals.Seed(t.Context(), w.installation(t, eventtest.AdminID))
	require.NoError(t, err)
	then(api.Portal(w.MemberID()))
	time.Sleep(11 * time.Minute) //nolint:forbidigo // in a bubble
}

func openFiles(t *testing.T, dir string, opts ...oauth.FileOption) *oauth.FileStore {
	t.Helper()
	store, err := oauth.NewFileStore(dir, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// brokenStore cannot be read.
type brokenStore struct{ oauth.Store }

func (brokenStore) Load(context.Context, oauth.Key) (oauth.Installation, oauth.Version, error) {
	return oauth.Installation{}, "", &fs.PathError{Op: "open", Path: "/" + strings.Repeat("folder/", 60), Err: fs.ErrPermission}
}

// A handler that refuses strangers accepts the portal's deliveries: the test event proves it.
func TestHandlerThatRefusesStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.answer = func(rw http.ResponseWriter, r *http.Request) {
			d, err := event.ParseRequest(r)
			if err != nil {
				rw.WriteHeader(http.StatusForbidden)
				return
			}
			w.arrivals <- d
		}
		r := w.examine(t)
		require.Empty(t, r.Findings(), "%s", r)
	})
}

// Without a test event it is unknown whether the portal gets through.
func TestProbeIsForbidden(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.bind(t, w.want...)
		portals, api := w.clients(t, w.store, w.clientID, w.secret)
		_, err := portals.Seed(t.Context(), w.seed)
		require.NoError(t, err)
		w.answer = func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) }
		probe := doctor.WithProbe(w.net.Client())
		r, err := doctor.Examine(t.Context(), api.Portal(w.member), w.want, probe)
		require.NoError(t, err)
		require.Equal(t, []doctor.Code{doctor.HandlerRefuses}, codes(r))
		require.False(t, r.Failed(), "%s", r)
		r, err = doctor.Examine(t.Context(), api.Portal(w.member), w.want, probe, doctor.WithReceived(doctor.Received{Accepted: 1}))
		require.NoError(t, err)
		require.Empty(t, r.Findings(), "%s", r)
	})
}

// If the handler cannot be reached, the report says how to find out whether the portal reaches it.
func TestUnreachableWithoutRoundTrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.bind(t, w.want...)
		portals, api := w.clients(t, w.store, w.clientID, w.secret)
		_, err := portals.Seed(t.Context(), w.seed)
		require.NoError(t, err)
		w.net.Break(host, errors.New("connection refused"))
		r, err := doctor.Examine(t.Context(), api.Portal(w.member), w.want, doctor.WithProbe(w.net.Client()))
		require.NoError(t, err)
		require.Equal(t, []doctor.Code{doctor.HandlerUnreachable}, codes(r))
		cure := r.Findings()[0].Cure
		for _, how := range []string{"test event", "WithRoundTrip", "-test", "-listen"} {
			require.Contains(t, cure, how)
		}
	})
}

// Two examinations of one handler do not take each other's test event away.
func TestTwoExaminations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.bind(t, w.want...)
		portals, api := w.clients(t, w.store, w.clientID, w.secret)
		_, err := portals.Seed(t.Context(), w.seed)
		require.NoError(t, err)
		var once sync.Once
		w.Always("event.test", eventtest.Before(func(*http.Request) {
			once.Do(func() { // the other examination ends, and unbinds its test event
				_, err := event.NewAPI(api.Portal(w.member)).Unbind(t.Context(), event.Binding{Event: "ONAPPTEST", Handler: handlerURL})
				assert.NoError(t, err)
			})
		}))
		r, err := doctor.Examine(t.Context(), api.Portal(w.member), w.want, doctor.WithRoundTrip(w.arrivals, 0))
		require.NoError(t, err)
		require.Empty(t, r.Findings(), "%s", r)
		require.Contains(t, r.String(), "test ok")
		for _, b := range w.Bindings() {
			require.NotEqual(t, "ONAPPTEST", b.Event)
		}
	})
}

// A binding that could not be removed is a warning.
func TestRoundTripCannotUnbind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.bind(t, w.want...)
		portals, api := w.clients(t, w.store, w.clientID, w.secret)
		_, err := portals.Seed(t.Context(), w.seed)
		require.NoError(t, err)
		w.Always("event.unbind", eventtest.Fail(400, "ERROR_CORE", "not now"))
		r, err := doctor.Examine(t.Context(), api.Portal(w.member), w.want, doctor.WithRoundTrip(w.arrivals, 0))
		require.NoError(t, err)
		require.Equal(t, []doctor.Code{doctor.TestNotUnbound}, codes(r))
	})
}

// What a killed examination has left behind is shown, and is no fault.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.bind(t, append(w.want, event.Binding{Event: "ONAPPTEST", Handler: handlerURL})...)
		portals, api := w.clients(t, w.store, w.clientID, w.secret)
		_, err := portals.Seed(t.Context(), w.seed)
		require.NoError(t, err)
		r, err := doctor.Examine(t.Context(), api.Portal(w.member), w.want, doctor.WithRoundTrip(w.arrivals, 0))
		require.NoError(t, err)
		require.Empty(t, r.Findings(), "%s", r)
		require.Contains(t, r.String(), "ONAPPTEST "+handlerURL+" is bound, which")
	})
}

func TestStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.bind(t, w.want...)
		portals, api := w.clients(t, w.store, w.clientID, w.secret)
		_, err := portals.Seed(t.Context(), w.seed)
		require.NoError(t, err)
		w.answer = func(http.ResponseWriter, *http.Request) {} // nothing is reported
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := doctor.Examine(ctx, api.Portal(w.member), w.want, doctor.WithRoundTrip(w.arrivals, time.Hour), doctor.WithProbe(w.net.Client()))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireOrdered(t, r)
		require.Empty(t, r.Findings(), "%s", r)
		for _, b := range w.Bindings() {
			require.NotEqual(t, "ONAPPTEST", b.Event)
		}

		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		r, err = doctor.Examine(ctx, api.Portal(w.member), w.want)
		require.ErrorIs(t, err, context.Canceled)
		requireOrdered(t, r)
	})
}

// If the context ends, by a deadline or a signal, the examination does not blame what it waits for.
func TestStoppedInTheMiddle(t *testing.T) {
	t.Parallel()
	for method, hang := range map[string]time.Duration{
		"oauth/token": time.Hour, "app.info": time.Hour, "oauth/app.info": time.Hour, "server.time": time.Hour, "feature.get": time.Hour,
		"scope": time.Hour, "events": time.Hour, "user.admin": time.Hour, "handler": time.Hour, "event.get": time.Hour,
		"event.bind": 10 * time.Second, // it binds although the examination was stopped
		"event.test": time.Hour, "event.offline.list": time.Hour,
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, eventtest.App{})
				w.want = append(w.want, event.Binding{Event: "ONCRMDEALADD", Offline: true})
				w.bind(t, w.want...)
				portals, api := w.clients(t, w.store, w.clientID, w.secret)
				_, err := portals.Seed(t.Context(), w.seed)
				require.NoError(t, err)
				if method == "handler" {
					w.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
				} else {
					w.Always(method, eventtest.Delay(hang))
				}
				for kind, limit := range map[string]func() (context.Context, context.CancelFunc){
					"deadline": func() (context.Context, context.CancelFunc) { return context.WithTimeout(t.Context(), 5*time.Second) },
					"signal": func() (context.Context, context.CancelFunc) {
						ctx, cancel := context.WithCancel(t.Context())
						time.AfterFunc(5*time.Second, cancel)
						return ctx, cancel
					},
				} {
					ctx, cancel := limit()
					r, err := doctor.Examine(ctx, api.Portal(w.member), w.want, doctor.WithPortals(portals, w.member),
						doctor.WithRoundTrip(w.arrivals, 0), doctor.WithProbe(w.net.Client()))
					require.ErrorIs(t, err, context.Cause(ctx), kind)
					cancel()
					requireOrdered(t, r)
					require.Empty(t, r.Findings(), "%s: %s", kind, r)
				}
				for _, b := range w.Bindings() {
					require.NotEqual(t, "ONAPPTEST", b.Event)
				}
			})
		})
	}
}

// A test event that is bound already stays bound.
func TestRoundTripLeavesABinding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.want = online("ONAPPTEST")
		w.bind(t, w.want...)
		_, api := w.clients(t, w.store, w.clientID, w.secret)
		portals, _ := w.clients(t, w.store, w.clientID, w.secret)
		_, err := portals.Seed(t.Context(), w.seed)
		require.NoError(t, err)
		r, err := doctor.Examine(t.Context(), api.Portal(w.member), w.want, doctor.WithRoundTrip(w.arrivals, 0))
		require.NoError(t, err)
		require.Empty(t, r.Findings(), "%s", r)
		require.Len(t, w.Bindings(), 2, "that of the installation, and ONAPPTEST")
		r, err = doctor.Examine(t.Context(), api.Portal(w.member), w.want, doctor.WithRoundTrip(nil, 0))
		require.NoError(t, err)
		require.Empty(t, r.Findings(), "%s", r)
		require.Contains(t, r.String(), "to "+handlerURL+"; look for it")
	})
}

// Thousands of findings make a short report.
func TestManyFindings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.App{})
		w.unbound = true
		w.want = nil
		for i := range 3000 {
			w.want = append(w.want, event.Binding{Event: fmt.Sprintf("ONCRMDEAL%dX", i), Handler: fmt.Sprintf("https://h%d.example.com/", i)})
		}
		r := w.examine(t)
		require.Less(t, len(r.Checks), 400)
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	caller := api(func() error { return nil })
	want := online("ONCRMDEALADD")
	for name, tc := range map[string]struct {
		caller event.Caller
		want   []event.Binding
		opt    doctor.Option
	}{
		"no caller":          {nil, want, nil},
		"typed nil caller":   {(*rest.Client)(nil), want, nil},
		"nothing wanted":     {caller, nil, nil},
		"no event":           {caller, []event.Binding{{Handler: handlerURL}}, nil},
		"no portals":         {caller, want, doctor.WithPortals(nil, "x")},
		"empty token":        {caller, want, doctor.WithApplicationTokens("")},
		"negative wait":      {caller, want, doctor.WithRoundTrip(nil, -1)},
		"timeout of nothing": {caller, want, doctor.WithTimeout(0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := doctor.Examine(t.Context(), tc.caller, tc.want, tc.opt)
			require.ErrorIs(t, err, doctor.ErrConfig)
		})
	}
}

// api is a caller of another library that gets no response.
type api func() error

func (f api) Call(context.Context, string, any, any) error { return f() }

// A caller without the installation of package oauth finds causes by the portal's codes.
func TestForeignCaller(t *testing.T) {
	t.Parallel()
	r, err := doctor.Examine(t.Context(), api(func() error { return errors.New("boom \x1b[31m access_token=abcdefghijkl") }), online("ONCRMDEALADD"))
	require.NoError(t, err)
	require.Equal(t, []doctor.Code{doctor.PortalFailed}, codes(r))
	require.NotContains(t, r.String(), "abcdefghijkl")
	require.NotContains(t, r.String(), "\x1b")
	requireOrdered(t, r)
}
