package phpform

import (
	"strconv"
)

// Error is a constant error. Compare it with errors.Is.
type Error string

// Error returns the text.
func (e Error) Error() string { return string(e) }

// The errors of this package. None of them holds any part of the input.
const (
	// ErrTooLarge means that the body is longer than [Limits].Bytes.
	ErrTooLarge Error = "phpform: body too large"
	// ErrTooManyKeys means that the body holds more elements than [Limits].Keys.
	ErrTooManyKeys Error = "phpform: too many keys"
	// ErrTooDeep means that the body nests deeper than [Limits].Depth.
	ErrTooDeep Error = "phpform: nested too deep"
	// ErrSyntax means that a document is not one JSON value.
	ErrSyntax Error = "phpform: malformed JSON"
)

// LimitError names the one of the [Limits] that a body exceeds. It matches [ErrTooLarge],
// [ErrTooManyKeys] or [ErrTooDeep].
type LimitError struct {
	What  string // "bytes", "keys" or "depth"
	Limit int
}

const (
	limitBytes = "bytes"
	limitKeys  = "keys"
	limitDepth = "depth"
)

// Error names the limit and its value.
func (e *LimitError) Error() string {
	return "phpform: input exceeds the limit of " + strconv.Itoa(e.Limit) + " (" + e.What + ")"
}

// Is matches the sentinel of the limit.
func (e *LimitError) Is(target error) bool {
	switch e.What {
	case limitBytes:
		return target == ErrTooLarge
	case limitKeys:
		return target == ErrTooManyKeys
	case limitDepth:
		return target == ErrTooDeep
	default:
		return false
	}
}

// SyntaxError reports the position at which a JSON document is malformed. It matches [ErrSyntax].
type SyntaxError struct {
	Offset int // in bytes, of the first byte that does not fit
	reason string
}

// Error gives the reason and the offset, but nothing of the document.
func (e *SyntaxError) Error() string {
	return "phpform: malformed JSON at byte " + strconv.Itoa(e.Offset) + ": " + e.reason
}

// Is matches [ErrSyntax].
func (e *SyntaxError) Is(target error) bool { return target == ErrSyntax }
