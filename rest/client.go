package rest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
)

// Client calls methods of one portal, with an application's tokens ([Clients.Portal]) or through an
// incoming webhook ([NewWebhook]).
type Client struct {
	clients  *Clients
	memberID string
	opts     callOptions
}

// Format prints the portal and never credentials, for every verb.
func (c *Client) Format(f fmt.State, _ rune) {
	if c.clients != nil && c.clients.hook != nil {
		h := c.clients.hook
		_, _ = fmt.Fprintf(f, "rest.Client(webhook at %q)", h.host)
		return
	}
	_, _ = fmt.Fprintf(f, "rest.Client(%q)", c.memberID)
}

// MemberID returns the stable identifier of the client's portal. It is empty for an incoming
// webhook, whose URL does not contain it.
func (c *Client) MemberID() string { return c.memberID }

// ClientID returns the ID of the application that the client calls for, if its [Credentials] have a
// method ClientID() string. Otherwise, and for an incoming webhook, it is empty.
func (c *Client) ClientID() string { return clientID(c.clients.creds) }

// As returns a client of the same portal that calls with other credentials, for example with those
// of the user who acted:
//
//	err := client.As(portals.Acting(d)).Call(ctx, "crm.deal.update", params, nil)
//
// It shares everything with c: connections, limits, and which methods are blocked.
func (c *Client) As(creds Credentials) *Client {
	own := *c
	own.clients = c.clients.As(creds)
	return &own
}

// Call calls a method and decodes the result member of the response into result, a non-nil pointer,
// or drops it if result is nil. It decodes as [Response.Decode] does: numbers may be text, flags
// are Y and N, and [] is how PHP writes an empty object.
//
// params is nil, a map[string]any, a struct with url tags, an [Ordered], url.Values, or a pointer
// to one of these; the package documentation says how each Go value is sent. The parameters auth
// and access_token are refused.
//
// It returns an [*Error], or another error that the package documentation lists. If the method, the
// parameters or the result type are not usable, the error matches [ErrBadCall], and nothing was
// sent.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/general-principles.html
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	return callInto(ctx, c, method, params, result)
}

// Doer calls a method and returns the whole response. [Client] and [Coalescer] implement it.
type Doer interface {
	Do(ctx context.Context, method string, params any) (*Response, error)
}

// callInto calls a method and decodes its result into result.
func callInto(ctx context.Context, c Doer, method string, params, result any) error {
	if err := checkTarget(method, result); err != nil {
		return err
	}
	response, err := c.Do(ctx, method, params)
	if err != nil {
		return err
	}
	return response.decode(method, result)
}

// Call calls a method as [Client.Call] does and returns its result as a T.
func Call[T any](ctx context.Context, c Doer, method string, params any) (T, error) {
	var result T
	if err := checkResult(method, reflect.TypeFor[T]()); err != nil {
		return result, err
	}
	response, err := c.Do(ctx, method, params)
	if err != nil {
		return result, err
	}
	err = response.decode(method, &result)
	return result, err
}

// Do calls a method as [Client.Call] does and returns the whole response: the undecoded result, the
// counts of list methods, and the timing.
func (c *Client) Do(ctx context.Context, method string, params any) (*Response, error) {
	call, err := c.newCall(method, params)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.opts.within(ctx)
	defer cancel()
	return c.run(ctx, call)
}

// maxMethod is more than twice the length of the longest documented name.
const maxMethod = 128

func validMethod(name string) bool {
	if name == "" || len(name) > maxMethod || strings.Contains(name, "..") ||
		name[0] == '.' || name[len(name)-1] == '.' {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}
