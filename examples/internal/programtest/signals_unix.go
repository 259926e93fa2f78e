//go:build unix

package programtest

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// EndsOnSignals runs a program once for each way in which a signal can reach it, as package program
// documents them, and expects the exit code. start completes the configuration, starts the program,
// and returns when it is ready.
func EndsOnSignals(t *testing.T, code int, start func(t *testing.T, c ExecConfig) *Exec) {
	t.Helper()
	nohup := []string{"/bin/sh", "-c", `trap "" HUP; exec "$0"`, os.Args[0]}
	noStdout := []string{"/bin/sh", "-c", `exec "$0" >&-`, os.Args[0]}
	for _, tc := range []struct {
		name    string
		command []string
		signals []os.Signal
	}{
		{"SIGINT", nil, []os.Signal{syscall.SIGINT}},
		{"SIGTERM", nil, []os.Signal{syscall.SIGTERM}},
		{"SIGHUP", nil, []os.Signal{syscall.SIGHUP}},
		{"SIGHUP twice", nil, []os.Signal{syscall.SIGHUP, syscall.SIGHUP}},
		{"SIGTERM and SIGHUP", nil, []os.Signal{syscall.SIGTERM, syscall.SIGHUP}},
		{"SIGPIPE is ignored", nil, []os.Signal{syscall.SIGPIPE, syscall.SIGTERM}},
		{"SIGHUP is ignored after nohup", nohup, []os.Signal{syscall.SIGHUP, syscall.SIGTERM}},
		{"SIGTERM without stdout", noStdout, []os.Signal{syscall.SIGTERM}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := start(t, ExecConfig{Command: tc.command, Env: Env{"PATH": os.Getenv("PATH"), "HOME": t.TempDir()}})
			e.Signal(t, tc.signals...)
			if got := e.Wait(t); got != code {
				t.Errorf("exit code %d instead of %d: %s", got, code, e.Stderr)
			}
			if strings.Contains(e.Stderr.String(), "goroutine ") {
				t.Errorf("it has crashed: %s", e.Stderr)
			}
		})
	}
}

// BrokenOutputs are outputs that cannot be written. The key is the text of the error of a write.
func BrokenOutputs(tb testing.TB) map[string]*os.File {
	tb.Helper()
	read, write, err := os.Pipe()
	if err == nil {
		err = read.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	outputs := map[string]*os.File{"broken pipe": write}
	if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil { // on Linux
		outputs["no space left on device"] = full
	}
	tb.Cleanup(func() {
		for _, f := range outputs {
			_ = f.Close()
		}
	})
	return outputs
}
