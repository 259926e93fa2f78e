// Command decode reads one body that Bitrix24 posted and prints how the SDK decodes it, as one JSON
// object: envelope, data as they arrived, typed payload. Tokens are redacted, unless -secrets is
// given.
//
//	decode [-content-type CT] [-secrets] [FILE]
//
// Without FILE, or with "-", it reads standard input. It exits with 0 on success, 1 on a body that
// cannot be decoded or a result that cannot be written, 2 on wrong usage. A signal that comes
// before the whole body was read ends it with 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
)

func main() { program.Main(run) }

// errStopped means that a signal came before the whole body was read.
var errStopped = errors.New("stopped before the whole body was read")

func run(ctx context.Context, env program.Env) int {
	flags := flag.NewFlagSet("decode", flag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	contentType := flags.String("content-type", "", "the request's Content-Type; empty: JSON if the body starts with a brace, else a form")
	secrets := flags.Bool("secrets", false, "print tokens in clear")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(env.Stderr, "usage: decode [-content-type CT] [-secrets] [FILE]")
		flags.PrintDefaults()
	}
	if err := flags.Parse(env.Args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 1 {
		_, _ = fmt.Fprintln(env.Stderr, "decode: too many files; give one, or none to read standard input")
		return 2
	}
	return program.Run(ctx, "decode", env, func(working, _ context.Context) error {
		body, err := readUntil(working, flags.Arg(0), env.Stdin)
		if err != nil {
			return err
		}
		return decode(body, *contentType, *secrets, env.Stdout)
	})
}

func decode(body []byte, contentType string, secrets bool, stdout io.Writer) error {
	d, err := event.Parse(contentType, body)
	if err != nil {
		return err
	}
	marshal := d.MarshalJSON
	if secrets {
		marshal = d.MarshalUnredacted
	}
	object, err := marshal()
	if err != nil {
		return err
	}
	if _, err := program.NewLineWriter(stdout).Write(append(object, '\n')); err != nil {
		return err
	}
	if info, known := event.Lookup(d.Name); known {
		_, err = info.Payload(d) // it is printed as payload_error too, but scripts check the exit code
	}
	return err
}

// readUntil is read, but does not wait for it after ctx has ended: a read from a terminal or a pipe
// cannot be interrupted.
func readUntil(ctx context.Context, file string, stdin io.Reader) ([]byte, error) {
	type result struct {
		body []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		body, err := read(file, stdin)
		done <- result{body, err}
	}()
	select {
	case r := <-done:
		return r.body, r.err
	case <-ctx.Done():
		return nil, errStopped
	}
}

// read returns the body, without a line break at its end from an editor or a heredoc.
func read(file string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if file != "" && file != "-" {
		f, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read from
		in = f
	}
	body, err := io.ReadAll(io.LimitReader(in, event.MaxBodyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	if len(body) > event.MaxBodyBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", event.ErrTooLarge, event.MaxBodyBytes)
	}
	for len(body) > 0 && (body[len(body)-1] == '\n' || body[len(body)-1] == '\r') {
		body = body[:len(body)-1]
	}
	return body, nil
}
