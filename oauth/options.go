package oauth

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/plainhttp"
	"github.com/b24events/b24events/internal/typednil"
)

// Config identifies the application. Both values are in its settings on the portal, or in the
// vendor's account.
type Config struct {
	ClientID     string
	ClientSecret event.Secret
}

// DefaultTimeout limits one request to the OAuth server, unless the client of [WithHTTPClient] has
// a limit of its own.
const DefaultTimeout = 15 * time.Second

type config struct {
	http      *http.Client
	log       *slog.Logger
	hosts     []string
	plain     plainhttp.Hosts
	policy    func(context.Context, *Claim) error
	script    string
	window    time.Duration
	locker    Locker
	exclusive bool
	observers []func(context.Context, RenewalInfo)
}

// DefaultRotationWindow is how long the previous application token is accepted after a rotation.
const DefaultRotationWindow = time.Hour

// WithRotationWindow sets how long events with a portal's previous application token are accepted
// after a verified installation or update brought a new one. The default is
// [DefaultRotationWindow]; 0 ends the previous token at once.
func WithRotationWindow(d time.Duration) Option {
	return func(cfg *config) error {
		if d < 0 {
			return configError("WithRotationWindow", "the time is negative")
		}
		cfg.window = d
		return nil
	}
}

// WithExclusiveStore promises that no other process uses the store, for example because the program
// holds a lock on it. A refused refresh token is then void at once, instead of after three minutes
// in which another process could store its successor. A [MemoryStore] is always exclusive.
func WithExclusiveStore() Option {
	return func(cfg *config) error {
		cfg.exclusive = true
		return nil
	}
}

// WithRefreshLock lets processes that share a store renew a token one at a time, so that a renewal
// costs one request instead of one for each process. It only saves requests: tokens are safe
// without it. The leaser of package offline fits. A [Store] that is a [Locker], such as that of
// package sqlstore, is used without this option. If the lock fails, or if another process has it
// for longer than ten seconds, renewals go on without it.
func WithRefreshLock(l Locker) Option {
	return func(cfg *config) error {
		if typednil.Is(l) {
			return configError("WithRefreshLock", "the locker is nil")
		}
		cfg.locker = l
		return nil
	}
}

// Option configures [NewPortals].
type Option func(*config) error

// WithHosts adds OAuth servers to the allow list, each as host or host:port in lower case. A host
// without a port means the default port. The list always has oauth.bitrix.info and
// oauth.bitrix24.tech. The client secret goes to these hosts and no others, so add only hosts that
// you trust with it.
func WithHosts(hosts ...string) Option {
	return func(cfg *config) error {
		cfg.hosts = append(cfg.hosts, hosts...)
		return nil
	}
}

// WithInsecureHTTP allows http endpoints of OAuth servers and portals, on loopback addresses and on
// the hosts named. Each is a host, for every port, or host:port. Tokens then travel unencrypted, so
// it is for fake portals in tests and for development. An OAuth server must still be on the allow
// list; see [WithHosts]. Clients of package rest that call with these tokens follow this option.
func WithInsecureHTTP(hosts ...string) Option {
	return func(cfg *config) error {
		plain, err := plainhttp.New(hosts...)
		if err != nil {
			return &Error{Op: "WithInsecureHTTP", Kind: ErrConfig, Err: err}
		}
		cfg.plain = plain
		return nil
	}
}

// WithScriptURL sets the address from which pages load the platform's script BX24, for example that
// of a mirror, of a portal on premise, or of a portal for tests. The default is [DefaultScriptURL].
// [Portals.FinishInstall] uses it, and [Portals.ScriptURL] returns it for pages of your own.
//
// The address is http or https with a host name or an IPv4 address. It has no user information and
// no fragment. Whoever serves the script acts as the people who open the pages, so http needs
// [WithInsecureHTTP] for the host. [NewPortals] returns [ErrConfig] for any other address.
func WithScriptURL(address string) Option {
	return func(cfg *config) error {
		if address == "" {
			return configError("WithScriptURL", "the address is empty; leave the option out for the platform's own")
		}
		cfg.script = address
		return nil
	}
}

// WithHTTPClient sets the HTTP client for the OAuth server, for example for a proxy or for your own
// certificates. It is copied. The copy follows no redirects, keeps no cookies, and has
// [DefaultTimeout] if the client has no timeout. Clients of package rest that call with these
// tokens use it too, unless they have one of their own.
func WithHTTPClient(c *http.Client) Option {
	return func(cfg *config) error {
		if c == nil {
			return configError("WithHTTPClient", "the client is nil")
		}
		cfg.http = c
		return nil
	}
}

// WithLogger sets the logger for installations, renewals and their failures. Tokens are never
// logged. Without this option, WARN and above go to slog.Default as it is when [NewPortals] is
// called. slog.New(slog.DiscardHandler) is silent.
func WithLogger(l *slog.Logger) Option {
	return func(cfg *config) error {
		if l == nil {
			return configError("WithLogger", "the logger is nil")
		}
		cfg.log = l
		return nil
	}
}

// newClient checks the configuration and builds the client of the OAuth servers.
func (cfg *config) newClient(app Config) (*client, error) {
	if app.ClientID == "" || app.ClientSecret == "" {
		return nil, configError("NewPortals", "Config needs a client ID and a client secret; both are in the application's settings")
	}
	allowed, err := newHosts(cfg.plain, cfg.hosts)
	if err != nil {
		return nil, err
	}
	var c http.Client
	if cfg.http != nil {
		c = *cfg.http
	}
	c.Jar = nil
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	return &client{id: app.ClientID, secret: app.ClientSecret, hosts: allowed, http: &c}, nil
}
