package oauth

import (
	"cmp"
	"context"
	"errors"
	"log/slog"

	"github.com/b24events/b24events/event"
)

// VerifyPage confirms at the OAuth server whose access an application page brings (its auth block,
// see event.ParseRequest). Any user may open the page. VerifyPage returns that user's access, with
// MemberID, UserID and ClientEndpoint as the OAuth server has them. It stores nothing, and leaves
// the application's own tokens as they are. Everything else that a page posts, such as its
// placement, is only the browser's claim.
//
// The portal must be known. VerifyPage returns [ErrNotFound] if it is not; [ErrUnverified] if the
// tokens are not confirmed or have expired; or [ErrTemporary], [ErrBusy], [ErrCredentials] or
// [ErrStore] if it could not find out. It sends requests for each page, so keep a session if there
// are many pages.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/simple-way.html
func (p *Portals) VerifyPage(ctx context.Context, auth event.Auth) (Installation, error) {
	return p.confirmPage(ctx, opPage, auth, auth.AccessToken, p.checkPage)
}

// confirmPage lets check confirm the tokens of a page, once for all callers with the same page.
// needed is the token that check cannot do without.
func (p *Portals) confirmPage(
	ctx context.Context, op string, auth event.Auth, needed event.Secret, check func(context.Context, event.Auth) (Installation, error),
) (Installation, error) {
	if !validMemberID(auth.MemberID) || needed == "" {
		return Installation{}, &Error{Op: op, Kind: ErrUnverified, Detail: "it names no portal, or lacks the token that is needed"}
	}
	if !plausibleTokens(auth) {
		return Installation{}, &Error{Op: op, Kind: ErrUnverified, Detail: detailNoTokens}
	}
	in, err := p.flights.do(ctx, flightName(op, auth), op, func(ctx context.Context) (Installation, error) {
		return check(ctx, auth)
	})
	p.logRefusal(ctx, auth.MemberID, err)
	return in, err
}

// checkPage looks at the access token of a page, which spends nothing. It asks the portal for the
// user if the OAuth server does not name one.
func (p *Portals) checkPage(ctx context.Context, claim event.Auth) (Installation, error) {
	check, err := p.checkOfKnown(ctx, opPage, claim)
	if err != nil {
		return Installation{}, err
	}
	check.claim.RefreshToken = ""
	app := check.stored
	info := tokenInfo{access: claim.AccessToken, clientEndpoint: app.ClientEndpoint, memberID: claim.MemberID}
	if carriesStoredToken(app, check.claim) { // the stored token itself; the portal shows whether it works
		info.serverEndpoint, info.expires = app.ServerEndpoint, app.Expires
		info.userID, err = p.profileUser(ctx, info.clientEndpoint, info.access)
	} else {
		var proof *confirmedClaim
		proof, err = p.confirm(ctx, check)
		var e *Error
		switch {
		case err == nil:
			info = proof.tokenInfo
			proof.release()
		case errors.As(err, &e) && e.Detail == detailNoPortal:
			err = nil // the token works at the stored address, or nowhere
		}
		if err == nil && info.userID == 0 {
			info.userID, err = p.profileUser(ctx, info.clientEndpoint, info.access)
		}
	}
	var e *Error
	switch {
	case errors.As(err, &e) && e.refusesToken():
		return Installation{}, &Error{Op: opPage, Kind: ErrUnverified, Err: err}
	case err != nil:
		return Installation{}, err
	case info.userID == 0:
		return Installation{}, &Error{
			Op: opPage, Kind: ErrUnverified,
			Detail: "neither the OAuth server nor the portal names the user of the token",
		}
	}
	info.refresh = claim.RefreshToken
	info.serverEndpoint = cmp.Or(info.serverEndpoint, check.server.String())
	in := Installation{}.installed(info, event.Auth{MemberID: claim.MemberID, Scope: claim.Scope, Status: claim.Status})
	return in, nil
}

// checkOfKnown returns the check of a page's claim. The portal must be known.
func (p *Portals) checkOfKnown(ctx context.Context, op string, claim event.Auth) (claimCheck, error) {
	r, err := p.load(ctx, p.appKey(claim.MemberID))
	if err != nil {
		return claimCheck{}, err
	}
	return p.newClaimCheck(op, claim, r.in, true)
}

func (p *Portals) logRefusal(ctx context.Context, memberID string, err error) {
	if errors.Is(err, ErrUnverified) {
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 page refused", slog.String(keyMemberID, memberID), slog.String(keyError, errorText(err)))
	}
}
