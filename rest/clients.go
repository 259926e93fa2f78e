package rest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/b24events/b24events/internal/batch"
	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/internal/plainhttp"
	"github.com/b24events/b24events/internal/typednil"
)

// MaxResponseBytes is how much is read of one response, after decompression.
const MaxResponseBytes = 64 << 20

// DefaultTimeout bounds one HTTP request if the client of [WithHTTPClient] has no limit of its own.
// Portals stop a method after 60 s.
const DefaultTimeout = 75 * time.Second

// Credentials provide access to portals. The type Portals of package oauth implements this
// interface; write an adapter for tokens that are kept elsewhere. Implementations must be safe for
// concurrent use. They may also implement [Mover] and [Remover].
type Credentials interface {
	// Access returns the portal's REST address, such as https://example.bitrix24.com/rest/, and a
	// token to use there.
	Access(ctx context.Context, memberID string) (endpoint, token string, err error)
	// Renew returns access after the portal rejected the token refused as expired_token. If that
	// token has been replaced in the meantime, Renew returns the replacement.
	Renew(ctx context.Context, memberID, refused string) (endpoint, token string, err error)
}

// clientID returns the ID of the application whose credentials these are, if they have a method for
// it.
func clientID(creds Credentials) string {
	if app, ok := creds.(interface{ ClientID() string }); ok {
		return app.ClientID()
	}
	return ""
}

// Clients makes clients for portals. The clients share its HTTP transport, its [Limiter], and what
// it knows about blocked methods.
type Clients struct {
	creds   Credentials
	hook    *hook // of an incoming webhook, which has no tokens
	http    *http.Client
	log     *slog.Logger
	limiter *Limiter
	pauses  *methodPauses
	batcher *batcher
	meter   *meter
	retries int
	plain   func(host, port string) bool // may be reached by http
}

type config struct {
	http      *http.Client // nil for the credentials' client, or the package's own
	theirs    *http.Client // of the credentials
	idle      *[2]int      // connections for each host and in all
	log       *slog.Logger
	limiter   *Limiter
	retries   int
	plain     plainhttp.Hosts
	observers []func(context.Context, CallInfo)
	contexts  []func(context.Context, string) context.Context
}

// Option configures [NewClients] and [NewWebhook].
type Option func(*config) error

// WithHTTPClient sets the HTTP client, for example to use a proxy or your own certificates. It is
// copied. The copy follows no redirects, keeps no cookies, and has [DefaultTimeout] if the client
// has none.
//
// Without this option the clients use the client of the credentials, if these have a method
// HTTPClient() *http.Client that returns one. So it is enough to pass it to oauth.NewPortals.
func WithHTTPClient(c *http.Client) Option {
	return func(cfg *config) error {
		if c == nil {
			return misconfigured("WithHTTPClient: the client is nil")
		}
		cfg.http = c
		return nil
	}
}

// The numbers of idle connections that are kept for later calls, for each portal and in all. See
// [WithIdleConnections].
const (
	DefaultIdlePerHost = 8
	DefaultIdle        = 2000
)

// WithIdleConnections sets how many idle connections are kept for later calls, for each portal and
// in all, for 90 seconds. An application that often calls thousands of portals needs many;
// otherwise nearly every call opens a new connection. The defaults are [DefaultIdlePerHost] and
// [DefaultIdle]. The client of [WithHTTPClient] has limits of its own, so the two options cannot be
// combined.
func WithIdleConnections(perHost, total int) Option {
	return func(cfg *config) error {
		if perHost < 1 || total < perHost {
			return misconfigured("WithIdleConnections: allow at least one connection for each host, and no fewer in all")
		}
		cfg.idle = &[2]int{perHost, total}
		return nil
	}
}

// transport returns a copy of http.DefaultTransport, with room for the connections of many portals.
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

// WithLogger sets the logger. Each call is one DEBUG line, without parameters or results; a panic
// of an observer, of the credentials or of the HTTP client is an ERROR line. Without this option
// only the ERROR lines are logged, by [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return func(cfg *config) error {
		if l == nil {
			return misconfigured("WithLogger: the logger is nil")
		}
		cfg.log = l
		return nil
	}
}

// WithInsecureHTTP allows portals with an http endpoint, on loopback addresses and on the hosts
// named, each as host for every port or as host:port. Tokens are then sent in the clear, so it is
// for fake portals in tests and for development. It is not needed if the credentials have a method
// AllowsHTTP, as oauth.Portals has: then oauth.WithInsecureHTTP is for calls too.
func WithInsecureHTTP(hosts ...string) Option {
	return func(cfg *config) error {
		plain, err := plainhttp.New(hosts...)
		if err != nil {
			return misconfigured("WithInsecureHTTP: " + err.Error())
		}
		cfg.plain = plain
		return nil
	}
}

// DefaultRetries is how often a call is retried at most, besides the retry with a renewed token.
const DefaultRetries = 4

// WithRetries sets how often a call is retried at most. A call is retried if it surely did not run,
// or if it may run twice: see the package documentation. The default is [DefaultRetries]; 0 leaves
// all retries to the caller.
func WithRetries(n int) Option {
	return func(cfg *config) error {
		if n < 0 {
			return misconfigured("WithRetries: the number must not be negative")
		}
		cfg.retries = n
		return nil
	}
}

// NewClients returns a source of clients that call with the tokens of c. An error matches
// [ErrConfig].
func NewClients(c Credentials, opts ...Option) (*Clients, error) {
	if typednil.Is(c) {
		return nil, misconfigured("NewClients: the credentials are nil; pass an *oauth.Portals or an adapter")
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
	if from, ok := c.(interface{ AllowsHTTP(host, port string) bool }); ok {
		own := p.plain
		p.plain = func(host, port string) bool { return own(host, port) || from.AllowsHTTP(host, port) }
	}
	return p, nil
}

// newClients makes everything except the credentials. hook is true for an incoming webhook.
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
		return nil, misconfigured("pass one of WithHTTPClient and WithIdleConnections; the client has limits of its own")
	case cfg.theirs != nil && cfg.idle != nil:
		return nil, misconfigured("WithIdleConnections: the credentials have an HTTP client, whose transport has limits of its own")
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
		pauses:  newMethodPauses(),
		batcher: newBatcher(DefaultWindow, batch.Max),
		meter:   &meter{observers: cfg.observers, contexts: cfg.contexts},
		retries: cfg.retries,
		plain:   cfg.plain.Allows,
	}, nil
}

// As returns a source of clients that call with other credentials. It shares everything with cs:
// connections, limits, and which methods are blocked. Only the calls of its coalescers do not join
// those of cs, because a request has one token. Keep the returned value if its own calls are to
// join each other.
func (cs *Clients) As(creds Credentials) *Clients {
	own := *cs
	own.creds, own.hook, own.batcher = creds, nil, newBatcher(cs.batcher.window, cs.batcher.size)
	return &own
}

// Portal returns the client for one portal. It does no I/O. If the portal is not known, the first
// call fails.
func (cs *Clients) Portal(memberID string) *Client {
	return &Client{clients: cs, memberID: memberID}
}

// recovering runs a callback and logs its panic.
func (c *Client) recovering(ctx context.Context, what, method string, f func()) {
	defer func() {
		if recover() != nil {
			c.logPanic(ctx, what, method)
		}
	}()
	f()
}

// logPanic logs a panic, with the stack. It ignores a panic of the logger.
func (c *Client) logPanic(ctx context.Context, what, method string) {
	defer func() { _ = recover() }()
	c.clients.log.LogAttrs(ctx, slog.LevelError, "bitrix24 call panicked", slog.String(keyReason, what),
		slog.String(keyMemberID, c.memberID), slog.String(keyMethod, method), slog.String(keyStack, string(debug.Stack())))
}

// Format never prints credentials, for every verb.
func (cs *Clients) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("rest.Clients")) }
