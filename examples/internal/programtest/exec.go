package programtest

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// AsProgram is the variable that makes a test binary the program itself; see [Main].
const AsProgram = "EXAMPLE_TEST_PROGRAM"

// Main is for the TestMain of a program: it runs the tests or, in a process that [StartExec] has
// started, the program.
func Main(m *testing.M, program func()) {
	if os.Getenv(AsProgram) != "" {
		program()
	}
	os.Exit(m.Run())
}

// Exec is a program in a process of its own.
type Exec struct {
	Stdout, Stderr *Output

	cmd   *exec.Cmd
	ended chan struct{}
}

// ExecConfig describes a process.
type ExecConfig struct {
	Command       []string // and its arguments; empty: the test binary
	Env           Env      // all of it, besides AsProgram
	Stdin, Stdout *os.File // nil: the null device, and [Exec.Stdout]
}

// StartExec starts a process, in which [Main] runs the program. It is killed at the end of the test
// if it still runs.
func StartExec(tb testing.TB, c ExecConfig) *Exec {
	tb.Helper()
	// A process that handles SIGHUP passes on the default action, even if the test itself ignores it,
	// as after nohup.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	tb.Cleanup(func() { signal.Stop(caught) })
	if len(c.Command) == 0 {
		c.Command = []string{os.Args[0]}
	}
	e := &Exec{Stdout: &Output{}, Stderr: &Output{}, ended: make(chan struct{})}
	e.cmd = exec.CommandContext(tb.Context(), c.Command[0], c.Command[1:]...) //nolint:gosec // the test names the program
	e.cmd.Env = c.Env.With(AsProgram, "1").Strings()
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
		_ = e.cmd.Wait() // Wait of Exec returns the exit code
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

// AwaitLog waits until the log on stderr holds a text. It fails the test if the process ends before
// that.
func (e *Exec) AwaitLog(tb testing.TB, text string) {
	tb.Helper()
	e.Await(tb, func() bool { return strings.Contains(e.Stderr.String(), text) })
}

// EndsWithoutOutput expects that the program ends with 1 because stdout cannot be written, for a
// cause that [BrokenOutputs] names, and that it says so in its last line. Lines before that one are
// its log, in JSON.
func (e *Exec) EndsWithoutOutput(tb testing.TB, program, cause string) {
	tb.Helper()
	if code := e.Wait(tb); code != 1 {
		tb.Errorf("exit code %d instead of 1: %s", code, e.Stderr)
	}
	want := program + ": writing to stdout: write /dev/stdout: " + cause + "\n"
	log, found := strings.CutSuffix(e.Stderr.String(), want)
	if !found {
		tb.Errorf("the last line is not %q: %s", want, e.Stderr)
	}
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "{") {
			tb.Errorf("a line before the last one is no log: %s", line)
		}
	}
}
