package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Keys of log attributes.
const (
	keyMemberID = "member_id"
	keyMethod   = "method"
	keyStatus   = "status"
	keyCode     = "code"
	keyDuration = "duration"
)

// Client calls methods of one portal.
type Client struct {
	portals  *Portals
	memberID string
}

// Format prints the portal and no credentials, whatever the verb.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "rest.Client(%q)", c.memberID) }

// MemberID returns the stable identifier of the client's portal.
func (c *Client) MemberID() string { return c.memberID }

// Call calls a method and decodes the result member of its answer into result, a non-nil pointer, or drops it where result
// is nil. A struct or map is left as it is where the portal sends [], which is how PHP writes an empty object.
//
// params is nil; a map[string]any, which may nest maps and slices, and whose nil values and empty arrays are not sent (clear
// a field with ""); url.Values; or a struct with url tags of go-querystring, or a pointer to one. A struct may nest structs,
// but neither hold maps nor the other things that go-querystring would write wrongly: see [ErrBadCall]. The parameters auth
// and access_token are refused.
//
// It returns an [*Error], or what the package documentation lists.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/general-principles.html
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	answer, err := c.Do(ctx, method, params)
	if err != nil {
		return err
	}
	return answer.decode(method, result)
}

// Call calls a method as [Client.Call] does and returns its result as a T.
func Call[T any](ctx context.Context, c *Client, method string, params any) (T, error) {
	var result T
	err := c.Call(ctx, method, params, &result)
	return result, err
}

// Do calls a method as [Client.Call] does and returns its answer whole: the result as it came, counts of list methods, timing.
func (c *Client) Do(ctx context.Context, method string, params any) (*Response, error) {
	if !validMethod(method) {
		return nil, &Error{Code: ErrBadCall, Description: "a method's name is letters, digits, underscores and dots between them"}
	}
	form, err := encodeParams(params)
	if err != nil {
		return nil, &Error{Method: method, Code: ErrBadCall, Description: err.Error()}
	}
	endpoint, token, err := c.portals.creds.Access(ctx, c.memberID)
	if err != nil {
		return nil, fmt.Errorf("rest: %s: access to the portal: %w", method, err)
	}
	answer, err := c.send(ctx, endpoint, token, method, form)
	if !errors.Is(err, ErrExpiredToken) {
		return answer, err
	}
	// The portal checks the token before it runs the method, so the call did not happen.
	endpoint, token, err = c.portals.creds.Renew(ctx, c.memberID, token)
	if err != nil {
		return nil, fmt.Errorf("rest: %s: renewing access to the portal: %w", method, err)
	}
	return c.send(ctx, endpoint, token, method, form)
}

// send makes one request.
func (c *Client) send(ctx context.Context, endpoint, token, method, form string) (*Response, error) {
	start := time.Now()
	status, answer, err := c.exchange(ctx, endpoint, token, method, form)
	attrs := []slog.Attr{
		slog.String(keyMemberID, c.memberID),
		slog.String(keyMethod, method),
		slog.Int(keyStatus, status),
		slog.Duration(keyDuration, time.Since(start)),
	}
	var failure *Error
	if errors.As(err, &failure) {
		attrs = append(attrs, slog.String(keyCode, string(failure.Code)))
	}
	c.portals.log.LogAttrs(ctx, slog.LevelDebug, "bitrix24 call", attrs...)
	return answer, err
}

func (c *Client) exchange(ctx context.Context, endpoint, token, method, form string) (int, *Response, error) {
	address, err := c.portals.address(endpoint, method)
	if err != nil {
		return 0, nil, &Error{Method: method, Code: ErrBadEndpoint, Description: err.Error()}
	}
	if token == "" {
		return 0, nil, &Error{Method: method, Code: ErrBadCall, Description: "the credentials gave no access token"}
	}
	if form != "" {
		form += "&"
	}
	// Last, because some old methods take their arguments by position.
	form += "auth=" + url.QueryEscape(token)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form))
	if err != nil {
		return 0, nil, &Error{Method: method, Code: ErrBadEndpoint, Description: "no request can be made of it"}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := c.portals.http.Do(req)
	if err != nil {
		return 0, nil, connectionError(ctx, method, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswerBytes+1))
	switch {
	case err != nil:
		return resp.StatusCode, nil, connectionError(ctx, method, err)
	case len(body) > MaxAnswerBytes:
		return resp.StatusCode, nil, &Error{Method: method, Status: resp.StatusCode, Code: ErrTooLarge}
	}
	answer, err := parseAnswer(method, resp.StatusCode, body, token)
	return resp.StatusCode, answer, err
}

// address joins a portal's endpoint and a method's name.
func (p *Portals) address(endpoint, method string) (string, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("the portal's endpoint must be an address such as https://example.bitrix24.com/rest/")
	case u.Scheme != "https" && (u.Scheme != "http" || !p.insecure):
		return "", errors.New("the portal's endpoint must be https; for development there is WithInsecureHTTP")
	}
	return strings.TrimSuffix(u.String(), "/") + "/" + method, nil
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
