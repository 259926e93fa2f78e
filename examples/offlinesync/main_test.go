package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func once(t *testing.T, env programtest.Env) ([]map[string]any, string) {
	t.Helper()
	code, stdout, stderr := programtest.Run(t, run, env, "-once", "-log-format=json")
	require.Zero(t, code, stderr)
	return programtest.Lines(t, stdout), stderr
}

func TestOnce(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = env.With("EVENTS", "onCrmDealAdd,ONCRMDEALUPDATE,ONCRMDEALDELETE,ONTASKADD")
	seeded := env.Seeded(t, app)
	lines, _ := once(t, seeded)
	require.Empty(t, lines)
	require.Len(t, portal.Bindings(), 4)

	deal, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "a < b"}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, portal.Update(eventtest.Deal, deal, map[string]any{"TITLE": "c & d"}, eventtest.AdminID))
	gone, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "short-lived"}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, portal.Delete(eventtest.Deal, gone, eventtest.AdminID))
	task, err := portal.Add(eventtest.Task, map[string]any{"TITLE": "a task", "RESPONSIBLE_ID": 1}, eventtest.AdminID)
	require.NoError(t, err)

	// Later starts need no tokens in the environment, nor the portal's identifier.
	portal.ResetRecords()
	lines, stderr := once(t, env)
	require.Len(t, lines, 5)
	for _, l := range lines {
		require.ElementsMatch(t, []string{"event", "message_id", "entity", "user_id", "object", "error"}, keys(l))
		require.Len(t, l["message_id"], 32)
		require.InDelta(t, 1, l["user_id"], 0)
		require.Nil(t, l["error"])
		entity, ok := l["entity"].(map[string]any)
		require.True(t, ok)
		switch entity["id"] {
		case strconv.FormatInt(gone, 10):
			if entity["kind"] == "crm.deal" {
				require.Nil(t, l["object"])
			}
		case strconv.FormatInt(deal, 10):
			if entity["kind"] == "crm.deal" {
				require.Equal(t, "c & d", field(t, l, "TITLE"))
			}
		}
		if entity["kind"] == "tasks.task" {
			require.Equal(t, "ONTASKADD", l["event"])
			require.Equal(t, strconv.FormatInt(task, 10), entity["id"])
		}
	}
	require.Empty(t, portal.OfflineRows())
	require.LessOrEqual(t, portal.Requests().REST, 7, "records are fetched together")
	for _, secret := range []string{env["B24_CLIENT_SECRET"], seeded["B24_ACCESS_TOKEN"], seeded["B24_REFRESH_TOKEN"]} {
		require.NotContains(t, stderr, secret)
	}
}

// TestLinesAreOnlyShown covers what a terminal would obey in the object of a line.
func TestLinesAreOnlyShown(t *testing.T) {
	t.Parallel()
	const hostile = "a\u009b31m\x7f\u202eb"
	portal, app, env := programtest.Portal(t)
	seeded := env.Seeded(t, app)
	once(t, seeded)
	_, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": hostile}, eventtest.AdminID)
	require.NoError(t, err)
	code, stdout, stderr := programtest.Run(t, run, env, "-once")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, `a\u009b31m\u007f\u202eb`)
	lines := programtest.Lines(t, stdout)
	require.Len(t, lines, 1)
	require.Equal(t, hostile, field(t, lines[0], "TITLE"))
}

func keys(m map[string]any) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

// field returns a field of the object of a line.
func field(t *testing.T, l map[string]any, name string) any {
	t.Helper()
	object, ok := l["object"].(map[string]any)
	require.True(t, ok, "%v", l)
	return object[name]
}

func TestRunsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	p := programtest.Start(t, run, env.Seeded(t, app).With("OUT", out, "CONNECTOR", "sync"))
	require.Eventually(t, func() bool { return len(portal.Bindings()) == 3 }, programtest.Patience, time.Millisecond)
	require.Equal(t, "sync", portal.Bindings()[0].Connector)
	for range 20 {
		_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(portal.OfflineRows()) == 0 }, programtest.Patience, time.Millisecond)

	code, _, stderr := programtest.Run(t, run, env.With("OUT", out, "CONNECTOR", "sync"), "-once")
	require.Equal(t, 1, code, "the queue is in use")
	require.Contains(t, stderr, "another process")
	code, _, stderr = programtest.Run(t, run, env.With("OUT", out), "-once")
	require.Equal(t, 1, code, "the file is in use")
	require.Contains(t, stderr, "OUT: "+out)

	p.Stop(t)
	text := programtest.Read(t, out)
	require.Len(t, programtest.Lines(t, text), 20)
	require.Empty(t, p.Stdout.String())
	info, err := os.Stat(out)
	require.NoError(t, err)
	if runtime.GOOS != "windows" { // which has no modes
		require.Zero(t, info.Mode().Perm()&0o077)
	}
}

func TestLastLineOfACrash(t *testing.T) {
	t.Parallel()
	const begun = `{"event":`
	for name, tc := range map[string]struct{ before, after string }{
		"whole":          {"{\"a\":1}\n", "{\"a\":1}\n"},
		"half":           {"{\"a\":1}\n{\"event\":\"ONCRM", "{\"a\":1}\n"},
		"half and first": {"{\"event\":\"ONCRM", ""},
		"only its break": {"{\"a\":1}\n{\"b\":2}", "{\"a\":1}\n{\"b\":2}\n"},
		"its first byte": {"{}\n{", "{}\n"},
		"zeros":          {"{}\n\x00\x00\x00", "{}\n"},
		"long":           {"{}\n" + begun + strings.Repeat("x", 300_000), "{}\n"},
		"long and first": {begun + strings.Repeat("x", 300_000), ""},
		"block of the end": {
			strings.Repeat("x", 64<<10-1) + "\n" + begun + strings.Repeat("y", 64<<10-len(begun)),
			strings.Repeat("x", 64<<10-1) + "\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			require.NoError(t, os.WriteFile(out, []byte(tc.before), 0o600))
			j, err := openJournal(t.Context(), out, nil, programtest.Silent())
			require.NoError(t, err)
			require.NoError(t, j.append([]byte("{}\n")))
			require.NoError(t, j.close())
			text := programtest.Read(t, out)
			require.Equal(t, tc.after+"{}\n", text)
		})
	}
}

// A file of another program is neither cut nor written to.
func TestOutIsAnotherFile(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"one line":   "dear diary",
		"many lines": "[\n  1,\n  2\n}",
		"binary":     "\x7fELF\x02\x01\x01\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			require.NoError(t, os.WriteFile(out, []byte(text), 0o600))
			_, err := openJournal(t.Context(), out, nil, programtest.Silent())
			require.ErrorIs(t, err, errNotOurs)
			require.Equal(t, text, programtest.Read(t, out))
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	env = env.Seeded(t, app)
	for name, tc := range map[string]struct {
		env  programtest.Env
		args []string
		code int
	}{
		"help":              {nil, []string{"-h"}, 0},
		"nothing":           {nil, nil, 2},
		"no credentials":    {env.With("B24_CLIENT_SECRET", ""), nil, 2},
		"no tokens":         {env.With("B24_ACCESS_TOKEN", "", "B24_REFRESH_TOKEN", ""), nil, 2},
		"no portal":         {env.With("B24_MEMBER_ID", ""), nil, 2},
		"endpoint":          {env.With("B24_CLIENT_ENDPOINT", "https://x y/"), nil, 2},
		"http not allowed":  {env.With("B24_INSECURE_HTTP", ""), nil, 2},
		"hosts":             {env.With("B24_OAUTH_HOSTS", ""), nil, 2},
		"no events":         {env.With("EVENTS", ","), nil, 2},
		"event of no queue": {env.With("EVENTS", "ONOFFLINEEVENT"), nil, 2},
		"event of nobody":   {env.With("EVENTS", "ONSOMETHINGELSE"), []string{"-once"}, 1},
		"retries":           {env.With("RETRIES", "some"), nil, 2},
		"retry parked":      {env.With("RETRY_PARKED", "-1m"), nil, 2},
		"poll":              {env, []string{"-poll=soon"}, 2},
		"short poll":        {env, []string{"-poll=99ms"}, 2},
		"log format":        {env, []string{"-log-format=xml"}, 2},
		"unknown flag":      {env, []string{"-refresh-tokn=" + env["B24_REFRESH_TOKEN"]}, 2},
		"argument":          {env, []string{"once"}, 2},
		"out":               {env.With("OUT", "/does/not/exist/out"), nil, 1},
		"out is a folder":   {env.With("OUT", t.TempDir()), nil, 1},
		"data is a file":    {env.With("B24_DATA", "/dev/null/x"), nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := tc.env
			if own["B24_DATA"] != "/dev/null/x" {
				own = own.With("B24_DATA", t.TempDir())
			}
			code, stdout, stderr := programtest.Run(t, run, own, tc.args...)
			require.Equal(t, tc.code, code, stderr)
			require.Empty(t, stdout)
			for _, secret := range []string{"B24_CLIENT_SECRET", "B24_ACCESS_TOKEN", "B24_REFRESH_TOKEN"} {
				require.NotContains(t, stderr, env[secret])
			}
			if tc.code != 0 {
				lines := strings.Split(strings.TrimSpace(stderr), "\n")
				require.Contains(t, lines[len(lines)-1], "offlinesync: ")
				require.LessOrEqual(t, strings.Count(stderr, "offlinesync: "), 1, stderr)
			}
		})
	}
}
