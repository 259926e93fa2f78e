package eventtest

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

const (
	hexDigits = "0123456789abcdef"
	base36    = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// randomText returns n random characters of an alphabet.
func randomText(n int, alphabet string) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}

func upper(name string) string { return strings.ToUpper(strings.TrimSpace(name)) }

// kv, text and number shorten the building of answers.
func kv(key string, v phpform.Value) phpform.Entry { return phpform.Entry{Key: key, Value: v} }
func text(key, s string) phpform.Entry             { return kv(key, phpform.Text(s)) }
func number(key string, n int64) phpform.Entry     { return kv(key, phpform.Int(n)) }

// digits is a number as the database layer gives it, a string.
func digits(key string, n int64) phpform.Entry { return text(key, strconv.FormatInt(n, 10)) }

// float is a number with a fraction, where it has one.
func float(key string, f float64) phpform.Entry {
	return kv(key, phpform.NumberText(strconv.FormatFloat(f, 'f', -1, 64)))
}

// intOf casts as PHP does: the leading decimal of a text, 1 for a filled array.
func intOf(v phpform.Value) int64 {
	if v.Kind() == phpform.Array {
		return int64(min(v.Len(), 1))
	}
	s := strings.TrimSpace(v.Scalar())
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && (s[end] == '-' || s[end] == '+')) {
		end++
	}
	n, _ := strconv.ParseInt(s[:end], 10, 64)
	return n
}

// wireNumbers writes numbers as PHP's http_build_query does: integers as they are, others with 14
// digits.
func wireNumbers(v phpform.Value) phpform.Value {
	switch v.Kind() {
	case phpform.Array:
		entries := slices.Clone(v.Entries())
		for i := range entries {
			entries[i].Value = wireNumbers(entries[i].Value)
		}
		return phpform.Map(entries...)
	case phpform.Number:
		if _, err := strconv.ParseInt(v.Scalar(), 10, 64); err == nil {
			return v
		}
		if f, err := strconv.ParseFloat(v.Scalar(), 64); err == nil {
			return phpform.Text(phpFloat(f))
		}
	default:
	}
	return v
}

// phpFloat is a floating-point number as text, by PHP's default precision.
func phpFloat(f float64) string {
	const precision = 14
	mantissa, exp, _ := strings.Cut(strconv.FormatFloat(f, 'E', precision-1, 64), "E")
	n, err := strconv.Atoi(exp)
	if err != nil { // infinite or no number
		return mantissa
	}
	if n >= -4 && n < precision {
		fixed := strconv.FormatFloat(f, 'f', precision-1-n, 64)
		if !strings.Contains(fixed, ".") {
			return fixed
		}
		return strings.TrimSuffix(strings.TrimRight(fixed, "0"), ".")
	}
	mantissa = strings.TrimRight(mantissa, "0")
	if strings.HasSuffix(mantissa, ".") {
		mantissa += "0"
	}
	return mantissa + "E" + exp[:1] + strconv.Itoa(max(n, -n))
}

// truthy converts as PHP does: "0", "", null and the empty array are false, any other text is true.
func truthy(v phpform.Value) bool {
	switch v.Kind() {
	case phpform.Array:
		return v.Len() > 0
	case phpform.Number:
		f, err := strconv.ParseFloat(v.Scalar(), 64)
		return err != nil || f != 0
	default:
		return v.Scalar() != "" && v.Scalar() != "0"
	}
}

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

// appendJSON encodes as the platform does: no spaces, arrays with the keys 0..n-1 as lists and so
// every empty one as [], the characters <>&'" in strings as \u003C and so on, slashes escaped,
// other characters as they are.
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

// treeOf turns what users pass as payloads or fields into a tree. Maps come in the order of their
// keys, structs in that of their fields.
func treeOf(v any) (phpform.Value, error) {
	if tree, ok := v.(phpform.Value); ok {
		return tree, nil
	}
	data, err := event.NewData(v)
	if err != nil {
		return phpform.Value{}, err
	}
	return phpform.DecodeJSON(data.JSON(), formLimits()) // whose order is that of the data
}
