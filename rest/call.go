package rest

import (
	"cmp"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/internal/batch"
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
	keyStack    = "stack"
	keyReason   = "reason"
)

// call is one call on its way.
type call struct {
	method     string
	form       string
	gaps       []gap // of the form, for files
	suspect    bool  // of reading like a reference, if it were in a batch
	idempotent bool
	retries    int
	batch      []*item // the commands, if the method is batch and the answer is to be taken apart
	halt       bool    // of the batch

	path  string                                                     // below the endpoint, if it is not the method
	out   func(base *url.URL, token string) (*outgoing, error)       // the request, if it is not a form
	fetch func(context.Context, *url.URL, string) (exchanged, error) // what is done instead of a POST

	// prepare completes the call at the moment when it may be sent, for calls that are gathered until then. It reports whether
	// there is still something to send.
	prepare func(*call) bool

	turn       turn
	info       CallInfo
	tries      int                              // that failed before the one that is under way
	exchanging bool                             // a request is under way
	doubtful   bool                             // an attempt may have run
	repeating  func(err error, until time.Time) // called before the call is repeated; may be nil
	busy       time.Duration                    // that it waited, or is to wait, because a front end said so
	busies     int                              // how often

	renewed, moved, paused bool // each happens once
}

// newCall checks and encodes a call.
func (c *Client) newCall(method string, params any) (*call, error) {
	if err := c.refused(method); err != nil {
		return nil, err
	}
	form, err := encodeParams(params, nil)
	if err != nil {
		return nil, &Error{Method: method, Code: ErrBadCall, Description: err.Error()}
	}
	gaps, err := fileGaps(form)
	if err != nil {
		return nil, &Error{Method: method, Code: ErrBadCall, Description: err.Error()}
	}
	return &call{
		method: method, form: form.Text, gaps: gaps, suspect: form.Suspect,
		idempotent: c.opts.idempotent || isRead(method), retries: c.retries(),
	}, nil
}

// retries returns how often a call is repeated at most.
func (c *Client) retries() int {
	if c.opts.limited {
		return c.opts.retries
	}
	return c.portals.retries
}

// run makes a call, and repeats it as far as that does no harm.
func (c *Client) run(ctx context.Context, call *call) (answer *Response, err error) {
	if err := call.measure(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	err = errPanicked // unless it returns
	defer func() { c.portals.meter.ended(ctx, c, call, start, err) }()
	answer, err = c.tries(ctx, call)
	if err != nil && call.doubtful && surelyNotRun(err) {
		err = doubted(err)
	}
	return answer, err
}

const errPanicked ErrorCode = "the credentials or the HTTP client panicked"

func (c *Client) tries(ctx context.Context, call *call) (*Response, error) {
	for ; ; call.tries++ {
		answer, err := c.attempt(ctx, call)
		if err == nil {
			return answer, nil
		}
		call.doubtful = call.doubtful || !surelyNotRun(err)
		if call.tries >= call.retries || ctx.Err() != nil {
			return nil, err
		}
		wait, ok := call.again(err, call.tries)
		if !ok {
			return nil, err
		}
		if call.repeating != nil {
			call.repeating(err, time.Now().Add(wait))
		}
		if wait > 0 && c.portals.meter.wait(&call.info.BackoffWait, func() error { return pause(ctx, wait) }) != nil {
			return nil, err
		}
	}
}

// attempt makes a call with the portal's present address and token, and follows it to new ones.
func (c *Client) attempt(ctx context.Context, call *call) (*Response, error) {
	endpoint, token, err := c.portals.access(ctx, c.memberID)
	if err != nil {
		return nil, credentialsError(ctx, call.method, "access to the portal", err, "")
	}
	for {
		answer, location, err := c.send(ctx, endpoint, token, call)
		switch {
		case hasCode(err, ErrExpiredToken) && !call.renewed && c.portals.hook == nil:
			// The portal checks the token before it runs the method, so the call did not happen.
			call.renewed = true
			c.portals.meter.renewed.Add(1)
			refused := token
			endpoint, token, err = c.portals.creds.Renew(ctx, c.memberID, refused)
			if err != nil {
				return nil, credentialsError(ctx, call.method, "renewing access to the portal", err, refused)
			}
		case hasCode(err, ErrMoved) && !call.moved:
			call.moved = true
			endpoint, err = c.follow(ctx, endpoint, cmp.Or(call.path, call.method), location, err)
			if err != nil {
				return nil, err
			}
		default:
			c.reportRemoval(ctx, err)
			return answer, err
		}
	}
}

// hasCode reports whether a call was answered with a code. The cause of a context that ended may be the error of another call, so
// this does not unwrap.
func hasCode(err error, code ErrorCode) bool {
	e, ok := err.(*Error) //nolint:errorlint // see above
	return ok && e.Is(code)
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
	if c.portals.hook != nil || !hasCode(err, ErrApplicationMissing) {
		return
	}
	if remover, ok := c.portals.creds.(Remover); ok {
		remover.Removed(ctx, c.memberID, string(err.(*Error).Code)) //nolint:errorlint,forcetypeassert // it has a code
	}
}

// maxForeign is how much of another package's error stands in one of this package, in characters.
const maxForeign = 500

// credentialsError is the error of credentials. The token is the one that they were to renew. Nothing was sent that could run.
func credentialsError(ctx context.Context, method, what string, err error, token string) error {
	e := &callError{
		method: method, what: what + ": " + redact.New(token).Clean(err.Error(), maxForeign), cause: err,
		ran: ranNot, creds: true,
	}
	if ctx.Err() != nil || isPermanent(err) {
		e.ran = ranNever
	}
	return e
}

func (p *Clients) access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	switch {
	case p.hook != nil:
		return p.hook.endpoint, "", ctx.Err()
	case isNil(p.creds):
		return "", "", errNoCredentials
	}
	return p.creds.Access(ctx, memberID)
}

// errNoCredentials is that of a client of As(nil).
const errNoCredentials = noCredentialsError("rest: the credentials given to As are nil")

type noCredentialsError string

func (e noCredentialsError) Error() string { return string(e) }

// Permanent reports true: waiting does not help.
func (noCredentialsError) Permanent() bool { return true }

// send makes one request, when the limits allow it.
func (c *Client) send(ctx context.Context, endpoint, token string, call *call) (answer *Response, location string, err error) {
	base, err := c.portals.base(endpoint)
	if err != nil {
		return nil, "", &Error{Method: call.method, Code: ErrBadEndpoint, Description: err.Error()}
	}
	if token == "" && c.portals.hook == nil {
		return nil, "", &Error{Method: call.method, Code: ErrBadCall, Description: "the credentials gave no access token"}
	}
	if call.prepare == nil {
		err := c.portals.meter.wait(&call.info.PauseWait, func() error { return c.portals.pauses.wait(ctx, c.memberID, call.method) })
		if err != nil {
			return nil, "", err
		}
	}
	call.turn.host, call.turn.method = strings.ToLower(base.Host), call.method
	err = c.portals.meter.wait(&call.info.LimitWait, func() error { return c.portals.limiter.wait(ctx, &call.turn) })
	if err != nil {
		return nil, "", err
	}
	if call.prepare != nil && !call.prepare(call) {
		c.portals.limiter.giveBack(&call.turn)
		return nil, "", &Error{Method: call.method, Code: ErrNotRun}
	}
	start := time.Now()
	got, err := c.exchange(ctx, base, token, call)
	err = c.learn(call, got, err)
	c.portals.meter.answered(call, got, err)
	c.log(ctx, call.method, got.status, time.Since(start), err)
	return got.answer, got.location, err
}

// learn keeps what an answer tells of the portal's limits, and explains errors.
func (c *Client) learn(call *call, got exchanged, err error) error {
	p := c.portals
	failure, ok := err.(*Error) //nolint:errorlint // the cause of a context may be another call's error
	switch {
	case err == nil:
		p.pauses.note(c.memberID, call.method, got.answer.Time)
	case !ok:
	case failure.Is(ErrQueryLimit):
		failure.until = p.limiter.refuse(call.turn.host)
	case failure.busy():
		wait := jitter(min(firstBusy<<call.busies, maxBlock))
		if got.retryAfter > 0 {
			wait, failure.asked = min(got.retryAfter, maxPause), true
		}
		call.busies = min(call.busies+1, 8)
		failure.until = time.Now().Add(wait)
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
	if failure.Is(ErrOperationTimeLimit) {
		failure.until = c.portals.pauses.block(c.memberID, failure.Method, failure.until)
	}
}

func (c *Client) log(ctx context.Context, method string, status int, took time.Duration, err error) {
	portal := slog.String(keyMemberID, c.memberID)
	if h := c.portals.hook; h != nil {
		portal = slog.String(keyHost, h.host)
	}
	attrs := []slog.Attr{portal, slog.String(keyMethod, method), slog.Int(keyStatus, status), slog.Duration(keyDuration, took)}
	if failure, ok := err.(*Error); ok { //nolint:errorlint // the cause of a context may be another call's error
		attrs = append(attrs, slog.String(keyCode, string(failure.Code)))
	}
	c.portals.log.LogAttrs(ctx, slog.LevelDebug, "bitrix24 call", attrs...)
}

// exchanged is what came back.
type exchanged struct {
	way        way
	status     int // 0 without an answer
	location   string
	retryAfter time.Duration // 0 if it was not named
	answer     *Response
}

// maxErrorBytes is the most that is read of an answer with a status of 400 or more, after decompression.
const maxErrorBytes = 1 << 20

func (c *Client) exchange(ctx context.Context, base *url.URL, token string, call *call) (got exchanged, err error) {
	if call.fetch != nil {
		return call.fetch(ctx, base, token)
	}
	method := call.method
	out, err := c.outgoing(base, token, call)
	if err != nil {
		return got, err
	}
	client, sending, guard := c.portals.guarded(ctx, len(out.body.gaps) > 0)
	defer guard.end()
	body := &watched{body: &out.body, guard: guard}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(sending, body.trace()), http.MethodPost, out.url, body.open())
	if err != nil {
		return got, &Error{Method: method, Code: ErrBadEndpoint, Description: "no request can be made of it"}
	}
	if req.ContentLength = out.body.length(); req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	req.GetBody = func() (io.ReadCloser, error) { return body.open(), nil } // for a connection that was closed meanwhile
	req.Header = out.header
	req.Header.Set("Accept", "application/json")
	call.exchanging = true
	resp, err := client.Do(req)
	call.exchanging = false
	if got.way = body.way(); err != nil {
		if failed := body.stop(); failed != nil {
			return got, fileFailed(method, failed, got.way == waySent)
		}
		return got, connectionError(ctx, method, guardFailed(sending, err), got.way)
	}
	got.way = waySent
	resp.Body = guard.body(sending, resp.Body, false)
	defer func() {
		_ = resp.Body.Close()
		_ = body.stop()
	}()
	got.status, got.location, got.retryAfter = resp.StatusCode, resp.Header.Get("Location"), retryAfter(resp.Header)
	text, err := readAnswer(ctx, method, resp)
	if err != nil {
		return got, err
	}
	secrets := redact.New(out.secrets...)
	got.answer, err = parseAnswer(method, resp.StatusCode, text, secrets)
	if hasCode(err, ErrMoved) && (got.location == "" || !movesCalls(resp.StatusCode)) {
		err = &Error{Method: method, Status: resp.StatusCode, Code: ErrBadResponse}
	}
	switch {
	case err != nil && out.refine != nil:
		out.refine(err, text, secrets)
	case err != nil:
	case call.batch != nil:
		err = call.readBatch(got.answer, secrets)
	case strings.EqualFold(method, batch.Method):
		got.answer.Result = cleanRefusals(got.answer.Result, secrets)
	}
	return got, err
}

// movesCalls reports whether a redirect says that the call is to be made at another address. Others say that it was made.
func movesCalls(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	default:
		return false
	}
}

// readAnswer reads the body of an answer. What a front end sends with an error is not worth much: if it is long or broken, the
// status says it all.
func readAnswer(ctx context.Context, method string, resp *http.Response) ([]byte, error) {
	limit := MaxResponseBytes
	if resp.StatusCode >= http.StatusBadRequest {
		limit = maxErrorBytes
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	switch page := resp.StatusCode >= http.StatusMultipleChoices; {
	case err == nil && len(text) <= limit:
		return text, nil
	case err != nil && ctx.Err() != nil:
		return nil, ended(ctx, method, ranMaybe)
	case err != nil && !page && !isPacking(err):
		return nil, connectionError(ctx, method, err, waySent)
	case err == nil && !page:
		return nil, &Error{Method: method, Status: resp.StatusCode, Code: ErrTooLarge}
	case page && resp.StatusCode < http.StatusBadRequest:
		return nil, &Error{Method: method, Status: resp.StatusCode, Code: ErrMoved}
	default:
		return nil, &Error{Method: method, Status: resp.StatusCode, Code: ErrBadResponse}
	}
}

// isPacking reports whether an answer could not be unpacked.
func isPacking(err error) bool {
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, new(flate.CorruptInputError))
}

// retryAfter reads when a front end wants to be asked again.
func retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if consists(text, digits) {
		seconds, err := strconv.Atoi(text)
		if err != nil { // more than an int
			return maxPause
		}
		return time.Duration(min(seconds, int(maxPause/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// watched is the body of a request that notes whether any of it may have been sent.
type watched struct {
	body  *body
	guard *guard

	asked, connected, read atomic.Bool

	mu     sync.Mutex
	opened []*bodyReader
}

func (w *watched) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { w.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	}
}

// way returns how far the request came.
func (w *watched) way() way {
	switch {
	case w.connected.Load() || w.read.Load():
		return waySent
	case w.asked.Load():
		return wayNone
	default:
		return wayUnknown
	}
}

// hostOf returns the host of an address, an IPv6 address in brackets.
func hostOf(u *url.URL) string {
	if host := u.Hostname(); strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return u.Hostname()
}

// base checks a portal's endpoint and ends it with a slash.
func (p *Clients) base(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the portal's endpoint must be an address such as https://example.bitrix24.com/rest/")
	case strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/rest/api"):
		return nil, errors.New("the portal's endpoint ends in /rest/; methods of REST 3.0 are called there by Call3")
	case u.Scheme != "https" && (u.Scheme != "http" || !p.plain.Allows(hostOf(u), u.Port())):
		return nil, errors.New("the portal's endpoint must be https; for development there is WithInsecureHTTP")
	}
	if !strings.HasSuffix(u.Path, "/") {
		u = u.JoinPath("/")
	}
	return u, nil
}
