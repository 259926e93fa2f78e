package rest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
)

// Client calls methods of one portal, with an application's tokens ([Clients.Portal]) or through an incoming webhook
// ([NewWebhook]).
type Client struct {
	portals  *Clients
	memberID string
	opts     callOptions
}

// Format prints the portal and no credentials, whatever the verb.
func (c *Client) Format(f fmt.State, _ rune) {
	if c.portals != nil && c.portals.hook != nil {
		h := c.portals.hook
		_, _ = fmt.Fprintf(f, "rest.Client(webhook at %q)", h.host)
		return
	}
	_, _ = fmt.Fprintf(f, "rest.Client(%q)", c.memberID)
}

// MemberID returns the stable identifier of the client's portal, and nothing for an incoming webhook's, whose URL does not tell.
func (c *Client) MemberID() string { return c.memberID }

// ClientID returns the ID of the application that the client calls for, as its [Credentials] tell
// it by a method ClientID() string. It is empty for an incoming webhook, and when the credentials
// do not tell.
func (c *Client) ClientID() string { return clientID(c.portals.creds) }

// As returns a client of the same portal that calls with other credentials, such as those of the user who acted:
//
//	err := client.As(portals.Acting(d)).Call(ctx, "crm.deal.update", params, nil)
//
// It shares everything with c: connections, limits, what is known of blocked methods.
func (c *Client) As(creds Credentials) *Client {
	own := *c
	own.portals = c.portals.As(creds)
	return &own
}

// Call calls a method and decodes the result member of its answer into result, a non-nil pointer,
// or drops it if result is nil. It decodes as [Response.Decode] does: numbers may be text, flags
// are Y and N, and [] is how PHP writes an empty object.
//
// params is nil, a map[string]any, a struct with url tags, an [Ordered], url.Values, or a pointer
// to one of these; the package documentation says how each Go value is sent. The parameters auth
// and access_token are refused.
//
// It returns an [*Error], or what the package documentation lists. A method, parameters or a result
// that cannot do are [ErrBadCall], and then nothing was sent.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/general-principles.html
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	if err := checkTarget(method, result); err != nil {
		return err
	}
	answer, err := c.Do(ctx, method, params)
	if err != nil {
		return err
	}
	return answer.decode(method, result)
}

// Doer calls a method and returns the answer whole. [Client] and [Coalescer] are such.
type Doer interface {
	Do(ctx context.Context, method string, params any) (*Response, error)
}

// Call calls a method as [Client.Call] does and returns its result as a T.
func Call[T any](ctx context.Context, c Doer, method string, params any) (T, error) {
	var result T
	if err := checkResult(method, reflect.TypeFor[T]()); err != nil {
		return result, err
	}
	answer, err := c.Do(ctx, method, params)
	if err != nil {
		return result, err
	}
	err = answer.decode(method, &result)
	return result, err
}

// Do calls a method as [Client.Call] does and returns its answer whole: the result as it came, counts of list methods, timing.
func (c *Client) Do(ctx context.Context, method string, params any) (*Response, error) {
	call, err := c.newCall(method, params)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.opts.within(ctx)
	defer cancel()
	return c.run(ctx, call)
}

// maxMethod is more than twice the longest documented name.
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
