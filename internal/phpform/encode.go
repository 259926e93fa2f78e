package phpform

// Encode writes an array as a form body, exactly as PHP's http_build_query does: in the order of
// the entries, with brackets escaped (data%5BFIELDS%5D%5BID%5D=42), spaces as "+", and an explicit
// index for each element of a list. True is 1 and false is 0, and a number keeps its text. A form
// has no null and no empty array, so Encode leaves them out. It escapes text that is not UTF-8 byte
// by byte. For a scalar it returns "".
//
// [Decode] reads back every tree that it made, unless the escapes make it too large. Another tree
// may have keys that PHP reads differently: empty ones, those with a space, "." or "[" on the first
// level, those with a "]" below it, and those with a NUL.
func Encode(v Value) string {
	var b []byte
	name := make([]byte, 0, 64)
	for key, item := range v.All() {
		b = appendPairs(b, AppendEscaped(name, key), item)
	}
	return string(b)
}

// appendPairs appends the pairs of v to b. name is escaped; appendPairs may write into its spare
// capacity.
func appendPairs(b, name []byte, v Value) []byte {
	switch v.kind {
	case Null:
		return b
	case Array:
		outer := len(name)
		for key, item := range v.All() {
			name = append(name[:outer], "%5B"...)
			name = append(AppendEscaped(name, key), "%5D"...)
			b = appendPairs(b, name, item)
		}
		return b
	case Bool:
		if v.text == "" {
			return append(appendName(b, name), '0')
		}
	case String, Number:
	}
	return AppendEscaped(appendName(b, name), v.text)
}

func appendName(b, name []byte) []byte {
	if len(b) > 0 {
		b = append(b, '&')
	}
	return append(append(b, name...), '=')
}

// AppendEscaped appends s, escaped as PHP's urlencode does.
func AppendEscaped(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			b = append(b, c)
		case c == ' ':
			b = append(b, '+')
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
