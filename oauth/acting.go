package oauth

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
)

// UserCredentials is access to a portal as the user who caused an event, by the token that the
// event carries. It is a rest.Credentials for the portal of the event and no other, and safe for
// concurrent use. See [Portals.UserCredentials].
type UserCredentials struct {
	portals *Portals
	d       *event.Delivery
	orApp   bool
	refused atomic.Bool // the portal does not take the token any more
}

// Acting returns access as the user who caused an event: what that user may not do, the portal
// refuses. Use it where a handler must not do more than the user could; by default a handler uses p
// itself, which has the application's own token.
//
// The token lives for an hour after the event, and there is none where nobody caused the event, as
// with robots, workflows and agents, and in the offline queue. Access and Renew then return
// [ErrNoUserToken]; see [Portals.ActingOrApp]. The portal counts how events that are caused with
// such tokens follow from one another, and drops those after the seventh.
//
// The token goes to the stored address of the portal, not to the one in the event. d must have been
// verified, as every delivery is that reaches a handler. It is kept, and may be nil.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
func (p *Portals) Acting(d *event.Delivery) *UserCredentials {
	return &UserCredentials{portals: p, d: d}
}

// ActingOrApp is like [Portals.Acting], but where the event carries no token, or one that has
// expired or that the portal refuses as expired, access is the application's own, with the rights
// of whoever installed it.
func (p *Portals) ActingOrApp(d *event.Delivery) *UserCredentials {
	return &UserCredentials{portals: p, d: d, orApp: true}
}

// ClientID returns the ID of the application.
func (a *UserCredentials) ClientID() string { return a.portals.ClientID() }

// Format prints no token, whatever the verb.
func (a *UserCredentials) Format(f fmt.State, _ rune) {
	_, _ = f.Write([]byte("oauth.UserCredentials"))
}

// Access returns the portal's stored REST address and the event's token. It returns
// [ErrNoUserToken], or what [Portals.Access] returns.
func (a *UserCredentials) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	if why := a.unusable(); why != "" || !a.concerns(memberID) {
		return a.otherwise(memberID, why, func() (string, string, error) { return a.portals.Access(ctx, memberID) })
	}
	r, err := a.portals.load(ctx, a.portals.appKey(memberID))
	if err != nil {
		return "", "", err
	}
	return r.in.ClientEndpoint, string(a.d.Auth.AccessToken), nil
}

// Renew is told that the portal answered expired_token to the token refused. The event's token
// cannot be renewed: Renew returns [ErrNoUserToken], or the application's access where that was
// asked for, and so does everything from then on.
func (a *UserCredentials) Renew(ctx context.Context, memberID, refused string) (endpoint, token string, err error) {
	if a.concerns(memberID) && sameSecret(a.d.Auth.AccessToken, event.Secret(refused)) {
		a.refused.Store(true)
	}
	return a.otherwise(memberID, a.unusable(), func() (string, string, error) { return a.portals.Renew(ctx, memberID, refused) })
}

// Moved follows the portal to a new address; see [Portals.Moved].
func (a *UserCredentials) Moved(ctx context.Context, memberID, endpoint string) error {
	return a.portals.Moved(ctx, memberID, endpoint)
}

// Removed is [Portals.Removed].
func (a *UserCredentials) Removed(ctx context.Context, memberID, code string) {
	a.portals.Removed(ctx, memberID, code)
}

// otherwise returns the application's access where that was asked for.
func (a *UserCredentials) otherwise(memberID, why string, app func() (string, string, error)) (endpoint, token string, err error) {
	switch {
	case a.d != nil && !a.concerns(memberID):
		why = "the delivery is not proven to be this application's on this portal"
	case a.orApp:
		return app()
	case why == "":
		why = "the portal refused a token that is not the event's"
	}
	return "", "", &Error{Op: opActing, Kind: ErrNoUserToken, Detail: why}
}

// concerns reports whether the delivery is proven for the application and the portal. One that is
// not gives no access at all: whoever sent it could name any portal.
func (a *UserCredentials) concerns(memberID string) bool {
	return a.d != nil && a.d.ProvenFor(a.portals.ClientID()) && a.d.MemberID() == memberID
}

// unusable tells why the event's token cannot be used; it is empty where it can.
func (a *UserCredentials) unusable() string {
	switch {
	case a.d == nil || a.d.Auth.AccessToken == "":
		return "the event carries none"
	case a.refused.Load():
		return "the portal refused it"
	case !a.d.Auth.Expires.IsZero() && !time.Now().Before(a.d.Auth.Expires):
		return "it has expired"
	default:
		return ""
	}
}
