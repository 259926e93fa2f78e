package phpform

import (
	"bytes"

	"github.com/b24events/b24events/internal/jsonlex"
)

// DecodeJSON reads one JSON value. Numbers keep their text, so no digit is lost. Objects and arrays
// both become an Array, objects in the order of arrival. If an object has equal keys, the last
// value takes the place of the first, as in PHP's json_decode. Lone surrogates become U+FFFD. Bytes
// that are not UTF-8 stay as they are, as in a form. The tree is packed, like that of [Decode], and
// does not refer to doc.
//
// The error is a [LimitError], or matches [ErrSyntax], also if anything follows the value.
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
	p := jsonDecoder{tape: t, in: jsonlex.Scanner[[]byte]{Doc: t.doc}}
	p.start(1 + bytes.Count(t.doc, []byte(",")))
	p.in.SkipSpace()
	if err := p.value(0, 0); err != nil {
		return Value{}, err
	}
	if p.in.SkipSpace(); p.in.Pos < len(p.doc) {
		return Value{}, p.fail("more after the value")
	}
	return p.pack(), nil
}

type jsonDecoder struct {
	tape
	in jsonlex.Scanner[[]byte] // of doc
}

func (p *jsonDecoder) fail(reason string) error {
	return &SyntaxError{Offset: p.in.Pos, reason: reason}
}

// value reads a value into a node.
func (p *jsonDecoder) value(into int32, depth int) error {
	if p.in.Pos == len(p.doc) {
		return p.fail("a value should be here")
	}
	switch c := p.doc[p.in.Pos]; c {
	case '{', '[':
		if depth > p.lim.Depth {
			return &LimitError{What: limitDepth, Limit: p.lim.Depth}
		}
		p.in.Pos++
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
		from := p.in.Pos
		if !p.in.SkipNumber() {
			return p.fail(badStart)
		}
		p.setScalar(into, Number, p.part(from, p.in.Pos))
		return nil
	}
}

// badStart is the reason why a document is malformed if a value begins with an unknown byte.
const badStart = "no value begins like this"

func (p *jsonDecoder) word(w string) error {
	if !p.in.SkipWord(w) {
		return p.fail(badStart)
	}
	return nil
}

func (p *jsonDecoder) object(into int32, depth int) error {
	if p.in.Skip('}') {
		return nil
	}
	for {
		p.in.SkipSpace()
		key, err := p.string()
		if err != nil {
			return err
		}
		if !p.in.Skip(':') {
			return p.fail("a colon should follow the key")
		}
		p.in.SkipSpace()
		child, err := p.child(into, key)
		if err != nil {
			return err
		}
		if err := p.value(child, depth+1); err != nil {
			return err
		}
		if p.in.Skip('}') {
			return nil
		}
		if !p.in.Skip(',') {
			return p.fail("a comma or the end of the object should follow")
		}
	}
}

func (p *jsonDecoder) list(into int32, depth int) error {
	if p.in.Skip(']') {
		return nil
	}
	for {
		p.in.SkipSpace()
		child, err := p.insert(into, span{}, Null, span{})
		if err != nil {
			return err
		}
		p.nodes[child].placed = true
		if err := p.value(child, depth+1); err != nil {
			return err
		}
		if p.in.Skip(']') {
			return nil
		}
		if !p.in.Skip(',') {
			return p.fail("a comma or the end of the array should follow")
		}
	}
}

func (p *jsonDecoder) string() (span, error) {
	if p.in.Pos == len(p.doc) || p.doc[p.in.Pos] != '"' {
		return span{}, p.fail("a string should be here")
	}
	s, wrong := p.in.SkipString()
	switch {
	case wrong != "":
		return span{}, p.fail(wrong)
	case !s.Escaped():
		return p.part(s.From, s.To), nil
	}
	from := len(p.text)
	p.extend(jsonlex.Unescape(p.room(s.Unescaped), p.doc[s.From:s.To]))
	return p.made(from), nil
}

// IsBlank reports whether a JSON value is one of the ways in which PHP writes "nothing here": null,
// false, "", [] and {}. doc must be valid JSON: IsBlank checks only the brackets of lists and
// objects.
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
