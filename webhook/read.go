package webhook

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/b24events/b24events/event"
)

// read reads and parses the body, within the limits on size and time. size is at least 1.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (d *event.Delivery, size int64, reason Reason, err error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	body := &meter{ReadCloser: http.MaxBytesReader(w, r.Body, h.cfg.maxBodyBytes)}
	r.Body = body
	if !serverIsStricter(r, h.cfg.readTimeout) {
		deadline := http.NewResponseController(w)
		if deadline.SetReadDeadline(time.Now().Add(h.cfg.readTimeout)) == nil {
			defer func() {
				if err == nil { // otherwise it bounds what the server reads of the rest
					_ = deadline.SetReadDeadline(time.Time{}) // it could be set before
				}
			}()
		}
	}
	err = guard(func() (err error) {
		d, err = event.ParseRequest(r)
		return err
	})
	if err != nil {
		return nil, 0, unreadable(err, body.err), err
	}
	return d, max(body.size, 1), "", nil
}

// serverIsStricter reports whether the server has a read timeout of its own that leaves the body no more time than ours.
func serverIsStricter(r *http.Request, limit time.Duration) bool {
	s, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	return ok && s.ReadTimeout > 0 && s.ReadTimeout <= limit
}

// meter counts what was read, and keeps the error that ended it.
type meter struct {
	io.ReadCloser

	size int64
	err  error
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.size += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// loggable returns what is worth a place in the log besides the reason: only panics, which are mistakes of ours.
func loggable(err error) error {
	var p *event.PanicError
	if errors.As(err, &p) {
		return p
	}
	return nil
}
