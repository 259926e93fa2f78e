package webhook

import (
	"io"
	"net/http"
)

// response is a status and a text for the platform. Texts are fixed and quote nothing of a request.
type response struct {
	reason Reason // why the request is rejected; empty if it is not
	status int
	text   string
}

// responseTo returns the response to a request that is rejected for a reason.
func responseTo(reason Reason) response {
	switch reason {
	case ReasonMethod:
		return response{reason, http.StatusMethodNotAllowed, "method not allowed\n"}
	case ReasonContentType:
		return response{reason, http.StatusUnsupportedMediaType, "unsupported content type\n"}
	case ReasonTooLarge:
		return response{reason, http.StatusRequestEntityTooLarge, "body too large\n"}
	case ReasonTimeout:
		return response{reason, http.StatusRequestTimeout, "body took too long\n"}
	case ReasonMalformed:
		return response{reason, http.StatusBadRequest, "malformed body\n"}
	case ReasonAborted:
		return response{reason, http.StatusBadRequest, "incomplete body\n"}
	case ReasonNotEvent:
		return response{reason, http.StatusBadRequest, "not an event\n"}
	case ReasonForbidden, ReasonSource:
		return response{reason, http.StatusForbidden, "forbidden\n"}
	default: // ReasonUnavailable, ReasonBusy, ReasonQueueFull, ReasonShuttingDown
		return response{reason, http.StatusServiceUnavailable, "unavailable\n"}
	}
}

// accepted is the response to a delivery that was accepted.
func accepted() response { return response{status: http.StatusOK} }

// unavailable is the response if something ends the goroutine of the request.
func unavailable() response { return responseTo(ReasonUnavailable) }

// handlerFailed is the response with WithSync if the handler failed.
func handlerFailed() response {
	return response{status: http.StatusInternalServerError, text: "handler failed\n"}
}

// respond writes resp response.
func respond(w http.ResponseWriter, resp response) {
	if resp.text == "" {
		w.WriteHeader(resp.status)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	if resp.status == http.StatusRequestTimeout || resp.status == http.StatusRequestEntityTooLarge {
		header.Set("Connection", "close") // the rest of the body is still to come
	}
	w.WriteHeader(resp.status)
	_, _ = io.WriteString(w, resp.text) // an error means that the client has gone away
}
