package values

import (
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// Kinds of a node, as in package phpform.
const (
	kindNull   = phpform.Null
	kindString = phpform.String
	kindNumber = phpform.Number
	kindBool   = phpform.Bool
	kindArray  = phpform.Array
)

// node is one value of a form, of an offline record or of a JSON document.
type node struct {
	v   phpform.Value
	doc *document // if set, the node is the element at of this document, and v is not used
	at  int32
}

func (n node) element() *element { return &n.doc.nodes[n.at] }

func (n node) kind() phpform.Kind {
	if n.doc == nil {
		return n.v.Kind()
	}
	switch n.element().kind {
	case jsonTrue, jsonFalse:
		return kindBool
	case jsonNumber:
		return kindNumber
	case jsonString, jsonEscaped:
		return kindString
	case jsonList, jsonObject:
		return kindArray
	case jsonNull:
	}
	return kindNull
}

// text returns a scalar as text: "1" for true, and "" for false, null and arrays.
func (n node) text() string {
	if n.doc == nil {
		return n.v.Scalar()
	}
	e := n.element()
	switch e.kind {
	case jsonTrue:
		return "1"
	case jsonString, jsonEscaped:
		return n.doc.stringOf(n.at)
	case jsonNumber:
		return n.doc.text[e.from:e.to]
	case jsonNull, jsonFalse, jsonList, jsonObject:
	}
	return ""
}

// kept returns the text for a target that may outlive the document. It is a copy.
func (n node) kept() string {
	if n.doc != nil && n.element().kind != jsonEscaped {
		return strings.Clone(n.text())
	}
	return n.text()
}

// isEmpty reports whether the node is one of the ways in which Bitrix24 sends "nothing here".
func (n node) isEmpty() bool {
	switch n.kind() {
	case kindNull:
		return true
	case kindBool:
		return n.text() == ""
	case kindString:
		text := n.text()
		return text == "" || text == undefined
	case kindArray:
		if n.doc == nil {
			return n.v.Empty()
		}
		return n.element().size == 0
	default:
		return false
	}
}

// len returns the number of elements of an array.
func (n node) len() int {
	if n.doc == nil {
		return n.v.Len()
	}
	return int(n.element().size)
}

// isJSONList reports whether the elements have positions and no keys.
func (n node) isJSONList() bool { return n.doc != nil && n.element().kind == jsonList }

// each yields the elements of an array in the order of arrival. Those of a JSON list have empty
// keys.
func (n node) each(yield func(key string, child node) bool) {
	if n.doc == nil {
		c := n.v.Cursor()
		for c.Next() {
			if !yield(c.Key, node{v: c.Value}) {
				return
			}
		}
		return
	}
	d, e := n.doc, n.element()
	switch e.kind {
	case jsonList:
		for i := n.at + 1; i < e.next; i = d.nodes[i].next {
			if !yield("", node{doc: d, at: i}) {
				return
			}
		}
	case jsonObject:
		for i := n.at + 1; i < e.next; i = d.nodes[i+1].next {
			if !yield(d.stringOf(i), node{doc: d, at: i + 1}) {
				return
			}
		}
	default: // a scalar holds nothing
	}
}

// child returns the element at a position, which comes from a cursor or from a node of a document.
func (n node) child(position int32) node {
	if n.doc == nil {
		return node{v: n.v.At(position)}
	}
	return node{doc: n.doc, at: position}
}

// lookup returns the element with a key, or one whose key differs only in case.
func (n node) lookup(key string) (node, bool) {
	if n.doc == nil {
		v, ok := n.v.GetFold(key)
		return node{v: v}, ok
	}
	if n.isJSONList() {
		i, err := strconv.Atoi(key)
		if err != nil || i < 0 || i >= n.len() || strconv.Itoa(i) != key {
			return node{}, false
		}
		at := n.at + 1
		for ; i > 0; i-- {
			at = n.doc.nodes[at].next
		}
		return node{doc: n.doc, at: at}, true
	}
	var found slot
	for name, child := range n.each {
		switch {
		case name == key:
			found = slot{child.at, matchExact}
		case found.match == matchNone && strings.EqualFold(name, key):
			found = slot{child.at, matchFold}
		}
	}
	return n.child(found.at), found.match != matchNone
}

// spelling returns the key of the element that lookup finds: key itself, or one that differs only
// in case.
func (n node) spelling(key string) string {
	folded := key
	if n.kind() != kindArray || n.isJSONList() {
		return key
	}
	for name := range n.each {
		switch {
		case name == key:
			return key
		case folded == key && strings.EqualFold(name, key):
			folded = name
		}
	}
	return folded
}

// isList reports whether the keys of an array run 0..n-1.
func (n node) isList() bool {
	if n.isJSONList() {
		return true
	}
	size := n.len()
	for key := range n.each {
		if i, ok := position(key); !ok || i >= size {
			return false
		}
	}
	return true
}

// position returns a key as a number if it is a whole number as PHP writes it, and not negative.
func position(key string) (int, bool) {
	const longest = len("2147483647")
	if key == "" || len(key) > longest || (key[0] == '0' && len(key) > 1) {
		return 0, false
	}
	i := 0
	for _, c := range []byte(key) {
		if c < '0' || c > '9' {
			return 0, false
		}
		i = i*10 + int(c-'0')
	}
	return i, true
}

// appendJSON appends the JSON text of a node. For a node of a document, it is the text that
// arrived.
func (n node) appendJSON(b []byte) []byte {
	if n.doc == nil {
		return n.v.AppendJSON(b)
	}
	return append(b, n.rawText()...)
}

// rawText returns the text of an element, with the quotes of a string.
func (n node) rawText() string {
	e := n.element()
	if e.kind == jsonString || e.kind == jsonEscaped {
		return n.doc.text[e.from-1 : e.to+1]
	}
	return n.doc.text[e.from:e.to]
}

// tree returns a node as Go values, and false if a number is too large for a float64.
func (n node) tree() (any, bool) {
	if n.doc == nil {
		return n.v.Any(), true
	}
	return n.doc.tree(n.at)
}

// value returns a node as a tree of package phpform.
func (n node) value() (phpform.Value, bool) {
	if n.doc == nil {
		return n.v, true
	}
	text := n.rawText()
	v, err := phpform.DecodeJSON([]byte(text), phpform.Limits{Bytes: len(text) + 1, Keys: len(text) + 1})
	return v, err == nil
}

// unquoted returns the string whose JSON text is the text of the node, for the option string of a
// json tag. It returns any other node unchanged.
func (n node) unquoted() node {
	if n.kind() != kindString {
		return n
	}
	doc, err := parse(n.text())
	if err != nil || (doc.nodes[0].kind != jsonString && doc.nodes[0].kind != jsonEscaped) {
		return n
	}
	return node{doc: doc}
}
