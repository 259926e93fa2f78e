package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// lines is what a run prints, figures that differ from run to run left open. The README explains
// each of them.
var lines = []string{
	`portal    a Bitrix24 portal at 127\.0\.0\.1:\d+, its OAuth server at 127\.0\.0\.1:\d+, an application at 127\.0\.0\.1:\d+/bitrix24/events`,
	`install   install event verified at the OAuth server \(2 requests\) and stored`,
	`bindings  8 made from the handlers at install, 0 left to change`,
	`events    4 decoded: deal 1, task 1, item 1 of smart process 147, message "Hello & hi" to a bot`,
	`forgery   3 forged events answered 403, 0 reached a handler, 0 requests to the host they named`,
	`employee  own installation answered 403, forged uninstallation not believed: the stored token still works`,
	`token     expired under 50 concurrent calls: 1 refresh, 50 answers`,
	`burst     1000 changes of one deal, 1000 acknowledged, [12] handler runs`,
	`offline   5 records, 3 of them reserved by a process that crashed: 5 handled, 0 left`,
	`shutdown  drained: 1006 accepted = \d processed \+ \d+ coalesced, 0 failed, 0 dropped`,
}

func TestRun(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), program.Env{Stdout: &stdout, Stderr: &stderr}), stderr.String())
	require.Empty(t, stderr.String())
	requireLines(t, strings.TrimSuffix(stdout.String(), "\n"))
}

// TestREADME: the run that the README shows has these lines.
func TestREADME(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"README.md", "README.ru.md"} {
		page, err := os.ReadFile(filepath.Join("..", "..", name)) //nolint:gosec // of this repository
		require.NoError(t, err)
		shown := regexp.MustCompile("(?s)```\n(portal .*?)\n```").FindSubmatch(page)
		require.NotNil(t, shown, name)
		requireLines(t, string(shown[1]))
	}
}

// requireLines checks a run line by line.
func requireLines(t *testing.T, run string) {
	t.Helper()
	got := strings.Split(run, "\n")
	require.Len(t, got, len(lines))
	for i, want := range lines {
		require.Regexp(t, "^"+want+` \(\d+ ms\)$`, got[i])
	}
}

func TestRunLogsNoSecret(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), program.Env{Args: []string{"-v", "-log-format", "json"}, Stdout: &stdout, Stderr: &stderr}))
	require.Contains(t, stderr.String(), `"level"`)
	for _, secret := range []string{"quickstart-client-secret", "forged-access-token", "forged-refresh-token", "0000000000000000", "1111111111111111", "2222222222222222"} {
		require.NotContains(t, stdout.String()+stderr.String(), secret)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		code int
	}{
		"help":         {[]string{"-h"}, 0},
		"unknown flag": {[]string{"-x"}, 2},
		"argument":     {[]string{"x"}, 2},
		"log format":   {[]string{"-log-format", "xml"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			require.Equal(t, tc.code, run(t.Context(), program.Env{Args: tc.args, Stdout: &stdout, Stderr: &stderr}))
			require.Empty(t, stdout.String())
			require.NotEmpty(t, stderr.String())
		})
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(ctx, program.Env{Stdout: &stdout, Stderr: &stderr}))
}
