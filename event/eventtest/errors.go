package eventtest

import (
	"errors"
	"fmt"
	"net/url"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

const (
	// ErrConfig means that an argument or an option makes no sense, or that options contradict each
	// other. The text of the error says which.
	ErrConfig Error = "eventtest: invalid configuration"
	// ErrClosed means that the portal was closed.
	ErrClosed Error = "eventtest: portal closed"
	// ErrNotFound means that the portal has no such user, application, event, object or kind.
	ErrNotFound Error = "eventtest: not found"
	// ErrInstalled means that an application is already installed, so its installation cannot begin or
	// end again.
	ErrInstalled Error = "eventtest: application is already installed"
	// ErrNotInstalled means that an application is not installed, so it has no tokens, pages or
	// events.
	ErrNotInstalled Error = "eventtest: application is not installed"
)

// misconfigured returns an [ErrConfig] with an explanation.
func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// withoutURL removes the address from a transport error, because handler addresses may hold
// secrets.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
