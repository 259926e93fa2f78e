package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Func is a program without its process. It returns the exit code.
type Func func(ctx context.Context, signals <-chan os.Signal, args []string, env func(string) (string, bool), stdout, stderr io.Writer) int

// Main runs a program with what its process has, and exits. SIGINT, SIGTERM and SIGHUP, which a
// terminal sends when it is closed, stop the program in order; after nohup, SIGHUP does not. When
// nobody reads the output any more, the process does not die of SIGPIPE: the write returns an
// error, so that the program can finish what it has accepted.
//
// On Windows Ctrl+C, Ctrl+Break and the end of the console window, of the session or of the system
// stop it in order, for the last three of which Windows grants some seconds. Nobody can send these
// to a process without a console, and Stop-Process and taskkill /F kill it.
func Main(run Func) {
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	os.Exit(run(context.Background(), signals, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// Run runs work until that returns, and gives the exit code: 0, 1 for an error, 2 for a [UsageError]. The first signal, or the end of ctx, ends
// working, on which work finishes what it has accepted; the second one ends draining, on which it finishes nothing more. An error is printed in
// one line; see [OneLine].
func Run(
	ctx context.Context, program string, signals <-chan os.Signal, stderr io.Writer, work func(working, draining context.Context) error,
) int {
	working, stop := context.WithCancel(ctx)
	defer stop()
	draining, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for _, next := range []func(){stop, cut} {
			select {
			case <-signals:
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
	_, _ = fmt.Fprintf(stderr, "%s: %s\n", program, OneLine(err.Error()))
	if errors.As(err, new(*UsageError)) {
		return 2
	}
	return 1
}

// Stopped returns nil in place of an error that comes of being told to stop.
func Stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}
