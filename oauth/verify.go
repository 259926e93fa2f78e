package oauth

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/b24events/b24events/event"
)

// The events that bring tokens.
const (
	onAppInstall   = "ONAPPINSTALL"
	onAppUpdate    = "ONAPPUPDATE"
	onAppUserReady = "ONAPPUSERREADY"
)

// Verify decides whether a delivery comes from the portal that it names, and returns what proves
// it. An application token that is stored for the portal is an [event.ProofInstallation]. An
// ONAPPINSTALL, and an ONAPPUPDATE with a new application token, are confirmed at the OAuth server,
// checked by [WithInstallPolicy], and stored, because the platform does not send them again. An
// ONAPPUSERREADY is confirmed by the tokens that it brings, which are stored as those of their
// user. These are an [event.ProofTokens]; a copy of one that was stored before is an
// [event.ProofInstallation]. An ONAPPUNINSTALL deletes nothing here; see [Portals.Lifecycle].
//
// The error is an [event.ErrForbidden] if the delivery proves nothing, and an
// [event.ErrUnknownPortal] if nothing is stored for its portal. Verify has then stored nothing. Any
// other error means that Verify could not find out, because the store, the OAuth server or the
// portal failed.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/safe-event-handlers.html
func (p *Portals) Verify(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	if d == nil {
		return event.Proof{}, event.ErrForbidden
	}
	switch d.Name {
	case onAppInstall:
		return p.verifyInstall(ctx, d)
	case onAppUserReady:
		return p.verifyUserReady(ctx, d)
	}
	proof, err := p.authenticate(ctx, d)
	if errors.Is(err, event.ErrForbidden) && d.Name == onAppUpdate {
		return p.verifyInstall(ctx, d)
	}
	return proof, err
}

// verifyInstall stores an installation that an event brings. A copy of a stored one proves nothing
// but its application token.
func (p *Portals) verifyInstall(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	if d.Auth.ApplicationToken == "" {
		return event.Proof{}, &Error{Op: opInstall, Kind: ErrUnverified, Detail: "it carries no application token"}
	}
	in, copied, err := p.install(ctx, installClaim{Auth: d.Auth, fired: d.Time})
	if err != nil {
		return event.Proof{}, err
	}
	by := event.ProofTokens
	if copied {
		by = event.ProofInstallation
	}
	return p.proof(by, in), nil
}

// proof returns the proof of a delivery for a stored installation.
func (p *Portals) proof(by event.ProofKind, in Installation) event.Proof {
	return event.Proof{
		By: by, ClientID: p.client.id, MemberID: in.MemberID, ClientEndpoint: in.ClientEndpoint, ServerEndpoint: in.ServerEndpoint,
	}
}

// authenticate compares a delivery's application token with those stored for its portal. An unknown
// portal takes as long as a wrong token.
func (p *Portals) authenticate(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	member := d.ClaimedMemberID()
	r, err := p.load(ctx, p.appKey(member))
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return event.Proof{}, err
	}
	good := oneOf(r.in.applicationTokens(p.window), d.Auth.ApplicationToken)
	switch {
	case good && known:
		in := r.in
		in.MemberID = member
		return p.proof(event.ProofInstallation, in), nil
	case known:
		return event.Proof{}, event.ErrForbidden
	default:
		return event.Proof{}, event.ErrUnknownPortal
	}
}

// verifyUserReady confirms the tokens in an ONAPPUSERREADY by trading the refresh token, and stores
// the new pair as the user's. The event may come before the installation, and is sent once.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/events/on-app-user-ready.html
func (p *Portals) verifyUserReady(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	e, err := event.OnAppUserReady.Decode(d)
	if err != nil {
		return event.Proof{}, event.ErrForbidden
	}
	claim := event.Auth{
		MemberID: e.MemberID, AccessToken: e.AccessToken, RefreshToken: e.RefreshToken, UserID: e.UserID,
		ClientEndpoint: e.ClientEndpoint, ServerEndpoint: e.ServerEndpoint, Status: e.Status,
		Scope:            event.Scope(e.Scope),
		ApplicationToken: d.Auth.ApplicationToken,
	}
	switch {
	case !validMemberID(claim.MemberID) || claim.RefreshToken == "" || !plausibleTokens(claim):
		return event.Proof{}, &Error{Op: opUser, Kind: ErrUnverified, Detail: "it names no portal or carries no refresh token"}
	case d.ClaimedMemberID() != claim.MemberID:
		return event.Proof{}, &Error{Op: opUser, Kind: ErrUnverified, Detail: "it names two portals"}
	}
	name := flightName(onAppUserReady, claim) + "/" + strconv.FormatInt(claim.UserID, 10)
	in, err := p.flights.do(ctx, name, opUser, func(ctx context.Context) (Installation, error) {
		return p.checkUserReady(ctx, claim)
	})
	by := event.ProofTokens
	var again *copyError
	if errors.As(err, &again) {
		in, err, by = again.in.clone(), nil, event.ProofInstallation
	}
	p.logRefusal(ctx, claim.MemberID, err)
	if err != nil {
		return event.Proof{}, err
	}
	in.MemberID = claim.MemberID
	return p.proof(by, in), nil
}

func (p *Portals) checkUserReady(ctx context.Context, claim event.Auth) (Installation, error) {
	app, err := p.load(ctx, p.appKey(claim.MemberID))
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Installation{}, err
	}
	check, err := p.newClaimCheck(opUser, claim, app.in, known)
	if err != nil {
		return Installation{}, err
	}
	proof, err := p.confirm(ctx, check)
	if err != nil {
		return p.findUserReadyCopy(ctx, claim, err)
	}
	proof.release() // the reservation was for another key
	info, err := p.withUser(ctx, proof.tokenInfo, claim)
	if err != nil {
		return Installation{}, err
	}
	if claim.UserID != 0 && info.userID != claim.UserID {
		return Installation{}, &Error{Op: opUser, Kind: ErrUnverified, Detail: "its tokens are another user's"}
	}
	return p.storeUser(ctx, info, claim)
}

// findUserReadyCopy accepts a copy of an event whose refresh token is spent, if the portal's
// application token proves it and its user's tokens are stored. The copy proves no tokens.
func (p *Portals) findUserReadyCopy(ctx context.Context, claim event.Auth, refusal error) (Installation, error) {
	var e *Error
	if !errors.As(refusal, &e) || !e.refusesToken() {
		return Installation{}, refusal
	}
	app, appErr := p.load(ctx, p.appKey(claim.MemberID))
	user, userErr := p.load(ctx, p.userKey(claim.MemberID, claim.UserID))
	if appErr == nil && userErr == nil && oneOf(app.in.applicationTokens(p.window), claim.ApplicationToken) {
		return Installation{}, &copyError{&user.in}
	}
	return Installation{}, &Error{Op: opUser, Kind: ErrUnverified, Err: refusal}
}

// maxExtraTokens is how many application tokens a portal may have in addition to its own.
const maxExtraTokens = 50

// AddApplicationToken lets a portal's events with another application token pass [Portals.Verify]
// too. When the token of a v2 bot changes, Bitrix24 gives the bot's subscriptions an application
// token of their own. Only add a token that the platform gave the application itself, never one
// that an unverified event brings. If the portal is not known, AddApplicationToken returns
// [ErrNotFound].
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/index.html
func (p *Portals) AddApplicationToken(ctx context.Context, memberID string, token event.Secret) error {
	if len(token) < minApplicationToken || !plausibleTokens(event.Auth{ApplicationToken: token}) {
		return &Error{Op: opToken, Kind: ErrUnverified, Detail: "it does not look like an application token; those have 32 characters"}
	}
	full := false
	_, err := p.change(ctx, p.appKey(memberID), func(in *Installation) bool {
		full = len(in.ExtraApplicationTokens) >= maxExtraTokens
		if full || slices.Contains(in.ExtraApplicationTokens, token) {
			return false
		}
		in.ExtraApplicationTokens = append(slices.Clone(in.ExtraApplicationTokens), token)
		in.UpdatedAt = time.Now().UTC()
		return true
	})
	if err == nil && full {
		return &Error{Op: opToken, Kind: ErrUnverified, Detail: "the portal has too many already; see RemoveApplicationToken"}
	}
	return err
}

// minApplicationToken is the length of the shortest application token that AddApplicationToken
// accepts.
const minApplicationToken = 16

// RemoveApplicationToken undoes [Portals.AddApplicationToken]. It returns nil if the token is not
// there.
func (p *Portals) RemoveApplicationToken(ctx context.Context, memberID string, token event.Secret) error {
	_, err := p.change(ctx, p.appKey(memberID), func(in *Installation) bool {
		i := slices.Index(in.ExtraApplicationTokens, token)
		if i < 0 {
			return false
		}
		in.ExtraApplicationTokens = slices.Delete(slices.Clone(in.ExtraApplicationTokens), i, i+1)
		in.UpdatedAt = time.Now().UTC()
		return true
	})
	return err
}
