package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// Env is what a program gets from its process. Tests make one of their own.
type Env struct {
	Args           []string // without the program's name
	Getenv         func(name string) (value string, ok bool)
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal // those that stop it; see [Run]
}

// Func is a program without its process. It returns the exit code.
type Func func(ctx context.Context, env Env) int

// lastGrace is how long a program may take after the second signal.
const lastGrace = 5 * time.Second

// Main runs a program with the Env of its process, and exits. It decides for all programs how they
// end:
//
//   - The first SIGINT, SIGTERM or SIGHUP, which a terminal sends when it is closed, stops the
//     program in order: it finishes what it has accepted. After nohup, SIGHUP does not.
//   - The second SIGINT or SIGTERM ends the program as soon as it has reported what it could not
//     finish. A program that is stuck, for example in a write to a full pipe, exits with 1 after 5
//     seconds. SIGHUP does not count: a terminal and its shell each send one when they are closed,
//     and systemd can send one together with SIGTERM.
//   - SIGPIPE does nothing. If stdout has no reader any more, the write returns an error, so that
//     the program can stop in order.
//
// The exit code is 0 when everything that was accepted is finished, 1 when something is not, and 2
// for wrong usage. If stdout is closed at the start, Go opens the null device in its place: the
// output is discarded, as the caller has asked.
//
// On Windows, Ctrl+C, Ctrl+Break and the end of the console window, of the session or of the system
// stop it in order. Windows grants some seconds for the last three. A process without a console
// cannot get these, and Stop-Process and taskkill /F kill it.
func Main(run Func) {
	signal.Ignore(syscall.SIGPIPE)
	caught := make(chan os.Signal, 8)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(caught, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 2)
	go func() {
		forward(caught, signals)
		<-time.After(lastGrace)
		exitStuck()
	}()
	os.Exit(run(context.Background(), Env{
		Args: os.Args[1:], Getenv: os.LookupEnv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals,
	}))
}

// forward passes on the first signal and the second stop signal, and then returns.
func forward(caught <-chan os.Signal, signals chan<- os.Signal) {
	begun, stops := false, 0
	for s := range caught {
		if s != syscall.SIGHUP {
			stops++
		}
		if !begun || stops == 2 {
			begun = true
			signals <- s
		}
		if stops == 2 {
			return
		}
	}
}

// exitStuck ends a process whose program does not end, and says so on stderr if that can be
// written.
func exitStuck() {
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = fmt.Fprintf(os.Stderr, "%s: stopped at once, because it did not stop by itself; something may be unfinished\n",
			filepath.Base(os.Args[0]))
	}()
	select {
	case <-said:
	case <-time.After(time.Second):
	}
	os.Exit(1)
}

// Run runs work until it returns, and returns the exit code: 0, 1 for an error, 2 for a
// [UsageError]. The first signal, or the end of ctx, ends the context working: work then finishes
// what it has accepted. The second signal ends the context draining: work then finishes nothing
// more. Run prints an error in one line; see [OneLine].
func Run(ctx context.Context, program string, env Env, work func(working, draining context.Context) error) int {
	working, stop := context.WithCancel(ctx)
	defer stop()
	draining, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for _, next := range []func(){stop, cut} {
			select {
			case <-env.Signals:
				next()
			case <-ended:
				return
			}
		}
	}()
	err := work(working, draining)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	_, _ = fmt.Fprintf(env.Stderr, "%s: %s\n", program, OneLine(err.Error()))
	if errors.As(err, new(*UsageError)) {
		return 2
	}
	return 1
}

// Stopped returns nil instead of err if err only says that ctx has ended.
func Stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}
