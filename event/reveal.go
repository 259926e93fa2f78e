package event

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// revealed copies a payload into a tree for encoding/json that has secrets in clear.
func revealed(rv reflect.Value) any {
	for rv.IsValid() && (rv.Kind() == reflect.Interface || rv.Kind() == reflect.Pointer) {
		rv = rv.Elem()
	}
	if !rv.IsValid() {
		return nil
	}
	switch x := rv.Interface().(type) {
	case Secret:
		return string(x)
	case Data:
		return json.RawMessage(x.v.AppendJSON(nil))
	case time.Time, json.Marshaler:
		return x
	}
	switch rv.Kind() {
	case reflect.Struct:
		return revealedStruct(rv)
	case reflect.Map:
		m := reflect.MakeMapWithSize(reflect.MapOf(rv.Type().Key(), reflect.TypeFor[any]()), rv.Len())
		for _, key := range rv.MapKeys() {
			m.SetMapIndex(key, anyValue(revealed(rv.MapIndex(key))))
		}
		return m.Interface()
	case reflect.Slice:
		list := make([]any, rv.Len())
		for i := range list {
			list[i] = revealed(rv.Index(i))
		}
		return list
	default:
		return rv.Interface()
	}
}

// anyValue returns a value for a map, in which the zero reflect.Value would delete the key.
func anyValue(v any) reflect.Value {
	if v == nil {
		return reflect.Zero(reflect.TypeFor[any]())
	}
	return reflect.ValueOf(v)
}

// revealedStruct builds a struct with the same fields and tags, all of type any, so that order and
// names stay.
func revealedStruct(rv reflect.Value) any {
	var fields []reflect.StructField
	var values []any
	for _, sf := range reflect.VisibleFields(rv.Type()) {
		if !sf.IsExported() || sf.Anonymous || strings.HasPrefix(sf.Tag.Get("json"), "-") {
			continue
		}
		fields = append(fields, reflect.StructField{Name: sf.Name, Type: reflect.TypeFor[any](), Tag: sf.Tag})
		values = append(values, revealed(rv.FieldByIndex(sf.Index)))
	}
	s := reflect.New(reflect.StructOf(fields)).Elem()
	for i, v := range values {
		if v != nil {
			s.Field(i).Set(reflect.ValueOf(v))
		}
	}
	return s.Interface()
}
