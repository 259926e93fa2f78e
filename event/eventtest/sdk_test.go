package eventtest_test

import (
	"context"
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

// TestSDK runs an application of this SDK on two portals without a socket for a day of the bubble's
// clock. ONAPPINSTALL installs it, Reconcile binds its handlers, and it fetches objects. Tokens
// expire, a portal is renamed, and for an hour everything fails.
func TestSDK(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := eventtest.NewNetwork()
		const address = "https://app.example.com/bitrix24"
		portals, err := oauth.NewPortals(oauth.Config{ClientID: "app.1", ClientSecret: "s3cret"}, oauth.NewMemoryStore(),
			oauth.WithHTTPClient(n.Client()))
		require.NoError(t, err)
		api, err := rest.NewClients(portals, rest.WithHTTPClient(n.Client()))
		require.NoError(t, err)

		var mu sync.Mutex
		titles := map[string][]string{}
		mux := event.NewMux()
		portals.Lifecycle(mux, oauth.Hooks{Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(address))
		}})
		event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
			deal, err := event.Fetch[struct{ TITLE string }](ctx, api.Coalescer(d.MemberID()), d)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			titles[d.MemberID()] = append(titles[d.MemberID()], deal.TITLE)
			return nil
		})
		handler, err := webhook.NewHandler(portals, mux)
		require.NoError(t, err)
		n.Handle("app.example.com", handler)

		two := [2]*eventtest.Portal{}
		for i := range two {
			two[i] = eventtest.NewPortal(t, eventtest.WithNetwork(n), eventtest.WithRateLimit(2, 50))
			app, err := two[i].AddApp(eventtest.App{ClientID: "app.1", ClientSecret: "s3cret", Scope: []string{"crm"}, HandlerURL: address})
			require.NoError(t, err)
			require.NoError(t, app.Install(t.Context()))
			wait(t, two[i])
		}
		synctest.Wait()
		rename := func(p *eventtest.Portal, title string) {
			t.Helper()
			require.NoError(t, p.Update(eventtest.Deal, 1, map[string]any{"TITLE": title}, eventtest.AdminID))
			wait(t, p)
			time.Sleep(10 * time.Minute) //nolint:forbidigo // the bubble's clock, for retries
		}
		for _, p := range two {
			require.Len(t, p.Bindings(), 4, "%v", p.Bindings())
			addDeal(t, p)
			rename(p, "first")
		}
		for _, p := range two {
			time.Sleep(2 * time.Hour) //nolint:forbidigo // the bubble's clock
			rename(p, "after expiry")
			require.NoError(t, p.Rename(t.Context()))
			rename(p, "on a new domain")
			p.Once("batch", eventtest.HTML(502), eventtest.Reset(), eventtest.LoseAnswer(), eventtest.Raw(429, "text/html", "busy"))
			p.Once("crm.deal.get", eventtest.HTML(503), eventtest.CutAnswer(), eventtest.WrongEncoding(), eventtest.Delay(time.Minute))
			rename(p, "in a bad hour")
		}
		require.NoError(t, handler.Shutdown(t.Context()))
		for i, p := range two {
			require.Subset(t, titles[p.MemberID()], []string{"first", "after expiry", "on a new domain"}, "portal %d", i)
			t.Log(titles[p.MemberID()], p.CallCounts(), p.Requests())
		}
	})
}
