package b24events_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// goBlocks finds the Go code of a Markdown file.
var goBlocks = regexp.MustCompile("(?s)```go\n(.*?)```")

// TestReadmeCodeIsTested makes sure that every Go block of the README stands, letter by letter, in
// a file that the tests compile: here, or in a module with dependencies of its own.
func TestReadmeCodeIsTested(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var code strings.Builder
	for _, name := range []string{"example_test.go", "webhook/sqlitestore/readme_test.go"} {
		file, err := os.ReadFile(name) //nolint:gosec // of this repository
		require.NoError(t, err)
		code.Write(file)
	}
	blocks := goBlocks.FindAllStringSubmatch(string(readme), -1)
	require.GreaterOrEqual(t, len(blocks), 6)
	for _, b := range blocks {
		require.Contains(t, code.String(), strings.TrimSpace(b[1]), "copy the README's block from example_test.go")
	}
}

// TestDocsCodeIsCompiled makes sure that every Go block of docs/dispatch.md stands in a file of the
// package that it is about.
func TestDocsCodeIsCompiled(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/dispatch.md")
	require.NoError(t, err)
	files, err := filepath.Glob("internal/dispatch/*.go")
	require.NoError(t, err)
	var code strings.Builder
	for _, name := range files {
		file, err := os.ReadFile(name) //nolint:gosec // of this repository
		require.NoError(t, err)
		code.Write(file)
	}
	blocks := goBlocks.FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 2)
	for _, b := range blocks {
		require.Contains(t, code.String(), strings.TrimSpace(b[1]))
	}
}

// TestReadmeCountsTheCatalogue holds the README's numbers of events to the catalogue.
func TestReadmeCountsTheCatalogue(t *testing.T) {
	t.Parallel()
	names, templates := 0, 0
	for info := range event.Catalog() {
		if strings.HasSuffix(info.Name, "_{TYPEID}") {
			templates++
		} else {
			names++
		}
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), fmt.Sprintf("%d names and %d name templates", names, templates))
}

// TestServe runs the README's way of serving: whatever was acknowledged before the end has been
// handled when it returns.
func TestServe(t *testing.T) {
	t.Parallel()
	handler, err := dealWatcher("0123456789abcdef0123456789abcdef")
	require.NoError(t, err)
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	require.Error(t, serve(t.Context(), taken.Addr().String(), handler), "the address is taken")

	ctx, cancel := context.WithCancel(t.Context())
	request, err := eventtest.NewRequest(ctx, event.OnCrmDealUpdate, event.CRMEntity{ID: 42}, eventtest.WithToken("0123456789abcdef0123456789abcdef"))
	require.NoError(t, err)
	handler.ServeHTTP(httptest.NewRecorder(), request)
	cancel()
	require.NoError(t, serve(ctx, "127.0.0.1:0", handler))
	require.EqualValues(t, 1, handler.Stats().Handled)
}

func TestNewApp(t *testing.T) {
	t.Parallel()
	handler, err := newApp(oauth.Config{ClientID: "app.1", ClientSecret: "secret"}, oauth.NewMemoryStore(), "https://example.com/bitrix24")
	require.NoError(t, err)
	require.NoError(t, handler.Shutdown(t.Context()))
	_, err = newApp(oauth.Config{}, oauth.NewMemoryStore(), "https://example.com/bitrix24")
	require.Error(t, err, "no credentials")
}

// TestAppAndQueue plays the README's application against a portal: install, a deal, the offline
// queue, uninstall.
func TestAppAndQueue(t *testing.T) {
	t.Parallel()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer server.Close()
	portal := eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: server.URL})
	require.NoError(t, err)
	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP(), rest.WithoutRateLimit())
	require.NoError(t, err)
	hook, err := webhook.NewHandler(portals, appMux(portals, api, server.URL), webhook.WithSync()) // answers when it is done
	require.NoError(t, err)
	handler = hook

	require.NoError(t, app.Install(t.Context()))
	require.NoError(t, portal.Wait(t.Context()))
	require.Len(t, portal.Bindings(), 4, "install, update, uninstall, new deals")
	_, err = portal.Add(eventtest.Deal, map[string]any{"TITLE": "Rocket"}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, portal.Wait(t.Context()))
	require.Equal(t, 1, portal.CallCount("crm.deal.get"))

	mux := event.NewMux()
	handled := make(chan event.CRMEntity, 1)
	event.On(mux, event.OnCrmLeadAdd, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
		handled <- e
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- work(ctx, api, portal.MemberID(), mux) }()
	require.Eventually(t, func() bool { return len(portal.Bindings()) == 5 }, 10*time.Second, time.Millisecond)
	id, err := portal.Add(eventtest.Lead, map[string]any{"TITLE": "Hope"}, eventtest.AdminID)
	require.NoError(t, err)
	select {
	case e := <-handled:
		require.Equal(t, id, e.ID)
	case <-time.After(30 * time.Second):
		t.Fatal("the record was not handled")
	}
	require.Eventually(t, func() bool { return len(portal.OfflineRows()) == 0 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-worked)

	ctx, cancel = context.WithCancel(t.Context())
	go func() { worked <- workAll(ctx, api, mux, []string{portal.MemberID()}) }()
	id, err = portal.Add(eventtest.Lead, map[string]any{"TITLE": "More"}, eventtest.AdminID)
	require.NoError(t, err)
	select {
	case e := <-handled:
		require.Equal(t, id, e.ID)
	case <-time.After(30 * time.Second):
		t.Fatal("the fleet did not handle the record")
	}
	cancel()
	require.NoError(t, <-worked)
	require.Error(t, workAll(t.Context(), api, mux, []string{""}), "no portal is named")

	require.NoError(t, app.Uninstall(true))
	require.NoError(t, portal.Wait(t.Context()))
	_, err = portals.Installation(t.Context(), portal.MemberID())
	require.ErrorIs(t, err, oauth.ErrNotFound)
	require.NoError(t, hook.Shutdown(t.Context()))
}

// TestWinDeal: the README's call as the user who acted is that user's.
func TestWinDeal(t *testing.T) {
	t.Parallel()
	portal := eventtest.NewPortal(t)
	clerk := portal.AddUser(eventtest.User{Name: "Clerk"})
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer server.Close()
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: server.URL})
	require.NoError(t, err)
	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	require.NoError(t, err)
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
		return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(server.URL))
	}})
	event.On(mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
		return winDeal(ctx, api, portals, d, e.ID)
	})
	hook, err := webhook.NewHandler(portals, mux, webhook.WithSync())
	require.NoError(t, err)
	handler = hook
	require.NoError(t, app.Install(t.Context()))
	require.NoError(t, portal.Wait(t.Context()))
	id, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "Rocket"}, clerk)
	require.NoError(t, err)
	require.NoError(t, portal.Wait(t.Context()))
	deal, ok := portal.Object(eventtest.Deal, id)
	require.True(t, ok)
	require.Equal(t, "WON", deal["STAGE_ID"])
	for _, call := range portal.Calls() {
		if call.Method == "crm.deal.update" {
			require.Equal(t, clerk, call.UserID)
		}
	}
	require.NoError(t, hook.Shutdown(t.Context()))
}

func TestOnPaid(t *testing.T) {
	t.Parallel()
	mux := event.NewMux()
	onPaid(mux)
	d, err := event.Parse("", []byte("event=ONBILLINGPAID&data[ORDER][ID]=7&data[SUM]=12.50&data[FULL]=Y"))
	require.NoError(t, err)
	require.NoError(t, mux.HandleEvent(t.Context(), d))
	d, err = event.Parse("", []byte("event=ONBILLINGPAID&data[ORDER][ID]=seven"))
	require.NoError(t, err)
	var misfits []event.Misfit
	ctx := event.WithMisfitReporter(t.Context(), func(_ context.Context, d *event.Delivery) { misfits = d.Misfits() })
	require.NoError(t, mux.HandleEvent(ctx, d), "the handler runs on what fits")
	require.Equal(t, []event.Misfit{{Path: "data.ORDER.ID", Want: "an integer of 64 bits"}}, misfits)
}
