package event

import (
	"encoding/json"
	"errors"

	"github.com/b24events/b24events/internal/notfound"
	"github.com/b24events/b24events/internal/phpform"
)

// ErrNotVisible means that a fetch method returned nothing for an object, and that the
// documentation leaves open why: the object is gone, or the token may not see it. It is not
// [ErrGone], because lists that are filtered by rights, such as sonet_group.get, answer the same
// for a secret group and for a deleted one.
//
// A mirror must keep its row on ErrNotVisible, unless it knows that the token sees all objects of
// the kind, as an administrator's sees all tasks. A deletion has an event of its own.
//
// An error of [Fetch] that wraps it is final, see [OutcomeOf]: the delivery is [OutcomeDropped],
// and package offline parks its record, so that it can be handled after someone has given the token
// the rights.
const ErrNotVisible Error = "event: the object is gone, or not visible to the token"

// absence returns what a caller's error says of the object: [ErrGone], [ErrNotVisible], or nothing
// if it is another failure. Only what the page of this very method documents counts. In a language
// that the page does not have, an error without a code stays an ordinary one.
func (m *FetchMethod) absence(err error) Error {
	var failure CallError
	if !errors.As(err, &failure) {
		return ""
	}
	switch notfound.Of(m.Name, failure.ErrorCode(), failure.ErrorDescription()) {
	case notfound.Gone:
		return ErrGone
	case notfound.Hidden:
		return ErrNotVisible
	default:
		return ""
	}
}

// unwrap returns the part of a method's result that is the object. It returns [ErrNotVisible] if
// there is nothing: null, false, an empty text, list or object. That never proves a deletion, which
// has an error of its own wherever the documentation knows one.
func (m *FetchMethod) unwrap(result json.RawMessage) (json.RawMessage, error) {
	if phpform.IsBlank(result) {
		return nil, ErrNotVisible
	}
	switch m.Result {
	case "":
		return result, nil
	case firstOfList:
		var list []json.RawMessage
		if json.Unmarshal(result, &list) == nil {
			result = list[0] // there is one, or the result would be blank
			break
		}
		var numbered map[string]json.RawMessage // a PHP array whose keys are not 0, 1, 2 …
		if json.Unmarshal(result, &numbered) != nil || numbered["0"] == nil {
			return nil, &DecodeError{Path: "result", Want: "a list"}
		}
		result = numbered["0"]
	default:
		var members map[string]json.RawMessage
		if json.Unmarshal(result, &members) != nil || members[m.Result] == nil {
			return nil, &DecodeError{Path: "result." + m.Result, Want: "present"}
		}
		result = members[m.Result]
	}
	if phpform.IsBlank(result) {
		return nil, ErrNotVisible
	}
	return result, nil
}
