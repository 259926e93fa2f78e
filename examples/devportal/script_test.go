package main

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// runScript runs a script to its end and returns the answers that were printed.
func runScript(t *testing.T, script string, env programtest.Env) (code int, answers []map[string]any, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(script), 0o600))
	settings := programtest.Env{"DEVPORTAL_LISTEN": "127.0.0.1:0", "DEVPORTAL_SCRIPT": file}
	maps.Copy(settings, env)
	p := programtest.Start(t, run, settings)
	code = p.Wait(t)
	for _, line := range programtest.Lines(t, p.Stdout.String()) {
		if line["type"] == "answer" {
			answers = append(answers, line)
		}
	}
	return code, answers, p.Stderr.String()
}

func TestScript(t *testing.T) {
	t.Parallel()
	sink := newSink(t)
	script := `# a comment
{"post": "/api/webhooks", "body": {"url": "` + sink.URL + `", "events": "ONCRMDEALADD"}}

{"post": "/api/objects", "body": {"kind": "deal", "action": "add", "fields": {"TITLE": "From a script"}}}
{"post": "/api/wait"}
{"get": "/api/objects/deal/1"}
{"get": "/api/objects/deal/2", "expect": 404}
{"get": "/api/objects", "portal": 2}
`
	code, answers, stderr := runScript(t, script, programtest.Env{"DEVPORTAL_PORTALS": "2"})
	require.Zero(t, code, stderr)
	require.Len(t, answers, 6)
	require.Contains(t, sink.last(), "ONCRMDEALADD")
	body := func(n int) map[string]any {
		m, ok := answers[n]["body"].(map[string]any)
		require.True(t, ok, answers[n])
		return m
	}
	require.NotEmpty(t, body(0)["token"])
	require.InDelta(t, 2, answers[0]["line"], 0)
	require.InDelta(t, 1, body(2)["acknowledged"], 0)
	fields, ok := body(3)["fields"].(map[string]any)
	require.True(t, ok)
	require.Equal(t, "From a script", fields["TITLE"])
	require.InDelta(t, 404, answers[4]["status"], 0)
	require.Equal(t, []any{}, answers[5]["body"], "the second portal has no objects")
}

func TestScriptErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		code   int
		says   string
	}{
		"empty":               {"\n# nothing\n", 0, ""},
		"no JSON":             {"hello\n", 2, "line 1 is not a command"},
		"two in a line":       {`{"get":"/api/"}{"get":"/api/"}`, 2, "line 1 is not a command"},
		"an unknown member":   {`{"path":"/api/"}`, 2, "line 1 is not a command"},
		"both":                {`{"get":"/api/","post":"/api/wait"}`, 2, "either get or post"},
		"neither":             {`{}`, 2, "either get or post"},
		"a body to read with": {`{"get":"/api/","body":{}}`, 2, "only post has a body"},
		"not the API":         {`{"get":"/"}`, 2, "begins with /api/"},
		"a stream":            {`{"get":"/api/stream?q=x"}`, 2, "cannot read the stream"},
		"no such portal":      {"\n" + `{"get":"/api/","portal":2}`, 2, "line 2: there is no portal 2"},
		"a bad path":          {`{"get":"/api/%zz"}`, 2, "not one of a URL"},
		"a failed command":    {`{"post":"/api/clock","body":{"by":"soon"}}` + "\n" + `{"get":"/api/nothing"}`, 1, "line 1: status 400: the clock goes forward"},
		"an unexpected one":   {`{"get":"/api/","expect":404}`, 1, "the status is 200 instead of 404"},
		"too long":            {`{"post":"/api/raise","body":{"event":"` + strings.Repeat("x", 300_000) + `"}}`, 2, "more than 256 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := runScript(t, c.script, nil)
			require.Equal(t, c.code, code, stderr)
			require.Contains(t, stderr, c.says)
		})
	}
}

// TestScriptOnStdin drives the program as a test in another language would, and ends it by closing
// its stdin. A signal ends it, too.
func TestScriptOnStdin(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]bool{"closed": false, "signal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			theirs, ours := io.Pipe()
			defer ours.Close() //nolint:errcheck // it cannot fail
			env := programtest.Env{"DEVPORTAL_LISTEN": "127.0.0.1:0"}
			program := env.Program("-script", "-")
			var stdout, stderr programtest.Output
			signals := make(chan os.Signal, 2)
			program.Stdin, program.Stdout, program.Stderr, program.Signals = theirs, &stdout, &stderr, signals
			code := make(chan int, 1)
			go func() { code <- run(t.Context(), program) }()
			_, err := io.WriteString(ours, `{"post":"/api/objects","body":{"kind":"deal","action":"add"}}`+"\n")
			require.NoError(t, err)
			require.Eventually(t, func() bool { return strings.Contains(stdout.String(), `"deal 1 added"`) }, patience, pollEvery)
			if signal {
				signals <- syscall.SIGTERM
			} else {
				require.NoError(t, ours.Close())
			}
			require.Zero(t, <-code, stderr.String())
		})
	}
}
