package eventtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// Lifetimes on the platform.
const (
	refreshLifetime = 180 * 24 * time.Hour
	codeLifetime    = 30 * time.Second
)

// maxEventChain is the number of events in a chain, in which each event is caused by a call with
// the tokens of the one before. The tokens of an event carry the number that is left. At 0 events
// are dropped.
const maxEventChain = 7

// Grant is what an application knows about an installation: a pair of tokens of one user, and the
// addresses of the portal.
type Grant struct {
	AccessToken      event.Secret
	RefreshToken     event.Secret
	ApplicationToken event.Secret
	Expires          time.Time // of AccessToken, by the portal's clock, to the second
	Scope            []string
	MemberID         string
	Domain           string // of the portal
	ClientEndpoint   string
	ServerEndpoint   string
	Status           string
	UserID           int64
}

// Inner returns the grant as an auth block inside data. Events of bots of imbot.v2 have it in
// data.bot.auth, those of old bots in data.BOT[n], together with BOT_ID and BOT_CODE. It holds
// tokens.
func (g Grant) Inner() map[string]any {
	return map[string]any{
		"access_token": string(g.AccessToken), "refresh_token": string(g.RefreshToken),
		"expires": g.Expires.Unix(), "scope": strings.Join(g.Scope, ","), "status": g.Status,
		"domain": g.Domain, "member_id": g.MemberID, "user_id": g.UserID,
		"client_endpoint": g.ClientEndpoint, "server_endpoint": g.ServerEndpoint,
		"application_token": string(g.ApplicationToken),
	}
}

// tokenTable holds the live and expired tokens and codes of the portal. Portal.mu guards it.
type tokenTable struct {
	access  map[string]*accessToken
	refresh map[string]*refreshToken
	codes   map[string]*authCode

	// Tokens in the order in which they were issued: those that deliveries brought, and all others.
	// Events do not push out what an application stored.
	ofEvents, ofGrants []tokenPair
}

// tokenPair names the tokens that were issued together. refresh is empty if there is none.
type tokenPair struct{ access, refresh string }

// maxTokens is the number of pairs of either kind that stay when the oldest are deleted. It bounds
// the memory of a portal whose clock does not move, so that no token expires.
const maxTokens = 20_000

// remember notes tokens in one of the lists. It deletes the oldest ones when there are twice as
// many as may stay. Those that can no longer be refreshed go first, except the newest.
func (t *tokenTable) remember(list *[]tokenPair, g Grant) {
	pairs := append(*list, tokenPair{string(g.AccessToken), string(g.RefreshToken)})
	if len(pairs) >= 2*maxTokens {
		pairs = slices.DeleteFunc(pairs, func(p tokenPair) bool { return t.access[p.access] == nil && t.refresh[p.refresh] == nil })
		excess := len(pairs) - maxTokens
		for _, renewable := range []bool{false, true} {
			old := max(len(pairs)-maxTokens/2, 0)
			pairs = slices.DeleteFunc(pairs, func(p tokenPair) bool {
				if old--; old < 0 || excess <= 0 || (t.refresh[p.refresh] != nil) != renewable {
					return false
				}
				excess--
				delete(t.access, p.access)
				delete(t.refresh, p.refresh)
				return true
			})
		}
	}
	*list = pairs
}

type accessToken struct {
	app       *Application
	user      int64
	expires   time.Time
	chainLeft int
}

type refreshToken struct {
	app     *Application
	user    int64
	expires time.Time
}

type authCode struct {
	app     *Application
	user    int64
	expires time.Time
}

// issueLocked issues a pair of tokens of a user that an application stores.
func (p *Portal) issueLocked(a *Application, user int64) Grant {
	g := p.newTokensLocked(a, user, maxEventChain, true)
	p.tokens.remember(&p.tokens.ofGrants, g)
	return g
}

// issueForEventLocked issues tokens of a user for a delivery. chainLeft is the rest of the chain of
// events that the access token belongs to; see maxEventChain.
func (p *Portal) issueForEventLocked(a *Application, user int64, chainLeft int, withRefresh bool) Grant {
	g := p.newTokensLocked(a, user, chainLeft, withRefresh)
	p.tokens.remember(&p.tokens.ofEvents, g)
	return g
}

func (p *Portal) newTokensLocked(a *Application, user int64, chainLeft int, withRefresh bool) Grant {
	expires := p.nowLocked().Add(p.quirks.TokenLifetime).UTC().Truncate(time.Second)
	g := Grant{
		AccessToken:      event.Secret(randomText(70, hexDigits)),
		ApplicationToken: a.token,
		Expires:          expires,
		Scope:            slices.Clone(a.spec.Scope),
		MemberID:         p.cfg.memberID,
		Domain:           p.addresses.domain,
		ClientEndpoint:   p.baseURLLocked() + "/rest/",
		ServerEndpoint:   p.ServerEndpoint(),
		Status:           a.spec.Status,
		UserID:           user,
	}
	p.tokens.access[string(g.AccessToken)] = &accessToken{app: a, user: user, expires: expires, chainLeft: chainLeft}
	if withRefresh {
		g.RefreshToken = event.Secret(randomText(70, hexDigits))
		p.tokens.refresh[string(g.RefreshToken)] = &refreshToken{app: a, user: user, expires: p.nowLocked().Add(refreshLifetime)}
	}
	return g
}

// Grant issues a pair of tokens of a user, as an application has them after its installation or
// after the user opened it. The portal forgets the oldest of more than 20,000 pairs. It returns
// [ErrNotInstalled], or [ErrNotFound] for an unknown user.
func (a *Application) Grant(user int64) (Grant, error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := a.checkUsableLocked(user); err != nil {
		return Grant{}, err
	}
	return p.issueLocked(a, user), nil
}

// Code issues an authorization code of a user. It is valid once, for 30 seconds by the portal's
// clock. The errors are those of [Application.Grant].
func (a *Application) Code(user int64) (event.Secret, error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := a.checkUsableLocked(user); err != nil {
		return "", err
	}
	return event.Secret(p.newCodeLocked(a, user)), nil
}

// newCodeLocked issues an authorization code and deletes expired ones.
func (p *Portal) newCodeLocked(a *Application, user int64) string {
	code := randomText(70, hexDigits)
	maps.DeleteFunc(p.tokens.codes, func(_ string, c *authCode) bool { return !c.expires.After(p.nowLocked()) })
	p.tokens.codes[code] = &authCode{app: a, user: user, expires: p.nowLocked().Add(codeLifetime)}
	return code
}

// checkUsableLocked checks that the application can have tokens of a user. Portal.mu must be held.
func (a *Application) checkUsableLocked(user int64) error {
	if !a.registered {
		return ErrNotInstalled
	}
	if a.p.accounts.users[user] == nil {
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	}
	return nil
}

// RevokeTokens revokes all tokens and codes of the application, as if it had been removed and
// installed again: calls fail with invalid_token, refreshes with invalid_grant. [Application.Grant]
// issues new ones.
func (a *Application) RevokeTokens() {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropTokensLocked(func(app *Application, _ int64) bool { return app == a })
	p.signalChangeLocked()
}

// dropTokensLocked revokes the tokens and codes of the applications and users that match.
func (p *Portal) dropTokensLocked(dead func(a *Application, user int64) bool) {
	maps.DeleteFunc(p.tokens.access, func(_ string, t *accessToken) bool { return dead(t.app, t.user) })
	maps.DeleteFunc(p.tokens.refresh, func(_ string, t *refreshToken) bool { return dead(t.app, t.user) })
	maps.DeleteFunc(p.tokens.codes, func(_ string, c *authCode) bool { return dead(c.app, c.user) })
}

// ExpireAccessTokens makes all access tokens expire now. Refresh tokens stay valid.
func (p *Portal) ExpireAccessTokens() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.nowLocked()
	for _, t := range p.tokens.access {
		if t.expires.After(now) {
			t.expires = now
		}
	}
	p.signalChangeLocked()
}
