package params

import (
	"cmp"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/jsonlex"
	"github.com/b24events/b24events/internal/phpform"
)

// Form is encoded parameters.
type Form struct {
	Text string // name=value pairs, joined by &
	// Suspect reports that a text or a key looks like a reference of a batch, so the portal would
	// replace it there. See [Refers].
	Suspect bool
	Gaps    []Gap // for the contents of streams, in their order; see [EncodeStreams]
}

// Ordered is a value whose entries have their own order.
type Ordered interface {
	All() iter.Seq2[string, any]
}

// Special returns the text of values whose types only the caller of [Encode] knows. This text does
// not make a form suspect. ok is false for all other types.
type Special func(v any) (text string, ok bool, err error)

// Encode writes a map, struct, slice, array, [url.Values], [Ordered] or JSON object as a form; nil
// is the empty form. special may be nil.
//
// On the first level, an argument of an Ordered or a slice must not be empty if another one
// follows. A form cannot carry it, so a method that takes its arguments by position would read the
// next one in its place.
//
// Its errors name types and fields, but no values.
func Encode(v any, special Special) (Form, error) { return encode(v, encoder{special: special}) }

func encode(v any, e encoder) (Form, error) {
	whole := indirect(reflect.ValueOf(v))
	if whole.IsValid() && whole.Type() == reflect.TypeFor[url.Values]() {
		values, _ := reflect.TypeAssert[url.Values](whole)
		return encodeValues(values), nil
	}
	if err := e.value(whole, options{}); err != nil {
		return Form{}, err
	}
	return Form{Text: string(e.form), Suspect: e.suspect, Gaps: e.gaps}, nil
}

func encodeValues(values url.Values) Form {
	form := Form{Text: values.Encode()}
	for name, list := range values {
		form.Suspect = form.Suspect || Refers(name) || slices.ContainsFunc(list, Refers)
	}
	return form
}

// reference matches the beginning of a text that portals read as a reference to the result of an
// earlier command: a dollar sign and the name of a section, and a bracket before the next space. It
// ignores on purpose what portals require of the rest.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/batch.html
// Servers accept more than the page says: they also read $resultX[name], and replace keys.
var reference = regexp.MustCompile(`(?i)\$(?:result|error|total|next|time)\S*\[`)

// Refers reports whether a portal would read a part of the text as a reference in a batch.
func Refers(text string) bool {
	return strings.Contains(text, "$") && reference.MatchString(text)
}

type encoder struct {
	form    []byte
	name    []byte // of the next value, escaped
	level   int    // of brackets; 0 for the parameters as a whole
	suspect bool
	special Special
	streams Streams
	gaps    []Gap
}

var errDepth = fmt.Errorf("values nest deeper than %d levels", phpform.DefaultMaxDepth)

// value writes one value under the current name.
func (e *encoder) value(v reflect.Value, o options) error {
	if e.level > phpform.DefaultMaxDepth {
		return errDepth
	}
	v = indirect(v)
	if !v.IsValid() || isNilable(v.Kind()) && v.IsNil() {
		return nil
	}
	x := v.Interface()
	if e.special != nil {
		if text, ok, err := e.special(x); ok || err != nil {
			return e.pair(text, err)
		}
	}
	if e.streams != nil {
		if s, ok := e.streams(x); ok {
			return e.stream(s)
		}
	}
	switch x := x.(type) {
	case phpform.Value:
		return e.tree(x)
	case json.RawMessage:
		return e.json(x, v.Type())
	}
	if text, ok, err := scalar(v, x, o); ok || err != nil {
		return e.text(text, err)
	}
	switch x := methodsOf(v, x).(type) {
	case Ordered:
		return e.ordered(x)
	case json.Marshaler:
		doc, err := x.MarshalJSON()
		if err != nil {
			return fmt.Errorf("%s does not marshal itself", v.Type())
		}
		return e.json(doc, v.Type())
	case interface {
		EncodeValues(string, *url.Values) error
	}:
		return fmt.Errorf("%s encodes itself for go-querystring, which is not used here; give it MarshalText", v.Type())
	}
	return e.container(v, o)
}

// indirect follows pointers and interfaces. It stops after some steps, because a pointer may lead
// to itself.
func indirect(v reflect.Value) reflect.Value {
	for range phpform.DefaultMaxDepth {
		if v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface {
			break
		}
		v = v.Elem()
	}
	return v
}

func isNilable(k reflect.Kind) bool {
	return k == reflect.Map || k == reflect.Slice || k == reflect.Pointer || k == reflect.Interface
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	ownMethods = []reflect.Type{
		reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[json.Marshaler](), reflect.TypeFor[Ordered](),
		reflect.TypeFor[fmt.Formatter](),
	}
)

// methodsOf returns x, or a pointer to it if only the pointer has one of the methods in ownMethods.
func methodsOf(v reflect.Value, x any) any {
	t := v.Type()
	if t.PkgPath() == "" {
		return x
	}
	for _, want := range ownMethods {
		if !t.Implements(want) && reflect.PointerTo(t).Implements(want) {
			if v.CanAddr() {
				return v.Addr().Interface()
			}
			p := reflect.New(t)
			p.Elem().Set(v)
			return p.Interface()
		}
	}
	return x
}

// scalar returns the text of a value that is not a container. ok is false for others.
func scalar(v reflect.Value, x any, o options) (text string, ok bool, err error) {
	switch x := x.(type) {
	case time.Time:
		text, err := o.time(x)
		return text, true, err
	case json.Number:
		if x != "" && !jsonlex.IsNumber(string(x)) {
			return "", true, errors.New("a json.Number is not a number")
		}
		return string(x), true, nil
	}
	switch x := methodsOf(v, x).(type) {
	case Ordered:
		return "", false, nil
	case fmt.Formatter:
		return "", true, fmt.Errorf("%s prints itself in its own form, as redacted secrets do; make it a string", v.Type())
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		if err != nil {
			return "", true, fmt.Errorf("%s does not marshal itself", v.Type())
		}
		return string(text), true, nil
	case json.Marshaler:
		return "", false, nil
	}
	return plain(v, o)
}

// plain returns the text of a scalar without such methods.
func plain(v reflect.Value, o options) (text string, ok bool, err error) {
	switch v.Kind() {
	case reflect.Bool:
		text, err := o.bool(v.Bool())
		return text, true, err
	case reflect.String:
		return v.String(), true, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), true, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.FormatUint(v.Uint(), 10), true, nil
	case reflect.Float32, reflect.Float64:
		text, finite := jsonlex.FloatText(v.Float(), v.Type().Bits())
		if !finite {
			return "", true, errors.New("a number is not finite")
		}
		return text, true, nil
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			return "", false, nil
		}
		return base64.StdEncoding.EncodeToString(v.Bytes()), true, nil
	case reflect.Struct:
		if !v.Type().ConvertibleTo(timeType) {
			return "", false, nil
		}
		at, _ := reflect.TypeAssert[time.Time](v.Convert(timeType))
		text, err := o.time(at)
		return text, true, err
	default:
		return "", false, nil
	}
}

// container writes a value that holds others.
func (e *encoder) container(v reflect.Value, o options) error {
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		return e.list(v, o)
	case reflect.Map:
		return e.mapping(v)
	case reflect.Struct:
		return e.fields(v)
	default:
		return unsupported(v.Type())
	}
}

func unsupported(t reflect.Type) error { return fmt.Errorf("%s cannot be sent as a parameter", t) }

func (e *encoder) list(v reflect.Value, o options) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return fmt.Errorf("%s may be meant as text or as numbers; make it a string or a slice", v.Type())
	}
	if o.separator != "" {
		return e.joined(v, o)
	}
	var a arguments
	for i := range v.Len() {
		err := e.child(strconv.Itoa(i), func() error { return e.value(v.Index(i), o) })
		if err = a.next(e, err); err != nil {
			return err
		}
	}
	return nil
}

// joined writes a list of scalars as one text.
func (e *encoder) joined(v reflect.Value, o options) error {
	if v.Len() == 0 {
		return nil
	}
	texts := make([]string, v.Len())
	for i := range texts {
		item := indirect(v.Index(i))
		if !item.IsValid() {
			return errors.New("a list that is written as one text holds nil")
		}
		text, ok, err := scalar(item, item.Interface(), o)
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("a list that is written as one text holds a %s", item.Type())
		}
		texts[i] = text
	}
	return e.text(strings.Join(texts, o.separator), nil)
}

func (e *encoder) mapping(v reflect.Value) error {
	text, order := keysOf(v.Type().Key())
	if text == nil {
		return unsupported(v.Type())
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, order)
	for _, k := range keys {
		if err := e.child(text(k), func() error { return e.value(v.MapIndex(k), options{}) }); err != nil {
			return err
		}
	}
	return nil
}

// keysOf returns functions that write and order keys of a type, or nil if the type cannot be a key.
func keysOf(t reflect.Type) (text func(reflect.Value) string, order func(a, b reflect.Value) int) {
	if t.Implements(reflect.TypeFor[fmt.Formatter]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return nil, nil
	}
	switch t.Kind() {
	case reflect.String:
		return reflect.Value.String, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(k reflect.Value) string { return strconv.FormatInt(k.Int(), 10) },
			func(a, b reflect.Value) int { return cmp.Compare(a.Int(), b.Int()) }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(k reflect.Value) string { return strconv.FormatUint(k.Uint(), 10) },
			func(a, b reflect.Value) int { return cmp.Compare(a.Uint(), b.Uint()) }
	default:
		return nil, nil
	}
}

func (e *encoder) ordered(o Ordered) error {
	var a arguments
	seen := make(map[string]bool)
	for name, value := range o.All() {
		if seen[name] {
			return errors.New("two ordered arguments have one name")
		}
		seen[name] = true
		err := e.child(name, func() error { return e.value(reflect.ValueOf(value), options{}) })
		if err = a.next(e, err); err != nil {
			return err
		}
	}
	return nil
}

// arguments checks that no argument takes the place of an empty one before it.
type arguments struct {
	count, written, empty int
}

// next is called after each argument, with the error of writing it.
func (a *arguments) next(e *encoder, err error) error {
	a.count++
	switch {
	case err != nil || e.level > 0:
		return err
	case len(e.form) == a.written:
		a.empty = cmp.Or(a.empty, a.count)
	case a.empty > 0:
		return fmt.Errorf("argument %d is nil or an empty list, which a form cannot carry, so the next one would take its place", a.empty)
	}
	a.written = len(e.form)
	return nil
}

func (e *encoder) fields(v reflect.Value) error {
	shape := shapeOf(v.Type())
	if shape.err != nil {
		return shape.err
	}
	for i := range shape.fields {
		f := &shape.fields[i]
		value, err := v.FieldByIndexErr(f.index)
		if err != nil || f.omitEmpty && isEmpty(value) {
			continue // within an embedded pointer that is nil, or left out
		}
		if err := e.child(f.name, func() error { return e.value(value, f.options) }); err != nil {
			return fmt.Errorf("%s.%s: %w", v.Type(), f.goName, err)
		}
	}
	return nil
}

func isEmpty(v reflect.Value) bool {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer:
		return v.IsNil()
	case reflect.Map, reflect.Slice, reflect.Array, reflect.String:
		return v.Len() == 0
	default:
	}
	if z, ok := reflect.TypeAssert[interface{ IsZero() bool }](v); ok {
		return z.IsZero()
	}
	return v.IsZero()
}

// json writes the value that a document describes.
func (e *encoder) json(doc []byte, of reflect.Type) error {
	tree, err := phpform.DecodeJSON(doc, phpform.Limits{Bytes: len(doc), Keys: len(doc), Depth: phpform.DefaultMaxDepth})
	if err != nil {
		return fmt.Errorf("%s is not valid JSON", of)
	}
	return e.tree(tree)
}

func (e *encoder) tree(v phpform.Value) error {
	switch v.Kind() {
	case phpform.Null:
		return nil
	case phpform.Array:
		if e.level > phpform.DefaultMaxDepth {
			return errDepth
		}
		for _, entry := range v.Entries() {
			if err := e.child(entry.Key, func() error { return e.tree(entry.Value) }); err != nil {
				return err
			}
		}
		return nil
	case phpform.Bool:
		text, err := options{}.bool(v.Scalar() != "")
		return e.text(text, err)
	default:
		return e.text(v.Scalar(), nil)
	}
}

// child writes an element under its key.
func (e *encoder) child(key string, write func() error) error {
	e.suspect = e.suspect || Refers(key)
	outer := len(e.name)
	if e.level == 0 {
		if key == "" {
			return errors.New("a parameter has no name")
		}
		e.name = phpform.AppendEscaped(e.name, key)
	} else {
		e.name = append(phpform.AppendEscaped(append(e.name, "%5B"...), key), "%5D"...)
	}
	e.level++
	err := write()
	e.level--
	e.name = e.name[:outer]
	return err
}

// text writes a scalar, which may look like a reference.
func (e *encoder) text(text string, err error) error {
	e.suspect = e.suspect || Refers(text)
	return e.pair(text, err)
}

var errNotWhole = errors.New("they must be a map, a struct, url.Values or ordered arguments, not a single value")

func (e *encoder) pair(text string, err error) error {
	switch {
	case err != nil:
		return err
	case e.level == 0:
		return errNotWhole
	}
	e.form = slices.Grow(e.form, len(e.name)+len(text)+len("&="))
	if len(e.form) > 0 {
		e.form = append(e.form, '&')
	}
	e.form = append(append(e.form, e.name...), '=')
	e.form = phpform.AppendEscaped(e.form, text)
	return nil
}
