package values

import (
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// undefined is what task events send in place of a section or flag that does not apply.
const undefined = "undefined"

// IsEmpty reports whether v is one of the ways in which Bitrix24 sends "nothing here".
func IsEmpty(v phpform.Value) bool { return node{v: v}.isEmpty() }

// Text returns a scalar as text, without the space around it. It is "" for an array and for what
// Bitrix24 sends for "nothing here".
func Text(v phpform.Value) string {
	if text := strings.TrimSpace(v.Scalar()); text != undefined {
		return text
	}
	return ""
}

// Int reads a whole number of 64 bits as Decode does: 7.0 is one, also with spaces around it. An
// empty value is 0.
func Int(v phpform.Value) (int64, bool) {
	switch n := (node{v: v}); {
	case n.isEmpty():
		return 0, true
	case n.kind() == kindArray:
		return 0, false
	default:
		return parseInt(spaceless(n.text()))
	}
}

// Unix reads a time in seconds since 1970. An empty value is the zero time.
func Unix(v phpform.Value) (time.Time, bool) {
	sec, ok := Int(v)
	if !ok || sec == 0 && IsEmpty(v) {
		return time.Time{}, ok
	}
	return unixTime(sec)
}
