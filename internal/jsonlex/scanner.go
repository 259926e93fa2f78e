// Package jsonlex reads and writes the smallest parts of JSON: white space, words, numbers and
// strings. Two decoders are built on it, which keep what encoding/json loses: package phpform keeps
// the order of members, and package values the text of every value.
package jsonlex

import (
	"unicode/utf16"
	"unicode/utf8"
)

// Scanner reads a document from its beginning to its end. Its methods move Pos behind what they
// read. If they find something else, they leave it there, and SkipString leaves it at the first
// byte that does not fit.
type Scanner[T string | []byte] struct {
	Doc T
	Pos int
}

// SkipSpace skips white space.
func (s *Scanner[T]) SkipSpace() {
	for s.Pos < len(s.Doc) {
		switch s.Doc[s.Pos] {
		case ' ', '\t', '\r', '\n':
			s.Pos++
		default:
			return
		}
	}
}

// Skip skips white space, and the byte c if it comes next. It reports whether c was there.
func (s *Scanner[T]) Skip(c byte) bool {
	s.SkipSpace()
	if s.Pos < len(s.Doc) && s.Doc[s.Pos] == c {
		s.Pos++
		return true
	}
	return false
}

// SkipWord skips a word such as null if it comes next, and reports whether it was there.
func (s *Scanner[T]) SkipWord(word string) bool {
	end := s.Pos + len(word)
	if end > len(s.Doc) || string(s.Doc[s.Pos:end]) != word {
		return false
	}
	s.Pos = end
	return true
}

// SkipNumber skips a number, and reports whether there is one.
func (s *Scanner[T]) SkipNumber() bool {
	n := NumberLen(s.Doc[s.Pos:])
	s.Pos += n
	return n > 0
}

// Quoted is a string of a document.
type Quoted struct {
	From, To int // what is between the quotes
	// Unescaped is the most bytes that the text has without its escapes. It is To - From if there
	// are none.
	Unescaped int
}

// Escaped reports whether the string has escapes.
func (q Quoted) Escaped() bool { return q.Unescaped != q.To-q.From }

// The reasons why a string is malformed.
const (
	badEnd     = "it ends inside a string"
	badControl = "a control character in a string"
	badEscape  = "an unknown escape"
	badHex     = "four hexadecimal digits should follow"
)

// SkipString skips a string. Its opening quote comes next. It returns what is wrong with the
// string, or "" if nothing is.
func (s *Scanner[T]) SkipString() (q Quoted, wrong string) {
	s.Pos++
	q.From = s.Pos
	shorter := 0
	for ; s.Pos < len(s.Doc); s.Pos++ {
		switch c := s.Doc[s.Pos]; {
		case c == '"':
			q.To = s.Pos
			q.Unescaped = q.To - q.From - shorter
			s.Pos++
			return q, ""
		case c == '\\':
			s.Pos++
			saved, wrong := s.escape()
			if wrong != "" {
				return Quoted{}, wrong
			}
			shorter += saved
		case c < ' ':
			return Quoted{}, badControl
		}
	}
	return Quoted{}, badEnd
}

// escape checks the escape after a backslash, and stops at its last byte. It returns how many bytes
// shorter the text is without it, at least.
func (s *Scanner[T]) escape() (saved int, wrong string) {
	if s.Pos >= len(s.Doc) {
		return 0, badEnd
	}
	switch s.Doc[s.Pos] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 1, ""
	case 'u':
		if _, ok := hexRune(s.Doc[s.Pos+1:]); !ok {
			return 0, badHex
		}
		s.Pos += hexDigits
		return len(`\u0000`) - len("\uffff"), ""
	default:
		return 0, badEscape
	}
}

// Unescape writes the text of a string into to, without its escapes, and returns the length. The
// string went through [Scanner.SkipString], and to has room for Unescaped bytes. A lone half of a
// surrogate pair becomes U+FFFD.
func Unescape[T string | []byte](to []byte, s T) int {
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			i++
			switch c = s[i]; c {
			case 'b':
				c = '\b'
			case 'f':
				c = '\f'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'u':
				r, size := unescapeRune(s[i+1:])
				n += utf8.EncodeRune(to[n:], r)
				i += size
				continue
			}
		}
		to[n] = c
		n++
	}
	return n
}

// unescapeRune reads the digits after \u, with the second half of a surrogate pair if there is one.
func unescapeRune[T string | []byte](s T) (r rune, size int) {
	r, _ = hexRune(s)
	if !utf16.IsSurrogate(r) {
		return r, hexDigits
	}
	const second = hexDigits + len(`\u`)
	if len(s) < second || s[hexDigits] != '\\' || s[hexDigits+1] != 'u' {
		return utf8.RuneError, hexDigits
	}
	low, _ := hexRune(s[second:])
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return r, hexDigits
	}
	return r, second + hexDigits
}

const hexDigits = 4 // after \u

// hexRune reads the hexadecimal digits at the start of s.
func hexRune[T string | []byte](s T) (rune, bool) {
	if len(s) < hexDigits {
		return 0, false
	}
	var r rune
	for i := range hexDigits {
		digit, ok := Unhex(s[i])
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(digit)
	}
	return r, true
}

// Unhex returns the value of a hexadecimal digit.
func Unhex(c byte) (byte, bool) {
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
