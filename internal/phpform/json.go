package phpform

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// DecodeJSON reads one JSON value. Numbers keep their text, so no digit is lost; objects and arrays both become an Array, objects
// in the order of arrival. Of equal keys in one object the last value stands in the place of the first, as in PHP's
// json_decode. Lone surrogates and runs of bytes that are not UTF-8 become U+FFFD. The caller keeps doc; the strings of the tree
// share memory with one copy of it.
//
// The error matches [ErrSyntax], also where anything follows the value, or is a [LimitError].
func DecodeJSON(doc []byte, lim Limits) (Value, error) {
	p := jsonDecoder{builder: builder{lim: lim.orDefaults()}}
	if len(doc) > p.lim.Bytes {
		return Value{}, &LimitError{What: limitBytes, Limit: p.lim.Bytes}
	}
	p.doc = strings.ToValidUTF8(string(doc), "\uFFFD")
	p.space()
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	if p.space(); p.pos < len(p.doc) {
		return Value{}, p.fail("more after the value")
	}
	p.finish()
	return v, nil
}

type jsonDecoder struct {
	builder
	doc string
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

func (p *jsonDecoder) value(depth int) (Value, error) {
	if p.pos == len(p.doc) {
		return Value{}, p.fail("it ends where a value should be")
	}
	switch c := p.doc[p.pos]; c {
	case '{', '[':
		if depth > p.lim.Depth {
			return Value{}, &LimitError{What: limitDepth, Limit: p.lim.Depth}
		}
		p.pos++
		if c == '{' {
			return p.object(depth)
		}
		return p.list(depth)
	case '"':
		s, err := p.string()
		return Text(s), err
	case 't':
		return Boolean(true), p.word("true")
	case 'f':
		return Boolean(false), p.word("false")
	case 'n':
		return Value{}, p.word("null")
	default:
		n := numberLen(p.doc[p.pos:])
		if n == 0 {
			return Value{}, p.fail("no value starts so")
		}
		p.pos += n
		return NumberText(p.doc[p.pos-n : p.pos]), nil
	}
}

func (p *jsonDecoder) word(w string) error {
	if !strings.HasPrefix(p.doc[p.pos:], w) {
		return p.fail("no value starts so")
	}
	p.pos += len(w)
	return nil
}

func (p *jsonDecoder) object(depth int) (Value, error) {
	if p.next('}') {
		return Map(), nil
	}
	a := p.newArray()
	for {
		p.space()
		key, err := p.string()
		if err != nil {
			return Value{}, err
		}
		if !p.next(':') {
			return Value{}, p.fail("a colon should follow the key")
		}
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		if err := p.set(a, key, v); err != nil {
			return Value{}, err
		}
		if p.next('}') {
			return Value{kind: Array, arr: a}, nil
		}
		if !p.next(',') {
			return Value{}, p.fail("a comma or the end of the object should follow")
		}
	}
}

func (p *jsonDecoder) list(depth int) (Value, error) {
	if p.next(']') {
		return Map(), nil
	}
	var entries []Entry
	for {
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		if p.keys++; p.keys > p.lim.Keys {
			return Value{}, &LimitError{What: limitKeys, Limit: p.lim.Keys}
		}
		entries = append(entries, Entry{Key: strconv.Itoa(len(entries)), Value: v})
		if p.next(']') {
			return Map(entries...), nil
		}
		if !p.next(',') {
			return Value{}, p.fail("a comma or the end of the array should follow")
		}
	}
}

func (p *jsonDecoder) string() (string, error) {
	if p.pos == len(p.doc) || p.doc[p.pos] != '"' {
		return "", p.fail("a string should be here")
	}
	p.pos++
	start := p.pos
	for ; p.pos < len(p.doc); p.pos++ {
		switch c := p.doc[p.pos]; {
		case c == '"':
			s := p.doc[start:p.pos]
			p.pos++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			return "", p.fail("a control character in a string")
		}
	}
	return "", p.fail("it ends inside a string")
}

// escaped reads on from the first backslash of the string that begins at start.
func (p *jsonDecoder) escaped(start int) (string, error) {
	p.reserve(len(p.doc) - start)
	from := p.text.Len()
	for p.pos < len(p.doc) {
		switch c := p.doc[p.pos]; {
		case c == '"':
			p.text.WriteString(p.doc[start:p.pos])
			p.pos++
			return p.text.String()[from:], nil
		case c == '\\':
			p.text.WriteString(p.doc[start:p.pos])
			if err := p.escape(); err != nil {
				return "", err
			}
			start = p.pos
		case c < ' ':
			return "", p.fail("a control character in a string")
		default:
			p.pos++
		}
	}
	return "", p.fail("it ends inside a string")
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
		r, ok := hexRune(p.doc[p.pos+1:])
		if !ok {
			return p.fail("four hexadecimal digits should follow")
		}
		p.pos += 5
		if utf16.IsSurrogate(r) {
			r = p.lowSurrogate(r)
		}
		p.text.WriteRune(r)
		return nil
	default:
		return p.fail("an unknown escape")
	}
	p.pos++
	p.text.WriteByte(c)
	return nil
}

// lowSurrogate completes a surrogate pair. A lone half becomes the replacement character.
func (p *jsonDecoder) lowSurrogate(high rune) rune {
	rest := p.doc[p.pos:]
	if !strings.HasPrefix(rest, `\u`) {
		return unicode.ReplacementChar
	}
	low, ok := hexRune(rest[2:])
	if !ok {
		return unicode.ReplacementChar
	}
	r := utf16.DecodeRune(high, low)
	if r != unicode.ReplacementChar {
		p.pos += 6
	}
	return r
}

func hexRune(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[:4]) {
		digit, ok := unhex(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(digit)
	}
	return r, true
}

// isNumber reports whether s is a JSON number.
func isNumber(s string) bool { return s != "" && numberLen(s) == len(s) }

// numberLen returns the length of the JSON number at the start of s, 0 where there is none.
func numberLen(s string) int {
	i := 0
	digits := func() bool {
		from := i
		for i < len(s) && '0' <= s[i] && s[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return 0
	}
	if i < len(s) && s[i] == '.' {
		if i++; !digits() {
			return 0
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		if i++; i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	return i
}
