package oauth_test

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// An application with pages: an administrator installs it on one page, users open another, and that
// page calls the application with a session.
func ExamplePageHandler() {
	ctx := context.Background()
	routes := http.NewServeMux()
	// Refuse what other sites make browsers send, but not the portal, which posts the pages.
	protection := http.NewCrossOriginProtection()
	protection.AddInsecureBypassPattern("POST /bitrix24/install")
	protection.AddInsecureBypassPattern("POST /bitrix24/page")
	server := httptest.NewServer(protection.Handler(routes))
	defer server.Close()
	portal, err := eventtest.New() // a fake portal with an application
	if err != nil {
		panic(err)
	}
	defer func() { _ = portal.Close() }()
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}, UI: true, HandlerURL: server.URL + "/bitrix24/install"})
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

	// Page and event run the same hook, once for an installation.
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
		fmt.Println("set up for the first time:", in.SetUpAt.IsZero())
		return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(server.URL+"/bitrix24/events"))
	}})
	events, err := webhook.NewHandler(portals, mux, webhook.WithSync()) // WithSync makes the order of the output certain
	if err != nil {
		panic(err)
	}
	install, err := oauth.PageHandler(portals.Install, portals.FinishInstall(nil)) // calls BX24.installFinish
	if err != nil {
		panic(err)
	}
	sessions, err := portals.Sessions()
	if err != nil {
		panic(err)
	}
	// Browsers often block cookies in frames, so the page's script sends the session as a header.
	html := template.Must(template.New("page").Parse(`<body data-session="{{.}}"><script src="/app.js"></script></body>`))
	page, err := oauth.PageHandler(portals.VerifyPage,
		func(w http.ResponseWriter, _ *http.Request, _ *event.Delivery, access oauth.Installation) {
			token, err := sessions.Start(w, access) // sets a cookie, too, for forms and links
			if err != nil {
				http.Error(w, "please open the page again", http.StatusForbidden)
				return
			}
			_ = html.Execute(w, token)
		})
	if err != nil {
		panic(err)
	}
	routes.Handle("POST /bitrix24/events", events)
	routes.Handle("/bitrix24/install", install)
	routes.Handle("/bitrix24/page", page)
	routes.Handle("POST /api/save", sessions.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := oauth.SessionOf(r.Context())
		_, _ = fmt.Fprintln(w, "saved by user", session.UserID)
	})))

	_ = app.Install(ctx)    // the portal opens the installation page,
	_ = app.FinishInstall() // and the page calls BX24.installFinish
	_ = portal.Wait(ctx)

	// A user opens the page, and its script saves something.
	opened, _ := app.Frame(ctx, portal.AddUser(eventtest.User{Name: "Zoe"}), eventtest.Placement{})
	opened.URL.Path = "/bitrix24/page"
	opened.Header.Set("Sec-Fetch-Site", "cross-site") // as a browser says it of the portal's POST
	shown := httptest.NewRecorder()
	server.Config.Handler.ServeHTTP(shown, opened)
	_, token, _ := strings.Cut(shown.Body.String(), `data-session="`)
	token, _, _ = strings.Cut(token, `"`)
	save := httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/save", nil)
	save.Header.Set("Sec-Fetch-Site", "same-origin")
	save.Header.Set("Authorization", "Bearer "+token)
	saved := httptest.NewRecorder()
	server.Config.Handler.ServeHTTP(saved, save)
	fmt.Print(saved.Body.String())
	// Output:
	// set up for the first time: true
	// saved by user 2
}

// Calls of pages have a session as a cookie, or as a header. http.CrossOriginProtection protects
// the whole application, and lets only the portal's POST through.
func ExampleSessions() {
	portals, err := oauth.NewPortals(oauth.Config{ClientID: "local.1", ClientSecret: "secret"}, oauth.NewMemoryStore())
	if err != nil {
		panic(err)
	}
	sessions, err := portals.Sessions(oauth.WithSessionKeys("a new key of 32 random bytes....", "the key before, until it is over."))
	if err != nil {
		panic(err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /page", func(w http.ResponseWriter, _ *http.Request) { // an oauth.PageHandler in a real application
		_, _ = sessions.Start(w, oauth.Installation{MemberID: "a223c6b3710f85df22e9377d6c4f7553", UserID: 7})
	})
	routes.Handle("POST /api/save", sessions.Require(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	protection := http.NewCrossOriginProtection()
	protection.AddInsecureBypassPattern("POST /page")
	handler := protection.Handler(routes)

	post := func(path, from string, cookies ...*http.Cookie) *http.Response {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "https://app.example.com"+path, nil)
		r.Header.Set("Sec-Fetch-Site", from)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Result()
	}
	opened := post("/page", "cross-site")
	defer opened.Body.Close() //nolint:errcheck // of a recorder
	cookies := opened.Cookies()
	for _, from := range []string{"same-origin", "cross-site"} {
		saved := post("/api/save", from, cookies...)
		_ = saved.Body.Close()
		fmt.Println(from, saved.StatusCode)
	}
	// Output:
	// same-origin 200
	// cross-site 403
}

// When the program starts, all portals get the bindings that this version wants, and those that
// removed the application in the meantime are noticed.
func ExampleReconcileAll() {
	ctx := context.Background()
	portal, err := eventtest.New() // a fake portal with an application
	if err != nil {
		panic(err)
	}
	defer func() { _ = portal.Close() }()
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}})
	if err != nil {
		panic(err)
	}
	_ = app.Install(ctx)
	granted, _ := app.Grant(eventtest.AdminID)

	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP()) // both for the fake portal
	if err != nil {
		panic(err)
	}
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	if err != nil {
		panic(err)
	}
	_, _ = portals.Seed(ctx, oauth.Installation{ // stored by an earlier installation
		MemberID: granted.MemberID, ClientEndpoint: granted.ClientEndpoint, ServerEndpoint: granted.ServerEndpoint,
		AccessToken: granted.AccessToken, RefreshToken: granted.RefreshToken, Expires: granted.Expires,
	})
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{Removed: func(context.Context, oauth.Installation) error {
		fmt.Println("closing the account")
		return nil
	}})
	event.On(mux, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })

	_, err = oauth.ReconcileAll(ctx, portals, api.Portal, mux.Bindings("app.example.com/bitrix24"))
	fmt.Println("a wrong URL fails at the start:", err != nil)
	want := mux.Bindings("https://app.example.com/bitrix24")
	report, err := oauth.ReconcileAll(ctx, portals, api.Portal, want)
	fmt.Println(report, err)
	_ = app.Uninstall(false) // while the program is down
	report, err = oauth.ReconcileAll(ctx, portals, api.Portal, want)
	fmt.Println(report, err)
	// Output:
	// a wrong URL fails at the start: true
	// portals: 1, unchanged: 0, changed: 1 (+4 -0 bindings), removed: 0, failed: 0 <nil>
	// closing the account
	// portals: 1, unchanged: 0, changed: 0 (+0 -0 bindings), removed: 1, failed: 0 <nil>
}
