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

// The hooks do the application's own work when it is installed and removed. Lifecycle handles the
// tokens.
func ExamplePortals_Lifecycle() {
	ctx := context.Background()
	server := httptest.NewUnstartedServer(nil)
	defer server.Close()
	handlerURL := "http://" + server.Listener.Addr().String() + "/bitrix24"
	portal, err := eventtest.New() // a fake portal with an application
	if err != nil {
		panic(err)
	}
	defer func() { _ = portal.Close() }()
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: handlerURL})
	if err != nil {
		panic(err)
	}

	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP()) // both for the fake portal
	if err != nil {
		panic(err)
	}
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	if err != nil {
		panic(err)
	}
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{
		Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			fmt.Println("installed for the first time:", in.SetUpAt.IsZero())
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(handlerURL))
		},
		Uninstalled: func(_ context.Context, _ oauth.Installation, e event.AppUninstall) error {
			fmt.Println("removed, with its data:", e.Clean)
			return nil
		},
	})
	handler, err := webhook.NewHandler(portals, mux, webhook.WithSync()) // WithSync makes the order of the output certain
	if err != nil {
		panic(err)
	}
	routes := http.NewServeMux()
	routes.Handle("/bitrix24", handler)
	server.Config.Handler = routes
	server.Start()

	_ = app.Install(ctx)
	_ = portal.Wait(ctx)
	_ = app.Uninstall(true)
	_ = portal.Wait(ctx)
	_, err = portals.Installation(ctx, portal.MemberID())
	fmt.Println(err)
	// Output:
	// installed for the first time: true
	// removed, with its data: true
	// oauth: load: no installation of this portal is stored
}

// A user of the portal allows the application to act for them. The redirect address in the
// application's settings is /oauth/back.
func ExampleRedirectHandler() {
	portals, err := oauth.NewPortals(oauth.Config{ClientID: "local.1", ClientSecret: "secret"}, oauth.NewMemoryStore())
	if err != nil {
		panic(err)
	}
	states := portals.CookieStates()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /oauth/start", func(w http.ResponseWriter, r *http.Request) {
		if err := states.Authorize(w, r, r.FormValue("portal")); err != nil {
			http.Error(w, "that is no portal", http.StatusBadRequest)
		}
	})
	back, err := oauth.RedirectHandler(portals.Exchange, states,
		func(w http.ResponseWriter, _ *http.Request, in oauth.Installation, err error) {
			if err != nil {
				http.Error(w, "please try again", http.StatusForbidden)
				return
			}
			_, _ = fmt.Fprintln(w, "connected to", in.Domain())
		})
	if err != nil {
		panic(err)
	}
	mux.Handle("/oauth/back", back)

	for _, address := range []string{"/oauth/start?portal=example.bitrix24.com", "/oauth/back?code=stolen&state=guessed"} {
		response := httptest.NewRecorder()
		mux.ServeHTTP(response, httptest.NewRequestWithContext(context.Background(), http.MethodGet, address, nil))
		fmt.Println(response.Code)
	}
	// Output:
	// 302
	// 403
}
