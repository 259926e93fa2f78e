package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// visits serves the pages of an application, and keeps the paths that were opened.
type visits struct {
	*httptest.Server

	mu    sync.Mutex
	paths []string
}

func newVisits(t *testing.T) *visits {
	t.Helper()
	v := &visits{}
	v.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.paths = append(v.paths, r.URL.Path)
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *visits) taken() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	paths := v.paths
	v.paths = nil
	return paths
}

// TestTwoAddresses opens applications before and after their installation is finished: the
// installation page, then the page, also when it is opened again.
func TestTwoAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		addresses     string
		opened        []string // by the installation
		state         string   // after it
		during, after string
	}{
		{"both", `"install_page":"URL/install","page":"URL/page"`, []string{"/install"}, "installing", "/install", "/page"},
		{"only an installation page", `"install_page":"URL/install"`, []string{"/install"}, "installing", "/install", "/install"},
		{"only a page", `"page":"URL/page"`, nil, "installed", "/page", "/page"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, v := start(t, nil), newVisits(t)
			p.post("/api/apps", `{"client_id":"a",`+strings.ReplaceAll(tt.addresses, "URL", v.URL)+`}`)
			require.Equal(t, tt.opened, v.taken())
			require.Equal(t, tt.state, p.state("").Apps[0].State)
			p.post("/api/apps/a/open", "")
			require.Equal(t, []string{tt.during}, v.taken())
			require.Contains(t, p.post("/api/apps/a/frame", "")["action"], v.URL+tt.during+"?")
			if tt.state == "installing" {
				p.post("/api/apps/a/finish", "")
			}
			require.Contains(t, p.refuse("/api/apps/a/finish", "", http.StatusConflict), "nothing to finish")
			for range 2 {
				p.post("/api/apps/a/open", "")
				require.Equal(t, []string{tt.after}, v.taken())
				require.Contains(t, p.post("/api/apps/a/frame", "")["action"], v.URL+tt.after+"?")
			}
		})
	}
}

// TestFrameOfTwoOrigins lets the document around the pages frame both of them, and no address of
// devportal itself.
func TestFrameOfTwoOrigins(t *testing.T) {
	t.Parallel()
	p, installer, page := start(t, nil), newVisits(t), newVisits(t)
	p.post("/api/apps", `{"client_id":"a","install_page":"`+installer.URL+`/","page":"`+page.URL+`/","in_browser":true}`)
	_, headers, _ := p.request(http.MethodGet, "/frame?app=a", "")
	require.Contains(t, headers.Get("Content-Security-Policy"), "frame-src "+installer.URL+" "+page.URL+";")
	require.Contains(t, headers.Get("Content-Security-Policy"), "form-action "+installer.URL+" "+page.URL+";")
	p.post("/api/apps", `{"client_id":"b","install_page":"`+installer.URL+`/","page":"`+p.page+`/","in_browser":true}`)
	require.Contains(t, p.refuse("/api/apps/b/frame", "", 400), "devportal itself", "also while the other page is opened")
	status, _, _ := p.request(http.MethodGet, "/frame?app=b", "")
	require.Equal(t, http.StatusBadRequest, status)
}

// TestAddWithoutInstalling registers an application first and installs it later. Each step that
// does not fit says what to do.
func TestAddWithoutInstalling(t *testing.T) {
	t.Parallel()
	p, sink := start(t, nil), newSink(t)
	require.Equal(t, map[string]any{"id": "a"}, p.post("/api/apps", `{"client_id":"a","handler":"`+sink.URL+`","install":false}`))
	app := p.state("").Apps[0]
	require.Equal(t, []any{"not_installed", false, "it is not installed"}, []any{app.State, app.GetsEvents, app.Why})
	require.Empty(t, sink.last())
	require.NotContains(t, settingsText(t, p.post("/api/apps/a/settings", "")), "B24_ACCESS_TOKEN")
	require.Contains(t, p.refuse("/api/apps", `{"client_id":"a"}`, http.StatusConflict), "POST /api/apps/{id}/install")
	p.refuse("/api/apps/a/finish", "", http.StatusConflict)

	require.Equal(t, map[string]any{"id": "a"}, p.post("/api/apps/a/install", ""))
	p.post("/api/wait", "")
	require.Contains(t, sink.last(), "ONAPPINSTALL")
	require.True(t, p.state("").Apps[0].GetsEvents)
	require.Contains(t, settingsText(t, p.post("/api/apps/a/settings", "")), "B24_ACCESS_TOKEN")
	for _, again := range []struct{ path, body string }{{"/api/apps/a/install", ""}, {"/api/apps", `{"client_id":"a"}`}} {
		text := p.refuse(again.path, again.body, http.StatusConflict)
		require.Contains(t, text, "installed", again.path)
		require.Contains(t, text, "/uninstall first", again.path)
	}
	p.post("/api/apps/a/uninstall", "")
	p.post("/api/apps/a/install", "")

	p.post("/api/apps", `{"client_id":"b","install_page":"`+sink.URL+`","in_browser":true}`)
	require.Contains(t, p.refuse("/api/apps/b/install", "", http.StatusConflict), "waits for BX24.installFinish")
	require.Contains(t, p.refuse("/api/apps", `{"in_browser":true,"install":false,"page":"`+sink.URL+`"}`, 400), "install=false")
	p.post("/api/apps", `{"client_id":"c","install":false}`)
	require.Contains(t, p.refuse("/api/apps/c/install", `{"in_browser":true}`, 400), "no page")
}

// TestHeard checks whether an event reaches anything, and what is said if it does not.
func TestHeard(t *testing.T) {
	t.Parallel()
	p, sink := start(t, nil), newSink(t)
	raise := func() (heard, why any) {
		t.Helper()
		out := p.post("/api/objects", `{"kind":"deal","action":"add"}`)
		again := p.post("/api/raise", `{"event":"ONCRMDEALADD"}`)
		require.Equal(t, out["heard"], again["heard"])
		require.Equal(t, out["why"], again["why"])
		return out["heard"], out["why"]
	}
	silent := func(why string) {
		t.Helper()
		heard, text := raise()
		require.Equal(t, false, heard)
		require.Contains(t, text, why)
	}
	silent("no application and no webhook has bound ONCRMDEALADD")

	p.post("/api/apps", `{"client_id":"a","install_page":"`+sink.URL+`","scope":"crm","in_browser":true}`)
	access, ok := p.post("/api/apps/a/grant", "")["access_token"].(string)
	require.True(t, ok)
	_, text := p.rest(p.state("").Portal.ClientEndpoint, "event.bind", "auth="+access+"&event=ONCRMDEALADD&handler="+sink.URL)
	require.Contains(t, text, `"result":true`)
	silent("installation is not finished")
	app := p.state("").Apps[0]
	require.Equal(t, 1, app.Bound, "it has bound the event, and gets none")
	require.False(t, app.GetsEvents)
	require.Contains(t, app.Why, "BX24.installFinish")
	require.Empty(t, p.state("").Deliveries.Shown)

	p.post("/api/apps/a/finish", "")
	heard, why := raise()
	require.Equal(t, true, heard)
	require.Nil(t, why)
	p.post("/api/wait", "")
	require.Len(t, p.state("").Deliveries.Shown, 2)
	for body, why := range map[string]string{`{"active":false}`: "switched off", `{"active":true,"payment_expired":true}`: "subscription"} {
		p.post("/api/apps/a/status", `{"active":true,"payment_expired":false}`)
		p.post("/api/apps/a/status", body)
		silent(why)
		require.Contains(t, p.state("").Apps[0].Why, why)
	}
	p.post("/api/wait", "")
	require.Len(t, p.state("").Deliveries.Shown, 2, "so nothing was sent")
	p.post("/api/webhooks", `{"url":"`+sink.URL+`","events":"ONCRMDEALADD"}`)
	heard, _ = raise()
	require.Equal(t, true, heard, "the webhook gets it")
}

// TestHeardItems raises the general event of items and that of their smart process, and no other.
func TestHeardItems(t *testing.T) {
	t.Parallel()
	for event, heard := range map[string]bool{
		"ONCRMDYNAMICITEMADD": true, "ONCRMDYNAMICITEMADD_147": true, "ONCRMDYNAMICITEMADD_148": false, "ONCRMDYNAMICITEMUPDATE": false,
	} {
		t.Run(event, func(t *testing.T) {
			t.Parallel()
			p, sink := start(t, nil), newSink(t)
			p.post("/api/webhooks", `{"url":"`+sink.URL+`","events":"`+event+`"}`)
			require.Equal(t, heard, p.post("/api/objects", `{"kind":"item","action":"add"}`)["heard"])
			want := 0
			if heard {
				want = 1
			}
			require.InDelta(t, want, p.post("/api/wait", "")["acknowledged"], 0)
		})
	}
}

// TestFaultTexts checks that each code has its own status and text, and that a code without one
// needs it.
func TestFaultTexts(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	hook := p.incoming(1)
	texts := map[string]string{}
	for code, known := range knownErrors() {
		p.post("/api/faults", `{"method":"server.time","fault":"error","code":"`+code+`"}`)
		status, text := p.rest(hook, "server.time", "")
		require.Equal(t, known.status, status, code)
		require.Contains(t, text, `"error":"`+code+`"`)
		require.Contains(t, text, `"error_description":"`+known.text+`"`)
		require.Empty(t, texts[known.text], "two codes have one text")
		texts[known.text] = code
	}
	p.post("/api/faults", `{"method":"server.time","fault":"error"}`)
	_, text := p.rest(hook, "server.time", "")
	require.Contains(t, text, "QUERY_LIMIT_EXCEEDED")
	p.post("/api/faults", `{"method":"server.time","fault":"error","status":418,"code":"MINE","description":"My own"}`)
	status, text := p.rest(hook, "server.time", "")
	require.Equal(t, 418, status)
	require.Contains(t, text, "My own")
	p.post("/api/faults", `{"method":"server.time","fault":"error","code":"ACCESS_DENIED","description":"Not you"}`)
	_, text = p.rest(hook, "server.time", "")
	require.Contains(t, text, "Not you")
	for _, body := range []string{`"code":"MINE"`, `"code":"MINE","status":400`, `"code":"MINE","description":"x"`} {
		require.Contains(t, p.refuse("/api/faults", `{"method":"*","fault":"error",`+body+`}`, 400), "give status and description")
	}
	require.Contains(t, p.refuse("/api/faults", `{"method":"*","fault":"error","status":500}`, 400), "needs its code")
}
