package oauth

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
)

// maxResponse is how much of a response is read.
const maxResponse = 1 << 20

// client is the only code that talks to OAuth servers, and to portals on behalf of this package. It
// gets addresses that are on the allow list or come from an OAuth server.
type client struct {
	id       string
	secret   event.Secret
	hosts    hosts
	http     *http.Client
	breakers breakers
	accepted atomic.Int64 // Unix time of the last trade that an OAuth server accepted, in nanoseconds
}

// acceptedSince reports whether an OAuth server has accepted the client ID and secret after a time
// that is not zero.
func (c *client) acceptedSince(at time.Time) bool {
	return !at.IsZero() && c.accepted.Load() > at.UnixNano()
}

// credential is what can be traded for a pair of tokens. It works once.
type credential struct {
	op        string
	grantType string
	parameter string // the name of secret in the request
	secret    event.Secret
}

func refreshToken(token event.Secret) credential {
	return credential{op: opRenew, grantType: "refresh_token", parameter: "refresh_token", secret: token}
}

func authorizationCode(code event.Secret) credential {
	return credential{op: opExchange, grantType: "authorization_code", parameter: "code", secret: code}
}

// trade sends a credential to the token endpoint that belongs to an OAuth server's REST address,
// and returns the new pair. Once the request is sent it goes on after ctx has ended, until the HTTP
// client gives up, because the credential may be spent by then. For the same reason trade accepts
// responses of an odd form, which package oauth2 would reject, so that no pair is lost.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (c *client) trade(ctx context.Context, at address, cred credential) (tokenInfo, error) {
	form := url.Values{
		"client_id": {c.id}, "client_secret": {string(c.secret)},
		"grant_type": {cred.grantType}, cred.parameter: {string(cred.secret)},
	}
	at.path = strings.TrimSuffix(at.path, "rest/") + "oauth/token/"
	if err := ctx.Err(); err != nil {
		return tokenInfo{}, transportError(ctx, cred.op, err)
	}
	status, body, err := c.post(context.WithoutCancel(ctx), cred.op, at, form)
	if err != nil {
		return tokenInfo{}, err
	}
	response, ok := findObject(body, "access_token", "error")
	if code := response.text("error"); code != "" {
		return tokenInfo{}, c.refusal(cred.op, status, code, response.text("error_description"), cred.secret)
	}
	if isRedirectStatus(status) || !ok || response.text("access_token") == "" {
		e := c.refusal(cred.op, status, "", "", cred.secret)
		if e.Detail == "" {
			e.Detail = "the response is not what a token endpoint sends"
		}
		return tokenInfo{}, e
	}
	c.accepted.Store(time.Now().UnixNano())
	return c.readTokenResponse(response), nil
}

// post sends a form and reads the response. It sends nothing to an OAuth server that keeps failing,
// for a while.
func (c *client) post(ctx context.Context, op string, at address, form url.Values) (status int, body []byte, err error) {
	result := outcomeFailed
	if c.hosts.listed(at) { // an OAuth server
		report, err := c.breakers.allow(at.authority())
		if err != nil {
			return 0, nil, &Error{Op: op, Kind: ErrTemporary, Detail: err.Error()}
		}
		defer func() {
			if ctx.Err() != nil {
				result = outcomeUnknown
			}
			report(result)
		}()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, &Error{Op: op, Kind: ErrEndpoint}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, transportError(ctx, op, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return 0, nil, transportError(ctx, op, err)
	}
	if resp.StatusCode < http.StatusInternalServerError {
		result = outcomeResponded
	}
	return resp.StatusCode, body, nil
}

// readTokenResponse reads a pair and what was sent with it.
func (c *client) readTokenResponse(response jsonObject) tokenInfo {
	info := tokenInfo{
		memberID: response.text("member_id"),
		clientID: response.text("client_id"),
		access:   event.Secret(response.text("access_token")),
		refresh:  event.Secret(response.text("refresh_token")),
		expires:  expiry(time.Now(), integer(response["expires"]), integer(response["expires_in"])),
		userID:   integer(response["user_id"]),
		scope:    scopes(response["scope"]),
		status:   response.text("status"),
	}
	// The pair is good even if something is wrong with the rest. To lose it would lose the portal.
	if portal, err := c.hosts.checkPortal(response.text("client_endpoint")); err == nil {
		info.clientEndpoint = portal.String()
	}
	if server, err := c.hosts.checkServer(response.text("server_endpoint")); err == nil {
		info.serverEndpoint = server.String()
	}
	return info
}

func isRedirectStatus(status int) bool {
	return status >= http.StatusMultipleChoices && status < http.StatusBadRequest
}

func (c *client) refusal(op string, status int, code, description string, sent event.Secret) *Error {
	clean := cleanCode(code, sent, c.secret)
	e := &Error{Op: op, Kind: codeKind(clean, description), Code: clean, Status: status}
	if isRedirectStatus(status) {
		e.Kind, e.Code, e.Detail = ErrTemporary, "", "it redirects, which is not followed"
	}
	return e
}

// identify asks whose a live access token is. The form of the response is not documented. What it
// says about the portal and the application may be in several places, which must agree.
func (c *client) identify(ctx context.Context, at address, access event.Secret) (tokenInfo, error) {
	at.path += "app.info"
	result, err := c.callMethod(ctx, opIdentify, at, access)
	if err != nil {
		return tokenInfo{}, err
	}
	object, _ := result.(map[string]any)
	if object == nil {
		return tokenInfo{}, &Error{Op: opIdentify, Kind: ErrTemporary, Detail: "the response is not what app.info sends"}
	}
	return c.readAppInfo(object, access)
}

// callMethod calls a method with an access token and returns its result.
func (c *client) callMethod(ctx context.Context, op string, at address, access event.Secret) (any, error) {
	status, body, err := c.post(ctx, op, at, url.Values{"auth": {string(access)}})
	if err != nil {
		return nil, err
	}
	response, ok := findObject(body, "result", "error")
	if code := response.text("error"); code != "" {
		return nil, c.refusal(op, status, code, response.text("error_description"), access)
	}
	result, has := response["result"]
	if !ok || !has || status != http.StatusOK {
		e := c.refusal(op, status, "", "", access)
		if e.Detail == "" {
			e.Detail = "the response is not what a method sends"
		}
		return nil, e
	}
	return result, nil
}

// readAppInfo reads the result of app.info.
func (c *client) readAppInfo(result jsonObject, access event.Secret) (tokenInfo, error) {
	install := result.object("install")
	info := tokenInfo{
		access:  access,
		expires: expiry(time.Now(), integer(result["expires"]), integer(result["expires_in"])),
		userID:  integer(result["user_id"]),
		scope:   scopes(result["scope"]),
		status:  install.text("status"),
	}
	var err error
	if info.memberID, err = onlyValue(result.text("member_id"), install.text("member_id")); err != nil {
		return tokenInfo{}, err
	}
	if info.clientID, err = onlyValue(result.text("client_id"), install.text("client_id")); err != nil {
		return tokenInfo{}, err
	}
	info.clientEndpoint, err = onlyValue(c.portalEndpoints(result, install)...)
	return info, err
}

// portalEndpoints returns the portal's addresses in the result of app.info. It prefers REST
// addresses, and else makes them from the portal's page or host.
func (c *client) portalEndpoints(result, install jsonObject) []string {
	raw := []string{result.text("client_endpoint"), install.text("client_endpoint")}
	if raw[0] == "" && raw[1] == "" {
		uri := strings.TrimSuffix(strings.TrimSuffix(install.text("uri"), "/"), "/rest")
		raw = []string{uri + "/rest/"}
		if domain := install.text("domain"); uri == "" && domain != "" {
			raw = []string{c.hosts.restURL(strings.ToLower(domain))}
		}
	}
	var endpoints []string
	for _, r := range raw {
		if portal, err := c.hosts.checkPortal(r); err == nil {
			endpoints = append(endpoints, portal.String())
		}
	}
	return endpoints
}

// onlyValue returns the single non-empty value, or an error if two values differ. It returns an
// empty one if all are empty.
func onlyValue(values ...string) (string, error) {
	var only string
	for _, v := range values {
		switch {
		case v == "" || v == only:
		case only == "":
			only = v
		default:
			return "", &Error{Op: opIdentify, Kind: ErrUnverified, Detail: "the OAuth server contradicts itself"}
		}
	}
	return only, nil
}
