package polling

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

// What ends [Consumer.Run] for good. If the portal said so, its own error stays in the chain, for
// errors.As with [event.CallError].
const (
	// ErrConfig means that arguments or options make no sense.
	ErrConfig Error = "polling: invalid configuration"
	// ErrIdentity means that the caller does not belong to the application, the portal or the user
	// that it is used for. The offset of one user, sent with the token of another, would delete
	// events that nobody has seen.
	ErrIdentity Error = "polling: the caller belongs to another application, portal or user"
	// ErrBot means that the portal has no such bot, that another application registered it, or that
	// its botToken is another. It is also the error of a bot that was deleted.
	ErrBot Error = "polling: the application has no such bot on the portal; register it with imbot.v2.Bot.register, " +
		"and pass its botToken if you call through an incoming webhook"
	// ErrScope means that the application lacks a scope: imbot for bots, im for events of users.
	ErrScope Error = "polling: the application lacks a scope, imbot for a bot or im for events of a user"
	// ErrStore means that a kept offset cannot be read: the file of a [FileStore] is damaged, or holds
	// that of another bot or user.
	ErrStore Error = "polling: the kept offset cannot be read"
)

// ErrBadResponse means that a response is not what the method's documentation says. It is logged,
// and the call is made again later.
const ErrBadResponse Error = "polling: unexpected response from the portal"

// States of a [Consumer].
const (
	// ErrRunning means that the call does not work while Run or Drain is under way.
	ErrRunning Error = "polling: Run or Drain is under way"
	// ErrStopped is the cause with which a handler's context ends when the grace period is over.
	ErrStopped Error = "polling: the consumer was stopped"
	// ErrLeaseHeld means that another owner holds the lease of the bot or the user.
	ErrLeaseHeld Error = "polling: another process holds the lease; stop it, or wait until its lease has run out"
	// ErrLeaseLost is the cause with which contexts end when a lease was lost: it could not be renewed
	// in time, or another owner has it.
	ErrLeaseLost Error = "polling: the lease was lost"
)

// misconfigured makes an [ErrConfig] with an explanation.
func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

const codeNotSubscribed = "USER_NOT_SUBSCRIBED"

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
func explain(method string, err error) error {
	err = errtree.WithoutURL(err)
	if !strings.Contains(err.Error(), method) { // errors of package rest name it
		err = fmt.Errorf("%s: %w", method, err)
	}
	switch codeOf(err) {
	case "BOT_NOT_FOUND", "BOT_OWNERSHIP_ERROR", "BOT_ID_REQUIRED", "BOT_TOKEN_NOT_SPECIFIED":
		return fmt.Errorf("%w: %w", ErrBot, err)
	case "SCOPE_ERROR", "INSUFFICIENT_SCOPE":
		return fmt.Errorf("%w: %w", ErrScope, err)
	default:
		return fmt.Errorf("polling: %w", err)
	}
}

// permanent reports whether waiting does not help after an error. An error that is not known to be
// permanent may pass. The errors of sources of tokens, for example of package oauth, have a method
// Permanent.
func permanent(err error) bool {
	for _, known := range []Error{ErrBot, ErrScope, ErrIdentity, ErrStore} {
		if errors.Is(err, known) {
			return true
		}
	}
	var p interface{ Permanent() bool }
	if errors.As(err, &p) && p.Permanent() {
		return true
	}
	switch codeOf(err) {
	case "AUTH_ERROR", "ACCESS_DENIED", "WRONG_AUTH_TYPE", "WRONG_LICENSE", "INVALID_TOKEN", "NO_AUTH_FOUND", "INVALID_CREDENTIALS",
		"APPLICATION_NOT_FOUND", "USER_ACCESS_ERROR", "AUTHORIZATION_ERROR", "ERROR_METHOD_NOT_FOUND", "METHOD_CONFIRM_DENIED",
		"ERROR_ARGUMENT", "INVALID CALL", "INVALID ENDPOINT": // the last two are package rest's own
		return true
	default:
		return false
	}
}
