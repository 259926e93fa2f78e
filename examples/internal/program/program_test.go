package program_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
)

var settings = append([]program.Setting{
	{Flag: "retries", Env: "RETRIES", Fallback: "5", Usage: "a number"},
	{Flag: "pause", Env: "PAUSE", Usage: "a duration"},
	{Flag: "once", Env: "ONCE", Switch: true, Usage: "a switch"},
	{Flag: "events", Env: "EVENTS", Usage: "events"},
}, program.Application()...)

func parse(env programtest.Env, args ...string) (program.Values, string, error) {
	var help strings.Builder
	process := env.Program(args...)
	process.Stderr = &help
	v, err := program.Parse("program", "about it", settings, process)
	return v, help.String(), err
}

func TestSettings(t *testing.T) {
	t.Parallel()
	v, _, err := parse(programtest.Env{"RETRIES": "3", "ONCE": "1", "B24_DATA": "", "EVENTS": " a, b\n,c", "PAUSE": " 1s "}, "-retries=7",
		"-data", "/somewhere")
	require.NoError(t, err)
	retries, err := v.Number("retries", 7)
	require.NoError(t, err)
	require.Equal(t, 7, retries, "a flag wins")
	pause, err := v.Duration("pause", time.Second)
	require.NoError(t, err)
	require.Equal(t, time.Second, pause)
	require.True(t, v.On("once"))
	require.False(t, v.On("insecure-http"))
	require.Equal(t, []string{"a", "b", "c"}, v.List("events"))
	data, err := v.Data()
	require.NoError(t, err)
	require.Equal(t, "/somewhere", data)

	v, _, err = parse(programtest.Env{"RETRIES": "", "ONCE": "1"}, "-once=false")
	require.NoError(t, err)
	require.Equal(t, "5", v["retries"], "an empty variable is none")
	require.False(t, v.On("once"))
	data, err = v.Data()
	require.NoError(t, err)
	require.Equal(t, "b24events", filepath.Base(data))

	_, help, err := parse(nil, "-h")
	require.ErrorIs(t, err, flag.ErrHelp)
	for _, s := range []string{"about it", "-retries", "[RETRIES] (default 5)", "-once", "[B24_CLIENT_ID]", "[LOG_FORMAT]"} {
		require.Contains(t, help, s)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		env  programtest.Env
		args []string
	}{
		"unknown flag":         {nil, []string{"-nope=hush-hush"}},
		"malformed flag":       {nil, []string{"-=hush-hush"}},
		"argument":             {nil, []string{"hush-hush"}},
		"switch":               {programtest.Env{"ONCE": "hush-hush"}, nil},
		"switch by flag":       {nil, []string{"-once=hush-hush"}},
		"flag without a value": {nil, []string{"-retries"}},
		"no number":            {nil, []string{"-retries=hush-hush"}},
		"too small a number":   {nil, []string{"-retries=0"}},
		"no duration":          {nil, []string{"-pause=hush-hush"}},
		"too short a duration": {nil, []string{"-pause=999ms"}},
		"log format":           {programtest.Env{"LOG_FORMAT": "hush-hush"}, nil},
		"secret without id":    {programtest.Env{"B24_CLIENT_SECRET": "hush-hush"}, nil},
		"id without secret":    {programtest.Env{"B24_CLIENT_ID": "hush-hush"}, nil},
		"host that can be no one": {programtest.Env{
			"B24_CLIENT_ID": "a", "B24_CLIENT_SECRET": "hush-hush",
			"B24_OAUTH_HOSTS": "https://hush-hush/",
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := use(tc.env.With("B24_DATA", t.TempDir()), append([]string{"-pause=1s"}, tc.args...))
			require.ErrorAs(t, err, new(*program.UsageError))
			require.NotContains(t, err.Error(), "hush-hush")
		})
	}
	require.NoError(t, use(programtest.Env{
		"B24_CLIENT_ID": "a", "B24_CLIENT_SECRET": "b", "B24_DATA": t.TempDir(), "PAUSE": "1s",
		"LOG_FORMAT": "json",
	}, nil))
}

// use reads every setting.
func use(env programtest.Env, args []string) error {
	v, _, err := parse(env, args...)
	if err != nil {
		return err
	}
	_, number := v.Number("retries", 1)
	_, duration := v.Duration("pause", time.Second)
	log, err := v.Logger(io.Discard, slog.LevelInfo)
	if err := errors.Join(err, number, duration); err != nil {
		return err
	}
	access, err := program.Open(v, log, nil)
	if err == nil {
		access.Close()
	}
	return err
}

func TestOpen(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	v, _, err := parse(env)
	require.NoError(t, err)
	access, err := program.Open(v, programtest.Silent(), nil)
	require.NoError(t, err)
	defer access.Close()
	require.Equal(t, filepath.Join(env["B24_DATA"], "app-"+app.ClientID()), access.Data)
	g, err := app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	_, err = access.Tokens.Seed(t.Context(), oauth.Installation{
		MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint, AccessToken: g.AccessToken, RefreshToken: g.RefreshToken,
	})
	require.NoError(t, err)
	require.NoError(t, access.API.Portal(g.MemberID).Call(t.Context(), "profile", nil, nil))
	require.NoError(t, access.Tokens.Shutdown(t.Context()))
	for key, err := range oauth.Keys(t.Context(), access.Store, access.Tokens.ClientID()) {
		require.NoError(t, err)
		require.Equal(t, g.MemberID, key.MemberID)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		code int
		text string
	}{
		"success": {nil, 0, ""},
		"help":    {flag.ErrHelp, 0, ""},
		"usage":   {program.Usage("set %s", "X"), 2, "p: set X\n"},
		"failure": {errors.New("broken"), 1, "p: broken\n"},
		"several": {errors.Join(errors.New("broken"), errors.New("twice")), 1, "p: broken; twice\n"},
		"hostile": {errors.New("\x1b]0;pwn\a\rFAKE\u009b31m\u202e\u2028\x7f\xff"), 1, "p:  ]0;pwn  FAKE 31m   \ufffd\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr strings.Builder
			code := program.Run(t.Context(), "p", program.Env{Stderr: &stderr},
				func(context.Context, context.Context) error { return tc.err })
			require.Equal(t, tc.code, code)
			require.Equal(t, tc.text, stderr.String())
		})
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for name, signalled := range map[string]bool{"signals": true, "end of the context": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signals := make(chan os.Signal)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			code := program.Run(ctx, "p", program.Env{Signals: signals, Stderr: io.Discard}, func(working, draining context.Context) error {
				if signalled {
					signals <- os.Interrupt
				} else {
					cancel()
				}
				<-working.Done()
				if draining.Err() != nil {
					return errors.New("nothing could be drained")
				}
				if signalled {
					signals <- os.Interrupt
					<-draining.Done()
				}
				return program.Stopped(working, working.Err())
			})
			require.Zero(t, code)
		})
	}
	require.Error(t, program.Stopped(t.Context(), context.Canceled), "nobody told it to stop")
}

// TestLinesAreOnlyShown covers what a terminal would obey in lines that are JSON.
func TestLinesAreOnlyShown(t *testing.T) {
	t.Parallel()
	const hostile = "a\u009b31m\x7f\u202e\u2066\u2028\x1b[2J<é😀\u200d"
	line, err := program.JSONLine(map[string]any{"k": hostile, "n": json.Number("1.50")})
	require.NoError(t, err)
	require.Equal(t, `{"k":"a\u009b31m\u007f\u202e\u2066\u2028\u001b[2J<é😀`+"\u200d"+`","n":1.50}`+"\n", string(line)) //nolint:testifylint // to the letter
	var back map[string]any
	require.NoError(t, json.Unmarshal(line, &back))
	require.Equal(t, hostile, back["k"])
	_, err = program.JSONLine(func() {})
	require.Error(t, err)

	for _, format := range []string{"text", "json"} {
		v, _, err := parse(programtest.Env{"LOG_FORMAT": format})
		require.NoError(t, err)
		var out strings.Builder
		log, err := v.Logger(&out, slog.LevelInfo)
		require.NoError(t, err)
		log.LogAttrs(t.Context(), slog.LevelInfo, "message", slog.String("k", hostile))
		require.Equal(t, len(out.String())-1, strings.IndexFunc(out.String(), unicode.IsControl), "only the end of the line: %q",
			out.String())
		require.NotContains(t, out.String(), "\u202e")
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		size int
		ok   bool
	}{
		"none":        {"", 0, true},
		"right":       {strings.Repeat("0123456789abcdef", 4), oauth.EncryptionKeySize, true},
		"upper case":  {strings.Repeat("0123456789ABCDEF", 4), oauth.EncryptionKeySize, true},
		"too short":   {"0123456789abcdef", 0, false},
		"too long":    {strings.Repeat("0123456789abcdef", 5), 0, false},
		"not hex":     {strings.Repeat("top-secret-words", 4), 0, false},
		"odd":         {"abc", 0, false},
		"white space": {strings.Repeat("0123456789abcde ", 4), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := program.Values{"key": tc.text}.Key()
			require.Len(t, key, tc.size)
			if tc.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorAs(t, err, new(*program.UsageError))
			require.ErrorContains(t, err, "B24_KEY")
			require.NotContains(t, err.Error(), tc.text)
		})
	}
}
