package oauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// Code is an authorization code, which a portal gives the browser of a user who allows the
// application to act for them. It lives for 30 seconds and works once.
type Code struct {
	Code event.Secret
	// ServerDomain is the redirect's parameter server_domain. It must be on the allow list. Empty
	// means oauth.bitrix.info.
	ServerDomain string
	// Domain is the host of the portal that was asked. A code of another portal is refused. Empty
	// accepts every portal, which is only right if no browser was involved.
	Domain string
}

// Exchange trades an authorization code for tokens and stores them as the application's own, if
// [WithInstallPolicy] allows the user. [RedirectHandler] calls it after it has checked the state.
//
// A code brings no application token. So events of a portal that is known by a code alone are
// refused until an install event or page brings one. Exchange returns [ErrReauthorize] if the code
// does not work (any more), [ErrRedirect] if it is of another portal than the one asked,
// [ErrUnverified] if the policy refuses its user, [ErrHostNotAllowed], [ErrCredentials],
// [ErrPayment], [ErrTemporary] or [ErrStore].
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (p *Portals) Exchange(ctx context.Context, code Code) (Installation, error) {
	return p.redeem(ctx, "code", code, p.storeExchanged)
}

// redeem trades a code for tokens and calls store with them. Both happen once for all callers with
// the same code.
func (p *Portals) redeem(
	ctx context.Context, flight string, code Code, store func(context.Context, tokenInfo) (Installation, error),
) (Installation, error) {
	at, err := p.client.hosts.checkServer(p.client.hosts.restURL(cmp.Or(code.ServerDomain, officialHost)))
	if err != nil {
		return Installation{}, err
	}
	sum := sha256.Sum256([]byte(at.String() + "\x00" + code.Domain + "\x00" + string(code.Code)))
	return p.flights.do(ctx, flight+" "+hex.EncodeToString(sum[:]), opExchange, func(ctx context.Context) (Installation, error) {
		// Only the response names the portal. So the store shows that it can write one that it does
		// not know.
		release, err := p.prepareStore(ctx, opExchange, p.appKey("exchange"))
		if err != nil {
			return Installation{}, err
		}
		info, err := p.client.trade(ctx, at, authorizationCode(code.Code))
		release()
		if err != nil {
			return Installation{}, err
		}
		info.serverEndpoint = cmp.Or(info.serverEndpoint, at.String())
		if !validMemberID(info.memberID) || info.clientEndpoint == "" {
			return Installation{}, &Error{Op: opExchange, Kind: ErrTemporary, Detail: "the response names no portal, or none that is https"}
		}
		if code.Domain != "" && !p.isAt(info.clientEndpoint, code.Domain) {
			return Installation{}, &Error{Op: opExchange, Kind: ErrRedirect, Detail: "it is the code of another portal than the one that was asked"}
		}
		return store(ctx, info)
	})
}

// isAt reports whether an address is on a host.
func (p *Portals) isAt(endpoint, host string) bool {
	at, err := p.client.hosts.checkPortal(endpoint)
	if err != nil {
		return false
	}
	asked, err := p.client.hosts.checkPortal(p.client.hosts.restURL(strings.ToLower(host)))
	return err == nil && at.authority() == asked.authority()
}

// storeExchanged stores what a code was traded for as the application's own, if the policy allows
// its user.
func (p *Portals) storeExchanged(ctx context.Context, info tokenInfo) (Installation, error) {
	claim := event.Auth{MemberID: info.memberID}
	_, err := p.load(ctx, p.appKey(info.memberID))
	known := !errors.Is(err, ErrNotFound) // also if the store fails, because the code is spent
	if err := p.askPolicy(ctx, info, claim, known); err != nil {
		return Installation{}, err
	}
	return p.storeConfirmed(ctx, p.appKey(info.memberID), info, claim, time.Time{})
}
