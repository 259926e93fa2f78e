package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// NotRun reports whether the call surely did not run. If it is false, the call ran, or may have
// run. Packages that do not import this one find the method by errors.As with interface{ NotRun()
// bool }. Other errors of calls have it too.
//
// A call did not run if nothing was sent; if the portal refused it because of its limits, the token
// or the method's name; if the response was a redirect to another address; or if a front end
// returned 429, or 503 with a Retry-After. If the call was sent before, and the outcome is not
// known, it may have run.
//
// Source: https://apidocs.bitrix24.com/limits.html
func (e *Error) NotRun() bool {
	switch {
	case e.mayHaveRun:
		return false
	case e.Status == 0, e.Status == http.StatusTooManyRequests:
		return true
	case e.Code == ErrBadResponse:
		return e.Status == http.StatusServiceUnavailable && e.namedRetry
	}
	for _, code := range beforeTheMethod {
		if strings.EqualFold(string(e.Code), string(code)) {
			return true
		}
	}
	return false
}

// beforeTheMethod lists the codes of checks that come before the method runs.
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

// busy reports whether a front end asked to come later: by 429, which the portal itself uses only
// if a method's time is used up, or by 503 without a code of the portal.
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

// isTemporary reports whether the call did not run, for a temporary reason.
func (e *Error) isTemporary() bool {
	return e.NotRun() && (e.Is(ErrQueryLimit) || e.Is(ErrOperationTimeLimit) || e.Is(ErrOAuthUnreachable) || e.busy())
}

// Retryable reports whether the call that failed with err surely did not run and may succeed later,
// and how long to wait. It returns true for ErrQueryLimit, ErrOperationTimeLimit and
// ErrOAuthUnreachable, for 429 and for 503 with a Retry-After, for connections that were never
// made, and for errors of credentials that they do not call permanent. For a batch, all commands
// must have failed so.
//
// Clients retry such calls themselves ([WithRetries]) while the context leaves time for the wait. A
// queue or a scheduler can retry the others:
//
//	if after, ok := rest.Retryable(err); ok {
//		return event.Retry(err, after)
//	}
//
// The wait is ten minutes at most, even if the portal says more.
func Retryable(err error) (after time.Duration, ok bool) {
	for err != nil {
		switch e := err.(type) { //nolint:errorlint // it unwraps by itself
		case *Error:
			return e.retryable()
		case *callError:
			return firstBlock, e.executed == executedNot
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
	case !e.isTemporary():
		return 0, false
	case e.until.IsZero():
		return firstBlock, true
	default:
		return min(max(time.Until(e.until), 0), maxPause), true
	}
}

// retryable reports whether no command ran, and at least one failed for a temporary reason.
// Commands after the one that stopped the batch have no reason of their own.
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

// shouldRetry reports whether a call that failed with err is to be sent again, and after how long.
func (call *call) shouldRetry(err error, try int) (wait time.Duration, ok bool) {
	switch e := err.(type) { //nolint:errorlint // the cause of a context may be another call's error
	case *Error:
		if e.isLate() {
			return 0, false
		}
		return call.shouldRetryRefused(e, try)
	case *callError:
		return backoff(try), !e.creds && !e.file && (e.executed == executedNot || e.executed == executedMaybe && call.idempotent)
	default:
		return 0, false
	}
}

// isLate reports whether nothing was sent, because the deadline comes before the turn.
func (e *Error) isLate() bool { return e.cause != nil && errors.As(e.cause.err, new(tooLongError)) }

// retriableAlone reports whether a call that failed as a command of a batch is to be made again by
// itself: if a client would retry it, or its token can be renewed.
func retriableAlone(err error, idempotent bool) bool {
	_, again := (&call{idempotent: idempotent}).shouldRetry(err, 0)
	return again || hasCode(err, ErrExpiredToken)
}

// shouldRetryRefused is shouldRetry for a call that has a response.
func (call *call) shouldRetryRefused(e *Error, try int) (wait time.Duration, ok bool) {
	switch {
	case e.Is(ErrQueryLimit):
		return 0, true // the limiter waits
	case e.Is(ErrOperationTimeLimit):
		first := !call.paused // otherwise minutes have passed, and it is blocked again
		call.paused = true
		return 0, first // the next attempt waits for the pause
	case e.busy():
		if !e.NotRun() && !call.idempotent {
			return 0, false
		}
		wait = time.Until(e.until)
		call.busyWait += wait
		return wait, call.busyWait <= maxBusy
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
	// firstBusy is how long a call waits first if a front end asks to come later without a time.
	// maxBusy bounds all such waits of a call, even if the front end names the time.
	firstBusy = time.Second
	maxBusy   = 30 * time.Second
)

func backoff(try int) time.Duration { return timing.Jitter(min(firstBackoff<<min(try, 8), maxBlock)) }

// tooLongError means that the context ends before a wait would.
type tooLongError struct{}

func (tooLongError) Error() string        { return "the wait is longer than the context allows" }
func (tooLongError) Is(target error) bool { return target == context.DeadlineExceeded }

// pause waits for d. If the context's deadline comes first, it fails at once.
func pause(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return tooLongError{}
	}
	return timing.Sleep(ctx, d)
}

// waitFailed is the error of a call that was not sent because err ended the wait. reason is the
// error only if the deadline left no time for the wait; if the context ended, that is the error.
func waitFailed(ctx context.Context, err error, reason *Error) error {
	if ctx.Err() != nil {
		return contextError(ctx, reason.Method)
	}
	reason.Hint = hintLate
	reason.cause = &cause{err}
	return reason
}
