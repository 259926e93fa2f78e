package oauth_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// site is an application that is installed on a portal, with its handler reachable, and an employee
// of the portal without any rights.
type site struct {
	*world

	portals  *oauth.Portals
	mux      *event.Mux
	employee int64

	mu  sync.Mutex
	ran []string // hooks that ran
}

// newSite starts an application. install says whether it is installed.
func newSite(t *testing.T, install bool, opts ...oauth.Option) *site {
	t.Helper()
	w := &world{Portal: eventtest.NewPortal(t), store: oauth.NewMemoryStore()}
	w.key = oauth.Key{ClientID: clientID, MemberID: w.MemberID()}
	s := &site{world: w, mux: event.NewMux()}
	s.addApp(t, opts...)
	s.employee = w.AddUser(eventtest.User{Name: "Eve"})
	if install {
		require.NoError(t, w.app.Install(t.Context()))
		require.NoError(t, w.Wait(t.Context()))
		require.NotEmpty(t, load(t, w.store, w.MemberID()).ApplicationToken)
		w.ResetRecords()
	}
	return s
}

func (s *site) addApp(t *testing.T, opts ...oauth.Option) {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	app, err := s.AddApp(eventtest.App{
		ClientID: clientID, ClientSecret: "the-secret-of-the-application", Scope: []string{"crm", "imbot"},
		HandlerURL: "http://" + srv.Listener.Addr().String() + "/b24",
	})
	require.NoError(t, err)
	s.app = app
	s.portals = s.world.portals(t, s.store, opts...)
	note := func(hook string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ran = append(s.ran, hook)
	}
	s.portals.Lifecycle(s.mux, oauth.Hooks{
		Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			note("installed")
			api, err := rest.NewClients(s.portals, rest.WithInsecureHTTP())
			require.NoError(t, err)
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, s.mux.Bindings(app.HandlerURL()))
		},
		Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error { note("uninstalled"); return nil },
		Removed:     func(context.Context, oauth.Installation) error { note("removed"); return nil },
		UserReady:   func(context.Context, oauth.Installation) error { note("user ready"); return nil },
	})
	h, err := webhook.NewHandler(s.portals, s.mux, webhook.WithSync())
	require.NoError(t, err)
	srv.Config.Handler = h
	srv.Start()
	t.Cleanup(srv.Close)
}

func (s *site) hooksRan() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ran...)
}

// post sends a request to a handler of the application, and returns the status.
func (s *site) post(t *testing.T, r *http.Request) int {
	t.Helper()
	h, err := webhook.NewHandler(s.portals, s.mux, webhook.WithSync())
	require.NoError(t, err)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Code
}

// forged is an event that a user of the portal makes up, with their own pair.
func (s *site) forged(t *testing.T, name eventtest.Event, user int64, opts ...eventtest.RequestOption) *http.Request {
	t.Helper()
	g, err := s.app.Grant(user)
	require.NoError(t, err)
	r, err := eventtest.NewRequest(t.Context(), name, map[string]any{"VERSION": 1},
		append([]eventtest.RequestOption{eventtest.WithGrant(g)}, opts...)...)
	require.NoError(t, err)
	return r
}

func TestEmployeeCannotTakeAnInstallationOver(t *testing.T) {
	t.Parallel()
	made := eventtest.WithToken("made-up-token-of-32-characters--")
	for name, test := range map[string]struct {
		event eventtest.Event
		opts  []eventtest.RequestOption
	}{
		"install, token made up":     {event.OnAppInstall, []eventtest.RequestOption{made}},
		"install, the right token":   {event.OnAppInstall, nil},
		"install, no refresh token":  {event.OnAppInstall, []eventtest.RequestOption{made, eventtest.WithRefreshToken("")}},
		"update, token made up":      {event.OnAppUpdate, []eventtest.RequestOption{made}},
		"update, without its tokens": {event.OnAppUpdate, []eventtest.RequestOption{made, eventtest.WithRefreshToken("")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, true)
			before := load(t, s.store, s.MemberID())

			for range 2 {
				require.Equal(t, http.StatusForbidden, s.post(t, s.forged(t, test.event, s.employee, test.opts...)))
			}

			require.Equal(t, before, load(t, s.store, s.MemberID()))
			require.Equal(t, []string{"installed"}, s.hooksRan())
			deal := s.forged(t, event.OnCrmDealAdd, eventtest.AdminID)
			require.Equal(t, http.StatusOK, s.post(t, deal), "genuine events pass")
			require.Equal(t, http.StatusForbidden, s.post(t, s.forged(t, event.OnCrmDealAdd, s.employee, made)))
		})
	}
}

func TestEmployeeCannotBeTheFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t, false)
	require.NoError(t, s.ChangeQuirks(func(m *eventtest.Quirks) { m.NoInstallEvent = true }))
	require.NoError(t, s.app.Install(t.Context()))
	require.Equal(t, http.StatusForbidden, s.post(t, s.forged(t, event.OnAppInstall, s.employee)))
	requireEmpty(t, s.store, s.MemberID())
	require.Equal(t, http.StatusOK, s.post(t, s.forged(t, event.OnAppInstall, eventtest.AdminID)))
	require.Equal(t, eventtest.AdminID, load(t, s.store, s.MemberID()).UserID)
}

func TestInstallPolicies(t *testing.T) {
	t.Parallel()
	t.Run("anybody", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, true, oauth.WithInstallPolicy(oauth.AnyUser))
		require.Equal(t, http.StatusOK, s.post(t, s.forged(t, event.OnAppInstall, s.employee)))
		require.Equal(t, s.employee, load(t, s.store, s.MemberID()).UserID)
	})
	t.Run("of the application", func(t *testing.T) {
		t.Parallel()
		var seen []oauth.Claim
		var admins []bool
		s := newSite(t, true, oauth.WithInstallPolicy(func(ctx context.Context, c *oauth.Claim) error {
			admin, err := c.Administrator(ctx)
			seen, admins = append(seen, oauth.Claim{MemberID: c.MemberID, UserID: c.UserID, Known: c.Known}), append(admins, admin)
			if c.Known {
				return errors.New("ask the support")
			}
			return err
		}))
		require.Equal(t, http.StatusForbidden, s.post(t, s.forged(t, event.OnAppInstall, s.employee)))
		require.Equal(t, []oauth.Claim{
			{MemberID: s.MemberID(), UserID: eventtest.AdminID}, {MemberID: s.MemberID(), UserID: s.employee, Known: true},
		}, seen)
		require.Equal(t, []bool{true, false}, admins)
	})
	t.Run("that cannot tell", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, true)
		before := load(t, s.store, s.MemberID())
		s.Always("user.admin", eventtest.HTML(http.StatusBadGateway))
		r := s.forged(t, event.OnAppInstall, eventtest.AdminID)
		d, err := event.ParseRequest(r)
		require.NoError(t, err)
		_, err = s.portals.Verify(t.Context(), d)
		require.ErrorIs(t, err, oauth.ErrTemporary)
		require.NotErrorIs(t, err, event.ErrForbidden)
		require.Equal(t, before, load(t, s.store, s.MemberID()))

		// The refresh token is spent, but nothing is lost: the new pair is remembered.
		s.Heal()
		_, err = s.portals.Verify(t.Context(), d)
		require.NoError(t, err)
		in := load(t, s.store, s.MemberID())
		require.NotEqual(t, before.AccessToken, in.AccessToken)
		_, _, err = s.portals.Renew(t.Context(), s.MemberID(), string(in.AccessToken))
		require.NoError(t, err)
	})
}

// TestInstallPageOfAnEmployee checks that the page does not replace the application's tokens, and
// stores the user's.
func TestInstallPageOfAnEmployee(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	before := load(t, s.store, s.MemberID())
	r, err := s.app.Frame(t.Context(), s.employee, eventtest.Placement{})
	require.NoError(t, err)
	rec := httptest.NewRecorder()
	built(t)(oauth.PageHandler(s.portals.Install, func(http.ResponseWriter, *http.Request, *event.Delivery, oauth.Installation) {
		t.Error("the page was served")
	})).ServeHTTP(rec, r)
	require.Equal(t, http.StatusForbidden, rec.Code)
	require.Equal(t, before, load(t, s.store, s.MemberID()))

	api, err := rest.NewClients(s.portals.User(s.employee), rest.WithInsecureHTTP())
	require.NoError(t, err)
	me, err := rest.Call[struct{ NAME string }](t.Context(), api.Portal(s.MemberID()), "profile", nil)
	require.NoError(t, err)
	require.Equal(t, "Eve", me.NAME)
}

func TestForgedUninstallIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]eventtest.RequestOption{
		"with a time":    nil,
		"without a time": {eventtest.WithoutTime()},
		"in the future":  {eventtest.WithTime(time.Now().Add(time.Hour))},
		"of long ago":    {eventtest.WithTime(time.Now().Add(-time.Hour))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, true)
			before := load(t, s.store, s.MemberID())
			r := s.forged(t, event.OnAppUninstall, s.employee, append(opts, eventtest.WithRefreshToken(""))...)
			require.Equal(t, http.StatusOK, s.post(t, r))
			require.Equal(t, before, load(t, s.store, s.MemberID()))
			require.Equal(t, []string{"installed"}, s.hooksRan())
		})
	}
}

func TestGenuineUninstall(t *testing.T) {
	t.Parallel()
	t.Run("with a live token", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, true)
		require.NoError(t, s.app.Uninstall(true))
		require.NoError(t, s.Wait(t.Context()))
		requireEmpty(t, s.store, s.MemberID())
		require.Equal(t, []string{"installed", "uninstalled"}, s.hooksRan())
		_, _, err := s.portals.Access(t.Context(), s.MemberID())
		var e *oauth.Error
		require.ErrorAs(t, err, &e)
		require.ErrorIs(t, err, oauth.ErrNotFound)
		require.True(t, e.Permanent())
		outcome, _ := event.OutcomeOf(err)
		require.Equal(t, event.OutcomeDropped, outcome, "what is queued for the portal ends at its first attempt")
	})
	t.Run("with an expired token", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, true)
		s.ExpireAccessTokens()
		require.NoError(t, s.app.Uninstall(false))
		require.NoError(t, s.Wait(t.Context()))
		requireEmpty(t, s.store, s.MemberID())
	})
	t.Run("while the portal cannot be reached", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, true)
		s.Always("app.info", eventtest.HTML(http.StatusBadGateway))
		require.NoError(t, s.app.Uninstall(true))
		require.NoError(t, s.Wait(t.Context()))
		load(t, s.store, s.MemberID())
		require.Equal(t, []string{"installed"}, s.hooksRan())

		// The queue retries the delivery, as its handler asks.
		d := happened(t, event.OnAppUninstall, map[string]any{"CLEAN": 1})
		d.SetProof(event.Proof{By: event.ProofInstallation, ClientID: clientID, MemberID: s.MemberID()})
		outcome, after := event.OutcomeOf(s.mux.HandleEvent(t.Context(), d))
		require.Equal(t, event.OutcomeRetried, outcome)
		require.Greater(t, after, 3*time.Minute)
		s.Heal()
		require.NoError(t, s.mux.HandleEvent(t.Context(), d))
		requireEmpty(t, s.store, s.MemberID())
	})
	t.Run("with our clock ahead of the portal's", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, true)
		in, version, err := s.store.Load(t.Context(), s.key)
		require.NoError(t, err)
		in.InstalledAt = in.InstalledAt.Add(time.Minute) // by our clock; EventTime is the portal's
		_, err = s.store.Swap(t.Context(), s.key, version, in)
		require.NoError(t, err)
		require.NoError(t, s.app.Uninstall(false))
		require.NoError(t, s.Wait(t.Context()))
		requireEmpty(t, s.store, s.MemberID())
	})
}

// TestRemovedWhileAway removes the application without an event.
func TestRemovedWhileAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	require.NoError(t, s.ChangeQuirks(func(m *eventtest.Quirks) { m.NoUninstallEvent = true }))
	require.NoError(t, s.app.Uninstall(false))
	require.NoError(t, s.Wait(t.Context()))
	load(t, s.store, s.MemberID())
	api, err := rest.NewClients(s.portals, rest.WithInsecureHTTP())
	require.NoError(t, err)

	err = api.Portal(s.MemberID()).Call(t.Context(), "crm.deal.list", nil, nil)

	require.ErrorIs(t, err, rest.ErrApplicationMissing)
	outcome, _ := event.OutcomeOf(err)
	require.Equal(t, event.OutcomeDropped, outcome)
	require.NoError(t, s.portals.Shutdown(t.Context())) // waits for the work in the background
	require.Equal(t, []string{"installed", "removed"}, s.hooksRan())
	requireEmpty(t, s.store, s.MemberID())
	require.ErrorIs(t, api.Portal(s.MemberID()).Call(t.Context(), "crm.deal.list", nil, nil), oauth.ErrNotFound)
}

// TestQueuedEventsOfARemovedPortal checks that they end at their first attempt, whether a call or
// an event has shown the removal.
func TestQueuedEventsOfARemovedPortal(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	require.NoError(t, s.ChangeQuirks(func(m *eventtest.Quirks) { m.NoUninstallEvent = true }))
	api, err := rest.NewClients(s.portals, rest.WithInsecureHTTP(), rest.WithoutRateLimit())
	require.NoError(t, err)
	release := make(chan struct{})
	h, err := webhook.NewHandler(s.portals, event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
		<-release
		return api.Portal(d.MemberID()).Call(ctx, "crm.deal.list", nil, nil)
	}), webhook.WithWorkers(4))
	require.NoError(t, err)
	const events = 200
	for i := range events {
		r, err := eventtest.NewRequest(t.Context(), event.OnCrmDealAdd, event.CRMEntity{ID: int64(i + 1)},
			eventtest.WithMember(s.MemberID()), eventtest.WithToken(s.app.ApplicationToken()))
		require.NoError(t, err)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		require.Equal(t, http.StatusOK, rec.Code)
	}
	require.NoError(t, s.app.Uninstall(true))
	s.ResetRecords()
	close(release)
	require.NoError(t, h.Shutdown(t.Context()))
	require.NoError(t, s.portals.Shutdown(t.Context()))
	require.Zero(t, h.Stats().Retried)
	require.EqualValues(t, events, h.Stats().Failed)
	requireEmpty(t, s.store, s.MemberID())
	require.Contains(t, s.hooksRan(), "removed")
}

// TestStormBehindAnUninstall checks that what is queued for a portal is dropped once its removal is
// confirmed. A forged uninstallation drops nothing.
func TestStormBehindAnUninstall(t *testing.T) {
	t.Parallel()
	const events = 200
	for name, genuine := range map[string]bool{"confirmed": true, "made up": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, true)
			require.NoError(t, s.ChangeQuirks(func(m *eventtest.Quirks) { m.NoUninstallEvent = true })) // the test sends it below
			mux := event.NewMux()
			s.portals.Lifecycle(mux, oauth.Hooks{})
			release := make(chan struct{})
			event.On(mux, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { <-release; return nil })
			h, err := webhook.NewHandler(s.portals, mux, webhook.WithWorkers(8), webhook.WithLogger(slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			post := func(e eventtest.Event, payload any) {
				r, err := eventtest.NewRequest(t.Context(), e, payload,
					eventtest.WithMember(s.MemberID()), eventtest.WithToken(s.app.ApplicationToken()))
				require.NoError(t, err)
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				require.Equal(t, http.StatusOK, rec.Code)
			}
			for i := range events {
				post(event.OnCrmDealAdd, event.CRMEntity{ID: int64(i + 1)})
			}
			if genuine {
				token := s.app.ApplicationToken()
				require.NoError(t, s.app.Uninstall(true))
				require.Equal(t, token, s.app.ApplicationToken())
			}
			post(event.OnAppUninstall, map[string]any{"CLEAN": 1})
			require.Eventually(t, func() bool { return h.Stats().Handled == 1 }, 10*time.Second, time.Millisecond)
			close(release)
			require.NoError(t, h.Idle(t.Context()))
			stats := h.Stats()
			require.EqualValues(t, events+1, stats.Accepted)
			if genuine {
				require.EqualValues(t, events-6, stats.Removed, "six ran meanwhile")
				require.EqualValues(t, 7, stats.Handled)
				requireEmpty(t, s.store, s.MemberID())
			} else {
				require.Zero(t, stats.Removed)
				require.EqualValues(t, events+1, stats.Handled)
				load(t, s.store, s.MemberID())
			}
			require.NoError(t, h.Shutdown(t.Context()))
		})
	}
}

// TestRemovedLongAgo has a process that was down for so long that the access token has expired too,
// so that no call reaches the portal.
func TestRemovedLongAgo(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	require.NoError(t, s.ChangeQuirks(func(m *eventtest.Quirks) { m.NoUninstallEvent = true }))
	require.NoError(t, s.app.Uninstall(false))
	in, version, err := s.store.Load(t.Context(), s.key)
	require.NoError(t, err)
	in.Expires = time.Now().Add(-time.Hour)
	_, err = s.store.Swap(t.Context(), s.key, version, in)
	require.NoError(t, err)

	_, _, err = s.portals.Access(t.Context(), s.MemberID())

	require.ErrorIs(t, err, oauth.ErrCredentials)
	require.NoError(t, s.portals.Shutdown(t.Context()))
	require.Equal(t, []string{"installed", "removed"}, s.hooksRan())
	requireEmpty(t, s.store, s.MemberID())
}

// TestWrongSecretRemovesNobody uses a wrong client secret. The OAuth server returns the same code
// as for an application that is not installed.
func TestWrongSecretRemovesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{respond: says(401, `{"error":"invalid_client"}`), portal: func(string, sent) (int, string) {
			return 401, `{"error":"expired_token"}`
		}}
		store := stored(t)
		portals := scripted(t, store, s)
		mux := event.NewMux()
		portals.Lifecycle(mux,
			oauth.Hooks{Removed: func(context.Context, oauth.Installation) error { t.Error("it was not removed"); return nil }})
		for range 200 {
			_, _, err := portals.Renew(t.Context(), member, "a1")
			require.ErrorIs(t, err, oauth.ErrCredentials)
			d := happened(t, event.OnAppUninstall, nil)
			outcome, _ := event.OutcomeOf(mux.HandleEvent(t.Context(), d))
			require.Equal(t, event.OutcomeRetried, outcome)
			pass(time.Minute)
		}
		require.NoError(t, portals.Shutdown(t.Context()))
		load(t, store, member)
	})
}

// TestRemovalThatNobodyConfirms checks that one refusal is not enough.
func TestRemovalThatNobodyConfirms(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]eventtest.Fault{
		"it works after all": eventtest.Fail(http.StatusUnauthorized, "APPLICATION_NOT_FOUND", "Application not found"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, true)
			api, err := rest.NewClients(s.portals, rest.WithInsecureHTTP())
			require.NoError(t, err)
			for range 20 {
				s.Once("crm.deal.list", fault)
				require.ErrorIs(t, api.Portal(s.MemberID()).Call(t.Context(), "crm.deal.list", nil, nil), rest.ErrApplicationMissing)
			}
			require.NoError(t, s.portals.Shutdown(t.Context()))
			load(t, s.store, s.MemberID())
			require.Equal(t, []string{"installed"}, s.hooksRan())
			asked := 0
			for _, c := range s.Calls() {
				if c.Method == "app.info" {
					asked++
				}
			}
			require.Equal(t, 1, asked, "a portal is asked once a minute")
		})
	}
}

func TestHookOfARemovalFails(t *testing.T) {
	t.Parallel()
	store := stored(t)
	portals := scripted(t, store, removed())
	fail := errors.New("not yet")
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{Removed: func(context.Context, oauth.Installation) error { return fail }})
	portals.Removed(t.Context(), member, "APPLICATION_NOT_FOUND")
	portals.Removed(t.Context(), member, "ACCESS_DENIED")
	portals.Removed(t.Context(), "../"+member, "APPLICATION_NOT_FOUND")
	require.NoError(t, portals.Shutdown(t.Context()))
	load(t, store, member)
}

func dataOf(tb testing.TB, v any) event.Data {
	tb.Helper()
	data, err := event.NewData(v)
	require.NoError(tb, err)
	return data
}

// TestTwoApplicationsOnOnePortal has two applications with one handler, one mux and one store.
// Neither changes anything of the other.
func TestTwoApplicationsOnOnePortal(t *testing.T) {
	t.Parallel()
	portal := eventtest.NewPortal(t)
	store := oauth.NewMemoryStore()
	srv := httptest.NewUnstartedServer(nil)
	mux := event.NewMux()
	var verifiers []webhook.Verifier
	var apps []*eventtest.Application
	var all []*oauth.Portals
	uninstalled := 0
	for _, id := range []string{"local.first", "local.second"} {
		app, err := portal.AddApp(eventtest.App{ClientID: id, Scope: []string{"crm"}, HandlerURL: "http://" + srv.Listener.Addr().String()})
		require.NoError(t, err)
		p, err := oauth.NewPortals(oauth.Config{ClientID: id, ClientSecret: app.ClientSecret()}, store,
			oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP())
		require.NoError(t, err)
		apps, all, verifiers = append(apps, app), append(all, p), append(verifiers, p)
	}
	all[0].Lifecycle(mux, oauth.Hooks{
		Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error { uninstalled++; return nil },
	})
	h, err := webhook.NewHandler(webhook.Any(verifiers...), mux, webhook.WithSync())
	require.NoError(t, err)
	srv.Config.Handler = h
	srv.Start()
	defer srv.Close()
	for _, app := range apps {
		require.NoError(t, app.Install(t.Context()))
	}
	require.NoError(t, portal.Wait(t.Context()))

	first, err := all[0].Installation(t.Context(), portal.MemberID())
	require.NoError(t, err)
	second, err := all[1].Installation(t.Context(), portal.MemberID())
	require.NoError(t, err)
	require.Equal(t, apps[0].ApplicationToken(), first.ApplicationToken)
	require.Equal(t, apps[1].ApplicationToken(), second.ApplicationToken)

	require.NoError(t, apps[1].Uninstall(true)) // whose lifecycle is not registered
	require.NoError(t, portal.Wait(t.Context()))
	still, err := all[0].Installation(t.Context(), portal.MemberID())
	require.NoError(t, err)
	require.Equal(t, first.AccessToken, still.AccessToken)
	require.Zero(t, uninstalled)

	require.NoError(t, all[1].Forget(t.Context(), portal.MemberID()))
	_, _, err = all[0].Renew(t.Context(), portal.MemberID(), string(first.AccessToken))
	require.NoError(t, err)
}

// TestDeliveryWithoutProofChangesNothing gives a mux deliveries that no verifier of the application
// has accepted.
func TestDeliveryWithoutProofChangesNothing(t *testing.T) {
	t.Parallel()
	for name, proof := range map[string]event.Proof{
		"none":                {},
		"fixed token":         {By: event.ProofWebhook, MemberID: member},
		"nobody checked":      {By: event.ProofInsecure, MemberID: member},
		"no application":      {By: event.ProofInstallation, MemberID: member},
		"another application": {By: event.ProofInstallation, ClientID: "local.other", MemberID: member},
		"no portal":           {By: event.ProofInstallation, ClientID: clientID},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := stored(t)
			before := load(t, store, member)
			s := removed()
			portals := scripted(t, store, s)
			errHook := errors.New("a hook ran")
			fatal := func() error { t.Error(errHook); return errHook }
			mux := event.NewMux()
			portals.Lifecycle(mux, oauth.Hooks{
				Installed:       func(context.Context, oauth.Installation, event.AppInstall) error { return fatal() },
				Updated:         func(context.Context, oauth.Installation, event.AppUpdate) error { return fatal() },
				Uninstalled:     func(context.Context, oauth.Installation, event.AppUninstall) error { return fatal() },
				Paid:            func(context.Context, oauth.Installation, event.AppPayment) error { return fatal() },
				MethodConfirmed: func(context.Context, oauth.Installation, event.AppMethodConfirm) error { return fatal() },
				UserReady:       func(context.Context, oauth.Installation) error { return fatal() },
			})
			for _, name := range mux.Names() {
				d := &event.Delivery{
					Kind: event.KindEvent, Name: name, Time: time.Now(), Auth: claim(), Proof: proof,
					Data: dataOf(t, map[string]any{"STATUS": "F", "CLEAN": 1, "member_id": member, "user_id": 1}),
				}
				err := mux.HandleEvent(t.Context(), d)
				if proof.ClientID != "local.other" {
					require.ErrorIs(t, err, oauth.ErrUnverified, name)
				}
				for _, acting := range []*oauth.UserCredentials{portals.Acting(d), portals.ActingOrApp(d)} {
					_, token, err := acting.Access(t.Context(), member)
					require.ErrorIs(t, err, oauth.ErrNoUserToken)
					require.Empty(t, token)
					_, token, err = acting.Renew(t.Context(), member, "a1")
					require.ErrorIs(t, err, oauth.ErrNoUserToken)
					require.Empty(t, token)
				}
			}
			require.Equal(t, before, load(t, store, member))
			require.Empty(t, s.requests())
		})
	}
}

func TestUserReady(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]eventtest.UserReady{"before": eventtest.UserReadyBefore, "after": eventtest.UserReadyAfter} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false)
			require.NoError(t, s.ChangeQuirks(func(m *eventtest.Quirks) { m.UserReady = when }))
			require.NoError(t, s.app.Install(t.Context()))
			require.NoError(t, s.Wait(t.Context()))

			for _, d := range s.Deliveries() {
				require.True(t, d.OK(), d.Event)
			}
			require.ElementsMatch(t, []string{"installed", "user ready"}, s.hooksRan())
			in := load(t, s.store, s.MemberID())
			require.Equal(t, eventtest.AdminID, in.UserID, "the application's own tokens stay the administrator's")
			_, token, err := s.portals.User(s.app.SystemUser()).Access(t.Context(), s.MemberID())
			require.NoError(t, err)
			require.NotEmpty(t, token)
			require.NotEqual(t, string(in.AccessToken), token)
		})
	}
}

func TestForgedUserReady(t *testing.T) {
	t.Parallel()
	ready := func(changes map[string]any) *event.Delivery {
		data := map[string]any{
			"access_token": "sys", "refresh_token": "r0", "member_id": member, "user_id": 512, "server_endpoint": official,
			"client_endpoint": "https://example.bitrix24.com/rest/",
		}
		maps.Copy(data, changes)
		return &event.Delivery{
			Kind: event.KindEvent, Name: "ONAPPUSERREADY", Auth: event.Auth{MemberID: member, ApplicationToken: "t1"},
			Data: dataOf(t, data),
		}
	}
	for name, test := range map[string]struct {
		d        *event.Delivery
		response string
		calls    int
	}{
		"dead tokens":            {ready(nil), `{"error":"invalid_grant"}`, 1},
		"another portal's":       {ready(nil), pair("a2", "r2", map[string]any{"member_id": "b"}), 1},
		"another user's":         {ready(nil), pair("a2", "r2", map[string]any{"user_id": 7}), 1},
		"another portal claimed": {ready(map[string]any{"member_id": "b223c6b3710f85df22e9377d6c4f7553"}), "", 0},
		"no refresh token":       {ready(map[string]any{"refresh_token": ""}), "", 0},
		"hostile server":         {ready(map[string]any{"server_endpoint": "https://evil.example/rest/"}), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{respond: says(200, test.response)}
			store := stored(t)
			before := load(t, store, member)
			err := errOf(scripted(t, store, s).Verify(t.Context(), test.d))
			require.ErrorIs(t, err, event.ErrForbidden)
			require.Len(t, s.requests(), test.calls)
			require.Equal(t, before, load(t, store, member))
			_, _, err = store.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: member, UserID: 512})
			require.ErrorIs(t, err, oauth.ErrNotFound)
		})
	}
}

// TestPagesSpendNothingOfTheApplication has a page that carries the pair that is stored as the
// application's own.
func TestPagesSpendNothingOfTheApplication(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]func(*oauth.Portals) func(context.Context, event.Auth) (oauth.Installation, error){
		"KeepUser": func(p *oauth.Portals) func(context.Context, event.Auth) (oauth.Installation, error) {
			return p.KeepUser
		},
		"VerifyPage": func(p *oauth.Portals) func(context.Context, event.Auth) (oauth.Installation, error) {
			return p.VerifyPage
		},
		"Install": func(p *oauth.Portals) func(context.Context, event.Auth) (oauth.Installation, error) { return p.Install },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			g := w.grant(t)
			portals := w.portals(t, w.store)
			in := installationOf(g)
			in.ApplicationToken = ""
			_, err := portals.Seed(t.Context(), in)
			require.NoError(t, err)

			for range 2 { // the user reloads the page
				got, err := keep(portals)(t.Context(), authOf(g))
				require.NoError(t, err)
				require.Equal(t, g.UserID, got.UserID)
			}

			require.Zero(t, w.renewals())
			require.Equal(t, g.RefreshToken, load(t, w.store, w.MemberID()).RefreshToken)
			_, _, err = portals.Renew(t.Context(), w.MemberID(), string(g.AccessToken))
			require.NoError(t, err)
			_, _, err = portals.User(g.UserID).Access(t.Context(), w.MemberID())
			require.NoError(t, err)
		})
	}
}

func TestVerifyPageAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.installed(t)
	portals := w.portals(t, w.store)
	auth := authOf(w.grant(t))
	for range 3 {
		_, err := portals.VerifyPage(t.Context(), auth)
		require.NoError(t, err)
	}
	require.Zero(t, w.Requests().Refreshes)
	_, err := portals.KeepUser(t.Context(), auth)
	require.NoError(t, err, "its refresh token was not spent")
}

func TestApplicationTokensOfBots(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	bot, err := s.app.AddBot(eventtest.Bot{Code: "support", Webhook: s.app.HandlerURL()})
	require.NoError(t, err)
	token, err := s.app.RotateBotToken(bot)
	require.NoError(t, err)
	r, err := eventtest.NewRequest(t.Context(), event.OnImBotV2MessageAdd, nil, eventtest.WithMember(s.MemberID()), eventtest.WithToken(token))
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, s.post(t, r))
	require.NoError(t, s.portals.AddApplicationToken(t.Context(), s.MemberID(), token))
	require.NoError(t, s.portals.AddApplicationToken(t.Context(), s.MemberID(), token))
	for range 2 {
		r, err = eventtest.NewRequest(t.Context(), event.OnImBotV2MessageAdd, nil, eventtest.WithMember(s.MemberID()), eventtest.WithToken(token))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, s.post(t, r))
	}
	require.NoError(t, s.portals.RemoveApplicationToken(t.Context(), s.MemberID(), token))
	r, err = eventtest.NewRequest(t.Context(), event.OnImBotV2MessageAdd, nil, eventtest.WithMember(s.MemberID()), eventtest.WithToken(token))
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, s.post(t, r))
	for _, bad := range []event.Secret{"", "short", "white space in a long token", event.Secret(make([]byte, 40))} {
		require.ErrorIs(t, s.portals.AddApplicationToken(t.Context(), s.MemberID(), bad), oauth.ErrUnverified)
	}
	require.ErrorIs(t, s.portals.AddApplicationToken(t.Context(), "b223c6b3710f85df22e9377d6c4f7553", token), oauth.ErrNotFound)
}

// TestRotationHasAnEnd checks that the previous application token is accepted for an hour.
func TestRotationHasAnEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts []oauth.Option
		good time.Duration
	}{
		"an hour":  {nil, time.Hour},
		"a minute": {[]oauth.Option{oauth.WithRotationWindow(time.Minute)}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				portals := scripted(t, stored(t), &script{respond: says(200, pair("a2", "r2", nil))}, test.opts...)
				again := claim()
				again.ApplicationToken = "t2"
				require.NoError(t, errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: again})))
				old := delivery("ONAPPUNINSTALL", member, "t1")
				require.NoError(t, errOf(portals.Verify(t.Context(), old)))
				pass(test.good - time.Second)
				require.NoError(t, errOf(portals.Verify(t.Context(), old)))
				pass(time.Second)
				require.ErrorIs(t, errOf(portals.Verify(t.Context(), old)), event.ErrForbidden)
				require.NoError(t, errOf(portals.Verify(t.Context(), delivery("ONCRMDEALADD", member, "t2"))))
			})
		})
	}
}

// systemUser is an ONAPPUSERREADY of the user 512, with the application token t1.
func systemUser(t *testing.T, refresh string) *event.Delivery {
	t.Helper()
	return &event.Delivery{
		Kind: event.KindEvent, Name: "ONAPPUSERREADY", Auth: event.Auth{MemberID: member, ApplicationToken: "t1"},
		Data: dataOf(t, map[string]any{
			"access_token": "sys", "refresh_token": refresh, "member_id": member, "user_id": 512, "server_endpoint": official,
			"client_endpoint": "https://example.bitrix24.com/rest/",
		}),
	}
}

// TestUserReadyOfAnUnnamedUser has an OAuth server that does not say whose the tokens are. The
// portal is asked then; the event does not count.
func TestUserReadyOfAnUnnamedUser(t *testing.T) {
	t.Parallel()
	profile := func(id string) func(string, sent) (int, string) {
		return func(string, sent) (int, string) { return 200, `{"result":{"ID":"` + id + `"}}` }
	}
	down := func(string, sent) (int, string) { return 502, "" }
	key := oauth.Key{ClientID: clientID, MemberID: member, UserID: 512}
	for name, test := range map[string]struct {
		portal func(string, sent) (int, string)
		want   error
	}{
		"another user":    {profile("7"), event.ErrForbidden},
		"the very user":   {profile("512"), nil},
		"portal is down":  {down, oauth.ErrTemporary},
		"portal says not": {profile(""), event.ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := stored(t)
			s := &script{respond: says(200, pair("a2", "r2", map[string]any{"user_id": nil})), portal: test.portal}
			portals := scripted(t, store, s)
			err := errOf(portals.Verify(t.Context(), systemUser(t, "r0")))
			require.ErrorIs(t, err, test.want)
			_, _, loadErr := store.Load(t.Context(), key)
			require.Equal(t, test.want == nil, loadErr == nil)
			if name != "portal is down" {
				return
			}
			// The refresh token is spent, but the pair that it was traded for is not lost.
			s.respond, s.portal = says(400, `{"error":"invalid_grant"}`), profile("512")
			require.NoError(t, errOf(portals.Verify(t.Context(), systemUser(t, "r0"))))
			in, _, err := store.Load(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, "r2", string(in.RefreshToken))
		})
	}
}

// TestCopyOfUserReady checks that a copy whose refresh token is spent proves only its application
// token.
func TestCopyOfUserReady(t *testing.T) {
	t.Parallel()
	s := &script{respond: says(200, pair("a2", "r2", map[string]any{"user_id": 512}))}
	portals, runs := scripted(t, stored(t), s), 0
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{UserReady: func(context.Context, oauth.Installation) error { runs++; return nil }})
	for _, copied := range []bool{false, true} {
		d, by := systemUser(t, "r0"), event.ProofTokens
		if copied {
			s.respond = says(400, `{"error":"invalid_grant"}`)
			d, by = systemUser(t, "made-up"), event.ProofInstallation
		}
		proof, err := portals.Verify(t.Context(), d)
		require.NoError(t, err)
		require.Equal(t, by, proof.By)
		d.SetProof(proof)
		require.NoError(t, mux.HandleEvent(t.Context(), d))
	}
	require.Equal(t, 1, runs, "of the genuine event")
}

// TestInstallPolicyPanics checks that the pair is not lost. The refresh token is spent by then.
func TestInstallPolicyPanics(t *testing.T) {
	t.Parallel()
	s, store, calls := &script{respond: says(200, pair("a2", "r2", nil))}, oauth.NewMemoryStore(), 0
	portals := scripted(t, store, s, oauth.WithInstallPolicy(func(context.Context, *oauth.Claim) error {
		if calls++; calls == 1 {
			panic("a policy panics")
		}
		return nil
	}))
	verify := func() error {
		return errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}))
	}
	require.ErrorIs(t, verify(), oauth.ErrStore)
	requireEmpty(t, store, member)
	s.respond = says(400, `{"error":"invalid_grant"}`)
	require.NoError(t, verify())
	require.Equal(t, "r2", string(load(t, store, member).RefreshToken))
}
