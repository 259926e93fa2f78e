package phpform

import (
	"bytes"
	"math"

	"github.com/b24events/b24events/internal/jsonlex"
)

// Decode reads an application/x-www-form-urlencoded body into an Array, as PHP 8 fills $_POST; the
// package documentation lists the rules. All elements are Strings and Arrays, and hold the bytes
// that arrived, UTF-8 or not. For PHP, nothing is malformed, so the only error is a [LimitError],
// if PHP would silently leave out data. The Value is the empty array then.
//
// The tree is packed: it holds one text, which is a copy. The text has at most about one and a half
// times the length of the body.
func Decode[T string | []byte](body T, lim Limits) (Value, error) {
	lim = lim.orDefaults()
	if len(body) > lim.Bytes {
		return Map(), &LimitError{What: limitBytes, Limit: lim.Bytes}
	}
	switch doc := []byte(body); {
	case len(body) <= smallBody:
		return decodeSmall(doc, lim)
	case len(body) <= largeBody:
		return decodeLarge(doc, lim)
	default:
		d := formDecoder{tape: tape{lim: lim, doc: doc}}
		return d.decode()
	}
}

func decodeSmall(body []byte, lim Limits) (Value, error) {
	var m smallMemory
	d := formDecoder{tape: tape{lim: lim, doc: body, nodes: m.nodes[:0], text: m.text[:0], out: m.out[:0]}}
	return d.decode()
}

func decodeLarge(body []byte, lim Limits) (Value, error) {
	var m largeMemory
	d := formDecoder{tape: tape{lim: lim, doc: body, nodes: m.nodes[:0], text: m.text[:0], out: m.out[:0]}}
	return d.decode()
}

func (d *formDecoder) decode() (Value, error) {
	body := d.doc
	d.start(1 + bytes.Count(body, []byte("&")))
	d.pluses = bytes.IndexByte(body, '+') >= 0
	for from := 0; from < len(body); {
		end := len(body)
		if n := bytes.IndexByte(body[from:], '&'); n >= 0 {
			end = from + n
		}
		if end > from {
			if err := d.pair(from, end); err != nil {
				return Map(), err
			}
		}
		from = end + 1
	}
	return d.pack(), nil
}

type formDecoder struct {
	tape
	// prefix is the name of the previous pair up to its last key, with the bracket before that key.
	// Its n is 0 if there is none. Most pairs have siblings: if a name begins with prefix, it needs no
	// unescaping and no search for its array.
	prefix span
	parent int32  // the array that prefix leads to
	known  keySet // contains the keys of parent, and perhaps others
	pluses bool   // the body has a plus sign
}

// keySet is a set that may contain more keys than were added: a Bloom filter with one hash, good
// for some dozens of keys.
type keySet [8]uint64

// add adds a key, and reports whether it is certainly new.
func (s *keySet) add(key []byte) bool {
	n := len(key)
	h := uint(key[n-1]) + uint(key[max(n-2, 0)])*37 + uint(key[0])*5 + uint(n)*11
	word, bit := &s[h>>6%uint(len(s))], uint64(1)<<(h&63)
	isNew := *word&bit == 0
	*word |= bit
	return isNew
}

// begin sets s to a superset of the keys of an array with n elements.
func (s *keySet) begin(n int32) {
	all := uint64(0)
	if n > 0 {
		all = math.MaxUint64
	}
	for i := range s {
		s[i] = all
	}
}

// pair stores the pair that is doc[from:end].
func (d *formDecoder) pair(from, end int) error {
	pair := d.doc[from:end]
	if at := int(d.prefix.n); at > 0 && bytes.HasPrefix(pair, d.bytes(d.prefix)) {
		n := run(pair[at:], plainInner)
		closing := bracketSize(pair[at+n:], ']')
		if equals := at + n + closing; n > 0 && closing > 0 && equals < len(pair) && pair[equals] == '=' {
			return d.storeSibling(pair[at:at+n], d.part(from+at, from+at+n), d.part(from+equals+1, end))
		}
	}
	d.prefix = span{}
	name, value := pair, span{}
	if n := bytes.IndexByte(pair, '='); n >= 0 {
		name, value = pair[:n], d.part(from+n+1, end)
	}
	plain, err := d.plainPair(from, name, value)
	if !plain && err == nil {
		err = d.oddPair(name, value)
	}
	return err
}

// store stores an escaped value.
func (d *formDecoder) store(array int32, key, value span) error {
	child, err := d.child(array, key)
	if err == nil {
		d.setScalar(child, String, d.unescape(value))
	}
	return err
}

// storeSibling stores an escaped value in the array that prefix leads to.
func (d *formDecoder) storeSibling(text []byte, key, value span) error {
	if !d.known.add(text) {
		return d.store(d.parent, key, value)
	}
	_, err := d.insertKeyed(d.parent, key, String, d.unescape(value))
	return err
}

// plainPair stores a pair whose name has no escapes except those of brackets, no empty index, and
// nothing else that needs a closer look. It returns false for every other pair. It may have made
// some of the arrays by then, which the pair needs anyway.
func (d *formDecoder) plainPair(from int, name []byte, value span) (plain bool, err error) {
	at := run(name, plainOuter)
	if at == 0 {
		return false, nil
	}
	array, key, last := int32(0), d.part(from, from+at), 0
	for level := 1; at < len(name); level++ {
		open := bracketSize(name[at:], '[')
		if open == 0 {
			return false, nil
		}
		if level > d.lim.Depth {
			return false, &LimitError{What: limitDepth, Limit: d.lim.Depth}
		}
		last = at + open
		n := run(name[last:], plainInner)
		closing := bracketSize(name[last+n:], ']')
		if n == 0 || closing == 0 {
			return false, nil
		}
		if array, err = d.descend(array, key); err != nil {
			return false, err
		}
		key = d.part(from+last, from+last+n)
		at = last + n + closing
	}
	if last == 0 {
		return true, d.store(array, key, value)
	}
	d.prefix, d.parent = d.part(from, from+last), array
	d.known.begin(d.nodes[array].count())
	return true, d.storeSibling(d.bytes(key), key, value)
}

// oddPair stores a pair with any name.
func (d *formDecoder) oddPair(rawName []byte, value span) error {
	at := len(d.text)
	d.addUnescaped(rawName)
	name := d.text[at:]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i] // for PHP, names are C strings
	}
	spaces := len(name) - len(bytes.TrimLeft(name, " "))
	name = name[spaces:]
	at += spaces
	part := func(from, end int) span {
		return span{^int32(at + from), int32(end - from)} //nolint:gosec // bounded by maxText
	}
	open := bytes.IndexByte(name, '[')
	if len(name) == 0 || open == 0 {
		return nil
	}
	if open < 0 {
		mangle(name)
		return d.store(0, part(0, len(name)), value)
	}
	mangle(name[:open])
	array, key := int32(0), part(0, open)
	for level := 1; open < len(name) && name[open] == '['; level++ {
		if level > d.lim.Depth {
			return &LimitError{What: limitDepth, Limit: d.lim.Depth}
		}
		inner, size, ok := bracket(name[open:])
		if !ok {
			if level == 1 {
				mangle(name) // it is not an index
				key = part(0, len(name))
			}
			break
		}
		var err error
		if array, err = d.descend(array, key); err != nil {
			return err
		}
		if key = part(open+1, open+1+inner); inner == 0 {
			if key, ok = d.nextKey(array); !ok {
				return nil // nothing can be appended, so PHP drops the pair
			}
		}
		open += size
	}
	return d.store(array, key, value)
}

// bracket reads the index at the start of s, which begins with an opening bracket. It returns the
// length of the key and of the whole index. The empty index, which may hold one white space,
// appends. ok is false if the bracket is not closed.
func bracket(s []byte) (key, size int, ok bool) {
	from := 1
	if len(s) > 1 && isSpace(s[1]) {
		from = 2
	}
	end := bytes.IndexByte(s[from:], ']')
	switch {
	case end < 0:
		return 0, 0, false
	case end == 0:
		return 0, from + 1, true
	default:
		return from + end - 1, from + end + 1, true
	}
}

// mangle replaces the characters that PHP does not allow in the name of a variable.
func mangle(name []byte) {
	for i, c := range name {
		if c == ' ' || c == '.' || c == '[' {
			name[i] = '_'
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || ('\t' <= c && c <= '\r') }

// unescape decodes the percent escapes of a part of the body.
func (d *formDecoder) unescape(s span) span {
	raw := d.bytes(s)
	if len(raw) == 0 || bytes.IndexByte(raw, '%') < 0 && (!d.pluses || bytes.IndexByte(raw, '+') < 0) {
		return s
	}
	at := len(d.text)
	d.addUnescaped(raw)
	return d.made(at)
}

// addUnescaped adds s to the text without its percent escapes. It keeps broken ones.
func (d *formDecoder) addUnescaped(s []byte) {
	to := d.room(len(s))
	n := 0
	for len(s) > 2 && n < len(to) {
		for len(s) >= 6 && n+1 < len(to) { // two at once: letters that are not ASCII have two or more
			p := (*[6]byte)(s)
			a, b, c, d := hexDigits[p[1]], hexDigits[p[2]], hexDigits[p[4]], hexDigits[p[5]]
			if p[0] != '%' || p[3] != '%' || a|b|c|d > 15 {
				break
			}
			to[n], to[n+1] = a<<4|b, c<<4|d
			n += 2
			s = s[6:]
		}
		if len(s) < 3 {
			break
		}
		c := s[0]
		if c == '%' {
			if high, low := hexDigits[s[1]], hexDigits[s[2]]; high|low < 16 {
				to[n] = high<<4 | low
				n++
				s = s[3:]
				continue
			}
		} else if c == '+' {
			c = ' '
		}
		to[n] = c
		n++
		s = s[1:]
	}
	for _, c := range s { // too short for an escape
		if c == '+' {
			c = ' '
		}
		to[n] = c
		n++
	}
	d.extend(n)
}

// class says in which parts of a name a byte stands for itself.
type class uint8

const (
	plainOuter class = 1 << iota // before the first bracket
	plainInner                   // between brackets
)

// run returns how many bytes at the start of s are plain.
func run(s []byte, c class) int {
	for i, b := range s {
		if classes[b]&c == 0 {
			return i
		}
	}
	return len(s)
}

var (
	classes   = classTable()
	hexDigits = hexTable() // above 15 for other bytes
)

func classTable() (t [256]class) {
	for c := range t {
		switch c {
		case 0, '\t', '\n', '\v', '\f', '\r', ' ', '+', '%', '[', ']', '=':
		case '.':
			t[c] = plainInner
		default:
			t[c] = plainInner | plainOuter
		}
	}
	return t
}

func hexTable() (t [256]byte) {
	for c := range t {
		n, ok := jsonlex.Unhex(byte(c))
		if t[c] = n; !ok {
			t[c] = 0xff
		}
	}
	return t
}

// bracketSize returns the length of the bracket, which may be escaped, at the start of s, or 0 if
// there is none.
func bracketSize(s []byte, bracket byte) int {
	switch {
	case len(s) > 0 && s[0] == bracket:
		return 1
	case len(s) > 2 && s[0] == '%' && s[1] == '5' && s[2]&^0x20 == 'B'+(bracket-'[')&^1:
		return 3
	default:
		return 0
	}
}
