package oauth

import (
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/redact"
)

// ErrorKind is a sentinel of this package. Compare with errors.Is.
type ErrorKind string //nolint:errname // a kind of error, like those of io/fs; the error with details is Error

// Error returns the text of the sentinel.
func (k ErrorKind) Error() string { return "oauth: " + string(k) }

// What a caller can do about an error: install again (ErrNotFound, ErrReauthorize), correct the
// configuration (ErrConfig, ErrCredentials, ErrHostNotAllowed), wait for hours (ErrPayment), or
// wait for a moment (ErrTemporary, ErrBusy, ErrStore).
const (
	// ErrConfig means that a constructor, an option or [Portals.Seed] was given a value that it
	// cannot use. The text says which.
	ErrConfig ErrorKind = "invalid configuration"
	// ErrNotFound means that no installation is stored for the portal.
	ErrNotFound ErrorKind = "no installation of this portal is stored"
	// ErrConflict means that a store holds another version than the one to be replaced. Only stores
	// return it.
	ErrConflict ErrorKind = "another version of the installation is stored"
	// ErrReauthorize means that the stored tokens are void for good: the application must be installed
	// or authorized again.
	ErrReauthorize ErrorKind = "the tokens are void; the application must be installed or authorized again"
	// ErrCredentials means that the OAuth server refuses the client ID and secret, or that the
	// application is not installed there.
	ErrCredentials ErrorKind = "the OAuth server refuses the application; check its ID and secret, and that it is installed" //nolint:gosec,lll // text
	// ErrPayment means that the portal's subscription, or the application's, has ended. Trying again
	// makes sense after hours.
	ErrPayment ErrorKind = "a subscription has ended"
	// ErrTemporary means that the OAuth server or a portal could not be reached or gave no usable
	// response. Try again later.
	ErrTemporary ErrorKind = "temporarily unavailable"
	// ErrBusy means that too many installations and pages of unknown senders are being checked. Try
	// again later.
	ErrBusy ErrorKind = "too many unproven installations are being checked"
	// ErrStore means that the Store failed, or could not take new tokens. The chain holds the store's
	// error.
	ErrStore ErrorKind = "the store is unavailable"
	// ErrHostNotAllowed means that an OAuth server is not on the allow list. Nothing was sent to it.
	ErrHostNotAllowed ErrorKind = "the OAuth server is not on the allow list; see WithHosts"
	// ErrEndpoint means that an address is malformed, or http although https is required.
	ErrEndpoint ErrorKind = "an endpoint is malformed or not https"
	// ErrUnverified means that an install event or page does not prove where it comes from, that
	// its user may not install, or that the OAuth server does not name a portal's new address. It
	// also matches event.ErrForbidden.
	ErrUnverified ErrorKind = "not confirmed"
	// ErrNoUserToken means that an event carries no token of the user who caused it. The
	// event has no user, or a queue has removed the token, or the delivery is not proven for the
	// application.
	ErrNoUserToken ErrorKind = "no token of the acting user"
	// ErrUserTokenExpired means that an event carries a token of the user who caused it, and that the
	// token has ended. It lives for an hour and cannot be renewed, so retries do not help. Call as a
	// user whose tokens [Portals.KeepUser] stored, or as the application if the user's rights do not
	// matter.
	ErrUserTokenExpired ErrorKind = "the acting user's token has expired, and no retry brings it back; " +
		"call as a user whom KeepUser stored, or as the application itself if that user's rights do not matter"
	// ErrRedirect means that a redirect with an authorization code is malformed, or was not begun in
	// this browser's session.
	ErrRedirect ErrorKind = "the redirect is malformed, was not begun in this session, or is another portal's"
	// ErrHook means that an installation page was confirmed and stored, and that [Hooks.Installed]
	// failed. The chain holds the hook's error.
	ErrHook ErrorKind = "the installation is stored, but its hook failed"
	// ErrNoSession means that a request carries no session of a page.
	ErrNoSession ErrorKind = "the request carries no session"
	// ErrSession means that a session is malformed, forged, or another application's.
	ErrSession ErrorKind = "the session is not valid"
	// ErrSessionExpired means that a session is over. The page must be opened again.
	ErrSessionExpired ErrorKind = "the session is over; open the page again"
	// ErrCrossOrigin means that another site may have caused a request that has a session's cookie.
	ErrCrossOrigin ErrorKind = "the request comes from another origin"
	// ErrShutdown means that Shutdown was called, so that no new work begins.
	ErrShutdown ErrorKind = "shut down"
)

// Error says what failed, and how. It holds no token, and nothing of a response but its error code.
type Error struct {
	Op     string // what was tried, such as "renew"
	Kind   ErrorKind
	Code   string // error code of the OAuth server, such as invalid_grant; empty if there is none
	Status int    // HTTP status of the OAuth server; 0 if it did not respond
	Detail string // what exactly, in words of this package
	Err    error  // the cause, such as the store's error; often nil
}

// Error describes the failure in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("oauth: " + e.Op + ": " + string(e.Kind))
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Code != "" {
		b.WriteString(": " + e.Code)
	}
	if e.Status != 0 {
		b.WriteString(" (status " + strconv.Itoa(e.Status) + ")")
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Is reports whether target is the kind. An [ErrUnverified] is an [event.ErrForbidden] too, so that
// a webhook responds with 403.
func (e *Error) Is(target error) bool {
	return target == e.Kind || (e.Kind == ErrUnverified && target == event.ErrForbidden)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports whether waiting is useless, because somebody has to install or authorize the
// application again, or to correct its configuration. An ended subscription is not permanent, and
// neither is a server or a store that fails.
func (e *Error) Permanent() bool {
	switch e.Kind {
	case ErrConfig, ErrNotFound, ErrReauthorize, ErrCredentials, ErrHostNotAllowed, ErrEndpoint, ErrNoUserToken, ErrUserTokenExpired,
		ErrUnverified, ErrShutdown, ErrNoSession, ErrSession, ErrSessionExpired, ErrCrossOrigin:
		return true
	default:
		return false
	}
}

// configError is the error of a constructor or an option.
func configError(op, detail string) error { return &Error{Op: op, Kind: ErrConfig, Detail: detail} }

// codeKind sorts the codes of the OAuth server by what can be done about them. It reads the text of
// one code only, because that code stands for several failures.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/error-codes.html
func codeKind(code, description string) ErrorKind {
	switch strings.ToLower(code) {
	case "invalid_grant", "bad_verification_code":
		return ErrReauthorize
	case "invalid_client", "wrong_client", "unauthorized_client":
		return ErrCredentials
	case "payment_required":
		return ErrPayment
	case "error_oauth":
		switch text := strings.ToLower(description); {
		case strings.Contains(text, "subscription"):
			return ErrPayment
		case strings.Contains(text, "not installed"):
			return ErrReauthorize
		}
	}
	return ErrTemporary
}

// refusesToken reports whether the OAuth server rejects a token, and not something else.
func (e *Error) refusesToken() bool {
	switch strings.ToLower(e.Code) {
	case "invalid_request", "invalid_token", "expired_token", "wrong_token", "no_auth_found", "access_denied":
		return true
	default:
		return e.Kind == ErrReauthorize
	}
}

// maxErrorText is the longest text of an error in a log line, in characters.
const maxErrorText = 500

// errorText returns the text of an error for the log. Stores, policies and hooks return errors of
// their own, which may quote what they were given.
func errorText(err error) string { return redact.New().Clean(err.Error(), maxErrorText) }

// maxCode is far longer than any known code.
const maxCode = 40

// cleanCode returns a code if it looks like one, and else nothing. Codes have letters and
// underscores only. If a server echoes what it was sent, that must not get into an error.
func cleanCode(code string, sent ...event.Secret) string {
	if len(code) > maxCode {
		return ""
	}
	for _, c := range []byte(code) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' {
			return ""
		}
	}
	for _, s := range sent {
		if s != "" && strings.Contains(code, string(s)) {
			return ""
		}
	}
	return code
}
