package phpform

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
)

// Any returns the tree as Go values: nil, bool, string, [json.Number], []any for an array whose keys run 0..n-1 (in the order of
// the keys, also for the empty one), map[string]any for every other. Slices and maps are the caller's own.
func (v Value) Any() any {
	switch v.kind {
	case String:
		return v.text
	case Number:
		return json.Number(v.text)
	case Bool:
		return v.text != ""
	case Array:
		if items, ok := v.Items(); ok {
			list := make([]any, len(items))
			for i, item := range items {
				list[i] = item.Any()
			}
			return list
		}
		m := make(map[string]any, v.Len())
		for key, item := range v.All() {
			m[key] = item.Any()
		}
		return m
	case Null:
	}
	return nil
}

// FromAny makes a tree of a Go value: nil, a bool, string, number, [json.Number] or [Value], a slice or array of these, a map of
// these with string or integer keys, a pointer to one of these, or any type whose underlying type is one of these. A map is
// taken in the order of its keys; a nil pointer is null; a nil slice or map is the empty array, as PHP has it. Methods such as
// MarshalText are not called.
//
// The error matches [ErrType] for any other type, []byte among them because it may be meant as text or as a list;
// [ErrNumber] for NaN, the infinities and a json.Number that is no number; [ErrTooDeep] for values that nest deeper than
// [DefaultMaxDepth], so also for those that contain themselves. It names Go types and no values.
func FromAny(v any) (Value, error) { return fromAny(v, 0) }

func fromAny(v any, depth int) (Value, error) {
	switch v := v.(type) {
	case nil:
		return Value{}, nil
	case Value:
		return v, nil
	case bool:
		return Boolean(v), nil
	case string:
		return Text(v), nil
	case int:
		return Int(int64(v)), nil
	case json.Number:
		if !isNumber(string(v)) {
			return Value{}, ErrNumber
		}
		return NumberText(string(v)), nil
	}
	return fromReflect(reflect.ValueOf(v), depth)
}

func fromReflect(v reflect.Value, depth int) (Value, error) {
	switch v.Kind() {
	case reflect.Bool:
		return Boolean(v.Bool()), nil
	case reflect.String:
		return Text(v.String()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return Int(v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return NumberText(strconv.FormatUint(v.Uint(), 10)), nil
	case reflect.Float32, reflect.Float64:
		return fromFloat(v.Float(), v.Type().Bits())
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Array, reflect.Map:
		if depth > DefaultMaxDepth {
			return Value{}, &LimitError{What: limitDepth, Limit: DefaultMaxDepth}
		}
		return fromContainer(v, depth+1)
	default:
		return Value{}, unsupported(v.Type())
	}
}

func fromContainer(v reflect.Value, depth int) (Value, error) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return Value{}, nil
		}
		return fromAny(v.Elem().Interface(), depth)
	case reflect.Map:
		return fromMap(v, depth)
	default:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return Value{}, unsupported(v.Type())
		}
		entries := make([]Entry, v.Len())
		for i := range entries {
			item, err := fromAny(v.Index(i).Interface(), depth)
			if err != nil {
				return Value{}, err
			}
			entries[i] = Entry{Key: strconv.Itoa(i), Value: item}
		}
		return Map(entries...), nil
	}
}

func fromMap(v reflect.Value, depth int) (Value, error) {
	var text func(reflect.Value) string
	var order func(a, b reflect.Value) int
	switch v.Type().Key().Kind() {
	case reflect.String:
		text = reflect.Value.String
		order = func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		text = func(k reflect.Value) string { return strconv.FormatInt(k.Int(), 10) }
		order = func(a, b reflect.Value) int { return cmp.Compare(a.Int(), b.Int()) }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		text = func(k reflect.Value) string { return strconv.FormatUint(k.Uint(), 10) }
		order = func(a, b reflect.Value) int { return cmp.Compare(a.Uint(), b.Uint()) }
	default:
		return Value{}, unsupported(v.Type())
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, order)
	entries := make([]Entry, len(keys))
	for i, k := range keys {
		item, err := fromAny(v.MapIndex(k).Interface(), depth)
		if err != nil {
			return Value{}, err
		}
		entries[i] = Entry{Key: text(k), Value: item}
	}
	return Map(entries...), nil
}

func fromFloat(f float64, bits int) (Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}, ErrNumber
	}
	format := byte('f') // as encoding/json writes them
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return NumberText(strconv.FormatFloat(f, format, -1, bits)), nil
}

func unsupported(t reflect.Type) error {
	return fmt.Errorf("%w: %v", ErrType, t)
}
