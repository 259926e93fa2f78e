//go:build unix

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// A signal ends the show, unless it was over before.
func TestEndsOnSignals(t *testing.T) {
	t.Parallel()
	programtest.EndsOnSignals(t, 0, func(t *testing.T, c programtest.ExecConfig) *programtest.Exec {
		t.Helper()
		e := programtest.StartExec(t, c)
		t.Cleanup(func() {
			if !strings.Contains(e.Stdout.String(), "\nshutdown ") && !strings.Contains(t.Name(), "without_stdout") {
				require.Equal(t, "quickstart: stopped\n", e.Stderr.String())
			}
		})
		if !strings.Contains(t.Name(), "without_stdout") {
			e.Await(t, func() bool { return e.Stdout.String() != "" })
		} else {
			e.Wait(t)
		}
		return e
	})
}

func TestOutputIsBroken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	for says, stdout := range programtest.BrokenOutputs(t) {
		e := programtest.StartExec(t, programtest.ExecConfig{Stdout: stdout})
		e.EndsWithoutOutput(t, "quickstart", says)
	}
}
