// Command quickstart shows the whole loop in a few seconds and needs nothing. It starts a Bitrix24
// portal inside the process (package eventtest) and an application beside it, lets the two talk
// over real HTTP on loopback, and prints a line for each step. It exits with 1 if a step has a
// wrong outcome.
//
//	go run ./examples/quickstart
//
// A signal ends it early, which is not a failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/b24events/b24events/examples/internal/program"
)

// limit is how long all steps together may take.
const limit = time.Minute

func main() { program.Main(run) }

func run(ctx context.Context, env program.Env) int {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	format := flags.String("log-format", "text", "format of the log on stderr: text or json")
	verbose := flags.Bool("v", false, "log what the packages do")
	if err := flags.Parse(env.Args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	log, err := logger(env.Stderr, *format, *verbose)
	if err != nil || flags.NArg() > 0 {
		_, _ = fmt.Fprintln(env.Stderr, "quickstart: takes -v and -log-format text|json, and no arguments")
		return 2
	}
	return program.Run(ctx, "quickstart", env, func(showing, closing context.Context) error {
		timed, cancel := context.WithTimeout(showing, limit)
		defer cancel()
		err := show(timed, closing, env.Stdout, log)
		if showing.Err() != nil && !errors.As(err, new(*program.OutputError)) {
			_, _ = fmt.Fprintln(env.Stderr, "quickstart: stopped")
			return nil
		}
		return err
	})
}

// logger returns a logger that is silent unless verbose: the forged events below are refused with
// warnings.
func logger(w io.Writer, format string, verbose bool) (*slog.Logger, error) {
	level := slog.LevelError + 1
	if verbose {
		level = slog.LevelDebug
	}
	return program.Values{"log-format": format}.Logger(w, level)
}

// show runs the steps in order and stops at the first that fails. It then stops what it has
// started, until closing ends.
func show(ctx, closing context.Context, stdout io.Writer, log *slog.Logger) (err error) {
	s, err := newStage(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(closing)) }()
	out := program.NewLineWriter(stdout)
	for _, step := range []struct {
		name string
		play func(context.Context) (figure string, err error)
	}{
		{"portal", s.introduce},
		{"install", s.install},
		{"bindings", s.bindings},
		{"events", s.events},
		{"forgery", s.forgery},
		{"employee", s.employee},
		{"token", s.token},
		{"burst", s.burst},
		{"offline", s.offline},
		{"shutdown", s.shutdown},
	} {
		start := time.Now()
		figure, err := step.play(ctx)
		if err != nil {
			return fmt.Errorf("step %s: %w", step.name, err)
		}
		line := fmt.Sprintf("%-9s %s (%d ms)", step.name, figure, time.Since(start).Milliseconds())
		if _, err := out.Write([]byte(program.OneLine(line) + "\n")); err != nil {
			return err
		}
	}
	return nil
}
