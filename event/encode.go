package event

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// maxEncodeDepth bounds the nesting of what NewData takes, so that a cycle ends in an error.
const maxEncodeDepth = 64

// valueOf turns a payload struct, or nested maps, slices and scalars, into the tree that would decode to it. Zero fields of
// structs are left out, as empty values vanish from a form body anyway.
func valueOf(v any) (phpform.Value, error) { return encode(reflect.ValueOf(v), 0) }

func encode(rv reflect.Value, depth int) (phpform.Value, error) {
	if depth > maxEncodeDepth {
		return phpform.Value{}, fmt.Errorf("event: data nests deeper than %d levels", maxEncodeDepth)
	}
	for rv.IsValid() && (rv.Kind() == reflect.Interface || rv.Kind() == reflect.Pointer) {
		rv = rv.Elem()
	}
	if !rv.IsValid() {
		return phpform.Value{}, nil
	}
	switch x := rv.Interface().(type) {
	case Data:
		return x.v, nil
	case Secret: // its text encoding is redacted; the wire needs the real one
		return phpform.Text(string(x)), nil
	case time.Time:
		if x.IsZero() {
			return phpform.Text(""), nil
		}
		return phpform.Text(x.Format(time.RFC3339)), nil
	case json.Number:
		return phpform.NumberText(string(x)), nil
	case json.RawMessage:
		if x == nil {
			return phpform.Value{}, nil
		}
		data, err := ParseData(x)
		return data.v, err
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		return phpform.Text(string(text)), err
	}
	switch rv.Kind() {
	case reflect.String:
		return phpform.Text(rv.String()), nil
	case reflect.Bool:
		return phpform.Boolean(rv.Bool()), nil
	case reflect.Map:
		return encodeMap(rv, depth)
	case reflect.Slice, reflect.Array:
		items := make([]phpform.Value, rv.Len())
		for i := range items {
			item, err := encode(rv.Index(i), depth+1)
			if err != nil {
				return phpform.Value{}, err
			}
			items[i] = item
		}
		return phpform.List(items...), nil
	case reflect.Struct:
		return encodeStruct(rv, depth)
	default:
		return encodeNumber(rv)
	}
}

func encodeNumber(rv reflect.Value) (phpform.Value, error) {
	switch {
	case rv.CanInt():
		return phpform.Int(rv.Int()), nil
	case rv.CanUint():
		return phpform.NumberText(strconv.FormatUint(rv.Uint(), 10)), nil
	case rv.CanFloat():
		v, err := phpform.FromAny(rv.Float())
		if err != nil {
			return phpform.Value{}, fmt.Errorf("event: a number in data is not finite: %w", err)
		}
		return v, nil
	default:
		return phpform.Value{}, fmt.Errorf("event: a %s cannot stand in event data", rv.Type())
	}
}

func encodeMap(rv reflect.Value, depth int) (phpform.Value, error) {
	entries := make([]phpform.Entry, 0, rv.Len())
	for _, key := range rv.MapKeys() {
		k, err := encode(key, depth+1)
		if err != nil {
			return phpform.Value{}, err
		}
		v, err := encode(rv.MapIndex(key), depth+1)
		if err != nil {
			return phpform.Value{}, err
		}
		entries = append(entries, phpform.Entry{Key: k.Scalar(), Value: v})
	}
	slices.SortFunc(entries, func(a, b phpform.Entry) int { return strings.Compare(a.Key, b.Key) })
	return phpform.Map(entries...), nil
}

func encodeStruct(rv reflect.Value, depth int) (phpform.Value, error) {
	var tree branch
	fields := shapeOf(rv.Type()).fields
	// Sections come first. A field with alternatives sums up what a section may hold already: Task.ID is FIELDS_AFTER.ID or
	// FIELDS_BEFORE.ID, and must not make up the section that is missing.
	for _, summary := range []bool{false, true} {
		for _, f := range fields {
			field := rv.FieldByIndex(f.index)
			if field.IsZero() || summary != (len(f.paths) > 1) || (summary && slices.ContainsFunc(f.paths, tree.has)) {
				continue
			}
			v, err := encode(field, depth+1)
			if err != nil {
				return phpform.Value{}, err
			}
			switch {
			case f.rest:
				for _, e := range v.Entries() {
					tree.put([]string{e.Key}, e.Value)
				}
			case len(f.paths[0].keys) == 0:
				return v, nil
			default:
				tree.put(f.paths[0].keys, v)
			}
		}
	}
	return tree.value(), nil
}

// branch grows a tree by paths, in the order in which they are put.
type branch struct {
	keys     []string
	children map[string]*branch
	leaf     phpform.Value
}

// has reports whether something stands at a path.
func (b *branch) has(p fieldPath) bool {
	for _, key := range p.keys {
		next, ok := b.children[key]
		if !ok {
			return false
		}
		b = next
	}
	return len(p.keys) > 0
}

// put sets the value at a path, unless something stands there already. An array is taken apart, so that others can join it.
func (b *branch) put(path []string, v phpform.Value) {
	if len(path) == 0 {
		if v.Kind() == phpform.Array {
			for _, e := range v.Entries() {
				b.put([]string{e.Key}, e.Value)
			}
			return
		}
		if b.leaf.Kind() == phpform.Null && b.children == nil {
			b.leaf = v
		}
		return
	}
	if b.children == nil {
		b.children = make(map[string]*branch)
	}
	child, ok := b.children[path[0]]
	if !ok {
		child = &branch{}
		b.children[path[0]] = child
		b.keys = append(b.keys, path[0])
	}
	child.put(path[1:], v)
}

func (b *branch) value() phpform.Value {
	if b.children == nil {
		return b.leaf
	}
	entries := make([]phpform.Entry, len(b.keys))
	for i, key := range b.keys {
		entries[i] = phpform.Entry{Key: key, Value: b.children[key].value()}
	}
	return phpform.Map(entries...)
}
