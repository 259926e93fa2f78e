package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/internal/typednil"
)

// What was tried, in Error.Op.
const (
	opLoad     = "load"
	opRenew    = "renew"
	opIdentify = "identify"
	opExchange = "exchange"
	opInstall  = "install"
	opForget   = "forget"
	opWrite    = "write"
	opSeed     = "seed"
	opMove     = "move"
	opActing   = "acting user"
	opUser     = "user"
	opPage     = "page"
	opChange   = "change"
	opRemoval  = "removal"
	opToken    = "application token"
)

// Keys of log attributes.
const (
	keyMemberID = "member_id"
	keyError    = "error"
	keyDomain   = "domain"
	keyUserID   = "user_id"
	keyRenewed  = "renewed"
	keyFailed   = "failed"
	keyPanic    = "panic"
	keyStack    = "stack"
)

// Portals holds the application's access to portals: it verifies installations, stores them, hands
// out access tokens and renews them. It is a webhook.Verifier, a webhook.TokenLookup, a
// rest.Credentials, a rest.Mover and a rest.Remover.
//
// It is safe for concurrent use, and several processes may share a store. Make one for the life of
// the process.
type Portals struct {
	store     Store
	client    *client
	log       *slog.Logger
	policy    func(context.Context, *Claim) error
	window    time.Duration // how long the previous application token is accepted
	locker    Locker        // of renewals; nil if there is none
	owner     string        // of its leases
	exclusive bool          // no other process uses the store
	flights   flights
	keys      keyStates
	admission *admission
	trades    tradeCache
	removals  removals
	setUps    setUps
	meter     meter
	http      *http.Client // of WithHTTPClient; nil without it
	script    script       // of pages
}

// NewPortals returns the access of one application to its portals. It does no I/O. It returns
// [ErrConfig] if a value or an option makes no sense.
func NewPortals(cfg Config, store Store, opts ...Option) (*Portals, error) {
	if typednil.Is(store) {
		return nil, configError("NewPortals", "the store is nil; NewMemoryStore makes one")
	}
	c := config{policy: AdministratorsOnly, window: DefaultRotationWindow, script: DefaultScriptURL}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&c); err != nil {
			return nil, err
		}
	}
	if c.log == nil {
		c.log = defaultlog.New()
	}
	if l, ok := store.(Locker); ok && c.locker == nil {
		c.locker = l
	}
	client, err := c.newClient(cfg)
	if err != nil {
		return nil, err
	}
	script, err := parseScript(c.script, c.plain)
	if err != nil {
		return nil, &Error{Op: "WithScriptURL", Kind: ErrConfig, Err: err}
	}
	p := &Portals{
		store:     store,
		client:    client,
		log:       c.log,
		policy:    c.policy,
		window:    c.window,
		locker:    c.locker,
		exclusive: c.exclusive,
		owner:     rand.Text(),
		flights:   flights{log: c.log},
		admission: newAdmission(),
		http:      c.http,
		script:    script,
	}
	p.meter.observers = c.observers
	return p, nil
}

// HTTPClient returns the HTTP client of [WithHTTPClient], or nil without that option. Package rest
// uses it for calls too, so that a proxy or a certificate is configured once.
func (p *Portals) HTTPClient() *http.Client { return p.http }

// AllowsHTTP reports whether [WithInsecureHTTP] allows http for a host and port. Package rest asks
// it, so that the option is given once.
func (p *Portals) AllowsHTTP(host, port string) bool { return p.client.hosts.plain.Allows(host, port) }

// Format prints no secret, whatever the verb.
func (p *Portals) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.Portals")) }

// ClientID returns the ID of the application.
func (p *Portals) ClientID() string { return p.client.id }

// appKey returns the key of the application's own token for a portal.
func (p *Portals) appKey(memberID string) Key { return Key{ClientID: p.client.id, MemberID: memberID} }

// userKey returns the key of a user's token for a portal.
func (p *Portals) userKey(memberID string, userID int64) Key {
	return Key{ClientID: p.client.id, MemberID: memberID, UserID: userID}
}

// Installation returns what is stored for a portal, or [ErrNotFound].
func (p *Portals) Installation(ctx context.Context, memberID string) (Installation, error) {
	r, err := p.load(ctx, p.appKey(memberID))
	return r.in.clone(), err
}

// ApplicationTokens returns the tokens that authenticate a portal's events: the current one, the
// one before for a while after a rotation, and those of [Portals.AddApplicationToken]. For a portal
// that is not known it returns no tokens and no error.
func (p *Portals) ApplicationTokens(ctx context.Context, memberID string) ([]event.Secret, error) {
	in, err := p.Installation(ctx, memberID)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return in.applicationTokens(p.window), nil
}

// UnsavedError has what [Portals.Shutdown] could not write. It is an [ErrStore].
type UnsavedError struct {
	// Installations are the newest tokens of each key. Nobody else has them: without them the
	// portals must be authorized again.
	Installations map[Key]Installation
	Err           error // why the wait ended, or the store's last error
}

// Error says how many portals and users are affected.
func (e *UnsavedError) Error() string {
	return fmt.Sprintf("oauth: shutdown: the store did not take the tokens of %d portals or users: %v", len(e.Installations), e.Err)
}

// Is reports that an UnsavedError is an [ErrStore].
func (e *UnsavedError) Is(target error) bool { return target == ErrStore }

// Unwrap returns the cause.
func (e *UnsavedError) Unwrap() error { return e.Err }

// Shutdown waits for renewals and installations under way, and writes the tokens that the store
// could not take so far. When ctx ends, it stops waiting. It returns nil if everything is stored;
// an [*UnsavedError] with the tokens that are not; or the context's error if work is still under
// way. Call it after everything that uses p has stopped. Later calls that need a renewal return
// [ErrShutdown].
func (p *Portals) Shutdown(ctx context.Context) error {
	idle := p.flights.close()
	var failure error
	select {
	case <-ctx.Done():
		failure = ctx.Err()
	case <-idle:
	}
	for _, key := range p.keys.pendingKeys() {
		if ctx.Err() != nil {
			break
		}
		s, unlock, err := p.keys.lock(ctx, key)
		if err != nil {
			break
		}
		_, err = p.flushLocked(ctx, s, writeTries)
		unlock()
		if err != nil && !errors.Is(err, ErrNotFound) {
			failure = err
		}
	}
	left := make(map[Key]Installation)
	for _, key := range p.keys.pendingKeys() {
		if w := p.keys.pendingOf(key); w != nil {
			left[key] = w.in.clone()
		}
	}
	if failure == nil {
		failure = ctx.Err()
	}
	switch {
	case len(left) > 0:
		if failure == nil {
			failure = errors.New("see the log")
		}
		return &UnsavedError{Installations: left, Err: failure}
	case failure != nil:
		return fmt.Errorf("oauth: shutdown: %w", failure)
	default:
		return nil
	}
}
