package values

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/phpform"
)

// ErrSyntax says that a document is not one JSON value, or nests too deep.
var ErrSyntax = errors.New("malformed JSON")

// maxDepth is how deep a JSON document may nest: as deep as for encoding/json.
const maxDepth = 10_000

// document is a JSON document as a flat list of its values, in the order of the text. The key of an
// object's member stands before its value.
type document struct {
	text  string
	nodes []element
}

// element is one value or key of a document.
type element struct {
	from, to int32 // its text; for strings, what is between the quotes
	next     int32 // the element after this one and all that it holds
	size     int32 // how many elements an array or object has
	kind     jsonKind
}

type jsonKind uint8

const (
	jsonNull jsonKind = iota
	jsonTrue
	jsonFalse
	jsonNumber
	jsonString
	jsonEscaped // a string with escapes
	jsonList
	jsonObject
)

// parse reads a document. The text belongs to the document.
func parse(text string) (*document, error) {
	if len(text) > math.MaxInt32 {
		return nil, ErrSyntax
	}
	// One of these is before each key and value but the first. Some are in strings, too, so
	// that a text made of them must not reserve memory by their number.
	most := 1 + strings.Count(text, ",") + strings.Count(text, ":") + strings.Count(text, "[") + strings.Count(text, "{")
	p := parser{document: &document{text: text, nodes: make([]element, 0, min(most, len(text)/8+16))}}
	p.space()
	if !p.value(0) {
		return nil, ErrSyntax
	}
	if p.space(); p.pos < len(text) {
		return nil, ErrSyntax
	}
	return p.document, nil
}

type parser struct {
	*document
	pos int
}

func (p *parser) space() {
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

// next skips white space, and the byte c if it comes next.
func (p *parser) next(c byte) bool {
	p.space()
	if p.pos < len(p.text) && p.text[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// add appends an element whose text goes from one position to the present one.
func (p *parser) add(kind jsonKind, from, to int) {
	p.nodes = append(p.nodes, element{
		from: int32(from), to: int32(to), next: int32(len(p.nodes) + 1), kind: kind, //nolint:gosec // checked by parse
	})
}

func (p *parser) value(depth int) bool {
	if p.pos >= len(p.text) {
		return false
	}
	from := p.pos
	switch p.text[p.pos] {
	case '{':
		return p.container(jsonObject, '}', depth)
	case '[':
		return p.container(jsonList, ']', depth)
	case '"':
		return p.string()
	case 't':
		return p.word(jsonTrue, "true")
	case 'f':
		return p.word(jsonFalse, "false")
	case 'n':
		return p.word(jsonNull, "null")
	default:
		n := phpform.NumberLen(p.text[p.pos:])
		p.pos += n
		p.add(jsonNumber, from, p.pos)
		return n > 0
	}
}

func (p *parser) word(kind jsonKind, word string) bool {
	if !strings.HasPrefix(p.text[p.pos:], word) {
		return false
	}
	p.pos += len(word)
	p.add(kind, p.pos-len(word), p.pos)
	return true
}

func (p *parser) container(kind jsonKind, end byte, depth int) bool {
	if depth >= maxDepth {
		return false
	}
	at, size := len(p.nodes), int32(0)
	p.add(kind, p.pos, p.pos)
	p.pos++
	if !p.next(end) {
		for {
			if kind == jsonObject {
				if p.space(); p.pos >= len(p.text) || p.text[p.pos] != '"' || !p.string() || !p.next(':') {
					return false
				}
			}
			p.space()
			if !p.value(depth + 1) {
				return false
			}
			size++
			if p.next(end) {
				break
			}
			if !p.next(',') {
				return false
			}
		}
	}
	e := &p.nodes[at]
	e.to, e.next, e.size = int32(p.pos), int32(len(p.nodes)), size //nolint:gosec // checked by parse
	return true
}

func (p *parser) string() bool {
	p.pos++
	from, kind := p.pos, jsonString
	for ; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; {
		case c == '"':
			p.add(kind, from, p.pos)
			p.pos++
			return true
		case c == '\\':
			kind = jsonEscaped
			p.pos++
			if !p.escape() {
				return false
			}
		case c < ' ':
			return false
		}
	}
	return false
}

// escape checks one escape sequence, and stops at its last byte.
func (p *parser) escape() bool {
	if p.pos >= len(p.text) {
		return false
	}
	switch p.text[p.pos] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		if _, ok := phpform.HexRune(p.text[p.pos+1:]); ok {
			p.pos += 4
			return true
		}
	}
	return false
}

// unescape undoes the escapes of a string that was checked.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r, _ := phpform.HexRune(s[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				r = pair(r, s[i+1:])
				if r != utf8.RuneError {
					i += len(`\u0000`)
				}
			}
			b.WriteRune(r)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// pair completes a surrogate pair. A lone half becomes the replacement character.
func pair(high rune, rest string) rune {
	if !strings.HasPrefix(rest, `\u`) {
		return utf8.RuneError
	}
	low, ok := phpform.HexRune(rest[2:])
	if !ok {
		return utf8.RuneError
	}
	return utf16.DecodeRune(high, low)
}

// stringOf returns the string, or the key of an object's member, at a position.
func (d *document) stringOf(at int32) string {
	e := &d.nodes[at]
	text := d.text[e.from:e.to]
	if e.kind == jsonEscaped {
		text = unescape(text)
	}
	if !utf8.ValidString(text) {
		text = string([]rune(text)) // each byte that is no UTF-8 becomes U+FFFD
	}
	return text
}

// tree returns what encoding/json makes of an element in an any: numbers are float64.
func (d *document) tree(at int32) (any, bool) {
	e := &d.nodes[at]
	switch e.kind {
	case jsonTrue, jsonFalse:
		return e.kind == jsonTrue, true
	case jsonNumber:
		f, err := strconv.ParseFloat(d.text[e.from:e.to], 64)
		return f, err == nil
	case jsonString, jsonEscaped:
		return strings.Clone(d.stringOf(at)), true
	case jsonList:
		list := make([]any, 0, e.size)
		fits := true
		for i := at + 1; i < e.next; i = d.nodes[i].next {
			item, ok := d.tree(i)
			list = append(list, item)
			fits = fits && ok
		}
		return list, fits
	case jsonObject:
		m := make(map[string]any, e.size)
		fits := true
		for i := at + 1; i < e.next; i = d.nodes[i+1].next {
			member, ok := d.tree(i + 1)
			m[strings.Clone(d.stringOf(i))] = member
			fits = fits && ok
		}
		return m, fits
	case jsonNull:
	}
	return nil, true
}
