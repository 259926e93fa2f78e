package eventtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// polled is the result of imbot.v2.Event.get and im.v2.Event.get.
type polled struct {
	Events []struct {
		ID   int64           `json:"eventId"`
		Type string          `json:"type"`
		Date time.Time       `json:"date"`
		Data json.RawMessage `json:"data"`
	} `json:"events"`
	Next    int64 `json:"nextOffset"`
	HasMore bool  `json:"hasMore"`
}

func (p polled) types() []string {
	list := []string{}
	for _, e := range p.Events {
		list = append(list, e.Type)
	}
	return list
}

func (p polled) ids() []int64 {
	list := []int64{}
	for _, e := range p.Events {
		list = append(list, e.ID)
	}
	return list
}

func (c *caller) poll(method string, params obj) polled {
	c.t.Helper()
	var got polled
	require.NoError(c.t, json.Unmarshal(c.ok(method, params).Result, &got))
	return got
}

// pollPortal returns a portal with an application that may poll, and a bot in fetch mode.
func pollPortal(t *testing.T) (p *eventtest.Portal, c *caller, bot int64) {
	t.Helper()
	p = eventtest.NewPortal(t)
	c = install(t, p, eventtest.App{Scope: []string{"imbot", "im"}})
	return p, c, botID(t, c.ok("imbot.v2.Bot.register", obj{"fields": obj{
		"code": "helper", "properties": obj{"name": "Helper"}, "botToken": "secret",
	}}))
}

func TestPollBot(t *testing.T) {
	t.Parallel()
	p, c, bot := pollPortal(t)
	empty := c.call("imbot.v2.Event.get", obj{"botId": bot})
	require.JSONEq(t, `{"events":[],"nextOffset":0,"hasMore":false}`, string(empty.Result))

	message := write(t, p, bot, "Hello")
	require.NoError(t, p.Update(eventtest.ChatMessage, message, obj{"MESSAGE": "Hello!"}, eventtest.AdminID))
	require.NoError(t, p.Delete(eventtest.ChatMessage, message, eventtest.AdminID))
	var sent struct {
		ID int64 `json:"id"`
	}
	require.NoError(t, json.Unmarshal(
		c.ok("imbot.v2.Chat.Message.send", obj{"botId": bot, "dialogId": "1", "fields": obj{"message": "Hi"}}).Result, &sent))
	require.NoError(t, p.React(sent.ID, eventtest.AdminID, "like", true))
	require.NoError(t, p.React(sent.ID, eventtest.AdminID, "like", true), "it is there")
	require.NoError(t, p.React(sent.ID, eventtest.AdminID, "like", false))
	require.NoError(t, c.app.RaiseForBot(bot, "onImBotV2ContextGet", obj{"dialogId": "1", "context": obj{"entityId": 7}, "bot": obj{"id": 99}}, 0))
	require.Empty(t, p.Deliveries(), "nothing is posted")

	all := c.poll("imbot.v2.Event.get", obj{"botId": bot})
	require.Equal(t, []string{
		"ONIMBOTV2JOINCHAT", "ONIMBOTV2MESSAGEADD", "ONIMBOTV2MESSAGEUPDATE", "ONIMBOTV2MESSAGEDELETE",
		"ONIMBOTV2REACTIONCHANGE", "ONIMBOTV2REACTIONCHANGE", "ONIMBOTV2CONTEXTGET",
	}, all.types(), "10.1 no offset: everything that has piled up")
	require.True(t, slices.IsSorted(all.ids()))
	require.Equal(t, all.Events[6].ID+1, all.Next)
	require.False(t, all.HasMore)
	for i, e := range all.Events {
		require.WithinDuration(t, p.Now(), e.Date, time.Minute)
		d, err := event.ParsePolled(mustJSON(t, obj{"eventId": e.ID, "type": e.Type, "date": e.Date, "data": e.Data}))
		require.NoError(t, err)
		require.Equal(t, bot, mustInt(t, d.Data.Get("bot", "id")), i)
		require.Empty(t, d.Data.Get("bot", "auth").Text(), "10.1 no auth in data.bot")
		info, ok := event.Lookup(d.Name)
		require.True(t, ok)
		_, err = info.Payload(d)
		require.NoError(t, err)
	}
	var added map[string]any
	require.NoError(t, json.Unmarshal(all.Events[1].Data, &added))
	require.Equal(t, false, added["message"].(obj)["isSystem"], "10.1 typed JSON")       //nolint:forcetypeassert // a test
	require.InDelta(t, float64(message), added["message"].(obj)["id"], 0, "numbers too") //nolint:forcetypeassert // a test

	rest := c.poll("imbot.v2.Event.get", obj{"botId": bot, "offset": all.Events[2].ID})
	require.Equal(t, all.ids()[2:], rest.ids(), "10.1 an offset acknowledges what is below it")
	require.Equal(t, all.ids()[2:], c.poll("imbot.v2.Event.get", obj{"botId": bot}).ids(), "for good")
	require.Len(t, p.LoggedEvents(), len(all.ids())-2)
	none := c.poll("imbot.v2.Event.get", obj{"botId": bot, "offset": all.Next})
	require.Empty(t, none.Events)
	require.Equal(t, all.Next, none.Next)
	require.Empty(t, p.LoggedEvents())

	write(t, p, bot, "once more")
	logged := p.LoggedEvents()
	require.Len(t, logged, 1)
	require.Equal(t, bot, logged[0].BotID)
	require.Equal(t, "ONIMBOTV2MESSAGEADD", logged[0].Event)
	require.Equal(t, "once more", logged[0].Data.Get("message", "text").Text())
	p.Advance(24*time.Hour + time.Second)
	c = as(t, p, c.app, eventtest.AdminID)
	require.Empty(t, c.poll("imbot.v2.Event.get", obj{"botId": bot}).Events, "the log keeps a day")

	write(t, p, bot, "and gone")
	require.NoError(t, c.app.DeleteBot(bot, eventtest.AdminID))
	require.Empty(t, p.LoggedEvents())
	require.Equal(t, "BOT_NOT_FOUND", c.call("imbot.v2.Event.get", obj{"botId": bot}).Error)
}

func TestPollLimits(t *testing.T) {
	t.Parallel()
	p, c, bot := pollPortal(t)
	for n := range 1002 {
		write(t, p, bot, fmt.Sprint("message ", n))
	}
	ids := c.poll("imbot.v2.Event.get", obj{"botId": bot, "limit": 1000}).ids()
	for _, tt := range []struct {
		name   string
		params obj
		want   []int64
		more   bool
	}{
		{"10.1 hasMore", obj{}, ids[:100], true},
		{"small", obj{"limit": 2}, ids[:2], true},
		{"text", obj{"limit": "3"}, ids[:3], true},
		{"zero", obj{"limit": 0}, ids[:1], true},
		{"negative", obj{"limit": -5}, ids[:1], true},
		{"large", obj{"limit": 5000}, ids, true},
		{"offset that is none", obj{"limit": 2, "offset": "x"}, ids[:2], true},
		{"negative offset", obj{"limit": 2, "offset": -9}, ids[:2], true},
	} {
		tt.params["botId"] = bot
		got := c.poll("imbot.v2.Event.get", tt.params)
		require.Equal(t, tt.want, got.ids(), tt.name)
		require.Equal(t, tt.more, got.HasMore, tt.name)
		require.Equal(t, tt.want[len(tt.want)-1]+1, got.Next, tt.name)
	}
	last := c.poll("imbot.v2.Event.get", obj{"botId": bot, "offset": ids[999] + 1})
	require.Len(t, last.Events, 3, "the first message opened the chat")
	require.False(t, last.HasMore)
}

func TestPollUserEvents(t *testing.T) {
	t.Parallel()
	p, c, bot := pollPortal(t)
	colleague := p.AddUser(eventtest.User{Name: "Colleague"})
	talk := func(text string) int64 {
		t.Helper()
		id, err := p.Add(eventtest.ChatMessage, obj{"DIALOG_ID": eventtest.AdminID, "MESSAGE": text}, colleague)
		require.NoError(t, err)
		return id
	}
	talk("not logged")
	require.Empty(t, c.poll("im.v2.Event.get", nil).Events, "10.2 nothing is logged without a subscription")
	require.Equal(t, "USER_NOT_SUBSCRIBED", c.call("imbot.v2.Event.get", obj{"botId": bot, "withUserEvents": true}).Error,
		"10.1 it needs a subscription")
	require.NoError(t, p.RaiseForUser(eventtest.AdminID, "ONIMV2JOINCHAT", nil))
	for range 2 {
		require.JSONEq(t, "true", string(c.ok("im.v2.Event.subscribe", nil).Result), "10.2 subscribe is idempotent")
	}
	require.Empty(t, p.LoggedEvents())

	first := talk("Hello")
	require.NoError(t, p.Update(eventtest.ChatMessage, first, obj{"MESSAGE": "Hello!"}, colleague))
	require.NoError(t, p.React(first, eventtest.AdminID, "like", true))
	require.NoError(t, p.Delete(eventtest.ChatMessage, first, colleague))
	require.NoError(t, p.RaiseForUser(eventtest.AdminID, "ONIMV2JOINCHAT", obj{"dialogId": "chat5"}))
	mine := c.poll("im.v2.Event.get", nil)
	require.Equal(t, []string{
		"ONIMV2MESSAGEADD", "ONIMV2MESSAGEUPDATE", "ONIMV2REACTIONCHANGE", "ONIMV2MESSAGEDELETE", "ONIMV2JOINCHAT",
	}, mine.types(), "10.2 five events")
	added, err := event.OnImV2MessageAdd.Decode(polledDelivery(t, mine, 0))
	require.NoError(t, err)
	require.Equal(t, "Hello", added.Message.Text)
	require.Equal(t, colleague, added.User.ID)
	require.Equal(t, strconv.FormatInt(colleague, 10), added.Chat.DialogID, "dialogs are named after the counterpart")
	reacted, err := event.OnImV2ReactionChange.Decode(polledDelivery(t, mine, 2))
	require.NoError(t, err)
	require.Equal(t, "add", reacted.Action)
	require.Equal(t, eventtest.AdminID, reacted.User.ID)

	write(t, p, bot, "to the bot") // an event of each kind, and one for the chat
	both := c.poll("imbot.v2.Event.get", obj{"botId": bot, "withUserEvents": "Y"})
	require.Equal(t, append(mine.types(), "ONIMBOTV2JOINCHAT", "ONIMBOTV2MESSAGEADD", "ONIMV2MESSAGEADD"), both.types(),
		"10.1 both kinds in one response")
	require.Len(t, c.poll("imbot.v2.Event.get", obj{"botId": bot, "withUserEvents": "N"}).Events, 2)
	require.Len(t, c.poll("imbot.v2.Event.get", obj{"botId": bot, "offset": mine.Next}).Events, 2, "the user's events stay")
	require.Len(t, p.LoggedEvents(), len(both.Events))
	left := c.poll("imbot.v2.Event.get", obj{"botId": bot, "withUserEvents": true, "offset": both.Events[7].ID})
	require.Equal(t, []string{"ONIMV2MESSAGEADD"}, left.types(), "10.1 both kinds are acknowledged by one offset")
	require.Len(t, p.LoggedEvents(), 1)

	require.JSONEq(t, "true", string(c.ok("im.v2.Event.unsubscribe", nil).Result))
	c.ok("im.v2.Event.unsubscribe", nil)
	talk("not logged")
	require.Equal(t, left.ids(), c.poll("im.v2.Event.get", nil).ids(), "what was logged stays")

	// Another application's subscription logs too, and both read one log.
	other := install(t, p, eventtest.App{Scope: []string{"im"}})
	other.ok("im.v2.Event.subscribe", nil)
	talk("for both")
	got := other.poll("im.v2.Event.get", obj{"offset": left.Next})
	require.Equal(t, []string{"ONIMV2MESSAGEADD"}, got.types())
	require.Equal(t, got.ids(), c.poll("im.v2.Event.get", nil).ids(), "acknowledged for all")
	require.NoError(t, other.app.Uninstall(false))
	talk("not logged")
	require.Equal(t, got.ids(), c.poll("im.v2.Event.get", nil).ids(), "subscriptions go with the application")

	require.Equal(t, "ERROR_EVENT_NOT_FOUND",
		install(t, p, eventtest.App{Scope: []string{"im"}}).call("event.bind", obj{"event": "ONIMV2MESSAGEADD", "handler": "https://app.example.com/"}).Error,
		"10.2 not by event.bind")
}

func polledDelivery(t *testing.T, p polled, i int) *event.Delivery {
	t.Helper()
	e := p.Events[i]
	d, err := event.ParsePolled(mustJSON(t, obj{"eventId": e.ID, "type": e.Type, "date": e.Date, "data": e.Data}))
	require.NoError(t, err)
	return d
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	doc, err := json.Marshal(v)
	require.NoError(t, err)
	return doc
}

func mustInt(t *testing.T, d event.Data) int64 {
	t.Helper()
	var n int64
	require.NoError(t, d.Decode(&n))
	return n
}

func TestPollRefuses(t *testing.T) {
	t.Parallel()
	p, c, bot := pollPortal(t)
	write(t, p, bot, "Hello")
	other := install(t, p, eventtest.App{Scope: []string{"imbot"}})
	noIM := install(t, p, eventtest.App{Scope: []string{"imbot"}})
	own := botID(t, noIM.ok("imbot.v2.Bot.register", obj{"fields": obj{"code": "own", "properties": obj{"name": "Own"}}}))
	hook, err := p.AddIncomingWebhook(eventtest.AdminID, "imbot", "im")
	require.NoError(t, err)
	byHook := func(method string, params obj) answer {
		return send(t, http.MethodPost, string(hook)+method, "application/json", string(mustJSON(t, params)))
	}
	for _, tt := range []struct {
		name   string
		got    answer
		status int
		code   string
	}{
		{"no bot", c.call("imbot.v2.Event.get", nil), 400, "BOT_ID_REQUIRED"},
		{"unknown bot", c.call("imbot.v2.Event.get", obj{"botId": 999}), 400, "BOT_NOT_FOUND"},
		{"not a bot", c.call("imbot.v2.Event.get", obj{"botId": eventtest.AdminID}), 400, "BOT_NOT_FOUND"},
		{"10.1 one application", other.call("imbot.v2.Event.get", obj{"botId": bot}), 403, "BOT_OWNERSHIP_ERROR"},
		{"10.1 it needs im", noIM.call("imbot.v2.Event.get", obj{"botId": own, "withUserEvents": true}), 403, "SCOPE_ERROR"},
		{"no scope im", noIM.call("im.v2.Event.subscribe", nil), 401, "insufficient_scope"},
		{"10.1 a botToken is missing", byHook("imbot.v2.Event.get", obj{"botId": bot}), 400, "BOT_TOKEN_NOT_SPECIFIED"},
		{"another botToken", byHook("imbot.v2.Event.get", obj{"botId": bot, "botToken": "x"}), 403, "BOT_OWNERSHIP_ERROR"},
		{"a bot without botToken", byHook("imbot.v2.Event.get", obj{"botId": own, "botToken": "secret"}), 403, "BOT_OWNERSHIP_ERROR"},
		{"no text", c.call("imbot.v2.Chat.Message.send", obj{"botId": bot, "dialogId": "1"}), 400, "EMPTY_MESSAGE"},
		{"no dialog", c.call("imbot.v2.Chat.Message.send", obj{"botId": bot, "fields": obj{"message": "x"}}), 403, "ACCESS_DENIED"},
	} {
		require.Equal(t, tt.code, tt.got.Error, tt.name)
		require.Equal(t, tt.status, tt.got.Status, tt.name)
	}
	require.Contains(t, byHook("imbot.v2.Event.get", obj{"botId": bot, "botToken": "secret"}).Raw, "ONIMBOTV2MESSAGEADD")
	require.Contains(t, byHook("im.v2.Event.subscribe", nil).Raw, "true")
	require.Contains(t, byHook("imbot.v2.Event.get", obj{"botId": bot, "botToken": "secret", "withUserEvents": 1}).Raw, "ONIMBOTV2MESSAGEADD")

	require.ErrorIs(t, c.app.RaiseForBot(bot, "ONIMBOTMESSAGEADD", nil, 0), eventtest.ErrConfig)
	require.ErrorIs(t, c.app.RaiseForBot(own, "ONIMBOTV2CONTEXTGET", nil, 0), eventtest.ErrNotFound)
	require.ErrorIs(t, c.app.RaiseForBot(bot, "ONIMBOTV2CONTEXTGET", nil, 999), eventtest.ErrNotFound)
	require.ErrorIs(t, p.RaiseForUser(999, "ONIMV2JOINCHAT", nil), eventtest.ErrNotFound)
	require.ErrorIs(t, p.RaiseForUser(1, "ONIMBOTV2JOINCHAT", nil), eventtest.ErrConfig)
	message := write(t, p, bot, "Hello")
	require.ErrorIs(t, p.React(999, eventtest.AdminID, "like", true), eventtest.ErrNotFound)
	require.ErrorIs(t, p.React(message, 999, "like", true), eventtest.ErrNotFound)
	require.ErrorIs(t, p.React(message, eventtest.AdminID, "", true), eventtest.ErrConfig)
	require.ErrorIs(t, p.React(message, p.AddUser(eventtest.User{}), "like", true), eventtest.ErrConfig)
}

// A bot in webhook mode gets what RaiseForBot and React raise as a delivery.
func TestRaiseForWebhookBot(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	in := newInbox(t)
	bot, err := c.app.AddBot(eventtest.Bot{Webhook: in.URL})
	require.NoError(t, err)
	require.NoError(t, c.app.RaiseForBot(bot, "ONIMBOTV2CONTEXTGET", obj{"dialogId": "1"}, eventtest.AdminID))
	said := c.ok("imbot.v2.Chat.Message.send", obj{"botId": bot, "dialogId": 1, "fields": obj{"message": "Hi"}}).object(t)
	require.NoError(t, p.React(int64(said["id"].(float64)), eventtest.AdminID, "like", true)) //nolint:forcetypeassert // a test
	wait(t, p)
	require.Equal(t, []string{"ONIMBOTV2CONTEXTGET", "ONIMBOTV2REACTIONCHANGE"}, in.events(t))
	require.Equal(t, "add", in.forms(t)[1].Get("data[action]"))
	require.Empty(t, p.LoggedEvents())
}

// TestEventLogs shows what waits for a bot in fetch mode and for a subscribed user: how much, and
// the offset that acknowledges all of it.
func TestEventLogs(t *testing.T) {
	t.Parallel()
	p, c, bot := pollPortal(t)
	require.Equal(t, []eventtest.EventLog{{BotID: bot}}, p.EventLogs(10), "the empty log of a bot")
	added, err := c.app.AddBot(eventtest.Bot{Code: "second", Fetch: true})
	require.NoError(t, err)
	old, err := c.app.AddBot(eventtest.Bot{Code: "old"})
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, false}, []bool{c.app.Bots()[bot].Fetch, c.app.Bots()[added].Fetch, c.app.Bots()[old].Fetch})
	_, err = c.app.AddBot(eventtest.Bot{Code: "both", Fetch: true, Webhook: "http://127.0.0.1:9/"})
	require.ErrorIs(t, err, eventtest.ErrConfig)

	c.ok("im.v2.Event.subscribe", nil)
	write(t, p, bot, "one")
	write(t, p, bot, "two")
	write(t, p, old, "three")
	logs := p.EventLogs(2)
	require.Len(t, logs, 3, "an old bot has none")
	require.Equal(t, []int64{bot, added, 0}, []int64{logs[0].BotID, logs[1].BotID, logs[2].BotID})
	require.Equal(t, []int{3, 0, 3}, []int{logs[0].Waiting, logs[1].Waiting, logs[2].Waiting}, "the bot also joined the chat")
	require.Equal(t, eventtest.AdminID, logs[2].UserID)
	require.Zero(t, logs[1].NextOffset)
	require.Len(t, logs[0].Latest, 2)
	require.Equal(t, "two", logs[0].Latest[1].Data.Get("message", "text").Text())
	require.Empty(t, p.EventLogs(0)[0].Latest)

	got := c.poll("imbot.v2.Event.get", obj{"botId": bot})
	require.Equal(t, got.Next, logs[0].NextOffset, "as a bot sees it that reads all")
	c.poll("imbot.v2.Event.get", obj{"botId": bot, "offset": got.Next})
	require.Equal(t, eventtest.EventLog{BotID: bot}, p.EventLogs(2)[0], "acknowledged")
	c.ok("imbot.v2.Bot.update", obj{"botId": bot, "fields": obj{"eventMode": "webhook", "webhookUrl": "http://10.0.0.1/bot"}})
	require.Equal(t, added, p.EventLogs(2)[0].BotID, "a bot in webhook mode has none")
	require.False(t, c.app.Bots()[bot].Fetch)
}

// TestEventLogIsBounded lets a bot in fetch mode never poll.
func TestEventLogIsBounded(t *testing.T) {
	t.Parallel()
	p, c, bot := pollPortal(t)
	for range 70 {
		require.NoError(t, c.app.RaiseForBot(bot, "ONIMBOTV2CONTEXTGET", obj{"context": strings.Repeat("x", 1<<20)}, 1))
	}
	log := p.EventLogs(1)[0]
	require.Less(t, log.Waiting, 64)
	require.Greater(t, log.Waiting, 60, "the latest are kept")
	require.Equal(t, log.NextOffset-1, log.Latest[0].ID)
	c.poll("imbot.v2.Event.get", obj{"botId": bot, "offset": log.NextOffset})
	for range 20_100 {
		require.NoError(t, c.app.RaiseForBot(bot, "ONIMBOTV2CONTEXTGET", nil, 1))
	}
	require.Equal(t, 20_000, p.EventLogs(0)[0].Waiting, "what was acknowledged does not count")
}
