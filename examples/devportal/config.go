package main

import (
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
)

// config is the configuration from flags and environment.
type config struct {
	listen       string
	oauthListen  string
	hosts        []string // host names of the page, in addition to IP addresses and localhost
	memberID     string
	clientID     string // of the application to install at the start; empty for none
	clientSecret event.Secret
	handler      string
	scope        []string
	ui           bool
	logger       *slog.Logger
}

var settings = []program.Setting{
	{Flag: "listen", Env: "DEVPORTAL_LISTEN", Fallback: "127.0.0.1:8024", Usage: "address of REST and the page, host:port"},
	{Flag: "oauth-listen", Env: "DEVPORTAL_OAUTH_LISTEN", Usage: "address of the OAuth server, host:port (default: the next port)"},
	{
		Flag: "hosts", Env: "DEVPORTAL_HOSTS",
		Usage: "further host names under which the page may be opened, comma-separated; IP addresses and localhost always may",
	},
	{
		Flag: "member-id", Env: "B24_MEMBER_ID", Fallback: "de50f7a1de50f7a1de50f7a1de50f7a1",
		Usage: "the portal's member_id, 32 hexadecimal digits",
	},
	{Flag: "client-id", Env: "B24_CLIENT_ID", Usage: "install an application with this client id at the start"},
	{Flag: "client-secret", Env: "B24_CLIENT_SECRET", Usage: "its client secret; prefer the variable, since others can see flags"},
	{Flag: "handler", Env: "PUBLIC_URL", Usage: "its handler URL, which gets ONAPPINSTALL; also what the page's form proposes"},
	{Flag: "scope", Env: "B24_SCOPE", Fallback: "crm,task,user,calendar,im,imbot", Usage: "its permissions, comma-separated"},
	{
		Flag: "ui", Env: "DEVPORTAL_UI", Switch: true,
		Usage: "it has pages: the handler URL is opened like an installation page, and it is installed when that page is done",
	},
}

// configure reads the settings. Errors name settings, but never contain values.
func configure(env program.Env) (config, error) {
	v, err := program.Parse("devportal", about, settings, env)
	if err != nil {
		return config{}, err
	}
	cfg := config{
		listen: v["listen"], oauthListen: v["oauth-listen"], hosts: v.List("hosts"), memberID: strings.ToLower(v["member-id"]),
		clientID:     v["client-id"],
		clientSecret: event.Secret(v["client-secret"]), handler: v["handler"], scope: v.List("scope"), ui: v.On("ui"),
	}
	if cfg.logger, err = v.Logger(env.Stderr, slog.LevelInfo); err != nil {
		return config{}, err
	}
	return cfg, cfg.complete()
}

// complete checks the settings and fills in the address of the OAuth server.
func (c *config) complete() error {
	host, number, err := net.SplitHostPort(c.listen)
	port, portErr := strconv.ParseUint(number, 10, 16)
	if err != nil || portErr != nil {
		return program.Usage("-listen needs host:port with a port number, for example 127.0.0.1:8024")
	}
	if c.oauthListen == "" {
		switch port {
		case 0: // any free port
		case 65535:
			return program.Usage("there is no port after 65535 for the OAuth server; set -oauth-listen")
		default:
			port++
		}
		c.oauthListen = net.JoinHostPort(host, strconv.FormatUint(port, 10))
	}
	switch {
	case !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(c.memberID):
		return program.Usage("-member-id wants 32 hexadecimal digits")
	case (c.clientID == "") != (c.clientSecret == ""):
		return program.Usage("B24_CLIENT_ID and B24_CLIENT_SECRET belong together; set both or none")
	case c.ui && c.clientID != "" && c.handler == "":
		return program.Usage("an application with pages needs -handler, the address of its installation page")
	}
	if c.handler != "" {
		if _, err := program.HTTPURL(c.handler); err != nil {
			return program.Usage("-handler %w", err)
		}
	}
	return nil
}

func scopeText(scope []string) string { return strings.Join(scope, ",") }
