package oauth

import (
	"cmp"
	"context"
	"errors"

	"github.com/b24events/b24events/event"
)

// opCheckApp is the operation of [Portals.CheckCredentials] in errors.
const opCheckApp = "check the application"

// Owner is what the OAuth server says about an access token. A field is empty if the server does
// not say it.
type Owner struct {
	ClientID       string // the application that the token was issued to
	MemberID       string // the portal
	ClientEndpoint string // the portal's REST address
	UserID         int64
}

// Owner asks the OAuth server whose the stored access token of a portal is. It changes and renews
// nothing. It returns [ErrNotFound] or [ErrStore] for the installation, [ErrTemporary] if the
// server does not respond, and an error with the server's code if the server refuses the token, for
// example because it has expired.
func (p *Portals) Owner(ctx context.Context, memberID string) (Owner, error) {
	in, err := p.Installation(ctx, memberID)
	if err != nil {
		return Owner{}, err
	}
	at, err := p.client.hosts.checkServer(cmp.Or(in.ServerEndpoint, officialEndpoint))
	if err != nil {
		return Owner{}, err
	}
	info, err := p.client.identify(ctx, at, in.AccessToken)
	if err != nil {
		return Owner{}, err
	}
	return Owner{ClientID: info.clientID, MemberID: info.memberID, ClientEndpoint: info.clientEndpoint, UserID: info.userID}, nil
}

// unissued stands for a refresh token that no server has issued.
const unissued event.Secret = "0000000000000000000000000000000000000000000000000000000000000000000000"

// CheckCredentials asks the portal's OAuth server whether it accepts the client ID and secret. It
// uses up no token: it tries to renew one that was never issued, which the server refuses in any
// case. If it refuses the application instead of the token, the error matches [ErrCredentials]. A
// server that looks at the token first cannot be told from one that accepts the secret, because the
// platform does not document the order. A portal that is not stored is asked about at
// oauth.bitrix.info. Other errors are those of [Portals.Owner].
//
// Do not call it regularly: it is for diagnosis.
func (p *Portals) CheckCredentials(ctx context.Context, memberID string) error {
	in, err := p.Installation(ctx, memberID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	at, err := p.client.hosts.checkServer(cmp.Or(in.ServerEndpoint, officialEndpoint))
	if err != nil {
		return err
	}
	cred := refreshToken(unissued)
	cred.op = opCheckApp
	_, err = p.client.trade(ctx, at, cred)
	var e *Error
	if errors.As(err, &e) && e.refusesToken() {
		return nil
	}
	return err
}
