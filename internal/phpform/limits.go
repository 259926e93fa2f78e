package phpform

// The limits that a zero field of [Limits] stands for. A usual event has about twenty elements in
// less than a kilobyte, and a long bot message some hundreds in tens of kilobytes. The limits are
// far above that, and bound the cost of a hostile body to tens of milliseconds and ten megabytes.
// The depth is that of PHP's max_input_nesting_level.
const (
	DefaultMaxBytes = 1 << 20
	DefaultMaxKeys  = 20_000
	DefaultMaxDepth = 64
)

// Limits bounds the work on one body. A zero or negative field means its default.
type Limits struct {
	// Bytes is the longest body or document, at most 128 MiB. It is checked before anything else.
	Bytes int
	// Keys is the largest number of elements that are created. Every key and every list item counts.
	// An array counts as an element, and so does each element in it: a[b][c]=1 creates three. Replaced
	// elements count too.
	Keys int
	// Depth is the largest number of opening brackets in a name of a form, or of arrays and objects
	// inside the outermost one of a JSON document, so that one tree has the same depth in both.
	Depth int
}

func (l Limits) orDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = DefaultMaxBytes
	}
	l.Bytes = min(l.Bytes, maxText)
	if l.Keys <= 0 {
		l.Keys = DefaultMaxKeys
	}
	if l.Depth <= 0 {
		l.Depth = DefaultMaxDepth
	}
	return l
}
