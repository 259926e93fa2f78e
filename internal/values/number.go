package values

import (
	"math"
	"strconv"
)

// decimal is a number as it is written: 0.digits × 10^point.
type decimal struct {
	negative bool
	whole    string // digits before the dot
	fraction string // digits after it
	exponent int    // within ±maxExponent
}

// maxExponent is larger than the exponent of every number that fits a Go type, and small enough to
// calculate with.
const maxExponent = 1 << 27

// parseDecimal reads a number in decimal notation, such as -12, 1.50, .5 or 1e3, in linear time.
func parseDecimal(text string) (decimal, bool) {
	var d decimal
	if text != "" && (text[0] == '-' || text[0] == '+') {
		d.negative = text[0] == '-'
		text = text[1:]
	}
	d.whole, text = digits(text)
	if text != "" && text[0] == '.' {
		d.fraction, text = digits(text[1:])
	}
	if d.whole == "" && d.fraction == "" {
		return decimal{}, false
	}
	if text == "" {
		return d, true
	}
	if text[0] != 'e' && text[0] != 'E' {
		return decimal{}, false
	}
	text = text[1:]
	below := text != "" && text[0] == '-'
	if text != "" && (text[0] == '-' || text[0] == '+') {
		text = text[1:]
	}
	exponent, rest := digits(text)
	if exponent == "" || rest != "" {
		return decimal{}, false
	}
	for i := range len(exponent) {
		d.exponent = min(d.exponent*10+int(exponent[i]-'0'), maxExponent)
	}
	if below {
		d.exponent = -d.exponent
	}
	return d, true
}

func digits(text string) (digits, rest string) {
	i := 0
	for i < len(text) && '0' <= text[i] && text[i] <= '9' {
		i++
	}
	return text[:i], text[i:]
}

// digit returns the digit at a position of whole and fraction together, 0 beyond their end.
func (d *decimal) digit(i int) uint64 {
	switch {
	case i < len(d.whole):
		return uint64(d.whole[i] - '0')
	case i-len(d.whole) < len(d.fraction):
		return uint64(d.fraction[i-len(d.whole)] - '0')
	default:
		return 0
	}
}

// isZero reports whether the number is 0, however it is written.
func (d *decimal) isZero() bool {
	for i := range len(d.whole) + len(d.fraction) {
		if d.digit(i) != 0 {
			return false
		}
	}
	return true
}

// integer returns the magnitude of a number that is exactly whole and fits 64 bits.
func (d *decimal) integer() (uint64, bool) {
	size := len(d.whole) + len(d.fraction)
	first := 0
	for first < size && d.digit(first) == 0 {
		first++
	}
	if first == size {
		return 0, true
	}
	point := len(d.whole) + d.exponent // position of the dot among the digits
	for i := max(point, first); i < size; i++ {
		if d.digit(i) != 0 {
			return 0, false // a fraction is left
		}
	}
	const most = len("18446744073709551615")
	if point-first > most {
		return 0, false
	}
	var n uint64
	for i := first; i < point; i++ {
		if n > (math.MaxUint64-d.digit(i))/10 {
			return 0, false
		}
		n = n*10 + d.digit(i)
	}
	return n, true
}

// parseInt reads a whole number of 64 bits, such as 7, -7, 7.0 or 1e3. It returns false for a
// number that is not exactly whole or is out of range.
func parseInt(text string) (int64, bool) {
	if n, ok := shortInt(text); ok {
		return n, true
	}
	d, ok := parseDecimal(text)
	if !ok {
		return 0, false
	}
	switch n, ok := d.integer(); {
	case !ok:
		return 0, false
	case n <= math.MaxInt64 && d.negative:
		return -int64(n), true
	case n <= math.MaxInt64:
		return int64(n), true
	case d.negative && n == 1<<63:
		return math.MinInt64, true
	default:
		return 0, false
	}
}

// shortInt reads an integer of a few digits, as most are.
func shortInt(text string) (int64, bool) {
	if text == "" || len(text) > 18 {
		return 0, false
	}
	n := int64(0)
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(text[i]-'0')
	}
	return n, true
}

// parseUint reads a whole number of 64 bits that is not negative.
func parseUint(text string) (uint64, bool) {
	d, ok := parseDecimal(text)
	if !ok {
		return 0, false
	}
	n, ok := d.integer()
	return n, ok && (n == 0 || !d.negative)
}

// parseFloat reads a number that is within the range of its type. It returns false for a number
// that would become 0 but is not 0.
func parseFloat(text string, bits int) (float64, bool) {
	d, ok := parseDecimal(text)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, bits)
	return f, err == nil && (f != 0 || d.isZero())
}
