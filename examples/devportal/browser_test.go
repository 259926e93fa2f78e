package main

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// TestBrowser does what a developer does on the page, with the mouse and with the keyboard alone.
// It installs an application, raises an event and sees it turn green. It stops the handler, sees
// the event fail, and reads that the platform does not retry. Then it starts the handler and
// resends.
func TestBrowser(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name string
		do   func(b *tab, selector string)
	}{
		{"mouse", (*tab).click},
		{"keyboard", func(b *tab, selector string) {
			b.reach(selector)
			b.press("Enter")
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nil)
			a := newApplication(t, p)
			b := newTab(t)
			b.look(1280, 900, "light")
			b.open(p.page + "/")
			require.Equal(t, true, b.value(`document.querySelector('#install-box').open`), "the first thing to do")
			for name, text := range map[string]string{"client_id": a.id, "client_secret": a.secret, "handler": a.url} {
				b.reach(fmt.Sprintf(`#install-form [name=%s]`, name))
				b.fill(text)
			}
			way.do(b, `#install-form button.primary`)
			b.until(`document.querySelector('#said').textContent === 'Installed.'`)
			b.until(`document.querySelector('.card[data-app="local.under.test"]').dataset.state === 'installed'`)
			b.until(`document.querySelector('.card[data-app] .bound').textContent.includes('ONCRMDEALADD')`)
			b.until(row(1, "acknowledged", "ONAPPINSTALL"))

			way.do(b, `#change-form button.primary`)
			b.until(`document.querySelector('#said').textContent === 'Deal 1 added.'`)
			b.until(row(2, "acknowledged", "ONCRMDEALADD"))
			require.Equal(t, true, b.value(`document.querySelector('.row[data-id="2"] .badge').textContent.startsWith('acknowledged')`), "in words, too")

			a.stop()
			b.reach(`#cause .disclosure > summary`)
			b.press("Enter")
			b.reach(`#raise-form [name=event]`)
			b.fill("oncrmdealadd")
			b.reach(`#raise-form [name=data]`)
			b.fill(`{"FIELDS": {"ID": 77, "N": 12345678901234567}, "TITLE": "<img src=x onerror=alert(1)>"}`)
			way.do(b, `#raise-form button.primary`)
			b.until(row(3, "failed", "crm.deal 77"))
			require.Contains(t, b.value(`document.querySelector('.row[data-id="3"] .verdict').innerText`), "will not try again")
			require.Contains(t, b.value(`document.querySelector('#announced').textContent`), "will not try again", "for screen readers")

			a.startAgain()
			way.do(b, `.row[data-id="3"] .verdict button`)
			b.until(row(4, "acknowledged", "resend of 3"))
			b.until(`document.querySelector('.row[data-id="3"] .verdict').textContent.includes('resent as 4')`)

			way.do(b, `.row[data-id="3"] .summary`)
			b.until(`document.querySelector('#delivery-3 .tree')?.textContent.includes('<img src=x')`)
			require.Equal(t, true, b.value(`document.querySelector('#delivery-3 .tree').textContent.includes('"12345678901234567"')`),
				"digits stay digits")
			require.Equal(t, false, b.value(`!!document.querySelector('#deliveries img')`), "text stays text")
			require.Equal(t, true, b.value(`document.querySelector('#delivery-3 .reveal').hidden`), "tokens are shown on request only")
			way.do(b, `#delivery-3 [aria-expanded]`)
			b.until(`document.querySelector('#delivery-3 .reveal pre')?.textContent.includes('auth%5Bapplication_token%5D=')`)

			way.do(b, `#quirk-no_user`)
			if way.name == "keyboard" { // Enter sends a form, Space turns a switch
				b.press("Space")
			}
			b.until(`document.querySelector('#quirk-no_user').checked`)
			require.Eventually(t, func() bool { return p.state("").Quirks.NoUser }, patience, pollEvery)

			require.Equal(t, true, b.value(`document.documentElement.scrollWidth <= innerWidth`), "nothing sticks out")
			b.look(360, 740, "dark")
			require.Equal(t, true, b.value(`document.documentElement.scrollWidth <= innerWidth`), "on a phone neither")
			require.Empty(t, b.complaints())
		})
	}
}

// row returns a script that reports whether a delivery is shown in a state and with a text.
func row(id int, state, text string) string {
	return fmt.Sprintf(`(() => {
		const r = document.querySelector('.row[data-id="%d"]');
		return r?.dataset.state === %q && r.textContent.includes(%q);
	})()`, id, state, text)
}

// TestLostConnection stops the program while the page is open. The page says so.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	b := newTab(t)
	b.open(p.page + "/")
	p.Signals <- nil
	b.until(`document.querySelector('#live').dataset.state === 'lost'`)
	require.Contains(t, b.value(`document.querySelector('#live').textContent`), "is devportal running?")
}

var (
	pictures = flag.String("pictures", "", "folder to write pictures of the page to")
	views    = flag.String("views", "devportal", "which pictures: devportal, which is the README's, or all")
)

// TestPictures takes the screenshot for the README: go test ./examples/devportal -run TestPictures
// -pictures "$PWD/docs".
func TestPictures(t *testing.T) {
	t.Parallel()
	if *pictures == "" {
		t.Skip("takes pictures of the page with -pictures FOLDER")
	}
	env := programtest.Env{"DEVPORTAL_LISTEN": "127.0.0.1:8024"}
	if *views == "all" {
		env["DEVPORTAL_PORTALS"] = "3"
	}
	p := start(t, env)
	a := newApplicationAt(t, p, "127.0.0.1:8080")
	p.post("/api/apps", a.form())
	p.await("", func(s snapshot) bool { return len(s.Apps[0].Bindings) == 4 && s.Deliveries.Acknowledged == 1 })
	portal := a.api.Portal(p.state("").Portal.MemberID)
	require.NoError(t, portal.Call(t.Context(), "event.bind", map[string]any{"event": "ONCRMDEALUPDATE", "event_type": "offline"}, nil))
	require.NoError(t, portal.Call(t.Context(), "event.bind", map[string]any{"event": "ONTASKADD", "event_type": "offline"}, nil))
	require.Error(t, portal.Call(t.Context(), "event.bind", map[string]any{"event": "ONMADEUP", "handler": a.url}, nil))
	p.post("/api/quirks", `{"rate_per_second":2,"rate_burst":50}`)
	p.post("/api/webhooks", `{"url":"http://127.0.0.1:8080/bitrix24/webhook","events":"ONUSERADD"}`)
	p.post("/api/objects", `{"kind":"deal","action":"add","times":4}`)
	p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged == 5 })
	p.post("/api/objects", `{"kind":"deal","action":"update","id":1,"times":3}`)
	p.post("/api/objects", `{"kind":"deal","action":"update","id":2}`)
	var reserved struct {
		ProcessID string `json:"process_id"`
		Events    []struct {
			MessageID string `json:"MESSAGE_ID"`
		} `json:"events"`
	}
	require.NoError(t, portal.Call(t.Context(), "event.offline.get", map[string]any{"clear": 0}, &reserved))
	require.NoError(t, portal.Call(t.Context(), "event.offline.error",
		map[string]any{"process_id": reserved.ProcessID, "message_id": []string{reserved.Events[1].MessageID}}, nil))
	p.post("/api/objects", `{"kind":"deal","action":"update","id":3,"user":2}`)
	p.post("/api/objects", `{"kind":"task","action":"add","user":0}`)
	a.stop()
	p.post("/api/objects", `{"kind":"deal","action":"add","user":2}`)
	p.await("", func(s snapshot) bool { return s.Deliveries.Failed == 1 })
	a.startAgain()
	p.post("/api/objects", `{"kind":"deal","action":"add"}`)
	p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged == 6 })

	if *views == "all" {
		server, _ := pageOfApp(t, func() string { return p.page + scriptPath })
		p.post("/api/apps", `{"client_id":"local.paged","handler":"http://127.0.0.1:8080/x","install_page":"`+server.URL+`/install","in_browser":true}`)
		p.post("/api/faults", `{"method":"crm.deal.get","fault":"bom","times":3}`)
	}
	b := newTab(t)
	for _, shot := range []struct {
		name          string
		width, height int
		scheme        string
		full, open    bool
		tab           string
	}{
		{"devportal", 1360, 850, "light", false, false, ""},
		{"devportal-open", 1360, 1300, "light", false, true, ""},
		{"devportal-calls", 1360, 900, "light", false, false, "calls"},
		{"devportal-objects-dark", 1360, 900, "dark", false, false, "objects"},
		{"devportal-dark", 1700, 900, "dark", false, false, ""},
		{"devportal-tablet", 900, 1100, "dark", false, false, ""},
		{"devportal-phone", 390, 1900, "light", false, false, ""},
		{"devportal-phone-objects", 390, 1900, "dark", false, false, "objects"},
		{"devportal-phone-calls", 390, 1500, "dark", false, false, "calls"},
		{"devportal-forms", 1360, 1500, "light", true, false, "forms"},
		{"devportal-frame", 1360, 900, "light", false, false, "frame"},
		{"devportal-phone-frame", 390, 844, "dark", false, false, "frame"},
	} {
		if *views != "all" && *views != shot.name {
			continue
		}
		b.look(shot.width, shot.height, shot.scheme)
		b.open(p.page + "/")
		b.until(row(7, "acknowledged", "crm.deal 6"))
		if shot.open {
			b.click(`.row[data-id="6"] .summary`)
			b.until(`!!document.querySelector('#delivery-6 .tree')`)
			b.value(`scrollTo(0, 0)`)
		}
		switch shot.tab {
		case "calls", "objects":
			b.click("#tab-" + shot.tab)
			b.click("#" + shot.tab + " .summary")
			b.until(`!!document.querySelector('#` + shot.tab + ` .body > *')`)
			b.value(`scrollTo(0, 0)`)
		case "forms":
			b.value(`document.querySelectorAll('#apps details, #cause details').forEach((d) => { d.open = true; })`)
		case "frame":
			b.click(`.card[data-app="local.paged"] .buttons button`)
			b.until(`!!document.querySelector('#frame').contentDocument?.querySelector('#user option')`)
			b.until(`document.querySelector('#frame').contentDocument.querySelector('iframe').contentDocument === null`)
			<-time.After(500 * time.Millisecond)
		}
		b.picture(*pictures+"/"+shot.name+".png", shot.full)
	}
	for _, complaint := range b.complaints() { // the page of an application calls what it may not
		require.Contains(t, complaint, "/rest/crm.")
	}
}
