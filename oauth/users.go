package oauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/b24events/b24events/event"
)

// User is access to portals as one of their users, by tokens of that user's own, which
// [Portals.KeepUser] or [Portals.ExchangeUser] stored. It is a rest.Credentials, safe for
// concurrent use, and costs nothing: make one where it is needed.
type User struct {
	portals *Portals
	id      int64
}

// ClientID returns the ID of the application.
func (u *User) ClientID() string { return u.portals.ClientID() }

// Format prints the user's number and no token, whatever the verb.
func (u *User) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "oauth.User(%d)", u.id) }

// User returns access as the user with that ID. IDs are a portal's own: the same ID on two portals
// is two people. The portal limits what it allows to that user's rights.
func (p *Portals) User(id int64) *User { return &User{portals: p, id: id} }

// Access is [Portals.Access] with the user's token. It returns [ErrNotFound] where none is stored,
// and for the user 0.
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

// use takes the token from the user's record, or from the application's when that holds this user's
// tokens; and the address from the application's record, which is the one that follows a renamed
// portal.
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
		return "", "", appErr // also when the application was removed and only the user is left
	}
	return app.in.ClientEndpoint, string(in.AccessToken), nil
}

// KeepUser takes the tokens that an application page brings (its auth block, see
// event.ParseRequest), lets the OAuth server confirm whose they are by trading the refresh token
// for a new pair, and stores that pair as the user's, for [Portals.User]. The application's own
// tokens stay as they are. A page that was loaded again, and so brings a pair that is used up, gets
// what is stored of its user while its access token works.
//
// The portal must be known. KeepUser returns [ErrNotFound] where it is not; [ErrUnverified] where
// the tokens are not confirmed; or [ErrTemporary], [ErrBusy], [ErrCredentials], [ErrPayment] or
// [ErrStore] when it could not tell.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/simple-way.html
func (p *Portals) KeepUser(ctx context.Context, auth event.Auth) (Installation, error) {
	if !validMemberID(auth.MemberID) || auth.RefreshToken == "" {
		return Installation{}, &Error{Op: opUser, Kind: ErrUnverified, Detail: "it names no portal or carries no refresh token"}
	}
	if !plausibleTokens(auth) {
		return Installation{}, &Error{Op: opUser, Kind: ErrUnverified, Detail: "what it carries are no tokens"}
	}
	in, err := p.flights.do(ctx, flightOf(opUser, auth), opUser, func(ctx context.Context) (Installation, error) {
		return p.checkUser(ctx, auth)
	})
	p.logRefusal(ctx, auth.MemberID, err)
	return in, err
}

// checkUser confirms whose tokens a page carries, and stores them.
func (p *Portals) checkUser(ctx context.Context, claim event.Auth) (Installation, error) {
	app, at, err := p.claimOfKnown(ctx, opUser, claim)
	if err != nil {
		return Installation{}, err
	}
	if owns(app, claim) {
		return p.checkPage(ctx, claim)
	}
	proof, err := p.prove(ctx, opUser, at, claim, app, true)
	if err != nil {
		return p.reloaded(ctx, claim, err)
	}
	proof.release() // it was for another key
	return p.keepUser(ctx, proof.answer, claim)
}

// reloaded returns what is stored of the user of a page that was loaded again.
func (p *Portals) reloaded(ctx context.Context, claim event.Auth, refusal error) (Installation, error) {
	var e *Error
	if !errors.As(refusal, &e) || !e.refusesToken() {
		return Installation{}, refusal
	}
	if claim.AccessToken != "" {
		in, err := p.checkPage(ctx, claim)
		if err == nil {
			var r record
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
// those of the user who gave the application leave, for [Portals.User]. The application's own
// tokens stay as they are, and the user may be anybody. The portal must be known, or ExchangeUser
// returns [ErrNotFound], and the code is used up.
func (p *Portals) ExchangeUser(ctx context.Context, code Code) (Installation, error) {
	return p.redeem(ctx, "user's code", code, func(ctx context.Context, a answer) (Installation, error) {
		if _, err := p.load(ctx, p.appKey(a.memberID)); err != nil {
			return Installation{}, err
		}
		return p.keepUser(ctx, a, event.Auth{MemberID: a.memberID})
	})
}

// ofUser returns what the OAuth server has confirmed with the user whom it names, or else the
// portal.
func (p *Portals) ofUser(ctx context.Context, a answer, claim event.Auth) (answer, error) {
	if a.userID == 0 {
		user, err := p.profile(ctx, a.clientEndpoint, a.access)
		if err != nil {
			if !errors.Is(err, ErrUnverified) {
				p.remembered.put(claim.RefreshToken, a) // it is spent: the next try needs what it was traded for
			}
			return answer{}, err
		}
		a.userID = user
	}
	if a.userID <= 0 {
		return answer{}, &Error{Op: opUser, Kind: ErrUnverified, Detail: "nobody says which user the tokens are of"}
	}
	return a, nil
}

// keepUser stores what the OAuth server has confirmed under the key of its user.
func (p *Portals) keepUser(ctx context.Context, a answer, claim event.Auth) (Installation, error) {
	a, err := p.ofUser(ctx, a, claim)
	if err != nil {
		return Installation{}, err
	}
	// The application token stays with the application's own record: it is the portal's, not the
	// user's.
	of := event.Auth{
		MemberID: claim.MemberID, RefreshToken: claim.RefreshToken, UserID: a.userID, Scope: claim.Scope, Status: claim.Status,
	}
	return p.keep(ctx, p.userKey(claim.MemberID, a.userID), a, of, time.Time{})
}
