package programtest

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// Exec is a program in a process of its own.
type Exec struct {
	Stdout, Stderr *Output

	cmd   *exec.Cmd
	ended chan struct{}
}

// ExecConfig describes a process.
type ExecConfig struct {
	Command       []string // and its arguments; empty: the test binary
	Env           Env      // all of it
	Stdin, Stdout *os.File // nil: the null device, and [Exec.Stdout]
}

// StartExec starts a process. It is killed at the end of the test if it still runs.
func StartExec(tb testing.TB, c ExecConfig) *Exec {
	tb.Helper()
	// A process that has a handler hands on the default, also when the test itself runs after nohup.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	tb.Cleanup(func() { signal.Stop(caught) })
	if len(c.Command) == 0 {
		c.Command = []string{os.Args[0]}
	}
	e := &Exec{Stdout: &Output{}, Stderr: &Output{}, ended: make(chan struct{})}
	e.cmd = exec.CommandContext(tb.Context(), c.Command[0], c.Command[1:]...) //nolint:gosec // the test names the program
	e.cmd.Env = c.Env.Strings()
	e.cmd.Stdout, e.cmd.Stderr = e.Stdout, e.Stderr
	if c.Stdin != nil {
		e.cmd.Stdin = c.Stdin
	}
	if c.Stdout != nil {
		e.cmd.Stdout = c.Stdout
	}
	if err := e.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(e.ended)
		_ = e.cmd.Wait() // the exit code says it
	}()
	tb.Cleanup(func() {
		_ = e.cmd.Process.Kill()
		<-e.ended
	})
	return e
}

// Signal sends signals in turn. A process that has ended gets none.
func (e *Exec) Signal(tb testing.TB, signals ...os.Signal) {
	tb.Helper()
	for _, s := range signals {
		if err := e.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			tb.Fatal(err)
		}
	}
}

// Wait returns the exit code, which is -1 if a signal killed the process.
func (e *Exec) Wait(tb testing.TB) int {
	tb.Helper()
	select {
	case <-e.ended:
		return e.cmd.ProcessState.ExitCode()
	case <-time.After(2 * Patience):
		tb.Fatalf("it does not end: %s", e.Stderr)
		return 0
	}
}

// Await waits until the condition holds. It fails the test if the process ends before that.
func (e *Exec) Await(tb testing.TB, condition func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-e.ended:
			tb.Fatalf("it has ended with %d: %s", e.cmd.ProcessState.ExitCode(), e.Stderr)
		case <-patience.C:
			tb.Fatalf("it does not come that far: %s", e.Stderr)
		}
	}
}
