package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBrowserStranger opens a page of another origin of this machine, which tries to read and to
// change the portal in every way that a browser has.
func TestBrowserStranger(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>Stranger</title>
<iframe name="page" src="%[1]s/"></iframe><iframe name="formed"></iframe>
<form id="form" method="post" target="formed" enctype="text/plain" action="%[1]s/api/users"><input name='{"name":"by a form","last_name":"' value='"}'></form>
<script>
window.done = {};
const portal = %[1]q;
const attack = async (name, run) => { try { done[name] = String(await run()); } catch (e) { done[name] = 'blocked'; } };
const body = JSON.stringify({ name: 'a stranger' });
(async () => {
  await attack('read', async () => (await fetch(portal + '/api/state')).text());
  await attack('readOpaque', async () => (await fetch(portal + '/api/state', { mode: 'no-cors' })).text());
  await attack('post', async () => (await fetch(portal + '/api/users', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })).text());
  await attack('postPlain', async () => (await fetch(portal + '/api/users', { method: 'POST', mode: 'no-cors', body })).text());
  await attack('beacon', async () => navigator.sendBeacon(portal + '/api/users', body) && 'blocked');
  await attack('settings', async () => (await fetch(portal + '/api/apps/secret/settings', { method: 'POST', mode: 'no-cors', body: '{}' })).text());
  await attack('script', () => new Promise((resolve, reject) => { const s = document.createElement('script'); s.src = portal + '/api/state'; s.onload = () => resolve('loaded'); s.onerror = reject; document.head.append(s); }));
  await attack('stream', () => new Promise((resolve, reject) => { const s = new EventSource(portal + '/api/stream'); s.onmessage = (m) => resolve(m.data); s.onerror = reject; }));
  await attack('frame', async () => {
    for (;;) { // until the empty document of the start is replaced
      const text = frames.page.document.body.innerText;
      if (text) return text;
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
  });
  document.getElementById('form').submit();
  await new Promise((resolve) => { document.querySelector('[name=formed]').onload = resolve; });
  done.all = true;
})();
</script>`, p.page)
	}))
	defer server.Close()
	p.post("/api/apps", `{"client_id":"secret","client_secret":"the-secret-of-the-application"}`)
	before := p.state("")
	for _, origin := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)} { // same-site and cross-site
		b := newTab(t)
		b.do("Page.navigate", map[string]any{"url": origin + "/"}, nil)
		b.until(`window.done?.all === true`)
		for _, name := range []string{"read", "post", "script", "stream", "frame", "beacon"} {
			require.Equal(t, "blocked", b.value(`done.`+name), name)
		}
		for _, name := range []string{"readOpaque", "postPlain", "settings"} { // the browser lets nobody read these
			require.Contains(t, []any{"blocked", ""}, b.value(`done.`+name), name)
		}
	}
	after := p.state("")
	require.Equal(t, before.Users, after.Users, "nobody was added")
	require.Equal(t, before.Apps, after.Apps)
}

// TestBrowserMarkup gives everything that has a name or a payload one with markup. The page shows
// it as text.
func TestBrowserMarkup(t *testing.T) {
	t.Parallel()
	const markup = `<img/src=x/onerror=window.hacked=1>`
	p, sink := start(t, nil), newSink(t)
	p.post("/api/users", `{"name":"`+markup+`"}`)
	c := newBotCaller(t, p, markup)
	bot := c.register(markup, "")
	c.register("pushed", sink.URL+"/?"+url.QueryEscape(markup))
	c.call("im.v2.Event.subscribe", url.Values{})
	c.call("event.bind", url.Values{"event": {"ONCRMDEALADD"}, "event_type": {"offline"}, "auth_connector": {markup}, "auth": {c.access}})
	p.post("/api/apps", `{"client_id":"paged`+markup+`","page":"`+sink.URL+`/?`+markup+`","install_page":"`+sink.URL+`/?`+markup+`","in_browser":true}`)
	p.post("/api/webhooks", `{"url":"`+sink.URL+`/?`+markup+`","events":"ONCRMDEALADD,`+markup+`"}`)
	p.post("/api/raise", `{"event":"`+markup+`","data":{"`+markup+`":"`+markup+`"}}`)
	p.post("/api/objects", `{"kind":"deal","action":"add","fields":{"TITLE":"`+markup+`","`+markup+`":"`+markup+`"}}`)
	p.post("/api/objects", `{"kind":"message","action":"add","bot":`+bot+`,"fields":{"MESSAGE":"`+markup+`"}}`)
	p.rest(p.incoming(1), "crm.deal.add", url.Values{"fields[TITLE]": {markup}, markup: {markup}}.Encode())
	p.rest(p.incoming(1), url.PathEscape(markup), "")
	p.post("/api/wait", "")

	b := newTab(t)
	b.look(1280, 900, "light")
	b.open(p.page + "/")
	b.until(`document.querySelectorAll('#delivery-list .summary').length >= 2`)
	b.value(`document.querySelectorAll('details').forEach((d) => { d.open = true; })`)
	for _, tab := range []string{"deliveries", "calls", "objects"} {
		b.click(`#tab-` + tab)
		b.until(fmt.Sprintf(`document.querySelectorAll('#%s .summary').length > 0`, tab))
		b.value(fmt.Sprintf(`document.querySelectorAll('#%s .summary').forEach((s) => s.click())`, tab))
		b.until(fmt.Sprintf(`[...document.querySelectorAll('#%s .body')].some((e) => e.textContent.includes('onerror'))`, tab))
	}
	b.until(`document.querySelector('#polled-list').textContent.includes('onerror')`)
	b.until(`document.querySelector('#app-list').textContent.includes('onerror')`)
	b.until(`document.querySelector('#user-list').textContent.includes('onerror')`)
	require.Equal(t, true, b.value(`window.hacked === undefined && [...document.images].every((i) => i.src.endsWith('/static/favicon.svg'))`))
	b.do("Page.navigate", map[string]any{"url": p.page + "/frame?app=" + url.QueryEscape("paged"+markup)}, nil)
	b.until(`document.querySelector('#title')?.textContent.includes('onerror')`)
	b.until(`[...document.querySelectorAll('#user option')].some((o) => o.textContent.includes('onerror'))`)
	require.Equal(t, true, b.value(`window.hacked === undefined && document.images.length === 0`))
}
