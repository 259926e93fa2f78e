package eventtest

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"time"
)

// Option configures a portal. New skips nil options. An option with an argument that makes no sense
// returns [ErrConfig].
type Option func(*config) error

type config struct {
	logger          *slog.Logger
	listen          string
	oauthListen     string
	network         *Network
	domain          string
	sharing         *Portal // the portal whose OAuth server is used; usually nil
	fallback        http.Handler
	memberID        string
	deliveryTimeout time.Duration
	parallel        int
	quirks          Quirks
	maxWaiting      int
	answers         bool                                          // see WithAnswers
	adjust          func(*http.Server, net.Listener) net.Listener // see WithServers; nil for none
}

// Keys of log records.
const (
	keyError  = "error"
	keyStatus = "status"
	keyEvent  = "event"
	keyOK     = "ok"
)

// collect applies the options to the defaults.
func collect(opts []Option) (config, error) {
	cfg := config{
		logger:          slog.New(slog.DiscardHandler),
		quirks:          defaultQuirks(),
		deliveryTimeout: 30 * time.Second,
		parallel:        1,
		maxWaiting:      defaultMaxWaiting,
	}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return config{}, err
		}
	}
	if cfg.memberID == "" {
		cfg.memberID = randomText(32, hexDigits)
	}
	return cfg, cfg.complete()
}

// complete fills in addresses and rejects options that contradict each other.
func (c *config) complete() error {
	const loopback = "127.0.0.1:0"
	switch {
	case c.network != nil && (c.listen != "" || c.oauthListen != ""):
		return misconfigured("WithNetwork opens no socket; leave out WithListen and WithOAuthListen")
	case c.network != nil && c.sharing != nil:
		return misconfigured("portals on one network always share an OAuth server; leave out WithOAuthServerOf")
	case c.network == nil && c.domain != "":
		return misconfigured("WithHost needs WithNetwork; on loopback the domain is the address")
	case c.sharing != nil && c.oauthListen != "":
		return misconfigured("WithOAuthServerOf opens no socket for an OAuth server; leave out WithOAuthListen")
	}
	c.listen, c.oauthListen = cmp.Or(c.listen, loopback), cmp.Or(c.oauthListen, loopback)
	if c.domain == "" && c.network != nil {
		c.domain = randomDomain()
	}
	return nil
}

// WithNetwork puts the portal on a network in memory instead of sockets. Clients reach it there at
// https and its domain. Its OAuth server is at https://oauth.bitrix.info; all portals of the
// network share it. The portal delivers to the hosts of that network.
func WithNetwork(n *Network) Option {
	return func(c *config) error {
		if n == nil {
			return misconfigured("WithNetwork with a nil network; make one with NewNetwork")
		}
		c.network = n
		return nil
	}
}

// WithHost sets the portal's host on a [Network], for example acme.bitrix24.com. The default is a
// random host of bitrix24.com.
func WithHost(host string) Option {
	return func(c *config) error {
		if !regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`).MatchString(host) {
			return misconfigured("WithHost needs the name of a host in lower case, without scheme and port")
		}
		c.domain = host
		return nil
	}
}

// WithOAuthServerOf makes the portal use the OAuth server of another portal, as all portals of the
// cloud use one. The server finds the portal by the token or code in a request; records and faults
// of the request are those of that portal. The server closes with its last portal.
func WithOAuthServerOf(other *Portal) Option {
	return func(c *config) error {
		if other == nil {
			return misconfigured("WithOAuthServerOf with a nil portal")
		}
		c.sharing = other
		return nil
	}
}

// WithListen sets the address that the portal listens on, host:port. The default is a free port on
// 127.0.0.1. The OAuth server has an address of its own; see [WithOAuthListen].
func WithListen(addr string) Option {
	return func(c *config) error {
		if addr == "" {
			return misconfigured("WithListen with an empty address; give host:port")
		}
		c.listen = addr
		return nil
	}
}

// WithOAuthListen sets the address that the OAuth server listens on, host:port. The default is a
// free port on 127.0.0.1.
func WithOAuthListen(addr string) Option {
	return func(c *config) error {
		if addr == "" {
			return misconfigured("WithOAuthListen with an empty address; give host:port")
		}
		c.oauthListen = addr
		return nil
	}
}

// WithFallback lets h serve the requests to the portal's address that are neither for /rest/ nor
// for /oauth/, for example with a page that shows the portal. The portal does not count or record
// these requests, and they need no authorization.
func WithFallback(h http.Handler) Option {
	return func(c *config) error {
		if h == nil {
			return misconfigured("WithFallback with a nil handler")
		}
		c.fallback = h
		return nil
	}
}

// WithQuirks sets how the portal behaves at its start. It calls change with the quirks so far, to
// edit them. If a field makes no sense, New returns an [ErrConfig] that names it.
func WithQuirks(change func(*Quirks)) Option {
	return func(c *config) error {
		if change == nil {
			return misconfigured("WithQuirks with a nil function")
		}
		change(&c.quirks)
		return c.quirks.check()
	}
}

// WithLogger sets the logger. The default is silent.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return misconfigured("WithLogger with a nil logger; leave the option out for silence")
		}
		c.logger = l
		return nil
	}
}

// WithMemberID sets the portal's member_id, 32 hexadecimal digits in lower case. The default is
// random.
func WithMemberID(id string) Option {
	return func(c *config) error {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			return misconfigured("WithMemberID needs 32 hexadecimal digits in lower case")
		}
		c.memberID = id
		return nil
	}
}

// WithTokenLifetime sets the lifetime of access tokens, at least a second. The default is an hour,
// as on the platform.
func WithTokenLifetime(d time.Duration) Option {
	return func(c *config) error {
		if d < time.Second {
			return misconfigured("WithTokenLifetime needs a second or more")
		}
		c.quirks.TokenLifetime = d
		return nil
	}
}

// WithDeliveryTimeout sets how long the portal waits for a handler's response. The default is 30
// seconds.
func WithDeliveryTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return misconfigured("WithDeliveryTimeout needs a positive duration")
		}
		c.deliveryTimeout = d
		return nil
	}
}

// WithParallelDelivery sets how many deliveries to one handler URL run at the same time, up to 16.
// The default is 1, which keeps their order; the platform promises no order.
func WithParallelDelivery(n int) Option {
	return func(c *config) error {
		if n < 1 || n > deliveryWorkers {
			return misconfigured("WithParallelDelivery needs a number from 1 to 16")
		}
		c.parallel = n
		return nil
	}
}

// WithRateLimit turns on the limit on requests: each source address has a bucket of burst requests
// that drains by perSecond. Requests beyond it fail with 503 QUERY_LIMIT_EXCEEDED. The cloud's
// values are 2 and 50, on the Enterprise plan 5 and 250.
func WithRateLimit(perSecond float64, burst int) Option {
	return func(c *config) error {
		if perSecond <= 0 || burst < 1 {
			return misconfigured("WithRateLimit needs a positive rate and burst")
		}
		c.quirks.RatePerSecond, c.quirks.RateBurst = perSecond, burst
		return nil
	}
}

// WithoutExtendedOffline emulates a plan without rest_offline_extended, which rejects
// event.offline.get with clear=0.
func WithoutExtendedOffline() Option {
	return func(c *config) error {
		c.quirks.NoExtendedOffline = true
		return nil
	}
}

// WithoutConnectors emulates a plan without rest_auth_connector, which rejects calls of
// applications with auth_connector.
func WithoutConnectors() Option {
	return func(c *config) error {
		c.quirks.NoConnectors = true
		return nil
	}
}

// WithoutUserInEvents makes every change look like the work of a robot or an agent: deliveries have
// no tokens, and the offline queue has user 0. Handlers bound with AUTH_TYPE still get that user's
// tokens, and ONAPPINSTALL those of the user who installs.
func WithoutUserInEvents() Option {
	return func(c *config) error {
		c.quirks.NoUser = true
		return nil
	}
}

// WithMinTimeout emulates an old build, which respects the option minTimeout of ONOFFLINEEVENT.
// Current builds ignore it and send at most one per second.
func WithMinTimeout() Option {
	return func(c *config) error {
		c.quirks.HonourMinTimeout = true
		return nil
	}
}
