package webhook

import (
	"errors"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// read reads and parses the body, within the limits on size, time and memory. Afterwards the ticket
// of b is charged for what the delivery holds.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, b *body) (d *event.Delivery, rej rejection) {
	contentType := r.Header.Get("Content-Type")
	if contentType != formType {
		// Parsing nothing shows whether the type can be parsed.
		if _, err := event.Parse(contentType, nil); errors.Is(err, event.ErrContentType) {
			h.limitTime(w, r)
			return nil, rejection{reason: ReasonContentType}
		}
	}
	if r.ContentLength > h.cfg.maxBodyBytes {
		h.limitTime(w, r)
		return nil, rejection{reason: ReasonTooLarge}
	}
	err := dispatch.Guard(func() (err error) {
		limited := h.limitTime(w, r)
		if err = b.read(r.Body, r.ContentLength, h.cfg.maxBodyBytes); err != nil {
			return err // the time limit still holds for what the server reads of the rest
		}
		if limited != nil {
			_ = limited.SetReadDeadline(time.Time{}) // setting it worked before
		}
		contentType, text, err := h.content(r, contentType, b.bytes)
		if err != nil {
			return err
		}
		if err = b.ticket.parsing(contentType, text); err != nil {
			return err
		}
		if d, err = event.Parse(contentType, text); err != nil {
			return err
		}
		b.recycle() // from here on it is not charged
		return b.ticket.parsed(d)
	})
	switch {
	case err != nil:
		return nil, rejection{reason: unreadReason(err), err: loggable(err)}
	case d.Kind == event.KindFrame:
		return nil, rejection{reason: ReasonNotEvent, err: errPage}
	case d.Kind == event.KindHandler && !h.cfg.activities:
		return nil, rejection{reason: ReasonNotEvent, err: errActivity}
	case d.Kind == event.KindHandler: // let in by WithActivities
	case d.Kind != event.KindEvent:
		return nil, rejection{reason: ReasonNotEvent}
	}
	d.Source = event.SourceOnline
	return d, rejection{}
}

// content returns what to parse: the body, or the form that a middleware has read from it.
func (h *Handler) content(r *http.Request, contentType string, body []byte) (string, []byte, error) {
	switch {
	case len(body) > 0:
		return contentType, body, nil
	case len(r.PostForm) > 0:
		form := []byte(r.PostForm.Encode())
		if int64(len(form)) > h.cfg.maxBodyBytes {
			return "", nil, event.ErrTooLarge
		}
		return formType, form, nil
	case r.ContentLength > 0:
		return "", nil, errBodyTaken
	default:
		return contentType, body, nil
	}
}

// formType is the content type that Bitrix24 sends.
const formType = "application/x-www-form-urlencoded"

// readDeadliner limits the time for reading a body.
type readDeadliner interface {
	SetReadDeadline(at time.Time) error
}

// limitTime bounds the time for reading the body. It returns the value that can lift the limit, nil
// if there is no limit.
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

// serverIsStricter reports whether the server has a read timeout of its own that is no longer than
// limit.
func serverIsStricter(r *http.Request, limit time.Duration) bool {
	s, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	return ok && s.ReadTimeout > 0 && s.ReadTimeout <= limit
}

// loggable returns the error if it belongs in the log besides the reason: it is a panic, which is a
// bug of this module, or something that the operator can fix.
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
