package redact

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes an untrusted text fit for one line of a log or an error. Every run of white space,
// control characters and other characters that do not print becomes one space, and bytes that are
// not UTF-8 become U+FFFD. A text of more than limit characters is cut and ends in "…".
func Clean(text string, limit int) string {
	var b strings.Builder
	count := 0
	gap := false
	for _, r := range text {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			gap = count > 0
			continue
		}
		if gap {
			count++
		}
		if count >= limit {
			b.WriteString("…")
			break
		}
		if gap {
			b.WriteByte(' ')
			gap = false
		}
		b.WriteRune(r)
		count++
	}
	return b.String()
}

// Escape is [Clean] for texts that people compare, such as names and addresses: it keeps spaces,
// and writes a character that does not print as \u001b, and a byte that is not UTF-8 as \xff.
func Escape(text string, limit int) string {
	var b strings.Builder
	count := 0
	for i, r := range text {
		if count == limit {
			b.WriteString("…")
			break
		}
		count++
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			_, _ = fmt.Fprintf(&b, `\x%02x`, text[i])
		case r > 0xffff && !unicode.IsPrint(r):
			_, _ = fmt.Fprintf(&b, `\U%08x`, r)
		case !unicode.IsPrint(r):
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Plain is [Clean] for a text that may hold HTML. It drops the tags.
func Plain(text string, limit int) string { return Clean(withoutTags(text), limit) }

// maxWord is the longest text that [Word] returns, in characters.
const maxWord = 128

// Word makes a text fit for one word of a log line, such as member=…. It quotes a text that could
// look like another part of the line.
func Word(text string) string {
	odd := func(r rune) bool {
		return r == '"' || r == '=' || r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}
	if len(text) <= maxWord && strings.IndexFunc(text, odd) < 0 {
		return text
	}
	return strconv.Quote(Clean(text, maxWord))
}

func withoutTags(s string) string {
	if strings.IndexByte(s, '<') < 0 {
		return s
	}
	var b strings.Builder
	for s != "" {
		open := strings.IndexByte(s, '<')
		if open < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:open])
		s = s[open:]
		if !startsTag(s) {
			b.WriteByte('<')
			s = s[1:]
			continue
		}
		b.WriteByte(' ')
		end := strings.IndexByte(s, '>')
		if end < 0 {
			break
		}
		s = s[end+1:]
	}
	return b.String()
}

// startsTag reports whether s begins with a tag, and not with a "less than".
func startsTag(s string) bool {
	if len(s) < 2 {
		return false
	}
	c := s[1]
	return c == '/' || c == '!' || c == '?' || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z')
}

// EscapeJSON returns an equal JSON text in which the characters are escaped that a terminal obeys
// or that change the order of what it shows: DEL, C1 controls, bidirectional controls, and line and
// paragraph separators. C0 controls are escaped in every JSON text.
func EscapeJSON(doc []byte) []byte {
	var out []byte
	done := 0
	for i := 0; i < len(doc); {
		if doc[i] < 0x7f {
			i++
			continue
		}
		r, size := utf8.DecodeRune(doc[i:])
		if !IsControl(r) {
			i += size
			continue
		}
		out = append(out, doc[done:i]...)
		const digits = "0123456789abcdef"
		out = append(out, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		i += size
		done = i
	}
	if done == 0 {
		return doc
	}
	return append(out, doc[done:]...)
}

// IsControl reports whether a terminal may obey r, or show the text after it in another order.
func IsControl(r rune) bool {
	switch {
	case unicode.IsControl(r), r == 0x061C, r == 0x200E, r == 0x200F:
		return true
	case 0x2028 <= r && r <= 0x202E, 0x2066 <= r && r <= 0x2069:
		return true
	default:
		return false
	}
}
