package rest

import (
	"context"
	"net/url"
	"strings"
)

// Mover is an optional interface of [Credentials]. With it, calls follow a portal that was renamed.
// Such a portal answers every call at its old address with a redirect to the new one, and runs
// nothing.
type Mover interface {
	// Moved is called with the REST address to which a portal's old address redirects. It has the
	// same form as the old address, and nothing else is known about it. Moved must find out itself
	// whether the address belongs to that portal, for example by asking the OAuth server. It
	// returns nil only if it does, and if [Credentials.Access] returns the new address from now on.
	// Until then nothing is sent to the address. Calls made at the same time each call Moved.
	Moved(ctx context.Context, memberID, endpoint string) error
}

// followRedirect returns the portal's new address if the credentials confirm it. Otherwise the
// error says why not.
func (c *Client) followRedirect(ctx context.Context, endpoint, method, location string, err error) (string, error) {
	moved, ok := err.(*Error) //nolint:errorlint // of this package, not wrapped
	if !ok {
		return "", err
	}
	if c.clients.hook != nil {
		moved.Hint = "the portal has a new address: pass the webhook's new URL to NewWebhook"
		return "", moved
	}
	base, err := c.clients.parseEndpoint(endpoint)
	if err != nil {
		return "", moved
	}
	target, ok := c.clients.redirectTarget(base, method, location)
	if !ok {
		moved.Hint = "it does not lead to the same address on another host"
		return "", moved
	}
	mover, ok := c.clients.creds.(Mover)
	if !ok {
		moved.Hint = "the credentials have no method Moved to confirm a new address"
		return "", moved
	}
	if err := mover.Moved(ctx, c.memberID, target); err != nil {
		if ctx.Err() != nil {
			return "", contextError(ctx, method)
		}
		moved.Hint = "the credentials do not confirm the new address"
		moved.cause = &cause{err}
		return "", moved
	}
	return target, nil
}

// redirectTarget returns the endpoint in a redirect's location. The location must be the request's
// own address on another host: no less secure, without credentials, and with nothing added.
func (cs *Clients) redirectTarget(base *url.URL, method, location string) (string, bool) {
	u, err := url.Parse(location)
	if err != nil || strings.EqualFold(u.Host, base.Host) || u.EscapedPath() != base.EscapedPath()+method {
		return "", false
	}
	if base.Scheme == "https" && u.Scheme != "https" {
		return "", false
	}
	u.Path, u.RawPath = base.Path, base.RawPath
	target, err := cs.parseEndpoint(u.String())
	if err != nil {
		return "", false
	}
	return target.String(), true
}
