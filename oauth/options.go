package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/plainhttp"
)

// Config identifies the application. Both values stand in its settings on the portal, or in the
// vendor's account.
type Config struct {
	ClientID     string
	ClientSecret event.Secret
}

// DefaultTimeout bounds one request to the OAuth server where the client of [WithHTTPClient] has no
// limit of its own.
const DefaultTimeout = 15 * time.Second

type config struct {
	http   *http.Client
	log    *slog.Logger
	hosts  []string
	plain  plainhttp.Hosts
	policy func(context.Context, *Claim) error
	window time.Duration
	locker Locker
	alone  bool
}

// DefaultRotationWindow is how long the previous application token is accepted after a rotation.
const DefaultRotationWindow = time.Hour

// WithRotationWindow sets how long events with a portal's previous application token are accepted
// after a verified installation or update brought a new one. The default is
// [DefaultRotationWindow]; 0 ends the previous token at once.
func WithRotationWindow(d time.Duration) Option {
	return func(cfg *config) error {
		if d < 0 {
			return errors.New("oauth: WithRotationWindow: the time is negative")
		}
		cfg.window = d
		return nil
	}
}

// WithExclusiveStore tells that no other process uses the store, as when the program holds a lock
// on it. A refused refresh token is then void at once, instead of after three minutes in which
// another process could store its successor. A [MemoryStore] is always exclusive.
func WithExclusiveStore() Option {
	return func(cfg *config) error {
		cfg.alone = true
		return nil
	}
}

// WithRefreshLock makes processes that share a store renew a token one at a time, so that a renewal
// costs one request of all of them together instead of one of each. It is an economy: tokens are
// safe without it. The leaser of package offline fits. A [Store] that is a [Locker], such as that
// of package sqlstore, is used without this option. When the lock fails, or another process has it
// for longer than ten seconds, renewals go on without it.
func WithRefreshLock(l Locker) Option {
	return func(cfg *config) error {
		if l == nil {
			return errors.New("oauth: WithRefreshLock: the lock is nil")
		}
		cfg.locker = l
		return nil
	}
}

// Option configures [NewPortals].
type Option func(*config) error

// WithHosts adds OAuth servers to the allow list, each as host or host:port in lower case: a host
// without a port means the default port. The list always has oauth.bitrix.info and
// oauth.bitrix24.tech. The client secret goes to these hosts and no others, so add what you trust
// as much.
func WithHosts(hosts ...string) Option {
	return func(cfg *config) error {
		cfg.hosts = append(cfg.hosts, hosts...)
		return nil
	}
}

// WithInsecureHTTP allows http endpoints, of OAuth servers and of portals, on loopback addresses
// and on the hosts named, each as host for every port or as host:port. Tokens then travel in the
// clear: it is for fake portals in tests and for development. An OAuth server must be on the allow
// list all the same; see [WithHosts]. The option of the same name in package rest means the same.
func WithInsecureHTTP(hosts ...string) Option {
	return func(cfg *config) error {
		plain, err := plainhttp.New(hosts...)
		if err != nil {
			return fmt.Errorf("oauth: WithInsecureHTTP: %w", err)
		}
		cfg.plain = plain
		return nil
	}
}

// WithHTTPClient sets the HTTP client for the OAuth server, for a proxy or certificates of one's
// own. It is copied. The copy follows no redirects, keeps no cookies, and has [DefaultTimeout] if
// the client has none. Clients of package rest that call with these tokens use it too, unless they
// are given another.
func WithHTTPClient(c *http.Client) Option {
	return func(cfg *config) error {
		if c == nil {
			return errors.New("oauth: WithHTTPClient: the client is nil")
		}
		cfg.http = c
		return nil
	}
}

// WithLogger sets where installations, renewals and their failures are logged, without tokens.
// Without this option, WARN and above go to slog.Default as it is when [NewPortals] is called.
// slog.New(slog.DiscardHandler) is silent.
func WithLogger(l *slog.Logger) Option {
	return func(cfg *config) error {
		if l == nil {
			return errors.New("oauth: WithLogger: the logger is nil")
		}
		cfg.log = l
		return nil
	}
}

// newServer checks the configuration and builds the client of the OAuth servers.
func (cfg *config) newServer(app Config) (*server, error) {
	if app.ClientID == "" || app.ClientSecret == "" {
		return nil, errors.New("oauth: Config needs a client id and a client secret; they stand in the application's settings")
	}
	allowed, err := newHosts(cfg.plain, cfg.hosts)
	if err != nil {
		return nil, err
	}
	var client http.Client
	if cfg.http != nil {
		client = *cfg.http
	}
	client.Jar = nil
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if client.Timeout == 0 {
		client.Timeout = DefaultTimeout
	}
	return &server{id: app.ClientID, secret: app.ClientSecret, hosts: allowed, http: &client}, nil
}
