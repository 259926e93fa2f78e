package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// ErrNotVisible means that a fetch method returned nothing for an object, and that the documentation leaves open why: the object is
// gone, or the token may not see it. It is not [ErrGone], because lists that are filtered by rights, such as
// sonet_group.get, answer the same for a secret group and for a deleted one.
//
// A mirror must keep its row on ErrNotVisible, unless it knows that the token sees all objects of the kind, as an administrator's
// sees all tasks. A deletion has an event of its own.
//
// An error of [Fetch] that wraps it is final, see [OutcomeOf]: the delivery is [Dropped], and package offline parks its record,
// so that it can be handled after someone has given the token the rights.
const ErrNotVisible Error = "event: the object is gone, or not visible to the token"

// refusal is an error with which a method answers for an object, by the table of errors on its page. If the text is empty the code
// alone decides; * in the text stands for anything. Codes are compared as they are written there: a
// proxy that answers not_found in the portal's place must not pass for a deletion.
type refusal struct{ code, text string }

// absence returns what a caller's error says of the object: [ErrGone], [ErrNotVisible], or nil if it is another failure.
// Only what the page of this very method documents counts. In a language that the page does not have,
// an answer without a code stays an ordinary error.
func (m *FetchMethod) absence(err error) error {
	var failure CallError
	if !errors.As(err, &failure) {
		return nil
	}
	code, text := failure.ErrorCode(), plainText(failure.ErrorDescription())
	for _, r := range m.gone {
		if r.matches(code, text) {
			return ErrGone
		}
	}
	for _, r := range m.hidden {
		if r.matches(code, text) {
			return ErrNotVisible
		}
	}
	return nil
}

// matches reports whether an error is this one. text went through plainText.
func (r refusal) matches(code, text string) bool {
	if r.code != code {
		return false
	}
	if r.text == "" {
		return true
	}
	parts := strings.Split(plainText(r.text), "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return text == first
	}
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}

// plainText takes case, outer space and the full stop off a text: pages and portals differ in them.
func plainText(text string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(text), "."))
}

// unwrap returns the part of a method's result that is the object. It returns [ErrNotVisible] if there
// is nothing: null, false, an empty text, list or object. That never proves a deletion, which has an error of its own wherever the
// documentation knows one.
func (m *FetchMethod) unwrap(result json.RawMessage) (json.RawMessage, error) {
	if isBlank(result) {
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
	if isBlank(result) {
		return nil, ErrNotVisible
	}
	return result, nil
}

// isBlank reports whether a JSON value is what Bitrix24 sends for "nothing here".
func isBlank(value []byte) bool {
	value = bytes.TrimSpace(value)
	switch string(value) {
	case "null", "false", `""`:
		return true
	}
	// Brackets with at most space between them.
	return len(value) >= 2 && (value[0] == '[' && value[len(value)-1] == ']' || value[0] == '{' && value[len(value)-1] == '}') &&
		len(bytes.TrimSpace(value[1:len(value)-1])) == 0
}
