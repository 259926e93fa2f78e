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

// maxAnswer bounds what is read of a response.
const maxAnswer = 1 << 20

// server is the one place that talks to OAuth servers, and to portals on their own behalf. An
// address gets there only after the allow list, or from an OAuth server.
type server struct {
	id       string
	secret   event.Secret
	hosts    hosts
	http     *http.Client
	breakers breakers
	accepted atomic.Int64 // Unix time of the last trade that an OAuth server accepted, nanoseconds
}

// acceptedSince reports whether an OAuth server has accepted the client ID and secret after a time,
// which is not zero.
func (s *server) acceptedSince(at time.Time) bool {
	return !at.IsZero() && s.accepted.Load() > at.UnixNano()
}

// renew trades a refresh token for a new pair.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (s *server) renew(ctx context.Context, at address, refresh event.Secret) (answer, error) {
	return s.trade(ctx, opRenew, at, refresh, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(refresh)}})
}

// redeem trades an authorization code for a pair.
func (s *server) redeem(ctx context.Context, at address, code event.Secret) (answer, error) {
	return s.trade(ctx, opExchange, at, code, url.Values{"grant_type": {"authorization_code"}, "code": {string(code)}})
}

// trade sends a credential that works once to the token endpoint that belongs to an OAuth server's
// REST address. Once it is under way it goes on when ctx ends, for as long as the HTTP client gives
// it: the credential may be spent by then. For the same reason the response is read with more
// patience than package oauth2 has, so that a pair in a response of an odd form is not lost.
func (s *server) trade(ctx context.Context, op string, at address, sent event.Secret, form url.Values) (answer, error) {
	form.Set("client_id", s.id)
	form.Set("client_secret", string(s.secret))
	at.path = strings.TrimSuffix(at.path, "rest/") + "oauth/token/"
	if err := ctx.Err(); err != nil {
		return answer{}, connectionError(ctx, op, err)
	}
	status, body, err := s.post(context.WithoutCancel(ctx), op, at, form)
	if err != nil {
		return answer{}, err
	}
	all, ok := findFacts(body, "access_token", "error")
	if code := all.text("error"); code != "" {
		return answer{}, s.refusal(op, status, code, all.text("error_description"), sent)
	}
	if redirects(status) || !ok || all.text("access_token") == "" {
		e := s.refusal(op, status, "", "", sent)
		if e.Detail == "" {
			e.Detail = "the response is not what a token endpoint sends"
		}
		return answer{}, e
	}
	s.accepted.Store(time.Now().UnixNano())
	return s.tokenAnswer(all), nil
}

// post sends a form and reads the response. An OAuth server that keeps failing is left alone for a
// while.
func (s *server) post(ctx context.Context, op string, at address, form url.Values) (status int, body []byte, err error) {
	result := outcomeFailed
	if s.hosts.listed(at) { // an OAuth server
		report, err := s.breakers.allow(at.authority())
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
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, nil, connectionError(ctx, op, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, connectionError(ctx, op, err)
	}
	if resp.StatusCode < http.StatusInternalServerError {
		result = outcomeAnswered
	}
	return resp.StatusCode, body, nil
}

// tokenAnswer reads a pair and what came along with it.
func (s *server) tokenAnswer(all facts) answer {
	a := answer{
		memberID: all.text("member_id"),
		clientID: all.text("client_id"),
		access:   event.Secret(all.text("access_token")),
		refresh:  event.Secret(all.text("refresh_token")),
		expires:  expiry(time.Now(), integer(all["expires"]), integer(all["expires_in"])),
		userID:   integer(all["user_id"]),
		scope:    scopes(all["scope"]),
		status:   all.text("status"),
	}
	// The pair is good, whatever is wrong with the rest: losing it would lose the portal.
	if portal, err := s.hosts.portal(all.text("client_endpoint")); err == nil {
		a.clientEndpoint = portal.String()
	}
	if at, err := s.hosts.server(all.text("server_endpoint")); err == nil {
		a.serverEndpoint = at.String()
	}
	return a
}

func redirects(status int) bool {
	return status >= http.StatusMultipleChoices && status < http.StatusBadRequest
}

func (s *server) refusal(op string, status int, code, description string, sent event.Secret) *Error {
	clean := cleanCode(code, sent, s.secret)
	e := &Error{Op: op, Kind: codeKind(clean, description), Code: clean, Status: status}
	if redirects(status) {
		e.Kind, e.Code, e.Detail = ErrTemporary, "", "it redirects, which is not followed"
	}
	return e
}

// identify asks whose a live access token is. The answer's shape is not documented: what it says of
// the portal and the application is taken from wherever it stands, and what it says twice must
// agree.
func (s *server) identify(ctx context.Context, at address, access event.Secret) (answer, error) {
	at.path += "app.info"
	result, err := s.ask(ctx, opIdentify, at, access)
	if err != nil {
		return answer{}, err
	}
	object, _ := result.(map[string]any)
	if object == nil {
		return answer{}, &Error{Op: opIdentify, Kind: ErrTemporary, Detail: "the response is not what app.info sends"}
	}
	return s.identity(object, access)
}

// ask calls a method with an access token and returns its result.
func (s *server) ask(ctx context.Context, op string, at address, access event.Secret) (any, error) {
	status, body, err := s.post(ctx, op, at, url.Values{"auth": {string(access)}})
	if err != nil {
		return nil, err
	}
	all, ok := findFacts(body, "result", "error")
	if code := all.text("error"); code != "" {
		return nil, s.refusal(op, status, code, all.text("error_description"), access)
	}
	result, has := all["result"]
	if !ok || !has || status != http.StatusOK {
		e := s.refusal(op, status, "", "", access)
		if e.Detail == "" {
			e.Detail = "the response is not what a method sends"
		}
		return nil, e
	}
	return result, nil
}

// identity reads the result of app.info.
func (s *server) identity(result facts, access event.Secret) (answer, error) {
	install := result.object("install")
	a := answer{
		access:  access,
		expires: expiry(time.Now(), integer(result["expires"]), integer(result["expires_in"])),
		userID:  integer(result["user_id"]),
		scope:   scopes(result["scope"]),
		status:  install.text("status"),
	}
	var err error
	if a.memberID, err = agree(result.text("member_id"), install.text("member_id")); err != nil {
		return answer{}, err
	}
	if a.clientID, err = agree(result.text("client_id"), install.text("client_id")); err != nil {
		return answer{}, err
	}
	a.clientEndpoint, err = agree(s.portalsNamed(result, install)...)
	return a, err
}

// portalsNamed returns the portal's addresses that an answer holds, the exact ones where there are
// any.
func (s *server) portalsNamed(result, install facts) []string {
	raw := []string{result.text("client_endpoint"), install.text("client_endpoint")}
	if raw[0] == "" && raw[1] == "" {
		uri := strings.TrimSuffix(strings.TrimSuffix(install.text("uri"), "/"), "/rest")
		raw = []string{uri + "/rest/"}
		if domain := install.text("domain"); uri == "" && domain != "" {
			raw = []string{s.hosts.atHost(strings.ToLower(domain))}
		}
	}
	var named []string
	for _, r := range raw {
		if portal, err := s.hosts.portal(r); err == nil {
			named = append(named, portal.String())
		}
	}
	return named
}

// agree returns the one thing that all say who say anything.
func agree(said ...string) (string, error) {
	var one string
	for _, s := range said {
		switch {
		case s == "" || s == one:
		case one == "":
			one = s
		default:
			return "", &Error{Op: opIdentify, Kind: ErrUnverified, Detail: "the OAuth server contradicts itself"}
		}
	}
	return one, nil
}
