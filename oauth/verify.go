package oauth

import (
	"context"
	"errors"

	"github.com/b24events/b24events/event"
)

// The events that may bring a new application token.
const (
	onAppInstall = "ONAPPINSTALL"
	onAppUpdate  = "ONAPPUPDATE"
)

// Verify decides whether a delivery comes from where it says, by the application token that is stored for its portal. An
// ONAPPINSTALL, and an ONAPPUPDATE with a new application token, are confirmed at the OAuth server first, and what that
// server answers is stored: the platform does not send them again. Of an ONAPPUNINSTALL nothing is deleted here; see
// [Portals.Lifecycle].
//
// It returns nil; an error that is an [event.ErrForbidden] where the delivery proves nothing, and then has stored nothing;
// or another error where it could not tell because the store or the OAuth server failed.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/safe-event-handlers.html
func (p *Portals) Verify(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	if d == nil {
		return event.Proof{}, event.ErrForbidden
	}
	if d.Name == onAppInstall {
		return p.verifyInstall(ctx, d.Auth)
	}
	in, known, err := p.authenticates(ctx, d.Auth)
	if err != nil {
		return event.Proof{}, err
	}
	if known {
		return p.proof(event.ProofInstallation, in), nil
	}
	if d.Name == onAppUpdate {
		return p.verifyInstall(ctx, d.Auth)
	}
	return event.Proof{}, event.ErrForbidden
}

func (p *Portals) verifyInstall(ctx context.Context, auth event.Auth) (event.Proof, error) {
	if auth.ApplicationToken == "" {
		return event.Proof{}, &Error{Op: opInstall, Kind: ErrUnverified, Detail: "it carries no application token"}
	}
	in, err := p.Install(ctx, auth)
	if err != nil {
		return event.Proof{}, err
	}
	return p.proof(event.ProofTokens, in), nil
}

// proof is that of a delivery for a stored installation.
func (p *Portals) proof(by event.ProofKind, in Installation) event.Proof {
	return event.Proof{
		By: by, ClientID: p.server.id, MemberID: in.MemberID, ClientEndpoint: in.ClientEndpoint, ServerEndpoint: in.ServerEndpoint,
	}
}

// authenticates compares a delivery's application token with those stored for its portal. An unknown portal takes as long as
// a wrong token.
func (p *Portals) authenticates(ctx context.Context, auth event.Auth) (Installation, bool, error) {
	r, err := p.load(ctx, p.appKey(auth.MemberID))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Installation{}, false, err
	}
	in := r.in
	in.MemberID = auth.MemberID
	return in, in.authenticates(auth.ApplicationToken), nil
}
