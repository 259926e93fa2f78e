//go:build unix

package main

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

const fixedToken = "the-token-of-the-tests"

// realProcess starts a receiver in a process of its own, whose output goes to stdout, or is
// collected when that is nil.
func realProcess(t *testing.T, env programtest.Env, stdout *os.File, command ...string) (*process, *exec.Cmd) {
	t.Helper()
	p := &process{Process: &programtest.Process{Stdout: &programtest.Output{}, Stderr: &programtest.Output{}}}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...) //nolint:gosec // this binary
	cmd.Env = env.With(asProgram, "1", "LISTEN", "127.0.0.1:0", "LOG_FORMAT", "json", "B24_APPLICATION_TOKEN", fixedToken).Strings()
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	if stdout != nil {
		cmd.Stdout = stdout
	}
	require.NoError(t, cmd.Start())
	p.ready(t)
	return p, cmd
}

// Whoever reads the output may go away, as head does. The receiver says so and stops; it does not
// die with what it acknowledged.
func TestStopsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	p, cmd := realProcess(t, programtest.Env{}, write, os.Args[0])
	require.NoError(t, write.Close())
	require.NoError(t, read.Close())
	require.Equal(t, 200, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 1}, eventtest.WithToken(fixedToken)))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode(), p.Stderr)
	require.Contains(t, p.Stderr.String(), "receiver has stopped")
	require.Contains(t, p.Stderr.String(), "receiver: writing to stdout: write /dev/stdout: broken pipe\n")
}

// A terminal that is closed stops the receiver as a signal to stop does: what was acknowledged is
// processed. After nohup it goes on.
func TestHangUp(t *testing.T) {
	t.Parallel()
	// Also when the test runs after nohup: a process that has a handler hands on the default, and
	// one that ignores the signal does not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
	for name, tc := range map[string]struct {
		command []string
		stop    os.Signal
	}{
		"terminal": {[]string{os.Args[0]}, syscall.SIGHUP},
		"nohup":    {[]string{"/bin/sh", "-c", `trap "" HUP; exec "$0"`, os.Args[0]}, syscall.SIGTERM},
	} {
		p, cmd := realProcess(t, programtest.Env{"HANDLER_DELAY": "50ms", "WORKERS": "1"}, nil, tc.command...)
		for id := range int64(3) {
			require.Equal(t, 200, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: id + 1}, eventtest.WithToken(fixedToken)), name)
			if tc.stop != syscall.SIGHUP {
				require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
			}
		}
		require.NoError(t, cmd.Process.Signal(tc.stop))
		require.NoError(t, cmd.Wait(), "%s: %s", name, p.Stderr)
		require.Len(t, programtest.Lines(t, p.Stdout.String()), 3, name)
	}
}
