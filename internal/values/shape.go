package values

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

// The tags that name the fields. The first one takes precedence.
const (
	tagB24  = "b24"
	tagJSON = "json"
)

// shape is what the tags of a struct type say.
type shape struct {
	fields []field
	keys   []string // those that fields read, shorter ones first
	from   []int    // for each length, the position of the first key that is not shorter
	rest   int      // the field for what no other field reads, or -1
	scalar bool     // some field reads the section itself

	reason, reasonField string // what is wrong with the tags
}

// field is one field of a struct, or of a struct embedded in it.
type field struct {
	name   string
	index  []int
	depth  int
	plan   *plan
	paths  []path // alternatives; the first that holds something wins
	rest   bool
	quoted bool // the value is the JSON text of a string, as text
}

// path leads to a field's value.
type path struct {
	text string   // as misfits print it
	keys []string // empty: the section itself, if it is a scalar
	slot int      // of the first key, in shape.keys
}

// shape reads the tags of a struct type.
func (b *builder) shape(t reflect.Type) *shape {
	s := &shape{rest: -1}
	b.collect(s, t, nil, []reflect.Type{t})
	s.dominate()
	s.index()
	return s
}

// collect adds the fields of t, which is the struct itself or one embedded in it.
func (b *builder) collect(s *shape, t reflect.Type, prefix []int, within []reflect.Type) {
	for i := range t.NumField() {
		sf := t.Field(i)
		f := field{name: sf.Name, index: append(slices.Clone(prefix), i), depth: len(prefix)}
		paths, options, tagged := tagsOf(sf)
		if paths == "-" && options == "" {
			continue
		}
		if inner, ok := embedded(sf); ok && !tagged && b.plan(inner).fill == fillStruct {
			if !slices.Contains(within, inner) {
				b.collect(s, inner, f.index, append(slices.Clone(within), inner))
			}
			continue
		}
		if !sf.IsExported() {
			continue
		}
		f.plan = b.plan(sf.Type)
		if reason := f.read(sf, paths, options); reason != "" {
			s.reason, s.reasonField = reason, sf.Name
			continue
		}
		if f.rest {
			if !f.plan.takesObject() {
				s.reason, s.reasonField = "the rest of an object does not fit a "+sf.Type.String(), sf.Name
			}
			if s.rest >= 0 {
				s.reason, s.reasonField = "another field takes the rest", sf.Name
			}
			s.rest = len(s.fields)
		}
		s.fields = append(s.fields, f)
	}
}

// embedded returns the type of an embedded struct, whose fields belong to the outer struct.
func embedded(sf reflect.StructField) (reflect.Type, bool) {
	if !sf.Anonymous {
		return nil, false
	}
	t := sf.Type
	if t.Kind() == reflect.Pointer {
		if !sf.IsExported() {
			return nil, false // the pointer cannot be set
		}
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct
}

// tagsOf returns the paths and options in the tags of a field. tagged reports whether the tags name
// a place.
func tagsOf(sf reflect.StructField) (paths, options string, tagged bool) {
	if tag, ok := sf.Tag.Lookup(tagB24); ok {
		paths, options, found := strings.Cut(tag, ",")
		if found {
			options = "," + options
		}
		return paths, options, true
	}
	name, options, _ := strings.Cut(sf.Tag.Get(tagJSON), ",")
	if options == "" && strings.HasSuffix(sf.Tag.Get(tagJSON), ",") {
		options = "," // json:"-," is the name -
	}
	return name, options, name != ""
}

// read completes a field from its tags. It returns what is wrong with them, or "".
func (f *field) read(sf reflect.StructField, paths, options string) (reason string) {
	if _, ok := sf.Tag.Lookup(tagB24); !ok {
		name := paths
		if !validName(name) {
			name = sf.Name
		}
		f.paths = []path{{text: printable(name), keys: []string{name}}}
		f.quoted = f.plan.fill == fillString && slices.Contains(strings.Split(options, ","), "string")
		return ""
	}
	switch {
	case options == ",rest" && paths == "":
		f.rest = true
		return ""
	case options != "":
		return "the tag b24 knows no option but rest, which stands alone"
	}
	for text := range strings.SplitSeq(paths, "|") {
		if text == "." {
			f.paths = append(f.paths, path{slot: -1})
			continue
		}
		keys := strings.Split(text, ".")
		if slices.Contains(keys, "") {
			return "the tag b24 has an empty key"
		}
		f.paths = append(f.paths, path{text: text, keys: keys})
	}
	return ""
}

// validName reports whether encoding/json accepts a name in a tag.
func validName(name string) bool {
	return name != "" && !strings.ContainsAny(name, "\"'`\\,")
}

// dominate removes the fields of embedded structs that an outer field with the same place hides.
func (s *shape) dominate() {
	least := make(map[string]int)
	for _, f := range s.fields {
		place := f.place()
		if depth, ok := least[place]; !ok || f.depth < depth {
			least[place] = f.depth
		}
	}
	hidden := func(f field) bool { return f.depth > least[f.place()] }
	s.fields = slices.DeleteFunc(s.fields, hidden)
	s.rest = slices.IndexFunc(s.fields, func(f field) bool { return f.rest })
}

func (f *field) place() string {
	var b strings.Builder
	for _, p := range f.paths {
		b.WriteString(strings.Join(p.keys, ".") + "|")
	}
	return b.String()
}

// index numbers the first keys of the fields' paths.
func (s *shape) index() {
	for _, f := range s.fields {
		for _, p := range f.paths {
			if len(p.keys) > 0 {
				s.keys = append(s.keys, p.keys[0])
			}
		}
	}
	slices.SortFunc(s.keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	s.keys = slices.Compact(s.keys)
	longest := 0
	if len(s.keys) > 0 {
		longest = len(s.keys[len(s.keys)-1])
	}
	for n := range longest + 2 {
		i := slices.IndexFunc(s.keys, func(key string) bool { return len(key) >= n })
		if i < 0 {
			i = len(s.keys)
		}
		s.from = append(s.from, i)
	}
	for i := range s.fields {
		for j := range s.fields[i].paths {
			p := &s.fields[i].paths[j]
			if len(p.keys) == 0 {
				s.scalar = true
				continue
			}
			p.slot = slices.Index(s.keys, p.keys[0])
		}
	}
}

// slot is the position of an object's element for one of the keys of a shape. Slots have no
// pointers, so the garbage collector does not scan them.
type slot struct {
	at    int32 // see node.child
	match match
}

type match uint8

const (
	matchNone match = iota
	matchFold       // the key differs in case
	matchExact
)

// offer stores an element in the slots of the keys that its key matches, and reports whether there
// is one. An exact match takes precedence over one in another case, of which the first counts.
func (s *shape) offer(slots []slot, key string, at int32) bool {
	from, to := 0, len(s.keys)
	last := byte(0) // every key of the shape that matches ends in it
	if isASCII(key) {
		if len(key)+1 >= len(s.from) {
			return false
		}
		from, to = s.from[len(key)], s.from[len(key)+1]
		if key != "" {
			last = key[len(key)-1] | 0x20
		}
	}
	taken := false
	for i := from; i < to; i++ {
		switch name := s.keys[i]; {
		case last != 0 && name[len(name)-1]|0x20 != last:
		case name == key:
			slots[i] = slot{at, matchExact}
			taken = true
		case strings.EqualFold(name, key):
			if slots[i].match == matchNone {
				slots[i] = slot{at, matchFold}
			}
			taken = true
		}
	}
	return taken
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// absent reports whether none of the field's paths leads to an element.
func (f *field) absent(slots []slot) bool {
	for i := range f.paths {
		if at := f.paths[i].slot; at < 0 || slots[at].match != matchNone {
			return false
		}
	}
	return true
}

// find returns the first alternative that is not empty. If all are empty, it returns the first one
// that is present.
func (f *field) find(slots []slot, section *node) (found node, p *path) {
	for i := range f.paths {
		alternative := &f.paths[i]
		n, ok := alternative.in(slots, section)
		if !ok {
			continue
		}
		if len(f.paths) == 1 || !n.isEmpty() {
			return n, alternative
		}
		if p == nil {
			found, p = n, alternative
		}
	}
	return found, p
}

func (p *path) in(slots []slot, section *node) (node, bool) {
	if len(p.keys) == 0 {
		return *section, section.kind() != kindArray
	}
	if slots[p.slot].match == matchNone {
		return node{}, false
	}
	n, ok := section.child(slots[p.slot].at), true
	for _, key := range p.keys[1:] {
		if n, ok = n.lookup(key); !ok {
			break
		}
	}
	return n, ok
}

// spelled returns the path with the keys of the section, which may differ in case from those of the
// type, so that the text can be found in the payload.
func (p *path) spelled(section node) string {
	if len(p.keys) == 0 {
		return p.text
	}
	keys := make([]string, len(p.keys))
	for i, key := range p.keys {
		keys[i] = printable(section.spelling(key))
		section, _ = section.lookup(key)
	}
	return strings.Join(keys, ".")
}

// in returns the field of a struct. It allocates embedded structs behind nil pointers.
func (f *field) in(rv reflect.Value) reflect.Value {
	for i, at := range f.index {
		if i > 0 && rv.Kind() == reflect.Pointer {
			if rv.IsNil() {
				rv.Set(reflect.New(rv.Type().Elem()))
			}
			rv = rv.Elem()
		}
		rv = rv.Field(at)
	}
	return rv
}

// of returns the field of a struct, and false if it is behind a nil pointer to an embedded struct.
func (f *field) of(rv reflect.Value) (reflect.Value, bool) {
	for i, at := range f.index {
		if i > 0 && rv.Kind() == reflect.Pointer {
			if rv.IsNil() {
				return reflect.Value{}, false
			}
			rv = rv.Elem()
		}
		rv = rv.Field(at)
	}
	return rv, true
}
