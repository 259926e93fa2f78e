package program

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// OneLine returns a text of several lines, for example that of joined errors, as one line that a
// terminal only shows. Line breaks become "; ". Other control characters, and characters that
// change the direction of writing, become spaces.
func OneLine(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if active(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// JSONLine returns v as a line of JSON that a terminal only shows: [EscapeControls] has escaped it.
func JSONLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // ends the line
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return EscapeControls(b.Bytes()), nil
}

// EscapeControls escapes characters in lines of JSON that JSON allows but a terminal may act on:
// DEL, the C1 controls and characters that change the direction of writing. The meaning of the JSON
// stays the same.
func EscapeControls(lines []byte) []byte {
	if bytes.IndexFunc(lines, controls) < 0 {
		return lines
	}
	var b bytes.Buffer
	for _, r := range string(lines) {
		if controls(r) {
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// controls is active for lines of JSON, except for their line breaks.
func controls(r rune) bool { return r != '\n' && active(r) }

// active reports whether a terminal may act on r.
func active(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// escaping is a writer of JSON lines.
type escaping struct{ w io.Writer }

// Write writes whole lines.
func (e escaping) Write(lines []byte) (int, error) {
	if _, err := e.w.Write(EscapeControls(lines)); err != nil {
		return 0, err
	}
	return len(lines), nil
}
