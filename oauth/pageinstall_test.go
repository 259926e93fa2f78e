package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
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

// pageApp is an application with pages, whose installation page is portals.Install, on a network in
// memory.
type pageApp struct {
	*world

	portals *oauth.Portals
	page    *oauth.Page
	events  *webhook.Handler
	hook    func(in oauth.Installation, e event.AppInstall) error // nil succeeds

	mu   sync.Mutex
	news []bool // one for each run of the hook: whether SetUpAt was zero
}

const pageURL, eventURL = "https://app.example.com/page", "https://app.example.com/events"

func newPageApp(t *testing.T, opts ...oauth.PageOption) *pageApp {
	t.Helper()
	n := eventtest.NewNetwork()
	p := eventtest.NewPortal(t, eventtest.WithNetwork(n))
	app, err := p.AddApp(eventtest.App{ClientID: clientID, ClientSecret: "the-secret-of-the-application", UI: true, HandlerURL: pageURL})
	require.NoError(t, err)
	a := &pageApp{world: &world{Portal: p, app: app, store: oauth.NewMemoryStore()}}
	a.key = oauth.Key{ClientID: clientID, MemberID: p.MemberID()}
	a.portals = a.world.portals(t, a.store, oauth.WithHTTPClient(n.Client()))
	api, err := rest.NewClients(a.portals)
	require.NoError(t, err)
	mux := event.NewMux()
	a.portals.Lifecycle(mux, oauth.Hooks{Installed: func(ctx context.Context, in oauth.Installation, e event.AppInstall) error {
		a.mu.Lock()
		a.news = append(a.news, in.SetUpAt.IsZero())
		a.mu.Unlock()
		if a.hook != nil {
			if err := a.hook(in, e); err != nil {
				return err
			}
		}
		return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(eventURL))
	}})
	a.events, err = webhook.NewHandler(a.portals, mux, webhook.WithSync())
	require.NoError(t, err)
	a.page, err = oauth.PageHandler(a.portals.Install, a.portals.FinishInstall(nil), opts...)
	require.NoError(t, err)
	routes := http.NewServeMux()
	routes.Handle("/page", a.page)
	routes.Handle("/events", a.events)
	n.Handle("app.example.com", routes)
	return a
}

func (a *pageApp) runs() []bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]bool(nil), a.news...)
}

// open opens the installation page as the administrator, and returns the status.
func (a *pageApp) open(t *testing.T) int {
	t.Helper()
	status, err := a.app.OpenPage(t.Context(), eventtest.AdminID, eventtest.Placement{})
	require.NoError(t, err)
	return status
}

// sendInstall sends an ONAPPINSTALL with fresh tokens of the administrator.
func (a *pageApp) sendInstall(t *testing.T) {
	t.Helper()
	r, err := eventtest.NewRequest(t.Context(), event.OnAppInstall, nil, eventtest.WithGrant(a.grant(t)))
	require.NoError(t, err)
	rec := httptest.NewRecorder()
	a.events.ServeHTTP(rec, r)
	require.Equal(t, 200, rec.Code)
}

func TestPageInstallRunsTheHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.app.Install(t.Context()))
		require.Equal(t, []bool{true}, a.runs(), "the page is the first installation")
		in := load(t, a.store, a.MemberID())
		require.False(t, in.SetUpAt.IsZero())
		pass(time.Minute)
		require.NoError(t, a.app.FinishInstall())
		require.NoError(t, a.Wait(t.Context()))
		require.Len(t, a.Deliveries(), 1, "the hook has bound ONAPPINSTALL")
		require.Equal(t, 200, a.Deliveries()[0].Status)
		require.Equal(t, []bool{true}, a.runs(), "the event belongs to the page")
		in = load(t, a.store, a.MemberID())
		require.False(t, in.EventTime.IsZero(), "the event was verified and stored")
		require.False(t, in.SetUpAt.Before(in.InstalledAt), "it counts as set up")

		a.sendInstall(t)
		require.Equal(t, []bool{true, false}, a.runs(), "only one event belongs to a page")
		pass(time.Hour)
		require.Equal(t, 200, a.open(t))
		require.Equal(t, []bool{true, false, false}, a.runs(), "a page with new tokens is a repeated installation")
	})
}

// TestEventLongAfterThePage: an event that no page has announced runs the hook, because bindings
// may be gone.
func TestEventLongAfterThePage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.app.Install(t.Context()))
		pass(11 * time.Minute)
		require.NoError(t, a.app.FinishInstall())
		require.NoError(t, a.Wait(t.Context()))
		require.Equal(t, []bool{true, false}, a.runs())
	})
}

// TestPageAndEventAtTheSameTime lets the event arrive while the hook of the page runs, and copies
// of the page with the same tokens too.
func TestPageAndEventAtTheSameTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.ChangeQuirks(func(q *eventtest.Quirks) { q.NoInstallEvent = true }))
		require.NoError(t, a.app.Install(t.Context())) // makes the application usable
		require.NoError(t, a.portals.Forget(t.Context(), a.MemberID()))
		a.news = nil
		g := a.grant(t)
		a.hook = func(oauth.Installation, event.AppInstall) error { pass(10 * time.Second); return nil }
		page := pageOf(g)
		var all sync.WaitGroup
		var failed atomic.Int64
		for range 10 {
			all.Go(func() {
				if _, err := a.portals.Install(t.Context(), page); err != nil {
					failed.Add(1)
				}
			})
		}
		pass(5 * time.Second)
		for _, grant := range []eventtest.Grant{g, a.grant(t)} { // the same tokens, and others
			all.Go(func() {
				r, err := eventtest.NewRequest(t.Context(), event.OnAppInstall, nil, eventtest.WithGrant(grant))
				require.NoError(t, err)
				rec := httptest.NewRecorder()
				a.events.ServeHTTP(rec, r)
				require.Equal(t, 200, rec.Code)
			})
		}
		all.Wait()
		require.Zero(t, failed.Load())
		require.Equal(t, []bool{true}, a.runs())
	})
}

func TestPageWhoseHookFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out, logger := pageLogs()
		a := newPageApp(t, oauth.WithPageLogger(logger))
		failure := error(&oauth.Error{Kind: oauth.ErrNotFound, Detail: "of the hook"})
		a.hook = func(oauth.Installation, event.AppInstall) error { return failure }
		require.Error(t, a.app.Install(t.Context()), "the page answers 503")
		in := load(t, a.store, a.MemberID())
		require.True(t, in.SetUpAt.IsZero())
		require.NotEmpty(t, in.AccessToken, "the tokens are not lost")
		require.Equal(t, uint64(1), a.page.Stats().Refused[oauth.PageUnavailable], "503, although the hook's error means another status")
		require.Contains(t, out.String(), `"reason":"unavailable"`)
		require.Contains(t, out.String(), "its hook failed")

		failure = nil
		pass(time.Second)
		require.Equal(t, 200, a.open(t))
		require.Equal(t, []bool{true, true}, a.runs())
		require.False(t, load(t, a.store, a.MemberID()).SetUpAt.IsZero())

		pass(time.Second)
		failure = errors.New("again")
		_, err := a.portals.Install(t.Context(), pageOf(a.grant(t)))
		require.ErrorIs(t, err, oauth.ErrHook)
		require.ErrorIs(t, err, failure)
	})
}

// TestPageWhoseUserLeaves: the hook goes on, with a limit of its own.
func TestPageWhoseUserLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.app.Install(t.Context()))
		ctx, leave := context.WithCancel(t.Context())
		a.hook = func(oauth.Installation, event.AppInstall) error { leave(); pass(time.Second); return nil }
		pass(time.Hour)
		_, err := a.portals.Install(ctx, pageOf(a.grant(t)))
		require.NoError(t, err)
		in := load(t, a.store, a.MemberID())
		require.False(t, in.SetUpAt.Before(in.InstalledAt))
	})
}

// TestPanicInThePagesHook: the next page is not blocked.
func TestPanicInThePagesHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		a.hook = func(oauth.Installation, event.AppInstall) error { panic("hook") }
		require.Error(t, a.app.Install(t.Context()))
		a.hook = nil
		require.Equal(t, 200, a.open(t))
		require.Equal(t, []bool{true, true}, a.runs())
	})
}

// TestCopiedPageProvesNoUser: whoever opens a page of the application knows its application token,
// and can post a copy of the installation. That gives nobody the tokens or the name of the
// administrator.
func TestCopiedPageProvesNoUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.app.Install(t.Context()))
		employee := a.AddUser(eventtest.User{Name: "Eve"})
		g, err := a.app.Grant(employee)
		require.NoError(t, err)
		sessions, err := a.portals.Sessions()
		require.NoError(t, err)
		for name, page := range map[string]event.Auth{
			"tokens made up":                   {MemberID: g.MemberID, AccessToken: "made-up", RefreshToken: "made-up"},
			"only a refresh token":             {MemberID: g.MemberID, RefreshToken: "made-up-too"},
			"an own access token":              {MemberID: g.MemberID, AccessToken: g.AccessToken, RefreshToken: "made-up-as-well"},
			"an own access token, and no more": {MemberID: g.MemberID, AccessToken: g.AccessToken},
		} {
			page.ApplicationToken, page.ServerEndpoint = g.ApplicationToken, g.ServerEndpoint
			in, err := a.portals.Install(t.Context(), page)
			if err != nil {
				require.ErrorIs(t, err, oauth.ErrUnverified, name)
				continue
			}
			require.Zero(t, in.UserID, name)
			require.Empty(t, in.AccessToken+in.RefreshToken+in.ApplicationToken, name)
			_, _, err = sessions.Issue(in)
			require.ErrorIs(t, err, oauth.ErrUnverified, name)
		}
		stored := load(t, a.store, a.MemberID())
		require.Equal(t, eventtest.AdminID, stored.UserID)
		require.NotEmpty(t, stored.RefreshToken)
	})
}

// TestReloadedInstallPage: the browser of the administrator posts the same page again.
func TestReloadedInstallPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.app.Install(t.Context()))
		page := pageOf(a.grant(t))
		first, err := a.portals.Install(t.Context(), page)
		require.NoError(t, err)
		runs := len(a.runs())
		again, err := a.portals.Install(t.Context(), page)
		require.NoError(t, err)
		require.Equal(t, first.UserID, again.UserID)
		require.Len(t, a.runs(), runs, "it is the same installation")
	})
}

// TestPageOfAnotherInstallationDuringTheHook: the application is installed again while the hook of
// the first installation runs. What that hook did may be gone, so the second one runs its own.
func TestPageOfAnotherInstallationDuringTheHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.app.Install(t.Context()))
		require.Equal(t, []bool{true}, a.runs())
		a.hook = func(oauth.Installation, event.AppInstall) error { pass(10 * time.Second); return nil }
		pass(time.Second)
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				_, err := a.portals.Install(t.Context(), pageOf(a.grant(t)))
				require.NoError(t, err)
			})
			pass(5 * time.Second)
		}
		all.Wait()
		require.Equal(t, []bool{true, false, false}, a.runs())
		in := load(t, a.store, a.MemberID())
		require.Equal(t, in.InstalledAt, in.SetUpAt)
	})
}

// TestPageAfterAClockWentBack: another replica, whose clock is ahead, has set the portal up.
func TestPageAfterAClockWentBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.app.Install(t.Context()))
		in, version, err := a.store.Load(t.Context(), a.key)
		require.NoError(t, err)
		in.InstalledAt, in.SetUpAt = in.InstalledAt.Add(time.Minute), in.SetUpAt.Add(time.Minute)
		_, err = a.store.Swap(t.Context(), a.key, version, in)
		require.NoError(t, err)
		pass(time.Second)
		require.Equal(t, 200, a.open(t))
		require.Equal(t, []bool{true, false}, a.runs(), "a page with new tokens is a repeated installation")
	})
}

// TestPageRunsTheHooksOfEachLifecycle: each runs once, and all again if one fails.
func TestPageRunsTheHooksOfEachLifecycle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		var second int
		failure := errors.New("the second fails")
		a.portals.Lifecycle(event.NewMux(), oauth.Hooks{Installed: func(context.Context, oauth.Installation, event.AppInstall) error {
			second++
			pass(time.Second)
			return failure
		}})
		require.Error(t, a.app.Install(t.Context()))
		require.Len(t, a.runs(), 1)
		require.Equal(t, 1, second)
		require.True(t, load(t, a.store, a.MemberID()).SetUpAt.IsZero())
		failure = nil
		page := pageOf(a.grant(t))
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				_, err := a.portals.Install(t.Context(), page)
				require.NoError(t, err)
			})
		}
		all.Wait()
		require.Len(t, a.runs(), 2)
		require.Equal(t, 2, second)
		require.False(t, load(t, a.store, a.MemberID()).SetUpAt.IsZero())
	})
}

// TestHookAfterAWait: the time that a page waits for another page's hook is not taken from its own
// hook's minute.
func TestHookAfterAWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newPageApp(t)
		require.NoError(t, a.app.Install(t.Context()))
		a.hook = func(oauth.Installation, event.AppInstall) error { pass(50 * time.Second); return nil }
		pass(time.Second)
		var all sync.WaitGroup
		for range 2 {
			page := pageOf(a.grant(t))
			all.Go(func() {
				_, err := a.portals.Install(t.Context(), page)
				require.NoError(t, err)
			})
			pass(time.Second)
		}
		all.Wait()
		require.Len(t, a.runs(), 3)
	})
}
