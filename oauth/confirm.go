package oauth

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/b24events/b24events/event"
)

// claimCheck is a claim to be confirmed, with what is stored for its portal.
type claimCheck struct {
	op     string
	claim  event.Auth
	server address // the OAuth server to ask
	stored Installation
	known  bool // the portal is known; stored is its installation
}

// newClaimCheck finds the OAuth server to ask about a claim.
func (p *Portals) newClaimCheck(op string, claim event.Auth, stored Installation, known bool) (claimCheck, error) {
	server, err := p.claimedServer(claim, stored)
	if err != nil {
		return claimCheck{}, &Error{Op: op, Kind: ErrUnverified, Err: err}
	}
	return claimCheck{op: op, claim: claim, server: server, stored: stored, known: known}, nil
}

// claimedServer returns the OAuth server to ask. It also checks the portal's address, though it
// does not use it: a claim with a malformed one does not come from Bitrix24.
func (p *Portals) claimedServer(claim event.Auth, stored Installation) (address, error) {
	portal := claim.ClientEndpoint
	if portal == "" && claim.Domain != "" {
		portal = p.client.hosts.restURL(claim.Domain)
	}
	if portal != "" {
		if _, err := p.client.hosts.checkPortal(portal); err != nil {
			return address{}, err
		}
	}
	return p.client.hosts.checkServer(cmp.Or(claim.ServerEndpoint, stored.ServerEndpoint, officialEndpoint))
}

// confirmedClaim is a claim that the OAuth server has confirmed.
type confirmedClaim struct {
	tokenInfo

	traded  bool   // the refresh token of the claim was traded for a new pair
	release func() // frees what the store has reserved for the pair
}

// confirm asks the OAuth server whose the tokens of a claim are. If the sender does not know an
// application token of the stored installation, it asks about the access token first: that costs no
// credential and no client secret. Then it trades the refresh token. That works only with the
// application's own secret, and gives the pair to be stored. The caller calls release.
func (p *Portals) confirm(ctx context.Context, c claimCheck) (*confirmedClaim, error) {
	if info, ok := p.trades.take(c.claim.RefreshToken); ok {
		return p.confirmedBy(info, c, true)
	}
	token := cmp.Or(c.claim.RefreshToken, c.claim.AccessToken)
	if p.admission.isRefused(token) {
		return nil, &Error{Op: c.op, Kind: ErrUnverified, Code: "invalid_token", Detail: "its tokens were refused a short while ago"}
	}
	knownSender := c.known && oneOf(c.stored.applicationTokens(p.window), c.claim.ApplicationToken)
	senderPortal := ""
	if knownSender {
		senderPortal = c.claim.MemberID
	}
	release, err := p.admission.acquire(ctx, c.op, senderPortal)
	if err != nil {
		return nil, err
	}
	defer release()
	result, err := p.requestConfirmation(ctx, c, knownSender)
	var e *Error
	if errors.As(err, &e) && (e.refusesToken() || e.Kind == ErrUnverified) {
		p.admission.refuse(token)
	}
	return result, err
}

// requestConfirmation sends the requests of confirm.
func (p *Portals) requestConfirmation(ctx context.Context, c claimCheck, knownSender bool) (*confirmedClaim, error) {
	if c.claim.RefreshToken == "" {
		info, err := p.client.identify(ctx, c.server, c.claim.AccessToken)
		if err != nil {
			return nil, err
		}
		return p.confirmedBy(info, c, false)
	}
	source := c.claim.MemberID
	if !knownSender {
		var err error
		if source, err = p.identifySender(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := p.admission.waitToTrade(ctx, c.op, source); err != nil {
		return nil, err
	}
	release, err := p.prepareStore(ctx, c.op, p.appKey(c.claim.MemberID))
	if err != nil {
		return nil, err
	}
	info, err := p.client.trade(ctx, c.server, refreshToken(c.claim.RefreshToken))
	if err != nil {
		release()
		return nil, err
	}
	result, err := p.confirmedBy(info, c, true)
	if err != nil {
		release()
		return nil, err
	}
	result.release = release
	return result, nil
}

// identifySender asks about the access token of an unknown sender. It returns the portal that the
// OAuth server names for the token, by member ID or address. It returns an empty one if the token
// has expired, or if the server does not say whose a token is.
func (p *Portals) identifySender(ctx context.Context, c claimCheck) (source string, err error) {
	if c.claim.AccessToken == "" {
		return "", nil
	}
	info, err := p.client.identify(ctx, c.server, c.claim.AccessToken)
	var e *Error
	switch {
	case errors.As(err, &e) && (e.Code == "expired_token" || (responded(e) && !e.refusesToken())):
		return "", nil // an event that comes late, or a server that does not say whose a token is
	case err != nil:
		return "", err
	case info.clientID != "" && info.clientID != p.client.id:
		return "", &Error{Op: opIdentify, Kind: ErrUnverified, Detail: "its tokens are another application's"}
	case info.memberID != "" && info.memberID != c.claim.MemberID:
		return "", &Error{Op: opIdentify, Kind: ErrUnverified, Detail: "its tokens are another portal's"}
	}
	return cmp.Or(info.memberID, info.clientEndpoint, unnamedSource), nil
}

// responded reports whether an OAuth server responded, and not with an error of its own.
func responded(e *Error) bool {
	return e.Status != 0 && e.Status < http.StatusInternalServerError && e.Status != http.StatusTooManyRequests
}

// confirmedBy compares a claim with what the OAuth server says about its tokens.
func (p *Portals) confirmedBy(info tokenInfo, c claimCheck, traded bool) (*confirmedClaim, error) {
	if reason := p.mismatch(info, c, traded); reason != "" {
		return nil, &Error{Op: opInstall, Kind: ErrUnverified, Detail: reason}
	}
	info.serverEndpoint = cmp.Or(info.serverEndpoint, c.server.String())
	if info.clientEndpoint == "" && c.known {
		info.clientEndpoint = c.stored.ClientEndpoint
	}
	if info.clientEndpoint == "" {
		return nil, &Error{
			Op: opInstall, Kind: ErrUnverified,
			Detail: "the OAuth server names no usable address of the portal; is it https?",
		}
	}
	return &confirmedClaim{tokenInfo: info, traded: traded, release: func() {}}, nil
}

// detailNoPortal is said of an access token of the application for which nobody names a portal. Its
// portal can be asked.
const detailNoPortal = "the OAuth server names no portal for the token"

// mismatch returns why tokens are not those of the portal and the application of a claim, or an
// empty text if they are.
func (p *Portals) mismatch(info tokenInfo, c claimCheck, traded bool) string {
	switch {
	case info.clientID != "" && info.clientID != p.client.id:
		return "its tokens are another application's"
	case !traded && info.clientID == "" && !oneOf(c.stored.applicationTokens(p.window), c.claim.ApplicationToken):
		// A token of any application on the portal would pass.
		return "the OAuth server does not say whose tokens they are"
	case info.memberID != "" && info.memberID != c.claim.MemberID:
		return "its tokens are another portal's"
	case info.memberID == "" && (traded || !c.known || (info.clientEndpoint != "" && info.clientEndpoint != c.stored.ClientEndpoint)):
		return "the OAuth server does not say which portal the tokens are for"
	case info.memberID == "" && info.clientEndpoint == "":
		return detailNoPortal
	}
	claimed, err := p.client.hosts.checkPortal(c.claim.ClientEndpoint)
	if !traded && err == nil && info.clientEndpoint != "" && info.clientEndpoint != claimed.String() {
		return "its tokens are for another address"
	}
	return ""
}
