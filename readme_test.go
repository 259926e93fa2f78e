package b24events_test

import (
	"context"
	"fmt"
	"log/slog"
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
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/polling"
	"github.com/b24events/b24events/rest"
)

// goBlocks finds the Go code of a Markdown file.
var goBlocks = regexp.MustCompile("(?s)```go\n(.*?)```")

// readmeFiles hold the Go code of the README.
var readmeFiles = []string{
	"example_test.go", "webhook/sqlitestore/readme_test.go", "examples/minimal/watch/main.go", "examples/minimal/app/main.go",
	"examples/minimal/mirror/main.go", "examples/receiver/readme_unix_test.go",
}

// TestReadmeCodeIsTested makes sure that every Go block of the README stands, letter by letter, in
// a file that the tests compile: here, or in a module with dependencies of its own.
func TestReadmeCodeIsTested(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var code strings.Builder
	for _, name := range readmeFiles {
		file, err := os.ReadFile(name) //nolint:gosec // of this repository
		require.NoError(t, err)
		code.Write(file)
	}
	blocks := goBlocks.FindAllStringSubmatch(string(readme), -1)
	require.GreaterOrEqual(t, len(blocks), 6)
	for _, b := range blocks {
		if !strings.Contains(code.String(), strings.TrimSpace(b[1])) { // require.Contains would print all files
			t.Errorf("copy this block from one of %v:\n%s", readmeFiles, b[1])
		}
	}
}

// TestReadmesAgree: the Russian README has the headings of the English one, and its code.
func TestReadmesAgree(t *testing.T) {
	t.Parallel()
	headings, fences := regexp.MustCompile(`(?m)^#+ `), regexp.MustCompile("(?ms)^```.*?^```$")
	shape := func(name string) (levels, code []string) {
		page, err := os.ReadFile(name) //nolint:gosec // of this repository
		require.NoError(t, err)
		code = fences.FindAllString(string(page), -1)
		return headings.FindAllString(fences.ReplaceAllString(string(page), ""), -1), code
	}
	levels, code := shape("README.md")
	russianLevels, russianCode := shape("README.ru.md")
	require.NotEmpty(t, code)
	require.Equal(t, code, russianCode)
	require.Equal(t, levels, russianLevels)
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

// readmePortal is a portal with an application that is installed, and the application's access.
func readmePortal(t *testing.T) (*eventtest.Portal, *oauth.Portals, *rest.Clients) {
	t.Helper()
	portal := eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm", "im", "imbot"}})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	grant, err := app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	_, err = portals.Seed(t.Context(), oauth.Installation{
		MemberID: grant.MemberID, ClientEndpoint: grant.ClientEndpoint, ServerEndpoint: grant.ServerEndpoint,
		AccessToken: grant.AccessToken, RefreshToken: grant.RefreshToken, ApplicationToken: grant.ApplicationToken,
	})
	require.NoError(t, err)
	api, err := rest.NewClients(portals, rest.WithoutRateLimit())
	require.NoError(t, err)
	return portal, portals, api
}

// TestWorkAll: the README's fleet handles a change of its portal.
func TestWorkAll(t *testing.T) {
	t.Parallel()
	portal, _, api := readmePortal(t)
	mux := event.NewMux()
	handled := make(chan event.CRMEntity, 1)
	event.On(mux, event.OnCrmLeadAdd, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
		handled <- e
		return nil
	})
	require.NoError(t, event.NewAPI(api.Portal(portal.MemberID())).Reconcile(t.Context(), mux.OfflineBindings("")))
	ctx, cancel := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- workAll(ctx, slog.New(slog.DiscardHandler), api, mux, []string{portal.MemberID()}) }()
	id, err := portal.Add(eventtest.Lead, map[string]any{"TITLE": "More"}, eventtest.AdminID)
	require.NoError(t, err)
	select {
	case e := <-handled:
		require.Equal(t, id, e.ID)
	case <-time.After(time.Minute):
		t.Fatal("the fleet did not handle the record")
	}
	cancel()
	require.NoError(t, <-worked)
	require.Error(t, workAll(t.Context(), slog.New(slog.DiscardHandler), api, mux, []string{""}), "no portal is named")
}

// TestEcho: the README's bot answers.
func TestEcho(t *testing.T) {
	t.Parallel()
	portal, _, api := readmePortal(t)
	client := api.Portal(portal.MemberID())
	var registered struct {
		Bot event.ChatBot `json:"bot"`
	}
	require.NoError(t, client.Call(t.Context(), "imbot.v2.Bot.register", map[string]any{
		"fields": map[string]any{"code": "echo", "properties": map[string]any{"name": "Echo"}},
	}, &registered))
	_, err := portal.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": registered.Bot.ID, "MESSAGE": "Hello"}, eventtest.AdminID)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- echo(ctx, client, registered.Bot.ID, polling.NewMemoryStore()) }()
	require.Eventually(t, func() bool { return portal.CallCount("imbot.v2.Chat.Message.send") == 1 }, time.Minute, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

// TestExplain: the README's diagnosis asks the portal and prints what it finds.
func TestExplain(t *testing.T) {
	t.Parallel()
	portal, portals, api := readmePortal(t)
	handler := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(handler.Close)
	want := []event.Binding{{Event: event.OnCrmDealAdd.Name(), Handler: handler.URL + "/bitrix24"}}
	require.NoError(t, explain(t.Context(), portals, api.Portal(portal.MemberID()), portal.MemberID(), want))
	require.Equal(t, 1, portal.CallCount("event.get"))
	require.ErrorIs(t, explain(t.Context(), nil, api.Portal(portal.MemberID()), portal.MemberID(), want), doctor.ErrConfig)
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
