package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/b24events/b24events/event"
)

// VerifyPage confirms at the OAuth server whose access an application page brings (its auth block,
// see event.ParseRequest). The page may be opened by any user. What it returns is that user's
// access, with MemberID, UserID and ClientEndpoint as the OAuth server has them; nothing is stored,
// and the application's own tokens stay as they are. Everything else that a page posts, such as its
// placement, is only what the browser says.
//
// The portal must be known. VerifyPage returns [ErrNotFound] where it is not; [ErrUnverified] where
// the tokens are not confirmed or have expired; or [ErrTemporary], [ErrBusy], [ErrCredentials] or
// [ErrStore] when it could not tell. It asks once for each page: keep a session if pages are many.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/simple-way.html
func (p *Portals) VerifyPage(ctx context.Context, auth event.Auth) (Installation, error) {
	if !validMemberID(auth.MemberID) || auth.AccessToken == "" {
		return Installation{}, &Error{Op: opPage, Kind: ErrUnverified, Detail: "it names no portal or carries no token"}
	}
	if !plausibleTokens(auth) {
		return Installation{}, &Error{Op: opPage, Kind: ErrUnverified, Detail: "what it carries are no tokens"}
	}
	in, err := p.flights.do(ctx, flightOf(opPage, auth), opPage, func(ctx context.Context) (Installation, error) {
		return p.checkPage(ctx, auth)
	})
	p.logRefusal(ctx, auth.MemberID, err)
	return in, err
}

// checkPage looks at the access token of a page, which spends nothing, and asks the portal for its
// user when the OAuth server does not say.
func (p *Portals) checkPage(ctx context.Context, claim event.Auth) (Installation, error) {
	app, at, err := p.claimOfKnown(ctx, opPage, claim)
	if err != nil {
		return Installation{}, err
	}
	looked := withoutRefresh(claim)
	a := answer{access: claim.AccessToken, clientEndpoint: app.ClientEndpoint, memberID: claim.MemberID}
	if owns(app, looked) { // the stored token itself; the portal tells whether it works
		a.serverEndpoint, a.expires = app.ServerEndpoint, app.Expires
		a.userID, err = p.profile(ctx, a.clientEndpoint, a.access)
	} else {
		var proof *proven
		proof, err = p.prove(ctx, opPage, at, looked, app, true)
		var e *Error
		switch {
		case err == nil:
			a = proof.answer
			proof.release()
		case errors.As(err, &e) && e.Detail == detailNoPortal:
			err = nil // the token works at the stored address, or nowhere
		}
		if err == nil && a.userID == 0 {
			a.userID, err = p.profile(ctx, a.clientEndpoint, a.access)
		}
	}
	var e *Error
	switch {
	case errors.As(err, &e) && e.refusesToken():
		return Installation{}, &Error{Op: opPage, Kind: ErrUnverified, Err: err}
	case err != nil:
		return Installation{}, err
	case a.userID == 0:
		return Installation{}, &Error{Op: opPage, Kind: ErrUnverified, Detail: "nobody says which user the token is of"}
	}
	a.refresh = claim.RefreshToken
	if a.serverEndpoint == "" {
		a.serverEndpoint = at.String()
	}
	in := Installation{}.installed(a, event.Auth{MemberID: claim.MemberID, Scope: claim.Scope, Status: claim.Status})
	return in, nil
}

// claimOfKnown returns the installation of a portal whose page makes a claim, and the OAuth server
// to ask.
func (p *Portals) claimOfKnown(ctx context.Context, op string, claim event.Auth) (Installation, address, error) {
	r, err := p.load(ctx, p.appKey(claim.MemberID))
	if err != nil {
		return Installation{}, address{}, err
	}
	at, err := p.claimedServer(claim, r.in)
	if err != nil {
		return Installation{}, address{}, &Error{Op: op, Kind: ErrUnverified, Err: err}
	}
	return r.in, at, nil
}

func (p *Portals) logRefusal(ctx context.Context, memberID string, err error) {
	if errors.Is(err, ErrUnverified) {
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 page refused", slog.String(keyMemberID, memberID), slog.String(keyError, errorText(err)))
	}
}

// maxPage is far more than a page's POST takes; placements may add options of their own.
const maxPage = 256 << 10

// PageHandler serves a page of the application, which the portal opens by a POST from the user's
// browser. What it carries is confirmed by verify; then serve answers, with the confirmed access
// and with the request as it was posted, whose Data has PLACEMENT and PLACEMENT_OPTIONS. There are
// three to choose from:
//
//	oauth.PageHandler(portals.VerifyPage, serve) // an ordinary page: who is it?
//	oauth.PageHandler(portals.KeepUser, serve)   // the same, and that user's tokens are stored
//	oauth.PageHandler(portals.Install, serve)    // the installation page: the tokens become the application's own
//
// Where serve is not called, the answer is 405 for other methods than POST, 413, 415 or 400 for a
// body that is no page's, 403 where verify refuses it and 503 where it could not tell; nothing of
// the request is repeated in it. Pages are not to be kept by caches, since their body is made for
// one user.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/simple-way.html
func PageHandler(
	verify func(context.Context, event.Auth) (Installation, error),
	serve func(w http.ResponseWriter, r *http.Request, page *event.Delivery, access Installation),
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			plainStatus(w, http.StatusMethodNotAllowed)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxPage)
		page, err := event.ParseRequest(r)
		if err == nil && page.Kind != event.KindFrame {
			err = event.ErrMalformed
		}
		if err != nil {
			plainStatus(w, parseStatus(err))
			return
		}
		in, err := verify(r.Context(), page.Auth)
		switch {
		case err == nil:
			w.Header().Set("Cache-Control", "no-store")
			serve(w, r, page, in)
		case errors.Is(err, event.ErrForbidden), errors.Is(err, ErrNotFound):
			plainStatus(w, http.StatusForbidden)
		default:
			plainStatus(w, http.StatusServiceUnavailable)
		}
	})
}

func parseStatus(err error) int {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong), errors.Is(err, event.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, event.ErrContentType):
		return http.StatusUnsupportedMediaType
	default:
		return http.StatusBadRequest
	}
}

// plainStatus answers with a status and its own text.
func plainStatus(w http.ResponseWriter, status int) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}

func withoutRefresh(claim event.Auth) event.Auth {
	claim.RefreshToken = ""
	return claim
}
