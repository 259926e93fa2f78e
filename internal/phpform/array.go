package phpform

import (
	"math"
	"strconv"
	"strings"
	"sync/atomic"
)

// smallArray is the size up to which a search compares keys one by one; above it an index pays.
const smallArray = 16

// array is the body of an Array value. The index is not part of its state: it is made when a large array is searched.
type array struct {
	entries []Entry
	index   atomic.Pointer[index]
}

// index finds the entries of a large array, and knows the integer key that PHP gives to the next appended element.
type index struct {
	at   map[string]int
	next nextKey
}

// find returns the position of key, or -1.
func (a *array) find(key string) int {
	n := len(a.entries)
	if n <= smallArray {
		for i := n - 1; i >= 0; i-- { // the latest is the likeliest while decoding
			if a.entries[i].Key == key {
				return i
			}
		}
		return -1
	}
	if i, ok := listIndex(key, n); ok && a.entries[i].Key == key {
		return i
	}
	ix := a.index.Load()
	if ix == nil {
		ix = a.buildIndex() // two goroutines may build it at once; both build the same
	}
	if i, ok := ix.at[key]; ok {
		return i
	}
	return -1
}

func (a *array) buildIndex() *index {
	ix := &index{at: make(map[string]int, 2*len(a.entries))}
	for i := range a.entries {
		key := a.entries[i].Key
		if _, dup := ix.at[key]; !dup {
			ix.at[key] = i
		}
		ix.next.saw(key)
	}
	a.index.Store(ix)
	return ix
}

// nextKey counts as PHP does: an append takes the largest integer key so far plus one, or 0 where there is none.
type nextKey struct {
	max  int64
	seen bool
}

func (k *nextKey) saw(key string) {
	if n, ok := integerKey(key); ok && (!k.seen || n > k.max) {
		k.max, k.seen = n, true
	}
}

// key returns the key for an append. PHP refuses to append after the largest integer.
func (k *nextKey) key() (string, bool) {
	if !k.seen {
		return "0", true
	}
	if k.max == math.MaxInt64 {
		return "", false
	}
	return strconv.FormatInt(k.max+1, 10), true
}

// integerKey returns the integer that PHP makes of a key: canonical decimal only, so not 08, +1, -0 or anything that overflows.
func integerKey(key string) (int64, bool) {
	if key == "" || len(key) > len("-9223372036854775808") {
		return 0, false
	}
	digits := key
	if key[0] == '-' {
		digits = key[1:]
	}
	if digits == "" || digits[0] < '0' || digits[0] > '9' || (digits[0] == '0' && key != "0") {
		return 0, false
	}
	n, err := strconv.ParseInt(key, 10, 64)
	return n, err == nil
}

// builder makes arrays and keeps count of their elements.
type builder struct {
	lim     Limits
	keys    int
	slab    []array
	indexed []*array
	// text holds what has been unescaped; the strings of the tree are parts of it.
	text strings.Builder
}

// reserve makes room for unescaped text when the first is to be written. What is left of the input is enough: no escape is
// shorter than what it stands for.
func (b *builder) reserve(left int) {
	if b.text.Cap() == 0 {
		b.text.Grow(left)
	}
}

const slabSize = 8

func (b *builder) newArray() *array {
	if len(b.slab) == cap(b.slab) {
		b.slab = make([]array, 0, min(slabSize+2*cap(b.slab), 256))
	}
	b.slab = b.slab[:len(b.slab)+1]
	return &b.slab[len(b.slab)-1]
}

// insert adds an entry whose key is known to be new.
func (b *builder) insert(a *array, key string, v Value) error {
	if b.keys++; b.keys > b.lim.Keys {
		return &LimitError{What: limitKeys, Limit: b.lim.Keys}
	}
	if a.entries == nil {
		a.entries = make([]Entry, 0, 4)
	}
	a.entries = append(a.entries, Entry{Key: key, Value: v})
	switch ix := a.index.Load(); {
	case ix != nil:
		ix.at[key] = len(a.entries) - 1
		ix.next.saw(key)
	case len(a.entries) > smallArray:
		a.buildIndex()
		b.indexed = append(b.indexed, a)
	}
	return nil
}

// set stores v under key, in the place of the first occurrence where there is one.
func (b *builder) set(a *array, key string, v Value) error {
	if i := a.find(key); i >= 0 {
		a.entries[i].Value = v
		return nil
	}
	return b.insert(a, key, v)
}

// nextKey returns the key that an append to a gets.
func (b *builder) nextKey(a *array) (string, bool) {
	if ix := a.index.Load(); ix != nil {
		return ix.next.key()
	}
	var next nextKey
	for i := range a.entries {
		next.saw(a.entries[i].Key)
	}
	return next.key()
}

// finish drops what only decoding needs.
func (b *builder) finish() {
	for _, a := range b.indexed {
		a.index.Store(nil)
	}
}
