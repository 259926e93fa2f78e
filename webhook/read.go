package webhook

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

// read reads and parses the body, within the limits on size, time and memory. held is about what
// the delivery holds; t is charged for it.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, t *ticket) (d *event.Delivery, held int64, reason Reason, err error) {
	contentType := r.Header.Get("Content-Type")
	if contentType != formType {
		// Parsing nothing tells whether the type is one that can be parsed.
		if _, err = event.Parse(contentType, nil); errors.Is(err, event.ErrContentType) {
			h.limitTime(w, r)
			return nil, 0, ReasonContentType, err
		}
	}
	if r.ContentLength > h.cfg.maxBodyBytes {
		h.limitTime(w, r)
		return nil, 0, ReasonTooLarge, event.ErrTooLarge
	}
	b := body{from: r.Body, declared: r.ContentLength, most: h.cfg.maxBodyBytes, ticket: t, buffers: &h.buffers}
	err = guard(func() (err error) {
		limited := h.limitTime(w, r)
		if err = b.read(); err != nil {
			return err // the limit bounds what the server reads of the rest
		}
		if limited != nil {
			_ = limited.SetReadDeadline(time.Time{}) // it could be set before
		}
		if len(b.bytes) == 0 && r.PostForm != nil {
			return errBodyTaken
		}
		if err = t.parsing(b.bytes); err != nil {
			return err
		}
		if d, err = event.Parse(contentType, b.bytes); err != nil {
			return err
		}
		held, err = t.parsed(d, int64(len(b.bytes)))
		b.recycle()
		return err
	})
	if err != nil {
		return nil, 0, unreadable(err), err
	}
	return d, held, "", nil
}

// formType is the content type that Bitrix24 sends.
const formType = "application/x-www-form-urlencoded"

// body is the body of one request while it is read.
type body struct {
	from     io.Reader // nil when there is none
	declared int64     // its length; -1 when the client does not say
	most     int64     // the limit
	ticket   *ticket
	buffers  *buffers
	bytes    []byte // what has been read

	free  *[freeBytes]byte // the buffers behind bytes, which recycle gives back
	small *[smallBytes + 1]byte
}

// buffers keeps the memory of small bodies from one request to the next. Nobody sees what an earlier
// body left in it, because a body is only as long as what was read of it.
type buffers struct{ free, small sync.Pool }

// read reads the whole body.
func (b *body) read() error {
	if b.from == nil {
		return nil
	}
	b.free, _ = b.buffers.free.Get().(*[freeBytes]byte)
	if b.free == nil {
		b.free = new([freeBytes]byte)
	}
	b.bytes = b.free[:0]
	for {
		if len(b.bytes) == cap(b.bytes) {
			if err := b.grow(); err != nil {
				return err
			}
		}
		n, err := b.from.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case int64(len(b.bytes)) > b.most:
			return event.ErrTooLarge
		case err == io.EOF: //nolint:errorlint // a reader returns it bare
			return nil
		case err != nil:
			return &readError{err}
		}
	}
}

// grow makes room for more.
func (b *body) grow() error {
	if int64(cap(b.bytes)) > b.declared {
		b.declared = -1 // unknown, or it was a lie
	}
	size, err := b.ticket.grow(cap(b.bytes), b.declared, b.most)
	if err != nil {
		return err
	}
	size = max(size, cap(b.bytes)+1)
	var larger []byte
	if size <= smallBytes+1 {
		if b.small == nil {
			b.small, _ = b.buffers.small.Get().(*[smallBytes + 1]byte)
		}
		if b.small == nil {
			b.small = new([smallBytes + 1]byte)
		}
		larger = b.small[:0:size]
	} else {
		larger = make([]byte, 0, size)
	}
	b.bytes = append(larger, b.bytes...) // perhaps onto themselves
	return nil
}

// recycle ends the use of the bytes.
func (b *body) recycle() {
	b.bytes = nil
	if b.free != nil {
		b.buffers.free.Put(b.free)
	}
	if b.small != nil {
		b.buffers.small.Put(b.small)
	}
}

// readError is an error of the connection while a body is read.
type readError struct{ err error }

// Error says nothing of the connection.
func (e *readError) Error() string { return "webhook: the body broke off" }

// Unwrap returns what the connection ended with.
func (e *readError) Unwrap() error { return e.err }

// readDeadliner is what limits the time of reading a body.
type readDeadliner interface {
	SetReadDeadline(at time.Time) error
}

// limitTime bounds the time of reading the body. It returns what lifts the limit, nil when there is
// none.
func (h *Handler) limitTime(w http.ResponseWriter, r *http.Request) readDeadliner {
	if serverIsStricter(r, h.cfg.readTimeout) {
		return nil
	}
	d, ok := w.(readDeadliner)
	if !ok {
		d = http.NewResponseController(w) // perhaps a middleware wraps one
	}
	if d.SetReadDeadline(time.Now().Add(h.cfg.readTimeout)) != nil {
		return nil
	}
	return d
}

// serverIsStricter reports whether the server has a read timeout of its own that leaves the body no
// more time than ours.
func serverIsStricter(r *http.Request, limit time.Duration) bool {
	s, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	return ok && s.ReadTimeout > 0 && s.ReadTimeout <= limit
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// loggable returns what is worth a place in the log besides the reason: what the operator can mend,
// and panics, which are mistakes of ours.
func loggable(err error) error {
	var p *event.PanicError
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, errBodyTaken), errors.Is(err, ErrBusy):
		return err
	default:
		return nil
	}
}
