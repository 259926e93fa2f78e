package oauth

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/b24events/b24events/event"
)

// Anyone can post an installation or a page, and each costs requests to the OAuth server. These
// limits keep unknown senders from using up what genuine ones need.
const (
	// maxKnownChecks and maxUnknownChecks are how many claims are checked at a time: of senders
	// that know the application token of a stored portal, and of everybody else.
	maxKnownChecks   = 16
	maxUnknownChecks = 64
	// maxPortalChecks is how many of the slots of known senders one portal may use. An employee can
	// send any number of claims with the portal's application token; the rest of them wait among
	// those of unknown senders.
	maxPortalChecks = 4
	// maxWait is how long a claim waits for a slot.
	maxWait = 5 * time.Second
	// A claim's refresh token is sent with the client secret only at these rates, in requests a
	// second. Each portal has a limit, for claims whose application token or access token is that
	// portal's. All live access tokens for which nobody names the portal share one. All other claims
	// share another.
	identifiedRate, identifiedBurst     = 1, 5
	unidentifiedRate, unidentifiedBurst = 1, 3
	// maxLimiters is how many portals a rate is kept for.
	maxLimiters = 10_000
	// rememberRefused is how long the tokens of a refused claim are refused again without a
	// request.
	rememberRefused = time.Minute
	maxRefused      = 20_000
	// maxToken is far longer than any known token.
	maxToken = 512
)

// admission decides which claims may cost a request. The zero admission is not usable.
type admission struct {
	known, unknown chan struct{} // slots of known and of unknown senders
	unidentified   *rate.Limiter

	mu         sync.Mutex
	tokenLocks map[[sha256.Size]byte]*tokenLock
	checks     map[string]int           // slots of known senders in use, by member ID
	identified map[string]*rate.Limiter // by the source that waitToTrade gets
	refused    map[[sha256.Size]byte]time.Time
}

func newAdmission() *admission {
	return &admission{
		known:        make(chan struct{}, maxKnownChecks),
		unknown:      make(chan struct{}, maxUnknownChecks),
		unidentified: rate.NewLimiter(unidentifiedRate, unidentifiedBurst),
		tokenLocks:   make(map[[sha256.Size]byte]*tokenLock),
		checks:       make(map[string]int),
		identified:   make(map[string]*rate.Limiter),
		refused:      make(map[[sha256.Size]byte]time.Time),
	}
}

// errBusy is the error of a claim that got no slot in time.
func errBusy(op string) error {
	return &Error{Op: op, Kind: ErrBusy}
}

// acquire waits for a slot among those of the known senders of a portal, or of unknown senders if
// memberID is empty.
func (a *admission) acquire(ctx context.Context, op, memberID string) (release func(), err error) {
	slots, releasePortal := a.unknown, func() {}
	if memberID != "" && a.acquirePortal(memberID) {
		slots, releasePortal = a.known, func() { a.releasePortal(memberID) }
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case slots <- struct{}{}:
		return func() {
			<-slots
			releasePortal()
		}, nil
	case <-ctx.Done():
		releasePortal()
		return nil, errBusy(op)
	}
}

// tokenLock is the lock of a refresh token whose claims are being checked.
type tokenLock struct {
	lock    chan struct{} // holds one value while locked
	waiting int           // claims that hold the lock or wait for it
}

// lockToken waits until no other claim with the same refresh token is being checked. An
// installation may arrive as page and as event at the same time; the second has to wait for the
// outcome of the first.
func (a *admission) lockToken(ctx context.Context, op string, refresh event.Secret) (unlock func(), err error) {
	if refresh == "" {
		return func() {}, nil
	}
	sum := sha256.Sum256([]byte(refresh))
	a.mu.Lock()
	l := a.tokenLocks[sum]
	if l == nil {
		l = &tokenLock{lock: make(chan struct{}, 1)}
		a.tokenLocks[sum] = l
	}
	l.waiting++
	a.mu.Unlock()
	leave := func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if l.waiting--; l.waiting == 0 {
			delete(a.tokenLocks, sum)
		}
	}
	select {
	case l.lock <- struct{}{}:
		return func() {
			<-l.lock
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, errBusy(op)
	}
}

// acquirePortal takes one of a portal's slots of known senders, and reports whether one was free.
func (a *admission) acquirePortal(memberID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checks[memberID] >= maxPortalChecks {
		return false
	}
	a.checks[memberID]++
	return true
}

func (a *admission) releasePortal(memberID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checks[memberID]--; a.checks[memberID] <= 0 {
		delete(a.checks, memberID)
	}
}

// waitToTrade waits until a claim's refresh token may be sent with the client secret. source is the
// portal that the claim is known to come from, by its member ID or address, or unnamedSource. It is
// empty if nothing is known.
func (a *admission) waitToTrade(ctx context.Context, op, source string) error {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	limiter := a.unidentified
	if source != "" {
		limiter = a.limiterOf(source)
	}
	if limiter.Wait(ctx) != nil {
		return errBusy(op)
	}
	return nil
}

// unnamedSource is the source of a live access token for which the OAuth server names no portal.
const unnamedSource = "?"

func (a *admission) limiterOf(source string) *rate.Limiter {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.identified[source]
	if l == nil {
		if len(a.identified) >= maxLimiters {
			clear(a.identified)
		}
		l = rate.NewLimiter(identifiedRate, identifiedBurst)
		a.identified[source] = l
	}
	return l
}

// isRefused reports whether a token was refused a short while ago.
func (a *admission) isRefused(token event.Secret) bool {
	if token == "" {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	until, ok := a.refused[sha256.Sum256([]byte(token))]
	return ok && time.Now().Before(until)
}

// refuse remembers that a token was refused.
func (a *admission) refuse(token event.Secret) {
	if token == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if len(a.refused) >= maxRefused {
		for sum, until := range a.refused {
			if !now.Before(until) {
				delete(a.refused, sum)
			}
		}
		if len(a.refused) >= maxRefused {
			clear(a.refused)
		}
	}
	a.refused[sha256.Sum256([]byte(token))] = now.Add(rememberRefused)
}

// plausibleTokens reports whether the tokens of a claim look like tokens at all.
func plausibleTokens(claim event.Auth) bool {
	for _, token := range []event.Secret{claim.AccessToken, claim.RefreshToken, claim.ApplicationToken} {
		if len(token) > maxToken || strings.Trim(string(token), tokenBytes) != "" {
			return false
		}
	}
	return true
}

// tokenBytes are the bytes that a token may have. Those of Bitrix24 have hexadecimal digits and a
// few others.
const tokenBytes = pathBytes + "+/=|:"
