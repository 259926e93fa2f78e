package oauth

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
)

// UserCredentials is access to a portal as the user who caused an event, with the token that the
// event carries. It is a rest.Credentials for the portal of the event and no other. It is safe for
// concurrent use. Make one with [Portals.Acting] or [Portals.ActingOrApp].
type UserCredentials struct {
	portals *Portals
	d       *event.Delivery
	orApp   bool        // fall back to the application's own token
	refused atomic.Bool // the portal no longer accepts the token
}

// Acting returns access as the user who caused an event: the portal refuses what that user may not
// do. Use it if a handler must not do more than the user could. By default a handler uses p itself,
// which has the application's own token.
//
// The token lives for an hour after the event. There is none if nobody caused the event, as with
// robots, workflows and agents, and there is none in the offline queue. Access and Renew then
// return [ErrNoUserToken]; see [Portals.ActingOrApp]. The portal counts how events that are caused
// with these tokens follow from one another, and drops those after the seventh.
//
// The token goes to the stored address of the portal, not to the one in the event. d must have been
// verified; every delivery that reaches a handler is. It is kept, and may be nil.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
func (p *Portals) Acting(d *event.Delivery) *UserCredentials {
	return &UserCredentials{portals: p, d: d}
}

// ActingOrApp is like [Portals.Acting], but falls back to the application's own access, with the
// rights of whoever installed it. It does so if the event carries no token, or if the token has
// expired or the portal refuses it as expired.
func (p *Portals) ActingOrApp(d *event.Delivery) *UserCredentials {
	return &UserCredentials{portals: p, d: d, orApp: true}
}

// ClientID returns the ID of the application.
func (c *UserCredentials) ClientID() string { return c.portals.ClientID() }

// Format prints no token, whatever the verb.
func (c *UserCredentials) Format(f fmt.State, _ rune) {
	_, _ = f.Write([]byte("oauth.UserCredentials"))
}

// Access returns the portal's stored REST address and the event's token. It returns
// [ErrNoUserToken], or what [Portals.Access] returns.
func (c *UserCredentials) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	if why := c.unusable(); why != "" || !c.isProvenFor(memberID) {
		return c.fallback(memberID, why, func() (string, string, error) { return c.portals.Access(ctx, memberID) })
	}
	r, err := c.portals.load(ctx, c.portals.appKey(memberID))
	if err != nil {
		return "", "", err
	}
	return r.in.ClientEndpoint, string(c.d.Auth.AccessToken), nil
}

// Renew is called after the portal returned expired_token for the token refused. The event's token
// cannot be renewed, so from then on every call returns [ErrNoUserToken], or the application's
// access if c is from [Portals.ActingOrApp].
func (c *UserCredentials) Renew(ctx context.Context, memberID, refused string) (endpoint, token string, err error) {
	if c.isProvenFor(memberID) && sameSecret(c.d.Auth.AccessToken, event.Secret(refused)) {
		c.refused.Store(true)
	}
	return c.fallback(memberID, c.unusable(), func() (string, string, error) { return c.portals.Renew(ctx, memberID, refused) })
}

// Moved follows the portal to a new address; see [Portals.Moved].
func (c *UserCredentials) Moved(ctx context.Context, memberID, endpoint string) error {
	return c.portals.Moved(ctx, memberID, endpoint)
}

// Removed is [Portals.Removed].
func (c *UserCredentials) Removed(ctx context.Context, memberID, code string) {
	c.portals.Removed(ctx, memberID, code)
}

// fallback returns the application's access if c may fall back to it, or an [ErrNoUserToken] that
// says why the event's token cannot be used.
func (c *UserCredentials) fallback(memberID, why string, app func() (string, string, error)) (endpoint, token string, err error) {
	switch {
	case c.d != nil && !c.isProvenFor(memberID):
		why = "the delivery is not proven to be this application's on this portal"
	case c.orApp:
		return app()
	case why == "":
		why = "the portal refused a token that is not the event's"
	}
	return "", "", &Error{Op: opActing, Kind: ErrNoUserToken, Detail: why}
}

// isProvenFor reports whether the delivery is proven for the application and the portal. One that
// is not gives no access at all, because its sender could name any portal.
func (c *UserCredentials) isProvenFor(memberID string) bool {
	return c.d != nil && c.d.ProvenFor(c.portals.ClientID()) && c.d.MemberID() == memberID
}

// unusable returns why the event's token cannot be used. It is empty if the token can be used.
func (c *UserCredentials) unusable() string {
	switch {
	case c.d == nil || c.d.Auth.AccessToken == "":
		return "the event carries none"
	case c.refused.Load():
		return "the portal refused it"
	case !c.d.Auth.Expires.IsZero() && !time.Now().Before(c.d.Auth.Expires):
		return "it has expired"
	default:
		return ""
	}
}
