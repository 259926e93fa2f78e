package eventtest_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// visits serves pages, and keeps the paths that were opened.
type visits struct {
	*httptest.Server

	mu    sync.Mutex
	paths []string
}

func newVisits(t *testing.T) *visits {
	t.Helper()
	v := &visits{paths: []string{}}
	v.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.paths = append(v.paths, r.URL.Path)
	}))
	t.Cleanup(v.Close)
	return v
}

// taken returns the paths that were opened since the last call.
func (v *visits) taken() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	paths := v.paths
	v.paths = []string{}
	return paths
}

// TestPageAddresses installs applications that have an installation page, a page, or both. It opens
// them before and after the installation is finished, and after a second installation.
func TestPageAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		installer, page string   // paths; empty for none
		atInstall       []string // opened by Install
		during, after   string   // opened while the installation lasts, and then
		atOnce          bool
	}{
		{"an installation page and a page", "/install", "/page", []string{"/install"}, "/install", "/page", false},
		{"one address for both", "/install", "", []string{"/install"}, "/install", "/install", false},
		{"no installation page", "", "/page", []string{}, "/page", "/page", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, v := eventtest.NewPortal(t), newVisits(t)
			at := func(path string) string {
				if path == "" {
					return ""
				}
				return v.URL + path
			}
			app, err := p.AddApp(eventtest.App{UI: true, HandlerURL: at(tt.installer), PageURL: at(tt.page)})
			require.NoError(t, err)
			open := func(want string) {
				t.Helper()
				require.Equal(t, at(want), app.PageURL())
				status, err := app.OpenPage(t.Context(), eventtest.AdminID, eventtest.Placement{})
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, status)
				require.Equal(t, []string{want}, v.taken())
			}
			for range 2 {
				_, err = app.OpenPage(t.Context(), eventtest.AdminID, eventtest.Placement{})
				require.ErrorIs(t, err, eventtest.ErrNotInstalled)
				require.NoError(t, app.Install(t.Context()))
				require.Equal(t, tt.atInstall, v.taken())
				require.Equal(t, tt.atOnce, app.Installed())
				open(tt.during)
				if tt.atOnce {
					require.ErrorIs(t, app.FinishInstall(), eventtest.ErrInstalled)
				} else {
					require.NoError(t, app.FinishInstall())
				}
				open(tt.after)
				require.NoError(t, app.Update())
				open(tt.after)
				require.Empty(t, p.Bindings(), "an application with pages binds its events itself")
				require.NoError(t, app.Uninstall(true))
			}
		})
	}
	for _, tt := range []struct {
		name string
		spec eventtest.App
	}{
		{"pages without an address", eventtest.App{UI: true}},
		{"a page without pages", eventtest.App{PageURL: "http://127.0.0.1:9/page"}},
		{"a page that is no URL", eventtest.App{UI: true, PageURL: "javascript:alert(1)"}},
		{"an installation page that is no URL", eventtest.App{UI: true, PageURL: "http://127.0.0.1:9/", HandlerURL: "install"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := eventtest.NewPortal(t).AddApp(tt.spec)
			require.ErrorIs(t, err, eventtest.ErrConfig)
		})
	}
}

// TestPageIsRedirectAddress sends the code of the OAuth flow to the page, because that is the
// application's address on the portal.
func TestPageIsRedirectAddress(t *testing.T) {
	t.Parallel()
	p, v := eventtest.NewPortal(t), newVisits(t)
	app, err := p.AddApp(eventtest.App{UI: true, HandlerURL: v.URL + "/install", PageURL: v.URL + "/page"})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	r, err := app.Redirected(t.Context(), eventtest.AdminID, "state")
	require.NoError(t, err)
	require.Equal(t, "/page", r.URL.Path)
}
