package phpform

import (
	"bytes"
	"hash/maphash"
	"math"
	"strconv"
)

// smallArray is the number of elements up to which a search compares keys one by one. Above it, an
// index is faster.
const smallArray = 64

// maxText bounds a body, so that offsets fit 32 bits, including those of keys that are made for it.
const maxText = 1 << 27

var unlimited = Limits{Bytes: maxText, Keys: math.MaxInt, Depth: math.MaxInt}

// tape is a tree while it is decoded: nodes that refer to each other, and to text, by index. Node 0
// is the root.
type tape struct {
	lim   Limits
	keys  int
	doc   []byte // the body or document
	text  []byte // text that is not a part of doc: without its escapes, or made
	nodes []node
	out   []byte // room for the packed tree
	index index
}

// span is a part of a tape's text: of doc, or of text if at is negative, from ^at on.
type span struct{ at, n int32 }

// node is one element. It has no pointers.
type node struct {
	key    span
	val    span  // of a scalar and of a packed array; for any other array, see last and count
	before int32 // the element before it in the same array; 0 for none
	slot   int32 // of an array in the index; 0 if it is not indexed
	kind   Kind
	placed bool // the key is the place of the node in its array
	packed bool // val holds the packed elements of an array
}

// For an array, val holds its last child and the number of its children.
func (n *node) last() int32  { return n.val.at }
func (n *node) count() int32 { return n.val.n }

func (t *tape) bytes(s span) []byte {
	if s.at < 0 {
		return t.text[^s.at : ^s.at+s.n]
	}
	return t.doc[s.at : s.at+s.n]
}

func (t *tape) part(from, end int) span {
	return span{int32(from), int32(end - from)} //nolint:gosec // bounded by maxText
}

// made returns the part of text from at on.
func (t *tape) made(at int) span {
	return span{^int32(at), int32(len(t.text) - at)} //nolint:gosec // bounded by maxText
}

// room returns n bytes after the text, which extend may add to it. It does not use append: that
// would move the memory of a usual body from the stack to the heap.
func (t *tape) room(n int) []byte {
	at := len(t.text)
	if at+n > cap(t.text) {
		grown := make([]byte, at, at+max(n, at, 64))
		copy(grown, t.text)
		t.text = grown
	}
	return t.text[at : at+n]
}

func (t *tape) extend(n int) { t.text = t.text[:len(t.text)+n] }

// add appends to text.
func (t *tape) add(s string) span {
	at := len(t.text)
	t.extend(copy(t.room(len(s)), s))
	return t.made(at)
}

// newNode appends a node. It sets the fields one by one, because copying a whole node is slower.
func (t *tape) newNode(key span, kind Kind, val span, before int32) int32 {
	at := len(t.nodes)
	if at == cap(t.nodes) {
		grown := make([]node, at, at+max(at, 16))
		copy(grown, t.nodes)
		t.nodes = grown
	}
	t.nodes = t.nodes[:at+1]
	n := &t.nodes[at]
	n.key, n.val, n.before, n.slot = key, val, before, 0
	n.kind, n.placed, n.packed = kind, false, false
	return int32(at) //nolint:gosec // fewer than bytes
}

// start makes the root, and room for the nodes and the text of a body with so many pairs. Some
// pairs add an array too. A hostile body may add more than fit.
func (t *tape) start(pairs int) {
	if n := min(pairs+pairs/8+4, t.lim.Keys, maxReserve); n > cap(t.nodes) {
		t.nodes = make([]node, 0, n)
	}
	if n := len(t.doc) / 2; n > cap(t.text) {
		t.text = make([]byte, 0, n)
	}
	t.newNode(span{}, Array, span{}, 0)
}

// maxReserve bounds how many nodes start allocates because of the separators of a body.
const maxReserve = 1 << 12

// The memory for a body of the usual size is on the stack of the function that decodes, so that
// only the result is on the heap. An event about a CRM object is small, and a message to a bot is
// large.
type (
	smallMemory struct {
		nodes [32]node
		text  [512]byte
		out   [768]byte
	}
	largeMemory struct {
		nodes [256]node
		text  [8 << 10]byte
		out   [8 << 10]byte
	}
)

const (
	smallBody = 1 << 10
	largeBody = 16 << 10
)

// find returns the child with this key, or 0.
func (t *tape) find(array int32, key []byte) int32 {
	n := &t.nodes[array]
	if n.slot != 0 {
		return t.index.find(t, n.slot, key)
	}
	for child := n.last(); child != 0; { // the latest is the most likely
		c := &t.nodes[child]
		if int(c.key.n) == len(key) && bytes.Equal(t.bytes(c.key), key) {
			return child
		}
		child = c.before
	}
	return 0
}

// insert appends a child without adding it to the index.
func (t *tape) insert(array int32, key span, kind Kind, val span) (int32, error) {
	if t.keys++; t.keys > t.lim.Keys {
		return 0, &LimitError{What: limitKeys, Limit: t.lim.Keys}
	}
	at := t.newNode(key, kind, val, t.nodes[array].last())
	n := &t.nodes[array]
	n.val = span{at, n.count() + 1}
	return at, nil
}

// insertKeyed appends a child whose key is known to be new.
func (t *tape) insertKeyed(array int32, key span, kind Kind, val span) (int32, error) {
	if n := &t.nodes[array]; n.count() == smallArray && n.slot == 0 {
		n.slot = t.index.begin()
		for c := n.last(); c != 0; c = t.nodes[c].before {
			t.index.insert(t, n.slot, c)
		}
	}
	at, err := t.insert(array, key, kind, val)
	if slot := t.nodes[array].slot; slot != 0 && err == nil {
		t.index.insert(t, slot, at)
	}
	return at, err
}

// child returns the element under a key. It makes one if there is none.
func (t *tape) child(array int32, key span) (int32, error) {
	if child := t.find(array, t.bytes(key)); child != 0 {
		return child, nil
	}
	return t.insertKeyed(array, key, Null, span{})
}

// descend returns the array under key. It makes one if there is none, or a scalar.
func (t *tape) descend(array int32, key span) (int32, error) {
	child, err := t.child(array, key)
	if err == nil && t.nodes[child].kind != Array {
		t.makeArray(child)
	}
	return child, err
}

// makeArray turns a node into an empty array. Its old content is no longer a part of the tree.
func (t *tape) makeArray(i int32) {
	n := &t.nodes[i]
	n.kind, n.val, n.slot = Array, span{}, 0
}

func (t *tape) setScalar(i int32, kind Kind, val span) {
	n := &t.nodes[i]
	n.kind, n.val = kind, val
}

// nextKey returns the key that PHP gives to an appended element: the largest integer key plus one,
// or 0 if there is none. It returns false after the largest integer, because PHP appends nothing
// then.
func (t *tape) nextKey(array int32) (span, bool) {
	n := &t.nodes[array]
	var largest largestKey
	if n.slot != 0 {
		largest = t.index.largest[n.slot-1]
	} else {
		for c := n.last(); c != 0; c = t.nodes[c].before {
			largest.saw(t.bytes(t.nodes[c].key))
		}
	}
	switch {
	case !largest.seen:
		return t.add("0"), true
	case largest.n == math.MaxInt64:
		return span{}, false
	}
	var digits [len("-9223372036854775808")]byte
	return t.add(string(strconv.AppendInt(digits[:0], largest.n+1, 10))), true
}

// largestKey is the largest integer among the keys of an array.
type largestKey struct {
	n    int64
	seen bool
}

func (l *largestKey) saw(key []byte) {
	if n, ok := integerKey(key); ok && (!l.seen || n > l.n) {
		l.n, l.seen = n, true
	}
}

// integerKey returns a key as an integer if PHP does: only canonical decimal counts, so not 08, +1,
// -0 or a number that overflows.
func integerKey(key []byte) (int64, bool) {
	if len(key) == 0 || len(key) > len("-9223372036854775808") {
		return 0, false
	}
	digits := key
	if key[0] == '-' {
		digits = key[1:]
	}
	if len(digits) == 0 || digits[0] < '0' || digits[0] > '9' || (digits[0] == '0' && len(key) > 1) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(key), 10, 64)
	return n, err == nil
}

// index finds the elements of all large arrays of a tape, by open addressing. The elements of a
// replaced array stay under its slot, which no other array gets.
type index struct {
	seed    maphash.Seed
	places  []place
	used    int
	largest []largestKey // by slot
}

// place is one place of the table. It is free if node is 0.
type place struct {
	hash uint32
	node int32
	slot int32
}

// begin returns the slot for another array.
func (x *index) begin() int32 {
	if len(x.largest) == 0 {
		x.seed = maphash.MakeSeed()
		if x.places == nil {
			x.places = make([]place, 4*smallArray) // room for twice as many
		}
	}
	n := len(x.largest)
	if n == cap(x.largest) {
		grown := make([]largestKey, n, 2*n+2)
		copy(grown, x.largest)
		x.largest = grown
	}
	x.largest = x.largest[:n+1]
	return int32(len(x.largest)) //nolint:gosec // fewer than nodes
}

func (x *index) hash(slot int32, key []byte) uint32 {
	const odd = 0x9e3779b97f4a7c15
	h := (maphash.Bytes(x.seed, key) ^ uint64(slot)) * odd //nolint:gosec // slots are positive
	return uint32(h >> 32)                                 // the high bits of a product are well mixed
}

// at returns the place at which the search for a hash begins.
func (x *index) at(hash uint32) int { return int(hash) & (len(x.places) - 1) }

func (x *index) find(t *tape, slot int32, key []byte) int32 {
	hash := x.hash(slot, key)
	for i := x.at(hash); ; i = (i + 1) & (len(x.places) - 1) {
		p := &x.places[i]
		if p.node == 0 {
			return 0
		}
		if p.hash == hash && p.slot == slot && bytes.Equal(t.bytes(t.nodes[p.node].key), key) {
			return p.node
		}
	}
}

// insert adds a node whose key is new.
func (x *index) insert(t *tape, slot, child int32) {
	if x.used++; 2*x.used > len(x.places) {
		old := x.places
		x.places = make([]place, 2*len(old))
		for _, p := range old {
			if p.node != 0 {
				x.put(p)
			}
		}
	}
	key := t.bytes(t.nodes[child].key)
	x.put(place{hash: x.hash(slot, key), node: child, slot: slot})
	x.largest[slot-1].saw(key)
}

func (x *index) put(p place) {
	i := x.at(p.hash)
	for x.places[i].node != 0 {
		i = (i + 1) & (len(x.places) - 1)
	}
	x.places[i] = p
}

// copyInto turns node i into a copy of v.
func (t *tape) copyInto(i int32, v Value) {
	t.setScalar(i, v.kind, span{})
	if v.arr == nil {
		t.nodes[i].val = t.add(v.text)
		t.nodes[i].packed = v.kind == Array
		return
	}
	for at := range v.arr.entries {
		e := &v.arr.entries[at]
		child, _ := t.insert(i, t.add(e.Key), Null, span{}) // the limits are those of unlimited
		t.copyInto(child, e.Value)
	}
}

// pack returns the tree in one text.
func (t *tape) pack() Value {
	p := packer{b: t.out[:cap(t.out)], at: cap(t.out)}
	root := &t.nodes[0]
	p.content(t, root)
	return Value{kind: root.kind, text: string(p.b[p.at:])}
}

// packer writes a packed tree from its end to its beginning, so that it knows the length of a
// content before it writes that length. The tree ends with b.
type packer struct {
	b  []byte
	at int // the beginning of the tree
}

// room adds n bytes before the tree and returns them.
func (p *packer) room(n int) []byte {
	if p.at < n {
		grown := make([]byte, 2*len(p.b)+n)
		more := len(grown) - len(p.b)
		copy(grown[more+p.at:], p.b[p.at:])
		p.b, p.at = grown, more+p.at
	}
	p.at -= n
	return p.b[p.at : p.at+n]
}

// element writes an element whose content has this size. The content is text, or was written
// before.
func (p *packer) element(n *node, key []byte, place int, text []byte, size int) {
	tag := byte(n.kind) | byte(min(size, longSize))<<sizeShift //nolint:gosec // at most longSize
	total := 1 + len(text)
	placed := n.placed || isPlace(key, place)
	if !placed {
		total += lengthSize(len(key)) + len(key)
	}
	if size >= longSize {
		total += lengthSize(size)
	}
	r := p.room(total)
	at := 1
	if placed {
		r[0] = tag | placedBit
	} else {
		r[0] = tag
		at += putLength(r[at:], len(key))
		at += copy(r[at:], key)
	}
	if size >= longSize {
		at += putLength(r[at:], size)
	}
	copy(r[at:], text)
}

// content writes the content of a node, and returns its length.
func (p *packer) content(t *tape, n *node) int {
	if n.kind != Array || n.packed {
		return copy(p.room(int(n.val.n)), t.bytes(n.val))
	}
	end := len(p.b) - p.at
	place := int(n.count()) - 1
	for c := n.last(); c != 0; place-- {
		child := &t.nodes[c]
		var text []byte
		var size int
		if child.kind == Array && !child.packed {
			size = p.content(t, child)
		} else {
			text = t.bytes(child.val)
			size = len(text)
		}
		p.element(child, t.bytes(child.key), place, text, size)
		c = child.before
	}
	return len(p.b) - p.at - end
}

// isPlace reports whether a key is the decimal number of a place.
func isPlace(key []byte, place int) bool {
	i, ok := listIndex(key, place+1)
	return ok && i == place
}
