package rest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/b24events/b24events/internal/redact"
)

// outgoing is a POST request before it is sent.
type outgoing struct {
	url     string
	header  http.Header
	body    body
	secrets []string // must not appear in an error

	// refine adds to an error what only the text of the response says. It may be nil.
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
	if h := c.clients.hook; h != nil {
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

// failure returns the error of a file that could not be read.
func (r *bodyReader) failure() *fileError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// exactReader fails if the content is not as long as it was before.
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
