package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/b24events/b24events/event"
)

// What an [Error] says was tried.
const (
	opLoad      = "load"
	opRenew     = "renew"
	opIdentify  = "identify"
	opExchange  = "exchange"
	opInstall   = "install"
	opForget    = "forget"
	opWrite     = "write"
	opShutdown  = "shutdown"
	opSeed      = "seed"
	opMove      = "move"
	opActing    = "acting user"
	opUser      = "user"
	opPage      = "page"
	opChange    = "change"
	opKeepAlive = "keep alive"
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

// Portals holds the application's access to portals: it verifies installations, stores them, hands out access tokens and
// renews them. It is a webhook.Verifier, a webhook.TokenLookup, a rest.Credentials and a rest.Mover.
//
// It is safe for concurrent use, and several processes may share a store. Make one for the life of the process.
type Portals struct {
	store   Store
	server  *server
	log     *slog.Logger
	renewal singleflight.Group // by Key
	arrival singleflight.Group // by what arrived: installations and codes
	slots   chan struct{}      // of installations being checked

	mu      sync.Mutex
	unsaved map[Key]*record  // what the store could not take; pointers, since fmt may print what these maps hold, and not follow those
	held    map[Key]*refusal // refresh tokens not to be sent for a while
	detours map[Key]detour   // addresses that the OAuth server did not confirm a short while ago
	closed  bool
	running sync.WaitGroup // Add under mu while not closed
}

// NewPortals returns the access of one application to its portals. It does no I/O.
func NewPortals(cfg Config, store Store, opts ...Option) (*Portals, error) {
	if store == nil {
		return nil, errors.New("oauth: NewPortals: the store is nil; NewMemoryStore makes one")
	}
	c := config{http: &http.Client{}, log: slog.New(slog.DiscardHandler)}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&c); err != nil {
			return nil, err
		}
	}
	server, err := c.newServer(cfg)
	if err != nil {
		return nil, err
	}
	return &Portals{
		store:   store,
		server:  server,
		log:     c.log,
		slots:   make(chan struct{}, maxChecks),
		unsaved: make(map[Key]*record),
		held:    make(map[Key]*refusal),
		detours: make(map[Key]detour),
	}, nil
}

// Format prints no secret, whatever the verb.
func (p *Portals) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.Portals")) }

// ClientID returns the ID of the application.
func (p *Portals) ClientID() string { return p.server.id }

// appKey is the key of the application's own token for a portal.
func (p *Portals) appKey(memberID string) Key { return Key{ClientID: p.server.id, MemberID: memberID} }

// userKey is the key of a user's token for a portal.
func (p *Portals) userKey(memberID string, userID int64) Key {
	return Key{ClientID: p.server.id, MemberID: memberID, UserID: userID}
}

// Installation returns what is stored of a portal, or [ErrNotFound].
func (p *Portals) Installation(ctx context.Context, memberID string) (Installation, error) {
	r, err := p.load(ctx, p.appKey(memberID))
	return r.in.clone(), err
}

// ApplicationTokens returns the tokens that authenticate a portal's events: the current one and, after a rotation, the one
// before. It returns nothing, and no error, for a portal that is not known.
func (p *Portals) ApplicationTokens(ctx context.Context, memberID string) ([]event.Secret, error) {
	in, err := p.Installation(ctx, memberID)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var tokens []event.Secret
	for _, t := range []event.Secret{in.ApplicationToken, in.PreviousApplicationToken} {
		if t != "" {
			tokens = append(tokens, t)
		}
	}
	return tokens, nil
}

// Shutdown waits for renewals and installations under way, and writes the tokens that the store could not take so far. It
// returns the context's error where it ends before, and an [ErrStore] where tokens stay unwritten: those portals will have
// to be authorised again. Call it after everything that uses p has stopped; what comes later and needs a renewal gets
// [ErrShutdown].
func (p *Portals) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	idle := make(chan struct{})
	go func() { // ends when the flights end, which have a time limit of their own
		p.running.Wait()
		close(idle)
	}()
	select {
	case <-ctx.Done():
		return fmt.Errorf("oauth: shutdown: %w", ctx.Err())
	case <-idle:
	}
	p.mu.Lock()
	left := maps.Clone(p.unsaved)
	p.mu.Unlock()
	for key, r := range left {
		if ctx.Err() != nil {
			break
		}
		_, _ = p.write(ctx, key, *r, writeTries) // what fails stays in unsaved, and is logged
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.unsaved); n > 0 {
		return &Error{Op: opShutdown, Kind: ErrStore, Detail: fmt.Sprintf("the tokens of %d portals are lost", n)}
	}
	return nil
}

// wait pauses, unless the context ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
