package values

import "strings"

// Truthy reads a boolean of PHP from a decoded JSON value: true, a number other than 0, or one of
// the texts 1, Y and true in any case.
func Truthy(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v == "1" || strings.EqualFold(v, "y") || strings.EqualFold(v, "true")
	default:
		return false
	}
}
