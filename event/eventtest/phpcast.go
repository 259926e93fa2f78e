package eventtest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// intOf casts to an integer as PHP does: the leading decimal of a text, 1 for an array with
// elements.
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

// truthy casts to a boolean as PHP does: "0", "", null and the empty array are false, any other
// text is true.
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

// phpFloat formats a floating-point number with PHP's default precision.
func phpFloat(f float64) string {
	const precision = 14
	mantissa, exp, _ := strings.Cut(strconv.FormatFloat(f, 'E', precision-1, 64), "E")
	n, err := strconv.Atoi(exp)
	if err != nil { // infinite or NaN
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
