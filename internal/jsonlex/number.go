package jsonlex

import (
	"math"
	"strconv"
)

// IsNumber reports whether s is a JSON number.
func IsNumber(s string) bool { return s != "" && NumberLen(s) == len(s) }

// NumberLen returns the length of the JSON number at the start of s, 0 if there is none.
func NumberLen[T string | []byte](s T) int {
	i := 0
	digits := func() bool {
		from := i
		for i < len(s) && '0' <= s[i] && s[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return 0
	}
	if i < len(s) && s[i] == '.' {
		if i++; !digits() {
			return 0
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		if i++; i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	return i
}

// FloatText writes a number in the notation that encoding/json chooses, with the fewest digits that
// read back as the same number. ok is false for NaN and the infinities, which JSON does not have.
func FloatText(f float64, bits int) (text string, ok bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "", false
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(f, format, -1, bits), true
}
