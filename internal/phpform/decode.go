package phpform

import (
	"strings"
)

// Decode reads an application/x-www-form-urlencoded body into an Array, as PHP 8 fills $_POST; the package documentation lists
// the rules. Elements are Strings and Arrays only, and hold whatever bytes arrived, UTF-8 or not. Nothing is malformed to PHP, so
// the only error is a [LimitError], where PHP would leave out data in silence; the Value is the empty array then.
//
// The strings of the tree share memory with body, or with one copy of it where it has escapes: clone what is to outlive it
// by far.
func Decode(body string, lim Limits) (Value, error) {
	d := formDecoder{builder: builder{lim: lim.orDefaults()}}
	if len(body) > d.lim.Bytes {
		return Map(), &LimitError{What: limitBytes, Limit: d.lim.Bytes}
	}
	root := d.newArray()
	for rest := body; rest != ""; {
		var pair string
		left := len(rest)
		if pair, rest, _ = strings.Cut(rest, "&"); pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if err := d.pair(root, name, value, left); err != nil {
			return Map(), err
		}
	}
	d.finish()
	if len(root.entries) == 0 {
		return Map(), nil
	}
	return Value{kind: Array, arr: root}, nil
}

type formDecoder struct{ builder }

// pair stores one pair of the body; left is the length of the body from its name on.
func (d *formDecoder) pair(root *array, rawName, rawValue string, left int) error {
	name := d.unescape(rawName, left)
	if i := strings.IndexByte(name, 0); i >= 0 {
		name = name[:i] // names are C strings to PHP
	}
	name = strings.TrimLeft(name, " ")
	open := strings.IndexByte(name, '[')
	if name == "" || open == 0 {
		return nil
	}
	if open < 0 {
		return d.set(root, mangle(name), Text(d.unescape(rawValue, left)))
	}
	into, key := root, mangle(name[:open])
	for level := 1; open < len(name) && name[open] == '['; level++ {
		if level > d.lim.Depth {
			return &LimitError{What: limitDepth, Limit: d.lim.Depth}
		}
		inner, size, ok := bracket(name[open:])
		if !ok {
			if level == 1 {
				key = mangle(name) // not an index after all
			}
			break
		}
		var err error
		if into, err = d.descend(into, key); err != nil {
			return err
		}
		if key = inner; key == "" {
			if key, ok = d.nextKey(into); !ok {
				return nil // nothing can be appended, so PHP drops the pair
			}
		}
		open += size
	}
	return d.set(into, key, Text(d.unescape(rawValue, left)))
}

// bracket reads the index at the start of s, which begins with an opening bracket, and returns it with the length of the whole.
// The empty index, also written as one white space, appends. It returns false where the bracket is never closed.
func bracket(s string) (key string, size int, ok bool) {
	from := 1
	if len(s) > 1 && isSpace(s[1]) {
		from = 2
	}
	end := strings.IndexByte(s[from:], ']')
	switch {
	case end < 0:
		return "", 0, false
	case end == 0:
		return "", from + 1, true
	default:
		return s[1 : from+end], from + end + 1, true
	}
}

// descend returns the array under key, made anew where there is none or a scalar in its place.
func (d *formDecoder) descend(into *array, key string) (*array, error) {
	i := into.find(key)
	if i >= 0 && into.entries[i].Value.kind == Array {
		return into.entries[i].Value.arr, nil
	}
	v := Value{kind: Array, arr: d.newArray()}
	if i >= 0 {
		into.entries[i].Value = v
		return v.arr, nil
	}
	return v.arr, d.insert(into, key, v)
}

// mangle replaces what PHP does not allow in the name of a variable.
func mangle(name string) string {
	for i := range len(name) {
		if isMangled(name[i]) {
			b := []byte(name)
			for ; i < len(b); i++ {
				if isMangled(b[i]) {
					b[i] = '_'
				}
			}
			return string(b)
		}
	}
	return name
}

func isMangled(c byte) bool { return c == ' ' || c == '.' || c == '[' }

func isSpace(c byte) bool { return c == ' ' || ('\t' <= c && c <= '\r') }

// unescape undoes the percent encoding and leaves broken percent signs as they are; left is what [builder.reserve] wants. Text
// without escapes stays a part of the body.
func (d *formDecoder) unescape(s string, left int) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	d.reserve(left)
	start, done := d.text.Len(), 0 // up to done s has been written
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			c = ' '
			d.text.WriteString(s[done:i])
			done = i + 1
		case c == '%' && i+2 < len(s):
			high, ok := unhex(s[i+1])
			low, ok2 := unhex(s[i+2])
			if !ok || !ok2 {
				continue
			}
			c = high<<4 | low
			d.text.WriteString(s[done:i])
			i += 2
			done = i + 1
		default:
			continue
		}
		d.text.WriteByte(c)
	}
	d.text.WriteString(s[done:])
	return d.text.String()[start:]
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}
