package event

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/b24events/b24events/internal/notfound"
)

// isGone reports whether a caller's error is a method's way to say that there is no such object: see
// package notfound.
func isGone(method string, err error) bool {
	var refusal CallError
	return errors.As(err, &refusal) && notfound.Is(method, refusal.ErrorCode(), refusal.ErrorDescription())
}

// isNothing reports whether a method's result holds no object: null, false, an empty text or list, as of a list that is filtered by
// one id (user.get), or an object whose members are all so, as of {"task": []}.
func isNothing(result []byte) bool {
	if isBlank(result) {
		return true
	}
	dec := json.NewDecoder(bytes.NewReader(result))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return false
	}
	for dec.More() {
		var member json.RawMessage
		if _, err := dec.Token(); err != nil || dec.Decode(&member) != nil || !isBlank(member) {
			return false
		}
	}
	return true
}

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
