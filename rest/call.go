package rest

import (
	"cmp"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/redact"
	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/internal/typednil"
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

// call is one call that is being made.
type call struct {
	method     string
	form       string
	gaps       []gap // of the form, for files
	suspect    bool  // a text reads like a reference, which portals replace in a batch
	idempotent bool
	retries    int
	batch      []*item // the commands, if the method is batch and the response is split between them
	halt       bool    // of the batch

	path  string                                                     // below the endpoint, if it is not the method
	out   func(base *url.URL, token string) (*outgoing, error)       // the request, if it is not a form
	fetch func(context.Context, *url.URL, string) (exchanged, error) // replaces the POST

	// prepare completes the call when it may be sent, for calls that are collected until then. It
	// reports whether there is still something to send.
	prepare func(*call) bool

	turn       turn
	info       CallInfo
	tries      int                              // attempts that failed before the current one
	inFlight   bool                             // a request is being sent
	mayHaveRun bool                             // an attempt may have run
	onRetry    func(err error, until time.Time) // called before a retry; may be nil
	joined     func() []context.Context         // of a Coalescer; nil otherwise
	busyWait   time.Duration                    // how long front ends made it wait
	busyCount  int                              // how often they did

	renewed, moved, paused bool // each happens once
}

// checkCall returns an error if the client's options or the name of the method are not usable.
func (c *Client) checkCall(method string) error {
	switch {
	case c.opts.err != nil:
		return &Error{Code: ErrBadCall, Description: c.opts.err.Error()}
	case validMethod(method):
		return nil
	}
	e := &Error{Code: ErrBadCall, Description: "a method's name holds only letters, digits, underscores, and dots between them"}
	if strings.HasPrefix(strings.ToLower(method), "api/") {
		e.Hint = "methods of REST 3.0 are called by Call3, without api/"
	}
	return e
}

// newCall checks and encodes a call.
func (c *Client) newCall(method string, params any) (*call, error) {
	if err := c.checkCall(method); err != nil {
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

// retries returns how often a call is retried at most.
func (c *Client) retries() int {
	if c.opts.limited {
		return c.opts.retries
	}
	return c.clients.retries
}

// run makes a call, and retries it if that does no harm.
func (c *Client) run(ctx context.Context, call *call) (response *Response, err error) {
	if err := call.measure(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	ctx = c.clients.meter.context(ctx, c, call.method)
	err = errPanicked // unless runWithRetries returns
	defer func() { c.clients.meter.countCall(ctx, c, call, start, err) }()
	response, err = c.runWithRetries(ctx, call)
	if err != nil && call.mayHaveRun && surelyNotRun(err) {
		err = withMayHaveRun(err)
	}
	return response, err
}

const errPanicked ErrorCode = "the credentials or the HTTP client panicked"

func (c *Client) runWithRetries(ctx context.Context, call *call) (*Response, error) {
	for ; ; call.tries++ {
		response, err := c.attempt(ctx, call)
		if err == nil {
			return response, nil
		}
		call.mayHaveRun = call.mayHaveRun || !surelyNotRun(err)
		if call.tries >= call.retries || ctx.Err() != nil {
			return nil, err
		}
		wait, ok := call.shouldRetry(err, call.tries)
		if !ok {
			return nil, err
		}
		if call.onRetry != nil {
			call.onRetry(err, time.Now().Add(wait))
		}
		if wait > 0 && c.clients.meter.wait(&call.info.BackoffWait, func() error { return pause(ctx, wait) }) != nil {
			return nil, err
		}
	}
}

// attempt makes a call with the portal's current address and token, and again if they have changed.
func (c *Client) attempt(ctx context.Context, call *call) (*Response, error) {
	endpoint, token, err := c.clients.access(ctx, c.memberID)
	if err != nil {
		return nil, credentialsError(ctx, call.method, "access to the portal", err, "")
	}
	for {
		response, location, err := c.send(ctx, endpoint, token, call)
		switch {
		case hasCode(err, ErrExpiredToken) && !call.renewed && c.clients.hook == nil:
			// The portal checks the token before it runs the method, so the call did not happen.
			call.renewed = true
			c.clients.meter.renewed.Add(1)
			refused := token
			endpoint, token, err = c.clients.creds.Renew(ctx, c.memberID, refused)
			if err != nil {
				return nil, credentialsError(ctx, call.method, "renewing access to the portal", err, refused)
			}
		case hasCode(err, ErrMoved) && !call.moved:
			call.moved = true
			endpoint, err = c.followRedirect(ctx, endpoint, cmp.Or(call.path, call.method), location, err)
			if err != nil {
				return nil, err
			}
		default:
			c.reportRemoval(ctx, err)
			return response, err
		}
	}
}

// hasCode reports whether err is the response to a call, with a code. It does not unwrap, because
// the cause of a context that ended may be the error of another call.
func hasCode(err error, code ErrorCode) bool {
	e, ok := err.(*Error) //nolint:errorlint // see the comment
	return ok && e.Is(code)
}

// Remover is an optional interface of [Credentials]. With it they learn that an application was
// removed from a portal even if the event did not arrive.
type Remover interface {
	// Removed is called when the response to a call has a code that says that the application is
	// not there, for example APPLICATION_NOT_FOUND. It must return at once. Calls made at the same
	// time each call it.
	Removed(ctx context.Context, memberID, code string)
}

// reportRemoval informs the credentials if the portal no longer knows the application.
func (c *Client) reportRemoval(ctx context.Context, err error) {
	if c.clients.hook != nil || !hasCode(err, ErrApplicationMissing) {
		return
	}
	if remover, ok := c.clients.creds.(Remover); ok {
		remover.Removed(ctx, c.memberID, string(err.(*Error).Code)) //nolint:errorlint,forcetypeassert // it has a code
	}
}

// maxForeign is how much of another package's error appears in an error of this package, in
// characters.
const maxForeign = 500

// credentialsError wraps an error of the credentials. token is the one that they were asked to
// renew. No call was sent.
func credentialsError(ctx context.Context, method, what string, err error, token string) error {
	e := &callError{
		method: method, what: what + ": " + redact.New(token).Clean(err.Error(), maxForeign), cause: err,
		executed: executedNot, creds: true,
	}
	if ctx.Err() != nil || isPermanent(err) {
		e.executed = executedNever
	}
	return e
}

func (cs *Clients) access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	switch {
	case cs.hook != nil:
		return cs.hook.endpoint, "", ctx.Err()
	case typednil.Is(cs.creds):
		return "", "", errNoCredentials
	}
	return cs.creds.Access(ctx, memberID)
}

// errNoCredentials is the error of a client of As(nil).
const errNoCredentials = noCredentialsError("rest: the credentials given to As are nil")

type noCredentialsError string

func (e noCredentialsError) Error() string { return string(e) }

// Permanent reports true: waiting does not help.
func (noCredentialsError) Permanent() bool { return true }

// send makes one request, when the limits allow it.
func (c *Client) send(ctx context.Context, endpoint, token string, call *call) (response *Response, location string, err error) {
	base, err := c.clients.parseEndpoint(endpoint)
	if err != nil {
		return nil, "", &Error{Method: call.method, Code: ErrBadEndpoint, Description: err.Error()}
	}
	if token == "" && c.clients.hook == nil {
		return nil, "", &Error{Method: call.method, Code: ErrBadCall, Description: "the credentials gave no access token"}
	}
	if call.prepare == nil {
		err := c.clients.meter.wait(&call.info.PauseWait, func() error { return c.clients.pauses.wait(ctx, c.memberID, call.method) })
		if err != nil {
			return nil, "", err
		}
	}
	call.turn.host, call.turn.method = strings.ToLower(base.Host), call.method
	err = c.clients.meter.wait(&call.info.LimitWait, func() error { return c.clients.limiter.wait(ctx, &call.turn) })
	if err != nil {
		return nil, "", err
	}
	if call.prepare != nil && !call.prepare(call) {
		c.clients.limiter.giveBack(&call.turn)
		return nil, "", &Error{Method: call.method, Code: ErrNotRun}
	}
	start := time.Now()
	got, err := c.exchange(ctx, base, token, call)
	err = c.recordLimits(call, got, err)
	c.clients.meter.countRequest(call, got, err)
	c.log(ctx, call.method, got.status, time.Since(start), err)
	return got.response, got.location, err
}

// recordLimits records what a response says about the portal's limits, and adds hints to errors.
func (c *Client) recordLimits(call *call, got exchanged, err error) error {
	p := c.clients
	failure, ok := err.(*Error) //nolint:errorlint // the cause of a context may be another call's error
	switch {
	case err == nil:
		p.pauses.recordUsage(c.memberID, call.method, got.response.Time)
	case !ok:
	case failure.Is(ErrQueryLimit):
		failure.until = p.limiter.recordRefusal(call.turn.host)
	case failure.busy():
		wait := timing.Jitter(min(firstBusy<<call.busyCount, maxBlock))
		if got.retryAfter > 0 {
			wait, failure.namedRetry = min(got.retryAfter, maxPause), true
		}
		call.busyCount = min(call.busyCount+1, 8)
		failure.until = time.Now().Add(wait)
	default:
		p.explain(failure)
		c.recordPause(failure)
	}
	for _, i := range call.batch {
		if i.response != nil {
			p.pauses.recordUsage(c.memberID, i.method, i.response.Time)
		}
		if i.err != nil && err == nil {
			p.explain(i.err)
			c.recordPause(i.err)
		}
	}
	return err
}

func (c *Client) recordPause(failure *Error) {
	if failure.Is(ErrOperationTimeLimit) {
		failure.until = c.clients.pauses.block(c.memberID, failure.Method, failure.until)
	}
}

func (c *Client) log(ctx context.Context, method string, status int, took time.Duration, err error) {
	portal := slog.String(keyMemberID, c.memberID)
	if h := c.clients.hook; h != nil {
		portal = slog.String(keyHost, h.host)
	}
	attrs := []slog.Attr{portal, slog.String(keyMethod, method), slog.Int(keyStatus, status), slog.Duration(keyDuration, took)}
	if failure, ok := err.(*Error); ok { //nolint:errorlint // the cause of a context may be another call's error
		attrs = append(attrs, slog.String(keyCode, string(failure.Code)))
	}
	c.clients.log.LogAttrs(ctx, slog.LevelDebug, "bitrix24 call", attrs...)
}
