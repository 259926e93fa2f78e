package event_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// checkFields finds every documented value of the sample in the typed payload, under its documented
// name.
func (f fixture) checkFields(t *testing.T, d *event.Delivery) {
	t.Helper()
	info, ok := event.Lookup(d.Name)
	require.True(t, ok)
	payload, err := info.Payload(d)
	require.NoError(t, err)
	for _, field := range f.Fields {
		for _, value := range expand(f, segments(field.Path), at(f.sample, "data")) {
			got, ok := find(reflect.ValueOf(payload), value.path)
			if !ok && field.container() {
				continue // flat payloads have no place for it; what it holds is checked by itself
			}
			require.True(t, ok, "%s: the payload has no %v", field.Path, value.path)
			if field.container() && got.Type() != reflect.TypeFor[event.Data]() {
				continue
			}
			requireValue(t, value.want, got, field.Path)
		}
	}
}

type fieldValue struct {
	path []string
	want phpform.Value
}

// expand returns the values of a sample that a documented path stands for.
func expand(f fixture, path []string, v phpform.Value) []fieldValue {
	if len(path) == 0 {
		return []fieldValue{{want: v}}
	}
	var found []fieldValue
	for _, e := range v.Entries() {
		switch {
		case path[0] == e.Key:
		case path[0] == "{actionParam}" && f.names(e.Key):
			continue // any key but the named ones
		case dynamic(path[0]):
		default:
			continue
		}
		for _, below := range expand(f, path[1:], e.Value) {
			found = append(found, fieldValue{path: append([]string{e.Key}, below.path...), want: below.want})
		}
	}
	return found
}

// names reports whether the documentation names this key of data.
func (f fixture) names(key string) bool {
	for _, field := range f.Fields {
		if field.Path == "data."+key {
			return true
		}
	}
	return false
}

// find follows a path of documented names through a payload. Sections that the payload flattens are
// skipped.
func find(rv reflect.Value, path []string) (reflect.Value, bool) {
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if d, ok := reflect.TypeAssert[event.Data](rv); ok {
		return reflect.ValueOf(d.Get(path...)), true
	}
	if rv.Kind() == reflect.Struct && rv.Type() != reflect.TypeFor[time.Time]() {
		return findIn(rv, path)
	}
	if len(path) == 0 {
		return rv, true
	}
	switch rv.Kind() {
	case reflect.Map:
		if elem := rv.MapIndex(reflect.ValueOf(path[0])); elem.IsValid() {
			return find(elem, path[1:])
		}
	case reflect.Slice:
		if i, err := strconv.Atoi(path[0]); err == nil && i < rv.Len() {
			return find(rv.Index(i), path[1:])
		}
		for i := range rv.Len() { // what is a map by ID on the wire, and a list here
			if id := reflect.Indirect(rv.Index(i)).FieldByName("ID"); id.IsValid() && fmt.Sprint(id) == path[0] {
				return find(rv.Index(i), path[1:])
			}
		}
	default: // a single value holds nothing
	}
	return reflect.Value{}, false
}

func findIn(rv reflect.Value, path []string) (reflect.Value, bool) {
	for _, sf := range reflect.VisibleFields(rv.Type()) {
		if sf.Anonymous {
			continue
		}
		tag := sf.Tag.Get("b24")
		if len(path) == 0 && strings.HasPrefix(tag, ".") {
			return rv.FieldByIndex(sf.Index), true // data is the value itself
		}
		if len(path) > 0 && sf.Tag.Get("json") == path[0] && tag != ",rest" {
			return find(rv.FieldByIndex(sf.Index), path[1:])
		}
	}
	if len(path) > 1 {
		return findIn(rv, path[1:])
	}
	for _, sf := range reflect.VisibleFields(rv.Type()) {
		if len(path) == 1 && sf.Tag.Get("b24") == ",rest" {
			return find(rv.FieldByIndex(sf.Index), path)
		}
	}
	return reflect.Value{}, false
}

// requireValue compares a decoded value with what the sample shows.
func requireValue(t *testing.T, want phpform.Value, got reflect.Value, path string) {
	t.Helper()
	if got.Kind() == reflect.Slice {
		items := want.Entries()
		if want.Kind() != phpform.Array {
			items = []phpform.Entry{{Value: want}} // a list in one event is a single value in its sibling
		}
		require.Equal(t, len(items), got.Len(), path)
		for i := range items {
			requireValue(t, items[i].Value, got.Index(i), path)
		}
		return
	}
	text := want.Scalar()
	switch v := got.Interface().(type) {
	case event.Data:
		require.Equal(t, normal(want.Any()), normal(v.Value()), path)
	case time.Time:
		if text == "" {
			require.Zero(t, v, path)
			return
		}
		when, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		require.True(t, when.Equal(v), path)
	case bool:
		require.Equal(t, text == "Y" || text == "1", v, path)
	case int64:
		require.Equal(t, orZero(text), strconv.FormatInt(v, 10), path)
	case float64:
		require.Equal(t, orZero(text), strconv.FormatFloat(v, 'f', -1, 64), path)
	default:
		require.Equal(t, reflect.String, got.Kind(), path)
		if want.Kind() == phpform.Bool && text == "" && got.String() == "0" {
			return // false, as a form writes it
		}
		require.Equal(t, text, got.String(), path)
	}
}

func orZero(text string) string {
	if text == "" {
		return "0"
	}
	return text
}

// normal removes from a tree what a form cannot carry: types, nulls, and the differences between
// empty values.
func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		return normal(string(v))
	case bool:
		if v {
			return "1"
		}
		return nil
	case string:
		if v == "" || v == "0" {
			return nil
		}
		return v
	case []any:
		if len(v) == 0 {
			return nil
		}
		list := make([]any, len(v))
		for i := range v {
			list[i] = normal(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any)
		for key, value := range v {
			if value = normal(value); value != nil {
				m[key] = value
			}
		}
		if len(m) == 0 {
			return nil
		}
		return m
	default:
		return v
	}
}

// essence is the payload with its secrets, without what a form cannot carry.
func essence(t *testing.T, d *event.Delivery) any {
	t.Helper()
	text, err := d.MarshalUnredacted()
	require.NoError(t, err)
	var printed struct {
		Payload json.RawMessage `json:"payload"`
		Error   string          `json:"payload_error"`
	}
	require.NoError(t, json.Unmarshal(text, &printed))
	require.Empty(t, printed.Error)
	require.NotEmpty(t, printed.Payload)
	return normal(tree(t, printed.Payload).Any())
}

// TestEveryDocumentedFieldHasAPlace looks only at the types, so that it also finds fields that no
// sample shows.
func TestEveryDocumentedFieldHasAPlace(t *testing.T) {
	t.Parallel()
	values := 0
	for _, e := range readCatalog(t) {
		info, ok := event.Lookup(e.Name)
		require.True(t, ok)
		for _, field := range e.Fields {
			if field.container() {
				continue
			}
			values++
			kind, ok := place(info.PayloadType(), segments(field.Path))
			require.True(t, ok, "%s: %s has no %s", e.Name, info.PayloadType(), field.Path)
			require.Contains(t, kindsFor(field.Type), kind, "%s: %s", e.Name, field.Path)
		}
	}
	require.Greater(t, values, 1100)
}

// place returns the type that holds a documented field.
func place(typ reflect.Type, path []string) (reflect.Type, bool) {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ == reflect.TypeFor[event.Data]() {
		return typ, true
	}
	switch {
	case typ.Kind() == reflect.Struct && typ != reflect.TypeFor[time.Time]():
		return placeIn(typ, path)
	case len(path) == 0:
		return typ, true
	case (typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice) && dynamic(path[0]):
		return place(typ.Elem(), path[1:])
	default:
		return nil, false
	}
}

func placeIn(typ reflect.Type, path []string) (reflect.Type, bool) {
	for _, sf := range reflect.VisibleFields(typ) {
		tag := sf.Tag.Get("b24")
		switch {
		case sf.Anonymous:
		case len(path) == 0 && strings.HasPrefix(tag, "."),
			len(path) == 1 && strings.HasPrefix(path[0], "{") && tag == ",rest":
			return sf.Type, true
		case len(path) > 0 && sf.Tag.Get("json") == path[0] && tag != ",rest":
			return place(sf.Type, path[1:])
		}
	}
	if len(path) > 1 {
		return placeIn(typ, path[1:])
	}
	return nil, false
}

// kindsFor returns the Go types that may hold a documented type. Versions and such, documented as
// numbers in places, may be text.
func kindsFor(documented string) []reflect.Type {
	text := []reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[event.Secret](), reflect.TypeFor[event.Data]()}
	number := reflect.TypeFor[int64]()
	switch documented {
	case "integer", "integer|null", "integer(unix)":
		return []reflect.Type{number, reflect.TypeFor[string]()}
	case "integer[]":
		return []reflect.Type{reflect.TypeFor[[]int64]()}
	case "string[]":
		return []reflect.Type{reflect.TypeFor[[]string]()}
	case "boolean", "boolean-YN", "boolean-01":
		return []reflect.Type{reflect.TypeFor[bool]()}
	case "datetime":
		return []reflect.Type{reflect.TypeFor[time.Time]()}
	case "double":
		return []reflect.Type{reflect.TypeFor[float64]()}
	default: // text; ids and lines that are numbers all the same, and ids that are lists in a sibling
		return append(text, number, reflect.TypeFor[[]string]())
	}
}
