// Command decode reads one body that Bitrix24 posted and prints what the SDK makes of it, as one JSON object: envelope, data as they
// arrived, typed payload. Tokens are redacted unless asked for.
//
//	decode [-content-type CT] [-secrets] [FILE]
//
// Without FILE, or with "-", it reads standard input. It exits with 0 on success, 1 on a body that cannot be decoded, 2 on wrong usage.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("decode", flag.ContinueOnError)
	flags.SetOutput(stderr)
	contentType := flags.String("content-type", "", "the request's Content-Type; empty: JSON where the body starts with a brace, else a form")
	secrets := flags.Bool("secrets", false, "print tokens in clear")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(stderr, "usage: decode [-content-type CT] [-secrets] [FILE]")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 1 {
		_, _ = fmt.Fprintln(stderr, "decode: too many files; give one, or none to read standard input")
		return 2
	}
	if err := decode(flags.Arg(0), *contentType, *secrets, stdin, stdout); err != nil {
		_, _ = fmt.Fprintf(stderr, "decode: %s\n", program.OneLine(err.Error()))
		return 1
	}
	return 0
}

func decode(file, contentType string, secrets bool, stdin io.Reader, stdout io.Writer) error {
	body, err := read(file, stdin)
	if err != nil {
		return err
	}
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
	if _, err := fmt.Fprintf(stdout, "%s\n", object); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	if info, known := event.Lookup(d.Name); known {
		_, err = info.Payload(d) // printed as payload_error as well, but a script looks at the exit code
	}
	return err
}

// read returns the body, without the line break that an editor or a heredoc put behind it.
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
