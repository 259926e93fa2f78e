package phpform

import (
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends the JSON text of the tree to b and returns it. The text is always valid: an array whose keys run 0..n-1 is
// written as a JSON array in the order of its keys, as [Value.Items] gives it, every other one as an object in the order of its
// entries; each byte that is not UTF-8 becomes U+FFFD (so two keys that differ only there become equal); a number whose text is
// none in JSON is written as a string.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.kind {
	case String:
		return appendJSONString(b, v.text)
	case Number:
		if !isNumber(v.text) {
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
	entries := v.Entries()
	for i := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		item := entries[i].Value
		if at, _ := listIndex(entries[i].Key, len(entries)); at != i {
			item, _ = v.Get(strconv.Itoa(i)) // a list that arrived out of order
		}
		b = item.AppendJSON(b)
	}
	return append(b, ']')
}

func (v Value) appendObject(b []byte) []byte {
	b = append(b, '{')
	for i, e := range v.Entries() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendJSONString(b, e.Key), ':')
		b = e.Value.AppendJSON(b)
	}
	return append(b, '}')
}

func appendJSONString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	done := 0 // up to here s has been written
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
