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
	ReasonForbidden    Reason = "forbidden"     // 403: not authentic; the log has the Refusal
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

// Refusal says in the log why a delivery is not authentic, because what there is to do differs. The
// sender gets the same response for all.
type Refusal string

// The refusals, with what to do if the delivery is your own.
const (
	// RefusalNoToken means that the delivery has no application token. Events of applications and of
	// outgoing webhooks have one, so look who the sender is.
	RefusalNoToken Refusal = "no_token"
	// RefusalUnknownToken means that the token is none of those that are known: for an installed
	// portal, none of that portal's. Compare it with the token that the portal shows. The token of an
	// application changes when it is installed again.
	RefusalUnknownToken Refusal = "unknown_token"
	// RefusalUnknownPortal means that no installation of the portal is stored, and that the token is
	// none of the fixed ones. Install the application again, or look whether the program reads the
	// right storage.
	RefusalUnknownPortal Refusal = "unknown_portal"
	// RefusalOtherPortal means that the token is right, and the delivery names another portal than the
	// token's. Check the member ID that the token is bound to. Somebody who has the token of one
	// portal may be trying to speak for another.
	RefusalOtherPortal Refusal = "other_portal"
	// RefusalUnboundToken means that a fixed token is right, and not bound to a portal. Bind it:
	// [TokensOf].
	RefusalUnboundToken Refusal = "unbound_token"
	// RefusalOfApplication means that a fixed token is right, and the event is one that only an
	// application gets. Verify applications by their installations.
	RefusalOfApplication Refusal = "of_application"
	// RefusalUnproven means that the verifier gives a reason of its own, which is the error of the
	// line. For example, package oauth could not confirm an installation.
	RefusalUnproven Refusal = "unproven"
)

// refusalOf returns why a verifier found a delivery not authentic. The error is dropped if it says
// nothing more.
func refusalOf(d *event.Delivery, err error) (Refusal, error) {
	var known *refusedError
	switch {
	case errors.As(err, &known):
		return known.refusal, err
	case err.Error() == event.ErrUnknownPortal.Error():
		return RefusalUnknownPortal, nil
	case err.Error() != event.ErrForbidden.Error():
		return RefusalUnproven, err
	case d.Auth.ApplicationToken == "":
		return RefusalNoToken, nil
	default:
		return RefusalUnknownToken, nil
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
	reason  Reason
	refusal Refusal // if the reason is ReasonForbidden
	err     error   // for the log; nil if the reason and the refusal say it all
}

// rejectionOf returns the rejection of a delivery for an error of a verifier. Methods of the error
// may panic.
func rejectionOf(d *event.Delivery, err error) rejection {
	var p *event.PanicError
	switch {
	case errors.As(err, &p):
		return rejection{reason: ReasonUnavailable, err: p}
	case errors.Is(err, event.ErrForbidden):
		refusal, err := refusalOf(d, err)
		return rejection{ReasonForbidden, refusal, err}
	default:
		return rejection{reason: ReasonUnavailable, err: err}
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
