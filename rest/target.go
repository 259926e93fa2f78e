package rest

import (
	"reflect"
)

// checkTarget returns an error if a result could not be stored in result. It is called before
// anything is sent.
func checkTarget(method string, result any) error {
	if result == nil {
		return nil
	}
	v := reflect.ValueOf(result)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return badTarget(method, "a result goes into a non-nil pointer, not into a "+describe(v))
	}
	return checkResult(method, v.Type().Elem())
}

func describe(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		return "nil " + v.Type().String()
	}
	return v.Type().String()
}

// checkResult returns an error if no result fits a type.
func checkResult(method string, t reflect.Type) error {
	if err := rules.Check(t); err != nil {
		return badTarget(method, "a result cannot go into a "+t.String()+": "+err.Error())
	}
	return nil
}

// badTarget is the error of a result that cannot be stored. It leaves out a name that no method can
// have.
func badTarget(method, description string) error {
	if !validMethod(method) {
		method = ""
	}
	return &Error{Method: method, Code: ErrBadCall, Description: description}
}
