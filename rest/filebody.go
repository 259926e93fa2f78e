package rest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/b24events/b24events/internal/redact"
)

// outgoing is a POST as it goes out.
type outgoing struct {
	url     string
	header  http.Header
	body    body
	secrets []string // what no error may show

	// refine adds to the error of an answer what only the text of the answer tells. It may be nil.
	refine func(err error, text []byte, secrets *redact.Set)
}

// outgoing returns the request of a call to an endpoint.
func (c *Client) outgoing(base *url.URL, token string, call *call) (*outgoing, error) {
	if call.out != nil {
		return call.out(base, token)
	}
	out := &outgoing{
		url:     base.String() + call.method,
		header:  http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		body:    body{text: call.form, gaps: call.gaps},
		secrets: []string{token},
	}
	if h := c.portals.hook; h != nil {
		out.secrets = []string{h.secret}
		return out, nil
	}
	if call.form != "" {
		out.body.text += "&"
	}
	// Last, because some old methods take their arguments by position.
	out.body.text += "auth=" + url.QueryEscape(token)
	return out, nil
}

// refused returns why a call is not made: the client's options, or the name of the method.
func (c *Client) refused(method string) error {
	switch {
	case c.opts.err != nil:
		return &Error{Code: ErrBadCall, Description: c.opts.err.Error()}
	case validMethod(method):
		return nil
	}
	e := &Error{Code: ErrBadCall, Description: "a method's name is letters, digits, underscores and dots between them"}
	if strings.HasPrefix(strings.ToLower(method), "api/") {
		e.Hint = "methods of REST 3.0 are called by Call3, without api/"
	}
	return e
}

// body is the body of a request: a text, and files at its gaps.
type body struct {
	text string
	gaps []gap
}

// gap is the place of a file.
type gap struct {
	at     int // before text[at]
	file   *file
	raw    bool  // the content as it is, and not in base64
	length int64 // in the body
}

func (b *body) length() int64 {
	n := int64(len(b.text))
	for _, g := range b.gaps {
		n += g.length
	}
	return n
}

// bodyReader reads a body. Transports may read on after the request has ended, which is why a
// reader is stopped then.
type bodyReader struct {
	touch func()

	mu     sync.Mutex
	parts  []io.Reader
	failed *fileError
}

func (b *body) open(touch func()) *bodyReader {
	r := &bodyReader{touch: touch, parts: make([]io.Reader, 0, 2*len(b.gaps)+1)}
	at := 0
	for _, g := range b.gaps {
		r.parts = append(r.parts, strings.NewReader(b.text[at:g.at]), &exactReader{source: g.open(), left: g.length})
		at = g.at
	}
	r.parts = append(r.parts, strings.NewReader(b.text[at:]))
	return r
}

// open returns the body once more.
func (w *watched) open() *bodyReader {
	r := w.body.open(func() {
		w.read.Store(true)
		w.guard.touch()
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened = append(w.opened, r)
	return r
}

// stop makes sure that no file is read any more, and returns how one failed.
func (w *watched) stop() (failed *fileError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.opened {
		_ = r.Close()
		failed = cmp.Or(r.failure(), failed)
	}
	return failed
}

var errStopped = errors.New("rest: the request has ended")

func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touch()
	for len(r.parts) > 0 {
		n, err := r.parts[0].Read(p)
		if n > 0 || err == nil {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			_ = errors.As(err, &r.failed) // texts do not fail
			return 0, err
		}
		r.parts = r.parts[1:]
	}
	return 0, io.EOF
}

// Close makes sure that no file is read any more.
func (r *bodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range r.parts {
		if file, ok := part.(*exactReader); ok {
			file.stopped = true
		}
	}
	return nil
}

// failure returns how a file failed.
func (r *bodyReader) failure() *fileError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// exactReader makes sure that a content is as long as it was said to be.
type exactReader struct {
	source  partReader
	part    []byte
	left    int64
	stopped bool
}

func (r *exactReader) Read(p []byte) (int, error) {
	if len(r.part) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		if r.stopped {
			return 0, errStopped
		}
		part, err := r.source.next()
		switch {
		case errors.Is(err, io.EOF), int64(len(part)) > r.left:
			return 0, &fileError{what: "the file changed while it was sent"}
		case err != nil:
			return 0, err
		}
		r.part, r.left = part, r.left-int64(len(part))
	}
	n := copy(p, r.part)
	r.part = r.part[n:]
	return n, nil
}

// partReader returns the next part of a content, which is valid until the next call, and io.EOF
// after the last.
type partReader interface{ next() ([]byte, error) }

func (g *gap) open() partReader {
	if g.raw {
		return &rawReader{file: g.file}
	}
	return &formReader{raw: rawReader{file: g.file}}
}

// pieceSize is how much of a file is read at a time: a multiple of 3, so that the base64 of the
// pieces is that of the whole.
const pieceSize = 12 << 10

// rawReader reads a file as it is.
type rawReader struct {
	file *file
	off  int64
	buf  []byte
}

func (r *rawReader) next() ([]byte, error) {
	n := min(pieceSize, r.file.size-r.off)
	if n == 0 {
		return nil, io.EOF
	}
	if r.buf == nil {
		r.buf = make([]byte, n)
	}
	if err := r.file.readPart(r.buf[:n], r.off); err != nil {
		return nil, err
	}
	r.off += n
	return r.buf[:n], nil
}

// formReader reads a file as base64, escaped for a form.
type formReader struct {
	raw  rawReader
	text []byte // base64
	out  []byte
}

func (r *formReader) next() ([]byte, error) {
	piece, err := r.raw.next()
	if err != nil {
		return nil, err
	}
	r.text = base64.StdEncoding.AppendEncode(r.text[:0], piece)
	n := escapedLength(r.text)
	r.out = slices.Grow(r.out[:0], n)[:n]
	at := 0
	for _, c := range r.text {
		if c == '+' || c == '/' || c == '=' {
			at += copy(r.out[at:], escaped(c))
			continue
		}
		r.out[at] = c
		at++
	}
	return r.out, nil
}

func escaped(c byte) string {
	switch c {
	case '+':
		return "%2B"
	case '/':
		return "%2F"
	default:
		return "%3D"
	}
}

// skip reads on as next does, and returns only the length.
func (r *formReader) skip() (int, error) {
	piece, err := r.raw.next()
	if err != nil {
		return 0, err
	}
	r.text = base64.StdEncoding.AppendEncode(r.text[:0], piece)
	return escapedLength(r.text), nil
}

func escapedLength(text []byte) int {
	return len(text) + 2*(bytes.Count(text, []byte("+"))+bytes.Count(text, []byte("/"))+bytes.Count(text, []byte("=")))
}

// guard ends a request that makes no progress for as long as the HTTP client's time limit. That
// limit itself would end a request that is only large. The nil guard does nothing.
type guard struct {
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// idleError is the cause of a request's end by its guard, and reads like a time limit of net/http.
type idleError struct{}

func (idleError) Error() string   { return "rest: the request made no progress" }
func (idleError) Timeout() bool   { return true }
func (idleError) Temporary() bool { return true }

// guarded returns the client for a request and the context for it. If the request may take long,
// they have no time limit but that of the guard.
func (p *Clients) guarded(ctx context.Context, long bool) (*http.Client, context.Context, *guard) {
	if !long {
		return p.http, ctx, nil
	}
	g := &guard{limit: p.http.Timeout}
	ctx, g.cancel = context.WithCancelCause(ctx)
	client := *p.http
	client.Timeout = 0
	g.timer = time.AfterFunc(g.limit, func() { g.cancel(idleError{}) })
	return &client, ctx, g
}

// touch notes progress.
func (g *guard) touch() {
	if g != nil {
		g.timer.Reset(g.limit)
	}
}

// pause takes the time until the next touch out of account.
func (g *guard) pause() {
	if g != nil {
		g.timer.Stop()
	}
}

// end releases what the guard holds, and ends the request.
func (g *guard) end() {
	if g != nil {
		g.timer.Stop()
		g.cancel(nil)
	}
}

// body returns the body of the response to a request with a context of the guard. If it is long,
// each part of it is progress, and only the time counts in which somebody waits for one.
func (g *guard) body(ctx context.Context, from io.ReadCloser, long bool) io.ReadCloser {
	if g == nil {
		return from
	}
	b := &guardedBody{ReadCloser: from, failed: func(err error) error { return guardFailed(ctx, err) }}
	if long {
		b.guard = g
	}
	return b
}

type guardedBody struct {
	io.ReadCloser

	guard  *guard
	failed func(error) error
}

func (b *guardedBody) Read(p []byte) (int, error) {
	b.guard.touch()
	n, err := b.ReadCloser.Read(p)
	b.guard.pause()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.failed(err)
	}
	return n, err
}

// guardFailed returns the error of a request, or that of its guard if that ended the request.
func guardFailed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, idleError{}) {
		return cause
	}
	return err
}
