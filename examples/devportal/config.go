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
}

var settings = []setting{
	{"listen", "DEVPORTAL_LISTEN", "127.0.0.1:8024", "address of REST and the page, host:port"},
	{"oauth-listen", "DEVPORTAL_OAUTH_LISTEN", "", "address of the OAuth server, host:port (default: the next port)"},
	{"hosts", "DEVPORTAL_HOSTS", "", "further host names under which the page may be opened, comma-separated; IP addresses and localhost always may"},
	{"member-id", "B24_MEMBER_ID", "de50f7a1de50f7a1de50f7a1de50f7a1", "the portal's member_id, 32 hexadecimal digits"},
	{"client-id", "B24_CLIENT_ID", "", "install an application with this client id at the start"},
	{"client-secret", "B24_CLIENT_SECRET", "", "its client secret; prefer the variable, since others can see flags"},
	{"handler", "PUBLIC_URL", "", "its handler URL, which gets ONAPPINSTALL; also what the page's form proposes"},
	{"scope", "B24_SCOPE", "crm,task,user,calendar,im,imbot", "its permissions, comma-separated"},
	{"ui", "DEVPORTAL_UI", "", "1: it has pages: the handler URL is opened like an installation page, and it is installed when that page is done"},
	{"log-format", "LOG_FORMAT", "text", "text or json"},
}

// configure reads the settings: a flag wins over its variable. Errors name settings, never values.
func configure(args []string, env func(string) (string, bool), stderr io.Writer) (config, error) {
	flags := flag.NewFlagSet("devportal", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller prints the error in one line
	value := make(map[string]*string, len(settings))
	for _, s := range settings {
		value[s.flag] = flags.String(s.flag, s.fallback, s.usage+" ["+s.env+"]")
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stderr)
		_, _ = fmt.Fprintln(stderr, "usage: devportal [flags]; each flag has a variable, named in brackets; a flag wins")
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
		listen: get("listen"), oauthListen: get("oauth-listen"), hosts: list(get("hosts")), memberID: strings.ToLower(get("member-id")),
		clientID: get("client-id"), clientSecret: event.Secret(get("client-secret")), handler: get("handler"), scope: list(get("scope")),
		ui: get("ui") == "1" || get("ui") == "true",
	}
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
