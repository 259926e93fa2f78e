package oneportal

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// Setting is a flag with the environment variable that stands in for it.
type Setting struct {
	Flag, Env, Fallback, Usage string
	Switch                     bool // on or off; the flag alone means on
}

// shared are the settings of every program for one portal.
var shared = []Setting{
	{Flag: "client-id", Env: "B24_CLIENT_ID", Usage: "the application's client id"},
	{Flag: "client-secret", Env: "B24_CLIENT_SECRET", Usage: "the application's client secret; prefer the variable, since others can see flags"},
	{Flag: "member-id", Env: "B24_MEMBER_ID", Usage: "the portal's member_id; may be left out where B24_DATA knows one portal only"},
	{Flag: "client-endpoint", Env: "B24_CLIENT_ENDPOINT", Usage: "first start: the portal's REST address, such as https://example.bitrix24.com/rest/"},
	{Flag: "server-endpoint", Env: "B24_SERVER_ENDPOINT", Usage: "first start: REST address of the OAuth server (default https://oauth.bitrix.info/rest/)"},
	{Flag: "access-token", Env: "B24_ACCESS_TOKEN", Usage: "first start: an administrator's access token; prefer the variable"},
	{Flag: "refresh-token", Env: "B24_REFRESH_TOKEN", Usage: "first start: the refresh token that came with it; prefer the variable"},
	{Flag: "oauth-hosts", Env: "B24_OAUTH_HOSTS", Usage: "extra allowed OAuth hosts, host[:port], comma-separated"},
	{Flag: "insecure-http", Env: "B24_INSECURE_HTTP", Switch: true, Usage: "development only: also allow http:// endpoints on loopback and on the OAuth hosts"},
	{Flag: "data", Env: "B24_DATA", Usage: "folder for state (default: b24events in the user's folder for state)"},
	{Flag: "log-format", Env: "LOG_FORMAT", Fallback: "text", Usage: "text or json"},
}

// UsageError is a mistake in the settings, for which a program exits with 2.
type UsageError struct{ Err error }

// Error returns the text of the mistake. It names settings, never their values.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake.
func (e *UsageError) Unwrap() error { return e.Err }

// Usage makes a [UsageError].
func Usage(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// Values are settings as they were read, by the names of their flags.
type Values map[string]string

// Parse reads a program's own settings and the shared ones: a flag wins over its variable, an empty variable counts as none. For -h it
// prints help to stderr and returns [flag.ErrHelp]; other errors are a [UsageError].
func Parse(program, about string, own []Setting, args []string, env func(string) (string, bool), stderr io.Writer) (Values, error) {
	all := slices.Concat(own, shared)
	flags := flag.NewFlagSet(program, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // whoever calls prints the error, in one line
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
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stderr)
		_, _ = fmt.Fprintf(stderr, "%s\n\nusage: %s [flags]; each flag has a variable, named in brackets; a flag wins\n", about, program)
		flags.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, Usage("%w; see -h", withoutValue(err))
	case flags.NArg() > 0:
		return nil, Usage("it takes flags only; see -h")
	}
	for _, s := range all {
		if v, ok := env(s.Env); ok && v != "" && !given[s.Flag] {
			values[s.Flag] = v
		}
		values[s.Flag] = strings.TrimSpace(values[s.Flag])
		if _, err := strconv.ParseBool(values[s.Flag]); s.Switch && values[s.Flag] != "" && err != nil {
			return nil, Usage("%s is on or off; set 1 or 0", s.Env)
		}
	}
	return values, nil
}

// withoutValue cuts what may hold a value: package flag quotes the argument that it does not understand.
func withoutValue(err error) error {
	text, _, _ := strings.Cut(err.Error(), "=")
	return errors.New(text)
}

// List splits a value at commas and spaces.
func (v Values) List(name string) []string {
	return strings.FieldsFunc(v[name], func(r rune) bool { return r == ',' || r == ' ' })
}

// On reports whether a switch is on.
func (v Values) On(name string) bool {
	on, _ := strconv.ParseBool(v[name]) // Parse has checked it
	return on
}

// Number reads a whole number, least at the least.
func (v Values) Number(name string, least int) (int, error) {
	n, err := strconv.Atoi(v[name])
	if err != nil || n < least {
		return 0, Usage("-%s must be a number, %d or more", name, least)
	}
	return n, nil
}

// Duration reads a positive duration.
func (v Values) Duration(name string) (time.Duration, error) {
	d, err := time.ParseDuration(v[name])
	if err != nil || d <= 0 {
		return 0, Usage("-%s must be a positive duration, such as 90s or 10m", name)
	}
	return d, nil
}

// OfflineBindings are the bindings of the events that the setting events names, to the offline queue of a connector.
func (v Values) OfflineBindings(connector string) ([]event.Binding, error) {
	names := v.List("events")
	if len(names) == 0 {
		return nil, Usage("EVENTS names no event")
	}
	all := make([]event.Binding, len(names))
	for i, name := range names {
		all[i] = event.Binding{Event: strings.ToUpper(name), Offline: true, Connector: connector}
		if err := all[i].Validate(); err != nil {
			return nil, Usage("EVENTS: %w", err)
		}
	}
	return all, nil
}

// Logger returns the logger that the setting log-format asks for, from a level on.
func (v Values) Logger(w io.Writer, least slog.Level) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: least}
	switch v["log-format"] {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, Usage("the log format must be text or json")
	}
}

// Data returns the folder for state.
func (v Values) Data() (string, error) {
	if v["data"] != "" {
		return v["data"], nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", Usage("no folder for state is known; set B24_DATA")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "b24events"), nil
}
