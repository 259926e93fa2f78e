package main

import (
	"fmt"
	"log/slog"
	"math/big"
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
	others       []string // addresses of further portals
	oauthListen  string
	hosts        []string // host names of the page, in addition to IP addresses and localhost
	memberID     string
	clientID     string // of the application to install at the start; empty for none
	clientSecret event.Secret
	handler      string
	installPage  string // empty for an application without an installation page
	page         string // empty for one address for both, or for an application without pages
	scope        []string
	portals      int
	script       string // file of commands, - for stdin; empty for none
	logger       *slog.Logger
}

// maxPortals limits the portals of one process.
const maxPortals = 16

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
	{Flag: "handler", Env: "PUBLIC_URL", Usage: "its event URL, which gets ONAPPINSTALL; also what the page's form proposes"},
	{
		Flag: "install-page", Env: "INSTALL_PAGE_URL",
		Usage: "the address of its installation page, if it has one; it is opened, and finishes the installation by BX24.installFinish",
	},
	{
		Flag: "page", Env: "PAGE_URL",
		Usage: "the address of its page, which is opened once it is installed (default: the installation page)",
	},
	{Flag: "scope", Env: "B24_SCOPE", Fallback: "crm,task,user,calendar,im,imbot", Usage: "its permissions, comma-separated"},
	{
		Flag: "portals", Env: "DEVPORTAL_PORTALS", Fallback: "1",
		Usage: "how many portals run, 1 to 16; the second listens two ports after -listen, the third three, and so on",
	},
	{Flag: "script", Env: "DEVPORTAL_SCRIPT", Usage: "run the commands in this file, or from stdin for -, and end; see API.md"},
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
		clientSecret: event.Secret(v["client-secret"]), handler: v["handler"], installPage: v["install-page"], page: v["page"],
		scope: v.List("scope"), script: v["script"],
	}
	if cfg.portals, err = v.Number("portals", 1); err != nil {
		return config{}, err
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
	if c.portals > maxPortals {
		return program.Usage("-portals must be a number from 1 to %d", maxPortals)
	}
	if c.oauthListen == "" {
		if port == 65535 {
			return program.Usage("there is no port after 65535 for the OAuth server; set -oauth-listen")
		}
		c.oauthListen = portAfter(host, port, 1)
	}
	if last := port + uint64(c.portals); c.portals > 1 && port > 0 && last > 65535 { //nolint:gosec // it is from 2 to 16
		return program.Usage("there are not enough ports after that of -listen for %d portals; choose a lower one", c.portals)
	}
	for n := 1; n < c.portals; n++ {
		c.others = append(c.others, portAfter(host, port, uint64(n)+1))
	}
	switch {
	case !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(c.memberID):
		return program.Usage("-member-id wants 32 hexadecimal digits")
	case (c.clientID == "") != (c.clientSecret == ""):
		return program.Usage("B24_CLIENT_ID and B24_CLIENT_SECRET belong together; set both or none")
	}
	for name, raw := range map[string]string{"handler": c.handler, "install-page": c.installPage, "page": c.page} {
		if _, err := program.HTTPURL(raw); raw != "" && err != nil {
			return program.Usage("-%s %w", name, err)
		}
	}
	return nil
}

// portAfter returns the address n ports after port. For port 0 it is any free port.
func portAfter(host string, port, n uint64) string {
	if port > 0 {
		port += n
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10))
}

// memberIDs returns the member IDs of all portals. Those of further portals follow the first.
func (c *config) memberIDs() []string {
	first, _ := new(big.Int).SetString(c.memberID, 16) // complete has checked it
	ids := make([]string, c.portals)
	for n := range ids {
		id := new(big.Int).Add(first, big.NewInt(int64(n)))
		text := fmt.Sprintf("%032x", id)
		ids[n] = text[len(text)-32:]
	}
	return ids
}

func scopeText(scope []string) string { return strings.Join(scope, ",") }
