package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// NotRun reports whether the call surely did not run. If it is false, nobody knows, or the method ran. Packages that do not import
// this one find the method by errors.As with interface{ NotRun() bool }, and other errors of calls have it too.
//
// A call did not run if nothing was sent, if the portal refused it for its limits, its token or its method's name, if it was
// answered by a redirect to another address, and if a front end answered 429, or 503 with a Retry-After. If the call was sent
// before, and nobody knows what became of that, it may have run.
//
// Source: https://apidocs.bitrix24.com/limits.html
func (e *Error) NotRun() bool {
	switch {
	case e.doubt:
		return false
	case e.Status == 0, e.Status == http.StatusTooManyRequests:
		return true
	case e.Code == ErrBadResponse:
		return e.Status == http.StatusServiceUnavailable && e.asked
	}
	for _, code := range beforeTheMethod {
		if strings.EqualFold(string(e.Code), string(code)) {
			return true
		}
	}
	return false
}

// beforeTheMethod are the codes of what is checked before a method runs.
var beforeTheMethod = [...]ErrorCode{
	ErrQueryLimit, ErrOperationTimeLimit, ErrOAuthUnreachable, ErrExpiredToken, ErrInvalidToken, ErrNoAuth, ErrInvalidCredentials,
	ErrInsufficientScope, ErrUserAccess, ErrAuthorization, ErrApplicationMissing, ErrPortalDeleted, ErrOverload, ErrWrongAuthType,
	ErrMethodNotFound, ErrConfirmWaiting, ErrConfirmDenied, ErrMoved, ErrNotRun, ErrV3Scope, ErrV3MethodNotFound,
}

// surelyNotRun reports whether the error of a call says that it did not run.
func surelyNotRun(err error) bool {
	var e interface{ NotRun() bool }
	return errors.As(err, &e) && e.NotRun()
}

// busy reports whether a front end asked to come later: by 429, which the portal itself uses only for a method whose time is used
// up, or by 503 without a code of the portal.
func (e *Error) busy() bool {
	switch e.Status {
	case http.StatusTooManyRequests:
		return !e.Is(ErrOperationTimeLimit) && !e.Is(ErrQueryLimit)
	case http.StatusServiceUnavailable:
		return e.Code == ErrBadResponse
	default:
		return false
	}
}

// passes reports whether the call did not run for a reason that passes.
func (e *Error) passes() bool {
	return e.NotRun() && (e.Is(ErrQueryLimit) || e.Is(ErrOperationTimeLimit) || e.Is(ErrOAuthUnreachable) || e.busy())
}

// Retryable reports whether the call that failed with err surely did not run and may succeed later, and how long to wait before.
// It is so for ErrQueryLimit, ErrOperationTimeLimit, ErrOAuthUnreachable, for 429 and for 503 with a Retry-After, for connections that
// were never made, and for credentials that fail and do not call that permanent. Of a batch, all commands must have failed so.
//
// Clients repeat such calls by themselves ([WithRetries]) while the context leaves time for the wait; what is left is for a queue
// or a scheduler to repeat:
//
//	if after, ok := rest.Retryable(err); ok {
//		return event.Retry(err, after)
//	}
//
// The wait is ten minutes at most, whatever the portal says.
func Retryable(err error) (after time.Duration, ok bool) {
	for err != nil {
		switch e := err.(type) { //nolint:errorlint // it unwraps
		case *Error:
			return e.retryable()
		case *callError:
			return firstBlock, e.ran == ranNot
		case *batchError:
			return e.retryable()
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			return allRetryable(e.Unwrap())
		default:
			return 0, false
		}
	}
	return 0, false
}

// allRetryable is Retryable of several errors together.
func allRetryable(errs []error) (after time.Duration, ok bool) {
	for _, err := range errs {
		one, ok := Retryable(err)
		if !ok {
			return 0, false
		}
		after = max(after, one)
	}
	return after, len(errs) > 0
}

func (e *Error) retryable() (after time.Duration, ok bool) {
	switch {
	case !e.passes():
		return 0, false
	case e.until.IsZero():
		return firstBlock, true
	default:
		return min(max(time.Until(e.until), 0), maxPause), true
	}
}

// retryable reports whether none of the commands ran, and one at least for a reason that passes. Those that halted behind it have
// no reason of their own.
func (e *batchError) retryable() (after time.Duration, ok bool) {
	if !e.NotRun() {
		return 0, false
	}
	var reasons []error
	for _, err := range e.failures {
		if failure, is := err.(*Error); !is || !failure.Is(ErrNotRun) { //nolint:errorlint // an item of a batch
			reasons = append(reasons, err)
		}
	}
	return allRetryable(reasons)
}

// again reports whether a call that failed with err is to be sent again, and after what time.
func (call *call) again(err error, try int) (wait time.Duration, ok bool) {
	switch e := err.(type) { //nolint:errorlint // the cause of a context may be another call's error
	case *Error:
		if e.isLate() {
			return 0, false
		}
		return call.answeredAgain(e, try)
	case *callError:
		return backoff(try), !e.creds && !e.file && (e.ran == ranNot || e.ran == ranMaybe && call.idempotent)
	default:
		return 0, false
	}
}

// isLate reports whether nothing was sent, because the deadline comes before the turn.
func (e *Error) isLate() bool { return e.cause != nil && errors.As(e.cause.err, new(tooLongError)) }

// passesAlone reports whether a call that failed as a command of a batch is to be made by itself: a client would send it again, or
// its token can be renewed.
func passesAlone(err error, idempotent bool) bool {
	_, again := (&call{idempotent: idempotent}).again(err, 0)
	return again || hasCode(err, ErrExpiredToken)
}

// answeredAgain is again for a call that has an answer.
func (call *call) answeredAgain(e *Error, try int) (wait time.Duration, ok bool) {
	switch {
	case e.Is(ErrQueryLimit):
		return 0, true // the limiter waits
	case e.Is(ErrOperationTimeLimit):
		first := !call.paused // else minutes have passed, and it is blocked again
		call.paused = true
		return 0, first // the pause of the method is waited for
	case e.busy():
		if !e.NotRun() && !call.idempotent {
			return 0, false
		}
		wait = time.Until(e.until)
		call.busy += wait
		return wait, call.busy <= maxBusy
	case e.Is(ErrOAuthUnreachable):
		return backoff(try), true
	case e.Is(ErrInternal), e.Code == ErrBadResponse && (e.Status >= http.StatusInternalServerError || e.Status < http.StatusMultipleChoices):
		return backoff(try), call.idempotent
	default:
		return 0, false
	}
}

const (
	firstBackoff = 200 * time.Millisecond
	// firstBusy is how long a call waits first if a front end asks to come later and does not say when. maxBusy bounds all such
	// waits of a call, also those that the front end names.
	firstBusy = time.Second
	maxBusy   = 30 * time.Second
)

func backoff(try int) time.Duration { return jitter(min(firstBackoff<<min(try, 8), maxBlock)) }

// tooLongError is the error of a wait that the context does not leave time for.
type tooLongError struct{}

func (tooLongError) Error() string        { return "the wait would outlast the context" }
func (tooLongError) Is(target error) bool { return target == context.DeadlineExceeded }

// pause waits. It fails at once if the context's deadline comes first.
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

// waitFailed is the error of a call that was not sent because err ended the wait. The wait's reason is of use only if there is
// no time for it; a context that ended speaks for itself.
func waitFailed(ctx context.Context, err error, reason *Error) error {
	if ctx.Err() != nil {
		return contextError(ctx, reason.Method)
	}
	reason.Hint = hintLate
	reason.cause = &cause{err}
	return reason
}
