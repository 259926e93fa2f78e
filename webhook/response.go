package webhook

import (
	"io"
	"net/http"
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
