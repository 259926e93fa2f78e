package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/b24events/b24events/internal/notfound"
	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// absence returns what a caller's error says about the object: [ErrGone], [ErrNotVisible], or
// nothing if it is another failure. Only errors that the page of this method documents count. An
// error without a code whose text is in another language than the page is an ordinary error.
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
// there is nothing: null, false, an empty text, list or object. That does not prove a deletion: for
// most methods, the documentation names an error that does.
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
			result = list[0] // there is one, because the result is not blank
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

// run makes the call and decodes the object into dst, a pointer. of is the delivery that the call
// is for, or nil.
func (f fetchCall) run(ctx context.Context, c Caller, of *Delivery, dst any) error {
	if c == nil {
		return misconfigured("a nil caller cannot fetch the object of %s", f.event)
	}
	var params any
	if len(f.params) > 0 {
		params = f.params
	}
	var result json.RawMessage
	if err := c.Call(ctx, f.method.Name, params, &result); err != nil {
		return f.failure(err)
	}
	if len(result) == 0 {
		return fmt.Errorf("event: the caller returned no result of %s; it must fill a json.RawMessage", f.method.Name)
	}
	object, err := f.method.unwrap(result)
	switch {
	case errors.Is(err, ErrNotVisible):
		return fmt.Errorf("%w: the result of %s is empty", err, f.method.Name)
	case err == nil:
		err = decodeObject(of, object, dst)
	}
	var misfit *DecodeError
	if errors.As(err, &misfit) {
		misfit.Event = f.event
		if of != nil {
			misfit.Entity = of.printableEntity(nil, misfit.Path)
		}
	}
	return err
}

// failure returns the error for a failed call.
func (f fetchCall) failure(err error) error {
	if absence := f.method.absence(err); absence != "" {
		return withCause(absence, err)
	}
	var refused CallError
	if errors.As(err, &refused) && strings.EqualFold(refused.ErrorCode(), insufficientScope) {
		return &ScopeError{Event: f.event, Method: f.method.Name, Missing: f.method.Scope, Err: err}
	}
	return err
}

// decodeObject decodes an object of a method's result, whose length the caller bounds. The
// [DecodeError] that it returns names no event.
func decodeObject(of *Delivery, object json.RawMessage, dst any) error {
	report, err := rules.Unmarshal(object, of, dst)
	switch member, blank := report.Blank(); {
	case errors.Is(err, values.ErrSyntax):
		return &DecodeError{Path: "result", Want: "a JSON document"}
	case err != nil:
		return fmt.Errorf("event: %w", err)
	case len(report.Misfits) > 0:
		first := misfitsOf(&report, "result")[0]
		return mismatch(first.Path, first.Want)
	case blank:
		if member == "" {
			member = "members"
		}
		return mismatch("result", "a "+reflect.TypeOf(dst).Elem().String()+": it has "+member+", and the type reads none of its members")
	}
	return nil
}
