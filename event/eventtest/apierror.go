package eventtest

import "github.com/b24events/b24events/internal/phpform"

// apiError is an error answer of the portal.
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
