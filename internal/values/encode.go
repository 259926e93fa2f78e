package values

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/jsonlex"
	"github.com/b24events/b24events/internal/phpform"
)

// maxEncodeDepth bounds the nesting of values that Encode accepts, so that a cycle ends in an
// error.
const maxEncodeDepth = 64

// Encode returns the tree that decodes to v, a payload struct or nested maps, slices and scalars.
// It leaves out zero fields of structs, because a form cannot carry empty values anyway. It writes
// maps in the order of their keys. Its errors name types, but no values.
func (r *Rules) Encode(v any) (phpform.Value, error) { return r.encode(reflect.ValueOf(v), 0) }

func (r *Rules) encode(rv reflect.Value, depth int) (phpform.Value, error) {
	if depth > maxEncodeDepth {
		return phpform.Value{}, fmt.Errorf("data nests deeper than %d levels", maxEncodeDepth)
	}
	for rv.IsValid() && (rv.Kind() == reflect.Interface || rv.Kind() == reflect.Pointer) {
		rv = rv.Elem()
	}
	if !rv.IsValid() {
		return phpform.Value{}, nil
	}
	if special, ok := r.special[rv.Type()]; ok {
		return special.Encode(rv.Interface()), nil
	}
	if v, ok, err := encodeKnown(rv); ok {
		return v, err
	}
	switch rv.Kind() {
	case reflect.String:
		return phpform.Text(rv.String()), nil
	case reflect.Bool:
		return phpform.Boolean(rv.Bool()), nil
	case reflect.Map:
		return r.encodeMap(rv, depth)
	case reflect.Slice, reflect.Array:
		return r.encodeList(rv, depth)
	case reflect.Struct:
		return r.encodeStruct(rv, depth)
	default:
		return encodeNumber(rv)
	}
}

// encodeKnown encodes the types that the rules know, and types with their own methods.
func encodeKnown(rv reflect.Value) (v phpform.Value, ok bool, err error) {
	switch x := rv.Interface().(type) {
	case time.Time:
		v, err = encodeTime(x)
		return v, true, err
	case json.Number:
		if x != "" && !jsonlex.IsNumber(string(x)) {
			return phpform.Value{}, true, errors.New("a json.Number in data is not a number")
		}
		return phpform.NumberText(string(x)), true, nil
	case json.RawMessage:
		if x == nil {
			return phpform.Value{}, true, nil
		}
		v, err = decodeJSON(x)
		return v, true, err
	}
	if rv.Kind() == reflect.Map && rv.IsNil() || rv.Kind() == reflect.Slice && rv.IsNil() {
		return phpform.Value{}, true, nil
	}
	source := addressable(rv)
	if x, ok := reflect.TypeAssert[encoding.TextMarshaler](source); ok {
		text, err := x.MarshalText()
		return phpform.Text(string(text)), true, encodeError(rv, err)
	}
	if x, ok := reflect.TypeAssert[json.Marshaler](source); ok {
		doc, err := x.MarshalJSON()
		if err == nil {
			v, err = decodeJSON(doc)
		}
		return v, true, encodeError(rv, err)
	}
	return phpform.Value{}, false, nil
}

// addressable returns a pointer to rv, or to a copy, so that all methods of the type are found.
func addressable(rv reflect.Value) reflect.Value {
	if rv.CanAddr() {
		return rv.Addr()
	}
	p := reflect.New(rv.Type())
	p.Elem().Set(rv)
	return p
}

// encodeError replaces a method's error, which may quote the value.
func encodeError(rv reflect.Value, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("a %s in data cannot be encoded", rv.Type())
}

func decodeJSON(doc []byte) (phpform.Value, error) {
	v, err := phpform.DecodeJSON(doc, phpform.Limits{Bytes: len(doc) + 1, Keys: len(doc) + 1})
	if err != nil {
		return phpform.Value{}, fmt.Errorf("JSON in data: %w", err)
	}
	return v, nil
}

func encodeTime(t time.Time) (phpform.Value, error) {
	switch {
	case t.IsZero():
		return phpform.Text(""), nil
	case !writable(t):
		return phpform.Value{}, errors.New("a time in data is beyond the years that can be written")
	default:
		return phpform.Text(timeText(t)), nil
	}
}

func encodeNumber(rv reflect.Value) (phpform.Value, error) {
	switch {
	case rv.CanInt():
		return phpform.Int(rv.Int()), nil
	case rv.CanUint():
		return phpform.NumberText(strconv.FormatUint(rv.Uint(), 10)), nil
	case rv.CanFloat():
		text, finite := jsonlex.FloatText(rv.Float(), rv.Type().Bits())
		if !finite {
			return phpform.Value{}, errors.New("a number in data is not finite")
		}
		return phpform.NumberText(text), nil
	default:
		return phpform.Value{}, fmt.Errorf("a %s cannot be event data", rv.Type())
	}
}

func (r *Rules) encodeList(rv reflect.Value, depth int) (phpform.Value, error) {
	if rv.Kind() == reflect.Slice && r.plan(rv.Type()).fill == fillBytes {
		return phpform.Text(base64.StdEncoding.EncodeToString(rv.Bytes())), nil
	}
	items := make([]phpform.Value, rv.Len())
	for i := range items {
		item, err := r.encode(rv.Index(i), depth+1)
		if err != nil {
			return phpform.Value{}, err
		}
		items[i] = item
	}
	return phpform.List(items...), nil
}

func (r *Rules) encodeMap(rv reflect.Value, depth int) (phpform.Value, error) {
	entries := make([]phpform.Entry, 0, rv.Len())
	for _, key := range rv.MapKeys() {
		k, err := r.encode(key, depth+1)
		if err != nil {
			return phpform.Value{}, err
		}
		if k.Kind() == phpform.Array {
			return phpform.Value{}, fmt.Errorf("a %s cannot be a key of data", key.Type())
		}
		v, err := r.encode(rv.MapIndex(key), depth+1)
		if err != nil {
			return phpform.Value{}, err
		}
		entries = append(entries, phpform.Entry{Key: k.Scalar(), Value: v})
	}
	slices.SortFunc(entries, func(a, b phpform.Entry) int { return strings.Compare(a.Key, b.Key) })
	for i := 1; i < len(entries); i++ {
		if entries[i].Key == entries[i-1].Key {
			return phpform.Value{}, fmt.Errorf("two keys of a %s in data have the same text", rv.Type())
		}
	}
	return phpform.Map(entries...), nil
}

func (r *Rules) encodeStruct(rv reflect.Value, depth int) (phpform.Value, error) {
	p := r.plan(rv.Type())
	switch {
	case p.shape == nil: // it has methods to read it, but none to write it
		return phpform.Value{}, fmt.Errorf("a %s cannot be event data", rv.Type())
	case p.shape.reason != "":
		return phpform.Value{}, p.bad
	}
	var tree branch
	// Sections come first. A field with alternatives repeats what a section may already hold: Task.ID
	// is FIELDS_AFTER.ID or FIELDS_BEFORE.ID, and must not create a missing section.
	for _, summary := range []bool{false, true} {
		for i := range p.shape.fields {
			f := &p.shape.fields[i]
			rv, ok := f.of(rv)
			if !ok || rv.IsZero() || summary != (len(f.paths) > 1) ||
				(summary && slices.ContainsFunc(f.paths, tree.has)) {
				continue
			}
			v, err := r.encode(rv, depth+1)
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
			case f.quoted:
				tree.put(f.paths[0].keys, phpform.Text(string(v.AppendJSON(nil))))
			default:
				tree.put(f.paths[0].keys, v)
			}
		}
	}
	return tree.value(), nil
}

// branch builds a tree from paths, in the order of the calls of put.
type branch struct {
	keys     []string
	children map[string]*branch
	leaf     phpform.Value
}

// has reports whether there is something at a path.
func (b *branch) has(p path) bool {
	for _, key := range p.keys {
		next, ok := b.children[key]
		if !ok {
			return false
		}
		b = next
	}
	return len(p.keys) > 0
}

// put sets the value at a path, unless there is a value already. It puts the elements of an array
// one by one, so that more can be added.
func (b *branch) put(path []string, v phpform.Value) {
	if len(path) == 0 {
		if v.Kind() == phpform.Array && v.Len() > 0 {
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
