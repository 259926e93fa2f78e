package eventtest

import (
	"cmp"
	"log/slog"
	"net/http"
	"regexp"
	"time"
)

// Option changes how a portal is made. A nil Option is skipped.
type Option func(*config) error

type config struct {
	logger          *slog.Logger
	listen          string
	oauthListen     string
	network         *Network
	domain          string
	sharing         *Portal // whose OAuth server is used
	fallback        http.Handler
	memberID        string
	deliveryTimeout time.Duration
	parallel        int
	quirks          Quirks
}

// Keys of log records.
const (
	keyError  = "error"
	keyStatus = "status"
	keyEvent  = "event"
	keyOK     = "ok"
)

func collect(opts []Option) (config, error) {
	cfg := config{
		logger:          slog.New(slog.DiscardHandler),
		quirks:          defaultQuirks(),
		deliveryTimeout: 30 * time.Second,
		parallel:        1,
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

// complete fills in addresses, and refuses options that contradict each other.
func (c *config) complete() error {
	const loopback = "127.0.0.1:0"
	switch {
	case c.network != nil && (c.listen != "" || c.oauthListen != ""):
		return misconfigured("WithNetwork opens no socket; leave out WithListen and WithOAuthListen")
	case c.network != nil && c.sharing != nil:
		return misconfigured("portals on one network share an OAuth server by themselves; leave out WithOAuthServerOf")
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

// WithNetwork puts the portal on a network in memory instead of sockets: it is reached at https and
// its domain there, its OAuth server at https://oauth.bitrix.info, which all portals of the network
// share, and it delivers to the hosts of that network.
func WithNetwork(n *Network) Option {
	return func(c *config) error {
		if n == nil {
			return misconfigured("WithNetwork with a nil network; make one with NewNetwork")
		}
		c.network = n
		return nil
	}
}

// WithHost sets the portal's host on a [Network], such as acme.bitrix24.com. The default is a
// random one of bitrix24.com.
func WithHost(host string) Option {
	return func(c *config) error {
		if !regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`).MatchString(host) {
			return misconfigured("WithHost wants the name of a host in lower case, without scheme and port")
		}
		c.domain = host
		return nil
	}
}

// WithOAuthServerOf lets the portal use the OAuth server of another, as all portals of the cloud
// use one. It finds a portal by the token or code that it is sent; records and faults of its
// requests are those of that portal. It closes with the last portal.
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

// WithFallback lets h answer the requests to the portal's address that are neither for /rest/ nor
// for /oauth/, such as a page that shows the portal. They count as no requests to the portal, and
// need no authorization.
func WithFallback(h http.Handler) Option {
	return func(c *config) error {
		if h == nil {
			return misconfigured("WithFallback with a nil handler")
		}
		c.fallback = h
		return nil
	}
}

// WithQuirks sets how the portal behaves at its start: change is called with the quirks so far and
// edits them. New returns an error that names the field where one makes no sense.
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

// WithMemberID sets the portal's identifier, 32 hexadecimal digits in lower case. The default is
// random.
func WithMemberID(id string) Option {
	return func(c *config) error {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			return misconfigured("WithMemberID wants 32 hexadecimal digits in lower case")
		}
		c.memberID = id
		return nil
	}
}

// WithTokenLifetime sets how long an access token lives, a second at least. The default is an hour,
// as on the platform.
func WithTokenLifetime(d time.Duration) Option {
	return func(c *config) error {
		if d < time.Second {
			return misconfigured("WithTokenLifetime wants a second or more")
		}
		c.quirks.TokenLifetime = d
		return nil
	}
}

// WithDeliveryTimeout sets how long the portal waits for a handler's answer. The default is 30
// seconds.
func WithDeliveryTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return misconfigured("WithDeliveryTimeout wants a positive duration")
		}
		c.deliveryTimeout = d
		return nil
	}
}

// WithParallelDelivery sets how many deliveries to one handler URL are under way at once, up to 16.
// The default is 1, which keeps their order; the platform promises none.
func WithParallelDelivery(n int) Option {
	return func(c *config) error {
		if n < 1 || n > deliveryWorkers {
			return misconfigured("WithParallelDelivery wants 1 to 16")
		}
		c.parallel = n
		return nil
	}
}

// WithRateLimit switches the limit on requests on: a bucket of burst requests for each source
// address that drains by perSecond. Requests beyond it are answered 503 QUERY_LIMIT_EXCEEDED. The
// cloud's values are 2 and 50, on the Enterprise plan 5 and 250.
func WithRateLimit(perSecond float64, burst int) Option {
	return func(c *config) error {
		if perSecond <= 0 || burst < 1 {
			return misconfigured("WithRateLimit wants a positive rate and burst")
		}
		c.quirks.RatePerSecond, c.quirks.RateBurst = perSecond, burst
		return nil
	}
}

// WithoutExtendedOffline makes a plan without rest_offline_extended: event.offline.get with clear=0
// is refused.
func WithoutExtendedOffline() Option {
	return func(c *config) error {
		c.quirks.NoExtendedOffline = true
		return nil
	}
}

// WithoutConnectors makes a plan without rest_auth_connector: any call of an application that
// carries auth_connector is refused.
func WithoutConnectors() Option {
	return func(c *config) error {
		c.quirks.NoConnectors = true
		return nil
	}
}

// WithoutUserInEvents makes every change the work of a robot or an agent: no tokens in deliveries,
// and user 0 in the offline queue. Handlers bound with AUTH_TYPE still get that user's tokens, and
// ONAPPINSTALL those of whoever installs.
func WithoutUserInEvents() Option {
	return func(c *config) error {
		c.quirks.NoUser = true
		return nil
	}
}

// WithMinTimeout makes an old build, which honours the option minTimeout of ONOFFLINEEVENT. Current
// builds ignore it and send one a second at most.
func WithMinTimeout() Option {
	return func(c *config) error {
		c.quirks.HonourMinTimeout = true
		return nil
	}
}
