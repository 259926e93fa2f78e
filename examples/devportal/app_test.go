package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// application is a handler under test, as a user of this library would write it: it verifies its
// installation at the portal's OAuth server and binds what it handles.
type application struct {
	t       *testing.T
	server  *httptest.Server
	handler http.Handler
	url     string
	id      string
	secret  string
	portals *oauth.Portals
	api     *rest.Clients
}

func newApplication(t *testing.T, p *process) *application {
	t.Helper()
	return newApplicationAt(t, p, "127.0.0.1:0")
}

func newApplicationAt(t *testing.T, p *process, addr string) *application {
	t.Helper()
	a := &application{t: t, id: "local.under.test", secret: "a-secret-of-the-application"}
	a.listen(addr)
	a.url = a.server.URL + "/bitrix24/events"
	var err error
	a.portals, err = oauth.NewPortals(oauth.Config{ClientID: a.id, ClientSecret: event.Secret(a.secret)}, oauth.NewMemoryStore(),
		oauth.WithHosts(p.state("").Portal.OAuthHost), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	a.api, err = rest.NewClients(a.portals, rest.WithInsecureHTTP(), rest.WithoutRateLimit())
	require.NoError(t, err)
	mux := event.NewMux()
	a.portals.Lifecycle(mux, oauth.Hooks{Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
		return event.NewAPI(a.api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(a.url))
	}})
	event.On(mux, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
	hook, err := webhook.NewHandler(a.portals, mux, webhook.WithSync())
	require.NoError(t, err)
	a.handler = hook
	return a
}

// listen serves the application at an address, for example again after stop.
func (a *application) listen(addr string) {
	a.t.Helper()
	l, err := new(net.ListenConfig).Listen(a.t.Context(), "tcp", addr)
	require.NoError(a.t, err)
	a.server = &httptest.Server{
		Listener: l,
		Config: &http.Server{ //nolint:gosec // for a test
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }),
		},
	}
	a.server.Start()
	a.t.Cleanup(a.server.Close)
}

func (a *application) stop() { a.server.Close() }

func (a *application) startAgain() { a.listen(a.server.Listener.Addr().String()) }

// form returns the request that the page sends to install the application.
func (a *application) form() string {
	return `{"client_id":"` + a.id + `","client_secret":"` + a.secret + `","handler":"` + a.url + `","scope":"crm, task"}`
}
