package phpform

import (
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind is the kind of a [Value].
type Kind uint8

// The kinds of a [Value]. A form has only String and Array. JSON has all of them.
const (
	Null Kind = iota
	String
	Number // decimal text as it arrived, so that no digit is lost
	Bool
	Array // a PHP array: an ordered map, which is a list if its keys run 0..n-1
)

// Value is one node of a decoded body: a scalar or a PHP array. The zero Value is null. A Value is
// immutable and safe for concurrent use. Printing it shows only its kind and size, because bodies
// carry tokens.
//
// A Value that was decoded is packed: it is a part of one text without pointers, which holds the
// whole tree. Reading the elements of a packed array walks over them, so [Value.Get] and
// [Value.Len] take time linear in the number of elements. A Value that was built by [Map] or [List]
// has a slice of elements; [Value.Pack] packs it.
type Value struct {
	text string // of a scalar; the packed elements of an array that was decoded
	arr  *array // of an array that was built; nil if it is empty
	kind Kind
}

// Entry is one element of an array. Integer keys are in canonical decimal.
type Entry struct {
	Key   string
	Value Value
}

// Text returns a scalar String value.
func Text(s string) Value { return Value{kind: String, text: s} }

// NumberText returns a number from its decimal text.
func NumberText(s string) Value { return Value{kind: Number, text: s} }

// Boolean returns a boolean.
func Boolean(b bool) Value {
	if b {
		return Value{kind: Bool, text: "1"}
	}
	return Value{kind: Bool, text: ""}
}

// Int returns a number.
func Int(n int64) Value { return Value{kind: Number, text: strconv.FormatInt(n, 10)} }

// Map returns an array with these entries, whose keys must differ. The caller must not change
// entries afterwards.
func Map(entries ...Entry) Value {
	if len(entries) == 0 {
		return Value{kind: Array}
	}
	return Value{kind: Array, arr: &array{entries: entries}}
}

// List returns an array with the keys 0..n-1.
func List(items ...Value) Value {
	entries := make([]Entry, len(items))
	for i, v := range items {
		entries[i] = Entry{Key: strconv.Itoa(i), Value: v}
	}
	return Map(entries...)
}

// Kind returns what v holds.
func (v Value) Kind() Kind { return v.kind }

// Scalar returns the text of a scalar: a string or number as it arrived, "1" for true, "" for
// false, null and arrays.
func (v Value) Scalar() string {
	if v.kind == Array {
		return ""
	}
	return v.text
}

// All yields the elements of an array in the order of arrival, and nothing for a scalar. It does
// not allocate, except for the keys of a list from 100 on.
func (v Value) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) { v.each(yield) }
}

func (v Value) each(yield func(string, Value) bool) {
	c := v.Cursor()
	for c.Next() {
		if !yield(c.Key, c.Value) {
			return
		}
	}
}

// Cursor walks over the elements of an array in the order of arrival. [Value.All] uses it. It is
// for code in which a function call for each element is too slow.
type Cursor struct {
	Key   string
	Value Value

	at    int32  // of the element; see Value.At
	all   string // the packed elements
	next  int    // the position of the next one
	built []Entry
	place int // of the next element
}

// Cursor returns a cursor before the first element. A scalar has no elements.
func (v Value) Cursor() Cursor {
	if v.arr != nil {
		return Cursor{built: v.arr.entries}
	}
	return Cursor{all: v.elements()}
}

// Position returns the position of the element, for [Value.At].
func (c *Cursor) Position() int32 { return c.at }

// At returns the element at a position of a [Cursor] of v.
func (v Value) At(position int32) Value {
	if v.arr != nil {
		return v.arr.entries[position].Value
	}
	return valueOf(v.text[position:])
}

// Next moves to the next element, and reports whether there is one.
func (c *Cursor) Next() bool {
	if c.next == len(c.all) {
		return c.nextBuilt()
	}
	c.at = int32(c.next) //nolint:gosec // bounded by maxText
	tag, at := c.all[c.next], c.next+1
	if tag&placedBit == 0 {
		n := int(c.all[at])
		if at++; n >= 0x80 {
			n, at = length(c.all, at-1)
		}
		c.Key = c.all[at : at+n]
		at += n
	} else {
		c.Key = strconv.Itoa(c.place)
	}
	n := int(tag >> sizeShift)
	if n == longSize {
		n, at = length(c.all, at)
	}
	c.Value = Value{kind: Kind(tag & kindBits), text: c.all[at : at+n]}
	c.next = at + n
	c.place++
	return true
}

func (c *Cursor) nextBuilt() bool {
	if c.place >= len(c.built) {
		return false
	}
	c.at = int32(c.place) //nolint:gosec // more do not fit memory
	c.Key, c.Value = c.built[c.place].Key, c.built[c.place].Value
	c.place++
	return true
}

// Entries returns the elements of an array in the order of arrival. The caller must not change
// them. For an array that was decoded, it makes a new slice; [Value.All] does not.
func (v Value) Entries() []Entry {
	if v.arr != nil {
		return v.arr.entries
	}
	if v.Empty() {
		return nil
	}
	entries := make([]Entry, 0, v.Len())
	for key, item := range v.All() {
		entries = append(entries, Entry{Key: key, Value: item})
	}
	return entries
}

// Len returns the number of elements of an array, 0 for a scalar.
func (v Value) Len() int {
	if v.arr != nil {
		return len(v.arr.entries)
	}
	n := 0
	for rest := v.elements(); rest != ""; n++ {
		_, rest = cut(rest)
	}
	return n
}

// Empty reports whether v has no elements. It takes constant time, unlike [Value.Len].
func (v Value) Empty() bool { return v.kind != Array || v.arr == nil && v.text == "" }

// Get returns the element with exactly this key.
func (v Value) Get(key string) (Value, bool) {
	if v.arr != nil {
		if i := v.arr.find(key); i >= 0 {
			return v.arr.entries[i].Value, true
		}
		return Value{}, false
	}
	found, _, ok := v.search(key, false)
	return found, ok
}

// GetFold returns the element with exactly this key. If there is none, it returns the first one
// whose key differs only in case and has the same length in bytes.
func (v Value) GetFold(key string) (Value, bool) {
	if v.arr == nil {
		found, folded, ok := v.search(key, true)
		return found, ok || folded
	}
	if found, ok := v.Get(key); ok {
		return found, true
	}
	for i := range v.arr.entries {
		if e := &v.arr.entries[i]; EqualFold(e.Key, key) {
			return e.Value, true
		}
	}
	return Value{}, false
}

// search walks over the elements of a packed array to the one with this key. If there is none and
// fold is set, it returns the first one whose key differs only in case.
func (v Value) search(key string, fold bool) (found Value, folded, exact bool) {
	rest := v.elements()
	if rest == "" {
		return Value{}, false, false
	}
	place := -1 // of an element whose key is its place
	if i, ok := listIndex(key, len(rest)); ok {
		place = i
	}
	first := "" // the first element whose key differs only in case, and the rest after it
	for i := 0; rest != ""; i++ {
		// This is cut inlined: a call is too slow for a search among many elements.
		from, at := rest, 1
		if rest[0]&placedBit == 0 {
			n := int(rest[1])
			if at = 2; n >= 0x80 {
				n, at = length(rest, 1)
			}
			if n == len(key) {
				if e := rest[at : at+n]; e == key {
					return valueOf(from), false, true
				} else if fold && first == "" && EqualFold(e, key) {
					first = from
				}
			}
			at += n
		} else if i == place {
			return valueOf(from), false, true
		}
		n := int(rest[0] >> sizeShift)
		if n == longSize {
			if n = int(rest[at]); n < 0x80 {
				at++
			} else {
				n, at = length(rest, at)
			}
		}
		rest = rest[at+n:]
	}
	if first == "" {
		return Value{}, false, false
	}
	return valueOf(first), true, false
}

// valueOf returns the value of the first element of s.
func valueOf(s string) Value {
	e, _ := cut(s)
	return e.value
}

// EqualFold reports whether two keys have the same length in bytes and differ at most in case. Keys
// that are equal under strings.EqualFold but have different lengths, such as "k" and the sign of
// the unit Kelvin, are different keys.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		c, d := a[i], b[i]
		if (c|d)&utf8.RuneSelf != 0 {
			return strings.EqualFold(a[i:], b[i:])
		}
		if c == d {
			continue
		}
		if c |= 0x20; c != d|0x20 || c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// Items returns the elements in the order of their keys if these run 0..n-1. It returns false for
// every other array and for scalars. The empty array is a list. The caller owns the slice.
func (v Value) Items() ([]Value, bool) {
	if v.kind != Array || !v.isList() {
		return nil, false
	}
	items := make([]Value, v.Len())
	if v.arr != nil {
		for _, e := range v.arr.entries {
			i, _ := listIndex(e.Key, len(items))
			items[i] = e.Value // keys differ, so n keys below n fill every place
		}
		return items, true
	}
	rest := v.elements()
	for i := 0; rest != ""; i++ {
		var e element
		e, rest = cut(rest)
		at := i
		if !e.placed {
			at, _ = listIndex(e.key, len(items))
		}
		items[at] = e.value
	}
	return items, true
}

// isList reports whether the keys run 0..n-1, in any order.
func (v Value) isList() bool {
	n := v.Len()
	if v.arr != nil {
		for i := range v.arr.entries {
			if _, ok := listIndex(v.arr.entries[i].Key, n); !ok {
				return false
			}
		}
		return true
	}
	for rest := v.elements(); rest != ""; {
		var e element
		e, rest = cut(rest)
		if e.placed {
			continue
		}
		if _, ok := listIndex(e.key, n); !ok {
			return false
		}
	}
	return true
}

// Format prints the kind and the size of v under every verb, but not its content.
func (v Value) Format(f fmt.State, _ rune) {
	text := [...]string{Null: "null", String: "string", Number: "number", Bool: "bool", Array: "array"}[v.kind]
	n := len(v.text)
	if v.kind == Array {
		n = v.Len()
	}
	_, _ = io.WriteString(f, "phpform."+text+"("+strconv.Itoa(n)+")")
}

// listIndex returns key as an index below n if it is canonical decimal.
func listIndex[T string | []byte](key T, n int) (int, bool) {
	if len(key) == 0 || len(key) > 9 || (key[0] == '0' && len(key) > 1) {
		return 0, false
	}
	i := 0
	for j := range len(key) {
		c := key[j]
		if c < '0' || c > '9' {
			return 0, false
		}
		i = i*10 + int(c-'0')
	}
	return i, i < n
}
