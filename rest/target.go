package rest

import (
	"encoding"
	"encoding/json"
	"reflect"
)

// checkTarget reports that a result could not be stored in result, before anything is sent.
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

// checkResult reports that no result can be of a type.
func checkResult(method string, t reflect.Type) error {
	if !decodable(t) {
		return badTarget(method, "no result fits a "+t.String())
	}
	return nil
}

// badTarget is the error of a result that cannot be stored. The name of the method is checked by
// whoever makes the call.
func badTarget(method, description string) error {
	if !validMethod(method) {
		method = ""
	}
	return &Error{Method: method, Code: ErrBadCall, Description: description}
}

// decodable reports whether a type can hold a result: neither it nor what its pointers, lists and
// maps hold is a channel, a function, a complex number or an interface with methods. Fields of
// structs are left to the decoder, which meets only those that the portal sends.
func decodable(t reflect.Type) bool {
	const enough = 32 // a type may hold itself, as in type T []T
	for range enough {
		if readsItself(t) {
			return true
		}
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			t = t.Elem()
		case reflect.Map:
			if !isKey(t.Key()) {
				return false
			}
			t = t.Elem()
		case reflect.Interface:
			return t.NumMethod() == 0
		case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
			return false
		default:
			return true
		}
	}
	return true
}

func isKey(t reflect.Type) bool {
	k := t.Kind()
	return k == reflect.String || reflect.Int <= k && k <= reflect.Uintptr ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func readsItself(t reflect.Type) bool {
	if t.Kind() == reflect.Interface {
		return false
	}
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
