package eventtest

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/phpform"
)

// encodable reports whether PHP can write v as JSON: all of its text is UTF-8.
func encodable(v phpform.Value) bool {
	if v.Kind() != phpform.Array {
		return utf8.ValidString(v.Scalar())
	}
	for _, e := range v.Entries() {
		if !utf8.ValidString(e.Key) || !encodable(e.Value) {
			return false
		}
	}
	return true
}

// appendJSON encodes v as the platform does. There are no spaces. Arrays with the keys 0..n-1
// become lists, so every empty one is []. The characters <>&'" in strings become \u003C and so on,
// slashes are escaped, and other characters stay.
func appendJSON(dst []byte, v phpform.Value) []byte {
	switch v.Kind() {
	case phpform.Null:
		return append(dst, "null"...)
	case phpform.Bool:
		return strconv.AppendBool(dst, v.Scalar() != "")
	case phpform.Number:
		return append(dst, v.Scalar()...)
	case phpform.Array:
		return appendArray(dst, v.Entries())
	default:
		return appendString(dst, v.Scalar())
	}
}

func appendArray(dst []byte, entries []phpform.Entry) []byte {
	list := true
	for i, e := range entries {
		if e.Key != strconv.Itoa(i) {
			list = false
			break
		}
	}
	open, end := byte('{'), byte('}')
	if list {
		open, end = '[', ']'
	}
	dst = append(dst, open)
	for i, e := range entries {
		if i > 0 {
			dst = append(dst, ',')
		}
		if !list {
			dst = append(appendString(dst, e.Key), ':')
		}
		dst = appendJSON(dst, e.Value)
	}
	return append(dst, end)
}

func appendString(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	dst = append(dst, '"')
	for _, r := range s {
		switch r {
		case '\\', '/':
			dst = append(dst, '\\', byte(r))
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\u2028', '\u2029':
			dst = append(dst, `\u202`...)
			dst = append(dst, hex[r&15]|0x20)
		default:
			if r < ' ' || strings.ContainsRune(`<>&'"`, r) {
				dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
				continue
			}
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
