package oauth_test

import (
	"context"
	"errors"
	"fmt"
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

// lifecycleOf returns a mux with the hooks of one application.
func lifecycleOf(p *oauth.Portals, hooks oauth.Hooks) *event.Mux {
	mux := event.NewMux()
	p.Lifecycle(mux, hooks)
	return mux
}

// happened is a delivery of an event, a second from now, as if an installation had come before it.
func happened[T any](tb testing.TB, e event.Descriptor[T], payload any) *event.Delivery {
	tb.Helper()
	r, err := eventtest.NewRequest(tb.Context(), e, payload, eventtest.WithToken("t1"))
	require.NoError(tb, err)
	d, err := event.ParseRequest(r)
	require.NoError(tb, err)
	d.Auth.MemberID, d.Time = member, time.Now().Add(time.Second)
	return proven(d)
}

// TestLifecycleOfAnApplication goes through a webhook.Handler, like a real program.
func TestLifecycleOfAnApplication(t *testing.T) {
	t.Parallel()
	portal := eventtest.NewPortal(t)
	srv := httptest.NewUnstartedServer(nil)
	app, err := portal.AddApp(eventtest.App{ClientID: clientID, Scope: []string{"crm"}, HandlerURL: "http://" + srv.Listener.Addr().String()})
	require.NoError(t, err)
	store := oauth.NewMemoryStore()
	w := &world{Portal: portal, app: app, store: store}
	portals := w.portals(t, store)
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	require.NoError(t, err)

	var mu sync.Mutex
	var seen []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf(format, args...))
	}
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{
		Installed: func(ctx context.Context, in oauth.Installation, e event.AppInstall) error {
			note("installed, new %t, finished %t", in.SetUpAt.IsZero(), e.Installed)
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(srv.URL))
		},
		Updated: func(_ context.Context, in oauth.Installation, e event.AppUpdate) error {
			note("updated to %s, new token %t", e.Version, in.ApplicationToken == app.ApplicationToken())
			return nil
		},
		Paid: func(_ context.Context, in oauth.Installation, e event.AppPayment) error {
			note("paid, status %s, %d days", in.Status, e.Days)
			return nil
		},
		MethodConfirmed: func(_ context.Context, _ oauth.Installation, e event.AppMethodConfirm) error {
			note("%s confirmed %t", e.Method, e.Confirmed)
			return nil
		},
		Uninstalled: func(ctx context.Context, in oauth.Installation, e event.AppUninstall) error {
			_, err := portals.Installation(ctx, in.MemberID)
			note("uninstalled, clean %t, still known %t", e.Clean, err == nil)
			return nil
		},
	})
	h, err := webhook.NewHandler(portals, mux, webhook.WithSync())
	require.NoError(t, err)
	srv.Config.Handler = h
	srv.Start()
	defer srv.Close()

	require.NoError(t, app.Install(t.Context()))
	require.NoError(t, portal.Wait(t.Context()))
	require.False(t, load(t, store, portal.MemberID()).SetUpAt.IsZero())
	app.RotateApplicationToken()
	require.NoError(t, portal.Raise("ONAPPUPDATE", map[string]any{"VERSION": "2", "PREVIOUS_VERSION": "1"}, eventtest.AdminID))
	portal.Always("app.info", eventtest.Raw(200, "application/json", `{"result":{"ID":1,"STATUS":"P","PAYMENT_EXPIRED":"N","DAYS":30}}`))
	require.NoError(t, portal.Raise("ONAPPPAYMENT", map[string]any{"STATUS": "P", "DAYS": 30}, eventtest.AdminID))
	require.NoError(t,
		portal.Raise("ONAPPMETHODCONFIRM", map[string]any{"TOKEN": "x", "METHOD": "user.get", "CONFIRMED": 1}, eventtest.AdminID))
	require.NoError(t, portal.Wait(t.Context()))
	portal.Heal()
	require.NoError(t, app.Uninstall(true))
	require.NoError(t, portal.Wait(t.Context()))

	require.Equal(t, []string{
		"installed, new true, finished true", "updated to 2, new token true", "paid, status P, 30 days", "user.get confirmed true",
		"uninstalled, clean true, still known true",
	}, seen)
	requireEmpty(t, store, portal.MemberID())
	for _, d := range portal.Deliveries() {
		require.True(t, d.OK(), d.Event)
	}

	// It is installed again, as a new installation.
	require.NoError(t, app.Install(t.Context()))
	require.NoError(t, portal.Wait(t.Context()))
	require.Equal(t, "installed, new true, finished true", seen[len(seen)-1])
}

func TestLifecycleRegistersWhatItNeeds(t *testing.T) {
	t.Parallel()
	portals := scripted(t, stored(t), counting())
	require.Equal(t, []string{"ONAPPINSTALL", "ONAPPUPDATE", "ONAPPUNINSTALL", "ONAPPUSERREADY"}, lifecycleOf(portals, oauth.Hooks{}).Names())
	all := lifecycleOf(portals, oauth.Hooks{
		Paid:            func(context.Context, oauth.Installation, event.AppPayment) error { return nil },
		MethodConfirmed: func(context.Context, oauth.Installation, event.AppMethodConfirm) error { return nil },
	})
	require.Equal(t, []string{"ONAPPINSTALL", "ONAPPUPDATE", "ONAPPUNINSTALL", "ONAPPUSERREADY", "ONAPPPAYMENT", "ONAPPMETHODCONFIRM"},
		all.Names())
	require.Panics(t, func() { portals.Lifecycle(all, oauth.Hooks{}) })
}

func TestLifecycleWithoutHooks(t *testing.T) {
	t.Parallel()
	store := stored(t)
	mux := lifecycleOf(scripted(t, store, removed()), oauth.Hooks{})
	before := load(t, store, member)
	require.NoError(t, mux.HandleEvent(t.Context(), happened(t, event.OnAppInstall, nil)))
	require.NoError(t, mux.HandleEvent(t.Context(), happened(t, event.OnAppUpdate, nil)))
	require.Equal(t, before, load(t, store, member))
	require.NoError(t, mux.HandleEvent(t.Context(), happened(t, event.OnAppUninstall, nil)))
	requireEmpty(t, store, member)
}

func TestHookRunsOnceForAnEvent(t *testing.T) {
	t.Parallel()
	var runs int
	var news []bool
	failure := errors.New("not yet")
	portals := scripted(t, stored(t), counting())
	mux := lifecycleOf(portals, oauth.Hooks{Installed: func(_ context.Context, in oauth.Installation, _ event.AppInstall) error {
		runs++
		news = append(news, in.SetUpAt.IsZero())
		return failure
	}})
	d := happened(t, event.OnAppInstall, map[string]any{"VERSION": 1})

	require.ErrorIs(t, mux.HandleEvent(t.Context(), d), failure)
	failure = nil
	require.NoError(t, mux.HandleEvent(t.Context(), d), "after an error it runs again")
	require.NoError(t, mux.HandleEvent(t.Context(), d))
	again := *d
	again.Auth.AccessToken = "another" // a copy, sent with another token
	require.NoError(t, mux.HandleEvent(t.Context(), &again))
	require.Equal(t, 2, runs)

	again.Time = d.Time.Add(time.Second)
	require.NoError(t, mux.HandleEvent(t.Context(), &again))
	require.Equal(t, 2, runs, "whoever knows the application token cannot make it run")
	again.Proof.By = event.ProofTokens
	require.NoError(t, mux.HandleEvent(t.Context(), &again))
	require.Equal(t, []bool{true, true, false}, news, "a repeated installation is told from a new one")
}

func TestHookOfCopiesAtTheSameTime(t *testing.T) {
	t.Parallel()
	for name, panics := range map[string]bool{"succeeds": false, "panics first": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int64
				mux := lifecycleOf(scripted(t, stored(t), counting()), oauth.Hooks{
					Updated: func(context.Context, oauth.Installation, event.AppUpdate) error {
						first := runs.Add(1) == 1
						pass(time.Second)
						if first && panics {
							panic("hook")
						}
						return nil
					},
				})
				d := happened(t, event.OnAppUpdate, nil)
				var all sync.WaitGroup
				for range 20 {
					all.Go(func() {
						defer func() { _ = recover() }()
						_ = mux.HandleEvent(t.Context(), d)
					})
				}
				impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				synctest.Wait()
				require.ErrorIs(t, mux.HandleEvent(impatient, d), context.DeadlineExceeded)
				all.Wait()
				want := int64(1)
				if panics {
					want = 2
				}
				require.Equal(t, want, runs.Load())
			})
		})
	}
}

func TestMemoryOfEventsIsBounded(t *testing.T) {
	t.Parallel()
	var runs int
	mux := lifecycleOf(scripted(t, stored(t), counting()), oauth.Hooks{
		Paid: func(context.Context, oauth.Installation, event.AppPayment) error {
			runs++
			return nil
		},
	})
	first := happened(t, event.OnAppPayment, nil)
	for i := range 1001 {
		d := *first
		d.Time = first.Time.Add(time.Duration(i) * time.Second)
		require.NoError(t, mux.HandleEvent(t.Context(), &d))
		require.NoError(t, mux.HandleEvent(t.Context(), &d))
	}
	require.Equal(t, 1001, runs)
	require.NoError(t, mux.HandleEvent(t.Context(), first))
	require.Equal(t, 1002, runs, "the oldest was forgotten")
}

func TestUninstallation(t *testing.T) {
	t.Parallel()
	failure := errors.New("cannot delete the data yet")
	t.Run("hook fails", func(t *testing.T) {
		t.Parallel()
		store, fail, runs := stored(t), failure, 0
		mux := lifecycleOf(scripted(t, store, removed()), oauth.Hooks{
			Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error { runs++; return fail },
		})
		d := happened(t, event.OnAppUninstall, map[string]any{"CLEAN": 1})
		require.ErrorIs(t, mux.HandleEvent(t.Context(), d), failure)
		load(t, store, member)
		fail = nil
		require.NoError(t, mux.HandleEvent(t.Context(), d))
		requireEmpty(t, store, member)
		require.NoError(t, mux.HandleEvent(t.Context(), d))
		require.Equal(t, 2, runs)
	})
	t.Run("store fails", func(t *testing.T) {
		t.Parallel()
		inner, runs := stored(t), 0
		store := &stuckStore{Store: inner, stuck: true}
		mux := lifecycleOf(scripted(t, store, removed()), oauth.Hooks{
			Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error { runs++; return nil },
		})
		d := happened(t, event.OnAppUninstall, nil)
		require.ErrorIs(t, mux.HandleEvent(t.Context(), d), oauth.ErrStore)
		store.stuck = false
		require.NoError(t, mux.HandleEvent(t.Context(), d))
		requireEmpty(t, inner, member)
		require.Equal(t, 1, runs, "the hook had succeeded")
	})
	t.Run("without a time", func(t *testing.T) {
		t.Parallel()
		store := stored(t)
		mux := lifecycleOf(scripted(t, store, removed()), oauth.Hooks{
			Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error { panic("it counts as old") },
		})
		d := happened(t, event.OnAppUninstall, nil)
		d.Time = time.Time{}
		require.NoError(t, mux.HandleEvent(t.Context(), d))
		load(t, store, member)
	})
	t.Run("overtaken by an installation", func(t *testing.T) {
		t.Parallel()
		store := stored(t, func(in *oauth.Installation) { in.InstalledAt = time.Now() })
		out, logger := logs()
		mux := lifecycleOf(scripted(t, store, counting(), logger), oauth.Hooks{
			Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error { panic("not this one") },
		})
		d := happened(t, event.OnAppUninstall, nil)
		d.Time = time.Now().Add(-10 * time.Minute)
		require.NoError(t, mux.HandleEvent(t.Context(), d))
		load(t, store, member)
		require.Contains(t, out.String(), "WARN")
	})
	t.Run("overtaken while the hook runs", func(t *testing.T) {
		t.Parallel()
		store := stored(t)
		mux := lifecycleOf(scripted(t, store, removed()), oauth.Hooks{
			Uninstalled: func(ctx context.Context, in oauth.Installation, _ event.AppUninstall) error {
				_, version, err := store.Load(ctx, oauth.Key{ClientID: clientID, MemberID: member})
				if err != nil {
					return err
				}
				in.InstalledAt = time.Now()
				_, err = store.Swap(ctx, oauth.Key{ClientID: clientID, MemberID: member}, version, in)
				return err
			},
		})
		require.NoError(t, mux.HandleEvent(t.Context(), happened(t, event.OnAppUninstall, nil)))
		load(t, store, member)
	})
}

// removed is a script whose portal has removed the application.
func removed() *script {
	s := counting()
	s.portal = withoutApp
	return s
}

// stuckStore deletes nothing while it is stuck.
type stuckStore struct {
	oauth.Store

	stuck bool
}

func (s *stuckStore) Delete(ctx context.Context, key oauth.Key, old oauth.Version) error {
	if s.stuck {
		return errDisk
	}
	return s.Store.Delete(ctx, key, old)
}

func TestLifecycleOfAnUnknownPortal(t *testing.T) {
	t.Parallel()
	never := func() error { panic("not for an unknown portal") }
	mux := lifecycleOf(scripted(t, oauth.NewMemoryStore(), counting()), oauth.Hooks{
		Installed: func(context.Context, oauth.Installation, event.AppInstall) error { return never() },
		Updated:   func(context.Context, oauth.Installation, event.AppUpdate) error { return never() },
		Paid:      func(context.Context, oauth.Installation, event.AppPayment) error { return never() },
	})
	for _, d := range []*event.Delivery{
		happened(t, event.OnAppInstall, nil), happened(t, event.OnAppUpdate, nil), happened(t, event.OnAppPayment, nil),
	} {
		err := mux.HandleEvent(t.Context(), d)
		require.ErrorIs(t, err, oauth.ErrNotFound)
		outcome, _ := event.OutcomeOf(err)
		require.Equal(t, event.OutcomeDropped, outcome, d.Name)
	}
	require.NoError(t, mux.HandleEvent(t.Context(), happened(t, event.OnAppUninstall, nil)))
}

func TestLifecycleWithAStoreOutOfOrder(t *testing.T) {
	t.Parallel()
	hooks := oauth.Hooks{
		Installed: func(context.Context, oauth.Installation, event.AppInstall) error { return nil },
		Paid:      func(context.Context, oauth.Installation, event.AppPayment) error { return nil },
	}
	reading := &faultyStore{Store: stored(t), load: func(context.Context) error { return errDisk }}
	writing := &faultyStore{Store: stored(t), swap: failing}
	for _, store := range []oauth.Store{reading, writing} {
		s := counting()
		s.portal = func(string, sent) (int, string) { return 200, `{"result":{"STATUS":"P"}}` }
		mux := lifecycleOf(scripted(t, store, s), hooks)
		for _, d := range []*event.Delivery{
			happened(t, event.OnAppInstall, nil), happened(t, event.OnAppPayment, map[string]any{"STATUS": "P"}),
		} {
			err := mux.HandleEvent(t.Context(), d)
			require.ErrorIs(t, err, oauth.ErrStore)
			outcome, _ := event.OutcomeOf(err)
			require.Equal(t, event.OutcomeDefault, outcome, "it is tried again")
		}
	}
	mux := lifecycleOf(scripted(t, reading, counting()), hooks)
	require.ErrorIs(t, mux.HandleEvent(t.Context(), happened(t, event.OnAppUninstall, nil)), oauth.ErrStore)
}

// TestForgedPayment sends an event that says that the application was paid for. Everybody who opens
// a page of the application can do that, so the portal is asked.
func TestForgedPayment(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		portal func(string, sent) (int, string)
		status string // that the hook gets; empty if the hook does not run
	}{
		"the portal says otherwise": {
			func(string, sent) (int, string) {
				return 200, `{"result":{"STATUS":"D","PAYMENT_EXPIRED":"Y","DAYS":"-3"}}`
			}, "D",
		},
		"the portal cannot be asked": {func(string, sent) (int, string) { return 502, "<html>" }, ""},
		"the portal does not say":    {func(string, sent) (int, string) { return 200, `{"result":{"SCOPE":["crm"]}}` }, ""},
		"an expired token": {
			func(_ string, r sent) (int, string) {
				if r.form.Get("auth") == "a1" {
					return 401, `{"error":"expired_token"}`
				}
				return 200, `{"result":{"STATUS":"D","PAYMENT_EXPIRED":"Y","DAYS":"-3"}}`
			}, "D",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, s, ran := stored(t), counting(), ""
			s.portal = test.portal
			mux := lifecycleOf(scripted(t, store, s), oauth.Hooks{
				Paid: func(_ context.Context, in oauth.Installation, e event.AppPayment) error {
					ran = e.Status
					require.True(t, e.PaymentExpired)
					require.Equal(t, int64(-3), e.Days)
					require.Equal(t, test.status, in.Status)
					return nil
				},
			})
			err := mux.HandleEvent(t.Context(), happened(t, event.OnAppPayment, map[string]any{"STATUS": "P", "PAYMENT_EXPIRED": 0, "DAYS": 365}))
			require.Equal(t, test.status, ran)
			if test.status == "" {
				require.ErrorIs(t, err, oauth.ErrTemporary)
				require.Equal(t, "L", load(t, store, member).Status)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "D", load(t, store, member).Status)
		})
	}
}
