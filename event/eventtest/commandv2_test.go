package eventtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// commandV2 is a command as imbot.v2.Command.* returns it.
type commandV2 struct {
	ID       int64  `json:"id"`
	BotID    int64  `json:"botId"`
	Command  string `json:"command"`
	Common   bool   `json:"common"`
	Hidden   bool   `json:"hidden"`
	Extranet bool   `json:"extranetSupport"`
	Title    string `json:"title"`
	Params   string `json:"params"`
	Category string `json:"category"`
}

// commandOfAnswer reads the command in the response of a method.
func commandOfAnswer(t *testing.T, a answer) commandV2 {
	t.Helper()
	var out struct {
		Command commandV2 `json:"command"`
	}
	require.NoError(t, json.Unmarshal(a.Result, &out), a.Raw)
	return out.Command
}

// commandsV2 lists the commands of a bot.
func (c *caller) commandsV2(bot int64) []commandV2 {
	c.t.Helper()
	var out struct {
		Commands []commandV2 `json:"commands"`
	}
	require.NoError(c.t, json.Unmarshal(c.ok("imbot.v2.Command.list", obj{"botId": bot}).Result, &out))
	return out.Commands
}

// registerV2 registers a command and returns its ID.
func (c *caller) registerV2(bot int64, fields obj) int64 {
	c.t.Helper()
	return commandOfAnswer(c.t, c.ok("imbot.v2.Command.register", obj{"botId": bot, "fields": fields})).ID
}

func TestCommandsV2(t *testing.T) {
	t.Parallel()
	_, c, bot := pollPortal(t)
	require.Empty(t, c.commandsV2(bot))
	first := commandOfAnswer(t, c.ok("imbot.v2.Command.register", obj{"botId": bot, "fields": obj{
		"command": "help", "title": obj{"de": "Hilfe", "en": "Help"}, "params": obj{"en": "topic"}, "common": "Y",
	}}))
	require.Equal(t, commandV2{ID: first.ID, BotID: bot, Command: "/help", Common: true}, first)
	again := commandOfAnswer(t, c.ok("imbot.v2.Command.register", obj{"botId": bot, "fields": obj{"command": "help", "title": obj{"en": "Other"}}}))
	require.Equal(t, first, again, "an existing one is returned as it is")
	hidden := c.registerV2(bot, obj{"command": "secret", "hidden": true})
	require.Equal(t, []commandV2{
		{ID: first.ID, BotID: bot, Command: "/help", Common: true, Title: "Help", Params: "topic", Category: "Helper"},
		{ID: hidden, BotID: bot, Command: "/secret", Hidden: true, Category: "Helper"},
	}, c.commandsV2(bot))

	update := func(fields obj) commandV2 {
		t.Helper()
		commandOfAnswer(t, c.ok("imbot.v2.Command.update", obj{"botId": bot, "commandId": first.ID, "fields": fields}))
		return c.commandsV2(bot)[0]
	}
	require.Equal(t, "Help!", update(obj{"title": obj{"en": "Help!"}}).Title)
	require.Equal(t, "topic", update(obj{"params": obj{"en": "ignored"}}).Params, "params only in the languages of title")
	require.Equal(t, "Hilfe", update(obj{"title": obj{"en": nil}}).Title, "null removes a language, and others stay")
	changed := update(obj{"command": "assist", "common": false, "extranetSupport": true})
	require.Equal(t, []any{"/assist", false, true}, []any{changed.Command, changed.Common, changed.Extranet})

	require.Equal(t, obj{"result": true}, c.ok("imbot.v2.Command.unregister", obj{"botId": bot, "commandId": first.ID}).object(t))
	require.Len(t, c.commandsV2(bot), 1)
	c.ok("imbot.v2.Bot.unregister", obj{"botId": bot})
	require.Equal(t, "BOT_NOT_FOUND", c.call("imbot.v2.Command.list", obj{"botId": bot}).Error)
}

func TestCommandsV2Refuse(t *testing.T) {
	t.Parallel()
	p, c, bot := pollPortal(t)
	help := c.registerV2(bot, obj{"command": "help", "title": obj{"en": "Help"}})
	c.registerV2(bot, obj{"command": "other", "hidden": "Y"})
	foreign := install(t, p, eventtest.App{Scope: []string{"imbot"}})
	second := botID(t, c.ok("imbot.v2.Bot.register", obj{"fields": obj{"code": "second", "properties": obj{"name": "Second"}}}))
	title := obj{"en": "x"}
	for _, tt := range []struct {
		name, method string
		by           *caller
		params       obj
		status       int
		code         string
	}{
		{"no bot", "register", c, obj{}, 400, "BOT_ID_REQUIRED"},
		{"an unknown bot", "register", c, obj{"botId": 999}, 400, "BOT_NOT_FOUND"},
		{"a foreign bot", "register", foreign, obj{"botId": bot}, 403, "BOT_OWNERSHIP_ERROR"},
		{"no command", "register", c, obj{"botId": bot, "fields": obj{"title": title}}, 400, "COMMAND_REQUIRED"},
		{"the former flat parameters", "register", c, obj{"botId": bot, "command": "x", "title": title}, 400, "COMMAND_REQUIRED"},
		{"a list of names", "register", c, obj{"botId": bot, "fields": obj{"command": []string{"x"}, "title": title}}, 400, "COMMAND_NAME_INVALID"},
		{"no title", "register", c, obj{"botId": bot, "fields": obj{"command": "x"}}, 400, "COMMAND_TITLE_REQUIRED"},
		{"a title without a language", "register", c, obj{"botId": bot, "fields": obj{"command": "x", "title": "x"}}, 400, "COMMAND_TITLE_REQUIRED"},
		{"a slash", "register", c, obj{"botId": bot, "fields": obj{"command": "/x", "title": title}}, 400, "COMMAND_REGISTER_FAILED"},
		{"an unknown command", "update", c, obj{"botId": bot, "commandId": 999}, 400, "COMMAND_NOT_FOUND"},
		{"a command of another bot", "update", c, obj{"botId": second, "commandId": help}, 400, "COMMAND_NOT_FOUND"},
		{"an empty name", "update", c, obj{"botId": bot, "commandId": help, "fields": obj{"command": ""}}, 400, "COMMAND_NAME_EMPTY"},
		{"a list as a name", "update", c, obj{"botId": bot, "commandId": help, "fields": obj{"command": []string{"x"}}}, 400, "COMMAND_NAME_INVALID"},
		{"the name of another", "update", c, obj{"botId": bot, "commandId": help, "fields": obj{"command": "other"}}, 400, "COMMAND_ALREADY_EXISTS"},
		{"nothing to delete", "unregister", c, obj{"botId": bot}, 400, "COMMAND_NOT_FOUND"},
		{"commands of a foreign bot", "list", foreign, obj{"botId": bot}, 403, "BOT_OWNERSHIP_ERROR"},
		{"an answer to nothing", "answer", c, obj{"botId": bot, "commandId": help, "messageId": 1, "dialogId": "1", "fields": obj{"message": "x"}}, 400, "COMMAND_ANSWER_FAILED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := tt.by.call("imbot.v2.Command."+tt.method, tt.params)
			require.Equal(t, tt.status, a.Status, a.Raw)
			require.Equal(t, tt.code, a.Error)
			require.NotEmpty(t, a.Description)
		})
	}
	t.Run("an incoming webhook knows the botToken", func(t *testing.T) {
		t.Parallel()
		hook, err := p.AddIncomingWebhook(eventtest.AdminID, "imbot")
		require.NoError(t, err)
		call := func(token string) answer {
			return send(t, http.MethodPost, string(hook)+"imbot.v2.Command.list", "application/json", fmt.Sprintf(`{"botId":%d,"botToken":%q}`, bot, token))
		}
		require.Equal(t, "BOT_TOKEN_NOT_SPECIFIED", call("").Error)
		require.Equal(t, "BOT_OWNERSHIP_ERROR", call("guess").Error)
		require.Equal(t, http.StatusOK, call("secret").Status)
	})
}

// TestCommandV2Calls writes messages that call commands: to the bot, and between two users. The bot
// answers each, which it may do only for the message that called the command.
func TestCommandV2Calls(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"fetch", "webhook"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p, c, bot := pollPortal(t)
			in := newInbox(t)
			if mode == "webhook" {
				c.ok("imbot.v2.Bot.update", obj{"botId": bot, "fields": obj{"eventMode": "webhook", "webhookUrl": in.URL}})
			}
			local := c.registerV2(bot, obj{"command": "help", "title": obj{"en": "Help"}})
			common := c.registerV2(bot, obj{"command": "find", "title": obj{"en": "Find"}, "common": true})
			eve := p.AddUser(eventtest.User{Name: "Eve"})

			// calls returns the commands that were called since it was last asked.
			offset, seen := int64(0), 0
			calls := func() (list []event.BotV2Command) {
				t.Helper()
				wait(t, p)
				deliveries := []*event.Delivery{}
				if mode == "webhook" {
					for _, body := range in.bodies[seen:] {
						deliveries = append(deliveries, parse(t, event.Secret(body)))
					}
					seen = len(in.bodies)
				} else {
					got := c.poll("imbot.v2.Event.get", obj{"botId": bot, "offset": offset})
					offset = got.Next
					for _, e := range got.Events {
						data, err := event.ParseData(e.Data)
						require.NoError(t, err)
						deliveries = append(deliveries, &event.Delivery{Kind: event.KindEvent, Name: e.Type, Data: data})
					}
				}
				for _, d := range deliveries {
					if d.Name == "ONIMBOTV2JOINCHAT" {
						continue
					}
					require.Equal(t, "ONIMBOTV2COMMANDADD", d.Name, "a command is no message")
					called, err := event.OnImBotV2CommandAdd.Decode(d)
					require.NoError(t, err)
					list = append(list, called)
				}
				return list
			}
			answer := func(e event.BotV2Command, dialog string) string {
				t.Helper()
				a := c.call("imbot.v2.Command.answer", obj{
					"botId": bot, "commandId": e.Command.ID, "messageId": e.Message.ID, "dialogId": dialog, "fields": obj{"message": "Here"},
				})
				return a.Error
			}

			message := tell(t, p, bot, eve, "/help a  b\n/find x\n/nothing")
			got := calls()
			require.Len(t, got, 2, "one event for each command")
			require.Equal(t, []any{local, "/help", "a  b", "textarea"}, []any{got[0].Command.ID, got[0].Command.Command, got[0].Command.Params, got[0].Command.Context})
			require.Equal(t, []any{common, "/find", "x"}, []any{got[1].Command.ID, got[1].Command.Command, got[1].Command.Params})
			require.Equal(t, []any{message, eve, bot}, []any{got[0].Message.ID, got[0].User.ID, got[0].Bot.ID})
			require.Equal(t, strconv.FormatInt(eve, 10), got[0].Chat.DialogID)
			require.Equal(t, "COMMAND_ANSWER_FAILED", answer(got[0], "7"), "another dialogue")
			before := len(p.ObjectIDs(eventtest.ChatMessage))
			require.Empty(t, answer(got[0], got[0].Chat.DialogID))
			ids := p.ObjectIDs(eventtest.ChatMessage)
			require.Len(t, ids, before+1)
			written, _ := p.Object(eventtest.ChatMessage, ids[before])
			require.Equal(t, []any{"Here", strconv.FormatInt(bot, 10), strconv.FormatInt(eve, 10)}, []any{written["MESSAGE"], written["AUTHOR_ID"], written["TO_USER_ID"]})

			tell(t, p, eventtest.AdminID, eve, "/help me\n/find it")
			got = calls()
			require.Len(t, got, 1, "a local command works only in the bot's own chats")
			require.Equal(t, common, got[0].Command.ID)
			require.Equal(t, fmt.Sprintf("chat%d", got[0].Chat.ID), got[0].Chat.DialogID, "the bot is not in it")
			require.Empty(t, answer(got[0], got[0].Chat.DialogID), "it may answer all the same")
			other := got[0]
			other.Message.ID = tell(t, p, eventtest.AdminID, eve, "no command")
			require.Equal(t, "COMMAND_ANSWER_FAILED", answer(other, other.Chat.DialogID), "a message that called nothing")
			c.ok("imbot.v2.Command.unregister", obj{"botId": bot, "commandId": common})
			tell(t, p, eventtest.AdminID, eve, "/find it")
			require.Empty(t, calls())
		})
	}
}
