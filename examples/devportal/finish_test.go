package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// pagedApp is an application with an installation page and a page, as a user of this library would
// write it. It has the settings that devportal's page copies.
type pagedApp struct {
	*httptest.Server

	opened atomic.Int32 // how often its page was opened
}

func newPagedApp(t *testing.T) (a *pagedApp, start func(settings string)) {
	t.Helper()
	a = &pagedApp{}
	routes := http.NewServeMux()
	a.Server = httptest.NewServer(routes)
	t.Cleanup(a.Close)
	return a, func(settings string) {
		env := map[string]string{}
		for line := range strings.Lines(settings) {
			name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
			env[name] = strings.Trim(value, "'")
		}
		cfg, opts, err := oauth.FromEnv(func(name string) string { return env[name] })
		require.NoError(t, err)
		portals, err := oauth.NewPortals(cfg, oauth.NewMemoryStore(), opts...)
		require.NoError(t, err)
		api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
		require.NoError(t, err)
		mux := event.NewMux()
		event.On(mux, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
		portals.Lifecycle(mux, oauth.Hooks{Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(env["PUBLIC_URL"]))
		}})
		hook, err := webhook.NewHandler(portals, mux, webhook.WithSync())
		require.NoError(t, err)
		install, err := oauth.PageHandler(portals.Install, portals.FinishInstall(nil))
		require.NoError(t, err)
		routes.Handle("/events", hook)
		routes.Handle("/install", install)
		routes.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
			a.opened.Add(1)
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = fmt.Fprint(w, `<!doctype html><title>App</title><h1>The page of the application</h1>`)
		})
	}
}

// TestBrowserFinishInstall opens an application whose installation page is that of FinishInstall.
// It finishes the installation through devportal's BX24, and the frame goes on to the
// application's page. Opened again, that page comes at once.
func TestBrowserFinishInstall(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	a, begin := newPagedApp(t)
	form := `"client_id":"local.paged","client_secret":"the-secret-of-the-application","scope":"crm","handler":"` + a.URL +
		`/events","install_page":"` + a.URL + `/install","page":"` + a.URL + `/page"`
	begin(settingsText(t, p.post("/api/settings", "{"+form+"}")))
	p.post("/api/apps", "{"+form+`,"install":false}`)

	b := newTab(t)
	b.look(1280, 900, "light")
	b.open(p.page + "/")
	b.until(`document.querySelector('.card[data-app="local.paged"]').dataset.state === 'not_installed'`)
	b.click(`.card[data-app="local.paged"] .buttons button`)
	b.until(`document.querySelector('.card[data-app="local.paged"]').dataset.state === 'installed'`)
	require.Eventually(t, func() bool { // the frame's document is replaced
		is, err := b.tryScript(`document.querySelector('h1')?.textContent === 'The page of the application'`, b.frame(a.URL))
		return err == nil && is == true
	}, patience, pollEvery)
	require.EqualValues(t, 1, a.opened.Load())
	b.until(`document.querySelector('#frame').contentDocument.querySelector('#step').hidden`)
	b.click(`#frame-close`)
	b.until(`!document.querySelector('#frame-box').open`)

	b.until(`document.querySelector('.card[data-app="local.paged"] .bound').textContent.includes('ONCRMDEALADD')`)
	require.Equal(t, true, p.post("/api/objects", `{"kind":"deal","action":"add"}`)["heard"])
	p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged > 0 })

	b.click(`.card[data-app="local.paged"] .buttons button`)
	require.Eventually(t, func() bool { return a.opened.Load() == 2 }, patience, pollEvery, "the page, and not the installer again")
	require.Empty(t, b.complaints())
}

// TestBrowserUnfinished shows that an application whose installation page has not called
// BX24.installFinish gets no events, although it has bound them.
func TestBrowserUnfinished(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	v := newVisits(t)
	b := newTab(t)
	b.look(1280, 900, "light")
	b.open(p.page + "/")
	for name, text := range map[string]string{
		"client_id": "local.paged", "client_secret": "s3cret", "handler": v.URL + "/events", "install_page": v.URL + "/install", "page": v.URL + "/page",
	} {
		b.reach(fmt.Sprintf(`#install-form [name=%s]`, name))
		b.fill(text)
	}
	b.reach(`#add-only`)
	b.press("Enter")
	b.until(`document.querySelector('.card[data-app="local.paged"]').dataset.state === 'not_installed'`)
	b.click(`.card[data-app="local.paged"] .buttons button`)
	b.until(`document.querySelector('.card[data-app="local.paged"]').dataset.state === 'installing'`)
	b.until(`document.querySelector('.card[data-app="local.paged"] .silence').textContent.includes('BX24.installFinish')`)
	require.Eventually(t, func() bool { return len(v.taken()) > 0 }, patience, pollEvery)
	b.click(`#frame-close`)
	access := fmt.Sprint(p.post("/api/apps/local.paged/grant", "")["access_token"])
	_, text := p.rest(p.state("").Portal.ClientEndpoint, "event.bind", "auth="+access+"&event=ONCRMDEALADD&handler="+v.URL+"/events")
	require.Contains(t, text, `"result":true`, "it may bind events")
	b.until(`document.querySelector('.card[data-app="local.paged"] .bound').textContent.includes('ONCRMDEALADD')`)
	require.Equal(t, true, b.value(`document.querySelector('.card[data-app="local.paged"] .silence') !== null`))
	b.click(`#change-form button.primary`)
	b.until(`document.querySelector('#said').textContent.includes('has bound ONCRMDEALADD, but gets no events: its installation is not finished')`)
	require.Empty(t, p.state("").Deliveries.Shown)
	require.Empty(t, b.complaints())
}
