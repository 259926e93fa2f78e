package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// await polls the state until a condition is met.
func (p *process) await(query string, wanted func(snapshot) bool) snapshot {
	p.t.Helper()
	var s snapshot
	require.Eventually(p.t, func() bool { s = p.state(query); return wanted(s) }, patience, pollEvery, "%v", p.Stderr)
	return s
}

// TestInstallRaiseResend does what a developer does: install, see an event arrive, stop the
// handler, see a delivery fail, start the handler and resend.
func TestInstallRaiseResend(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	a := newApplication(t, p)
	require.Equal(t, map[string]any{"id": a.id}, p.post("/api/apps", a.form()))
	s := p.await("", func(s snapshot) bool {
		return len(s.Apps) == 1 && len(s.Apps[0].Bindings) == 4 && len(s.Deliveries.Shown) == 1
	})
	require.Equal(t, "installed", s.Apps[0].State)
	require.Equal(t, []string{"crm", "task"}, s.Apps[0].Scope)
	require.True(t, s.Deliveries.Shown[0].Acknowledged)
	require.Equal(t, "ONAPPINSTALL", s.Deliveries.Shown[0].Event)
	require.NotEmpty(t, s.Calls.Shown)

	added := p.post("/api/objects", `{"kind":"deal","action":"add"}`)
	require.Equal(t, map[string]any{"text": "deal 1 added", "done": 1.0, "ids": []any{1.0}, "event": "ONCRMDEALADD", "heard": true}, added)
	s = p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged == 2 })
	require.Equal(t, "crm.deal 1", s.Deliveries.Shown[0].Entity)

	a.stop()
	p.post("/api/raise", `{"event":"oncrmdealadd","data":{"FIELDS":{"ID":7}}}`)
	s = p.await("", func(s snapshot) bool { return s.Deliveries.Failed == 1 })
	lost := s.Deliveries.Shown[0]
	require.False(t, lost.Acknowledged)
	require.Zero(t, lost.Status)
	require.NotEmpty(t, lost.Error) // refused, or reset if a kept connection was tried first
	require.Equal(t, "crm.deal 7", lost.Entity)
	path := "/api/deliveries/" + strconv.FormatInt(lost.ID, 10)

	require.Equal(t, false, p.post(path+"/resend", "")["acknowledged"])
	a.startAgain()
	again := p.post(path+"/resend", "")
	require.Equal(t, true, again["acknowledged"])
	s = p.state("")
	require.Equal(t, lost.ID, s.Deliveries.Shown[0].ResendOf)
	require.Equal(t, s.Deliveries.Shown[0].ID, s.Deliveries.Shown[2].Resent)
	require.Len(t, p.state("?failed=1").Deliveries.Shown, 2)
	require.Len(t, p.state("?q=appinst").Deliveries.Shown, 1)
	require.Equal(t, 5, p.state("?limit=1").Deliveries.Matching)
	require.Len(t, p.state("?limit=1").Deliveries.Shown, 1)

	require.Empty(t, p.post("/api/apps/"+a.id+"/uninstall", `{"clean":true}`))
	s = p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged == 4 })
	require.Equal(t, "not_installed", s.Apps[0].State)
	require.Empty(t, s.Apps[0].Bindings)
	require.Equal(t, map[string]any{"id": a.id}, p.post("/api/apps/"+a.id+"/install", ""))
	p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged == 5 })

	p.post("/api/deliveries/forget", "")
	require.Empty(t, p.state("").Deliveries.Shown)
	status, _, _ := p.request(http.MethodGet, path, "")
	require.Equal(t, http.StatusNotFound, status)
}

// TestTokensStayHidden looks for every issued token in everything that the program shows without a
// request for tokens.
func TestTokensStayHidden(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	a := newApplication(t, p)
	p.post("/api/apps", a.form())
	p.await("", func(s snapshot) bool { return len(s.Deliveries.Shown) == 1 && len(s.Apps[0].Bindings) == 4 })

	raw, ok := p.post("/api/deliveries/1/raw", "")["body"].(string)
	require.True(t, ok)
	form, err := url.ParseQuery(raw)
	require.NoError(t, err)
	tokens := []string{form.Get("auth[access_token]"), form.Get("auth[refresh_token]"), form.Get("auth[application_token]"), a.secret}
	settings, ok := p.post("/api/apps/"+a.id+"/settings", "")["settings"].(string)
	require.True(t, ok)
	for line := range strings.Lines(settings) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "='")
		if strings.Contains(name, "TOKEN") {
			tokens = append(tokens, strings.TrimSuffix(value, "'"))
		}
	}
	require.Len(t, tokens, 6)
	_, _, state := p.request(http.MethodGet, "/api/state", "")
	_, _, delivery := p.request(http.MethodGet, "/api/deliveries/1", "")
	require.Contains(t, delivery, `"kind":"event"`)
	for _, token := range tokens {
		require.GreaterOrEqual(t, len(token), 20)
		for _, shown := range []string{state, delivery, p.Stdout.String(), p.Stderr.String()} {
			require.NotContains(t, shown, token)
		}
	}
}

// TestCutTokensStayHidden lets a handler repeat a token at the place where its response is cut off.
func TestCutTokensStayHidden(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	s := newSink(t)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 1000)+r.PostFormValue("auth[application_token]")) //nolint:gosec // nobody browses it
	})
	token, ok := p.post("/api/webhooks", `{"url":"`+s.URL+`","events":"ONX"}`)["token"].(string)
	require.True(t, ok)
	p.post("/api/raise", `{"event":"ONX"}`)
	p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged == 1 })
	_, _, delivery := p.request(http.MethodGet, "/api/deliveries/1", "")
	require.Contains(t, delivery, "xxxx")
	require.NotContains(t, delivery, token[:10])
}

// TestTokensOfDataStayHidden covers tokens outside the auth section of an event. A handler that
// repeats its request showed them, plain or encoded.
func TestTokensOfDataStayHidden(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"bot":              `{"BOT":{"5":{"access_token":"PLANTED/bot+1","AUTH":{"refresh_token":"PLANTED-2"}}}}`,
		"bot of imbot.v2":  `{"bot":{"auth":{"access_token":"PLANTED/bot+1"}},"message":{"text":"PLANTED/bot+1"}}`,
		"confirmed method": `{"TOKEN":"PLANTED/bot+1"}`,
		"JSON in a text":   `{"options":"{\"access_token\":\"PLANTED/bot+1\"}"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nil)
			sink := newSink(t)
			p.post("/api/webhooks", `{"url":"`+sink.URL+`","events":"ONX"}`)
			require.Equal(t, true, p.post("/api/raise", `{"event":"ONX","data":`+data+`}`)["heard"])
			p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged == 1 })
			require.Contains(t, sink.last(), "PLANTED")
			_, _, delivery := p.request(http.MethodGet, "/api/deliveries/1", "")
			require.Contains(t, delivery, "answered by a sink")
			_, _, state := p.request(http.MethodGet, "/api/state", "")
			for _, shown := range []string{delivery, state, p.Stdout.String(), p.Stderr.String()} {
				require.NotContains(t, shown, "PLANTED")
			}
			raw, ok := p.post("/api/deliveries/1/raw", "")["body"].(string)
			require.True(t, ok)
			require.Contains(t, raw, "PLANTED", "it is shown when somebody asks for it")
		})
	}
}

// TestErrorsQuoteNoToken lets a handler put the token into the HTTP status line, which net/http
// quotes in an error.
func TestErrorsQuoteNoToken(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	s := newSink(t)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.PostFormValue("auth[application_token]")
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 "+token+"\r\n\r\n")
		_ = conn.Close()
	})
	token, ok := p.post("/api/webhooks", `{"url":"`+s.URL+`","events":"ONX"}`)["token"].(string)
	require.True(t, ok)
	p.post("/api/raise", `{"event":"ONX"}`)
	shown := p.await("", func(s snapshot) bool { return s.Deliveries.Failed == 1 })
	require.Contains(t, shown.Deliveries.Shown[0].Error, `malformed HTTP status code "[redacted]"`)
	_, _, delivery := p.request(http.MethodGet, "/api/deliveries/1", "")
	require.NotContains(t, delivery, token)
	require.NotContains(t, p.Stdout.String()+p.Stderr.String(), token)
}

// TestLargeNumbers gives a deal a number that floating-point numbers cannot hold.
func TestLargeNumbers(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	a := newApplication(t, p)
	p.post("/api/apps", a.form())
	p.await("", func(s snapshot) bool { return len(s.Apps[0].Bindings) == 4 })
	p.post("/api/objects", `{"kind":"deal","action":"add","fields":{"UF_CRM_X":12345678901234567}}`)
	var deal map[string]any
	require.NoError(t, a.api.Portal(p.state("").Portal.MemberID).Call(t.Context(), "crm.deal.get", map[string]any{"id": 1}, &deal))
	require.Equal(t, "12345678901234567", deal["UF_CRM_X"])
}

// TestQueueStates shows a record in each of its states.
func TestQueueStates(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	a := newApplication(t, p)
	p.post("/api/apps", a.form())
	p.await("", func(s snapshot) bool { return len(s.Apps[0].Bindings) == 4 })
	portal := a.api.Portal(p.state("").Portal.MemberID)
	call := func(method string, params, into any) {
		t.Helper()
		require.NoError(t, portal.Call(t.Context(), method, params, into))
	}
	call("event.bind", map[string]any{"event": "ONCRMDEALUPDATE", "event_type": "offline"}, nil)

	p.post("/api/objects", `{"kind":"deal","action":"add","times":3,"user":2}`)
	p.post("/api/objects", `{"kind":"deal","action":"update","id":1,"times":5,"user":0}`)
	q := p.state("").Queue
	require.Len(t, q.Rows, 1)
	require.Equal(t, "waiting", q.Rows[0].State)
	require.Equal(t, 4, q.Rows[0].Merged)
	require.Equal(t, "crm.deal 1", q.Rows[0].Entity)
	require.Zero(t, q.Rows[0].User)

	var reserved struct {
		ProcessID string `json:"process_id"`
	}
	call("event.offline.get", map[string]any{"clear": 0}, &reserved)
	p.post("/api/objects", `{"kind":"deal","action":"update","id":2}`)
	q = p.state("").Queue
	require.Equal(t, []int{2, 1, 1, 0, 1}, []int{q.Total, q.Waiting, q.Reserved, q.Errored, q.Merged})

	var rows []struct {
		MessageID string `json:"MESSAGE_ID"`
	}
	call("event.offline.list", nil, &rows)
	call("event.offline.error", map[string]any{"process_id": reserved.ProcessID, "message_id": []string{rows[0].MessageID}}, nil)
	require.Equal(t, "errored", p.state("").Queue.Rows[0].State)
	call("event.offline.get", map[string]any{"clear": 0, "error": 1}, nil)
	require.Equal(t, "reread", p.state("").Queue.Rows[0].State)
	require.Equal(t, 1, p.state("").Queue.Errored)
}

func TestObjects(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	a := newApplication(t, p)
	p.post("/api/apps", a.form())
	p.await("", func(s snapshot) bool { return len(s.Apps[0].Bindings) == 4 })
	for kind, noun := range map[string][2]string{
		"deal": {"deal", "deals"}, "lead": {"lead", "leads"}, "contact": {"contact", "contacts"}, "company": {"company", "companies"},
		"task": {"task", "tasks"}, "item": {"smart-process item", "smart-process items"}, "calendar": {"calendar entry", "calendar entries"},
		"message": {"message", "messages"},
	} {
		for _, step := range []struct{ action, text string }{
			{`"action":"add"`, noun[0] + " 1 added"},
			{`"action":"add","times":4,"user":2`, "4 " + noun[1] + " added, 2 to 5"},
			{`"action":"update","user":2,"fields":{"COMMENTS":"x"}`, noun[0] + " 5 updated"},
			{`"action":"update","id":2,"times":10,"user":2`, noun[0] + " 2 updated 10 times"},
			{`"action":"delete","times":2,"user":2`, "2 " + noun[1] + " deleted, 4 to 5"},
			{`"action":"delete","id":1`, noun[0] + " 1 deleted"},
		} {
			out := p.post("/api/objects", `{"kind":"`+kind+`",`+step.action+`}`)
			require.Equal(t, step.text, out["text"], step.action)
			known, ok := event.Lookup(fmt.Sprint(out["event"]))
			require.True(t, ok, out["event"])
			require.NotEmpty(t, known.Title)
			require.Equal(t, out["event"] == "ONCRMDEALADD", out["heard"])
		}
	}
	require.Equal(t, []botView{{ID: 3, Name: "Bot of devportal", Code: "devportal", Mode: "old"}}, p.state("").Apps[0].Bots)
	require.Equal(t, "deal 2 updated", p.post("/api/objects", `{"kind":"deal","action":"update","id":2,"user":0}`)["text"], "by nobody")

	for name, c := range map[string]struct{ body, text string }{
		"no kind":             {`{"action":"add"}`, "kind"},
		"no action":           {`{"kind":"deal"}`, "action"},
		"no such user":        {`{"kind":"deal","action":"add","user":99}`, "user 99"},
		"no such object":      {`{"kind":"deal","action":"update","id":99}`, "99"},
		"too often":           {`{"kind":"deal","action":"add","times":1001}`, "1000"},
		"a negative number":   {`{"kind":"deal","action":"add","times":-1}`, "1000"},
		"deleted twice":       {`{"kind":"deal","action":"delete","id":2,"times":2}`, "once"},
		"a chosen number":     {`{"kind":"deal","action":"add","id":2}`, "chooses the ID"},
		"more than there are": {`{"kind":"lead","action":"delete","times":9}`, "2 done"},
		"no process":          {`{"kind":"item","entity_type_id":5,"action":"add"}`, "128"},
		"message of nobody":   {`{"kind":"message","action":"add","user":0}`, "needs an author"},
		"message of another":  {`{"kind":"message","action":"update","id":2,"user":1}`, "message"},
		"message to no app":   {`{"kind":"message","action":"add","app":"x"}`, "client ID"},
		"fields of a list":    {`{"kind":"deal","action":"add","fields":[1]}`, "JSON"},
	} {
		status, _, text := p.request(http.MethodPost, "/api/objects", c.body)
		require.GreaterOrEqual(t, status, 400, name)
		require.Less(t, status, 500, name)
		require.Contains(t, text, c.text, name)
	}
}

func TestRaise(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	sink := newSink(t)
	token, ok := p.post("/api/webhooks", `{"url":"`+sink.URL+`","events":"onmyevent, ONCRMLEADADD"}`)["token"].(string)
	require.True(t, ok)
	require.Equal(t, []webhookView{{URL: sink.URL, Events: []string{"ONMYEVENT", "ONCRMLEADADD"}}}, p.state("").Webhooks)

	require.Equal(t, true, p.post("/api/raise", `{"event":"OnMyEvent","data":{"A":{"B":[1,"x"]}},"user":0,"times":2}`)["heard"])
	require.Equal(t, false, p.post("/api/raise", `{"event":"ONOTHER"}`)["heard"])
	p.await("", func(s snapshot) bool { return s.Deliveries.Acknowledged == 2 })
	d, err := event.Parse("", []byte(sink.last()))
	require.NoError(t, err)
	require.Equal(t, "x", d.Data.Get("A", "B", "1").Text())
	require.Equal(t, token, string(d.Auth.ApplicationToken))
	_, _, delivery := p.request(http.MethodGet, "/api/deliveries/1", "")
	require.Contains(t, delivery, "answered by a sink", "the answer is shown")
	require.NotContains(t, delivery, token, "which repeated the token")

	for name, body := range map[string]string{
		"no name": `{}`, "a template": `{"event":"ONCRMDYNAMICITEMADD_{TYPEID}"}`,
		"data of a list": `{"event":"ONX","data":[`, "no JSON": `{"event":"ONX","data":x}`,
		"too often": `{"event":"ONX","times":100000}`, "a long name": `{"event":"` + strings.Repeat("X", 300) + `"}`,
	} {
		status, _, text := p.request(http.MethodPost, "/api/raise", body)
		require.Equal(t, http.StatusBadRequest, status, name+text)
	}
}

// TestQuirks changes one quirk at a time and leaves the others alone.
func TestQuirks(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	usual := p.state("").Quirks
	require.InDelta(t, 3600, usual.TokenLifetime, 0)
	for name, body := range map[string]string{
		"no user": `{"no_user":true}`, "no data": `{"no_data":true}`, "plan": `{"no_extended_offline":true,"no_connectors":true}`,
		"box":   `{"box":true}`,
		"limit": `{"rate_per_second":2,"rate_burst":50}`, "life": `{"token_lifetime_s":10}`, "slow": `{"latency_ms":5}`,
		"handlers": `{"slow_handlers_s":0.5}`, "install": `{"install_delay_s":60,"no_install_event":true}`,
		"races": `{"racing_reservations":true,"racing_binds":true}`,
		"order": `{"delivery_jitter_s":1.5,"offline_lag_s":2}`, "old": `{"honour_min_timeout":true}`,
		"removal": `{"no_uninstall_event":true}`, "system user": `{"user_ready":2}`,
		"bots": `{"whole_bot_auth":true}`, "slow OAuth server": `{"oauth_latency_ms":5}`,
		"time": `{"operating_limit_s":480}`,
	} {
		want := p.state("").Quirks
		require.NoError(t, json.Unmarshal([]byte(body), &want))
		p.post("/api/quirks", body)
		require.Equal(t, want, p.state("").Quirks, name)
	}
	var all eventtest.Quirks
	p.state("").Quirks.set(&all)
	quirks := reflect.ValueOf(all)
	for i := range quirks.NumField() {
		require.False(t, quirks.Field(i).IsZero(), "the page has no switch for %s", quirks.Type().Field(i).Name)
	}
	for name, body := range map[string]string{
		"half a limit": `{"rate_burst":0}`, "no life": `{"token_lifetime_s":0}`,
		"negative": `{"latency_ms":-1}`, "endless": `{"latency_ms":1e300}`,
		"endless OAuth server": `{"oauth_latency_ms":1e300}`, "no such order": `{"user_ready":3}`,
		"unknown": `{"quirk":true}`, "text": `{"no_user":"yes"}`, "a list": `[]`,
	} {
		before := p.state("").Quirks
		status, _, text := p.request(http.MethodPost, "/api/quirks", body)
		require.Equal(t, http.StatusBadRequest, status, name+text)
		require.NotContains(t, text, "eventtest", name)
		require.NotContains(t, text, "invalid configuration", name)
		require.Equal(t, before, p.state("").Quirks, name)
	}
}

func TestClockAndTokens(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	a := newApplication(t, p)
	p.post("/api/apps", a.form())
	p.await("", func(s snapshot) bool { return len(s.Apps[0].Bindings) == 4 })
	p.post("/api/tokens/expire", "")
	require.NoError(t, a.api.Portal(p.state("").Portal.MemberID).Call(t.Context(), "app.info", nil, nil), "refreshed by the way")
	var expired bool
	for _, c := range p.state("").Calls.Shown {
		expired = expired || c.Error == "expired_token"
	}
	require.True(t, expired)

	p.post("/api/clock", `{"by":"2h"}`)
	require.EqualValues(t, 7200, p.state("").Portal.ClockSkew)
	for _, by := range []string{"", "-1h", "0s", "1000000h", "soon"} {
		status, _, _ := p.request(http.MethodPost, "/api/clock", `{"by":"`+by+`"}`)
		require.Equal(t, http.StatusBadRequest, status, by)
	}
}

// TestPages installs an application with pages. Its page fails at first, then it finishes the
// installation.
func TestPages(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	sink := newSink(t)
	sink.answer(http.StatusInternalServerError)
	result := p.post("/api/apps", `{"client_id":"with pages/?","install_page":"`+sink.URL+`"}`)
	require.Contains(t, result["warning"], "500")
	require.Equal(t, "installing", p.state("").Apps[0].State)
	path := "/api/apps/" + url.PathEscape("with pages/?")
	status, _, text := p.request(http.MethodPost, path+"/open", "")
	require.Equal(t, http.StatusBadGateway, status)
	require.Contains(t, text, "500")
	sink.answer(http.StatusOK)
	require.InDelta(t, 200, p.post(path+"/open", "")["status"], 0)
	require.Contains(t, sink.last(), "AUTH_ID=")
	p.post(path+"/finish", "")
	require.Equal(t, "installed", p.state("").Apps[0].State)
	for _, again := range []string{"/finish", "/install"} {
		status, _, _ = p.request(http.MethodPost, path+again, "")
		require.Equal(t, http.StatusConflict, status, again)
	}
	p.post(path+"/status", `{"active":false,"payment_expired":true}`)
	require.False(t, p.state("").Apps[0].Active)
	require.True(t, p.state("").Apps[0].PaymentExpired)
	status, _, _ = p.request(http.MethodPost, "/api/apps/nobody/install", "")
	require.Equal(t, http.StatusNotFound, status)
}

// TestStream reads snapshots of the portal until one shows the change.
func TestStream(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.page+"/api/stream?q=onmy", http.NoBody)
	require.NoError(t, err)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, answer.Body.Close()) }()
	require.Equal(t, "text/event-stream; charset=utf-8", answer.Header.Get("Content-Type"))
	lines := bufio.NewReader(answer.Body)
	next := func() snapshot {
		for {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			if picture, ok := strings.CutPrefix(line, "data: "); ok {
				var s snapshot
				require.NoError(t, json.Unmarshal([]byte(picture), &s))
				return s
			}
		}
	}
	require.Empty(t, next().Webhooks)
	sink := newSink(t)
	p.post("/api/webhooks", `{"url":"`+sink.URL+`","events":"ONMYEVENT,ONOTHER"}`)
	p.post("/api/raise", `{"event":"ONMYEVENT"}`)
	p.post("/api/raise", `{"event":"ONOTHER"}`)
	for s := next(); ; s = next() {
		if s.Deliveries.Acknowledged == 2 {
			require.Len(t, s.Deliveries.Shown, 1, "the other one is not looked for")
			return
		}
	}
}

// TestSamples raises each event of the catalogue with its sample data.
func TestSamples(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	_, _, text := p.request(http.MethodGet, "/api/events", "")
	var infos []struct {
		Name   string          `json:"name"`
		Title  string          `json:"title"`
		Sample json.RawMessage `json:"sample"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &infos))
	require.GreaterOrEqual(t, len(infos), 200)
	entities := 0
	for _, info := range infos {
		require.NotEmpty(t, info.Title, info.Name)
		require.NotContains(t, info.Name, "{")
		data, err := event.ParseData(info.Sample)
		require.NoError(t, err, info.Name)
		d := &event.Delivery{Kind: event.KindEvent, Name: info.Name, Data: data}
		known, ok := event.Lookup(info.Name)
		require.True(t, ok, info.Name)
		_, err = known.Payload(d)
		if d.Entity().ID == "1" {
			require.NoError(t, err, info.Name)
			entities++
			continue
		}
		var missing *event.DecodeError // the user must fill in texts, lists and single values
		require.True(t, err == nil || errors.As(err, &missing) && missing.Want == "present", info.Name)
	}
	require.Greater(t, entities, 120, "most of them name an object")
}
