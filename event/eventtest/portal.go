package eventtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"
)

// AdminID is the ID of the user that every portal has from the start, an administrator.
const AdminID int64 = 1

// Portal is a Bitrix24 portal with its OAuth server and its event queue server, in this process and
// on loopback. Every method is safe for concurrent use. Make one with [NewPortal] or [New].
type Portal struct {
	cfg     config
	log     *slog.Logger
	methods map[string]method // REST methods by name in lower case
	client  *http.Client      // posts deliveries and opens pages
	oauth   *oauthServer      // may be shared with other portals; has a lock of its own
	life    lifecycle

	// Locks are taken in this order: quirksTurn, oauthServer.mu, mu, Network.mu. Functions whose names
	// end in Locked need mu. So do all functions that take a *call or a *pendingEvents, except execute
	// and respond, which lock it.

	quirksTurn sync.Mutex // held by ChangeQuirks

	mu          sync.Mutex // guards everything below, and the fields of Application, user and bot
	closed      bool
	changed     chan struct{} // closed at the next change; nil while nobody watches
	quirks      Quirks
	clockOffset time.Duration    // how far the portal's clock is ahead
	seq         map[string]int64 // the last ID of each sequence

	addresses  addresses
	accounts   accounts
	tokens     tokenTable
	catalog    eventCatalog
	objects    map[Kind]map[int64]*object
	chat       chatState
	eventLog   eventLog
	handlers   handlerTable
	deliveries deliveryQueue
	offline    offlineQueue
	limits     requestLimits
	faults     map[string]*methodFaults
	records    records
}

// lifecycle ends what runs in the background when the portal closes. Its fields are set by New and
// need no lock, except serving.
type lifecycle struct {
	stop    func()          // ends deliveries and waits
	done    <-chan struct{} // closed by stop
	running sync.WaitGroup  // listeners and delivery workers
	serving sync.WaitGroup  // HTTP requests; Portal.mu guards Add, which needs an open portal

	// untilClosed returns the request with a context that also ends when the portal closes.
	untilClosed func(*http.Request) (*http.Request, func())
}

// accounts are the users, applications and webhooks that can call the portal or get events from it.
type accounts struct {
	users    map[int64]*user
	apps     []*Application
	incoming []*incomingWebhook
	outgoing []*outgoingWebhook
}

// NewPortal starts a portal for a test and closes it when the test ends. An error fails the test.
func NewPortal(tb testing.TB, opts ...Option) *Portal {
	tb.Helper()
	p, err := New(opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
	return p
}

// New starts a portal for a program, which must [Portal.Close] it. It returns [ErrConfig] if an
// option makes no sense or options contradict each other, [ErrClosed] if the portal of
// [WithOAuthServerOf] is closed, and the error of the network if the portal cannot listen at its
// address.
func New(opts ...Option) (*Portal, error) {
	cfg, err := collect(opts)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Portal{
		cfg:    cfg,
		log:    cfg.logger,
		quirks: cfg.quirks,
		seq:    map[string]int64{"user": AdminID},
		life:   lifecycle{stop: stop, done: ctx.Done()},

		accounts: accounts{users: map[int64]*user{AdminID: newAdmin()}},
		tokens: tokenTable{
			access:  map[string]*accessToken{},
			refresh: map[string]*refreshToken{},
			codes:   map[string]*authCode{},
		},
		catalog:  eventCatalog{smartProcesses: map[int64]bool{smartInvoice: true}, extraEvents: undocumentedEvents()},
		objects:  map[Kind]map[int64]*object{},
		handlers: handlerTable{notified: map[int64]time.Time{}},
		offline:  offlineQueue{unreserved: map[rowKey]*offlineRow{}},
		limits:   requestLimits{buckets: map[string]*bucket{}, runs: map[string][]operatingRun{}},
		faults:   map[string]*methodFaults{},
	}
	p.life.untilClosed = func(r *http.Request) (*http.Request, func()) {
		life, end := context.WithCancel(r.Context())
		unlink := context.AfterFunc(ctx, end)
		return r.WithContext(life), func() { unlink(); end() } //nolint:contextcheck // it has the request's context
	}
	p.methods = p.methodTable()
	p.client = newDeliveryClient(cfg)
	p.deliveries.work = func() { p.deliverReady(ctx) }
	if err := p.start(ctx); err != nil {
		stop()
		return nil, err
	}
	return p, nil
}

// start makes the portal and its OAuth server reachable.
func (p *Portal) start(ctx context.Context) (err error) {
	switch {
	case p.cfg.network != nil:
		p.oauth = p.cfg.network.oauthServer()
	case p.cfg.sharing != nil:
		p.oauth = p.cfg.sharing.oauth
	default:
		p.oauth = &oauthServer{scheme: "http"}
		s, err := p.listen(ctx, p.cfg.oauthListen, p.oauth.handler(), &p.oauth.running)
		if err != nil {
			return err
		}
		p.oauth.addr, p.oauth.listener = s.addr, s
	}
	if err := p.oauth.add(p); err != nil {
		return err
	}
	if p.addresses.current, err = p.listenAt(ctx, p.cfg.domain); err != nil {
		return errors.Join(err, p.oauth.remove(p))
	}
	p.addresses.domain = p.addresses.current.addr
	return nil
}

// Close stops the servers and the deliveries, including those that run, and waits for them. Queued
// deliveries are dropped. Further calls do nothing. Close must not be called while serving a
// request of the portal, as in [Before], [Answer] and [WithFallback]: it would wait for itself.
func (p *Portal) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.runDueLocked()
	p.signalChangeLocked()
	servers := append([]listener{p.addresses.current}, p.addresses.earlier...)
	p.mu.Unlock()

	p.life.stop()
	errs := []error{p.oauth.remove(p)}
	for _, s := range servers {
		errs = append(errs, p.closeListener(s))
	}
	p.life.serving.Wait()
	p.life.running.Wait()
	p.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// URL returns the portal's address without a trailing slash.
func (p *Portal) URL() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.baseURLLocked()
}

// baseURLLocked returns the portal's address without a trailing slash.
func (p *Portal) baseURLLocked() string {
	if p.cfg.network != nil {
		return "https://" + p.addresses.domain
	}
	return "http://" + p.addresses.domain
}

// Domain returns the portal's host:port, or its host on a [Network], as deliveries and pages name
// it. [Portal.Rename] changes it.
func (p *Portal) Domain() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addresses.domain
}

// MemberID returns the portal's member_id, 32 hexadecimal digits. It never changes.
func (p *Portal) MemberID() string { return p.cfg.memberID }

// ClientEndpoint returns the REST base URL, with a trailing slash.
func (p *Portal) ClientEndpoint() string { return p.URL() + "/rest/" }

// ServerEndpoint returns the REST base URL of the OAuth server, with a trailing slash. The token
// URL is the same with oauth/token/ instead of rest/ at its end.
func (p *Portal) ServerEndpoint() string { return p.oauth.scheme + "://" + p.oauth.addr + "/rest/" }

// OAuthHost returns the OAuth server's host:port, or its host on a [Network], for allow lists.
func (p *Portal) OAuthHost() string { return p.oauth.addr }

// Format prints the domain for every verb, because the portal holds tokens.
func (p *Portal) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "eventtest.Portal(%s)", p.Domain())
}

// Changed returns a channel that is closed when the portal closes, and at the next change of
// anything that it shows: records, waiting deliveries, the offline queue, handlers, applications,
// users, webhooks, objects, faults, tokens, quirks and the clock. Get the channel before reading,
// so that you miss no change.
func (p *Portal) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// signalChangeLocked closes the channel of [Portal.Changed].
func (p *Portal) signalChangeLocked() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}
