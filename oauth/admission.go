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
// bounds keep strangers from using up what friends need.
const (
	// maxKnownChecks and maxStrangerChecks are how many claims are checked at a time: of senders
	// that know the application token of a stored portal, and of everybody else.
	maxKnownChecks    = 16
	maxStrangerChecks = 64
	// maxPortalChecks is how many of the places of known senders those of one portal have: an
	// employee can send any number of claims with its application token. More of them wait among
	// the strangers.
	maxPortalChecks = 4
	// maxWait is how long a claim waits for its turn.
	maxWait = 5 * time.Second
	// A claim's refresh token is sent with the client secret only at these rates, a second: for
	// each portal, when the claim's application token or its access token is that portal's, for all
	// live access tokens of which nobody names the portal, and for all other claims together.
	identifiedRate, identifiedBurst = 1, 5
	blindRate, blindBurst           = 1, 3
	// maxLimiters bounds the portals for which a rate is kept.
	maxLimiters = 10_000
	// rememberRefused is how long the tokens of a refused claim are refused again without a
	// request.
	rememberRefused = time.Minute
	maxRefused      = 20_000
	// maxToken is far longer than any token that is known.
	maxToken = 512
)

// admission decides which claims may cost a request. The zero admission is not usable.
type admission struct {
	known, strangers chan struct{}
	blind            *rate.Limiter

	mu         sync.Mutex
	claims     map[[sha256.Size]byte]*claimed
	checks     map[string]int           // in places of known senders, by member ID
	identified map[string]*rate.Limiter // by what admission.trade gets
	refused    map[[sha256.Size]byte]time.Time
}

func newAdmission() *admission {
	return &admission{
		known:      make(chan struct{}, maxKnownChecks),
		strangers:  make(chan struct{}, maxStrangerChecks),
		blind:      rate.NewLimiter(blindRate, blindBurst),
		claims:     make(map[[sha256.Size]byte]*claimed),
		checks:     make(map[string]int),
		identified: make(map[string]*rate.Limiter),
		refused:    make(map[[sha256.Size]byte]time.Time),
	}
}

// errBusy is what a claim gets that did not have its turn in time.
func errBusy(op string) error {
	return &Error{Op: op, Kind: ErrBusy}
}

// enter waits for a place among the checks of known senders of a portal, or of strangers when
// memberID is empty.
func (a *admission) enter(ctx context.Context, op, memberID string) (leave func(), err error) {
	places, uncount := a.strangers, func() {}
	if memberID != "" && a.count(memberID) {
		places, uncount = a.known, func() { a.uncount(memberID) }
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case places <- struct{}{}:
		return func() {
			<-places
			uncount()
		}, nil
	case <-ctx.Done():
		uncount()
		return nil, errBusy(op)
	}
}

// claimed is a refresh token that claims carry which are being checked.
type claimed struct {
	turn   chan struct{} // holds one value while a claim is being checked
	claims int
}

// alone waits until no other claim with the same refresh token is being checked. An installation
// may arrive as page and as event at the same time: the second has to wait for what comes of the
// first.
func (a *admission) alone(ctx context.Context, op string, refresh event.Secret) (done func(), err error) {
	if refresh == "" {
		return func() {}, nil
	}
	sum := sha256.Sum256([]byte(refresh))
	a.mu.Lock()
	c := a.claims[sum]
	if c == nil {
		c = &claimed{turn: make(chan struct{}, 1)}
		a.claims[sum] = c
	}
	c.claims++
	a.mu.Unlock()
	leave := func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if c.claims--; c.claims == 0 {
			delete(a.claims, sum)
		}
	}
	select {
	case c.turn <- struct{}{}:
		return func() {
			<-c.turn
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, errBusy(op)
	}
}

// count takes one of a portal's places of known senders, and reports whether there was one.
func (a *admission) count(memberID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checks[memberID] >= maxPortalChecks {
		return false
	}
	a.checks[memberID]++
	return true
}

func (a *admission) uncount(memberID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checks[memberID]--; a.checks[memberID] <= 0 {
		delete(a.checks, memberID)
	}
}

// trade waits until a claim's refresh token may be sent with the client secret. source is the
// portal that the claim is known to come from, by its member ID or address, or unnamedSource; empty
// when nothing is known.
func (a *admission) trade(ctx context.Context, op, source string) error {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	limiter := a.blind
	if source != "" {
		limiter = a.limiterOf(source)
	}
	if limiter.Wait(ctx) != nil {
		return errBusy(op)
	}
	return nil
}

// unnamedSource is that of a live access token of which the OAuth server does not say what portal
// it is for.
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

// tokenBytes are the letters of tokens: those of Bitrix24 have hexadecimal digits and a few others.
const tokenBytes = pathBytes + "+/=|:"
