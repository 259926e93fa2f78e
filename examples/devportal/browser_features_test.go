package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// pageOfApp serves the page of an application under test. It finishes the installation on a click,
// as a page with a form would, and tries to reach the page around it.
func pageOfApp(t *testing.T, bx24 func() string) (server *httptest.Server, installs *atomic.Int32) {
	t.Helper()
	installs = new(atomic.Int32)
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.FormValue("AUTH_ID") != "" && r.Header.Get("Origin") != "" {
			installs.Add(1)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>App</title><script src="%s"></script>
<h1>Page of the application</h1><button id="finish">Finish</button><p id="out"></p>
<script>
const out = (text) => { document.getElementById('out').textContent += text + ' '; };
BX24.init(() => {
  out('token:' + (BX24.getAuth().access_token.length > 20) + ' admin:' + BX24.isAdmin());
  BX24.callMethod('crm.deal.add', { fields: { TITLE: 'From the page', UF_X: ['a', 'b'] } }, (r) => out('deal:' + r.data()));
  BX24.callMethod('crm.nothing', {}, (r) => out('error:' + r.error()));
  BX24.callBatch({ me: ['profile'], no: ['crm.deal.get', { id: 99 }] }, (r) => out('batch:' + r.me.data().ID + ',' + Boolean(r.no.error())));
  BX24.refreshAuth((auth) => out('fresh:' + (auth.access_token.length > 20)));
});
try { out('top:' + top.document.title); } catch { out('top:blocked'); }
try { out('parent:' + parent.document.title); } catch { out('parent:blocked'); }
document.getElementById('finish').addEventListener('click', () => BX24.installFinish());
</script>`, bx24())
	}))
	t.Cleanup(server.Close)
	return server, installs
}

// TestBrowserFrame installs an application with pages: its page opens in the frame, calls REST,
// cannot touch devportal, and finishes the installation.
func TestBrowserFrame(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	bx24 := p.state("").Portal.BX24
	server, installs := pageOfApp(t, func() string { return bx24 })
	sink := newSink(t)
	b := newTab(t)
	b.look(1280, 900, "light")
	b.open(p.page + "/")
	for name, text := range map[string]string{"client_id": "local.paged", "client_secret": "s3cret", "handler": sink.URL, "install_page": server.URL + "/install"} {
		b.reach(fmt.Sprintf(`#install-form [name=%s]`, name))
		b.fill(text)
	}
	b.reach(`#install-form button.primary`)
	b.press("Enter")
	b.until(`document.querySelector('#frame-box').open`)
	b.until(`document.querySelector('#frame').contentDocument.querySelector('#step').textContent.includes('installFinish')`)
	b.until(`document.querySelector('.card[data-app="local.paged"]').dataset.state === 'installing'`)
	app := b.frame(server.URL)
	for _, text := range []string{
		"token:true", "admin:true", "deal:1", "error:Method not found!", "batch:1,true", "fresh:true", "top:blocked", "parent:blocked",
	} {
		b.untilIn(app, fmt.Sprintf(`document.getElementById('out').textContent.includes(%q)`, text))
	}
	require.Equal(t, true, b.value(`document.querySelector('#frame').contentDocument.querySelector('iframe').contentDocument === null`), "it has an origin of its own")
	require.EqualValues(t, 1, installs.Load(), "the page was opened once, by the browser")

	b.evaluate(`document.getElementById('finish').click()`, app)
	b.until(`document.querySelector('.card[data-app="local.paged"]').dataset.state === 'installed'`)
	require.Eventually(t, func() bool { return installs.Load() == 2 }, patience, pollEvery, "the page of the installed application is opened")
	b.until(`document.querySelector('#frame').contentDocument.querySelector('#step').hidden`)
	b.click(`#frame-close`)
	b.until(`!document.querySelector('#frame-box').open`)
	require.Equal(t, "From the page", p.state("").Objects.Shown[0].Title)
	for _, complaint := range b.complaints() { // the page calls an unknown method
		require.Contains(t, complaint, "/rest/crm.nothing.json")
	}
}

// TestBrowserFeatures sees what an application called and wrote, resends all that failed, plans a
// fault, and switches portals, with the keyboard alone.
func TestBrowserFeatures(t *testing.T) {
	t.Parallel()
	p := start(t, programtest.Env{"DEVPORTAL_PORTALS": "2"})
	sink := newSink(t)
	sink.answer(http.StatusInternalServerError)
	p.post("/api/webhooks", `{"url":"`+sink.URL+`","events":"ONX"}`)
	p.post("/api/raise", `{"event":"ONX","times":3}`)
	p.post("/api/wait", "")
	hook := p.incoming(1)
	p.rest(hook, "crm.deal.add", "fields[TITLE]=Rocket&fields[COMMENTS]=\u202egnp.exe")
	b := newTab(t)
	b.look(1280, 900, "light")
	b.open(p.page + "/")
	enter := func(selector string) {
		t.Helper()
		b.reach(selector)
		b.press("Enter")
	}

	// Resend a selection, then all that failed.
	b.until(row(3, "failed", "ONX"))
	sink.answer(http.StatusOK)
	b.reach(`.row[data-id="2"] .pick`)
	b.press("Space")
	enter(`#resend-selected`)
	b.until(row(4, "acknowledged", "resend of 2"))
	b.until(`document.querySelector('#resend-failed').textContent === 'Resend all 2 failed'`)
	enter(`#resend-failed`)
	b.until(row(6, "acknowledged", "resend of"))
	b.until(`document.querySelector('#resend-failed').hidden`)

	// The call, its parameters and its answer.
	b.reach(`#tab-deliveries`)
	b.press("ArrowRight")
	b.until(`!document.querySelector('#calls').hidden && document.querySelector('#deliveries').hidden`)
	enter(`#call-list .summary`)
	b.until(`document.querySelector('#call-list .body .tree')?.textContent.includes('Rocket')`)
	require.Equal(t, true, b.value(`document.querySelector('#call-list .body').textContent.includes('\\u202e')`), "what turns the text is escaped")

	// The object and its fields, and what changes in it.
	b.reach(`#tab-calls`)
	b.press("ArrowRight")
	b.until(`!document.querySelector('#objects').hidden`)
	enter(`#object-list .summary`)
	b.until(`document.querySelector('#object-list .body')?.textContent.includes('Rocket')`)
	p.rest(hook, "crm.deal.update", "id=1&fields[TITLE]=Written+back")
	b.until(`[...document.querySelectorAll('#object-list dd.fresh')].some((d) => d.textContent.includes('Written back'))`)

	// A fault for the next call.
	b.reach(`#fault-form [name=method]`)
	b.fill("crm.deal.get")
	enter(`#fault-form button.primary`)
	b.until(`document.querySelector('#fault-list').textContent.includes('crm.deal.get the next call')`)
	status, _ := p.rest(hook, "crm.deal.get", "id=1")
	require.Equal(t, http.StatusServiceUnavailable, status)
	b.until(`document.querySelector('#fault-list').children.length === 0`)

	// An incoming webhook, and a user who leaves.
	b.click(`details:has(#incoming-form) > summary`)
	enter(`#incoming-form button.primary`)
	b.until(`document.querySelector('#incoming-url pre')?.textContent.includes('/rest/1/')`)
	b.click(`details:has(#user-form) > summary`)
	enter(`#user-list li:nth-child(2) button`)
	b.until(`document.querySelector('#user-list li:nth-child(2)').textContent.includes('dismissed')`)

	// The other portal, and back. Then this one gets a new name.
	second := p.state("").Portals[1]
	enter(`#portals a:not([aria-current])`)
	b.until(fmt.Sprintf(`location.port === %q && document.querySelector('#member')?.textContent === %q`, second.Port, second.MemberID))
	b.until(`document.querySelector('#live').dataset.state === 'live'`)
	require.Equal(t, true, b.value(`document.querySelector('#object-list').children.length === 0`), "it has its own objects")
	enter(`#rename`)
	b.until(fmt.Sprintf(`location.port !== %q && document.querySelector('#live')?.dataset.state === 'live'`, second.Port))
	require.NotEqual(t, second.Port, p.state("").Portals[1].Port)

	require.Equal(t, true, b.value(`document.documentElement.scrollWidth <= innerWidth`), "nothing sticks out")
	b.look(360, 740, "dark")
	require.Equal(t, true, b.value(`document.documentElement.scrollWidth <= innerWidth`), "on a phone neither")
	for _, complaint := range b.complaints() {
		// The browser reports the stream of the old address, which the rename ends.
		require.Contains(t, complaint, "/api/stream")
	}
}
