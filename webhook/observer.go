package webhook

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// RequestInfo describes one request that has ended. It holds nothing that a sender could make
// unbounded: Event is a label.
type RequestInfo struct {
	// Event is the event's [event.MetricLabel]. It is empty if the body was not read or is not an
	// event. Of a rejected request it is what the sender claims.
	Event    string
	MemberID string // the proven portal; empty unless the delivery was verified
	Reason   Reason // why the request was rejected, or the event lost; empty if it was not
	Status   int    // of the response
	Took     time.Duration
}

// WithObserver sets a function that is called after each request but GET and HEAD, in its
// goroutine, before ServeHTTP returns. ctx is the context of the request. It is for metrics and
// traces: label metrics by the event and the reason, and not by the portal, of which there may be
// thousands. The function must return soon and be safe for concurrent use. It gets no requests that
// a [SourceFilter] rejects. A panic in it is logged. A second observer is called after the first.
func WithObserver(f func(ctx context.Context, info RequestInfo)) Option {
	return func(c *config) error {
		if f == nil {
			return misconfigured("WithObserver: the function is nil")
		}
		c.observers = append(c.observers, f)
		return nil
	}
}

// observe calls the observers after a request. d is nil if no delivery was read.
func (h *Handler) observe(r *http.Request, d *event.Delivery, resp response, arrived time.Time) {
	if len(h.cfg.observers) == 0 {
		return
	}
	info := RequestInfo{Reason: resp.reason, Status: resp.status, Took: time.Since(arrived)}
	if d != nil {
		info.Event, info.MemberID = event.MetricLabel(d.Name), d.MemberID()
	}
	for _, f := range h.cfg.observers {
		err := dispatch.Guard(func() error { f(r.Context(), info); return nil }) //nolint:contextcheck // it is that of the request
		if err != nil {
			h.log.emit(r.Context(), slog.LevelError, "webhook: an observer of requests panicked",
				slog.String(KeyError, errorText(nil, err)))
		}
	}
}
