package event

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// undefined is what task events send in place of a section or flag that does not apply.
const undefined = "undefined"

var (
	dataType   = reflect.TypeFor[Data]()
	timeType   = reflect.TypeFor[time.Time]()
	textTarget = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// decodeInto fills dst, a non-nil pointer, from v. The Data that it makes belong to the delivery
// of.
func decodeInto(of *Delivery, v phpform.Value, dst any) error {
	rv := reflect.ValueOf(dst)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("event: cannot decode into a %T; pass a non-nil pointer", dst)
	}
	return fill(of, v, rv.Elem(), "data")
}

func mismatch(path, want string) error { return &DecodeError{Path: path, Want: want} }

// isEmpty reports what Bitrix24 sends for "nothing here".
func isEmpty(v phpform.Value) bool {
	switch v.Kind() {
	case phpform.Null:
		return true
	case phpform.Bool:
		return v.Scalar() == ""
	case phpform.String:
		return v.Scalar() == "" || v.Scalar() == undefined
	case phpform.Array:
		return v.Empty()
	default:
		return false
	}
}

func fill(of *Delivery, v phpform.Value, rv reflect.Value, path string) error {
	t := rv.Type()
	switch {
	case t == dataType:
		rv.Set(reflect.ValueOf(of.data(v)))
		return nil
	case t == timeType:
		return fillTime(v, rv, path)
	case t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(textTarget):
		return fillText(v, rv, path)
	}
	switch t.Kind() {
	case reflect.Pointer:
		if isEmpty(v) {
			rv.SetZero()
			return nil
		}
		p := reflect.New(t.Elem())
		if err := fill(of, v, p.Elem(), path); err != nil {
			return err
		}
		rv.Set(p)
		return nil
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Errorf("event: %s: cannot decode into the interface %s", path, t)
		}
		if tree := v.Any(); tree != nil {
			rv.Set(reflect.ValueOf(tree))
		}
		return nil
	case reflect.Struct:
		return fillStruct(of, v, rv, path)
	case reflect.Map:
		return fillMap(of, v, rv, path)
	case reflect.Slice:
		return fillSlice(of, v, rv, path)
	default:
		return fillScalar(v, rv, path)
	}
}

func fillScalar(v phpform.Value, rv reflect.Value, path string) error {
	if v.Kind() == phpform.Array && v.Len() > 0 {
		return mismatch(path, "a single value")
	}
	text := v.Scalar()
	if rv.Kind() == reflect.String {
		rv.SetString(text) // "undefined" is what arrived, so it stays readable
		return nil
	}
	if isEmpty(v) {
		rv.SetZero()
		return nil
	}
	text = strings.TrimSpace(text)
	switch {
	case rv.Kind() == reflect.Bool:
		b, ok := parseBool(text)
		if !ok {
			return mismatch(path, "a flag (Y, N, 1, 0)")
		}
		rv.SetBool(b)
	case rv.CanInt():
		n, ok := parseInt(text)
		if !ok || rv.OverflowInt(n) {
			return mismatch(path, "an integer of "+strconv.Itoa(rv.Type().Bits())+" bits")
		}
		rv.SetInt(n)
	case rv.CanUint():
		n, ok := parseInt(text)
		if !ok || n < 0 || rv.OverflowUint(uint64(n)) {
			return mismatch(path, "an unsigned integer of "+strconv.Itoa(rv.Type().Bits())+" bits")
		}
		rv.SetUint(uint64(n))
	case rv.CanFloat():
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return mismatch(path, "a number")
		}
		rv.SetFloat(f)
	default:
		return fmt.Errorf("event: %s: cannot decode into a %s", path, rv.Type())
	}
	return nil
}

// parseInt reads a decimal integer; a JSON number such as 7.0 or 1e3 counts when it is whole.
func parseInt(text string) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	const exact = 1 << 53 // beyond it a float no longer names one integer
	if err != nil || f != math.Trunc(f) || math.Abs(f) > exact {
		return 0, false
	}
	return int64(f), true
}

func parseBool(text string) (value, ok bool) {
	switch text {
	case "Y", "y", "1", "true", "TRUE":
		return true, true
	case "N", "n", "0", "false", "FALSE":
		return false, true
	default:
		return false, false
	}
}

// timeLayouts are the shapes in which documented events carry dates.
var timeLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05", "2006-01-02",
	"02.01.2006 15:04:05", "02.01.2006",
}

func fillTime(v phpform.Value, rv reflect.Value, path string) error {
	if isEmpty(v) {
		rv.SetZero()
		return nil
	}
	text := strings.TrimSpace(v.Scalar())
	if sec, err := strconv.ParseInt(text, 10, 64); err == nil {
		t, ok := unixTime(sec)
		if !ok {
			return mismatch(path, "a time")
		}
		rv.Set(reflect.ValueOf(t))
		return nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			rv.Set(reflect.ValueOf(t))
			return nil
		}
	}
	return mismatch(path, "a time")
}

// maxUnix is the last second that RFC 3339 can write, in the year 9999.
const maxUnix = 253402300799

// unixTime refuses seconds that no clock shows: they cannot be printed and break arithmetic later.
func unixTime(sec int64) (time.Time, bool) {
	if sec < 0 || sec > maxUnix {
		return time.Time{}, false
	}
	return time.Unix(sec, 0).UTC(), true
}

func fillText(v phpform.Value, rv reflect.Value, path string) error {
	if isEmpty(v) {
		rv.SetZero()
		return nil
	}
	if v.Kind() == phpform.Array {
		return mismatch(path, "a single value")
	}
	target, _ := reflect.TypeAssert[encoding.TextUnmarshaler](rv.Addr())
	if target.UnmarshalText([]byte(v.Scalar())) != nil { // its error may quote the value
		return mismatch(path, "a "+rv.Type().String())
	}
	return nil
}

func fillSlice(of *Delivery, v phpform.Value, rv reflect.Value, path string) error {
	if isEmpty(v) {
		rv.SetZero()
		return nil
	}
	var items []phpform.Value
	if v.Kind() != phpform.Array {
		items = []phpform.Value{v} // what is a list in one event is a scalar in its sibling
	} else if list, ok := v.Items(); ok {
		items = list
	} else {
		for _, e := range v.Entries() { // a list with gaps: PHP leaves them where an element was null
			items = append(items, e.Value)
		}
	}
	s := reflect.MakeSlice(rv.Type(), len(items), len(items))
	for i, item := range items {
		if err := fill(of, item, s.Index(i), path+"."+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	rv.Set(s)
	return nil
}

func fillMap(of *Delivery, v phpform.Value, rv reflect.Value, path string) error {
	if isEmpty(v) {
		rv.SetZero()
		return nil
	}
	if v.Kind() != phpform.Array {
		return mismatch(path, "an object")
	}
	t := rv.Type()
	m := reflect.MakeMapWithSize(t, v.Len())
	for _, e := range v.Entries() {
		at := path + "." + printableKey(e.Key)
		key := reflect.New(t.Key()).Elem()
		if err := fillScalar(phpform.Text(e.Key), key, at); err != nil {
			return err
		}
		elem := reflect.New(t.Elem()).Elem()
		if err := fill(of, e.Value, elem, at); err != nil {
			return err
		}
		m.SetMapIndex(key, elem)
	}
	rv.Set(m)
	return nil
}

// printableKey keeps a key that the sender chose out of error texts unless it looks like an identifier.
func printableKey(key string) string {
	const longest = 32
	if key == "" || len(key) > longest {
		return "*"
	}
	for _, c := range []byte(key) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' {
			return "*"
		}
	}
	return key
}

func fillStruct(of *Delivery, v phpform.Value, rv reflect.Value, path string) error {
	shape := shapeOf(rv.Type())
	if isEmpty(v) {
		rv.SetZero()
		return nil
	}
	if v.Kind() != phpform.Array && !shape.scalar {
		return mismatch(path, "an object")
	}
	for i := range shape.fields {
		f := &shape.fields[i]
		field := rv.FieldByIndex(f.index)
		if f.rest {
			if err := fillRest(of, v, field, shape, path); err != nil {
				return err
			}
			continue
		}
		found, at := f.find(v)
		if err := fill(of, found, field, join(path, at)); err != nil {
			return err
		}
	}
	return nil
}

func fillRest(of *Delivery, v phpform.Value, field reflect.Value, shape *structShape, path string) error {
	var rest []phpform.Entry
	for _, e := range v.Entries() {
		if !shape.taken[strings.ToUpper(e.Key)] {
			rest = append(rest, e)
		}
	}
	return fill(of, phpform.Map(rest...), field, path)
}

func join(path, at string) string {
	if at == "" {
		return path
	}
	return path + "." + at
}

// structShape is what the tags of a struct type say; it is worked out once per type.
type structShape struct {
	fields []structField
	taken  map[string]bool // upper-case first keys that fields other than rest read
	scalar bool            // some field reads the section itself
}

type structField struct {
	index []int
	paths []fieldPath // alternatives; the first that holds something wins
	rest  bool
}

type fieldPath struct {
	text string   // as errors print it
	keys []string // empty: the section itself, where it is a scalar
}

// find returns the first alternative that holds something, else the first that is present, else null.
func (f *structField) find(v phpform.Value) (found phpform.Value, at string) {
	at = f.paths[0].text
	present := false
	for _, p := range f.paths {
		value, ok := p.in(v)
		if !ok {
			continue
		}
		if !isEmpty(value) {
			return value, p.text
		}
		if !present {
			found, at, present = value, p.text, true
		}
	}
	return found, at
}

func (p fieldPath) in(v phpform.Value) (phpform.Value, bool) {
	if len(p.keys) == 0 {
		return v, v.Kind() != phpform.Array
	}
	for _, key := range p.keys {
		next, ok := v.GetFold(key)
		if !ok {
			return phpform.Value{}, false
		}
		v = next
	}
	return v, true
}

var shapes sync.Map // reflect.Type → *structShape; a cache of what the types' tags say

func shapeOf(t reflect.Type) *structShape {
	if s, ok := shapes.Load(t); ok {
		return s.(*structShape) //nolint:forcetypeassert // only this function stores
	}
	s := &structShape{taken: make(map[string]bool)}
	s.collect(t, nil)
	actual, _ := shapes.LoadOrStore(t, s)
	return actual.(*structShape) //nolint:forcetypeassert // only this function stores
}

func (s *structShape) collect(t reflect.Type, prefix []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		index := append(append([]int(nil), prefix...), i)
		tag, tagged := sf.Tag.Lookup("b24")
		if sf.Anonymous && !tagged && sf.Type.Kind() == reflect.Struct && sf.Tag.Get("json") == "" {
			s.collect(sf.Type, index)
			continue
		}
		if !sf.IsExported() || tag == "-" {
			continue
		}
		if !tagged {
			tag, _, _ = strings.Cut(sf.Tag.Get("json"), ",")
			if tag == "-" {
				continue
			}
			if tag == "" {
				tag = sf.Name
			}
		}
		s.add(index, tag)
	}
}

func (s *structShape) add(index []int, tag string) {
	if tag == ",rest" {
		s.fields = append(s.fields, structField{index: index, rest: true})
		return
	}
	f := structField{index: index}
	for text := range strings.SplitSeq(tag, "|") {
		if text == "." {
			f.paths = append(f.paths, fieldPath{})
			s.scalar = true
			continue
		}
		keys := strings.Split(text, ".")
		f.paths = append(f.paths, fieldPath{text: text, keys: keys})
		s.taken[strings.ToUpper(keys[0])] = true
	}
	s.fields = append(s.fields, f)
}
