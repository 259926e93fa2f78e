package eventtest

import "github.com/b24events/b24events/internal/phpform"

// apiError is an error that a REST method or the OAuth server returns.
type apiError struct {
	status      int
	code        string
	description string
	argument    string
}

func (e *apiError) value() phpform.Value {
	entries := []phpform.Entry{text("error", e.code), text("error_description", e.description)}
	if e.argument != "" {
		entries = append(entries, text("argument", e.argument))
	}
	return phpform.Map(entries...)
}

// fail returns an apiError without the member argument.
func fail(status int, code, description string) *apiError {
	return &apiError{status: status, code: code, description: description}
}

// badArgument returns ERROR_ARGUMENT. An empty name leaves out the member argument.
func badArgument(description, name string) *apiError {
	return &apiError{status: 400, code: "ERROR_ARGUMENT", description: description, argument: name}
}

// missing returns the error for a required argument that is null or empty, PHP's
// ArgumentNullException.
func missing(name string) *apiError { return badArgument("Argument '"+name+"' is null or empty", name) }

// denied returns ACCESS_DENIED. more continues the description.
func denied(more string) *apiError { return fail(403, "ACCESS_DENIED", "Access denied!"+more) }

// wrongEncoding is the body that replaces one that cannot be encoded as JSON.
func wrongEncoding() phpform.Value {
	return fail(0, "WRONG_ENCODING", "Wrong request encoding").value()
}
