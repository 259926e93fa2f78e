//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

const fixedToken = "the-token-of-the-tests"

// realProcess starts a receiver in a process of its own, whose output goes to stdout, or is collected when that is nil.
func realProcess(t *testing.T, env programtest.Env, stdout *os.File) (*process, *exec.Cmd) {
	t.Helper()
	p := &process{Process: &programtest.Process{Stdout: &programtest.Output{}, Stderr: &programtest.Output{}}}
	cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this binary
	cmd.Env = env.With(asProgram, "1", "LISTEN", "127.0.0.1:0", "LOG_FORMAT", "json", "B24_APPLICATION_TOKEN", fixedToken).Strings()
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	if stdout != nil {
		cmd.Stdout = stdout
	}
	require.NoError(t, cmd.Start())
	p.ready(t)
	return p, cmd
}

// Whoever reads the output may go away, as head does. The receiver says so and stops; it does not die with what it acknowledged.
func TestStopsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	p, cmd := realProcess(t, programtest.Env{}, write)
	require.NoError(t, write.Close())
	require.NoError(t, read.Close())
	require.Equal(t, 200, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 1}, eventtest.WithToken(fixedToken)))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode(), p.Stderr)
	require.Contains(t, p.Stderr.String(), "receiver has stopped")
	require.Contains(t, p.Stderr.String(), "receiver: writing to stdout: write /dev/stdout: broken pipe\n")
}

// A terminal that is closed stops the receiver as a signal to stop does: what was acknowledged is processed.
func TestHangUp(t *testing.T) {
	t.Parallel()
	p, cmd := realProcess(t, programtest.Env{"HANDLER_DELAY": "50ms", "WORKERS": "1"}, nil)
	for id := range int64(3) {
		require.Equal(t, 200, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: id + 1}, eventtest.WithToken(fixedToken)))
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	require.NoError(t, cmd.Wait(), p.Stderr)
	require.Len(t, programtest.Lines(t, p.Stdout.String()), 3)
}
