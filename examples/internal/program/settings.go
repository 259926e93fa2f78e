package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Setting is a flag with the environment variable that can replace it.
type Setting struct {
	Flag, Env, Fallback, Usage string
	Switch                     bool // on or off; the flag alone means on
}

// UsageError is a mistake in the settings. A program exits with 2 because of it.
type UsageError struct{ Err error }

// Error returns the text of the mistake. It names settings, never their values.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake.
func (e *UsageError) Unwrap() error { return e.Err }

// Usage makes a [UsageError].
func Usage(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// Parse reads a program's settings, and log-format. A flag overrides its variable, and an empty
// variable counts as unset. For -h it prints help to stderr and returns [flag.ErrHelp]. Other
// errors are a [UsageError].
func Parse(program, about string, settings []Setting, env Env) (Values, error) {
	all := slices.Concat(settings, []Setting{{Flag: "log-format", Env: "LOG_FORMAT", Fallback: "text", Usage: "text or json"}})
	flags := flag.NewFlagSet(program, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // Run prints the error, in one line
	values := make(Values, len(all))
	given := make(map[string]bool, len(all))
	for _, s := range all {
		values[s.Flag] = s.Fallback
		set := func(value string) error {
			values[s.Flag], given[s.Flag] = value, true
			return nil
		}
		usage := s.Usage + " [" + s.Env + "]"
		switch {
		case s.Switch:
			flags.BoolFunc(s.Flag, usage, set)
		case s.Fallback != "":
			flags.Func(s.Flag, usage+" (default "+s.Fallback+")", set)
		default:
			flags.Func(s.Flag, usage, set)
		}
	}
	switch err := flags.Parse(env.Args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(env.Stderr)
		_, _ = fmt.Fprintf(env.Stderr, "%s\n\nusage: %s [flags]\nThe variable in brackets sets a flag, too. If both are given, the flag wins.\n",
			about, program)
		flags.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, Usage("%w; see -h", withoutValue(err))
	case flags.NArg() > 0:
		return nil, Usage("it takes flags only; see -h")
	}
	for _, s := range all {
		if v, ok := env.Getenv(s.Env); ok && v != "" && !given[s.Flag] {
			values[s.Flag] = v
		}
		values[s.Flag] = strings.TrimSpace(values[s.Flag])
		if _, err := strconv.ParseBool(values[s.Flag]); s.Switch && values[s.Flag] != "" && err != nil {
			return nil, Usage("%s is on or off; set 1 or 0", s.Env)
		}
	}
	return values, nil
}

// withoutValue removes the part of an error that may hold a value: package flag quotes the argument
// that it cannot parse.
func withoutValue(err error) error {
	text, _, _ := strings.Cut(err.Error(), "=")
	return errors.New(text)
}
