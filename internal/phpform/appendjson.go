package phpform

import (
	"unicode/utf8"

	"github.com/b24events/b24events/internal/jsonlex"
)

// AppendJSON appends the JSON text of the tree to b and returns the result. The text is always
// valid. An array whose keys run 0..n-1 becomes a JSON array in the order of its keys, as in
// [Value.Items]. Every other array becomes an object in the order of its entries. Each byte that is
// not UTF-8 becomes U+FFFD, so two keys that differ only there become equal. A number whose text is
// not a JSON number becomes a string.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.kind {
	case String:
		return appendJSONString(b, v.text)
	case Number:
		if !jsonlex.IsNumber(v.text) {
			return appendJSONString(b, v.text)
		}
		return append(b, v.text...)
	case Bool:
		if v.text == "" {
			return append(b, "false"...)
		}
		return append(b, "true"...)
	case Array:
		if v.isList() {
			return v.appendList(b)
		}
		return v.appendObject(b)
	case Null:
	}
	return append(b, "null"...)
}

func (v Value) appendList(b []byte) []byte {
	b = append(b, '[')
	if v.isSorted() {
		for _, item := range v.All() {
			b = append(item.AppendJSON(b), ',')
		}
	} else {
		items, _ := v.Items()
		for _, item := range items {
			b = append(item.AppendJSON(b), ',')
		}
	}
	return closeJSON(b, ']')
}

// isSorted reports whether the elements of a list are in the order of its keys.
func (v Value) isSorted() bool {
	at := 0
	for key := range v.All() {
		if i, ok := listIndex(key, at+1); !ok || i != at {
			return false
		}
		at++
	}
	return true
}

func (v Value) appendObject(b []byte) []byte {
	b = append(b, '{')
	for key, item := range v.All() {
		b = append(appendJSONString(b, key), ':')
		b = append(item.AppendJSON(b), ',')
	}
	return closeJSON(b, '}')
}

// closeJSON replaces the comma after the last element, if there is one.
func closeJSON(b []byte, end byte) []byte {
	if last := len(b) - 1; b[last] == ',' {
		b[last] = end
		return b
	}
	return append(b, end)
}

func appendJSONString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	done := 0 // s is written up to here
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[done:i]...), "\uFFFD"...)
				done = i + 1
			}
			i += size
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[done:i-1]...)
		done = i
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(append(b, s[done:]...), '"')
}
