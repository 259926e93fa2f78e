package rest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/notfound"
)

// ErrorCode is the error member of a portal's response, as a sentinel: errors.Is(err,
// rest.ErrQueryLimit). The comparison ignores case, because portals differ in it. Compare any other
// code as rest.ErrorCode("ERROR_EVENT_NOT_FOUND").
type ErrorCode string //nolint:errname // codes are what callers name; an error without a code is no such value

// Error returns the code with the name of the package.
func (c ErrorCode) Error() string { return "rest: " + string(c) }

// The codes that every method can return. Judge by these and not by the status, which differs
// between builds.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/system/errors.html
const (
	ErrExpiredToken       ErrorCode = "expired_token"          // renewed once already, and refused again
	ErrInvalidToken       ErrorCode = "invalid_token"          // revoked, or never issued
	ErrNoAuth             ErrorCode = "NO_AUTH_FOUND"          // the portal knows no such token
	ErrInvalidCredentials ErrorCode = "INVALID_CREDENTIALS"    //nolint:gosec // a code: the secret of an inbound webhook is wrong
	ErrInsufficientScope  ErrorCode = "insufficient_scope"     // the application lacks a permission
	ErrUserAccess         ErrorCode = "user_access_error"      // the user may not use the application
	ErrAuthorization      ErrorCode = "authorization_error"    // for example, the user was dismissed
	ErrApplicationMissing ErrorCode = "APPLICATION_NOT_FOUND"  // removed from the portal, or inactive
	ErrOAuthUnreachable   ErrorCode = "CONNECTION_ERROR"       // the portal could not reach the OAuth server; try later
	ErrOverload           ErrorCode = "OVERLOAD_LIMIT"         // REST was blocked by the vendor
	ErrPortalDeleted      ErrorCode = "PORTAL_DELETED"         // on premise also a site that is closed for a while
	ErrWrongAuthType      ErrorCode = "WRONG_AUTH_TYPE"        // not for this kind of token, such as a webhook's
	ErrAccessDenied       ErrorCode = "ACCESS_DENIED"          // not an administrator, or a plan without REST
	ErrWrongLicense       ErrorCode = "WRONG_LICENSE"          // the plan lacks the feature
	ErrConfirmWaiting     ErrorCode = "METHOD_CONFIRM_WAITING" // an administrator has to allow the method
	ErrConfirmDenied      ErrorCode = "METHOD_CONFIRM_DENIED"
	ErrMethodNotFound     ErrorCode = "ERROR_METHOD_NOT_FOUND"
	ErrQueryLimit         ErrorCode = "QUERY_LIMIT_EXCEEDED" // too many requests a second; the method did not run
	ErrOperationTimeLimit ErrorCode = "OPERATION_TIME_LIMIT" // the method's time is used up for minutes; it did not run
	ErrArgument           ErrorCode = "ERROR_ARGUMENT"       // see Error.Argument
	ErrCore               ErrorCode = "ERROR_CORE"
	ErrInternal           ErrorCode = "INTERNAL_SERVER_ERROR"
)

// The codes of this package, for failures that have no code of the portal. They hold spaces, which
// the codes of portals do not.
const (
	// ErrBadResponse means that the response is not the JSON that methods send: a page of a front
	// end or a proxy, an empty or cut-off body, or foreign JSON. The status tells more; see
	// [Error.NotRun].
	ErrBadResponse ErrorCode = "unreadable response"
	// ErrMoved means that the response is a redirect that was not followed. A renamed portal sends
	// one: see [Mover].
	ErrMoved ErrorCode = "redirected response"
	// ErrTooLarge means that the response is larger than MaxResponseBytes.
	ErrTooLarge ErrorCode = "response too large"
	// ErrBadResult means that the method ran and its result does not fit the Go type.
	ErrBadResult ErrorCode = "unexpected result"
	// ErrBadCall means that the method's name or the parameters cannot be sent, or that the result
	// cannot be stored in the given place. Nothing was sent.
	ErrBadCall ErrorCode = "invalid call"
	// ErrNotRun means that a command of a batch did not run: an earlier one failed and the batch
	// stops then, or the batch has not been sent.
	ErrNotRun ErrorCode = "not run"
	// ErrNotFound means that the object that the call names does not exist. An error matches if the
	// method says so by a code or by its own words: crm.deal.get and crm.deal.update return "Not
	// found" without a code. Code is still the portal's code.
	//
	// Methods that return no error never match: tasks.task.get and calendar.event.getbyid with an
	// empty result, and lists with no rows. They may only mean that the token's user may not see
	// the object. Errors that leave the same open, for example that of task.commentitem.get, do not
	// match either.
	ErrNotFound ErrorCode = "object not found"
	// ErrBadEndpoint means that the credentials returned an address that is malformed or not https.
	// Nothing was sent.
	ErrBadEndpoint ErrorCode = "invalid endpoint"
	// ErrConfig means that [NewClients], [NewWebhook], [NewCoalescer], [NewLimiter] or one of their
	// options was given arguments that make no sense.
	ErrConfig ErrorCode = "invalid configuration"
)

// misconfigured returns an [ErrConfig] with an explanation.
func misconfigured(what string) error { return fmt.Errorf("%w: %s", ErrConfig, what) }

// Error is a call that failed. It holds no parameter of the call, and of the response only the
// error members.
type Error struct {
	Method      string    // the method called; empty if its name was refused
	Status      int       // HTTP status, 200 for a command of a batch; 0 if nothing was sent
	Code        ErrorCode // the portal's, or one of this package; empty if the portal sends none, as with "Not found" of crm.deal.get
	Description string    // the portal's words as plain text, cut to 1,000 characters; do not match on it, it changes
	Argument    string    // the parameter that ErrArgument is about
	Hint        string    // what to do about it, in this package's words; mostly empty

	until      time.Time // when to try again; zero if not known
	namedRetry bool      // the portal's front end named the time to retry
	mayHaveRun bool      // an earlier attempt may have run
	cause      *cause    // for errors.Is and errors.As, besides the code
}

// cause keeps another package's error behind a pointer, so that fmt's %#v does not print it.
type cause struct{ err error }

// maxShown is how much of a description an error's text shows, in characters.
const maxShown = 200

// Error describes the failure in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("rest: ")
	if e.Method != "" {
		b.WriteString(e.Method + ": ")
	}
	if e.Code == "" {
		b.WriteString("an error without a code")
	}
	b.WriteString(string(e.Code))
	if e.Status != 0 {
		b.WriteString(" (status " + strconv.Itoa(e.Status) + ")")
	}
	if e.Argument != "" {
		b.WriteString(" in " + e.Argument)
	}
	if e.Description != "" {
		b.WriteString(": " + cut(e.Description, maxShown))
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Is compares codes and ignores case. For [ErrNotFound] it looks at the method's own codes and
// words.
func (e *Error) Is(target error) bool {
	code, ok := target.(ErrorCode)
	if ok && code == ErrNotFound {
		return notfound.Of(e.Method, string(e.Code), e.Description) == notfound.Gone
	}
	return ok && strings.EqualFold(string(e.Code), string(code))
}

// Unwrap returns the error that led to the failure, or nil: of a deadline, or of a [Mover].
func (e *Error) Unwrap() error {
	if e.cause == nil {
		return nil
	}
	return e.cause.err
}

// Permanent reports whether retrying cannot help because the application is no longer on the
// portal. Calls that are queued for the portal need not be tried again.
func (e *Error) Permanent() bool { return e.Is(ErrApplicationMissing) }

// ErrorCode returns the code as text, for packages that do not import this one.
func (e *Error) ErrorCode() string { return string(e.Code) }

// ErrorDescription returns the description, for packages that do not import this one.
func (e *Error) ErrorDescription() string { return e.Description }

// cut shortens s to n characters.
func cut(s string, n int) string {
	count := 0
	for i := range s {
		if count == n {
			return s[:i] + "…"
		}
		count++
	}
	return s
}
