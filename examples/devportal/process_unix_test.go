//go:build unix

package main

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// startReal starts a devportal in a process of its own.
func startReal(t *testing.T, c programtest.ExecConfig) *programtest.Exec {
	t.Helper()
	c.Env = c.Env.With("DEVPORTAL_LISTEN", "127.0.0.1:0", "LOG_FORMAT", "json")
	return programtest.StartExec(t, c)
}

func TestEndsOnSignals(t *testing.T) {
	t.Parallel()
	programtest.EndsOnSignals(t, 0, func(t *testing.T, c programtest.ExecConfig) *programtest.Exec {
		t.Helper()
		e := startReal(t, c)
		e.AwaitLog(t, "devportal is ready")
		return e
	})
}

func TestOutputIsBroken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	for says, stdout := range programtest.BrokenOutputs(t) {
		e := startReal(t, programtest.ExecConfig{Stdout: stdout})
		e.EndsWithoutOutput(t, "devportal", says)
	}
}

// A second signal ends a stuck process, here in a write to a full pipe.
func TestSecondSignalEndsWhatIsStuck(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	read, write, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = read.Close()
		_ = write.Close()
	})
	require.NoError(t, write.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	for err == nil {
		_, err = write.Write(make([]byte, 64<<10))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the pipe is full")
	e := startReal(t, programtest.ExecConfig{Stdout: write})
	e.AwaitLog(t, "devportal is ready")
	e.Signal(t, syscall.SIGTERM, syscall.SIGINT)
	require.Equal(t, 1, e.Wait(t))
	require.Contains(t, e.Stderr.String(), "stopped at once")
}
