package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24events/b24events/event"
)

// authCodeURL returns the address on a portal where its user allows the application to act for
// them.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (p *Portals) authCodeURL(portal address, state string) string {
	portal.path = "/oauth/authorize/"
	cfg := oauth2.Config{ClientID: p.server.id, Endpoint: oauth2.Endpoint{AuthURL: portal.String()}}
	return cfg.AuthCodeURL(state)
}

// Exchange trades an authorization code for tokens and stores them as the application's own, if the
// user is one whom [WithInstallPolicy] allows. [RedirectHandler] calls it, after it has checked the
// state.
//
// A code brings no application token, so events of a portal that is known by a code alone are
// refused until an install event or page brought it. Exchange returns [ErrReauthorize] when the
// code is not good (any more), [ErrRedirect] when it is another portal's than the one asked,
// [ErrUnverified] when the policy refuses its user, [ErrHostNotAllowed], [ErrCredentials],
// [ErrPayment], [ErrTemporary] or [ErrStore].
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (p *Portals) Exchange(ctx context.Context, code Code) (Installation, error) {
	return p.redeem(ctx, "code", code, p.exchanged)
}

// redeem trades a code for tokens and lets keep store them. Both happen once for all callers with
// that code.
func (p *Portals) redeem(
	ctx context.Context, flight string, code Code, keep func(context.Context, answer) (Installation, error),
) (Installation, error) {
	domain := code.ServerDomain
	if domain == "" {
		domain = officialHost
	}
	at, err := p.server.hosts.server(p.server.hosts.atHost(domain))
	if err != nil {
		return Installation{}, err
	}
	sum := sha256.Sum256([]byte(at.String() + "\x00" + code.Domain + "\x00" + string(code.Code)))
	return p.flights.do(ctx, flight+" "+hex.EncodeToString(sum[:]), opExchange, func(ctx context.Context) (Installation, error) {
		// Which portal it is, only the answer tells: the store shows that it can write one that it
		// does not know.
		release, err := p.prepare(ctx, opExchange, p.appKey("exchange"))
		if err != nil {
			return Installation{}, err
		}
		a, err := p.server.redeem(ctx, at, code.Code)
		release()
		if err != nil {
			return Installation{}, err
		}
		if a.serverEndpoint == "" {
			a.serverEndpoint = at.String()
		}
		if !validMemberID(a.memberID) || a.clientEndpoint == "" {
			return Installation{}, &Error{Op: opExchange, Kind: ErrTemporary, Detail: "the answer names no portal, or none that is https"}
		}
		if code.Domain != "" && !p.isAt(a.clientEndpoint, code.Domain) {
			return Installation{}, &Error{Op: opExchange, Kind: ErrRedirect, Detail: "it is the code of another portal than the one that was asked"}
		}
		return keep(ctx, a)
	})
}

// isAt reports whether an address is on a host.
func (p *Portals) isAt(endpoint, host string) bool {
	at, err := p.server.hosts.portal(endpoint)
	if err != nil {
		return false
	}
	asked, err := p.server.hosts.portal(p.server.hosts.atHost(strings.ToLower(host)))
	return err == nil && at.authority() == asked.authority()
}

// exchanged stores what a code brought as the application's own, when the policy allows its user.
func (p *Portals) exchanged(ctx context.Context, a answer) (Installation, error) {
	claim := event.Auth{MemberID: a.memberID}
	_, err := p.load(ctx, p.appKey(a.memberID))
	known := !errors.Is(err, ErrNotFound) // also when the store cannot tell: the code is spent
	if err := p.allow(ctx, a, claim, known); err != nil {
		return Installation{}, err
	}
	return p.keep(ctx, p.appKey(a.memberID), a, claim, time.Time{})
}
