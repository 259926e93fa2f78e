package oauth

import (
	"context"
	"errors"

	"github.com/b24events/b24events/event"
)

// Claim is an installation that the OAuth server has confirmed, before it is stored. The function
// of [WithInstallPolicy] decides on it.
type Claim struct {
	MemberID string // the portal
	UserID   int64  // whose tokens they are; 0 if the OAuth server does not say
	Known    bool   // an installation is stored, which this one would replace

	administrator func(ctx context.Context) (bool, error)
}

// Administrator asks the portal whether the user of the claim may manage the settings of
// applications. It calls the method user.admin with the token of the claim. It returns
// [ErrUnverified] if the portal refuses the token, and [ErrTemporary] if the portal does not
// respond as it should.
func (c *Claim) Administrator(ctx context.Context) (bool, error) { return c.administrator(ctx) }

// AdministratorsOnly is the default of [WithInstallPolicy]. It allows a claim if its user is an
// administrator.
func AdministratorsOnly(ctx context.Context, c *Claim) error {
	admin, err := c.Administrator(ctx)
	if err != nil {
		return err
	}
	if !admin {
		return &Error{Op: opInstall, Kind: ErrUnverified, Detail: "its user is not an administrator; see WithInstallPolicy"}
	}
	return nil
}

// AnyUser is a policy for [WithInstallPolicy] that allows everybody. Every user of a portal who
// opens the application can then make their own tokens those of the application, and choose its
// application token.
func AnyUser(context.Context, *Claim) error { return nil }

// WithInstallPolicy sets whose tokens may become an application's own. allow is called for each
// installation that the OAuth server has confirmed, before it is stored or replaces a stored one.
// An error refuses the installation, as an [ErrUnverified]. Return an [ErrTemporary] if allow could
// not decide. The default is [AdministratorsOnly].
func WithInstallPolicy(allow func(ctx context.Context, c *Claim) error) Option {
	return func(cfg *config) error {
		if allow == nil {
			return configError("WithInstallPolicy", "the function is nil; AnyUser allows everybody")
		}
		cfg.policy = allow
		return nil
	}
}

// askPolicy asks the policy about a confirmed claim.
func (p *Portals) askPolicy(ctx context.Context, info tokenInfo, claim event.Auth, known bool) error {
	c := &Claim{
		MemberID: claim.MemberID, UserID: info.userID, Known: known,
		administrator: func(ctx context.Context) (bool, error) { return p.isAdministrator(ctx, info) },
	}
	err := p.policy(ctx, c)
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Op: opInstall, Kind: ErrUnverified, Detail: "the install policy refuses it", Err: err}
}
