package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// get reads a path of the API that must succeed.
func (p *process) get(path string, into any) {
	p.t.Helper()
	status, _, text := p.request(http.MethodGet, path, "")
	require.Equal(p.t, http.StatusOK, status, text)
	require.NoError(p.t, json.Unmarshal([]byte(text), into))
}

// refuse runs a command that must fail, and returns its error.
func (p *process) refuse(path, body string, status int) string {
	p.t.Helper()
	got, _, text := p.request(http.MethodPost, path, body)
	require.Equal(p.t, status, got, path+" "+body+": "+text)
	return text
}

// rest calls REST with an incoming webhook and returns the status and the response.
func (p *process) rest(hook, method, form string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, hook+method, strings.NewReader(form))
	require.NoError(p.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	body, _ := io.ReadAll(resp.Body) // a fault may have cut it
	require.NoError(p.t, resp.Body.Close())
	return resp.StatusCode, string(body)
}

// incoming adds an incoming webhook and returns its URL.
func (p *process) incoming(user int) string {
	p.t.Helper()
	hook, ok := p.post("/api/webhooks/incoming", fmt.Sprintf(`{"user":%d,"scope":"crm"}`, user))["url"].(string)
	require.True(p.t, ok)
	return hook
}

// TestObjectsAreShown lets an application change a deal, and reads what it wrote.
func TestObjectsAreShown(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	require.Empty(t, p.state("").Objects.Shown)
	hook := p.incoming(2)
	p.post("/api/objects", `{"kind":"deal","action":"add","times":60}`)
	p.post("/api/objects", `{"kind":"item","action":"add"}`)
	objects := p.state("?kind=deal").Objects
	require.Equal(t, []kindView{{"crm.deal", "Deals", 60}, {"crm.item.147", "Items of process 147", 1}}, objects.Kinds)
	require.Len(t, objects.Shown, maxObjects)
	require.EqualValues(t, 60, objects.Shown[0].ID)
	before := objects.Shown[0]

	_, text := p.rest(hook, "crm.deal.update", "id=60&fields[TITLE]=Written+back&fields[UF_X][]=a&fields[UF_X][]=b")
	require.Contains(t, text, `"result":true`)
	after := p.state("?kind=crm.deal").Objects.Shown[0]
	require.Equal(t, "Written back", after.Title)
	require.Equal(t, "2", after.By)
	require.NotEqual(t, before.Rev, after.Rev)
	var detail struct {
		Fields map[string]any `json:"fields"`
		Order  []string       `json:"order"`
	}
	p.get("/api/objects/deal/60", &detail)
	require.Equal(t, []string{"ID", "TITLE"}, detail.Order[:2])
	require.Equal(t, "Written back", detail.Fields["TITLE"])
	require.Equal(t, []any{"a", "b"}, detail.Fields["UF_X"])
	var list []objectView
	p.get("/api/objects/crm.item.147", &list)
	require.Len(t, list, 1)
	p.get("/api/objects/lead", &list)
	require.Empty(t, list)
	var kinds []kindView
	p.get("/api/objects", &kinds)
	require.Len(t, kinds, 2)
	for path, status := range map[string]int{"/api/objects/deal/61": 404, "/api/objects/deal/x": 400, "/api/objects/nothing/1": 404} {
		got, _, _ := p.request(http.MethodGet, path, "")
		require.Equal(t, status, got, path)
	}
	require.Equal(t, "crm.deal", p.state("?kind=nothing").Objects.Kind, "an unknown kind shows another")
}

// TestCallsAreShown reads parameters and answers of calls, also of items of a batch and of the
// OAuth server, without secrets and, on request, with them.
func TestCallsAreShown(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	a := newApplication(t, p)
	p.post("/api/apps", a.form())
	p.await("", func(s snapshot) bool { return len(s.Apps[0].Bindings) == 4 })
	hook := p.incoming(1)
	p.rest(hook, "crm.deal.add", "fields[TITLE]=Rocket")
	find := func(method string) callDetail {
		t.Helper()
		calls := p.state("?calls_q=" + method).Calls
		require.NotEmpty(t, calls.Shown, method)
		var c callDetail
		p.get("/api/calls/"+strconv.FormatInt(calls.Shown[0].ID, 10), &c)
		return c
	}
	c := find("crm.deal.add")
	require.JSONEq(t, `{"fields":{"TITLE":"Rocket"}}`, string(c.Params))
	require.JSONEq(t, `1`, string(c.Answer))
	require.Empty(t, c.App)
	require.EqualValues(t, 1, c.User)
	p.rest(hook, "crm.deal.get", "id=99")
	c = find("crm.deal.get")
	require.Contains(t, string(c.Answer), "Not found")
	require.NotEmpty(t, c.Error)
	require.Len(t, p.state("?calls_failed=1&calls_q=CRM").Calls.Shown, 1)

	secret := strings.Split(strings.TrimSuffix(hook, "/"), "/")
	_, _, all := p.request(http.MethodGet, "/api/state", "")
	require.NotContains(t, all, secret[len(secret)-1], "the URL is a secret")
	require.Contains(t, all, `"incoming":true`)

	// The tokens that the application got are in the answer of oauth/token.
	p.post("/api/tokens/expire", "")
	require.NoError(t, a.api.Portal(p.state("").Portal.MemberID).Call(t.Context(), "app.info", nil, nil))
	c = find("oauth/token")
	require.Contains(t, string(c.Answer), `"access_token":"[redacted]"`)
	raw := p.post("/api/calls/"+strconv.FormatInt(c.ID, 10)+"/raw", "")
	answer, ok := raw["answer"].(map[string]any)
	require.True(t, ok)
	token, ok := answer["access_token"].(string)
	require.True(t, ok)
	require.Len(t, token, 70, "%d", len(token))
	_, _, all = p.request(http.MethodGet, "/api/state", "")
	require.NotContains(t, all, token)

	for path, status := range map[string]int{"/api/calls/x": 400, "/api/calls/99999": 404} {
		got, _, _ := p.request(http.MethodGet, path, "")
		require.Equal(t, status, got, path)
	}
}

// TestBotTokensStayHidden lets an application with a bot repeat what it got.
func TestBotTokensStayHidden(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	sink := newSink(t)
	p.post("/api/apps", `{"client_id":"bot.app","handler":"`+sink.URL+`","scope":"im,imbot"}`)
	settings, ok := p.post("/api/apps/bot.app/settings", "")["settings"].(string)
	require.True(t, ok)
	access := regexp.MustCompile(`B24_ACCESS_TOKEN='([^']+)'`).FindStringSubmatch(settings)[1]
	status, text := p.rest(p.state("").Portal.ClientEndpoint, "imbot.register",
		url.Values{"auth": {access}, "CODE": {"b"}, "PROPERTIES[NAME]": {"Bot"}, "EVENT_HANDLER": {sink.URL}}.Encode())
	require.Equal(t, http.StatusOK, status, text)
	p.post("/api/objects", `{"kind":"message","action":"add"}`)
	p.post("/api/wait", "")
	s := p.state("?q=ONIMBOTMESSAGEADD")
	require.Len(t, s.Deliveries.Shown, 1)
	path := "/api/deliveries/" + strconv.FormatInt(s.Deliveries.Shown[0].ID, 10)
	form, err := url.ParseQuery(fmt.Sprint(p.post(path+"/raw", "")["body"]))
	require.NoError(t, err)
	_, _, shown := p.request(http.MethodGet, path, "")
	require.Contains(t, shown, "answered by a sink")
	found := 0
	for name, values := range form {
		if strings.Contains(name, "token") {
			found++
			require.NotContains(t, shown, values[0], name)
			require.NotContains(t, shown, url.QueryEscape(values[0]), name)
		}
	}
	require.GreaterOrEqual(t, found, 6, "of the event and of the bot")
	require.Equal(t, "b", p.state("").Apps[0].Bots[0].Code)
}

func TestIncomingWebhooksAndUsers(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	hook := p.incoming(2)
	status, text := p.rest(hook, "crm.deal.add", "fields[TITLE]=x")
	require.Equal(t, http.StatusOK, status, text)
	added := p.post("/api/users", `{"name":"Vic","last_name":"Tor","admin":true}`)
	require.InDelta(t, 3, added["id"], 0)
	p.post("/api/users/2/dismiss", "")
	users := p.state("").Users
	require.Equal(t, userView{ID: 2, Name: "Uma Ser", Dismissed: true}, users[1])
	require.Equal(t, userView{ID: 3, Name: "Vic Tor", Admin: true}, users[2])
	_, text = p.rest(hook, "crm.deal.add", "fields[TITLE]=x")
	require.Contains(t, text, "authorization_error")
	p.refuse("/api/users/9/dismiss", "", 404)
	p.refuse("/api/users/x/dismiss", "", 400)
	p.refuse("/api/users", `{}`, 400)
	p.refuse("/api/webhooks/incoming", `{"user":9}`, 404)
	for range maxUsers - 3 {
		p.post("/api/users", `{"name":"x"}`)
	}
	require.Contains(t, p.refuse("/api/users", `{"name":"x"}`, 400), "too many")
}

func TestFaults(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	hook := p.incoming(1)
	plan := func(body string) { t.Helper(); p.post("/api/faults", body) }
	plan(`{"method":"CRM.deal.get","fault":"error","status":429,"code":"OPERATION_TIME_LIMIT"}`)
	require.Equal(t, []faultView{{Method: "crm.deal.get", Once: 1}}, p.state("").Faults)
	status, text := p.rest(hook, "crm.deal.get", "id=1")
	require.Equal(t, 429, status, text)
	require.Empty(t, p.state("").Faults)
	for fault, want := range map[string]string{
		"error": "QUERY_LIMIT_EXCEEDED", "expired_token": "expired_token", "revoked_token": "invalid_token", "html": "<h1>", "notice": "Notice",
		"reset": "", "lost_answer": "", "bom": "\ufeff", "wrong_encoding": "", "plain_text": "result", "cut_answer": "", "refused_refresh": "invalid_grant",
	} {
		plan(`{"method":"*","fault":"` + fault + `"}`)
		_, text := p.rest(hook, "server.time", "")
		require.Contains(t, text, want, fault)
		require.Empty(t, p.state("").Faults, fault)
	}
	plan(`{"method":"*","fault":"delay","seconds":0.2}`)
	begun := time.Now()
	p.rest(hook, "server.time", "")
	require.GreaterOrEqual(t, time.Since(begun), 200*time.Millisecond)
	plan(`{"method":"oauth/token","fault":"refused_refresh","times":-1}`)
	plan(`{"method":"batch","fault":"html","times":3}`)
	require.Equal(t, []faultView{{Method: "batch", Once: 3}, {Method: "oauth/token", Always: true}}, p.state("").Faults)
	p.post("/api/faults/heal", `{"method":"batch"}`)
	require.Len(t, p.state("").Faults, 1)
	p.post("/api/faults/heal", "")
	require.Empty(t, p.state("").Faults)
	for name, body := range map[string]string{
		"no kind": `{"method":"*"}`, "unknown kind": `{"method":"*","fault":"x"}`, "no method": `{"fault":"bom"}`,
		"a path": `{"method":"a/b","fault":"bom"}`, "too often": `{"method":"*","fault":"bom","times":1001}`,
		"never": `{"method":"*","fault":"bom","times":-2}`, "no status": `{"method":"*","fault":"html","status":999}`,
		"no delay": `{"method":"*","fault":"delay"}`, "a long one": `{"method":"*","fault":"delay","seconds":1e9}`,
		"a long text": `{"method":"*","fault":"error","code":"` + strings.Repeat("x", 2000) + `"}`,
	} {
		require.NotEmpty(t, p.refuse("/api/faults", body, 400), name)
	}
	plan(`{"method":"*","fault":"bom","times":600}`)
	require.Contains(t, p.refuse("/api/faults", `{"method":"*","fault":"bom","times":600}`, 400), "too many")
}

func TestTokensOfApplications(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	sink := newSink(t)
	p.post("/api/apps", `{"client_id":"a","client_secret":"s","handler":"`+sink.URL+`","scope":"crm"}`)
	grant := p.post("/api/apps/a/grant", `{"user":2}`)
	require.InDelta(t, 2, grant["user_id"], 0)
	call := func() string {
		_, text := p.rest(p.state("").Portal.ClientEndpoint, "app.info", "auth="+fmt.Sprint(grant["access_token"]))
		return text
	}
	require.Contains(t, call(), "result")
	p.post("/api/apps/a/revoke", "")
	require.Contains(t, call(), "invalid_token")
	before := p.post("/api/apps/a/settings", "")["application_token"]
	p.post("/api/apps/a/rotate", "")
	require.NotEqual(t, before, p.post("/api/apps/a/settings", "")["application_token"])
	p.post("/api/apps/a/update", "")
	for _, path := range []string{"grant", "revoke", "rotate", "update", "frame"} {
		p.refuse("/api/apps/nobody/"+path, "", 404)
	}
	p.refuse("/api/apps/a/grant", `{"user":99}`, 404)
}

// TestResendMany loses deliveries while the handler is down, and sends all of them again.
func TestResendMany(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	sink := newSink(t)
	sink.answer(http.StatusInternalServerError)
	p.post("/api/webhooks", `{"url":"`+sink.URL+`","events":"ONX,ONY"}`)
	p.post("/api/raise", `{"event":"ONX","times":3}`)
	p.post("/api/raise", `{"event":"ONY"}`)
	require.InDelta(t, 4, p.post("/api/wait", "")["failed"], 0)
	require.Equal(t, 4, p.state("").Deliveries.Open)

	require.Equal(t, map[string]any{"resent": 1.0, "left": 0.0}, p.post("/api/deliveries/resend", `{"failed":true,"q":"ony"}`))
	p.post("/api/wait", "")
	s := p.state("").Deliveries
	require.Equal(t, []int{5, 4}, []int{s.Failed, s.Open}, "it failed again, and that one is open now")
	sink.answer(http.StatusOK)
	require.InDelta(t, 4, p.post("/api/deliveries/resend", `{"failed":true}`)["resent"], 0)
	require.InDelta(t, 4, p.post("/api/wait", "")["acknowledged"], 0)
	s = p.state("").Deliveries
	require.Zero(t, s.Open)
	require.NotZero(t, s.Shown[0].ResendOf)
	require.NotZero(t, s.Shown[len(s.Shown)-1].Resent)
	require.InDelta(t, 0, p.post("/api/deliveries/resend", `{"failed":true}`)["resent"], 0)
	require.InDelta(t, 2, p.post("/api/deliveries/resend", `{"ids":[1,2,999]}`)["resent"], 0)
	for _, body := range []string{`{}`, `{"failed":true,"ids":[1]}`, `{"ids":["x"]}`} {
		p.refuse("/api/deliveries/resend", body, 400)
	}
}

// TestRoom lets a handler hang until more waits than the program takes.
func TestRoom(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	release := make(chan struct{})
	hanging := newSink(t)
	hanging.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	p.post("/api/webhooks", `{"url":"`+hanging.URL+`","events":"ONX"}`)
	body := `{"event":"ONX","times":40,"data":{"X":"` + strings.Repeat("x", 200_000) + `"}}`
	for range 4 {
		p.post("/api/raise", body)
	}
	require.Eventually(t, func() bool {
		status, _, text := p.request(http.MethodPost, "/api/raise", body)
		return status == http.StatusTooManyRequests && strings.Contains(text, "32 MiB")
	}, patience, pollEvery)
	p.refuse("/api/objects", `{"kind":"deal","action":"add"}`, http.StatusTooManyRequests)
	p.refuse("/api/wait", `{"timeout":"50ms"}`, http.StatusGatewayTimeout)
	p.Signals <- syscall.SIGTERM
	p.Signals <- syscall.SIGTERM // do not wait for the handler
	require.Equal(t, 1, p.Wait(t))
}

func TestWait(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	hook := p.incoming(1)
	require.Contains(t, p.refuse("/api/wait", `{"method":"crm.deal.get","timeout":"20ms"}`, http.StatusGatewayTimeout), "not called")
	done := make(chan int, 1)
	go func() {
		status, _ := p.rest(hook, "crm.deal.get", "id=1")
		done <- status
	}()
	p.post("/api/wait", `{"method":"crm.deal.get","calls":1}`)
	<-done
	for _, body := range []string{`{"timeout":"soon"}`, `{"timeout":"-1s"}`, `{"timeout":"2h"}`} {
		p.refuse("/api/wait", body, 400)
	}
}

// TestRename follows the portal to its new address.
func TestRename(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	renamed := p.post("/api/rename", "")
	require.NotEqual(t, p.page+"/", renamed["page"])
	status, _, text := p.request(http.MethodGet, "/api/state", "")
	require.Equal(t, http.StatusOK, status, "the client follows the redirect")
	require.Contains(t, text, `"domain":"`+fmt.Sprint(renamed["domain"])+`"`)
	p.page = strings.TrimSuffix(fmt.Sprint(renamed["page"]), "/")
	for range maxRenames - 1 {
		p.page = strings.TrimSuffix(fmt.Sprint(p.post("/api/rename", "")["page"]), "/")
	}
	p.refuse("/api/rename", "", 400)
}

// TestPortals runs several portals with one OAuth server. One application is installed on each.
func TestPortals(t *testing.T) {
	t.Parallel()
	sink := newSink(t)
	p := start(t, programtest.Env{
		"DEVPORTAL_PORTALS": "3", "B24_MEMBER_ID": "ffffffffffffffffffffffffffffffff", "B24_CLIENT_ID": "app", "B24_CLIENT_SECRET": "s", "PUBLIC_URL": sink.URL,
	})
	require.Eventually(t, func() bool { return len(p.printed("delivery")) == 3 }, patience, pollEvery)
	ready := p.printed("ready")
	require.Len(t, ready, 3)
	links := p.state("").Portals
	require.Len(t, links, 3)
	members, pages := []string{}, []string{}
	for n, l := range links {
		members = append(members, l.MemberID)
		require.Equal(t, ready[n]["member_id"], l.MemberID)
		pages = append(pages, fmt.Sprint(ready[n]["page"]))
		require.Equal(t, ready[0]["settings"], ready[n]["settings"], "one OAuth server")
	}
	require.Equal(t, []string{strings.Repeat("f", 32), strings.Repeat("0", 32), strings.Repeat("0", 31) + "1"}, members)
	seen := map[any]bool{}
	for _, d := range p.printed("delivery") {
		seen[d["portal"]] = true
	}
	require.Len(t, seen, 3)
	p.page = strings.TrimSuffix(pages[2], "/")
	require.Equal(t, members[2], p.state("").Portal.MemberID)
	p.post("/api/objects", `{"kind":"deal","action":"add"}`)
	p.page = strings.TrimSuffix(pages[1], "/")
	require.Empty(t, p.state("").Objects.Kinds, "each has its own objects")
}

// TestStreamsAreBounded opens more streams than the program takes, and reads from none.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	open := func() (int, io.Closer) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.page+"/api/stream", http.NoBody)
		require.NoError(t, err)
		resp, err := client.Do(r)
		require.NoError(t, err)
		return resp.StatusCode, resp.Body
	}
	streams := []io.Closer{}
	for range maxStreams {
		status, body := open()
		require.Equal(t, http.StatusOK, status)
		streams = append(streams, body)
	}
	status, body := open()
	require.Equal(t, http.StatusServiceUnavailable, status)
	for _, s := range append(streams, body) {
		require.NoError(t, s.Close())
	}
	require.Eventually(t, func() bool {
		status, body := open()
		return body.Close() == nil && status == http.StatusOK
	}, patience, pollEvery)
}

// TestSharedState checks that streams share a snapshot until something changes.
func TestSharedState(t *testing.T) {
	t.Parallel()
	g, err := startGroup(config{listen: "127.0.0.1:0", oauthListen: "127.0.0.1:0", memberID: strings.Repeat("a", 32), portals: 1, logger: programtest.Silent()})
	require.NoError(t, err)
	defer func() { require.NoError(t, g.close()) }()
	pg := g.pages[0]
	look := func(f viewFilter) picture {
		t.Helper()
		made, _, err := pg.picture(f)
		require.NoError(t, err)
		return made
	}
	first := look(viewFilter{limit: 1})
	require.Same(t, &first.doc[0], &look(viewFilter{limit: 1}).doc[0], "made once")
	other := look(viewFilter{limit: 2})
	require.Same(t, &other.doc[0], &look(viewFilter{limit: 2}).doc[0])
	require.Same(t, &first.doc[0], &look(viewFilter{limit: 1}).doc[0], "the other filter has its own")
	_, err = pg.portal.Add("crm.deal", map[string]any{"TITLE": "x"}, 0)
	require.NoError(t, err)
	changed := look(viewFilter{limit: 1})
	require.NotSame(t, &first.doc[0], &changed.doc[0])
	require.Contains(t, string(changed.doc), "crm.deal")
	for n := range 2 * maxPictures {
		look(viewFilter{limit: n})
	}
	require.LessOrEqual(t, len(pg.shared.pictures), maxPictures)
}

// TestFrame opens the page of an application as a browser does, without the browser.
func TestFrame(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	sink := newSink(t)
	result := p.post("/api/apps", `{"client_id":"a b","handler":"http://127.0.0.1:9/events","install_page":"`+sink.URL+`/page?x=1","in_browser":true}`)
	require.Equal(t, map[string]any{"id": "a b"}, result)
	require.Empty(t, sink.last(), "the browser opens it")
	app := p.state("").Apps[0]
	require.Equal(t, []string{"installing", "http://127.0.0.1:9/events", sink.URL + "/page?x=1"}, []string{app.State, app.Handler, app.InstallPage})
	settings := fmt.Sprint(p.post("/api/apps/a%20b/settings", "")["settings"])
	require.Contains(t, settings, "PUBLIC_URL='http://127.0.0.1:9/events'")
	require.Contains(t, settings, "INSTALL_PAGE_URL='"+sink.URL+"/page?x=1'")

	status, headers, text := p.request(http.MethodGet, "/frame?app=a%20b", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `sandbox="`)
	require.NotContains(t, text, "allow-top-navigation")
	policy := headers.Get("Content-Security-Policy")
	require.Contains(t, policy, "frame-src "+sink.URL+";")
	require.Contains(t, policy, "form-action "+sink.URL+";")
	require.Contains(t, policy, "frame-ancestors 'self'")
	form := p.post("/api/apps/a%20b/frame", `{"user":2,"placement":"CRM_DEAL_DETAIL_TAB","options":{"ID":"7"}}`)
	require.Contains(t, form["action"], sink.URL+"/page?x=1&DOMAIN=")
	fields, ok := form["fields"].([]any)
	require.True(t, ok)
	require.Contains(t, fields, []any{"PLACEMENT", "CRM_DEAL_DETAIL_TAB"})
	require.Contains(t, fields, []any{"PLACEMENT_OPTIONS", `{"ID":"7"}`})

	status, headers, text = p.request(http.MethodGet, scriptPath, "", "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "window.BX24")
	require.Equal(t, "cross-origin", headers.Get("Cross-Origin-Resource-Policy"))
	require.Contains(t, headers.Get("Content-Type"), "javascript")

	// A page at an address of the program would have its origin.
	own := strings.TrimPrefix(p.page, "http://127.0.0.1:")
	for n, address := range []string{p.page + "/rest/", "http://localhost:" + own + "/", "http://" + p.state("").Portal.OAuthHost + "/"} {
		id := "own" + strconv.Itoa(n)
		p.post("/api/apps", `{"client_id":"`+id+`","page":"`+address+`","in_browser":true}`)
		require.Contains(t, p.refuse("/api/apps/"+id+"/frame", "", 400), "devportal itself")
		status, _, _ := p.request(http.MethodGet, "/frame?app="+id, "")
		require.Equal(t, http.StatusBadRequest, status)
	}
	for n, host := range []string{"a;script-src", "[::1]:9", "пример.рф"} {
		id := "odd" + strconv.Itoa(n)
		p.post("/api/apps", `{"client_id":"`+id+`","page":"http://`+host+`/","in_browser":true}`)
		require.Contains(t, p.refuse("/api/apps/"+id+"/frame", "", 400), "security policy")
		status, headers, _ := p.request(http.MethodGet, "/frame?app="+id, "")
		require.Equal(t, http.StatusBadRequest, status)
		require.NotContains(t, headers.Get("Content-Security-Policy"), host)
	}
	p.post("/api/apps", `{"client_id":"plain"}`)
	p.refuse("/api/apps/plain/frame", "", 400)
	p.refuse("/api/apps/plain/open", "", 400)
	status, _, _ = p.request(http.MethodGet, "/frame?app=nobody", "")
	require.Equal(t, http.StatusNotFound, status)
	p.refuse("/api/apps", `{"page":"javascript:alert(1)"}`, 400)
	p.refuse("/api/apps", `{"page":"http://127.0.0.1:1/","handler":"nowhere"}`, 400)
}

// TestIndex checks that the API lists itself, that API.md has each route with its fields, and that
// an unknown field is answered with the known ones.
func TestIndex(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	var index struct {
		Routes []struct {
			Method string            `json:"method"`
			Path   string            `json:"path"`
			Does   string            `json:"does"`
			Body   map[string]string `json:"body"`
		} `json:"routes"`
	}
	p.get("/api/", &index)
	require.Greater(t, len(index.Routes), 35)
	doc, err := os.ReadFile("API.md")
	require.NoError(t, err)
	rows := regexp.MustCompile(`(?m)^\| `+"`(GET|POST) ([^`]+)`"+` \|.*$`).FindAllStringSubmatch(string(doc), -1)
	require.Len(t, rows, len(index.Routes), "API.md has as many routes as the program")
	for _, r := range index.Routes {
		i := slices.IndexFunc(rows, func(row []string) bool { return row[1] == r.Method && row[2] == r.Path })
		require.GreaterOrEqual(t, i, 0, "API.md lacks %s %s", r.Method, r.Path)
		require.NotEmpty(t, r.Does)
		for field := range r.Body {
			require.Contains(t, rows[i][0], "`"+field+"`", "%s %s", r.Method, r.Path)
		}
	}
	require.Contains(t, p.refuse("/api/clock", `{"seconds":1}`, 400), `there is no field \"seconds\"; it may have by`)
	require.Contains(t, p.refuse("/api/raise", `{"x":1}`, 400), "data, event, times, user")
	require.Contains(t, p.refuse("/api/rename", `{"x":1}`, 400), "takes none")
	status, _, text := p.request(http.MethodGet, "/api/nothing", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, text, "/api/")
}

// TestTerminalsActOnNothing checks the characters that a terminal would act on.
func TestTerminalsActOnNothing(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	sink := newSink(t)
	p.post("/api/webhooks", `{"url":"`+sink.URL+`","events":"ONCRMDEALADD"}`)
	p.post("/api/objects", `{"kind":"deal","action":"add","fields":{"TITLE":"\u001b[2J\u009b31m\u202e\u2066x\u007f"}}`)
	p.post("/api/wait", "")
	for _, path := range []string{"/api/state", "/api/objects/deal/1", "/api/deliveries/1"} {
		_, _, text := p.request(http.MethodGet, path, "")
		require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f || r >= 0x202a && r <= 0x2069 }), path)
	}
	_, _, text := p.request(http.MethodGet, "/api/objects/deal/1", "")
	require.Contains(t, text, `\u202e`)
}
