package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// config is what flags and environment say.
type config struct {
	listen       string
	publicURL    string
	events       []string
	tokens       []string // application tokens of outgoing webhooks
	clientID     string
	clientSecret event.Secret
	oauthHosts   []string
	insecureHTTP bool
	data         string
	handlerDelay time.Duration
	workers      int
	logger       *slog.Logger
}

// app reports whether the receiver is an application, and not only the target of outgoing webhooks.
func (c *config) app() bool { return c.clientID != "" }

// setting is a flag with the environment variable that stands in for it.
type setting struct {
	flag, env, fallback, usage string
}

var settings = []setting{
	{"listen", "LISTEN", "127.0.0.1:8080", "address to listen on, host:port"},
	{"public-url", "PUBLIC_URL", "", "handler URL that the portal posts to, as seen from outside; empty: nothing is bound"},
	{"events", "EVENTS", "ONCRMDEALADD,ONCRMDEALUPDATE,ONCRMDEALDELETE", "events to bind, comma-separated"},
	{"application-token", "B24_APPLICATION_TOKEN", "", "accepted tokens of outgoing webhooks, comma-separated"},
	{"client-id", "B24_CLIENT_ID", "", "the application's client id"},
	{"client-secret", "B24_CLIENT_SECRET", "", "the application's client secret; prefer the variable, since others can see flags"},
	{"oauth-hosts", "B24_OAUTH_HOSTS", "", "extra allowed OAuth hosts, host[:port], comma-separated"},
	{"insecure-http", "B24_INSECURE_HTTP", "", "1: development only, also allow http:// endpoints on loopback and on the OAuth hosts"},
	{"data", "B24_DATA", "", "folder for installations (default: b24events in the user's folder for state)"},
	{"queue", "QUEUE", "memory", "memory or durable"},
	{"handler-delay", "HANDLER_DELAY", "0s", "how long each handler sleeps, for tests"},
	{"workers", "WORKERS", "16", "how many handlers run at once"},
	{"log-format", "LOG_FORMAT", "text", "text or json"},
}

// configure reads the settings: a flag wins over its variable. Errors name settings, never values.
func configure(args []string, env func(string) (string, bool), stderr io.Writer) (config, error) {
	flags := flag.NewFlagSet("receiver", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller prints the error in one line
	value := make(map[string]*string, len(settings))
	for _, s := range settings {
		value[s.flag] = flags.String(s.flag, s.fallback, s.usage+" ["+s.env+"]")
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stderr)
		_, _ = fmt.Fprintln(stderr, "usage: receiver [flags]; each flag has a variable, named in brackets; a flag wins")
		flags.PrintDefaults()
		return config{}, err
	} else if err != nil {
		return config{}, fmt.Errorf("%w; see -h", err)
	}
	if flags.NArg() > 0 {
		return config{}, errors.New("it takes flags only; see -h")
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, s := range settings {
		if v, ok := env(s.env); ok && v != "" && !given[s.flag] {
			*value[s.flag] = v
		}
	}
	get := func(name string) string { return strings.TrimSpace(*value[name]) }
	cfg := config{
		listen: get("listen"), publicURL: get("public-url"), events: list(get("events")), tokens: list(get("application-token")),
		clientID: get("client-id"), clientSecret: event.Secret(get("client-secret")), oauthHosts: list(get("oauth-hosts")),
		insecureHTTP: get("insecure-http") == "1" || get("insecure-http") == "true", data: get("data"),
	}
	var err error
	if cfg.handlerDelay, err = time.ParseDuration(get("handler-delay")); err != nil || cfg.handlerDelay < 0 {
		return config{}, errors.New("HANDLER_DELAY is no duration; write 100ms")
	}
	if cfg.workers, err = strconv.Atoi(get("workers")); err != nil || cfg.workers < 1 {
		return config{}, errors.New("WORKERS must be a positive number")
	}
	switch get("queue") {
	case "memory":
	case "durable":
		return config{}, errors.New("this build has no durable queue; set QUEUE=memory, or use the offline queue where no event may be lost")
	default:
		return config{}, errors.New("QUEUE must be memory or durable")
	}
	if cfg.logger, err = newLogger(stderr, get("log-format")); err != nil {
		return config{}, err
	}
	return cfg, cfg.complete()
}

// complete checks what belongs together and fills in the folder for state.
func (c *config) complete() error {
	switch {
	case (c.clientID == "") != (c.clientSecret == ""):
		return errors.New("B24_CLIENT_ID and B24_CLIENT_SECRET belong together; set both or none")
	case !c.app() && len(c.tokens) == 0:
		return errors.New("nothing to verify events with: set B24_APPLICATION_TOKEN for outgoing webhooks, or B24_CLIENT_ID and B24_CLIENT_SECRET for an application")
	case c.app() && c.publicURL != "" && len(c.events) == 0:
		return errors.New("EVENTS names no event to bind to PUBLIC_URL")
	}
	if !c.app() || c.data != "" {
		return nil
	}
	state, ok := os.LookupEnv("XDG_STATE_HOME")
	if !ok || state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return errors.New("no folder for state is known; set B24_DATA")
		}
		state = filepath.Join(home, ".local", "state")
	}
	c.data = filepath.Join(state, "b24events")
	return nil
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

func newLogger(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	default:
		return nil, errors.New("the log format must be text or json")
	}
}
