package phpform

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Kind tells what a [Value] holds.
type Kind uint8

// The kinds of a [Value]. A form body yields only String and Array; JSON yields all of them.
const (
	Null Kind = iota
	String
	Number // decimal text as it arrived, so that no digit is lost
	Bool
	Array // a PHP array: an ordered map that is a list where its keys run 0..n-1
)

// Value is one node of a decoded body: a scalar or a PHP array. The zero Value is null.
// A Value is immutable once built and safe for concurrent use. It prints as its kind and size only, because bodies carry tokens.
type Value struct {
	text string
	arr  *array // of an Array; nil where it is empty
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

// Map returns an array with the entries given, whose keys must differ. The caller must not change entries afterwards.
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

// Scalar returns the text of a scalar: a string or number as it arrived, "1" for true, "" for false, null and arrays.
func (v Value) Scalar() string { return v.text }

// Entries returns the elements of an array in the order of arrival. The caller must not change them.
func (v Value) Entries() []Entry {
	if v.arr == nil {
		return nil
	}
	return v.arr.entries
}

// Len returns the number of elements of an array, 0 for a scalar.
func (v Value) Len() int { return len(v.Entries()) }

// Get returns the element with exactly this key. The first Get of a large array that does not find its key at once builds an
// index, which the array keeps; so many calls are cheap at any size.
func (v Value) Get(key string) (Value, bool) {
	if v.arr != nil {
		if i := v.arr.find(key); i >= 0 {
			return v.arr.entries[i].Value, true
		}
	}
	return Value{}, false
}

// GetFold returns the element with exactly this key, else the first one whose key differs from it only in case.
func (v Value) GetFold(key string) (Value, bool) {
	if found, ok := v.Get(key); ok {
		return found, true
	}
	for _, e := range v.Entries() {
		if strings.EqualFold(e.Key, key) {
			return e.Value, true
		}
	}
	return Value{}, false
}

// Items returns the elements in the order of their keys where these run 0..n-1, and false for every other array and for scalars.
// The empty array is a list. The slice is the caller's own.
func (v Value) Items() ([]Value, bool) {
	if v.kind != Array || !v.isList() {
		return nil, false
	}
	items := make([]Value, v.Len())
	for _, e := range v.Entries() {
		i, _ := listIndex(e.Key, len(items))
		items[i] = e.Value // keys differ, so n keys below n fill every place
	}
	return items, true
}

// isList reports whether the keys run 0..n-1, in any order.
func (v Value) isList() bool {
	entries := v.Entries()
	for i := range entries {
		if _, ok := listIndex(entries[i].Key, len(entries)); !ok {
			return false
		}
	}
	return true
}

// Format prints what v is and how large, under every verb, and nothing of what it holds.
func (v Value) Format(f fmt.State, _ rune) {
	text := [...]string{Null: "null", String: "string", Number: "number", Bool: "bool", Array: "array"}[v.kind]
	n := len(v.text)
	if v.kind == Array {
		n = v.Len()
	}
	_, _ = io.WriteString(f, "phpform."+text+"("+strconv.Itoa(n)+")")
}

// listIndex returns key as an index below n where it is canonical decimal.
func listIndex(key string, n int) (int, bool) {
	if key == "" || len(key) > 9 || (key[0] == '0' && len(key) > 1) {
		return 0, false
	}
	i := 0
	for _, c := range []byte(key) {
		if c < '0' || c > '9' {
			return 0, false
		}
		i = i*10 + int(c-'0')
	}
	return i, i < n
}
