package eventtest_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// commandPortal returns a portal with a bot that has the command echo, and an inbox for all of the
// bot's events.
func commandPortal(t *testing.T) (p *eventtest.Portal, c *caller, in *inbox, bot, command int64) {
	t.Helper()
	p, c, in, bot = botPortal(t)
	require.NoError(t, json.Unmarshal(c.ok("imbot.command.register", echo(bot, in.URL)).Result, &command))
	require.Positive(t, command)
	return p, c, in, bot, command
}

// echo returns the parameters that register the command echo.
func echo(bot int64, handler string) obj {
	return obj{
		"BOT_ID": bot, "COMMAND": "echo", "EVENT_COMMAND_ADD": handler,
		"LANG": []obj{{"LANGUAGE_ID": "en", "TITLE": "Echo", "PARAMS": "text"}},
	}
}

// tell writes a message to a user or bot in the portal's interface.
func tell(t *testing.T, p *eventtest.Portal, to, from int64, body string) int64 {
	t.Helper()
	id, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": to, "MESSAGE": body}, from)
	require.NoError(t, err)
	return id
}

func TestCommands(t *testing.T) {
	t.Parallel()
	p, c, in, bot, command := commandPortal(t)
	eve := p.AddUser(eventtest.User{Name: "Eve", LastName: "Adams"})
	id := tell(t, p, bot, eve, "/echo a  b ")
	wait(t, p)
	require.Equal(t, []string{"ONIMBOTJOINCHAT", "ONIMCOMMANDADD"}, in.events(t), "a command is no message")
	d := parse(t, event.Secret(in.bodies[1]))
	require.NotEmpty(t, d.Auth.RefreshToken, "PROTOCOL 4.4: ONIMCOMMANDADD carries a refresh token")
	e, err := event.OnImCommandAdd.Decode(d)
	require.NoError(t, err)
	require.Equal(t, "/echo a  b", e.Params.Message)
	require.Equal(t, eve, e.User.ID)
	require.Len(t, e.Commands, 1)
	called := e.Commands[strconv.FormatInt(command, 10)]
	require.Equal(t, "echo", called.Command)
	require.Equal(t, command, called.CommandID)
	require.Equal(t, "a  b", called.Params)
	require.Equal(t, "TEXTAREA", called.Context)
	require.Equal(t, id, called.MessageID)
	require.Equal(t, bot, called.ID)

	self := &caller{t: t, p: p, token: string(called.AccessToken)}
	a := self.ok("imbot.command.answer", obj{"COMMAND_ID": command, "MESSAGE_ID": id, "MESSAGE": "a b"})
	stored, ok := p.Object(eventtest.ChatMessage, id+1)
	require.True(t, ok)
	require.JSONEq(t, strconv.FormatInt(id+1, 10), string(a.Result))
	require.Equal(t, "a b", stored["MESSAGE"])
	require.Equal(t, strconv.FormatInt(bot, 10), stored["AUTHOR_ID"])
	require.Equal(t, strconv.FormatInt(eve, 10), stored["TO_USER_ID"])
	c.ok("imbot.command.answer", obj{"COMMAND": "echo", "MESSAGE_ID": id, "MESSAGE": "by its text"})

	require.NoError(t, p.Update(eventtest.ChatMessage, id, map[string]any{"MESSAGE": "/echo c"}, eve))
	wait(t, p)
	require.Equal(t, "ONIMBOTMESSAGEUPDATE", in.events(t)[2], "an edit calls no command")
}

func TestCommandsLikeSamples(t *testing.T) {
	t.Parallel()
	p, c, _, bot, _ := commandPortal(t)
	c.bind(obj{"event": "ONIMCOMMANDADD", "event_type": "offline"})
	tell(t, p, bot, eventtest.AdminID, "/echo test")
	_, rows := c.offlineGet(nil)
	require.Len(t, rows, 1)
	require.Equal(t, shape(readSample(t, "ONIMCOMMANDADD")["EVENT_DATA"]), shape(rows[0]["EVENT_DATA"]))
}

// TestWhatCallsCommands writes messages to the bot of commandPortal.
func TestWhatCallsCommands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []string // the commands with their parameters; nil for an ordinary message
	}{
		{"no parameters", "/echo", []string{"echo:"}},
		{"case", "/ECHO x", nil},
		{"unknown", "/other x", nil},
		{"longer", "/echoes x", nil},
		{"inside a line", "say /echo x", nil},
		{"second line", "hello\n/echo x", []string{"echo:x"}},
		{"two", "/echo 1\r\n/help 2", []string{"echo:1", "help:2"}},
		{"twice", "/echo 1\n/echo 2", []string{"echo:2"}},
		{"slash alone", "/ echo", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c, in, bot, _ := commandPortal(t)
			c.ok("imbot.command.register", with(echo(bot, in.URL), "COMMAND", "help"))
			tell(t, p, bot, eventtest.AdminID, tt.text)
			wait(t, p)
			d := parse(t, event.Secret(in.bodies[1]))
			if tt.want == nil {
				require.Equal(t, "ONIMBOTMESSAGEADD", d.Name)
				return
			}
			require.Equal(t, "ONIMCOMMANDADD", d.Name)
			require.Len(t, in.bodies, 2, "one event for all commands")
			e, err := event.OnImCommandAdd.Decode(d)
			require.NoError(t, err)
			var got []string
			for _, called := range e.Commands {
				got = append(got, called.Command+":"+called.Params)
			}
			require.ElementsMatch(t, tt.want, got)
		})
	}
}

// TestManyCommands sends a message of 100,000 lines, each of which calls the command. Only the last
// call has tokens of the bot.
func TestManyCommands(t *testing.T) {
	t.Parallel()
	p, _, in, bot, _ := commandPortal(t)
	tell(t, p, bot, eventtest.AdminID, strings.Repeat("/echo\n", 100_000))
	wait(t, p)
	require.Equal(t, []string{"ONIMBOTJOINCHAT", "ONIMCOMMANDADD"}, in.events(t))
}

func TestCommandsOfOthers(t *testing.T) {
	t.Parallel()
	p, c, in, bot, _ := commandPortal(t)
	other, theirs := install(t, p, eventtest.App{Scope: []string{"imbot"}}), newInbox(t)
	second, err := other.app.AddBot(eventtest.Bot{})
	require.NoError(t, err)
	other.ok("imbot.command.register", echo(second, theirs.URL))
	other.ok("imbot.command.register", with(with(echo(second, theirs.URL), "COMMAND", "everywhere"), "COMMON", "Y"))
	eve := p.AddUser(eventtest.User{Name: "Eve"})

	tell(t, p, bot, eve, "/echo x")
	wait(t, p)
	require.Empty(t, theirs.bodies, "it is the command of the bot in the chat")
	tell(t, p, bot, eve, "/everywhere x")
	tell(t, p, eve, eventtest.AdminID, "/everywhere y")
	wait(t, p)
	require.Equal(t, []string{"ONIMBOTJOINCHAT", "ONIMCOMMANDADD"}, in.events(t))
	require.Equal(t, []string{"ONIMCOMMANDADD", "ONIMCOMMANDADD"}, theirs.events(t), "a common command works in any chat")
	tell(t, p, bot, eve, "/echo 1\n/everywhere 2")
	wait(t, p)
	require.Len(t, in.bodies, 3)
	require.Len(t, theirs.bodies, 3, "each application gets its own commands")

	c.ok("imbot.message.add", obj{"BOT_ID": bot, "DIALOG_ID": eve, "MESSAGE": "/everywhere z"})
	wait(t, p)
	require.Len(t, theirs.bodies, 3, "bots call no commands")
	require.NoError(t, other.app.DeleteBot(second, eve))
	tell(t, p, bot, eve, "/everywhere x")
	wait(t, p)
	require.Equal(t, "ONIMBOTMESSAGEADD", in.events(t)[3], "commands go with their bot")
}

// TestIdenticalEventsOfTwoApplications calls a command of each in one message. Without data their
// events differ only by whom they are for.
func TestIdenticalEventsOfTwoApplications(t *testing.T) {
	t.Parallel()
	p, in := eventtest.NewPortal(t, eventtest.WithQuirks(func(q *eventtest.Quirks) { q.NoData = true })), newInbox(t)
	bot := int64(0)
	for _, name := range []string{"one", "two"} {
		c := install(t, p, eventtest.App{Scope: []string{"imbot"}})
		id, err := c.app.AddBot(eventtest.Bot{})
		require.NoError(t, err)
		c.ok("imbot.command.register", with(with(echo(id, in.URL+"/"+name), "COMMAND", name), "COMMON", "Y"))
		bot = id
	}
	tell(t, p, bot, eventtest.AdminID, "/one\n/two")
	wait(t, p)
	require.Len(t, in.bodies, 2)
}

func TestCommandMethods(t *testing.T) {
	t.Parallel()
	p, c, in, bot, command := commandPortal(t)
	other := install(t, p, eventtest.App{Scope: []string{"imbot"}})
	id := tell(t, p, bot, eventtest.AdminID, "hello")
	require.JSONEq(t, strconv.FormatInt(command, 10), string(c.ok("imbot.command.register", echo(bot, in.URL)).Result), "it is there already")
	c.ok("imbot.command.register", with(echo(bot, in.URL), "COMMAND", "help"))
	whole := echo(bot, in.URL)
	const noCommand, noURL = "Command not found", "Wrong handler URL"
	for _, tt := range []struct {
		name, method string
		params       obj
		code, want   string
	}{
		{"no handler", "register", without(whole, "EVENT_COMMAND_ADD"), "EVENT_COMMAND_ADD_ERROR", `Handler for "Command add" event isn't specified`},
		{"bad handler", "register", with(whole, "EVENT_COMMAND_ADD", "http://localhost/"), "EVENT_COMMAND_ADD_ERROR", noURL},
		{"no command", "register", without(whole, "COMMAND"), "COMMAND_ERROR", "Command isn't specified"},
		{"no bot", "register", without(whole, "BOT_ID"), "BOT_ID_ERROR", "Bot not found"},
		{"unknown bot", "register", with(whole, "BOT_ID", 99), "BOT_ID_ERROR", "Bot not found"},
		{"no language", "register", without(whole, "LANG"), "LANG_ERROR", "Lang set can't be empty"},
		{"no title", "register", with(whole, "LANG", []obj{{"LANGUAGE_ID": "en"}}), "LANG_ERROR", "Lang set can't be empty"},
		{"two words", "register", with(whole, "COMMAND", "two words"), "WRONG_REQUEST", "Command can't be created"},
		{"update of none", "update", obj{"FIELDS": obj{"COMMAND": "x"}}, "COMMAND_ID_ERROR", noCommand},
		{"update of nothing", "update", obj{"COMMAND_ID": command, "FIELDS": obj{"X": 1}}, "WRONG_REQUEST", "Update fields can't be empty"},
		{
			"update to a bad handler", "update",
			obj{"COMMAND_ID": command, "FIELDS": obj{"EVENT_COMMAND_ADD": "x"}},
			"EVENT_COMMAND_ADD_ERROR", noURL,
		},
		{
			"update to another command", "update",
			obj{"COMMAND_ID": command, "FIELDS": obj{"COMMAND": "help"}},
			"WRONG_REQUEST", "Command can't be updated",
		},
		{"unregister none", "unregister", obj{"COMMAND_ID": 99}, "COMMAND_ID_ERROR", noCommand},
		{"answer none", "answer", obj{"COMMAND": "none", "MESSAGE_ID": id, "MESSAGE": "x"}, "COMMAND_ID_ERROR", noCommand},
		{"answer no message", "answer", obj{"COMMAND_ID": command, "MESSAGE": "x"}, "MESSAGE_ID_EMPTY", "Message ID can't be empty"},
		{"answer nothing", "answer", obj{"COMMAND_ID": command, "MESSAGE_ID": id}, "MESSAGE_EMPTY", "Message can't be empty"},
		{"answer an unknown message", "answer", obj{"COMMAND_ID": command, "MESSAGE_ID": 99, "MESSAGE": "x"}, "WRONG_REQUEST", "Message isn't added"},
	} {
		a := c.call("imbot.command."+tt.method, tt.params)
		require.Equal(t, http.StatusBadRequest, a.Status, tt.name)
		require.Equal(t, tt.code, a.Error, tt.name)
		require.Equal(t, tt.want, a.Description, tt.name)
	}
	for _, method := range []string{"update", "unregister", "answer"} {
		a := other.call("imbot.command."+method, obj{"COMMAND_ID": command, "MESSAGE_ID": id, "MESSAGE": "x", "FIELDS": obj{"COMMAND": "x"}})
		require.Equal(t, "APP_ID_ERROR", a.Error, method)
	}
	require.Equal(t, "APP_ID_ERROR", other.call("imbot.command.register", whole).Error, "another application's bot")
	hook, err := p.AddIncomingWebhook(eventtest.AdminID, "imbot")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, send(t, http.MethodPost, string(hook)+"imbot.command.register", "", "").Status)

	c.ok("imbot.command.update", obj{"COMMAND_ID": command, "FIELDS": obj{"COMMAND": "say", "EVENT_COMMAND_ADD": in.URL + "/new"}})
	tell(t, p, bot, eventtest.AdminID, "/say x")
	wait(t, p)
	last := p.Deliveries()[len(p.Deliveries())-1]
	require.Equal(t, "ONIMCOMMANDADD", last.Event)
	require.Equal(t, in.URL+"/new", last.URL)
	c.ok("imbot.command.unregister", obj{"COMMAND_ID": command})
	tell(t, p, bot, eventtest.AdminID, "/say x")
	wait(t, p)
	require.Equal(t, "ONIMBOTMESSAGEADD", p.Deliveries()[len(p.Deliveries())-1].Event)
}
