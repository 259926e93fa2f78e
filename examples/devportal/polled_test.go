package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// botCaller calls REST as an application that may have bots.
type botCaller struct {
	p      *process
	access string
}

// newBotCaller installs an application that may have bots.
func newBotCaller(t *testing.T, p *process, id string) botCaller {
	t.Helper()
	p.post("/api/apps", `{"client_id":"`+id+`","scope":"crm,im,imbot"}`)
	access, ok := p.post("/api/apps/"+url.PathEscape(id)+"/grant", "")["access_token"].(string)
	require.True(t, ok)
	return botCaller{p, access}
}

// call calls a method with form parameters, and returns its result.
func (c botCaller) call(method string, params url.Values) json.RawMessage {
	c.p.t.Helper()
	params.Set("auth", c.access)
	status, text := c.p.rest(c.p.state("").Portal.ClientEndpoint, method, params.Encode())
	require.Equal(c.p.t, 200, status, text)
	var out struct {
		Result json.RawMessage `json:"result"`
	}
	require.NoError(c.p.t, json.Unmarshal([]byte(text), &out))
	return out.Result
}

// register registers a bot of imbot.v2. Without a webhook it is in fetch mode.
func (c botCaller) register(code, webhook string) string {
	c.p.t.Helper()
	params := url.Values{"fields[code]": {code}, "fields[properties][name]": {"Bot <b>" + code + "</b>"}}
	if webhook != "" {
		params.Set("fields[eventMode]", "webhook")
		params.Set("fields[webhookUrl]", webhook)
	}
	var out struct {
		Bot struct {
			ID int64 `json:"id"`
		} `json:"bot"`
	}
	require.NoError(c.p.t, json.Unmarshal(c.call("imbot.v2.Bot.register", params), &out))
	return strconv.FormatInt(out.Bot.ID, 10)
}

// TestPolledBots writes to bots of each kind. What a bot in fetch mode gets waits in its queue, and
// leaves it when the bot acknowledges it.
func TestPolledBots(t *testing.T) {
	t.Parallel()
	p, sink := start(t, nil), newSink(t)
	c := newBotCaller(t, p, "bots")
	require.Empty(t, p.state("").Polled)
	fetch, pushed := c.register("fetch", ""), c.register("pushed", sink.URL)
	var old int64
	require.NoError(t, json.Unmarshal(c.call("imbot.register",
		url.Values{"CODE": {"old"}, "PROPERTIES[NAME]": {"Old"}, "EVENT_HANDLER": {sink.URL}}), &old))
	s := p.state("")
	require.Equal(t, []string{"fetch", "webhook", "old"}, []string{s.Apps[0].Bots[0].Mode, s.Apps[0].Bots[1].Mode, s.Apps[0].Bots[2].Mode})
	require.Len(t, s.Polled, 1)
	require.Equal(t, []any{fetch, "bots", "Bot <b>fetch</b>", 0, int64(0)},
		[]any{strconv.FormatInt(s.Polled[0].Bot, 10), s.Polled[0].App, s.Polled[0].Name, s.Polled[0].Waiting, s.Polled[0].NextOffset})

	write := func(bot string) map[string]any {
		t.Helper()
		return p.post("/api/objects", `{"kind":"message","action":"add","bot":`+bot+`,"fields":{"MESSAGE":"Hello"}}`)
	}
	require.Equal(t, []any{"ONIMBOTV2MESSAGEADD", true}, []any{write(pushed)["event"], true})
	out := write(strconv.FormatInt(old, 10))
	require.Equal(t, []any{"ONIMBOTMESSAGEADD", true}, []any{out["event"], out["heard"]})
	out = p.post("/api/objects", `{"kind":"message","action":"update","fields":{"MESSAGE":"Hi"}}`)
	require.Equal(t, []any{"ONIMBOTMESSAGEUPDATE", false}, []any{out["event"], out["heard"]})
	require.Contains(t, out["why"], "has not bound ONIMBOTMESSAGEUPDATE")
	out = write(fetch)
	require.Equal(t, []any{"ONIMBOTV2MESSAGEADD", true}, []any{out["event"], out["heard"]})
	out = p.post("/api/objects", `{"kind":"message","action":"update","fields":{"MESSAGE":"Hello again"}}`)
	require.Equal(t, []any{"ONIMBOTV2MESSAGEUPDATE", true}, []any{out["event"], out["heard"]})

	log := p.state("").Polled[0]
	require.Equal(t, 3, log.Waiting, "it also joined the chat")
	require.Equal(t, "ONIMBOTV2MESSAGEUPDATE", log.Latest[0].Event)
	require.Contains(t, string(log.Latest[0].Data), "Hello again")
	var got struct {
		NextOffset int64 `json:"nextOffset"`
	}
	require.NoError(t, json.Unmarshal(c.call("imbot.v2.Event.get", url.Values{"botId": {fetch}}), &got))
	require.Equal(t, got.NextOffset, log.NextOffset)
	c.call("imbot.v2.Event.get", url.Values{"botId": {fetch}, "offset": {strconv.FormatInt(log.NextOffset, 10)}})
	require.Zero(t, p.state("").Polled[0].Waiting)

	raised := p.post("/api/bots/"+fetch+"/raise", `{"event":"OnImBotV2ContextGet","data":{"dialogId":"1"},"times":2}`)
	require.Equal(t, []any{true, "ONIMBOTV2CONTEXTGET raised for bot " + fetch + " 2 times"}, []any{raised["heard"], raised["text"]})
	require.Equal(t, 2, p.state("").Polled[0].Waiting)
	require.Equal(t, true, p.post("/api/bots/"+pushed+"/raise", `{"event":"ONIMBOTV2CONTEXTGET"}`)["heard"])
	p.post("/api/apps/bots/status", `{"active":false}`)
	require.Contains(t, p.post("/api/bots/"+pushed+"/raise", `{"event":"ONIMBOTV2CONTEXTGET"}`)["why"], "switched off")
	for path, body := range map[string]string{
		"/api/bots/x/raise":                        `{"event":"ONIMBOTV2CONTEXTGET"}`,
		"/api/bots/" + fetch + "/raise":            `{"event":"ONCRMDEALADD"}`,
		"/api/bots/" + pushed + "/raise":           `{"event":"ONIMBOTV2"}`,
		"/api/bots/" + fetch + "/raise?":           `{"event":"ONIMBOTV2CONTEXTGET","data":[`,
		"/api/bots/" + fetch + "/raise?x=too-many": `{"event":"ONIMBOTV2CONTEXTGET","times":1001}`,
	} {
		p.refuse(path, body, 400)
	}
	p.refuse(fmt.Sprintf("/api/bots/%d/raise", old), `{"event":"ONIMBOTV2CONTEXTGET"}`, 404)
}

// TestPolledUsers shows the events of a subscribed user, and the reaction to a bot's message.
func TestPolledUsers(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	c := newBotCaller(t, p, "bots")
	fetch := c.register("fetch", "")
	c.call("im.v2.Event.subscribe", url.Values{})
	var sent struct {
		ID int64 `json:"id"`
	}
	require.NoError(t, json.Unmarshal(c.call("imbot.v2.Chat.Message.send",
		url.Values{"botId": {fetch}, "dialogId": {"1"}, "fields[message]": {"Hello"}}), &sent))
	message := strconv.FormatInt(sent.ID, 10)
	require.Equal(t, "like added to message "+message, p.post("/api/reactions", `{"message":`+message+`,"reaction":"like"}`)["text"])
	logs := p.state("").Polled
	require.Len(t, logs, 2)
	require.Equal(t, []any{1, "ONIMBOTV2REACTIONCHANGE"}, []any{logs[0].Waiting, logs[0].Latest[0].Event})
	require.Equal(t, []any{int64(1), "Ada Min", 2}, []any{logs[1].User, logs[1].Name, logs[1].Waiting})
	require.Equal(t, "ONIMV2REACTIONCHANGE", logs[1].Latest[0].Event)
	p.post("/api/reactions", `{"message":`+message+`,"reaction":"like","remove":true}`)
	require.Equal(t, 3, p.state("").Polled[1].Waiting)
	p.refuse("/api/reactions", `{"message":99,"reaction":"like"}`, 404)
	p.refuse("/api/reactions", `{"message":`+message+`}`, 400)
	p.refuse("/api/reactions", `{"message":`+message+`,"reaction":"like","user":2}`, 400)
}
