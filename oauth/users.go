package oauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/b24events/b24events/event"
)

// User is access to portals as one of their users, with that user's own tokens, which
// [Portals.KeepUser] or [Portals.ExchangeUser] stored. It is a rest.Credentials, and safe for
// concurrent use. It costs nothing, so make one whenever you need it.
type User struct {
	portals *Portals
	id      int64
}

// ClientID returns the ID of the application.
func (u *User) ClientID() string { return u.portals.ClientID() }

// Format prints the ID of the user and no token, whatever the verb.
func (u *User) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "oauth.User(%d)", u.id) }

// User returns access as the user with that ID. User IDs are unique only within a portal. The
// portal allows what that user may do.
func (p *Portals) User(id int64) *User { return &User{portals: p, id: id} }

// Access is [Portals.Access] with the user's token. It returns [ErrNotFound] if none is stored, and
// for the user 0.
func (u *User) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	return u.use(ctx, memberID, u.portals.access)
}

// Renew is [Portals.Renew] with the user's token. Users are renewed independently of one another,
// and of the application.
func (u *User) Renew(ctx context.Context, memberID, refused string) (endpoint, token string, err error) {
	return u.use(ctx, memberID, func(ctx context.Context, key Key) (Installation, error) {
		return u.portals.renew(ctx, key, event.Secret(refused))
	})
}

// Moved follows the portal to a new address; see [Portals.Moved].
func (u *User) Moved(ctx context.Context, memberID, endpoint string) error {
	return u.portals.Moved(ctx, memberID, endpoint)
}

// Removed is [Portals.Removed].
func (u *User) Removed(ctx context.Context, memberID, code string) {
	u.portals.Removed(ctx, memberID, code)
}

// use takes the token from the user's installation, or from the application's if that holds this
// user's tokens. It takes the address from the application's, which is the one that follows a
// renamed portal.
func (u *User) use(
	ctx context.Context, memberID string, token func(context.Context, Key) (Installation, error),
) (endpoint, access string, err error) {
	if u.id == 0 { // the application's own key
		return "", "", &Error{Op: opUser, Kind: ErrNotFound, Detail: "no user has the ID 0"}
	}
	app, appErr := u.portals.load(ctx, u.portals.appKey(memberID))
	in, err := token(ctx, u.portals.userKey(memberID, u.id))
	if errors.Is(err, ErrNotFound) && appErr == nil && app.in.UserID == u.id {
		in, err = token(ctx, u.portals.appKey(memberID))
	}
	switch {
	case err != nil:
		return "", "", err
	case appErr != nil:
		return "", "", appErr // also if the application was removed and only the user is left
	}
	return app.in.ClientEndpoint, string(in.AccessToken), nil
}

// KeepUser takes the tokens that an application page brings (its auth block, see
// event.ParseRequest). It trades the refresh token for a new pair, so that the OAuth server
// confirms whose it is, and stores that pair as the user's, for [Portals.User]. The application's
// own tokens stay as they are. A page that was loaded again brings a pair that is used up. As long
// as its access token works, KeepUser returns what is stored for its user.
//
// The portal must be known. KeepUser returns [ErrNotFound] if it is not; [ErrUnverified] if the
// tokens are not confirmed; or [ErrTemporary], [ErrBusy], [ErrCredentials], [ErrPayment] or
// [ErrStore] if it could not find out.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/simple-way.html
func (p *Portals) KeepUser(ctx context.Context, auth event.Auth) (Installation, error) {
	return p.confirmPage(ctx, opUser, auth, auth.RefreshToken, p.confirmUser)
}

// confirmUser confirms whose tokens a page carries, and stores them.
func (p *Portals) confirmUser(ctx context.Context, claim event.Auth) (Installation, error) {
	check, err := p.checkOfKnown(ctx, opUser, claim)
	if err != nil {
		return Installation{}, err
	}
	if carriesStoredToken(check.stored, claim) {
		return p.checkPage(ctx, claim)
	}
	proof, err := p.confirm(ctx, check)
	if err != nil {
		return p.reloadedUser(ctx, claim, err)
	}
	proof.release() // the reservation was for another key
	return p.storeUser(ctx, proof.tokenInfo, claim)
}

// reloadedUser returns what is stored for the user of a page that was loaded again.
func (p *Portals) reloadedUser(ctx context.Context, claim event.Auth, refusal error) (Installation, error) {
	var e *Error
	if !errors.As(refusal, &e) || !e.refusesToken() {
		return Installation{}, refusal
	}
	if claim.AccessToken != "" {
		in, err := p.checkPage(ctx, claim)
		if err == nil {
			var r snapshot
			if r, err = p.load(ctx, p.userKey(in.MemberID, in.UserID)); err == nil {
				return r.in, nil
			}
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnverified) {
			return Installation{}, err
		}
	}
	return Installation{}, &Error{Op: opUser, Kind: ErrUnverified, Err: refusal}
}

// ExchangeUser trades an authorization code as [Portals.Exchange] does, and stores the tokens as
// those of the user who allowed the application, for [Portals.User]. The application's own tokens
// stay as they are, and the user may be anybody. The portal must be known. If it is not,
// ExchangeUser returns [ErrNotFound], and the code is used up.
func (p *Portals) ExchangeUser(ctx context.Context, code Code) (Installation, error) {
	return p.redeem(ctx, "user's code", code, func(ctx context.Context, info tokenInfo) (Installation, error) {
		if _, err := p.load(ctx, p.appKey(info.memberID)); err != nil {
			return Installation{}, err
		}
		return p.storeUser(ctx, info, event.Auth{MemberID: info.memberID})
	})
}

// withUser returns what the OAuth server has confirmed, with the user. If the server does not name
// the user, withUser asks the portal.
func (p *Portals) withUser(ctx context.Context, info tokenInfo, claim event.Auth) (tokenInfo, error) {
	if info.userID == 0 {
		user, err := p.profileUser(ctx, info.clientEndpoint, info.access)
		if err != nil {
			if !errors.Is(err, ErrUnverified) {
				p.trades.put(claim.RefreshToken, info) // the token is spent, and the next try needs the new pair
			}
			return tokenInfo{}, err
		}
		info.userID = user
	}
	if info.userID <= 0 {
		return tokenInfo{}, &Error{
			Op: opUser, Kind: ErrUnverified,
			Detail: "neither the OAuth server nor the portal names the user of the tokens",
		}
	}
	return info, nil
}

// storeUser stores what the OAuth server has confirmed under the key of its user.
func (p *Portals) storeUser(ctx context.Context, info tokenInfo, claim event.Auth) (Installation, error) {
	info, err := p.withUser(ctx, info, claim)
	if err != nil {
		return Installation{}, err
	}
	// The application token stays with the application's own installation: it is the portal's, not
	// the user's.
	userClaim := event.Auth{
		MemberID: claim.MemberID, RefreshToken: claim.RefreshToken, UserID: info.userID, Scope: claim.Scope, Status: claim.Status,
	}
	return p.storeConfirmed(ctx, p.userKey(claim.MemberID, info.userID), info, userClaim, time.Time{})
}
