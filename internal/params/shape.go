package params

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shape says how to write a struct type.
type shape struct {
	fields []field
	err    error // why it cannot be written
}

type field struct {
	name   string
	goName string
	index  []int
	options
}

// options are what the tag of a field says. The zero options are those of values in maps and lists.
type options struct {
	field     bool // of a struct, so a bool must say how it is written
	omitEmpty bool
	asInt     bool
	asYN      bool
	unix      bool
	layout    string // of times
	separator string // of lists that are one text
}

func (o options) bool(b bool) (string, error) {
	switch {
	case o.asYN && b:
		return "Y", nil
	case o.asYN:
		return "N", nil
	case o.field && !o.asInt:
		return "", errors.New("a bool must say how it is sent, since methods differ: add yn (Y or N) or int (1 or 0) to its url tag")
	case b:
		return "1", nil
	default:
		return "0", nil
	}
}

func (o options) time(t time.Time) (string, error) {
	const lastYear = 9999 // that four digits can say
	switch {
	case t.IsZero():
		return "", nil
	case o.unix:
		return strconv.FormatInt(t.Unix(), 10), nil
	case t.Year() < 1 || t.Year() > lastYear:
		return "", errors.New("a time is not within the years 1 to 9999")
	case o.layout != "":
		return t.Format(o.layout), nil
	default:
		return t.Format(time.RFC3339), nil
	}
}

// shapes holds the shapes of the struct types that were sent. The program bounds their number.
var shapes sync.Map //nolint:gochecknoglobals // a cache

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape) //nolint:forcetypeassert // nothing else is stored
	}
	s := &shape{}
	s.fields, s.err = flatten(t)
	stored, _ := shapes.LoadOrStore(t, s)
	return stored.(*shape) //nolint:forcetypeassert // nothing else is stored
}

// flatten lists the fields of a struct, with those of embedded structs, in their order. If two have
// the same name, the outer one counts, as in Go.
func flatten(t reflect.Type) ([]field, error) {
	var all []field
	exported, err := collect(t, nil, nil, &all)
	if err != nil {
		return nil, err
	}
	if !exported && t.NumField() > 0 {
		return nil, fmt.Errorf("%s has no exported field, and does not say how it is sent", t)
	}
	best := make(map[string]int, len(all))
	for _, f := range all {
		if depth, ok := best[f.name]; !ok || len(f.index) < depth {
			best[f.name] = len(f.index)
		}
	}
	all = slices.DeleteFunc(all, func(f field) bool { return len(f.index) > best[f.name] })
	seen := make(map[string]bool, len(all))
	for _, f := range all {
		if seen[f.name] {
			return nil, fmt.Errorf("%s has two fields that are sent as %q", t, f.name)
		}
		seen[f.name] = true
	}
	return all, nil
}

// collect appends the fields of a struct type, and reports whether any of them is exported.
func collect(t reflect.Type, index []int, outer []reflect.Type, all *[]field) (exported bool, err error) {
	if slices.Contains(outer, t) {
		return true, nil // embedded in itself by a pointer
	}
	outer = append(slices.Clone(outer), t)
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(slices.Clone(index), i)
		if embedded := embeddedStruct(sf); embedded != nil {
			inner, err := collect(embedded, at, outer, all)
			if err != nil {
				return false, err
			}
			exported = exported || inner
			continue
		}
		if !sf.IsExported() {
			continue
		}
		exported = true
		f, skip, err := fieldOf(sf)
		if err != nil {
			return false, fmt.Errorf("%s.%s: %w", t, sf.Name, err)
		}
		if !skip {
			f.index = at
			*all = append(*all, f)
		}
	}
	return exported, nil
}

// embeddedStruct returns the type of an embedded struct whose fields count as those of the outer
// struct.
func embeddedStruct(sf reflect.StructField) reflect.Type {
	if !sf.Anonymous {
		return nil
	}
	t := sf.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || tagName(sf) != "" || t.ConvertibleTo(timeType) {
		return nil
	}
	return t
}

func tagName(sf reflect.StructField) string {
	name, _, _ := strings.Cut(tagOf(sf), ",")
	return name
}

// tagOf returns the tag that counts.
func tagOf(sf reflect.StructField) string {
	for _, key := range []string{"url", "b24", "json"} {
		if tag, ok := sf.Tag.Lookup(key); ok {
			return tag
		}
	}
	return ""
}

func fieldOf(sf reflect.StructField) (f field, skip bool, err error) {
	_, own := sf.Tag.Lookup("url")
	tag := tagOf(sf)
	if tag == "-" {
		return field{}, true, nil
	}
	name, rest, _ := strings.Cut(tag, ",")
	f = field{name: name, goName: sf.Name, options: options{field: true, layout: sf.Tag.Get("layout")}}
	if name == "" {
		f.name = sf.Name
	}
	if strings.ContainsAny(name, ".|") || rest == "rest" {
		return f, false, errors.New("its b24 tag says where to read it and not how to send it; give it a url tag")
	}
	if _, ok := sf.Tag.Lookup("del"); ok {
		return f, false, errors.New("the tag del is not known; a list becomes one text by the options comma, space and semicolon")
	}
	for option := range strings.SplitSeq(rest, ",") {
		with, known := f.with(option)
		if f.options = with; !known && own && option != "" {
			return f, false, fmt.Errorf("its url tag has the option %s, which is not known", option)
		}
	}
	return f, false, nil
}

// with returns the options with one more, and false if it is unknown.
func (o options) with(option string) (with options, known bool) {
	switch option {
	case "omitempty", "omitzero":
		o.omitEmpty = true
	case "int":
		o.asInt = true
	case "yn":
		o.asYN = true
	case "unix":
		o.unix = true
	case "comma":
		o.separator = ","
	case "space":
		o.separator = " "
	case "semicolon":
		o.separator = ";"
	case "brackets":
	default:
		return o, false
	}
	return o, true
}
