package webhook

import (
	"errors"
	"io"
	"net/http"

	"github.com/b24events/b24events/event"
)

// response is what the platform is told. Texts are fixed: nothing of a request comes back.
type response struct {
	status int
	text   string
}

// responseTo returns the refusal for a reason.
func responseTo(reason Reason) response {
	switch reason {
	case ReasonMethod:
		return response{http.StatusMethodNotAllowed, "method not allowed\n"}
	case ReasonContentType:
		return response{http.StatusUnsupportedMediaType, "unsupported content type\n"}
	case ReasonTooLarge:
		return response{http.StatusRequestEntityTooLarge, "body too large\n"}
	case ReasonTimeout:
		return response{http.StatusRequestTimeout, "body took too long\n"}
	case ReasonMalformed:
		return response{http.StatusBadRequest, "malformed body\n"}
	case ReasonAborted:
		return response{http.StatusBadRequest, "incomplete body\n"}
	case ReasonNotEvent:
		return response{http.StatusBadRequest, "not an event\n"}
	case ReasonForbidden, ReasonSource:
		return response{http.StatusForbidden, "forbidden\n"}
	default: // ReasonUnavailable, ReasonBusy, ReasonQueueFull, ReasonShuttingDown
		return response{http.StatusServiceUnavailable, "unavailable\n"}
	}
}

// accepted is the answer to a delivery that was taken over.
func accepted() response { return response{status: http.StatusOK} }

// handlerFailed is the answer of WithSync.
func handlerFailed() response { return response{http.StatusInternalServerError, "handler failed\n"} }

func respond(w http.ResponseWriter, a response) {
	if a.text == "" {
		w.WriteHeader(a.status)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	if a.status == http.StatusRequestTimeout || a.status == http.StatusRequestEntityTooLarge {
		header.Set("Connection", "close") // the rest of the body is still to come
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.text) // nobody to tell where the peer has gone
}

// losesEvent reports whether a request that is rejected for a reason may have been a genuine event,
// which the platform does not send again.
func losesEvent(reason Reason) bool {
	return reason == ReasonAborted || responseTo(reason).status == http.StatusServiceUnavailable
}

// unreadReason returns why a body could not be read or parsed.
func unreadReason(err error) Reason {
	switch {
	case errors.Is(err, ErrShutdown):
		return ReasonShuttingDown
	case errors.Is(err, ErrBusy):
		return ReasonBusy
	case tooLong(err), errors.Is(err, event.ErrTooLarge):
		return ReasonTooLarge
	case timedOut(err):
		return ReasonTimeout
	case errors.Is(err, event.ErrContentType):
		return ReasonContentType
	case aborted(err):
		return ReasonAborted
	default:
		return ReasonMalformed
	}
}

func aborted(err error) bool {
	var broken *readError
	return errors.As(err, &broken)
}

func tooLong(err error) bool {
	var limit *http.MaxBytesError
	return errors.As(err, &limit)
}

// rejection says why a request is not accepted. The zero rejection is none.
type rejection struct {
	reason Reason
	err    error // for the log; nil if the reason says it all
}

// rejectionOf returns what a verifier's error means. Methods of the error may panic.
func rejectionOf(err error) rejection {
	var p *event.PanicError
	switch {
	case errors.As(err, &p):
		return rejection{ReasonUnavailable, p}
	case err.Error() == event.ErrForbidden.Error():
		return rejection{reason: ReasonForbidden}
	case errors.Is(err, event.ErrForbidden):
		return rejection{ReasonForbidden, err}
	default:
		return rejection{ReasonUnavailable, err}
	}
}

// lossReason returns why a verified delivery found no place.
func lossReason(err error) Reason {
	switch {
	case errors.Is(err, ErrShutdown):
		return ReasonShuttingDown
	case errors.Is(err, ErrQueueFull):
		return ReasonQueueFull
	default:
		return ReasonUnavailable
	}
}
