package oauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24events/b24events/event"
)

// maxAnswer bounds what is read of the OAuth server's answers. Package oauth2 has the same bound.
const maxAnswer = 1 << 20

// server is the one place that talks to OAuth servers. An address gets there only after the allow list.
type server struct {
	id     string
	secret event.Secret
	hosts  hosts
	http   *http.Client
}

// tokens returns the client of the token endpoint that belongs to an OAuth server's REST address. Credentials go into the
// body, at once: package oauth2 would otherwise try a header first, and a failed try uses up a refresh token.
func (s *server) tokens(at address) *oauth2.Config {
	at.path = strings.TrimSuffix(at.path, "rest/") + "oauth/token/"
	return &oauth2.Config{
		ClientID:     s.id,
		ClientSecret: string(s.secret),
		Endpoint:     oauth2.Endpoint{TokenURL: at.String(), AuthStyle: oauth2.AuthStyleInParams},
	}
}

// renew trades a refresh token for a new pair.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (s *server) renew(ctx context.Context, at address, refresh event.Secret) (answer, error) {
	source := s.tokens(at).TokenSource(context.WithValue(ctx, oauth2.HTTPClient, s.http), &oauth2.Token{RefreshToken: string(refresh)})
	token, err := source.Token()
	if err != nil {
		return answer{}, s.tokenError(ctx, opRenew, err, refresh)
	}
	return s.tokenAnswer(token), nil
}

// redeem trades an authorization code for a pair.
func (s *server) redeem(ctx context.Context, at address, code event.Secret) (answer, error) {
	token, err := s.tokens(at).Exchange(context.WithValue(ctx, oauth2.HTTPClient, s.http), string(code))
	if err != nil {
		return answer{}, s.tokenError(ctx, opExchange, err, code)
	}
	return s.tokenAnswer(token), nil
}

// tokenAnswer reads a pair and what came along with it.
func (s *server) tokenAnswer(token *oauth2.Token) answer {
	a := answer{
		memberID: text(token.Extra("member_id")),
		clientID: text(token.Extra("client_id")),
		access:   event.Secret(token.AccessToken),
		refresh:  event.Secret(token.RefreshToken),
		expires:  expiry(time.Now(), integer(token.Extra("expires")), token.ExpiresIn),
		userID:   integer(token.Extra("user_id")),
		scope:    scopes(token.Extra("scope")),
		status:   text(token.Extra("status")),
	}
	// The pair is good, whatever is wrong with the rest: losing it would lose the portal.
	if portal, err := s.hosts.portal(text(token.Extra("client_endpoint"))); err == nil {
		a.clientEndpoint = portal.String()
	}
	if at, err := s.hosts.server(text(token.Extra("server_endpoint"))); err == nil {
		a.serverEndpoint = at.String()
	}
	return a
}

// tokenError turns the errors of package oauth2, which print whole answers, into this package's.
func (s *server) tokenError(ctx context.Context, op string, err error, sent event.Secret) error {
	var refusal *oauth2.RetrieveError
	if errors.As(err, &refusal) {
		return s.refusal(op, refusal.Response.StatusCode, refusal.ErrorCode, refusal.ErrorDescription, sent)
	}
	var address *url.Error
	if errors.As(err, &address) {
		return connectionError(ctx, op, err)
	}
	if ctx.Err() != nil {
		return connectionError(ctx, op, ctx.Err())
	}
	// Whatever else package oauth2 returns quotes the answer.
	return &Error{Op: op, Kind: ErrTemporary, Detail: "the answer is not what a token endpoint sends"}
}

func (s *server) refusal(op string, status int, code, description string, sent event.Secret) *Error {
	clean := cleanCode(code, sent, s.secret)
	e := &Error{Op: op, Kind: codeKind(clean, description), Code: clean, Status: status}
	if status >= http.StatusMultipleChoices && status < http.StatusBadRequest {
		e.Kind, e.Code, e.Detail = ErrTemporary, "", "it redirects, which is not followed"
	}
	return e
}

// identify asks whose a live access token is. The answer's shape is not documented: what it says of the portal and the
// application is taken from wherever it stands, and what it says twice must agree.
func (s *server) identify(ctx context.Context, at address, access event.Secret) (answer, error) {
	form := url.Values{"auth": {string(access)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String()+"app.info", strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, &Error{Op: opIdentify, Kind: ErrEndpoint}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{}, connectionError(ctx, opIdentify, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, connectionError(ctx, opIdentify, err)
	}
	all, ok := parseFacts(body)
	if code := all.text("error"); code != "" {
		return answer{}, s.refusal(opIdentify, resp.StatusCode, code, all.text("error_description"), access)
	}
	result := all.object("result")
	if !ok || result == nil || resp.StatusCode != http.StatusOK {
		e := s.refusal(opIdentify, resp.StatusCode, "", "", access)
		if e.Detail == "" {
			e.Detail = "the answer is not what app.info sends"
		}
		return answer{}, e
	}
	return s.identity(result, access)
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

// portalsNamed returns the portal's addresses that an answer holds, the exact ones where there are any.
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
