package eventtest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

var v2Events = []string{
	"ONIMBOTV2MESSAGEADD", "ONIMBOTV2MESSAGEUPDATE", "ONIMBOTV2MESSAGEDELETE", "ONIMBOTV2JOINCHAT",
	"ONIMBOTV2DELETE", "ONIMBOTV2CONTEXTGET", "ONIMBOTV2COMMANDADD", "ONIMBOTV2REACTIONCHANGE",
}

// botID reads the ID in the response of a method of imbot.v2.Bot.
func botID(t *testing.T, a answer) int64 {
	t.Helper()
	bot, ok := a.object(t)["bot"].(obj)
	require.True(t, ok, a.Raw)
	id, ok := bot["id"].(float64)
	require.True(t, ok, a.Raw)
	return int64(id)
}

// subscriptions returns the URLs that get ONIMBOTV2* events, by event.
func subscriptions(p *eventtest.Portal) map[string][]string {
	list := map[string][]string{}
	for _, b := range p.Bindings() {
		if strings.HasPrefix(b.Event, "ONIMBOTV2") {
			list[b.Event] = append(list[b.Event], b.Handler)
		}
	}
	return list
}

// write sends a message of the administrator to a bot.
func write(t *testing.T, p *eventtest.Portal, bot int64, text string) int64 {
	t.Helper()
	id, err := p.Add(eventtest.ChatMessage, obj{"DIALOG_ID": bot, "MESSAGE": text}, eventtest.AdminID)
	require.NoError(t, err)
	return id
}

func TestBotV2Deliveries(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		whole bool
		keys  []string
	}{
		{"10.4 the documented envelope", false, []string{"application_token", "domain"}},
		{"10.4 an envelope like that of other events", true, []string{
			"access_token", "application_token", "client_endpoint", "domain", "expires", "expires_in", "member_id", "refresh_token",
			"scope", "server_endpoint", "status", "user_id",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t, eventtest.WithQuirks(func(q *eventtest.Quirks) { q.WholeBotAuth = tt.whole }))
			in := newInbox(t)
			bot := botID(t, c.ok("imbot.v2.Bot.register", obj{"fields": obj{
				"code": "helper", "properties": obj{"name": "Helper", "lastName": "Bot"}, "eventMode": "webhook", "webhookUrl": in.URL,
			}}))
			require.Len(t, subscriptions(p), len(v2Events))
			message := write(t, p, bot, "Hello")
			require.NoError(t, p.Update(eventtest.ChatMessage, message, obj{"MESSAGE": "Hello!"}, eventtest.AdminID))
			require.NoError(t, p.Delete(eventtest.ChatMessage, message, eventtest.AdminID))
			require.Equal(t, obj{"result": true}, c.ok("imbot.v2.Bot.unregister", obj{"botId": bot}).object(t))
			wait(t, p)
			require.Equal(t, []string{
				"ONIMBOTV2JOINCHAT", "ONIMBOTV2MESSAGEADD", "ONIMBOTV2MESSAGEUPDATE", "ONIMBOTV2MESSAGEDELETE", "ONIMBOTV2DELETE",
			}, in.events(t), "the last event of a deleted bot reaches it")
			require.Empty(t, subscriptions(p), "and its subscriptions go")
			for i, form := range in.forms(t) {
				keys := slices.Clone(tt.keys)
				if name := form.Get("event"); name == "ONIMBOTV2JOINCHAT" || name == "ONIMBOTV2DELETE" {
					keys = slices.DeleteFunc(keys, func(key string) bool { return key == "refresh_token" })
				}
				require.Equal(t, keys, authKeys(form))
				require.Equal(t, string(c.app.ApplicationToken()), form.Get("auth[application_token]"))
				require.Equal(t, p.MemberID(), form.Get("data[bot][auth][member_id]"), "10.4 member_id stands in data.bot.auth")
				d := parse(t, event.Secret(in.bodies[i]))
				info, ok := event.Lookup(d.Name)
				require.True(t, ok)
				_, err := info.Payload(d)
				require.NoError(t, err)
			}
			added, err := event.OnImBotV2MessageAdd.Decode(parse(t, event.Secret(in.bodies[1])))
			require.NoError(t, err)
			require.Equal(t, bot, added.Bot.ID)
			require.Equal(t, "helper", added.Bot.Code)
			require.Equal(t, bot, added.Bot.Auth.UserID)
			require.Equal(t, p.ClientEndpoint(), added.Bot.Auth.ClientEndpoint)
			require.Equal(t, "Hello", added.Message.Text)
			require.Equal(t, message, added.Message.ID)
			require.Equal(t, eventtest.AdminID, added.User.ID)
			require.Equal(t, "1", added.Chat.DialogID)
			removed, err := event.OnImBotV2MessageDelete.Decode(parse(t, event.Secret(in.bodies[3])))
			require.NoError(t, err)
			require.Equal(t, message, removed.MessageID)
		})
	}
}

// TestBotV2Tokens checks that the tokens in data belong to the bot.
func TestBotV2Tokens(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	in := newInbox(t)
	bot, err := c.app.AddBot(eventtest.Bot{Webhook: in.URL})
	require.NoError(t, err)
	write(t, p, bot, "Hello")
	wait(t, p)
	form := in.forms(t)[1]
	me := &caller{t: t, p: p, app: c.app, token: form.Get("data[bot][auth][access_token]")}
	require.EqualValues(t, bot, atoi(t, me.ok("profile", nil).object(t)["ID"].(string))) //nolint:forcetypeassert // a test
	pair := trade(t, p, c.app, event.Secret(form.Get("data[bot][auth][refresh_token]")))
	require.Equal(t, http.StatusOK, pair.Status)
	require.Len(t, c.app.Bots(), 1)
	require.Equal(t, in.URL, c.app.Bots()[bot].Webhook)
}

// TestBotTokenRotation covers PROTOCOL 6: another botToken links the bot's events to another
// application token.
func TestBotTokenRotation(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	in := newInbox(t)
	c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
	own := string(c.app.ApplicationToken())
	first := botID(t, c.ok("imbot.v2.Bot.register", obj{"fields": obj{
		"code": "first", "properties": obj{"name": "First"}, "eventMode": "webhook", "webhookUrl": in.URL,
	}}))
	second, err := c.app.AddBot(eventtest.Bot{Code: "second", Webhook: in.URL})
	require.NoError(t, err)
	seen := func() map[string]string { // application tokens by bot, or by event
		t.Helper()
		before := len(in.forms(t))
		write(t, p, first, "a")
		write(t, p, second, "b")
		addDeal(t, p)
		wait(t, p)
		tokens := map[string]string{}
		for _, form := range in.forms(t)[before:] {
			key := form.Get("data[bot][code]")
			if key == "" {
				key = form.Get("event")
			}
			tokens[key] = form.Get("auth[application_token]")
		}
		return tokens
	}
	require.Equal(t, map[string]string{"first": own, "second": own, "ONCRMDEALADD": own}, seen())

	c.ok("imbot.v2.Bot.update", obj{"botId": first, "fields": obj{"botToken": " "}})
	require.Equal(t, own, seen()["first"], "an empty botToken is ignored")

	c.ok("imbot.v2.Bot.update", obj{"botId": first, "fields": obj{"botToken": "new"}})
	tokens := seen()
	require.NotEqual(t, own, tokens["first"], "6 rotating a botToken links the bot's events to a new application token")
	require.Regexp(t, "^[0-9a-f]{32}$", tokens["first"])
	require.Equal(t, own, tokens["second"], "6 those of other bots keep theirs")
	require.Equal(t, own, tokens["ONCRMDEALADD"], "6 and so do other events")

	again, err := c.app.RotateBotToken(first)
	require.NoError(t, err)
	require.Equal(t, string(again), seen()["first"])
	require.NotEqual(t, tokens["first"], string(again), "each rotation brings another")

	refusal := c.call("imbot.v2.Bot.get", obj{"botId": first, "botToken": "new"})
	require.Equal(t, "BOT_OWNERSHIP_ERROR", refusal.Error, "the old botToken is dead")
	require.Equal(t, http.StatusForbidden, refusal.Status)
	c.ok("imbot.v2.Bot.update", obj{"botId": first, "fields": obj{"botToken": "taken"}})
	require.Equal(t, "BOT_TOKEN_ROTATION_FAILED",
		c.call("imbot.v2.Bot.update", obj{"botId": second, "fields": obj{"botToken": "taken"}}).Error)
	_, err = c.app.RotateBotToken(99)
	require.ErrorIs(t, err, eventtest.ErrNotFound)
	classic, err := c.app.AddBot(eventtest.Bot{Code: "classic"})
	require.NoError(t, err)
	_, err = c.app.RotateBotToken(classic)
	require.ErrorIs(t, err, eventtest.ErrNotFound)
}

func TestBotV2Subscriptions(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	at := func(urls ...string) map[string][]string {
		list := map[string][]string{}
		for _, name := range v2Events {
			list[name] = urls
		}
		return list
	}
	const one, two = "https://app.example.com/one", "https://app.example.com/two"
	fields := obj{"code": "helper", "properties": obj{"name": "Helper"}}
	bot := botID(t, c.ok("imbot.v2.Bot.register", obj{"fields": fields}))
	require.Empty(t, subscriptions(p), "10.1 the mode is fetch unless it is said otherwise")
	write(t, p, bot, "Hello")
	wait(t, p)
	require.Empty(t, p.Deliveries())
	require.Equal(t, bot, botID(t,
		c.ok("imbot.v2.Bot.register", obj{"fields": with(with(fields, "eventMode", "webhook"), "webhookUrl", one)})),
		"the same code is the same bot")
	require.Empty(t, subscriptions(p), "which stays as it is")

	for _, step := range []struct {
		name   string
		fields obj
		want   map[string][]string
	}{
		{"webhook", obj{"eventMode": "webhook", "webhookUrl": one}, at(one)},
		{"another URL", obj{"webhookUrl": two}, at(two)},
		{"something else", obj{"properties": obj{"name": "Other"}}, at(two)},
		{"fetch", obj{"eventMode": "fetch"}, at()},
		{"webhook again", obj{"eventMode": "webhook", "webhookUrl": one}, at(one)},
	} {
		c.ok("imbot.v2.Bot.update", obj{"botId": bot, "fields": step.fields})
		if len(step.want["ONIMBOTV2DELETE"]) == 0 {
			require.Empty(t, subscriptions(p), step.name)
			continue
		}
		require.Equal(t, step.want, subscriptions(p), step.name)
	}
	listed := 0
	for _, row := range c.ok("event.get", nil).list(t) {
		if strings.HasPrefix(row.(obj)["event"].(string), "ONIMBOTV2") { //nolint:forcetypeassert // a test
			listed++
		}
	}
	require.Equal(t, len(v2Events), listed, "event.get lists them")
	require.NoError(t, c.app.DeleteBot(bot, eventtest.AdminID))
	require.Empty(t, subscriptions(p))
}

func TestBotV2Refuses(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	fields := obj{"code": "helper", "properties": obj{"name": "Helper"}, "eventMode": "webhook", "webhookUrl": "https://app.example.com/"}
	for _, tt := range []struct {
		name, method string
		params       obj
		status       int
		code         string
	}{
		{"no code", "register", obj{"fields": without(fields, "code")}, 400, "BOT_CODE_REQUIRED"},
		{"no name", "register", obj{"fields": without(fields, "properties")}, 400, "BOT_PROPERTIES_REQUIRED"},
		{"type", "register", obj{"fields": with(fields, "type", "B")}, 400, "BOT_INVALID_TYPE"},
		{"mode", "register", obj{"fields": with(fields, "eventMode", "push")}, 400, "BOT_INVALID_EVENT_MODE"},
		{"no URL", "register", obj{"fields": without(fields, "webhookUrl")}, 400, "BOT_WEBHOOK_URL_REQUIRED"},
		{"bad URL", "register", obj{"fields": with(fields, "webhookUrl", "https://localhost/")}, 400, "BOT_INVALID_CALLBACK"},
		{"long botToken", "register", obj{"fields": with(fields, "botToken", strings.Repeat("x", 41))}, 400, "BOT_TOKEN_INVALID_LENGTH"},
		{"no bot", "get", nil, 400, "BOT_ID_REQUIRED"},
		{"unknown bot", "get", obj{"botId": 99}, 400, "BOT_NOT_FOUND"},
		{"unknown bot to delete", "unregister", obj{"botId": 99}, 400, "BOT_NOT_FOUND"},
	} {
		a := c.call("imbot.v2.Bot."+tt.method, tt.params)
		require.Equal(t, tt.status, a.Status, tt.name)
		require.Equal(t, tt.code, a.Error, tt.name)
	}
	bot := botID(t, c.ok("imbot.v2.Bot.register", obj{"fields": fields}))
	other := install(t, p, eventtest.App{Scope: []string{"imbot"}})
	for _, method := range []string{"get", "update", "unregister"} {
		require.Equal(t, "BOT_OWNERSHIP_ERROR", other.call("imbot.v2.Bot."+method, obj{"botId": bot}).Error, method)
	}
	require.Equal(t, "BOT_INVALID_CALLBACK", c.call("imbot.v2.Bot.update", obj{"botId": bot, "fields": obj{"webhookUrl": "x"}}).Error)
	_, err := c.app.AddBot(eventtest.Bot{Code: "another", Webhook: "app.example.com"})
	require.ErrorIs(t, err, eventtest.ErrConfig)
	require.NoError(t, c.app.Uninstall(false))
	require.Empty(t, subscriptions(p))
}
