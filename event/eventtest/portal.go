package eventtest

import (
	"context"
	"crypto/md5" //nolint:gosec // the platform derives identifiers with MD5; nothing is protected by it here
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// AdminID is the user who is there from the start, an administrator.
const AdminID int64 = 1

// Portal is a Bitrix24 portal with its OAuth server and its event queue server, in this process and
// on loopback. Every method is safe for concurrent use. Make one with [NewPortal] or [New].
type Portal struct {
	cfg     config
	log     *slog.Logger
	methods map[string]method
	client  *http.Client

	oauth   *authority
	rest    server
	moved   []server                                    // of earlier names, see Rename
	running sync.WaitGroup                              // servers and delivery workers
	work    func()                                      // makes deliveries until none is ready
	stop    func()                                      // ends deliveries
	done    <-chan struct{}                             // closed by stop
	within  func(*http.Request) (*http.Request, func()) // ends a request's context by stop too

	turns sync.Mutex // of ChangeQuirks; taken before mu

	mu       sync.Mutex // guards everything below
	closed   bool
	quirks   Quirks
	changed  chan struct{}  // closed at the next change; nil while nobody watches
	serving  sync.WaitGroup // HTTP requests; Add only under mu while not closed
	domain   string
	offset   time.Duration // of the portal's clock
	seq      map[string]int64
	users    map[int64]*user
	apps     []*Application
	hooks    []*inboundHook
	outgoing []*outgoingHook
	types    map[int64]bool // smart processes by entityTypeId
	extra    map[string]string
	bindings []*binding
	binding  []*binding // being bound; see Quirks.RacingBinds
	rows     []*offlineRow
	free     map[rowKey]*offlineRow // those that nobody has reserved
	purged   time.Time              // when old rows were deleted last
	access   map[string]*accessToken
	trimAt   int // how many of them are too many
	refresh  map[string]*refreshToken
	codes    map[string]*authCode
	objects  map[Kind]map[int64]*object
	chat     chatState
	throttle map[int64]time.Time // last ONOFFLINEEVENT by handler
	limits   map[string]*bucket
	usage    map[string][]spent
	faults   map[string]*failing
	queue    sendQueue
	records  records
}

// server is one listener of the portal, or its place on a Network.
type server struct {
	http *http.Server // nil on a Network
	site *site
	addr string // host:port, or a host of a Network
}

// NewPortal starts a portal for a test and closes it when the test ends. It fails the test where it
// cannot.
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

// New starts a portal for a program, which must [Portal.Close] it. It returns an error where an
// option makes no sense or an address cannot be listened on.
func New(opts ...Option) (*Portal, error) {
	cfg, err := collect(opts)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Portal{
		cfg:      cfg,
		quirks:   cfg.quirks,
		log:      cfg.logger,
		stop:     stop,
		done:     ctx.Done(),
		seq:      map[string]int64{"user": AdminID},
		users:    map[int64]*user{AdminID: newAdmin()},
		types:    map[int64]bool{smartInvoice: true},
		extra:    map[string]string{},
		free:     map[rowKey]*offlineRow{},
		access:   map[string]*accessToken{},
		refresh:  map[string]*refreshToken{},
		codes:    map[string]*authCode{},
		objects:  map[Kind]map[int64]*object{},
		throttle: map[int64]time.Time{},
		limits:   map[string]*bucket{},
		usage:    map[string][]spent{},
		faults:   map[string]*failing{},
	}
	p.within = func(r *http.Request) (*http.Request, func()) {
		life, end := context.WithCancel(r.Context())
		unlink := context.AfterFunc(ctx, end)
		return r.WithContext(life), func() { unlink(); end() } //nolint:contextcheck // it has the request's context
	}
	p.methods = p.methodTable()
	p.client = newDeliveryClient(cfg)
	p.work = func() { p.deliverQueued(ctx) }
	if err := p.open(ctx); err != nil {
		stop()
		return nil, err
	}
	return p, nil
}

// open makes the portal and its OAuth server reachable.
func (p *Portal) open(ctx context.Context) (err error) {
	switch {
	case p.cfg.network != nil:
		p.oauth = p.cfg.network.authority()
	case p.cfg.sharing != nil:
		p.oauth = p.cfg.sharing.oauth
	default:
		p.oauth = &authority{scheme: "http"}
		s, err := p.listen(ctx, p.cfg.oauthListen, p.oauth.handler(), &p.oauth.running)
		if err != nil {
			return err
		}
		p.oauth.addr, p.oauth.server = s.addr, s
	}
	if err := p.oauth.join(p); err != nil {
		return err
	}
	if p.rest, err = p.serve(ctx, p.cfg.domain); err != nil {
		return errors.Join(err, p.oauth.leave(p))
	}
	p.domain = p.rest.addr
	return nil
}

// serve makes the portal reachable: on its network at host, or on the address of WithListen.
func (p *Portal) serve(ctx context.Context, host string) (server, error) {
	h := p.counted(p.portalMux())
	if p.cfg.network == nil {
		return p.listen(ctx, p.cfg.listen, h, &p.running)
	}
	site, err := p.cfg.network.claim(host, h)
	return server{site: site, addr: host}, err
}

// shut ends what serve or listen began.
func (p *Portal) shut(s server) error {
	if s.http == nil {
		p.cfg.network.release(s.addr, s.site)
		return nil
	}
	return s.http.Close()
}

// listen serves h on addr until Close.
func (p *Portal) listen(ctx context.Context, addr string, h http.Handler, running *sync.WaitGroup) (server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return server{}, fmt.Errorf("eventtest: cannot listen; is the address free and local?: %w", err)
	}
	s := server{
		http: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		},
		addr: dialable(l.Addr().String()),
	}
	running.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.log.LogAttrs(ctx, slog.LevelError, "listener of the portal failed", slog.String(keyError, err.Error()))
		}
	})
	return s, nil
}

// counted lets Close wait for requests under way, and refuses later ones.
func (p *Portal) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.count(w, r, h.ServeHTTP)
	})
}

// count serves a request that Close waits for, unless the portal is closed.
func (p *Portal) count(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if !p.enter() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer p.serving.Done()
	r, end := p.within(r)
	defer end()
	serve(w, r)
}

// enter counts a request that is under way, unless the portal is closed.
func (p *Portal) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.serving.Add(1)
	return true
}

// dialable turns a wildcard address into one that a client can dial.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// Close stops the servers and the deliveries, those under way included, and waits for them. Queued
// deliveries are dropped. Further calls do nothing. It must not be called by what answers a request
// of the portal's own, as [Before], [Answer] and [WithFallback] do: it would wait for itself.
func (p *Portal) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.plan()
	p.touch()
	servers := append([]server{p.rest}, p.moved...)
	p.mu.Unlock()

	p.stop()
	errs := []error{p.oauth.leave(p)}
	for _, s := range servers {
		errs = append(errs, p.shut(s))
	}
	p.serving.Wait()
	p.running.Wait()
	p.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// URL returns the portal's address without a trailing slash.
func (p *Portal) URL() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.base()
}

func (p *Portal) base() string {
	if p.cfg.network != nil {
		return "https://" + p.domain
	}
	return "http://" + p.domain
}

// Domain returns the portal's host:port, on a [Network] its host, as deliveries and pages name it.
// [Portal.Rename] changes it.
func (p *Portal) Domain() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.domain
}

// MemberID returns the portal's stable identifier, 32 hexadecimal digits.
func (p *Portal) MemberID() string { return p.cfg.memberID }

// ClientEndpoint returns the REST base URL, with a trailing slash.
func (p *Portal) ClientEndpoint() string { return p.URL() + "/rest/" }

// ServerEndpoint returns the REST base URL of the OAuth server, with a trailing slash. Its token
// URL ends in oauth/token/ where this one ends in rest/.
func (p *Portal) ServerEndpoint() string { return p.oauth.scheme + "://" + p.oauth.addr + "/rest/" }

// OAuthHost returns the OAuth server's host:port, on a [Network] its host, for allow lists.
func (p *Portal) OAuthHost() string { return p.oauth.addr }

// Now returns the portal's time.
func (p *Portal) Now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now()
}

func (p *Portal) now() time.Time { return time.Now().Add(p.offset) }

// Advance moves the portal's clock forward: tokens and codes expire, limits recover, and the agent
// that purges old records of the offline queue runs, as it does once a day. A negative duration
// does nothing.
func (p *Portal) Advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offset += max(d, 0)
	p.purge()
	p.plan()
	p.touch()
}

// Rename gives the portal a new domain, on loopback a new port. The old one answers everything with
// 302 to the new, as a renamed portal does.
func (p *Portal) Rename(ctx context.Context) error {
	if !p.enter() { // so that Close does not wait for the servers while one more begins
		return ErrClosed
	}
	defer p.serving.Done()
	var s server
	var err error
	if p.cfg.network != nil {
		s, err = p.serve(ctx, randomDomain())
	} else {
		s, err = p.listen(context.WithoutCancel(ctx), "127.0.0.1:0", p.counted(p.portalMux()), &p.running)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.Join(ErrClosed, p.shut(s))
	}
	p.moved = append(p.moved, p.rest)
	p.rest, p.domain = s, s.addr
	p.touch()
	return nil
}

// AddSmartProcess adds a smart process, whose items are of the kind [SmartProcess]. Its three
// events can be bound from now on. The one for invoices, 31, is there from the start. Identifiers
// below 128 belong to the platform and are refused.
func (p *Portal) AddSmartProcess(entityTypeID int64) error {
	if entityTypeID < 128 {
		return fmt.Errorf("eventtest: smart processes have identifiers of 128 and above, not %d", entityTypeID)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.types[entityTypeID] = true
	return nil
}

// AddEvent makes an event bindable that the catalogue of package event does not have. An empty
// scope means that every application may bind it.
func (p *Portal) AddEvent(name, scope string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.extra[upper(name)] = scope
}

// Format prints the domain under every verb, since the portal holds tokens.
func (p *Portal) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "eventtest.Portal(%s)", p.Domain())
}

// next returns the next number of a sequence.
func (p *Portal) next(sequence string) int64 {
	p.seq[sequence]++
	return p.seq[sequence]
}

// isoTime writes t as the portal does: its zone's offset, whole seconds.
func isoTime(t time.Time) string {
	return t.In(time.FixedZone("", 3*60*60)).Format("2006-01-02T15:04:05-07:00")
}

// md5Hex returns the MD5 of text in hexadecimal.
func md5Hex(text []byte) string {
	sum := md5.Sum(text) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// null is PHP's null.
func null() phpform.Value { return phpform.Value{} }
