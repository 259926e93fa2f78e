//go:build unix

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// A signal that comes before the body was read leaves nothing to print, so the program fails.
func TestEndsOnSignals(t *testing.T) {
	t.Parallel()
	programtest.EndsOnSignals(t, 1, func(t *testing.T, c programtest.ExecConfig) *programtest.Exec {
		t.Helper()
		read, write, err := os.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { _ = write.Close() })
		c.Stdin = read
		e := programtest.StartExec(t, c)
		require.NoError(t, read.Close())
		_, err = write.WriteString(strings.Repeat("x", 256<<10)) // more than fits into a pipe
		require.NoError(t, err)
		return e
	})
}

func TestOutputIsBroken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for a program that gives up")
	}
	for says, stdout := range programtest.BrokenOutputs(t) {
		read, write, err := os.Pipe()
		require.NoError(t, err)
		_, err = write.WriteString("event=ONCRMDEALADD&data[FIELDS][ID]=1")
		require.NoError(t, err)
		require.NoError(t, write.Close())
		e := programtest.StartExec(t, programtest.ExecConfig{Stdin: read, Stdout: stdout})
		require.NoError(t, read.Close())
		e.EndsWithoutOutput(t, "decode", says)
	}
}
