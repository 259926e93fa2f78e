package offline

import (
	"errors"
	"fmt"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/errtree"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

// What a portal refuses for good. The portal's own error stays in the chain, for errors.As with
// [event.CallError].
const (
	// ErrExtendedModeRequired means that the portal's plan lacks the feature rest_offline_extended,
	// so records cannot be reserved. [Queue.Pop] works on every plan, but deletes records as it reads
	// them.
	ErrExtendedModeRequired Error = "offline: the portal's plan cannot reserve records (feature rest_offline_extended); " +
		"use a larger plan, WithSpool for a consumer, or Queue.Pop, which deletes records as it reads them"
	// ErrConnectorRefused means that the portal's plan lacks the feature rest_auth_connector, so it
	// refuses every call that names a connector.
	ErrConnectorRefused Error = "offline: the portal's plan has no connectors (feature rest_auth_connector); leave WithConnector out"
	// ErrAccessDenied means that the token is not an administrator's, or that the portal's plan has
	// no REST at all.
	ErrAccessDenied Error = "offline: the portal denies access to the queue; use the token of an administrator of the portal"
	// ErrWrongAuthType means that the queue was called through an incoming webhook.
	ErrWrongAuthType Error = "offline: the queue belongs to an application; call it with the application's token, not through a webhook"
	// ErrBadResponse means that a response is not what the method's documentation says: the portal, a
	// proxy or the caller does something else.
	ErrBadResponse Error = "offline: unexpected response from the portal"
)

// Calls that this package refuses because they would destroy records. Nothing was sent.
const (
	// ErrProcessID means that the process ID is empty. To the portal, this names all records that no
	// reservation holds.
	ErrProcessID Error = "offline: the process ID is empty, which the portal takes for every unreserved record"
	// ErrNothingNamed means that a call names no record. To the portal, an empty list names the whole
	// reservation.
	ErrNothingNamed Error = "offline: no record is named, which the portal takes for the whole reservation"
	// ErrMessageID means that a message ID is not 32 characters long.
	ErrMessageID Error = "offline: a message ID is not 32 characters long"
	// ErrRecordID means that a record ID is not positive.
	ErrRecordID Error = "offline: a record ID is not positive"
	// ErrLimit means that a limit is below 1.
	ErrLimit Error = "offline: the limit is below 1"
	// ErrFilter means that the portal would refuse a [Filter] or misread it.
	ErrFilter Error = "offline: unusable filter"
)

// What is wrong with arguments and options.
const (
	// ErrConfig means that [NewQueue], [NewConsumer] or [NewFleet] was given arguments or options
	// that make no sense.
	ErrConfig Error = "offline: invalid configuration"
	// ErrIdentity means that the caller does not belong to the application or to the portal that it
	// is used for. Nothing was sent.
	ErrIdentity Error = "offline: the caller belongs to another application or portal"
	// ErrMemberID means that no portal was named to a [Fleet].
	ErrMemberID Error = "offline: the member ID is empty; it names the portal"
)

// misconfigured makes an [ErrConfig] with an explanation.
func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// States of a [Consumer] or a [Fleet].
const (
	// ErrRunning means that Run or Drain was called while one of them was under way.
	ErrRunning Error = "offline: Run or Drain is under way"
	// ErrStopped is the cause with which a handler's context ends when the grace period is over.
	// The period begins when the consumer or the fleet is stopped, or the portal is removed from
	// the fleet, or passes to another process.
	ErrStopped Error = "offline: the work on the queue was stopped"
)

// Errors of leases.
const (
	// ErrLeaseHeld means that another owner holds the lease of the queue.
	ErrLeaseHeld Error = "offline: another process holds the lease of the queue; stop it, or wait until its lease has run out"
	// ErrLeaseLost is the cause with which contexts end when a lease was lost: it could not be
	// renewed in time, or another owner has it.
	ErrLeaseLost Error = "offline: the lease was lost"
)

// What is wrong with a spool; see [WithSpool].
const (
	// ErrSpool means that the folder cannot be used, or that records are lost because it could not be
	// written. The system's error is in the chain.
	ErrSpool Error = "offline: the spool's folder cannot be used; see that it can be written, or name another one"
	// ErrSpoolOwner means that the folder holds records of another application, portal or
	// connector, or is in the format of an older version. The error says which. Nothing in the
	// folder was changed.
	ErrSpoolOwner Error = "offline: the spool's folder is not this queue's"
	// ErrSpoolInUse means that another consumer of this queue, in this process or another, has
	// records in the spool or is taking some.
	ErrSpoolInUse Error = "offline: another process uses the spool of this queue; stop that one first"
)

// Codes of a portal's errors, in upper case.
const (
	codeWrongLicense   = "WRONG_LICENSE"
	codeAccessDenied   = "ACCESS_DENIED"
	codeWrongAuthType  = "WRONG_AUTH_TYPE"
	codeQueryLimit     = "QUERY_LIMIT_EXCEEDED"
	codeOperationLimit = "OPERATION_TIME_LIMIT"
	codeExpiredToken   = "EXPIRED_TOKEN"
	codeConnection     = "CONNECTION_ERROR"
	codeOverload       = "OVERLOAD_LIMIT"
)

// codeOf returns the code of a portal's error in upper case, or "" for an error that did not come
// from a portal.
func codeOf(err error) string {
	var ce event.CallError
	if !errors.As(err, &ce) {
		return ""
	}
	return strings.ToUpper(ce.ErrorCode())
}

// explain adds to the error of a call what it means.
func explain(method string, params map[string]any, err error) error {
	err = errtree.WithoutURL(err)
	var meaning error
	switch codeOf(err) {
	case codeWrongLicense:
		meaning = ErrConnectorRefused
		if method == methodGet && params["clear"] == 0 && !aboutConnector(err) {
			meaning = ErrExtendedModeRequired
		}
	case codeAccessDenied:
		meaning = ErrAccessDenied
	case codeWrongAuthType:
		meaning = ErrWrongAuthType
	default:
		return fmt.Errorf("offline: %w", naming(method, err))
	}
	return fmt.Errorf("%w: %w", meaning, naming(method, err))
}

// naming puts the method in front of an error that does not name it. Those of package rest do.
func naming(method string, err error) error {
	if strings.Contains(err.Error(), method) {
		return err
	}
	return fmt.Errorf("%s: %w", method, err)
}

// aboutConnector reports whether an error of event.offline.get is about connectors. Two missing
// features share a code, so the text has to decide.
func aboutConnector(err error) bool {
	var ce event.CallError
	return errors.As(err, &ce) && strings.Contains(strings.ToLower(ce.ErrorDescription()), "auth_connector")
}

// permanent reports whether waiting does not help after an error. An error that is not known to be
// permanent may pass. The errors of sources of tokens, for example of package oauth, have a method
// Permanent.
func permanent(err error) bool {
	if errors.Is(err, ErrBadResponse) || errors.Is(err, ErrSpool) || errors.Is(err, ErrSpoolInUse) ||
		errors.Is(err, ErrSpoolOwner) || errors.Is(err, ErrIdentity) {
		return true
	}
	var p interface{ Permanent() bool }
	if errors.As(err, &p) && p.Permanent() {
		return true
	}
	switch codeOf(err) {
	case codeWrongLicense, codeAccessDenied, codeWrongAuthType,
		"INSUFFICIENT_SCOPE", "INVALID_TOKEN", "NO_AUTH_FOUND", "INVALID_CREDENTIALS", "APPLICATION_NOT_FOUND", "USER_ACCESS_ERROR",
		"AUTHORIZATION_ERROR", "ERROR_METHOD_NOT_FOUND", "METHOD_CONFIRM_DENIED", "ERROR_ARGUMENT",
		"INVALID CALL", "INVALID ENDPOINT": // the last two are package rest's own
		return true
	default:
		return false
	}
}

// errNotSent is the error of calls that come after one that failed.
const errNotSent Error = "offline: not sent, because a call before it failed"

// surelyNotRun reports whether the portal refused a call before it did anything, by the error's own
// method NotRun() bool or by its code. After any other error a reservation may have been made.
func surelyNotRun(err error) bool {
	var e interface{ NotRun() bool }
	if errors.As(err, &e) && e.NotRun() {
		return true
	}
	switch codeOf(err) {
	case codeQueryLimit, codeOperationLimit, codeExpiredToken, codeConnection, codeOverload:
		return true
	default:
		return errors.Is(err, errNotSent) || (permanent(err) && !errors.Is(err, ErrBadResponse))
	}
}
