package eventtest

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/b24events/b24events/internal/phpform"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

const (
	// ErrClosed means that the portal was closed.
	ErrClosed Error = "eventtest: portal closed"
	// ErrNotFound means that the portal has no such user, application, object or kind.
	ErrNotFound Error = "eventtest: not found"
	// ErrInstalled means that an application is installed already, so that its installation cannot
	// begin or end again.
	ErrInstalled Error = "eventtest: application is installed already"
	// ErrNotInstalled means that an application is not installed, and so has no tokens, pages or
	// events.
	ErrNotInstalled Error = "eventtest: application is not installed"
)

// apiError is an error answer of the portal.
type apiError struct {
	status      int
	code        string
	description string
	argument    string
}

func fail(status int, code, description string) *apiError {
	return &apiError{status: status, code: code, description: description}
}

// badArgument is ERROR_ARGUMENT; only with a name does it carry the member argument.
func badArgument(description, name string) *apiError {
	return &apiError{status: 400, code: "ERROR_ARGUMENT", description: description, argument: name}
}

// missing is what PHP's ArgumentNullException becomes.
func missing(name string) *apiError { return badArgument("Argument '"+name+"' is null or empty", name) }

func denied(more string) *apiError { return fail(403, "ACCESS_DENIED", "Access denied!"+more) }

// wrongEncoding is the answer in place of one that is no JSON.
func wrongEncoding() phpform.Value {
	return fail(0, "WRONG_ENCODING", "Wrong request encoding").value()
}

func (e *apiError) value() phpform.Value {
	entries := []phpform.Entry{text("error", e.code), text("error_description", e.description)}
	if e.argument != "" {
		entries = append(entries, text("argument", e.argument))
	}
	return phpform.Map(entries...)
}

// withoutURL takes the address out of a transport error, since handler addresses may hold secrets.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// userKey names a user in maps of text.
func userKey(id int64) string { return strconv.FormatInt(id, 10) }
