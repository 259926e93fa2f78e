package values

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/jsonlex"
)

// ErrSyntax means that a document is not one JSON value, or nests too deep.
var ErrSyntax = errors.New("malformed JSON")

// maxDepth is how deep a JSON document may nest: as deep as for encoding/json.
const maxDepth = 10_000

// document is a JSON document as a flat list of its values, in the order of the text. The key of a
// member precedes its value.
type document struct {
	text  string
	nodes []element
}

// element is one value or key of a document.
type element struct {
	from, to int32 // its text; for strings, what is between the quotes
	next     int32 // the element after this one and everything in it
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
	// One of these is before each key and value, except for the first. Strings may have many of them,
	// so the length of the text bounds the reserved memory too.
	most := 1 + strings.Count(text, ",") + strings.Count(text, ":") + strings.Count(text, "[") + strings.Count(text, "{")
	d := &document{text: text, nodes: make([]element, 0, min(most, len(text)/8+16))}
	p := parser{document: d, in: jsonlex.Scanner[string]{Doc: text}}
	p.in.SkipSpace()
	if !p.value(0) {
		return nil, ErrSyntax
	}
	if p.in.SkipSpace(); p.in.Pos < len(text) {
		return nil, ErrSyntax
	}
	return d, nil
}

type parser struct {
	*document
	in jsonlex.Scanner[string] // of the text
}

// add appends an element whose text goes from one position to another.
func (p *parser) add(kind jsonKind, from, to int) {
	p.nodes = append(p.nodes, element{
		from: int32(from), to: int32(to), next: int32(len(p.nodes) + 1), kind: kind, //nolint:gosec // checked by parse
	})
}

func (p *parser) value(depth int) bool {
	if p.in.Pos >= len(p.text) {
		return false
	}
	switch p.text[p.in.Pos] {
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
		from := p.in.Pos
		ok := p.in.SkipNumber()
		p.add(jsonNumber, from, p.in.Pos)
		return ok
	}
}

func (p *parser) word(kind jsonKind, word string) bool {
	from := p.in.Pos
	ok := p.in.SkipWord(word)
	p.add(kind, from, p.in.Pos)
	return ok
}

func (p *parser) container(kind jsonKind, end byte, depth int) bool {
	if depth >= maxDepth {
		return false
	}
	at, size := len(p.nodes), int32(0)
	p.add(kind, p.in.Pos, p.in.Pos)
	p.in.Pos++
	if !p.in.Skip(end) {
		for {
			if kind == jsonObject {
				p.in.SkipSpace()
				if p.in.Pos >= len(p.text) || p.text[p.in.Pos] != '"' || !p.string() || !p.in.Skip(':') {
					return false
				}
			}
			p.in.SkipSpace()
			if !p.value(depth + 1) {
				return false
			}
			size++
			if p.in.Skip(end) {
				break
			}
			if !p.in.Skip(',') {
				return false
			}
		}
	}
	e := &p.nodes[at]
	e.to, e.next, e.size = int32(p.in.Pos), int32(len(p.nodes)), size //nolint:gosec // checked by parse
	return true
}

func (p *parser) string() bool {
	s, wrong := p.in.SkipString()
	if wrong != "" {
		return false
	}
	kind := jsonString
	if s.Escaped() {
		kind = jsonEscaped
	}
	p.add(kind, s.From, s.To)
	return true
}

// unescape returns a string without its escapes. For a short string, it allocates only the result.
func unescape(s string) string {
	var short [256]byte
	b := short[:]
	if len(s) > len(short) {
		b = make([]byte, len(s))
	}
	return string(b[:jsonlex.Unescape(b, s)])
}

// stringOf returns the string, or the key of an object's member, at a position.
func (d *document) stringOf(at int32) string {
	e := &d.nodes[at]
	text := d.text[e.from:e.to]
	if e.kind == jsonEscaped {
		text = unescape(text)
	}
	if !utf8.ValidString(text) {
		text = string([]rune(text)) // each byte that is not UTF-8 becomes U+FFFD
	}
	return text
}

// tree returns an element as encoding/json decodes it into an any: numbers are float64. It returns
// false if a number is too large.
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
