package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Retryable reports whether the call that failed with err surely did not run and may succeed later, and how long to wait before.
// It is so for ErrQueryLimit, ErrOperationTimeLimit, ErrConnection, for 429 and 503 without a readable answer, and for
// connections that were never made. Clients repeat such calls by themselves ([WithRetries]) while the context leaves time for the
// wait; what is left is for a queue or a scheduler to repeat:
//
//	if after, ok := rest.Retryable(err); ok {
//		return event.Retry(err, after)
//	}
//
// The wait is ten minutes at most, whatever the portal says.
func Retryable(err error) (after time.Duration, ok bool) {
	var failure *Error
	if errors.As(err, &failure) {
		if !failure.notRun() {
			return 0, false
		}
		if failure.until.IsZero() {
			return firstBlock, true
		}
		return min(max(time.Until(failure.until), 0), maxPause), true
	}
	var lost *callError
	if errors.As(err, &lost) && lost.ran == ranNot {
		return firstBlock, true
	}
	return 0, false
}

// WithIdempotent returns a context whose calls may run twice without harm, such as an update that sets fields to fixed values.
// They are repeated also where the connection broke after the call was sent, or the portal failed, and nobody knows whether it
// ran. Methods that only read count as such by their names: those that end in get, list, fields, getFields or count, and a few
// more. A batch counts as such where all its commands do.
func WithIdempotent(ctx context.Context) context.Context {
	return context.WithValue(ctx, idempotentKey{}, true)
}

type idempotentKey struct{}

func isIdempotent(ctx context.Context) bool {
	return ctx.Value(idempotentKey{}) != nil
}

// isRead reports whether a method only reads, going by its name.
func isRead(method string) bool {
	name := strings.ToLower(method)
	switch name {
	case "profile", "scope", "events", "methods", "app.info", "server.time", "user.admin", "user.current", "event.offline.list":
		return true
	case "imbot.v2.event.get":
		return false // it acknowledges
	}
	if strings.HasPrefix(name, "event.offline.") {
		return false // get reserves and deletes
	}
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "get", "list", "fields", "getfields", "count":
		return true
	default:
		return false
	}
}

// notRun reports whether the portal refused the call before it ran, for a reason that passes.
func (e *Error) notRun() bool {
	return e.Is(ErrQueryLimit) || e.Is(ErrOperationTimeLimit) || e.Is(ErrConnection) ||
		e.unreadable(http.StatusServiceUnavailable) || e.unreadable(http.StatusTooManyRequests)
}

// unreadable reports whether a front end answered with this status and a page of its own. Without a code the status is all there is.
func (e *Error) unreadable(status int) bool {
	return e.Code == ErrBadAnswer && e.Status == status
}

// repeatable reports whether a call that failed with err may be sent again.
func (call *call) repeatable(err error) bool {
	if errors.As(err, new(tooLongError)) {
		return false
	}
	if _, ok := Retryable(err); ok {
		return true
	}
	if !call.idempotent {
		return false
	}
	var (
		failure *Error
		lost    *callError
	)
	if errors.As(err, &failure) {
		return failure.Is(ErrInternal) || (failure.Code == ErrBadAnswer && failure.Status >= http.StatusInternalServerError)
	}
	return errors.As(err, &lost) && lost.ran == ranMaybe
}

// waitsElsewhere reports whether sending the call again waits by itself.
func waitsElsewhere(err error) bool {
	var failure *Error
	return errors.As(err, &failure) && !failure.until.IsZero()
}

// pausing reports whether the portal blocks the method for the time that it took. A 429 may come as a page.
func pausing(err error) bool {
	var failure *Error
	return errors.As(err, &failure) && (failure.Is(ErrOperationTimeLimit) || failure.unreadable(http.StatusTooManyRequests))
}

const firstBackoff = 200 * time.Millisecond

func backoff(try int) time.Duration { return jitter(min(firstBackoff<<min(try, 8), maxBlock)) }

// tooLongError is the error of a wait that the context does not leave time for.
type tooLongError struct{}

func (tooLongError) Error() string        { return "the wait would outlast the context" }
func (tooLongError) Is(target error) bool { return target == context.DeadlineExceeded }

// pause waits. It fails at once where the context's deadline comes first.
func pause(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return tooLongError{}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// waitFailed is the error of a call that was not sent because err ended the wait. The wait's reason is of use only where there is
// no time for it; a context that ended speaks for itself.
func waitFailed(ctx context.Context, err error, reason *Error) error {
	if ctx.Err() != nil {
		return contextError(ctx, reason.Method)
	}
	reason.Hint = "nothing was sent: the wait for the portal's limit would outlast the context"
	reason.cause = &cause{err}
	return reason
}
