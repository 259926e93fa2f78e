package rest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/redact"
)

// Keys of log attributes.
const (
	keyMemberID = "member_id"
	keyHost     = "host"
	keyMethod   = "method"
	keyStatus   = "status"
	keyCode     = "code"
	keyDuration = "duration"
)

// call is one call on its way.
type call struct {
	method     string
	form       string
	suspect    bool // of reading like a reference, if it were in a batch
	idempotent bool
	batch      []*item // the commands, where the method is batch and the answer is to be taken apart
	halt       bool    // of the batch

	// prepare completes the call at the moment when it may be sent, for calls that are gathered until then. It reports whether
	// there is still something to send.
	prepare func(*call) bool

	renewed, moved, paused bool // each happens once
}

// newCall checks and encodes a call.
func newCall(ctx context.Context, method string, params any) (*call, error) {
	if !validMethod(method) {
		return nil, &Error{Code: ErrBadCall, Description: "a method's name is letters, digits, underscores and dots between them"}
	}
	form, err := encodeParams(params, nil)
	if err != nil {
		return nil, &Error{Method: method, Code: ErrBadCall, Description: err.Error()}
	}
	return &call{
		method: method, form: form.Text, suspect: form.Suspect,
		idempotent: isRead(method) || isIdempotent(ctx),
	}, nil
}

// run makes a call, and repeats it as far as that does no harm.
func (c *Client) run(ctx context.Context, call *call) (*Response, error) {
	for try := 0; ; try++ {
		answer, err := c.attempt(ctx, call)
		if err == nil || try >= c.portals.retries || ctx.Err() != nil || !call.repeatable(err) {
			return answer, err
		}
		if waitsElsewhere(err) {
			if pausing(err) && call.paused {
				return nil, err // minutes have passed, and it is blocked again
			}
			call.paused = call.paused || pausing(err)
			continue // sending waits for the limiter, or for the end of the method's pause
		}
		if pause(ctx, backoff(try)) != nil {
			return nil, err
		}
	}
}

// attempt makes a call with the portal's present address and token, and follows it to new ones.
func (c *Client) attempt(ctx context.Context, call *call) (*Response, error) {
	endpoint, token, err := c.portals.access(ctx, c.memberID)
	if err != nil {
		return nil, credentialsError(call.method, "access to the portal", err, "")
	}
	for {
		answer, location, err := c.send(ctx, endpoint, token, call)
		switch {
		case errors.Is(err, ErrExpiredToken) && !call.renewed && c.portals.hook == nil:
			// The portal checks the token before it runs the method, so the call did not happen.
			call.renewed = true
			refused := token
			endpoint, token, err = c.portals.creds.Renew(ctx, c.memberID, refused)
			if err != nil {
				return nil, credentialsError(call.method, "renewing access to the portal", err, refused)
			}
		case errors.Is(err, ErrMoved) && !call.moved:
			call.moved = true
			endpoint, err = c.follow(ctx, endpoint, call.method, location, err)
			if err != nil {
				return nil, err
			}
		default:
			c.reportRemoval(ctx, err)
			return answer, err
		}
	}
}

// Remover is what [Credentials] may also be, to learn that an application was removed from a portal
// while nobody was there to get the event.
type Remover interface {
	// Removed is called after a portal answered a call with a code that says that the application
	// is not there, such as APPLICATION_NOT_FOUND. It must return at once. Calls made at the same
	// time each call it.
	Removed(ctx context.Context, memberID, code string)
}

// reportRemoval tells the credentials that the portal knows the application no more.
func (c *Client) reportRemoval(ctx context.Context, err error) {
	var failure *Error
	if c.portals.hook != nil || !errors.As(err, &failure) || !failure.Is(ErrApplicationMissing) {
		return
	}
	if remover, ok := c.portals.creds.(Remover); ok {
		remover.Removed(ctx, c.memberID, string(failure.Code))
	}
}

// maxForeign is how much of another package's error stands in one of this package, in characters.
const maxForeign = 500

// credentialsError is the error of credentials. The token is the one that they were to renew.
func credentialsError(method, what string, err error, token string) error {
	return &callError{method: method, what: what + ": " + redact.New(token).Clean(err.Error(), maxForeign), cause: err}
}

func (p *Portals) access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	if p.hook != nil {
		return p.hook.endpoint, "", ctx.Err()
	}
	return p.creds.Access(ctx, memberID)
}

// send makes one request, when the limits allow it.
func (c *Client) send(ctx context.Context, endpoint, token string, call *call) (answer *Response, location string, err error) {
	base, err := c.portals.base(endpoint)
	if err != nil {
		return nil, "", &Error{Method: call.method, Code: ErrBadEndpoint, Description: err.Error()}
	}
	if token == "" && c.portals.hook == nil {
		return nil, "", &Error{Method: call.method, Code: ErrBadCall, Description: "the credentials gave no access token"}
	}
	host := strings.ToLower(base.Host)
	if call.prepare == nil {
		if err := c.portals.pauses.wait(ctx, c.memberID, call.method); err != nil {
			return nil, "", err
		}
	}
	if err := c.portals.limiter.wait(ctx, host, call.method); err != nil {
		return nil, "", err
	}
	if call.prepare != nil {
		if !call.prepare(call) {
			return nil, "", contextError(ctx, call.method)
		}
		call.prepare = nil
	}
	start := time.Now()
	status, location, answer, err := c.exchange(ctx, base, token, call)
	err = c.learn(host, call, answer, err)
	c.log(ctx, call.method, status, time.Since(start), err)
	return answer, location, err
}

// learn keeps what an answer tells of the portal's limits, and explains errors.
func (c *Client) learn(host string, call *call, answer *Response, err error) error {
	p := c.portals
	var failure *Error
	switch {
	case err == nil:
		p.pauses.note(c.memberID, call.method, answer.Time)
	case !errors.As(err, &failure):
	case failure.Is(ErrQueryLimit), failure.unreadable(http.StatusServiceUnavailable):
		failure.until = p.limiter.refuse(host)
	default:
		p.explain(failure)
		c.learnPause(failure)
	}
	for _, i := range call.batch {
		if i.answer != nil {
			p.pauses.note(c.memberID, i.method, i.answer.Time)
		}
		if i.err != nil && err == nil {
			p.explain(i.err)
			c.learnPause(i.err)
		}
	}
	return err
}

func (c *Client) learnPause(failure *Error) {
	if pausing(failure) {
		failure.until = c.portals.pauses.block(c.memberID, failure.Method, failure.until)
	}
}

func (c *Client) log(ctx context.Context, method string, status int, took time.Duration, err error) {
	portal := slog.String(keyMemberID, c.memberID)
	if h := c.portals.hook; h != nil {
		portal = slog.String(keyHost, h.host)
	}
	attrs := []slog.Attr{portal, slog.String(keyMethod, method), slog.Int(keyStatus, status), slog.Duration(keyDuration, took)}
	var failure *Error
	if errors.As(err, &failure) {
		attrs = append(attrs, slog.String(keyCode, string(failure.Code)))
	}
	c.portals.log.LogAttrs(ctx, slog.LevelDebug, "bitrix24 call", attrs...)
}

func (c *Client) exchange(ctx context.Context, base *url.URL, token string, call *call) (int, string, *Response, error) {
	method, form, secret := call.method, call.form, token
	if h := c.portals.hook; h != nil {
		secret = h.secret
	} else {
		if form != "" {
			form += "&"
		}
		// Last, because some old methods take their arguments by position.
		form += "auth=" + url.QueryEscape(token)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.String()+method, strings.NewReader(form))
	if err != nil {
		return 0, "", nil, &Error{Method: method, Code: ErrBadEndpoint, Description: "no request can be made of it"}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := c.portals.http.Do(req)
	if err != nil {
		return 0, "", nil, connectionError(ctx, method, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswerBytes+1))
	switch {
	case err != nil:
		return resp.StatusCode, "", nil, connectionError(ctx, method, err)
	case len(body) > MaxAnswerBytes:
		return resp.StatusCode, "", nil, &Error{Method: method, Status: resp.StatusCode, Code: ErrTooLarge}
	}
	secrets := redact.New(secret)
	answer, err := parseAnswer(method, resp.StatusCode, body, secrets)
	switch {
	case err != nil:
	case call.batch != nil:
		err = call.readBatch(answer, secrets)
	case strings.EqualFold(method, methodBatch):
		answer.Result = cleanRefusals(answer.Result, secrets)
	}
	return resp.StatusCode, resp.Header.Get("Location"), answer, err
}

// hostOf returns the host of an address, an IPv6 address in brackets.
func hostOf(u *url.URL) string {
	if host := u.Hostname(); strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return u.Hostname()
}

// base checks a portal's endpoint and ends it with a slash.
func (p *Portals) base(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the portal's endpoint must be an address such as https://example.bitrix24.com/rest/")
	case u.Scheme != "https" && (u.Scheme != "http" || !p.plain.Allows(hostOf(u), u.Port())):
		return nil, errors.New("the portal's endpoint must be https; for development there is WithInsecureHTTP")
	}
	if !strings.HasSuffix(u.Path, "/") {
		u = u.JoinPath("/")
	}
	return u, nil
}
