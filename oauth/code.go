package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"golang.org/x/oauth2"

	"github.com/b24events/b24events/event"
)

// AuthCodeURL returns the address on a portal where its user allows the application to act for them. The portal then
// redirects to the address in the application's settings with a code for [Portals.Exchange], the state, and server_domain.
// The state must be hard to guess and belong to the user's session, or anyone could make that user install a portal of
// theirs; an empty one is refused.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (p *Portals) AuthCodeURL(domain, state string) (string, error) {
	if state == "" {
		return "", errors.New("oauth: AuthCodeURL: the state is empty; make a random one and keep it in the session")
	}
	at, err := p.server.hosts.portal(p.server.hosts.atHost(strings.ToLower(domain)))
	if err != nil {
		return "", err
	}
	at.path = "/oauth/authorize/"
	cfg := oauth2.Config{ClientID: p.server.id, Endpoint: oauth2.Endpoint{AuthURL: at.String()}}
	return cfg.AuthCodeURL(state), nil
}

// Exchange trades an authorization code for tokens and stores them as the application's own. The code lives for 30 seconds.
// serverDomain is the redirect's server_domain parameter, which is held against the allow list; empty means
// oauth.bitrix.info. Check the state first.
//
// A code brings no application token, so events of a portal that is known by a code alone are refused until an install event
// or page brought it. Exchange returns [ErrReauthorize] where the code is not good (any more), [ErrHostNotAllowed],
// [ErrCredentials], [ErrPayment], [ErrTemporary] or [ErrStore].
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (p *Portals) Exchange(ctx context.Context, code, serverDomain string) (Installation, error) {
	return p.redeem(ctx, "code", code, serverDomain, p.exchanged)
}

// redeem trades a code for tokens and lets keep store them. Both happen once for all callers with that code.
func (p *Portals) redeem(
	ctx context.Context, flight, code, serverDomain string, keep func(context.Context, answer) (Installation, error),
) (Installation, error) {
	if serverDomain == "" {
		serverDomain = officialHost
	}
	at, err := p.server.hosts.server(p.server.hosts.atHost(serverDomain))
	if err != nil {
		return Installation{}, err
	}
	sum := sha256.Sum256([]byte(at.String() + "\x00" + code))
	return p.fly(ctx, &p.arrival, flight+" "+hex.EncodeToString(sum[:]), opExchange, func(ctx context.Context) (Installation, error) {
		a, err := p.server.redeem(ctx, at, event.Secret(code))
		if err != nil {
			return Installation{}, err
		}
		if a.serverEndpoint == "" {
			a.serverEndpoint = at.String()
		}
		if !validMemberID(a.memberID) || a.clientEndpoint == "" {
			return Installation{}, &Error{Op: opExchange, Kind: ErrTemporary, Detail: "the answer names no portal, or none that is https"}
		}
		return keep(ctx, a)
	})
}

// exchanged stores what a code brought as the application's own.
func (p *Portals) exchanged(ctx context.Context, a answer) (Installation, error) {
	key := p.appKey(a.memberID)
	stored, err := p.load(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		// The code is used up, so the tokens must not be lost with the store: they are written as a new installation, and
		// rebased.
		stored = record{}
	}
	return p.keep(ctx, key, stored, a, event.Auth{MemberID: a.memberID})
}
