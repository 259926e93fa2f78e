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
	// ErrConfig means that the arguments or options of a constructor are invalid.
	ErrConfig Error = "webhook: invalid configuration"
	// ErrQueueFull means that the queue had no room within the enqueue timeout. An [Enqueuer] or a
	// [Store] returns it if it has no room.
	ErrQueueFull Error = "webhook: queue full"
	// ErrBusy means that there was no memory for another request, because those being read and
	// verified held too much. See [WithMaxInFlightBytes].
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
	// If it took too long, the delivery may still be stored and handled.
	ErrNotStored Error = "webhook: the delivery was not stored"
	// ErrLeaseLost is the cause (context.Cause) of a handler's context that ended because another
	// process has, or is to have, the partition of the store with the delivery.
	ErrLeaseLost Error = "webhook: the partition is no longer this process's"
	// ErrSettled means that another process settled a record while this one handled it. See
	// [Transactor].
	ErrSettled Error = "webhook: another process settled the record"

	// errGoexit is the error of a verifier, or a function of WithContext, that ended its goroutine.
	errGoexit Error = "webhook: the program ended the goroutine of the request with runtime.Goexit"
	// errNoProof means that a verifier accepted a delivery without saying what proves it.
	errNoProof Error = "webhook: the verifier returned no proof and no error"
	// errPage, errActivity and errBodyTaken mean that the program's routes are wrong.
	errPage      Error = "webhook: the request opens an application page; serve pages with oauth.PageHandler at an address of their own"
	errActivity  Error = "webhook: the request is a call of an automation rule or activity; let these in with WithActivities"
	errBodyTaken Error = "webhook: the body was read before the Handler, perhaps by a middleware; " +
		"a middleware may only read it with ParseForm or FormValue"
	// errInterrupted is why a record is parked if it seems to end the process.
	errInterrupted Error = "webhook: the process ended each time while the delivery was handled"
	// errNoLeases means that the process works no partition because it gets no leases.
	errNoLeases Error = "webhook: this process works no partition of the store, because it cannot get the leases"
	// errFeedEnded is the error of a Feed that ended without an error.
	errFeedEnded Error = "webhook: the store ended a feed without an error"
	// errNoVerifier is what zero verifiers return.
	errNoVerifier Error = "webhook: verifier without tokens or lookup"
)

// These refuse a delivery although its fixed token is right.
var (
	errUnboundToken = &refusedError{RefusalUnboundToken, "the token of an outgoing webhook is right, " +
		"but the portal may have an application or a token of its own; " +
		"bind the token to the portal: TokensOf, or token@member_id in B24_APPLICATION_TOKEN"}
	errTokenElsewhere = &refusedError{RefusalOtherPortal, "the token of an outgoing webhook is right, " +
		"but it belongs to another portal than the delivery names"}
	errTokenOfTwo = &refusedError{RefusalUnboundToken, "the token of an outgoing webhook is right, " +
		"but an earlier delivery named another portal; " +
		"bind each token to its portal: TokensOf, or token@member_id in B24_APPLICATION_TOKEN"}
	errTokenOfWebhook = &refusedError{RefusalOfApplication, "the token of an outgoing webhook is right, " +
		"but it proves no event of an application; verify applications by their installations"}
)

// errSlowStore means that a commit takes too long.
var errSlowStore = fmt.Errorf("%w in time; it may be stored all the same", ErrNotStored)

// refusedError is an error that matches [event.ErrForbidden], with the reason.
type refusedError struct {
	refusal Refusal
	text    string
}

// Error returns the reason of the refusal.
func (e *refusedError) Error() string { return "webhook: delivery not authenticated: " + e.text }

// Is reports whether target is [event.ErrForbidden].
func (*refusedError) Is(target error) bool { return target == event.ErrForbidden }

// ShutdownError is the error of [Handler.Shutdown] if it cut off accepted deliveries. It matches
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

// guardGoexit is [dispatch.Guard] for code of the program that runs within a request. If that code
// ends the goroutine instead of returning, as a failing test does, it calls ended.
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

// errorText returns the text of an error for the log. Errors of handlers and verifiers come from
// other code: they may quote the tokens of the delivery, for example in the address of a
// *url.Error, or any other text.
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
