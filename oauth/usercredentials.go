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
// The token lives for an hour after the event. After that, Access and Renew return
// [ErrUserTokenExpired]. There is no token if nobody caused the event, as with robots, workflows
// and agents, and there is none in the offline queue. Access and Renew then return
// [ErrNoUserToken]; see [Portals.ActingOrApp]. The portal counts how events that are caused with
// these tokens follow from one another, and drops those after the seventh.
//
// The token goes to the stored address of the portal, not to the one in the event. d must have been
// verified; every delivery that reaches a handler is. It is kept, and may be nil.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
func (p *Portals) Acting(d *event.Delivery) *UserCredentials {
	return &UserCredentials{portals: p, d: d}
}

// ActingOrApp is like [Portals.Acting], but if the event has no user's token at all, it gives the
// application's own access, with the rights of whoever installed it. That is so for what nobody
// caused, and for offline records.
//
// It does not do so for a token that was there. If the token has expired, Access and Renew return
// [ErrUserTokenExpired], so a retry or a replay hours later does not run with an administrator's
// rights. If a queue has removed the token, they return [ErrNoUserToken]: a webhook.Handler with
// WithStore removes tokens unless it has WithEncryptionKey.
//
// Everybody who knows the application token can send an event without a user. So ActingOrApp limits
// honest users only; use [Portals.Acting] for what the sender of an event must not decide.
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
// [ErrNoUserToken], [ErrUserTokenExpired], or what [Portals.Access] returns.
func (c *UserCredentials) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	switch asApp, err := c.check(memberID); {
	case err != nil:
		return "", "", err
	case asApp:
		return c.portals.Access(ctx, memberID)
	}
	r, err := c.portals.load(ctx, c.portals.appKey(memberID))
	if err != nil {
		return "", "", err
	}
	return r.in.ClientEndpoint, string(c.d.Auth.AccessToken), nil
}

// Renew is called after the portal returned expired_token for the token refused. The event's token
// cannot be renewed, so from then on every call returns [ErrUserTokenExpired]. If Access gave the
// application's token, Renew is [Portals.Renew].
func (c *UserCredentials) Renew(ctx context.Context, memberID, refused string) (endpoint, token string, err error) {
	if c.isProvenFor(memberID) && sameSecret(c.d.Auth.AccessToken, event.Secret(refused)) {
		c.refused.Store(true)
	}
	switch asApp, err := c.check(memberID); {
	case err != nil:
		return "", "", err
	case asApp:
		return c.portals.Renew(ctx, memberID, refused)
	}
	return "", "", &Error{Op: opActing, Kind: ErrNoUserToken, Detail: "the portal refused a token that is not the event's"}
}

// Moved follows the portal to a new address; see [Portals.Moved].
func (c *UserCredentials) Moved(ctx context.Context, memberID, endpoint string) error {
	return c.portals.Moved(ctx, memberID, endpoint)
}

// Removed is [Portals.Removed].
func (c *UserCredentials) Removed(ctx context.Context, memberID, code string) {
	c.portals.Removed(ctx, memberID, code)
}

// isProvenFor reports whether the delivery is proven for the application and the portal. One that
// is not gives no access at all, because its sender could name any portal.
func (c *UserCredentials) isProvenFor(memberID string) bool {
	return c.d != nil && c.d.ProvenFor(c.portals.ClientID()) && c.d.MemberID() == memberID
}

// check returns why the event's token cannot be used. asApp means that there is none, and that the
// application's own access takes its place.
func (c *UserCredentials) check(memberID string) (asApp bool, err error) {
	kind := ErrNoUserToken
	var detail string
	switch {
	case c.d != nil && !c.isProvenFor(memberID):
		detail = "the delivery is not proven to be this application's on this portal"
	case c.hasToken() && c.refused.Load():
		kind, detail = ErrUserTokenExpired, "the portal refused it"
	case c.hasToken() && !c.d.Auth.Expires.IsZero() && !time.Now().Before(c.d.Auth.Expires):
		kind, detail = ErrUserTokenExpired, "it ended at "+c.d.Auth.Expires.UTC().Format(time.RFC3339)
	case c.hasToken():
		return false, nil
	case c.lostToken():
		detail = "a queue has removed it from the delivery; let the queue keep it, as webhook.WithEncryptionKey does, " +
			"or call as the application itself if the user's rights do not matter"
	case c.orApp:
		return true, nil
	default:
		detail = "the event carries none"
	}
	return false, &Error{Op: opActing, Kind: kind, Detail: detail}
}

func (c *UserCredentials) hasToken() bool { return c.d != nil && c.d.Auth.AccessToken != "" }

// lostToken reports whether the event came with a token that is no longer there. Portals post
// user_id together with a token or not at all. A record of a queue on the portal, which a call
// returns, has a user and never a token.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
func (c *UserCredentials) lostToken() bool {
	return c.d != nil && c.d.Auth.AccessToken == "" && c.d.Auth.UserID != 0 && c.d.Proof.By != event.ProofCall
}
