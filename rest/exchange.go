package rest

import (
	"cmp"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"io"
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

// exchanged is the outcome of one request.
type exchanged struct {
	progress   progress
	status     int // 0 without a response
	location   string
	retryAfter time.Duration // 0 if the front end did not say
	response   *Response
}

// maxErrorBytes is how much is read of a response with a status of 400 or more, after
// decompression.
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
	client, sending, guard := c.clients.guarded(ctx, len(out.body.gaps) > 0)
	defer guard.end()
	body := &trackedBody{body: &out.body, guard: guard}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(sending, body.trace()), http.MethodPost, out.url, body.open())
	if err != nil {
		return got, &Error{Method: method, Code: ErrBadEndpoint, Description: "it is not the address of a request"}
	}
	if req.ContentLength = out.body.length(); req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	req.GetBody = func() (io.ReadCloser, error) { return body.open(), nil } // for a connection that was closed meanwhile
	req.Header = out.header
	req.Header.Set("Accept", "application/json")
	call.inFlight = true
	resp, err := client.Do(req)
	call.inFlight = false
	if got.progress = body.progress(); err != nil {
		if failed := body.stop(); failed != nil {
			return got, fileFailed(method, failed, got.progress == progressSent)
		}
		return got, transportError(ctx, method, guardFailed(sending, err), got.progress)
	}
	got.progress = progressSent
	resp.Body = guard.body(sending, resp.Body, false)
	defer func() {
		_ = resp.Body.Close()
		_ = body.stop()
	}()
	got.status, got.location, got.retryAfter = resp.StatusCode, resp.Header.Get("Location"), retryAfter(resp.Header)
	text, err := readResponse(ctx, method, resp)
	if err != nil {
		return got, err
	}
	secrets := redact.New(out.secrets...)
	got.response, err = parseResponse(method, resp.StatusCode, text, secrets)
	if hasCode(err, ErrMoved) && (got.location == "" || !movesCalls(resp.StatusCode)) {
		err = &Error{Method: method, Status: resp.StatusCode, Code: ErrBadResponse}
	}
	switch {
	case err != nil && out.refine != nil:
		out.refine(err, text, secrets)
	case err != nil:
	case call.batch != nil:
		err = call.readBatch(got.response, secrets)
	case strings.EqualFold(method, batch.Method):
		got.response.Result = cleanRefusals(got.response.Result, secrets)
	}
	return got, err
}

// movesCalls reports whether a redirect asks to make the call at another address. Other redirects
// say that the call was made.
func movesCalls(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	default:
		return false
	}
}

// readResponse reads the body of a response. The text of a front end's error page is of little use:
// if it is long or broken, the status is enough.
func readResponse(ctx context.Context, method string, resp *http.Response) ([]byte, error) {
	limit := MaxResponseBytes
	if resp.StatusCode >= http.StatusBadRequest {
		limit = maxErrorBytes
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	switch page := resp.StatusCode >= http.StatusMultipleChoices; {
	case err == nil && len(text) <= limit:
		return text, nil
	case err != nil && ctx.Err() != nil:
		return nil, contextEnded(ctx, method, executedMaybe)
	case err != nil && !page && !isUnpackError(err):
		return nil, transportError(ctx, method, err, progressSent)
	case err == nil && !page:
		return nil, &Error{Method: method, Status: resp.StatusCode, Code: ErrTooLarge}
	case page && resp.StatusCode < http.StatusBadRequest:
		return nil, &Error{Method: method, Status: resp.StatusCode, Code: ErrMoved}
	default:
		return nil, &Error{Method: method, Status: resp.StatusCode, Code: ErrBadResponse}
	}
}

// isUnpackError reports whether a response could not be decompressed.
func isUnpackError(err error) bool {
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, new(flate.CorruptInputError))
}

// retryAfter returns how long a front end asks to wait.
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

// trackedBody is the body of a request. It records whether any of the request may have been sent.
type trackedBody struct {
	body  *body
	guard *guard

	asked, connected, read atomic.Bool

	mu     sync.Mutex
	opened []*bodyReader
}

func (w *trackedBody) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { w.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	}
}

// progress returns how far the request came.
func (w *trackedBody) progress() progress {
	switch {
	case w.connected.Load() || w.read.Load():
		return progressSent
	case w.asked.Load():
		return progressNoConnection
	default:
		return progressUnknown
	}
}

// open returns the body once more.
func (w *trackedBody) open() *bodyReader {
	r := w.body.open(func() {
		w.read.Store(true)
		w.guard.touch()
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened = append(w.opened, r)
	return r
}

// stop makes sure that no file is read any more, and returns the error of a file that could not be
// read.
func (w *trackedBody) stop() (failed *fileError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.opened {
		_ = r.Close()
		failed = cmp.Or(r.failure(), failed)
	}
	return failed
}
