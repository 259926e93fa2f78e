package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"

	"github.com/b24events/b24events/internal/values"
)

// rules decode results. They cache the tags of types.
var rules = values.New(nil)

// Decode fills result, a non-nil pointer or nil, from the result member, by the rules for payloads
// in package event: numbers may be text, flags are Y and N, and "", false, null and [] are empty
// for any target. Fields are found by their b24 tags, or else by their json tags or names as
// encoding/json finds them. It differs from encoding/json:
//
//   - What is empty is like null: it leaves its target as it was, and makes a pointer or slice nil.
//     So an empty result gives a zero struct without an error: some methods return [] for an object
//     that the token may not see. event.Fetch tells these apart.
//   - A list may come as an object whose keys are numbers, a list of one as a single value, and an
//     object with the keys 0 to n-1 as a list.
//   - Every scalar fits a string: a number as it is written, true as "1", false as "".
//   - A time.Time also takes the other forms in which Bitrix24 writes dates.
//
// A [json.RawMessage] gets the bytes as they came, an any gets what encoding/json makes of them
// (numbers are float64), and a type with a method UnmarshalJSON reads itself.
//
// The error matches [ErrBadResult] if a value does not fit: it names the first such value, and the
// others are decoded. It also matches if the result is an object and none of its members has a
// field in the struct that result points to. It matches [ErrBadCall] if nothing can be decoded into
// a result of that type.
func (r *Response) Decode(result any) error { return r.decode("", result) }

// decode fills result, unless it is nil, with the result of a method.
func (r *Response) decode(method string, result any) error {
	if result == nil {
		return nil
	}
	if raw, ok := result.(*json.RawMessage); ok && raw != nil {
		*raw = append((*raw)[:0], r.Result...)
		return nil
	}
	report, err := rules.Unmarshal(r.Result, nil, result)
	failure := &Error{Method: method, Status: http.StatusOK, Code: ErrBadResult}
	switch member, blank := report.Blank(); {
	case errors.Is(err, values.ErrSyntax):
		failure.Description = "it is not JSON"
	case err != nil:
		return &Error{Method: method, Status: http.StatusOK, Code: ErrBadCall, Description: "the method ran, but " + err.Error()}
	case len(report.Misfits) > 0:
		path := "result"
		if m := report.Misfits[0]; m.Path != "" {
			path += "." + m.Path
		}
		failure.Description = path + " is not " + report.Misfits[0].Want
	case blank:
		failure.Description = "no field of " + reflect.TypeOf(result).Elem().String() + " stands in it"
		if member != "" {
			failure.Hint = "the result has the member " + member + ": decode into a struct with that field"
		}
	default:
		return nil
	}
	return failure
}
