package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/redact"
	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/internal/typednil"
)

// DefaultSourceList is the address of the list of queue servers that serve the cloud portals
// outside of Russia. Other regions have lists of their own; see [WithSourceList].
const DefaultSourceList = "https://dl.bitrix24.com/webhook/app-world.json"

// SourceFilter is a middleware that lets through only requests from the servers that deliver the
// events of cloud portals. Bitrix24 publishes their addresses. The filter fetches the list every 5
// to 8 minutes, because new servers are announced 5 to 10 minutes before they send, and never more
// than once a minute. If it cannot fetch the list, the last good one stays in force.
//
// It is an additional check that keeps requests of strangers away from the [Verifier]. It does not
// replace the Verifier, because every portal's events come from the same servers. On-premise
// portals send their events themselves, and browsers open application pages: serve both without the
// filter.
//
// A SourceFilter is safe for concurrent use, and one serves any number of handlers. The zero
// SourceFilter is not usable. Make one with [NewSourceFilter].
//
// Source: https://apidocs.bitrix24.com/settings/cloud-and-on-premise/network-access.html
type SourceFilter struct {
	cfg  sourceConfig
	list atomic.Pointer[sourceList]

	mu       sync.Mutex
	fetching chan struct{} // closed when the fetch under way ends; nil when there is none
	due      time.Time     // when the list is to be fetched again

	allowed, refused, unchecked, fetches, failures atomic.Uint64
}

// SourceOption configures a [SourceFilter]. A nil SourceOption is skipped.
type SourceOption func(*sourceConfig) error

type sourceConfig struct {
	address    string
	client     *http.Client
	logger     *slog.Logger
	failClosed bool
	header     string // of the trusted proxies; empty for none
	proxies    []netip.Prefix
}

// NewSourceFilter returns a filter. Without options it trusts no proxy and uses
// [DefaultSourceList]. It returns an error that matches [ErrConfig] if an option is invalid. It
// fetches nothing: call [SourceFilter.Run], or let the first request start the first fetch.
func NewSourceFilter(opts ...SourceOption) (*SourceFilter, error) {
	cfg := sourceConfig{
		address: DefaultSourceList,
		client:  &http.Client{},
		logger:  slog.New(slog.DiscardHandler),
	}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return nil, err
		}
	}
	home, err := url.Parse(cfg.address)
	if err != nil {
		return nil, misconfigured("the address of the source list is malformed")
	}
	client := *cfg.client
	client.Jar = nil
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxSourceRedirects || r.URL.Scheme != "https" || !strings.EqualFold(r.URL.Host, home.Host) {
			return errSourceRedirect
		}
		return nil
	}
	cfg.client = &client
	return &SourceFilter{cfg: cfg}, nil
}

// WithSourceList sets the address of the list, which depends on the region of the portals. The
// default is [DefaultSourceList]; portals in Russia have
// https://repos.1c-bitrix.ru/webhook/app.json. Only https is accepted. The document is JSON of the
// form {"nodes":["192.0.2.1","198.51.100.0/24"]}.
func WithSourceList(address string) SourceOption {
	return func(c *sourceConfig) error {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
			return misconfigured("the address of the source list is not an https address")
		}
		c.address = address
		return nil
	}
}

// WithSourceClient sets the client that fetches the list. The default has the transport of
// net/http. The filter uses a copy without cookies, which follows no redirect to another host.
func WithSourceClient(client *http.Client) SourceOption {
	return func(c *sourceConfig) error {
		if client == nil {
			return misconfigured("nil client for the source list")
		}
		c.client = client
		return nil
	}
}

// WithSourceLogger sets where the filter reports refusals and failed fetches (WARN). By default it
// is silent.
func WithSourceLogger(l *slog.Logger) SourceOption {
	return func(c *sourceConfig) error {
		if l == nil {
			return misconfigured("nil logger")
		}
		c.logger = l
		return nil
	}
}

// WithFailClosed refuses everything until there is a list. A request waits up to 5 seconds for a
// fetch under way. If there is no list then, the response is 503.
//
// By default the filter lets everything through until there is a list. Bitrix24 does not repeat
// what was refused, so events would be lost for good if the list server is down while the program
// starts. The Verifier checks every delivery anyway.
func WithFailClosed() SourceOption {
	return func(c *sourceConfig) error {
		c.failClosed = true
		return nil
	}
}

// WithTrustedProxies names the reverse proxies in front of the program, as addresses or prefixes
// such as 10.0.0.0/8, and the header in which they report the source of a request: X-Forwarded-For
// or Forwarded. Name only the header that the proxies really set, because they pass the other one
// on as the client wrote it. The source of a request is then the last address in the header that
// does not belong to a trusted proxy.
//
// Without this option the source is the peer of the connection, and headers do not count.
func WithTrustedProxies(header string, proxies ...string) SourceOption {
	return func(c *sourceConfig) error {
		switch name := http.CanonicalHeaderKey(header); name {
		case headerForwardedFor, headerForwarded:
			c.header = name
		default:
			return misconfigured("trusted proxies set X-Forwarded-For or Forwarded, no other header")
		}
		if len(proxies) == 0 {
			return misconfigured("no trusted proxy")
		}
		c.proxies = nil
		for i, text := range proxies {
			prefix, ok := parseSource(text)
			if !ok {
				return misconfigured("trusted proxy %d of %d is neither an address nor a prefix", i+1, len(proxies))
			}
			c.proxies = append(c.proxies, prefix)
		}
		return nil
	}
}

// Wrap returns a handler that passes requests from a listed address to next, and responds 403 to
// others. GET and HEAD pass from everywhere: Bitrix24 uses them to check that the address of a
// handler exists, and a [Handler] does nothing for them.
func (f *SourceFilter) Wrap(next http.Handler) http.Handler {
	if typednil.Is(next) {
		panic("webhook: SourceFilter.Wrap of a nil handler")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		list := f.current(r.Context())
		from, ok := f.source(r)
		switch {
		case list == nil && f.cfg.failClosed:
			f.refuse(w, r, from, ReasonUnavailable)
		case list == nil:
			f.unchecked.Add(1)
			next.ServeHTTP(w, r)
		case !ok || !list.contains(from):
			f.refuse(w, r, from, ReasonSource)
		default:
			f.allowed.Add(1)
			next.ServeHTTP(w, r)
		}
	})
}

// current returns the list, nil if there is none yet, and starts a fetch if one is due.
func (f *SourceFilter) current(ctx context.Context) *sourceList {
	due, fetching, _ := f.begin()
	if due != nil {
		go f.fetch(context.WithoutCancel(ctx), due) // the list is for all requests
		fetching = due
	}
	if list := f.list.Load(); list != nil || fetching == nil || !f.cfg.failClosed {
		return list
	}
	wait := time.NewTimer(maxSourceWait)
	defer wait.Stop()
	select {
	case <-fetching:
	case <-ctx.Done():
	case <-wait.C:
	}
	return f.list.Load()
}

// refuse counts and logs a request that does not pass, and responds to it.
func (f *SourceFilter) refuse(w http.ResponseWriter, r *http.Request, from netip.Addr, reason Reason) {
	f.refused.Add(1)
	respond(w, responseTo(reason))
	message := "webhook: request from an address that is not listed"
	if reason == ReasonUnavailable {
		message = "webhook: request refused because there is no source list yet"
	}
	if ctx := r.Context(); f.cfg.logger.Enabled(ctx, slog.LevelWarn) {
		f.cfg.logger.LogAttrs(ctx, slog.LevelWarn, message, //nolint:sloglint // one of two static messages
			slog.String(KeyReason, string(reason)), slog.Int(KeyStatus, responseTo(reason).status),
			slog.String(KeySource, from.String()), slog.String(KeyRemoteAddr, redact.Clean(r.RemoteAddr, maxAddr)))
	}
}

// SourceStats is a snapshot of what a [SourceFilter] has done since it was made.
type SourceStats struct {
	Allowed   uint64    `json:"allowed"`   // requests from a listed address
	Refused   uint64    `json:"refused"`   // requests with the response 403, or 503 with WithFailClosed
	Unchecked uint64    `json:"unchecked"` // requests let through because there was no list yet
	Fetches   uint64    `json:"fetches"`   // attempts to fetch the list
	Failures  uint64    `json:"failures"`  // those that failed
	Nodes     int       `json:"nodes"`     // entries of the list in force
	Updated   time.Time `json:"updated"`   // when the list in force was last confirmed; zero for none
}

// Stats returns what the filter has done so far.
func (f *SourceFilter) Stats() SourceStats {
	s := SourceStats{
		Allowed: f.allowed.Load(), Refused: f.refused.Load(), Unchecked: f.unchecked.Load(),
		Fetches: f.fetches.Load(), Failures: f.failures.Load(),
	}
	if list := f.list.Load(); list != nil {
		s.Nodes, s.Updated = list.size(), list.confirmed
	}
	return s
}

// Format prints the name of the type, and nothing of the configuration.
func (f *SourceFilter) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("webhook.SourceFilter")) }

const (
	sourceInterval     = 5 * time.Minute // and up to sourceJitter more
	sourceJitter       = 3 * time.Minute
	sourceRetry        = time.Minute // after a failure, and at least between two fetches
	maxSourceWait      = 5 * time.Second
	maxSourceRedirects = 3
)

// Run keeps the list fresh until ctx ends, and then returns nil. Without it, requests start the
// fetches, and the list may be old when a request comes after a long silence.
func (f *SourceFilter) Run(ctx context.Context) error {
	for {
		mine, other, wait := f.begin()
		if mine != nil {
			f.fetch(ctx, mine)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-other:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// begin decides what to do. If a fetch is due, it returns mine, and the caller has to make the
// fetch, which closes mine at the end. Otherwise other is closed at the end of a fetch that is
// under way, or nil, and wait is the time until the next one.
func (f *SourceFilter) begin() (mine, other chan struct{}, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fetching != nil {
		return nil, f.fetching, sourceRetry
	}
	if wait = time.Until(f.due); wait > 0 {
		return nil, nil, wait
	}
	f.fetching = make(chan struct{})
	f.due = time.Now().Add(sourceRetry) // even if this one fails
	return f.fetching, nil, 0
}

// fetch gets the list once, and closes done.
func (f *SourceFilter) fetch(ctx context.Context, done chan struct{}) {
	f.fetches.Add(1)
	limited, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	old := f.list.Load()
	var list *sourceList
	err := dispatch.Guard(func() (err error) {
		list, err = fetchSources(limited, f.cfg.client, f.cfg.address, old)
		return err
	})
	switch {
	case err == nil:
		f.list.Store(list)
	case ctx.Err() == nil:
		f.failures.Add(1)
		f.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "webhook: cannot fetch the source list; the last one stays in force",
			slog.String(KeyError, errorText(nil, err)), slog.Int(KeyNodes, old.size()))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.due = time.Now().Add(sourceInterval + timing.Below(sourceJitter))
	}
	f.fetching = nil
	close(done)
}
