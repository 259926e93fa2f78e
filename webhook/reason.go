package webhook

import (
	"errors"
	"net/http"
	"os"

	"github.com/b24events/b24events/event"
)

// Reason says why a request was rejected.
type Reason string

// The reasons of a rejection, with the status of the response.
const (
	ReasonMethod       Reason = "method"        // 405: neither POST nor GET nor HEAD
	ReasonContentType  Reason = "content_type"  // 415: neither a form nor JSON
	ReasonTooLarge     Reason = "too_large"     // 413: too many bytes, too many keys or too deep
	ReasonTimeout      Reason = "timeout"       // 408: the body did not arrive within the read timeout
	ReasonAborted      Reason = "aborted"       // 400: the connection ended within the body
	ReasonMalformed    Reason = "malformed"     // 400: not a well-formed body
	ReasonNotEvent     Reason = "not_event"     // 400: well-formed, but an application page, an automation rule or something else
	ReasonForbidden    Reason = "forbidden"     // 403: not authentic
	ReasonSource       Reason = "source"        // 403: not from a listed address; SourceFilter counts it in its own Stats
	ReasonUnavailable  Reason = "unavailable"   // 503: the verifier could not decide, or an Enqueuer or a Store could not store
	ReasonBusy         Reason = "busy"          // 503: too much is being read and verified; see WithMaxInFlightBytes
	ReasonQueueFull    Reason = "queue_full"    // 503: no room in the queue within the enqueue timeout
	ReasonShuttingDown Reason = "shutting_down" // 503: Shutdown was called
)

// Reasons returns every Reason that [Stats] counts. All but [ReasonSource] are among them.
func Reasons() []Reason {
	return []Reason{
		ReasonMethod, ReasonContentType, ReasonTooLarge, ReasonTimeout, ReasonAborted, ReasonMalformed, ReasonNotEvent,
		ReasonForbidden, ReasonUnavailable, ReasonBusy, ReasonQueueFull, ReasonShuttingDown,
	}
}

// losesEvent reports whether a request that is rejected for a reason may have been a genuine event.
// The platform does not send it again.
func losesEvent(reason Reason) bool {
	return reason == ReasonAborted || responseTo(reason).status == http.StatusServiceUnavailable
}

// unreadReason returns the reason for an error of reading or parsing a body.
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

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// aborted reports whether the connection ended within the body.
func aborted(err error) bool {
	var read *readError
	return errors.As(err, &read)
}

func tooLong(err error) bool {
	var limit *http.MaxBytesError
	return errors.As(err, &limit)
}

// rejection says why a request is rejected. The zero rejection means that it is not.
type rejection struct {
	reason Reason
	err    error // for the log; nil if the reason says it all
}

// rejectionOf returns the rejection for an error of a verifier. Methods of the error may panic.
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

// lossReason returns the reason for an error with which a verified delivery was lost.
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
