package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/b24events/b24events/internal/batch"
	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/internal/plainhttp"
)

// MaxResponseBytes is the most that is read of one answer, after decompression.
const MaxResponseBytes = 64 << 20

// DefaultTimeout bounds one HTTP request where the client of [WithHTTPClient] has no limit of its own. Portals give up on a
// method after 60 s.
const DefaultTimeout = 75 * time.Second

// Credentials hands out access to portals. The type Portals of package oauth fits; for tokens kept elsewhere write an adapter.
// Implementations must be safe for concurrent use. They may also be a [Mover].
type Credentials interface {
	// Access returns the portal's REST address, such as https://example.bitrix24.com/rest/, and a token to use there.
	Access(ctx context.Context, memberID string) (endpoint, token string, err error)
	// Renew returns access after the portal answered expired_token to the token refused. Where that token was replaced in the
	// meantime, it returns the replacement.
	Renew(ctx context.Context, memberID, refused string) (endpoint, token string, err error)
}

// clientID returns the ID of the application whose credentials these are, when they tell it.
func clientID(creds Credentials) string {
	if app, ok := creds.(interface{ ClientID() string }); ok {
		return app.ClientID()
	}
	return ""
}

// Clients makes clients for portals. The clients share its HTTP transport, its [Limiter] and what it learnt of blocked methods.
type Clients struct {
	creds   Credentials
	hook    *hook // instead of tokens: the client is an incoming webhook's
	http    *http.Client
	log     *slog.Logger
	limiter *Limiter
	pauses  *pauses
	desk    *desk
	meter   *meter
	retries int
	plain   plainhttp.Hosts
}

type config struct {
	http      *http.Client // nil for that of the credentials, or one of the package's own
	theirs    *http.Client // of the credentials
	idle      *[2]int      // connections for each host and in all
	log       *slog.Logger
	limiter   *Limiter
	retries   int
	plain     plainhttp.Hosts
	observers []func(context.Context, CallInfo)
}

// Option configures [NewClients] and [NewWebhook].
type Option func(*config) error

// WithHTTPClient sets the HTTP client, for a proxy or certificates of one's own. It is copied. The copy follows no
// redirects, keeps no cookies, and has [DefaultTimeout] if the client has none.
//
// Without this option the clients use that of the credentials, if these have a method HTTPClient() *http.Client that returns one:
// give it once, to oauth.NewPortals.
func WithHTTPClient(c *http.Client) Option {
	return func(cfg *config) error {
		if c == nil {
			return errors.New("rest: WithHTTPClient: the client is nil")
		}
		cfg.http = c
		return nil
	}
}

// Idle connections that are kept for the next calls, for each portal and in all. See [WithIdleConnections].
const (
	DefaultIdlePerHost = 8
	DefaultIdle        = 2000
)

// WithIdleConnections sets how many idle connections are kept for the next calls, for each portal and in all, for 90 seconds. An
// application with thousands of portals that are called often needs many, or nearly every call makes a connection of its own. The
// defaults are [DefaultIdlePerHost] and [DefaultIdle]. The client of [WithHTTPClient] has limits of its own, so the two options do
// not go together.
func WithIdleConnections(perHost, total int) Option {
	return func(cfg *config) error {
		if perHost < 1 || total < perHost {
			return errors.New("rest: WithIdleConnections: there is one for each host at least, and no fewer in all")
		}
		cfg.idle = &[2]int{perHost, total}
		return nil
	}
}

// transport is that of net/http, with room for the connections of many portals.
func (cfg *config) transport() http.RoundTripper {
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // the program replaced it
	}
	own := base.Clone()
	own.MaxIdleConnsPerHost, own.MaxIdleConns = DefaultIdlePerHost, DefaultIdle
	if cfg.idle != nil {
		own.MaxIdleConnsPerHost, own.MaxIdleConns = cfg.idle[0], cfg.idle[1]
	}
	return own
}

// WithLogger sets where calls are logged: one DEBUG line for each, without parameters or results.
// Without this option nothing is logged, because no line is WARN or above.
func WithLogger(l *slog.Logger) Option {
	return func(cfg *config) error {
		if l == nil {
			return errors.New("rest: WithLogger: the logger is nil")
		}
		cfg.log = l
		return nil
	}
}

// WithInsecureHTTP allows portals whose endpoint is http, on loopback addresses and on the hosts
// named, each as host for every port or as host:port. Tokens then travel in the clear: it is for
// fake portals in tests and for development. The option of the same name in package oauth means the
// same.
func WithInsecureHTTP(hosts ...string) Option {
	return func(cfg *config) error {
		plain, err := plainhttp.New(hosts...)
		if err != nil {
			return fmt.Errorf("rest: WithInsecureHTTP: %w", err)
		}
		cfg.plain = plain
		return nil
	}
}

// DefaultRetries is how often a call is repeated at most, besides the repetition with a renewed token.
const DefaultRetries = 4

// WithRetries sets how often a call is repeated at most that surely did not run, or that may run twice: see the package
// documentation. The default is [DefaultRetries]; 0 leaves all repetition to the caller.
func WithRetries(n int) Option {
	return func(cfg *config) error {
		if n < 0 {
			return errors.New("rest: WithRetries: the number is negative")
		}
		cfg.retries = n
		return nil
	}
}

// NewClients returns a source of clients that call with the tokens of c.
func NewClients(c Credentials, opts ...Option) (*Clients, error) {
	if isNil(c) {
		return nil, errors.New("rest: NewClients: the credentials are nil; pass an *oauth.Portals or an adapter")
	}
	if from, ok := c.(interface{ HTTPClient() *http.Client }); ok {
		if client := from.HTTPClient(); client != nil {
			opts = append([]Option{func(cfg *config) error { cfg.theirs = client; return nil }}, opts...)
		}
	}
	p, err := newClients(opts, false)
	if err != nil {
		return nil, err
	}
	p.creds = c
	return p, nil
}

// isNil reports whether there are no credentials.
func isNil(c Credentials) bool {
	rv := reflect.ValueOf(c)
	return !rv.IsValid() || rv.Kind() == reflect.Pointer && rv.IsNil()
}

// newClients makes everything but the credentials. hook is for an incoming webhook.
func newClients(opts []Option, hook bool) (*Clients, error) {
	cfg := config{retries: DefaultRetries}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return nil, err
		}
	}
	if cfg.log == nil {
		cfg.log = defaultlog.New()
	}
	if cfg.limiter == nil {
		cfg.limiter = newLimiter(DefaultRate, DefaultBurst)
	}
	switch {
	case cfg.http != nil && cfg.idle != nil:
		return nil, errors.New("rest: pass one of WithHTTPClient and WithIdleConnections; the client has limits of its own")
	case cfg.theirs != nil && cfg.idle != nil:
		return nil, errors.New("rest: WithIdleConnections: the credentials have an HTTP client, whose transport has limits of its own")
	case cfg.http == nil && cfg.theirs != nil:
		cfg.http = cfg.theirs
	case cfg.http == nil && hook && cfg.idle == nil: // there may be many clients, each for one portal
		cfg.http = &http.Client{}
	case cfg.http == nil:
		cfg.http = &http.Client{Transport: cfg.transport()}
	}
	client := *cfg.http
	client.Jar = nil // a portal's session cookie would turn an application's call into a user's
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if client.Timeout == 0 {
		client.Timeout = DefaultTimeout
	}
	return &Clients{
		http:    &client,
		log:     cfg.log,
		limiter: cfg.limiter,
		pauses:  newPauses(),
		desk:    newDesk(DefaultWindow, batch.Max),
		meter:   &meter{observers: cfg.observers},
		retries: cfg.retries,
		plain:   cfg.plain,
	}, nil
}

// As returns a source of clients that call with other credentials. It shares everything with p: connections, limits, what is
// known of blocked methods. Only the calls of its coalescers do not join those of p, because a request has one token: keep what As
// returns if they are to join each other's.
func (p *Clients) As(creds Credentials) *Clients {
	own := *p
	own.creds, own.hook, own.desk = creds, nil, newDesk(p.desk.window, p.desk.size)
	return &own
}

// Portal returns the client for one portal. It does no I/O: whether the portal is known shows at the first call.
func (p *Clients) Portal(memberID string) *Client {
	return &Client{portals: p, memberID: memberID}
}

// guard runs code of others and logs a panic of it.
func (c *Client) guard(ctx context.Context, what, method string, f func()) {
	defer func() {
		if recover() != nil {
			c.logPanic(ctx, what, method)
		}
	}()
	f()
}

// logPanic logs a panic, with the stack. A logger that panics as well is let be.
func (c *Client) logPanic(ctx context.Context, what, method string) {
	defer func() { _ = recover() }()
	c.portals.log.LogAttrs(ctx, slog.LevelError, "bitrix24 call panicked", slog.String(keyReason, what),
		slog.String(keyMemberID, c.memberID), slog.String(keyMethod, method), slog.String(keyStack, string(debug.Stack())))
}

// Format prints no credentials, whatever the verb.
func (p *Clients) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("rest.Clients")) }
