// Package typednil finds the nils that a comparison with nil does not: those of a concrete type
// inside an interface.
package typednil

import "reflect"

// Is reports whether v is nil, or an interface that holds a nil pointer, function, map, slice or
// channel.
func Is(v any) bool {
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Slice, reflect.Chan:
		return rv.IsNil()
	default:
		return false
	}
}
