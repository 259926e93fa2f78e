package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// portal starts a portal with an application that may have bots, and returns the variables of the
// program.
func portal(t *testing.T) (*eventtest.Portal, *eventtest.Application, programtest.Env) {
	t.Helper()
	p, _, env := programtest.Portal(t)
	app, err := p.AddApp(eventtest.App{Scope: []string{"imbot", "im"}})
	require.NoError(t, err)
	require.NoError(t, app.Install(context.Background()))
	return p, app, env.With("B24_CLIENT_ID", app.ClientID(), "B24_CLIENT_SECRET", string(app.ClientSecret()), "POLL", "2s", "LOG_FORMAT", "json").
		Seeded(t, app)
}

func once(t *testing.T, env programtest.Env, args ...string) []map[string]any {
	t.Helper()
	code, stdout, stderr := programtest.Run(t, run, env, append([]string{"-once"}, args...)...)
	require.Zero(t, code, stderr)
	return programtest.Lines(t, stdout)
}

// bot returns the ID of the application's bot.
func bot(t *testing.T, app *eventtest.Application) int64 {
	t.Helper()
	require.Len(t, app.Bots(), 1)
	for id := range app.Bots() {
		return id
	}
	return 0
}

func say(t *testing.T, p *eventtest.Portal, bot int64, text string) int64 {
	t.Helper()
	id, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": text}, eventtest.AdminID)
	require.NoError(t, err)
	return id
}

// text returns the text of the message that a line is about.
func text(l map[string]any) string {
	doc, _ := json.Marshal(l["data"]) //nolint:errchkjson // it was JSON
	d, err := event.ParseData(doc)
	if err != nil {
		return ""
	}
	return d.Get("message", "text").Text()
}

func TestOnce(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	p, app, env := portal(t)
	require.Empty(t, once(t, env))
	id := bot(t, app)
	say(t, p, id, "Hello\u202e")
	lines := once(t, env, "-echo")
	require.Len(t, lines, 2)
	require.Equal(t, "ONIMBOTV2JOINCHAT", lines[0]["event"])
	require.Equal(t, "Hello\u202e", text(lines[1]))
	require.Nil(t, lines[1]["error"])
	require.Len(t, app.Bots(), 1, "the same bot")
	require.Empty(t, p.LoggedEvents())
	answers := 0
	for _, c := range p.Calls() {
		if c.Method == "imbot.v2.chat.message.send" {
			answers++
			require.Contains(t, string(c.Params.JSON()), "You said: Hello")
		}
	}
	require.Equal(t, 1, answers)

	// An answer that cannot be sent, and an event that cannot be read.
	p.Always("imbot.v2.chat.message.send", eventtest.Fail(403, "ACCESS_DENIED", "Access denied"))
	say(t, p, id, "nobody hears")
	lines = once(t, env.With("RETRIES", "0", "ECHO", "1"))
	require.Len(t, lines, 1)
	require.Contains(t, lines[0]["error"], "ACCESS_DENIED")
	require.Equal(t, "nobody hears", text(lines[0]))

	colleague := p.AddUser(eventtest.User{Name: "Anna"})
	require.Empty(t, once(t, env, "-user-events", strconv.FormatInt(eventtest.AdminID, 10)), "it subscribes")
	_, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": eventtest.AdminID, "MESSAGE": "Lunch?"}, colleague)
	require.NoError(t, err)
	lines = once(t, env, "-user-events", strconv.FormatInt(eventtest.AdminID, 10))
	require.Len(t, lines, 1)
	require.Equal(t, "ONIMV2MESSAGEADD", lines[0]["event"])
	code, _, stderr := programtest.Run(t, run, env, "-once", "-user-events", strconv.FormatInt(colleague, 10))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "the caller belongs to another application, portal or user")
}

func TestRun(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	p, app, env := portal(t)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	running := programtest.Start(t, run, env.With("OUT", out))
	require.Eventually(t, func() bool { return strings.Contains(running.Stderr.String(), "botpoll is ready") }, programtest.Patience, waitStep)
	code, _, stderr := programtest.Run(t, run, env.With("OUT", out))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "another process uses it")
	code, _, stderr = programtest.Run(t, run, env)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "the bot's lock")
	say(t, p, bot(t, app), "Hello")
	require.Eventually(t, func() bool { return strings.Contains(programtest.Read(t, out), "Hello") }, programtest.Patience, waitStep)
	running.Stop(t)
	require.Contains(t, running.Stderr.String(), `"botpoll has stopped"`)
	require.NotContains(t, running.Stderr.String(), "Hello", "no payload in the log")
	require.Len(t, programtest.Lines(t, programtest.Read(t, out)), 2)
	require.Empty(t, once(t, env), "the offset was kept")
	require.Empty(t, p.LoggedEvents())
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	p, app, env := portal(t)
	for name, with := range map[string][]string{
		"poll": {"POLL", "1s"}, "user": {"USER_EVENTS", "x"}, "retries": {"RETRIES", "-1"},
	} {
		code, _, stderr := programtest.Run(t, run, env.With(with...))
		require.Equal(t, 2, code, "%s: %s", name, stderr)
	}
	_, err := app.AddBot(eventtest.Bot{Code: "posted", Webhook: "https://app.example.com/"})
	require.NoError(t, err)
	code, _, stderr := programtest.Run(t, run, env.With("BOT_CODE", "posted"))
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "BOT_CODE")
	code, _, stderr = programtest.Run(t, run, env.With("OUT", t.TempDir()))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "OUT cannot be written")
	require.Empty(t, p.LoggedEvents())
}
