package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
)

// config is what flags and environment say.
type config struct {
	listen       string
	oauthListen  string
	hosts        []string // names, besides addresses and localhost, under which the page answers
	memberID     string
	clientID     string // empty: nothing is installed at the start
	clientSecret event.Secret
	handler      string
	scope        []string
	ui           bool
	logger       *slog.Logger
}

// setting is a flag with the environment variable that stands in for it.
type setting struct {
	flag, env, fallback, usage string
	isSwitch                   bool // on or off; the flag alone means on
}

var settings = []setting{
	{flag: "listen", env: "DEVPORTAL_LISTEN", fallback: "127.0.0.1:8024", usage: "address of REST and the page, host:port"},
	{flag: "oauth-listen", env: "DEVPORTAL_OAUTH_LISTEN", usage: "address of the OAuth server, host:port (default: the next port)"},
	{flag: "hosts", env: "DEVPORTAL_HOSTS", usage: "further host names under which the page may be opened, comma-separated; IP addresses and localhost always may"},
	{flag: "member-id", env: "B24_MEMBER_ID", fallback: "de50f7a1de50f7a1de50f7a1de50f7a1", usage: "the portal's member_id, 32 hexadecimal digits"},
	{flag: "client-id", env: "B24_CLIENT_ID", usage: "install an application with this client id at the start"},
	{flag: "client-secret", env: "B24_CLIENT_SECRET", usage: "its client secret; prefer the variable, since others can see flags"},
	{flag: "handler", env: "PUBLIC_URL", usage: "its handler URL, which gets ONAPPINSTALL; also what the page's form proposes"},
	{flag: "scope", env: "B24_SCOPE", fallback: "crm,task,user,calendar,im,imbot", usage: "its permissions, comma-separated"},
	{
		flag: "ui", env: "DEVPORTAL_UI", isSwitch: true,
		usage: "it has pages: the handler URL is opened like an installation page, and it is installed when that page is done",
	},
	{flag: "log-format", env: "LOG_FORMAT", fallback: "text", usage: "text or json"},
}

// configure reads the settings: a flag wins over its variable. Errors name settings, never values.
func configure(args []string, env func(string) (string, bool), stderr io.Writer) (config, error) {
	flags := flag.NewFlagSet("devportal", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller prints the error in one line
	value := make(map[string]*string, len(settings))
	for _, s := range settings {
		usage, text := s.usage+" ["+s.env+"]", s.fallback
		if value[s.flag] = &text; s.isSwitch {
			flags.BoolFunc(s.flag, usage, func(v string) error { text = v; return nil })
			continue
		}
		flags.StringVar(&text, s.flag, s.fallback, usage)
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stderr)
		_, _ = fmt.Fprintln(stderr, `devportal is a Bitrix24 portal on a laptop: REST, OAuth, delivery of events, the offline queue, and a web page to install applications, cause events
and watch them arrive.

usage: devportal [flags]; each flag has a variable, named in brackets; a flag wins`)
		flags.PrintDefaults()
		return config{}, err
	} else if err != nil {
		text, _, _ := strings.Cut(err.Error(), "=") // a value may follow
		return config{}, errors.New(text + "; see -h")
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
		if _, err := strconv.ParseBool(*value[s.flag]); s.isSwitch && *value[s.flag] != "" && err != nil {
			return config{}, errors.New(s.env + " is on or off; set 1 or 0")
		}
	}
	get := func(name string) string { return strings.TrimSpace(*value[name]) }
	cfg := config{
		listen: get("listen"), oauthListen: get("oauth-listen"), hosts: list(get("hosts")), memberID: strings.ToLower(get("member-id")),
		clientID: get("client-id"), clientSecret: event.Secret(get("client-secret")), handler: get("handler"), scope: list(get("scope")),
	}
	cfg.ui, _ = strconv.ParseBool(get("ui"))
	var err error
	if cfg.logger, err = newLogger(stderr, get("log-format")); err != nil {
		return config{}, err
	}
	return cfg, cfg.complete()
}

// complete checks what belongs together and fills in the address of the OAuth server.
func (c *config) complete() error {
	host, number, err := net.SplitHostPort(c.listen)
	port, portErr := strconv.ParseUint(number, 10, 16)
	if err != nil || portErr != nil {
		return errors.New("-listen wants host:port with a port number, such as 127.0.0.1:8024")
	}
	if c.oauthListen == "" {
		switch port {
		case 0: // any free port, then
		case 65535:
			return errors.New("there is no port after 65535 for the OAuth server; set -oauth-listen")
		default:
			port++
		}
		c.oauthListen = net.JoinHostPort(host, strconv.FormatUint(port, 10))
	}
	switch {
	case !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(c.memberID):
		return errors.New("-member-id wants 32 hexadecimal digits")
	case (c.clientID == "") != (c.clientSecret == ""):
		return errors.New("B24_CLIENT_ID and B24_CLIENT_SECRET belong together; set both or none")
	case c.ui && c.clientID != "" && c.handler == "":
		return errors.New("an application with pages needs -handler, the address of its installation page")
	}
	if u, err := url.Parse(c.handler); c.handler != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		return errors.New("-handler wants an absolute http or https URL")
	}
	return nil
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
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
