package phpform

import "strings"

// A packed array is the text of its elements, one after the other. An element is
//
//	tag      bits 0-2 the kind, bit 3 if the key is the element's place (0, 1, 2 …),
//	         bits 4-7 the length of the content, or 15 if the length follows
//	key      its length and its text, unless the key is the place
//	length   of the content, if the tag does not hold it
//	content  the text of a scalar, or the elements of an array
//
// Lengths that follow are in groups of seven bits, the lowest first, with the top bit set in all
// but the last one. An element takes one to five bytes besides its text, so a tree is hardly larger
// than the body that it was made from.
const (
	kindBits  = 7
	placedBit = 1 << 3
	sizeShift = 4
	longSize  = 15
)

// element is one element of a packed array.
type element struct {
	key    string
	value  Value
	placed bool // the key is the place, and is not written
}

// elements returns the packed elements of v, or "" for a scalar and for an array that was built.
func (v Value) elements() string {
	if v.kind != Array {
		return ""
	}
	return v.text
}

// cut reads the first element of s, which is not empty.
func cut(s string) (e element, rest string) {
	tag := s[0]
	at := 1
	if tag&placedBit == 0 {
		n := int(s[1])
		if at = 2; n >= 0x80 {
			n, at = length(s, 1)
		}
		e.key = s[at : at+n]
		at += n
	} else {
		e.placed = true
	}
	n := int(tag >> sizeShift)
	if n == longSize {
		n, at = length(s, at)
	}
	e.value = Value{kind: Kind(tag & kindBits), text: s[at : at+n]}
	return e, s[at+n:]
}

// length reads a length at s[at]. It returns the length and the position after it.
func length(s string, at int) (n, end int) {
	for shift := 0; ; shift += 7 {
		c := s[at]
		at++
		n |= int(c&0x7f) << shift
		if c < 0x80 {
			return n, at
		}
	}
}

// putLength writes a length, and returns its size in bytes.
func putLength(b []byte, n int) int {
	at := 0
	for ; n >= 0x80; at++ {
		b[at] = byte(n) | 0x80
		n >>= 7
	}
	b[at] = byte(n) //nolint:gosec // below 0x80
	return at + 1
}

// lengthSize returns how many bytes putLength writes.
func lengthSize(n int) int {
	size := 1
	for n >= 0x80 {
		n >>= 7
		size++
	}
	return size
}

// Pack returns a copy of v in one new text, which shares no memory with v.
func (v Value) Pack() Value {
	if v.kind != Array || v.arr == nil {
		return Value{kind: v.kind, text: strings.Clone(v.text)}
	}
	t := tape{lim: unlimited}
	t.start(0)
	t.copyInto(0, v)
	return t.pack()
}

// Packed returns the elements of a packed array, for a struct that has no room for a [Value]. It
// returns "" for the empty array, for scalars, and for an array that was built and not packed.
func (v Value) Packed() string { return v.elements() }

// Unpacked returns the array whose elements Packed returned. The text must not be any other.
func Unpacked(elements string) Value { return Value{kind: Array, text: elements} }
