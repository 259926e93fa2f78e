package oauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// Portals install an application. The install event is verified and stored, and its handler binds
// what the mux handles. Later events are verified by what was stored, and calls use the stored
// tokens.
func Example() {
	ctx := context.Background()
	// A fake portal with an application. A real application is in the settings of a real portal.
	portal, err := eventtest.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = portal.Close() }()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	handlerURL := server.URL + "/bitrix24"
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: handlerURL})
	if err != nil {
		fmt.Println(err)
		return
	}

	// The program of the application. The options allow the loopback addresses of the fake portal.
	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP())
	if err != nil {
		fmt.Println(err)
		return
	}
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	if err != nil {
		fmt.Println(err)
		return
	}
	events := event.NewMux()
	event.On(events, event.OnAppInstall, func(ctx context.Context, d *event.Delivery, _ event.AppInstall) error {
		fmt.Println("installed, license", d.Auth.Status)
		return event.NewAPI(api.Portal(d.MemberID())).Reconcile(ctx, events.Bindings(handlerURL))
	})
	event.On(events, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
		deal, err := event.Fetch[struct{ TITLE string }](ctx, api.Portal(d.MemberID()), d)
		fmt.Println("new deal:", deal.TITLE)
		return err
	})
	handler, err := webhook.NewHandler(portals, events, webhook.WithSync()) // WithSync makes the order of the output certain
	if err != nil {
		fmt.Println(err)
		return
	}
	mux.Handle("/bitrix24", handler)

	// An administrator installs the application, and somebody adds a deal.
	if err := app.Install(ctx); err != nil {
		fmt.Println(err)
		return
	}
	_ = portal.Wait(ctx)
	_, _ = portal.Add(eventtest.Deal, map[string]any{"TITLE": "Boats"}, eventtest.AdminID)
	_ = portal.Wait(ctx)
	// Output:
	// installed, license L
	// new deal: Boats
}
