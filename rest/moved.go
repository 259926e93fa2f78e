package rest

import (
	"context"
	"net/url"
	"strings"
)

// Mover is what [Credentials] may also be, to follow a portal that was renamed. Such a portal answers every call at its old
// address with a redirect to the new one, and runs nothing.
type Mover interface {
	// Moved is told the REST address to which a portal's old address redirects. It is an address in the shape of the old one, and
	// no more is known of it: Moved must find out by itself, such as at the OAuth server, whether it is that portal's. It returns nil
	// only where it is, and where [Credentials.Access] returns it from now on. Nothing is sent to the address before. Calls made at
	// the same time each call Moved.
	Moved(ctx context.Context, memberID, endpoint string) error
}

// follow returns the portal's new address, once the credentials vouch for it, and an error that says why not otherwise.
func (c *Client) follow(ctx context.Context, endpoint, method, location string, err error) (string, error) {
	moved, ok := err.(*Error) //nolint:errorlint // of this package, not wrapped
	if !ok {
		return "", err
	}
	if c.portals.hook != nil {
		moved.Hint = "the portal has a new address: give NewWebhook the webhook's new URL"
		return "", moved
	}
	base, err := c.portals.base(endpoint)
	if err != nil {
		return "", moved
	}
	target, ok := c.portals.target(base, method, location)
	if !ok {
		moved.Hint = "it leads to no address of the same shape on another host"
		return "", moved
	}
	mover, ok := c.portals.creds.(Mover)
	if !ok {
		moved.Hint = "the credentials have no method Moved to vouch for a new address"
		return "", moved
	}
	if err := mover.Moved(ctx, c.memberID, target); err != nil {
		if ctx.Err() != nil {
			return "", contextError(ctx, method)
		}
		moved.Hint = "the credentials do not vouch for the new address"
		moved.cause = &cause{err}
		return "", moved
	}
	return target, nil
}

// target makes an endpoint of a redirect's location. The location has to be the request's own address on another host: no less
// secure, without credentials, and with nothing added.
func (p *Clients) target(base *url.URL, method, location string) (string, bool) {
	u, err := url.Parse(location)
	if err != nil || strings.EqualFold(u.Host, base.Host) || u.EscapedPath() != base.EscapedPath()+method {
		return "", false
	}
	if base.Scheme == "https" && u.Scheme != "https" {
		return "", false
	}
	u.Path, u.RawPath = base.Path, base.RawPath
	target, err := p.base(u.String())
	if err != nil {
		return "", false
	}
	return target.String(), true
}
