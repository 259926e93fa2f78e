package webhook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/redact"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

const (
	// ErrConfig means that NewHandler was given arguments or options that make no sense.
	ErrConfig Error = "webhook: invalid configuration"
	// ErrQueueFull means that the queue had no room within the enqueue timeout. A [Queue] returns
	// it for the same reason.
	ErrQueueFull Error = "webhook: queue full"
	// ErrBusy means that the requests being read and verified held too much memory for one more;
	// see [WithMaxInFlightBytes].
	ErrBusy Error = "webhook: too much is being read and verified; see WithMaxInFlightBytes"
	// ErrShutdown means that a delivery was cut off, or refused, because the Handler shuts down. It
	// is also the cause (context.Cause) of a handler's context that Shutdown ended.
	ErrShutdown Error = "webhook: shutting down"
	// ErrTimeout is the cause (context.Cause) of a handler's context that ran into the handler
	// timeout.
	ErrTimeout Error = "webhook: handler ran out of time"
	// ErrRemoved means that a delivery was dropped because its portal removed the application. See
	// [event.ReportRemoval].
	ErrRemoved Error = "webhook: the portal has removed the application"
	// ErrNotStored means that the store of [WithStore] failed to store a delivery, or took too long.
	// In the second case it may be stored, and then handled, all the same.
	ErrNotStored Error = "webhook: the delivery was not stored"
	// ErrLeaseLost is the cause (context.Cause) of a handler's context when another process has the
	// partition of the store that the delivery is in, or is to have it.
	ErrLeaseLost Error = "webhook: the partition is no longer this process's"
	// ErrSettled means that another process settled a record while this one handled it. See
	// [Transactor].
	ErrSettled Error = "webhook: another process settled the record"

	// errGoexit is the error of a verifier, or a function of WithContext, that ended its goroutine.
	errGoexit Error = "webhook: the program ended the goroutine of the request with runtime.Goexit"
	// These are the refusals of a fixed token that is right.
	errUnboundToken = forbidden("the token of an outgoing webhook is right, but the portal may have an application or a token of its own; " +
		"bind the token to the portal: TokensOf, or token@member_id in B24_APPLICATION_TOKEN")
	errTokenElsewhere = forbidden("the token of an outgoing webhook is right, but it belongs to another portal than the delivery names")
	errTokenOfTwo     = forbidden("the token of an outgoing webhook is right, but an earlier delivery named another portal; " +
		"bind each token to its portal: TokensOf, or token@member_id in B24_APPLICATION_TOKEN")
	errTokenOfWebhook = forbidden("the token of an outgoing webhook is right, but it proves no event of an application; " +
		"verify applications by their installations")
	// errNoProof means that a verifier accepted a delivery without saying what proves it.
	errNoProof Error = "webhook: the verifier returned no proof and no error"
	// errPage and errBodyTaken tell the operator what is wrong with the program's routes.
	errPage      Error = "webhook: this is the opening of an application page; serve pages with oauth.PageHandler at an address of their own"
	errBodyTaken Error = "webhook: the body was read before, perhaps by a middleware, and is no form that ParseForm has kept"
	// errInterrupted is why a record is parked that seems to end the process.
	errInterrupted Error = "webhook: the process ended each time while the delivery was handled"
	// errNoLeases means that the process works nothing because it gets no leases.
	errNoLeases Error = "webhook: no partition of the store is worked, because the leases cannot be had"
	// errFeedEnded is the error of a Feed that ended without one.
	errFeedEnded Error = "webhook: the store ended a feed without an error"
	// errNoVerifier is what the zero verifiers answer.
	errNoVerifier Error = "webhook: verifier without tokens or lookup"
)

// errSlowStore means that a commit takes too long.
var errSlowStore = fmt.Errorf("%w in time; it may be stored all the same", ErrNotStored)

// forbidden is a refusal that matches [event.ErrForbidden].
type forbidden string

// Error returns the reason of the refusal.
func (f forbidden) Error() string { return "webhook: delivery not authenticated: " + string(f) }

// Is reports that f is an [event.ErrForbidden].
func (f forbidden) Is(target error) bool { return target == event.ErrForbidden }

// ShutdownError says how many accepted deliveries [Handler.Shutdown] cut off. It matches
// [ErrShutdown], and the cause of the context that ended the wait.
type ShutdownError struct {
	Left  int   // deliveries that were not processed; each went to the function of WithOnDropped
	Cause error // why the wait ended, such as context.DeadlineExceeded
}

// Error names the number of deliveries.
func (e *ShutdownError) Error() string {
	return fmt.Sprintf("webhook: shut down with %d deliveries not processed: %v", e.Left, e.Cause)
}

// Unwrap returns [ErrShutdown] and the cause.
func (e *ShutdownError) Unwrap() []error { return []error{ErrShutdown, e.Cause} }

// misconfigured makes an [ErrConfig] with an explanation.
func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// guardGoexit is [dispatch.Guard] for code of the program that runs within a request. It calls
// ended if that code ends the goroutine instead of returning, as a failing test does.
func guardGoexit(f func() error, ended func()) error {
	returned := false
	defer func() {
		if !returned {
			ended()
		}
	}()
	err := dispatch.Guard(f)
	returned = true
	return err
}

// maxErrorText bounds the text of a foreign error in a log line, in bytes.
const maxErrorText = 512

// errorText is the text of an error for the log. Errors of handlers and verifiers are not ours:
// they may quote the tokens of the delivery, as a *url.Error quotes the address that was called, or
// text of others.
func errorText(d *event.Delivery, err error) string {
	var p *event.PanicError
	if errors.As(err, &p) {
		return p.Error() // never the text of what was passed to panic
	}
	var r redact.Redactor = redact.New()
	if d != nil {
		r = d
	}
	text := redact.Line(r, err.Error(), maxErrorText)
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return text
}
