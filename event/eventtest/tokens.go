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

// maxEventChain is the number of links that a chain of events has left when it starts: each
// event-issued token carries it, and each event that such a token causes takes one off. At 0 events
// are dropped.
const maxEventChain = 7

// Grant is what an application knows about an installation: a pair of tokens of one user, and the
// addresses.
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

// Inner returns the grant as an auth block inside data: that of data.bot.auth in events of bots of
// imbot.v2 or, beside BOT_ID and BOT_CODE, of data.BOT[n] in those of old ones. It holds tokens.
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
	trimAt  int // number of access tokens at which expired ones are deleted
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

// issueLocked makes a pair of tokens. session is what is left of the chain of events that the access
// token belongs to.
func (p *Portal) issueLocked(a *Application, user int64, session int, withRefresh bool) Grant {
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
	p.trimTokensLocked()
	p.tokens.access[string(g.AccessToken)] = &accessToken{app: a, user: user, expires: expires, chainLeft: session}
	if withRefresh {
		g.RefreshToken = event.Secret(randomText(70, hexDigits))
		p.tokens.refresh[string(g.RefreshToken)] = &refreshToken{app: a, user: user, expires: p.nowLocked().Add(refreshLifetime)}
	}
	return g
}

// maxTokens is how many tokens are kept before those go that expired a day ago.
const maxTokens = 20_000

// trimTokensLocked keeps the tables of tokens from growing for ever: each delivery brings a token of its own.
func (p *Portal) trimTokensLocked() {
	if len(p.tokens.access) < p.tokens.trimAt || len(p.tokens.access) < maxTokens {
		return
	}
	limit := p.nowLocked().Add(-24 * time.Hour)
	maps.DeleteFunc(p.tokens.access, func(_ string, t *accessToken) bool { return t.expires.Before(limit) })
	maps.DeleteFunc(p.tokens.refresh, func(_ string, t *refreshToken) bool { return t.expires.Before(limit) })
	p.tokens.trimAt = 2 * len(p.tokens.access)
}

// Grant issues a pair of tokens of a user, as an application that was installed or opened earlier
// would hold. It returns [ErrNotInstalled] or, for a user that the portal does not have,
// [ErrNotFound].
func (a *Application) Grant(user int64) (Grant, error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := a.checkUsableLocked(user); err != nil {
		return Grant{}, err
	}
	return p.issueLocked(a, user, maxEventChain, true), nil
}

// Code issues an authorization code of a user. It lives 30 seconds of the portal's time and works
// once. The errors are those of [Application.Grant].
func (a *Application) Code(user int64) (event.Secret, error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := a.checkUsableLocked(user); err != nil {
		return "", err
	}
	return event.Secret(p.newCodeLocked(a, user)), nil
}

func (p *Portal) newCodeLocked(a *Application, user int64) string {
	code := randomText(70, hexDigits)
	maps.DeleteFunc(p.tokens.codes, func(_ string, c *authCode) bool { return !c.expires.After(p.nowLocked()) })
	p.tokens.codes[code] = &authCode{app: a, user: user, expires: p.nowLocked().Add(codeLifetime)}
	return code
}

func (a *Application) checkUsableLocked(user int64) error {
	if !a.registered {
		return ErrNotInstalled
	}
	if a.p.accounts.users[user] == nil {
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	}
	return nil
}

// RevokeTokens makes every token and code of the application dead, as when it was removed and
// installed again: calls are answered invalid_token, refreshes invalid_grant. [Application.Grant]
// issues new ones.
func (a *Application) RevokeTokens() {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropTokensLocked(func(app *Application, _ int64) bool { return app == a })
	p.signalChangeLocked()
}

// dropTokensLocked makes tokens and codes dead that are a certain application's and user's.
func (p *Portal) dropTokensLocked(dead func(a *Application, user int64) bool) {
	maps.DeleteFunc(p.tokens.access, func(_ string, t *accessToken) bool { return dead(t.app, t.user) })
	maps.DeleteFunc(p.tokens.refresh, func(_ string, t *refreshToken) bool { return dead(t.app, t.user) })
	maps.DeleteFunc(p.tokens.codes, func(_ string, c *authCode) bool { return dead(c.app, c.user) })
}

// ExpireAccessTokens lets every access token expire at once. Refresh tokens keep working.
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
