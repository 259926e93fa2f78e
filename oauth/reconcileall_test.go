package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
)

const handlerURL = "https://app.example.com/bitrix24"

// dealBindings are the bindings that the tests want.
func dealBindings() []event.Binding {
	return []event.Binding{{Event: "ONCRMDEALADD", Handler: handlerURL}, {Event: "ONCRMDEALUPDATE", Handler: handlerURL}}
}

// fleet is an application on many portals of a network in memory.
type fleet struct {
	network *eventtest.Network
	portals []*eventtest.Portal
	apps    []*eventtest.Application
	store   oauth.Store
	access  *oauth.Portals
	api     *rest.Clients
	removed sync.Map // member IDs whose hook ran
	hook    func(memberID string) error
}

func newFleet(t *testing.T, size int, store oauth.Store) *fleet {
	t.Helper()
	f := &fleet{network: eventtest.NewNetwork(), store: store}
	for range size {
		p := eventtest.NewPortal(t, eventtest.WithNetwork(f.network),
			eventtest.WithQuirks(func(q *eventtest.Quirks) { q.NoUninstallEvent = true }))
		app, err := p.AddApp(eventtest.App{ClientID: clientID, ClientSecret: "the-secret-of-the-application", Scope: []string{"crm"}})
		require.NoError(t, err)
		require.NoError(t, app.Install(t.Context()))
		g, err := app.Grant(eventtest.AdminID)
		require.NoError(t, err)
		_, err = store.Swap(t.Context(), oauth.Key{ClientID: clientID, MemberID: p.MemberID()}, "", installationOf(g))
		require.NoError(t, err)
		user := oauth.Key{ClientID: clientID, MemberID: p.MemberID(), UserID: 7} // is no portal of its own
		_, err = store.Swap(t.Context(), user, "", installationOf(g))
		require.NoError(t, err)
		f.portals, f.apps = append(f.portals, p), append(f.apps, app)
	}
	f.access = f.process(t)
	api, err := rest.NewClients(f.access)
	require.NoError(t, err)
	f.api = api
	return f
}

// process makes the access of a process of the application.
func (f *fleet) process(t *testing.T) *oauth.Portals {
	t.Helper()
	p, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "the-secret-of-the-application"}, f.store,
		silent(), oauth.WithHTTPClient(f.network.Client()))
	require.NoError(t, err)
	p.Lifecycle(event.NewMux(), oauth.Hooks{Removed: func(_ context.Context, in oauth.Installation) error {
		if f.hook != nil {
			if err := f.hook(in.MemberID); err != nil {
				return err
			}
		}
		f.removed.Store(in.MemberID, true)
		return nil
	}})
	return p
}

func (f *fleet) reconcile(t *testing.T, opts ...oauth.ReconcileAllOption) (oauth.ReconcileReport, error) {
	t.Helper()
	return oauth.ReconcileAll(t.Context(), f.access, f.api.Portal, dealBindings(), opts...)
}

func (f *fleet) requireRemoved(t *testing.T, i int, want bool) {
	t.Helper()
	_, ran := f.removed.Load(f.portals[i].MemberID())
	require.Equal(t, want, ran, "portal %d", i)
	_, err := f.access.Installation(t.Context(), f.portals[i].MemberID())
	require.Equal(t, want, errors.Is(err, oauth.ErrNotFound), "portal %d", i)
}

func TestReconcileAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 40, oauth.NewMemoryStore())
		report, err := f.reconcile(t)
		require.NoError(t, err)
		require.Equal(t, oauth.ReconcileReport{Portals: 40, Changed: 40, Bound: 80}, report)
		require.Equal(t, "portals: 40, unchanged: 0, changed: 40 (+80 -0 bindings), removed: 0, failed: 0", report.String())
		report, err = f.reconcile(t, nil)
		require.NoError(t, err)
		require.Equal(t, oauth.ReconcileReport{Portals: 40, Unchanged: 40}, report)
	})
}

// TestReconcileAllWithTroubles: portals that removed the application, that cannot be reached, that
// hang, that fail once, and that lost a binding, among those where all is well.
func TestReconcileAllWithTroubles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 40, oauth.NewMemoryStore())
		_, err := f.reconcile(t)
		require.NoError(t, err)
		for i := range 5 { // 0..4 have removed the application
			require.NoError(t, f.apps[i].Uninstall(false))
		}
		f.portals[0].ExpireAccessTokens()
		f.network.Break(f.portals[5].Domain(), errors.New("no route"))
		f.portals[6].Always("event.get", eventtest.Delay(time.Hour))
		f.portals[7].Once("event.get", eventtest.HTML(http.StatusInternalServerError))
		f.portals[8].Always("event.get", eventtest.Fail(403, "ACCESS_DENIED", "Access denied!"))
		_, err = event.NewAPI(f.api.Portal(f.portals[9].MemberID())).Unbind(t.Context(), dealBindings()[0])
		require.NoError(t, err)
		f.portals[10].ExpireAccessTokens()

		began := time.Now()
		report, err := f.reconcile(t)
		require.NoError(t, err)
		require.Less(t, time.Since(began), 3*time.Minute)
		require.Equal(t, 40, report.Portals)
		require.Equal(t, 5, report.Removed, report.String())
		require.Equal(t, 1, report.Changed, report.String())
		require.Equal(t, 1, report.Bound)
		require.Equal(t, 3, report.Failed, report.String())
		require.Equal(t, 31, report.Unchanged, report.String())
		failed := make(map[string]error)
		for _, e := range report.Errors {
			failed[e.MemberID] = e.Err
		}
		for _, i := range []int{5, 6, 8} {
			require.Contains(t, failed, f.portals[i].MemberID(), "portal %d", i)
		}
		for i := range 40 {
			f.requireRemoved(t, i, i < 5)
		}
		require.Contains(t, report.String(), "removed: 5, failed: 3; "+report.Errors[0].MemberID)
	})
}

// TestReconcileAllHoldsUpNobody: portals that hang do not keep the others waiting, even if there
// are more of them than workers.
func TestReconcileAllHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20, oauth.NewMemoryStore())
		for _, p := range f.portals[:10] {
			p.Always("event.get", eventtest.Delay(time.Hour))
		}
		done := make(chan struct{})
		began := time.Now()
		var report oauth.ReconcileReport
		var err error
		go func() {
			defer close(done)
			report, err = f.reconcile(t, oauth.WithReconcileConcurrency(5), oauth.WithReconcileTimeout(5*time.Minute))
		}()
		pass(21 * time.Second) // 10 portals by 5 workers, 10 seconds each
		for i, p := range f.portals {
			require.Equal(t, i >= 10, len(p.Bindings()) > 0, "portal %d", i)
		}
		<-done
		require.NoError(t, err)
		require.Equal(t, 10, report.Failed)
		require.Greater(t, time.Since(began), 10*time.Minute, "then they get all the time that was given")
	})
}

func TestReconcileAllEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 10, oauth.NewMemoryStore())
		for _, p := range f.portals {
			p.Always("event.get", eventtest.Delay(time.Hour))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		report, err := oauth.ReconcileAll(ctx, f.access, f.api.Portal, dealBindings(), oauth.WithReconcileConcurrency(2))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))
		require.Zero(t, report, "nothing was done, and nothing failed")
	})
}

// TestReconcileAllWithoutSecret: a wrong client secret looks like a removal, and is none.
func TestReconcileAllWithWrongSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 5, oauth.NewMemoryStore())
		for _, p := range f.portals {
			p.ExpireAccessTokens()
		}
		wrong, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "wrong"}, f.store,
			silent(), oauth.WithHTTPClient(f.network.Client()))
		require.NoError(t, err)
		wrong.Lifecycle(event.NewMux(), oauth.Hooks{Removed: func(context.Context, oauth.Installation) error { panic("hook") }})
		api, err := rest.NewClients(wrong)
		require.NoError(t, err)
		report, err := oauth.ReconcileAll(t.Context(), wrong, api.Portal, dealBindings())
		require.NoError(t, err)
		require.Equal(t, 5, report.Failed, report.String())
		for i := range f.portals {
			f.requireRemoved(t, i, false)
		}
	})
}

// TestReconcileAllWhoseHookFails: the installation is kept, for the next start.
func TestReconcileAllWhoseHookFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, oauth.NewMemoryStore())
		require.NoError(t, f.apps[1].Uninstall(false))
		failure := errors.New("database down")
		f.hook = func(string) error { return failure }
		report, err := f.reconcile(t)
		require.NoError(t, err)
		require.Equal(t, 1, report.Failed, report.String())
		require.ErrorIs(t, report.Errors[0], failure)
		f.requireRemoved(t, 1, false)
		f.hook = nil
		report, err = f.reconcile(t)
		require.NoError(t, err)
		require.Equal(t, 1, report.Removed, report.String())
		f.requireRemoved(t, 1, true)
	})
}

// TestReconcileAllBesideOtherProcesses: the store is shared, so a refused refresh token may have
// been used by another process. A portal that says itself that the application is gone is enough.
func TestReconcileAllBesideOtherProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 4, &faultyStore{Store: oauth.NewMemoryStore()})
		require.NoError(t, f.apps[2].Uninstall(false))
		report, err := f.reconcile(t)
		require.NoError(t, err)
		require.Equal(t, 1, report.Removed, report.String())
		f.requireRemoved(t, 2, true)
	})
}

func TestReconcileAllWithBrokenStore(t *testing.T) {
	t.Parallel()
	p, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "s"}, brokenList{oauth.NewMemoryStore()}, silent())
	require.NoError(t, err)
	_, err = oauth.ReconcileAll(t.Context(), p, func(string) event.Caller { panic("called") }, dealBindings())
	require.ErrorIs(t, err, oauth.ErrStore)
	require.ErrorIs(t, err, errDisk)
}

// TestReconcileAllWhoseListFailsMidway: what was found before gets its second try.
func TestReconcileAllWhoseListFailsMidway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, &listFailsMidway{Store: oauth.NewMemoryStore()})
		f.portals[0].Once("event.get", eventtest.Delay(time.Hour)) // hangs at the first try
		report, err := f.reconcile(t)
		require.ErrorIs(t, err, oauth.ErrStore)
		require.ErrorIs(t, err, errDisk)
		require.Equal(t, oauth.ReconcileReport{Portals: 3, Changed: 3, Bound: 6}, report)
	})
}

// listFailsMidway is a store whose second page cannot be read. The first one is full.
type listFailsMidway struct{ oauth.Store }

func (s *listFailsMidway) List(ctx context.Context, after oauth.Key, limit int) ([]oauth.Key, error) {
	if after.MemberID != "" {
		return nil, errDisk
	}
	page, err := s.Store.List(ctx, after, limit)
	for n := int64(1); err == nil && len(page) < limit; n++ {
		page = append(page, oauth.Key{ClientID: clientID, MemberID: "z", UserID: n})
	}
	return page, err
}

// TestReconcileAllWhoseHookPanics: the other portals are reconciled, and the installation is kept.
func TestReconcileAllWhoseHookPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, oauth.NewMemoryStore())
		require.NoError(t, f.apps[1].Uninstall(false))
		f.hook = func(string) error { panic(planted) }
		report, err := f.reconcile(t)
		require.NoError(t, err)
		require.Equal(t, 2, report.Changed, report.String())
		require.Equal(t, 1, report.Failed, report.String())
		require.NotContains(t, report.String(), planted)
		f.requireRemoved(t, 1, false)
	})
}

// brokenList is a store that lists nothing.
type brokenList struct{ oauth.Store }

func (brokenList) List(context.Context, oauth.Key, int) ([]oauth.Key, error) { return nil, errDisk }

// callerFunc is a client of a portal.
type callerFunc func(ctx context.Context, method string) error

func (f callerFunc) Call(ctx context.Context, method string, _, _ any) error { return f(ctx, method) }

func TestReconcileAllConfig(t *testing.T) {
	t.Parallel()
	p := application(t, clientID, "secret")
	portal := func(string) event.Caller { panic("called") }
	bad := func(url string) []event.Binding { return []event.Binding{{Event: "ONCRMDEALADD", Handler: url}} }
	for name, test := range map[string]struct {
		portals *oauth.Portals
		portal  func(string) event.Caller
		want    []event.Binding
		opt     oauth.ReconcileAllOption
	}{
		"no scheme":      {p, portal, bad("app.example.com/bitrix24"), nil},
		"http":           {p, portal, bad("http://app.example.com/bitrix24"), nil},
		"no URL":         {p, portal, bad(""), nil},
		"no event":       {p, portal, []event.Binding{{Handler: handlerURL}}, nil},
		"no portals":     {nil, portal, dealBindings(), nil},
		"no function":    {p, nil, dealBindings(), nil},
		"no concurrency": {p, portal, dealBindings(), oauth.WithReconcileConcurrency(0)},
		"no time":        {p, portal, dealBindings(), oauth.WithReconcileTimeout(0)},
	} {
		_, err := oauth.ReconcileAll(t.Context(), test.portals, test.portal, test.want, test.opt)
		require.ErrorIs(t, err, oauth.ErrConfig, name)
	}
	report, err := oauth.ReconcileAll(t.Context(), p, portal, dealBindings())
	require.NoError(t, err, "an empty store is no error")
	require.Zero(t, report)
}

func TestReconcileAllPassesOptionsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, oauth.NewMemoryStore())
		old := []event.Binding{{Event: "ONCRMDEALADD", Handler: "https://app.example.com/old"}}
		_, err := oauth.ReconcileAll(t.Context(), f.access, f.api.Portal, old)
		require.NoError(t, err)
		report, err := f.reconcile(t, oauth.WithReconcileOptions(event.WithOwnedPrefix("https://app.example.com")))
		require.NoError(t, err)
		require.Equal(t, oauth.ReconcileReport{Portals: 2, Changed: 2, Bound: 4, Unbound: 2}, report)
		_, err = f.reconcile(t, oauth.WithReconcileOptions(event.WithOwnedPrefix("no URL")))
		require.NoError(t, err)
	})
}

// TestReconcileAllOfManyPortals: the limits hold for 100,000 portals that all fail, and the report
// stays small.
func TestReconcileAllOfManyPortals(t *testing.T) {
	t.Parallel()
	const portals = 100_000
	out, logger := logs()
	p, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "s"}, manyPortals{oauth.NewMemoryStore(), portals}, logger)
	require.NoError(t, err)
	var running, most, calls atomic.Int64
	report, err := oauth.ReconcileAll(t.Context(), p, func(memberID string) event.Caller {
		return callerFunc(func(context.Context, string) error {
			now := running.Add(1)
			defer running.Add(-1)
			for {
				if m := most.Load(); now <= m || most.CompareAndSwap(m, now) {
					break
				}
			}
			if calls.Add(1)%50 == 0 {
				panic(planted)
			}
			return errors.New("access_token=" + planted + " of " + memberID)
		})
	}, dealBindings(), oauth.WithReconcileConcurrency(3))
	require.NoError(t, err)
	require.Equal(t, portals, report.Portals)
	require.Equal(t, portals, report.Failed)
	require.Len(t, report.Errors, 20)
	require.LessOrEqual(t, most.Load(), int64(3))
	require.Greater(t, calls.Load(), int64(portals), "some got a second try")
	require.LessOrEqual(t, calls.Load(), int64(portals+10_000))
	require.NotContains(t, report.String(), planted)
	require.Less(t, len(report.String()), 2500)
	require.NotContains(t, out.String(), planted)
	require.Less(t, len(out.String()), 40_000)
}

// manyPortals is a store that lists many portals.
type manyPortals struct {
	oauth.Store

	portals int
}

func (s manyPortals) List(_ context.Context, after oauth.Key, limit int) (page []oauth.Key, err error) {
	next := 0
	if after.MemberID != "" {
		if _, err = fmt.Sscanf(after.MemberID, "%x", &next); err != nil {
			return nil, err
		}
	}
	for next++; next <= s.portals && len(page) < limit; next++ {
		page = append(page, oauth.Key{ClientID: after.ClientID, MemberID: fmt.Sprintf("%032x", next)})
	}
	return page, nil
}
