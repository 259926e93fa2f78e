package webhook

import (
	"errors"
	"io"
	"net/http"
	"os"
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
	body, err := h.readBody(w, r, t)
	if err != nil {
		return nil, 0, unreadable(err), err
	}
	if len(body) == 0 && r.PostForm != nil {
		return nil, 0, ReasonMalformed, errBodyTaken
	}
	if err = t.parsing(body); err != nil {
		return nil, 0, unreadable(err), err
	}
	err = guard(func() (err error) {
		d, err = event.Parse(contentType, body)
		return err
	})
	if err == nil {
		held, err = t.parsed(d, int64(len(body)))
	}
	if err != nil {
		return nil, 0, unreadable(err), err
	}
	return d, held, "", nil
}

// formType is the content type that Bitrix24 sends.
const formType = "application/x-www-form-urlencoded"

// readBody reads the whole body, within the limits.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, t *ticket) (body []byte, err error) {
	if r.Body == nil {
		return nil, nil
	}
	r.Body = http.MaxBytesReader(w, r.Body, h.cfg.maxBodyBytes)
	lift := h.limitTime(w, r)
	err = guard(func() (err error) {
		body, err = fill(r.Body, r.ContentLength, h.cfg.maxBodyBytes, t)
		return err
	})
	if err == nil && lift != nil { // otherwise it bounds what the server reads of the rest
		lift()
	}
	return body, err
}

// fill reads a body to its end. declared is its length, or -1 when the client does not say; most is
// the limit.
func fill(from io.Reader, declared, most int64, t *ticket) ([]byte, error) {
	size := freeBytes
	if 0 <= declared && declared < freeBytes {
		size = int(declared) + 1 // one more, to see the end
	}
	body := make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			if int64(cap(body)) > declared {
				declared = -1 // unknown, or it was a lie
			}
			size, err := t.grow(cap(body), declared, most)
			if err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, max(size, cap(body)+1)), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, &readError{err}
		}
	}
}

// readError is an error of the connection while a body is read.
type readError struct{ err error }

// Error says nothing of the connection.
func (e *readError) Error() string { return "webhook: the body broke off" }

// Unwrap returns what the connection ended with.
func (e *readError) Unwrap() error { return e.err }

// limitTime bounds the time of reading the body. It returns nil or a function that lifts the limit.
func (h *Handler) limitTime(w http.ResponseWriter, r *http.Request) (lift func()) {
	if serverIsStricter(r, h.cfg.readTimeout) {
		return nil
	}
	deadline := http.NewResponseController(w)
	if deadline.SetReadDeadline(time.Now().Add(h.cfg.readTimeout)) != nil {
		return nil
	}
	return func() { _ = deadline.SetReadDeadline(time.Time{}) } // it could be set before
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
