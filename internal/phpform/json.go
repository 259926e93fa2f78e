package phpform

import (
	"bytes"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// DecodeJSON reads one JSON value. Numbers keep their text, so no digit is lost; objects and arrays
// both become an Array, objects in the order of arrival. Of equal keys in one object the last value
// stands in the place of the first, as in PHP's json_decode. Lone surrogates become U+FFFD; bytes
// that are not UTF-8 stay as they are, as in a form. The tree is packed, as that of [Decode], and
// the caller keeps doc.
//
// The error matches [ErrSyntax], also where anything follows the value, or is a [LimitError].
func DecodeJSON(doc []byte, lim Limits) (Value, error) {
	lim = lim.orDefaults()
	if len(doc) > lim.Bytes {
		return Value{}, &LimitError{What: limitBytes, Limit: lim.Bytes}
	}
	t := tape{lim: lim, doc: doc}
	switch {
	case len(doc) <= smallBody:
		return decodeSmallJSON(t)
	case len(doc) <= largeBody:
		return decodeLargeJSON(t)
	default:
		return decodeJSON(t)
	}
}

func decodeSmallJSON(t tape) (Value, error) {
	var m smallMemory
	t.nodes, t.text, t.out = m.nodes[:0], m.text[:0], m.out[:0]
	return decodeJSON(t)
}

func decodeLargeJSON(t tape) (Value, error) {
	var m largeMemory
	t.nodes, t.text, t.out = m.nodes[:0], m.text[:0], m.out[:0]
	return decodeJSON(t)
}

func decodeJSON(t tape) (Value, error) {
	p := jsonDecoder{tape: t}
	p.start(1 + bytes.Count(t.doc, []byte(",")))
	p.space()
	if err := p.value(0, 0); err != nil {
		return Value{}, err
	}
	if p.space(); p.pos < len(p.doc) {
		return Value{}, p.fail("more after the value")
	}
	return p.pack(), nil
}

type jsonDecoder struct {
	tape
	pos int
}

func (p *jsonDecoder) fail(reason string) error { return &SyntaxError{Offset: p.pos, reason: reason} }

func (p *jsonDecoder) space() {
	for p.pos < len(p.doc) {
		switch p.doc[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

// next skips white space, and the byte c where it comes next.
func (p *jsonDecoder) next(c byte) bool {
	p.space()
	if p.pos < len(p.doc) && p.doc[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// value reads a value into a node.
func (p *jsonDecoder) value(into int32, depth int) error {
	if p.pos == len(p.doc) {
		return p.fail("it ends where a value should be")
	}
	switch c := p.doc[p.pos]; c {
	case '{', '[':
		if depth > p.lim.Depth {
			return &LimitError{What: limitDepth, Limit: p.lim.Depth}
		}
		p.pos++
		p.makeArray(into)
		if c == '{' {
			return p.object(into, depth)
		}
		return p.list(into, depth)
	case '"':
		s, err := p.string()
		p.setScalar(into, String, s)
		return err
	case 't':
		p.setScalar(into, Bool, p.add("1"))
		return p.word("true")
	case 'f':
		p.setScalar(into, Bool, span{})
		return p.word("false")
	case 'n':
		p.setScalar(into, Null, span{})
		return p.word("null")
	default:
		n := NumberLen(p.doc[p.pos:])
		if n == 0 {
			return p.fail("no value starts so")
		}
		p.setScalar(into, Number, p.part(p.pos, p.pos+n))
		p.pos += n
		return nil
	}
}

func (p *jsonDecoder) word(w string) error {
	if !bytes.HasPrefix(p.doc[p.pos:], []byte(w)) {
		return p.fail("no value starts so")
	}
	p.pos += len(w)
	return nil
}

func (p *jsonDecoder) object(into int32, depth int) error {
	if p.next('}') {
		return nil
	}
	for {
		p.space()
		key, err := p.string()
		if err != nil {
			return err
		}
		if !p.next(':') {
			return p.fail("a colon should follow the key")
		}
		p.space()
		child, err := p.child(into, key)
		if err != nil {
			return err
		}
		if err := p.value(child, depth+1); err != nil {
			return err
		}
		if p.next('}') {
			return nil
		}
		if !p.next(',') {
			return p.fail("a comma or the end of the object should follow")
		}
	}
}

func (p *jsonDecoder) list(into int32, depth int) error {
	if p.next(']') {
		return nil
	}
	for {
		p.space()
		child, err := p.insert(into, span{}, Null, span{})
		if err != nil {
			return err
		}
		p.nodes[child].placed = true
		if err := p.value(child, depth+1); err != nil {
			return err
		}
		if p.next(']') {
			return nil
		}
		if !p.next(',') {
			return p.fail("a comma or the end of the array should follow")
		}
	}
}

func (p *jsonDecoder) string() (span, error) {
	if p.pos == len(p.doc) || p.doc[p.pos] != '"' {
		return span{}, p.fail("a string should be here")
	}
	p.pos++
	start := p.pos
	for ; p.pos < len(p.doc); p.pos++ {
		switch c := p.doc[p.pos]; {
		case c == '"':
			s := p.part(start, p.pos)
			p.pos++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			return span{}, p.fail("a control character in a string")
		}
	}
	return span{}, p.fail("it ends inside a string")
}

// escaped reads on from the first backslash of the string that begins at start.
func (p *jsonDecoder) escaped(start int) (span, error) {
	from := len(p.text)
	for p.pos < len(p.doc) {
		switch c := p.doc[p.pos]; {
		case c == '"':
			p.add(string(p.doc[start:p.pos]))
			p.pos++
			return p.made(from), nil
		case c == '\\':
			p.add(string(p.doc[start:p.pos]))
			if err := p.escape(); err != nil {
				return span{}, err
			}
			start = p.pos
		case c < ' ':
			return span{}, p.fail("a control character in a string")
		default:
			p.pos++
		}
	}
	return span{}, p.fail("it ends inside a string")
}

// escape reads one escape sequence.
func (p *jsonDecoder) escape() error {
	p.pos++
	if p.pos == len(p.doc) {
		return p.fail("it ends inside a string")
	}
	c := p.doc[p.pos]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, ok := HexRune(p.doc[p.pos+1:])
		if !ok {
			return p.fail("four hexadecimal digits should follow")
		}
		p.pos += 5
		if utf16.IsSurrogate(r) {
			r = p.lowSurrogate(r)
		}
		p.extend(utf8.EncodeRune(p.room(utf8.UTFMax), r))
		return nil
	default:
		return p.fail("an unknown escape")
	}
	p.pos++
	p.room(1)[0] = c
	p.extend(1)
	return nil
}

// lowSurrogate completes a surrogate pair. A lone half becomes the replacement character.
func (p *jsonDecoder) lowSurrogate(high rune) rune {
	rest := p.doc[p.pos:]
	if !bytes.HasPrefix(rest, []byte(`\u`)) {
		return unicode.ReplacementChar
	}
	low, ok := HexRune(rest[2:])
	if !ok {
		return unicode.ReplacementChar
	}
	r := utf16.DecodeRune(high, low)
	if r != unicode.ReplacementChar {
		p.pos += 6
	}
	return r
}

// HexRune reads the four hexadecimal digits at the start of s, as they follow \u in JSON.
func HexRune[T string | []byte](s T) (rune, bool) {
	const digits = 4
	if len(s) < digits {
		return 0, false
	}
	var r rune
	for i := range digits {
		digit, ok := unhex(s[i])
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(digit)
	}
	return r, true
}

// IsBlank reports whether a JSON value is one of the ways in which PHP writes "nothing here": null,
// false, "", [] and {}. Of lists and objects it checks the brackets only: doc is valid JSON.
func IsBlank(doc []byte) bool {
	doc = bytes.TrimSpace(doc)
	switch string(doc) {
	case "null", "false", `""`:
		return true
	}
	last := len(doc) - 1
	return last > 0 && (doc[0] == '[' && doc[last] == ']' || doc[0] == '{' && doc[last] == '}') &&
		len(bytes.TrimSpace(doc[1:last])) == 0
}
