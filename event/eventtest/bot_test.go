package eventtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// botEvents returns the events of a bot.
var botEvents = []string{"ONIMBOTMESSAGEADD", "ONIMBOTMESSAGEUPDATE", "ONIMBOTMESSAGEDELETE", "ONIMBOTJOINCHAT", "ONIMBOTDELETE"}

// botPortal returns a portal with an application whose bot sends its events to an inbox.
func botPortal(t *testing.T) (p *eventtest.Portal, c *caller, in *inbox, bot int64) {
	t.Helper()
	p = eventtest.NewPortal(t)
	c = install(t, p, eventtest.App{Scope: []string{"im", "imbot", "user"}})
	in = newInbox(t)
	bot, err := c.app.AddBot(eventtest.Bot{Code: "helper", Name: "Helper"})
	require.NoError(t, err)
	for _, name := range botEvents {
		c.bind(obj{"event": name, "handler": in.URL})
	}
	return p, c, in, bot
}

func TestChatMessages(t *testing.T) {
	t.Parallel()
	p, c, in, bot := botPortal(t)
	require.Equal(t, map[int64]eventtest.Bot{bot: {Code: "helper", Name: "Helper", Type: "B"}}, c.app.Bots())
	foreign := newInbox(t)
	install(t, p, eventtest.App{Scope: []string{"imbot"}}).bind(obj{"event": "ONIMBOTMESSAGEADD", "handler": foreign.URL})
	eve := p.AddUser(eventtest.User{Name: "Eve", LastName: "Adams"})
	id, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": " hello & hi "}, eve)
	require.NoError(t, err)
	require.NoError(t, p.Update(eventtest.ChatMessage, id, map[string]any{"MESSAGE": "hello"}, eve))
	require.NoError(t, p.Update(eventtest.ChatMessage, id, map[string]any{}, eve), "without a text nothing happens")
	require.NoError(t, p.Delete(eventtest.ChatMessage, id, eve))
	_, ok := p.Object(eventtest.ChatMessage, id)
	require.False(t, ok)
	wait(t, p)
	require.Equal(t, []string{"ONIMBOTJOINCHAT", "ONIMBOTMESSAGEADD", "ONIMBOTMESSAGEUPDATE", "ONIMBOTMESSAGEDELETE"}, in.events(t))
	require.Empty(t, foreign.bodies, "only the bot's application is told")

	joined := parse(t, event.Secret(in.bodies[0]))
	require.Equal(t, strconv.FormatInt(eve, 10), joined.Data.Get("PARAMS", "DIALOG_ID").Text())
	require.Empty(t, joined.Auth.RefreshToken, "PROTOCOL 4.4: joining carries none")
	added := parse(t, event.Secret(in.bodies[1]))
	e, err := event.OnImBotMessageAdd.Decode(added)
	require.NoError(t, err)
	require.Equal(t, "hello & hi", e.Params.Message)
	require.Equal(t, eve, e.Params.FromUserID)
	require.Equal(t, bot, e.Params.ToUserID)
	require.Equal(t, "Eve Adams", e.User.Name)
	require.Equal(t, "helper", e.Bots[strconv.FormatInt(bot, 10)].Code)
	require.NotEmpty(t, added.Auth.RefreshToken)
	changed, err := event.OnImBotMessageUpdate.Decode(parse(t, event.Secret(in.bodies[2])))
	require.NoError(t, err)
	require.Equal(t, "hello", changed.Params.Message)
	require.Equal(t, id, changed.Params.ID)
	gone, err := event.OnImBotMessageDelete.Decode(parse(t, event.Secret(in.bodies[3])))
	require.NoError(t, err)
	require.Regexp(t, `^Message from \d\d/\d\d/\d{4} \d\d:\d\d:\d\d has been deleted$`, gone.Params.Message)

	self := &caller{t: t, p: p, token: string(e.Bots[strconv.FormatInt(bot, 10)].AccessToken)}
	require.Equal(t, strconv.FormatInt(bot, 10), self.ok("user.current", nil).object(t)["ID"], "the bot's own tokens work")
	for _, row := range c.ok("user.get", nil).list(t) {
		require.NotEqual(t, strconv.FormatInt(bot, 10), row.(obj)["ID"], //nolint:forcetypeassert // the test's point
			"user.get does not list bots")
	}
}

// TestBotEventsLikeSamples compares the keys and types of the events with the captured ones of the
// catalogue.
func TestBotEventsLikeSamples(t *testing.T) {
	t.Parallel()
	p, c, _, bot := botPortal(t)
	for _, name := range botEvents {
		c.bind(obj{"event": name, "event_type": "offline"})
	}
	id, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": "a"}, 1)
	require.NoError(t, err)
	require.NoError(t, p.Update(eventtest.ChatMessage, id, map[string]any{"MESSAGE": "b"}, 1))
	require.NoError(t, p.Delete(eventtest.ChatMessage, id, 1))
	require.NoError(t, c.app.DeleteBot(bot, 1))
	_, rows := c.offlineGet(nil)
	require.Len(t, rows, len(botEvents))
	for _, row := range rows {
		name := row["EVENT_NAME"].(string) //nolint:forcetypeassert // the test's point
		sample := readSample(t, name)
		want, got := shape(sample["EVENT_DATA"]), shape(row["EVENT_DATA"])
		if name == "ONIMBOTMESSAGEDELETE" { // the captured one was not written in a browser
			delete(got["PARAMS"].(obj), "PLATFORM_CONTEXT") //nolint:forcetypeassert // the test's point
			delete(got["PARAMS"].(obj), "CHAT_USER_COUNT")  //nolint:forcetypeassert // the test's point
			delete(want["PARAMS"].(obj), "CHAT_USER_COUNT") //nolint:forcetypeassert // the test's point
		}
		require.Equal(t, want, got, name)
	}
}

// shape replaces every scalar by its type, and the key of a bot by a fixed one.
func shape(v any) obj {
	out := obj{}
	for key, v := range v.(obj) { //nolint:forcetypeassert // events are objects
		if _, err := strconv.Atoi(key); err == nil {
			key = "bot"
		}
		if m, ok := v.(obj); ok {
			out[key] = shape(m)
			continue
		}
		out[key] = fmt.Sprintf("%T", v)
	}
	return out
}

func TestBotRegistration(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	c := install(t, p, eventtest.App{Scope: []string{"imbot"}})
	other := install(t, p, eventtest.App{Scope: []string{"imbot"}})
	c.bind(obj{"event": "ONIMBOTMESSAGEADD", "handler": "http://10.0.0.1/old"})
	whole := obj{"CODE": "newbot", "EVENT_HANDLER": "http://10.0.0.1/bot", "PROPERTIES": obj{"NAME": "New", "LAST_NAME": "Bot"}}
	var bot int64
	require.NoError(t, json.Unmarshal(c.ok("imbot.register", whole).Result, &bot))
	require.Positive(t, bot)
	handlers := func() map[string]string {
		found := map[string]string{}
		for _, b := range p.Bindings() {
			found[b.Event] += b.Handler
		}
		return found
	}
	require.Equal(t, map[string]string{
		"ONIMBOTMESSAGEADD": "http://10.0.0.1/bot", "ONIMBOTJOINCHAT": "http://10.0.0.1/bot", "ONIMBOTDELETE": "http://10.0.0.1/bot",
	}, handlers(), "one handler for each event, none for edits of an ordinary bot's messages")
	require.JSONEq(t, strconv.FormatInt(bot, 10), string(c.ok("imbot.register", whole).Result), "the code again is the bot again")
	list := c.ok("imbot.bot.list", nil).object(t)
	require.Equal(t, obj{
		strconv.FormatInt(bot, 10): obj{"ID": float64(bot), "NAME": "New Bot", "CODE": "newbot", "OPENLINE": "N"},
	}, list)
	require.Len(t, other.ok("imbot.bot.list", nil).object(t), 1, "all bots of the portal")

	c.ok("imbot.update", obj{"BOT_ID": bot, "FIELDS": obj{"EVENT_MESSAGE_UPDATE": "http://10.0.0.1/edit", "PROPERTIES": obj{"NAME": "Newer"}}})
	require.Equal(t, "http://10.0.0.1/edit", handlers()["ONIMBOTMESSAGEUPDATE"])
	c.ok("imbot.register", with(with(with(whole, "CODE", "boss"), "TYPE", "S"), "EVENT_HANDLER", "http://10.0.0.1/all"))
	require.Equal(t, "http://10.0.0.1/all", handlers()["ONIMBOTMESSAGEDELETE"], "a supervisor's edits are bound")
	require.Equal(t, "http://10.0.0.1/all", handlers()["ONIMBOTMESSAGEADD"], "the latest registration wins")

	hook, err := p.AddIncomingWebhook(1, "imbot")
	require.NoError(t, err)
	a := send(t, http.MethodPost, string(hook)+"imbot.register", "application/json", `{"CODE":"x"}`)
	require.Equal(t, http.StatusForbidden, a.Status)
	require.Equal(t, "Access denied! Client ID not specified", a.Description)
	for _, tt := range []struct {
		name, method string
		params       obj
		code, want   string
	}{
		{"no handler", "register", without(whole, "EVENT_HANDLER"), "EVENT_MESSAGE_ADD_ERROR", `Handler for "Message add" event isn't specified`},
		{"bad handler", "register", with(whole, "EVENT_HANDLER", "http://localhost/"), "EVENT_MESSAGE_ADD_ERROR", "Wrong handler URL"},
		{
			"no welcome", "register", with(without(whole, "EVENT_HANDLER"), "EVENT_MESSAGE_ADD", "http://10.0.0.1/"),
			"EVENT_WELCOME_MESSAGE_ERROR", `Handler for "Welcome message" event isn't specified`,
		},
		{"no code", "register", without(whole, "CODE"), "CODE_ERROR", "Bot code isn't specified"},
		{"no name", "register", without(whole, "PROPERTIES"), "NAME_ERROR", "Bot name isn't specified"},
		{"no bot", "update", obj{"BOT_ID": 99}, "BOT_ID_ERROR", "Bot not found"},
		{"nothing", "update", obj{"BOT_ID": bot}, "WRONG_REQUEST", "Update fields can't be empty"},
		{
			"name taken away", "update",
			obj{"BOT_ID": bot, "FIELDS": obj{"PROPERTIES": obj{"NAME": "", "LAST_NAME": ""}}},
			"NAME_ERROR",
			"Bot name isn't specified",
		},
		{"no bot", "unregister", nil, "BOT_ID_ERROR", "Bot not found"},
	} {
		a := c.call("imbot."+tt.method, tt.params)
		require.Equal(t, http.StatusBadRequest, a.Status, tt.name)
		require.Equal(t, tt.code, a.Error, tt.name)
		require.Equal(t, tt.want, a.Description, tt.name)
	}
	require.Equal(t, "APP_ID_ERROR", other.call("imbot.unregister", obj{"BOT_ID": bot}).Error)
	for i := range 3 {
		c.ok("imbot.register", with(whole, "CODE", strconv.Itoa(i)))
	}
	require.Equal(t, "MAX_COUNT_ERROR", c.call("imbot.register", with(whole, "CODE", "sixth")).Error)
	_, err = c.app.AddBot(eventtest.Bot{Code: "sixth"})
	require.Error(t, err)
}

// TestRegisteredBot needs no event.bind: the registration binds the handlers.
func TestRegisteredBot(t *testing.T) {
	t.Parallel()
	few, all := []string{"ONIMBOTJOINCHAT", "ONIMBOTMESSAGEADD"}, []string{
		"ONIMBOTJOINCHAT", "ONIMBOTMESSAGEADD", "ONIMBOTMESSAGEUPDATE",
		"ONIMBOTMESSAGEDELETE",
	}
	for _, tt := range []struct {
		name, kind, openline string
		updated              bool // imbot.update names the handlers too
		want                 []string
	}{
		{"ordinary", "B", "N", false, few},
		{"typing", "H", "", false, few},
		{"ordinary, updated", "B", "N", true, all},
		{"ordinary in open channels", "B", "Y", false, all},
		{"open channels", "O", "", false, all},
		{"supervisor", "S", "N", false, all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, in := eventtest.NewPortal(t), newInbox(t)
			c := install(t, p, eventtest.App{Scope: []string{"imbot"}})
			a := c.ok("imbot.register", obj{
				"CODE": "x", "TYPE": tt.kind, "OPENLINE": tt.openline, "EVENT_HANDLER": in.URL,
				"PROPERTIES": obj{"NAME": "X"},
			})
			if tt.updated {
				c.ok("imbot.update", obj{
					"BOT_ID": a.Result,
					"FIELDS": obj{"EVENT_MESSAGE_UPDATE": in.URL, "EVENT_MESSAGE_DELETE": in.URL},
				})
			}
			eve := p.AddUser(eventtest.User{Name: "Eve"})
			id, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": string(a.Result), "MESSAGE": "hi"}, eve)
			require.NoError(t, err)
			require.NoError(t, p.Update(eventtest.ChatMessage, id, map[string]any{"MESSAGE": "hi!"}, eve))
			require.NoError(t, p.Delete(eventtest.ChatMessage, id, eve))
			wait(t, p)
			require.Equal(t, tt.want, in.events(t))
		})
	}
}

func TestBotUnregister(t *testing.T) {
	t.Parallel()
	p, c, in, bot := botPortal(t)
	_, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": "a"}, 1)
	require.NoError(t, err)
	wait(t, p)
	d := parse(t, event.Secret(in.bodies[1]))
	self := &caller{t: t, p: p, token: d.Data.Get("BOT", strconv.FormatInt(bot, 10), "access_token").Text()}
	self.ok("profile", nil)
	require.JSONEq(t, "true", string(c.ok("imbot.unregister", obj{"BOT_ID": bot}).Result))
	wait(t, p)
	require.Equal(t, []string{"ONIMBOTJOINCHAT", "ONIMBOTMESSAGEADD", "ONIMBOTDELETE"}, in.events(t))
	require.Equal(t, "helper", in.forms(t)[2].Get("data[BOT_CODE]"))
	require.Equal(t, "invalid_token", self.call("profile", nil).Error, "its tokens die with it")
	_, err = p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": "a"}, 1)
	require.ErrorIs(t, err, eventtest.ErrNotFound)
	_, ok := p.Object(eventtest.ChatMessage, 1)
	require.False(t, ok, "its chats go too")
	require.ErrorIs(t, c.app.DeleteBot(bot, 1), eventtest.ErrNotFound)

	bot, err = c.app.AddBot(eventtest.Bot{})
	require.NoError(t, err)
	require.NoError(t, c.app.Uninstall(false))
	_, err = p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": "a"}, 1)
	require.ErrorIs(t, err, eventtest.ErrNotFound, "bots go with their application")
	_, err = c.app.AddBot(eventtest.Bot{})
	require.ErrorIs(t, err, eventtest.ErrNotInstalled)
}

func TestMessagesOverREST(t *testing.T) {
	t.Parallel()
	p, c, in, bot := botPortal(t)
	require.JSONEq(t, "1", string(c.ok("im.message.add", obj{"DIALOG_ID": bot, "MESSAGE": "ping"}).Result))
	require.JSONEq(t, "2", string(c.ok("imbot.message.add", obj{"DIALOG_ID": "1", "MESSAGE": "pong"}).Result), "of the first bot")
	c.ok("imbot.message.update", obj{"BOT_ID": bot, "MESSAGE_ID": 2, "MESSAGE": "pong!"})
	c.ok("im.message.update", obj{"MESSAGE_ID": 1, "MESSAGE": "ping!"})
	c.ok("im.message.update", obj{"MESSAGE_ID": 1})
	c.ok("im.message.update", obj{"MESSAGE_ID": 1, "MESSAGE": ""})
	stored, ok := p.Object(eventtest.ChatMessage, 2)
	require.True(t, ok)
	require.Equal(t, "pong!", stored["MESSAGE"])
	c.ok("imbot.message.delete", obj{"MESSAGE_ID": 2})
	wait(t, p)
	require.Equal(t, []string{"ONIMBOTJOINCHAT", "ONIMBOTMESSAGEADD", "ONIMBOTMESSAGEUPDATE", "ONIMBOTMESSAGEDELETE"}, in.events(t),
		"an empty text deletes; what the bot writes itself is no event")

	c.ok("im.message.add", obj{"DIALOG_ID": bot, "MESSAGE": "old"})
	other := as(t, p, c.app, p.AddUser(eventtest.User{}))
	for _, tt := range []struct {
		by     *caller
		name   string
		method string
		params obj
		status int
		code   string
	}{
		{c, "no text", "im.message.add", obj{"DIALOG_ID": bot, "MESSAGE": " "}, 400, "MESSAGE_EMPTY"},
		{c, "no dialogue", "im.message.add", obj{"MESSAGE": "x"}, 400, "USER_ID_EMPTY"},
		{c, "no chat", "im.message.add", obj{"DIALOG_ID": "chat", "MESSAGE": "x"}, 400, "CHAT_ID_EMPTY"},
		{c, "group chat", "im.message.add", obj{"DIALOG_ID": "chat7", "MESSAGE": "x"}, 403, "ACCESS_ERROR"},
		{c, "nobody", "im.message.add", obj{"DIALOG_ID": 99, "MESSAGE": "x"}, 400, "USER_NOT_FOUND"},
		{c, "oneself", "im.message.add", obj{"DIALOG_ID": 1, "MESSAGE": "x"}, 403, "ACCESS_ERROR"},
		{c, "no id", "im.message.update", obj{"MESSAGE": "x"}, 400, "MESSAGE_ID_ERROR"},
		{c, "no message", "im.message.delete", obj{"MESSAGE_ID": 1}, 403, "CANT_EDIT_MESSAGE"},
		{other, "another's message", "im.message.update", obj{"MESSAGE_ID": 3, "MESSAGE": "x"}, 403, "CANT_EDIT_MESSAGE"},
		{c, "a user's message", "imbot.message.delete", obj{"MESSAGE_ID": 3}, 403, "CANT_EDIT_MESSAGE"},
		{c, "no bot", "imbot.message.add", obj{"BOT_ID": 1, "DIALOG_ID": 1, "MESSAGE": "x"}, 400, "BOT_ID_ERROR"},
		{c, "no dialogue of a bot", "imbot.message.add", obj{"MESSAGE": "x"}, 400, "DIALOG_ID_EMPTY"},
		{c, "no text of a bot", "imbot.message.add", obj{"DIALOG_ID": 1}, 400, "MESSAGE_EMPTY"},
		{c, "nobody for a bot", "imbot.message.add", obj{"DIALOG_ID": 99, "MESSAGE": "x"}, 400, "WRONG_REQUEST"},
	} {
		a := tt.by.call(tt.method, tt.params)
		require.Equal(t, tt.status, a.Status, tt.name)
		require.Equal(t, tt.code, a.Error, tt.name)
	}
	p.Advance(72*time.Hour + 2*time.Second)
	require.Equal(t, "CANT_EDIT_MESSAGE", as(t, p, c.app, 1).call("im.message.delete", obj{"MESSAGE_ID": 3}).Error, "after three days")
}

func TestChatMessagesRefused(t *testing.T) {
	t.Parallel()
	p, c, _, bot := botPortal(t)
	for name, tt := range map[string]struct {
		fields map[string]any
		user   int64
	}{
		"no user":     {map[string]any{"DIALOG_ID": bot, "MESSAGE": "x"}, 0},
		"no dialogue": {map[string]any{"MESSAGE": "x"}, 1},
		"oneself":     {map[string]any{"DIALOG_ID": 1, "MESSAGE": "x"}, 1},
		"no text":     {map[string]any{"DIALOG_ID": bot}, 1},
		"group chat":  {map[string]any{"DIALOG_ID": "chat1", "MESSAGE": "x"}, 1},
	} {
		_, err := p.Add(eventtest.ChatMessage, tt.fields, tt.user)
		require.Error(t, err, name)
	}
	id, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": "x"}, 1)
	require.NoError(t, err)
	require.Error(t, p.Update(eventtest.ChatMessage, id, map[string]any{"MESSAGE": "y"}, 0))
	require.Error(t, p.Delete(eventtest.ChatMessage, id, p.AddUser(eventtest.User{})))
	_, err = c.app.AddBot(eventtest.Bot{Type: "X"})
	require.ErrorIs(t, err, eventtest.ErrConfig)
}

// TestBotsThatAreGone makes calls as a deleted bot, with tokens that outlived it.
func TestBotsThatAreGone(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	id, err := c.app.AddBot(eventtest.Bot{})
	require.NoError(t, err)
	code, err := c.app.Code(id)
	require.NoError(t, err)
	hook, err := p.AddIncomingWebhook(id)
	require.NoError(t, err)
	require.NoError(t, c.app.DeleteBot(id, eventtest.AdminID))
	require.Equal(t, "authorization_error", send(t, http.MethodGet, string(hook)+"profile", "", "").Error)
	status, m := tokens(t, p, tokenForm(c.app, "authorization_code", "code", code))
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "invalid_grant", m["error"])
}
