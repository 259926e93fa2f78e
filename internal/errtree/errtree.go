// Package errtree looks at all branches of an error. errors.Is and errors.As stop at the first
// match.
package errtree

import "iter"

// Branches yields, for each branch of err, the first error that matches, or nil if none does. A
// branch begins at err and follows what Unwrap returns. It forks at an error that unwraps to
// several, unless that error matches itself. A nil error is a branch without a match.
//
// match looks at the one error that it is given and must not unwrap it.
func Branches(err error, match func(error) bool) iter.Seq[error] {
	return func(yield func(error) bool) { walk(err, match, yield) }
}

// walk yields the branches of err, and returns false if yield did.
func walk(err error, match, yield func(error) bool) bool {
	for err != nil && !match(err) {
		switch e := err.(type) { //nolint:errorlint // this is what unwraps
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			parts := e.Unwrap()
			if len(parts) == 0 {
				return yield(nil)
			}
			for _, part := range parts {
				if !walk(part, match, yield) {
					return false
				}
			}
			return true
		default:
			return yield(nil)
		}
	}
	return yield(err)
}

// Every reports whether every branch of err holds an error that matches; see [Branches].
func Every(err error, match func(error) bool) bool {
	for found := range Branches(err, match) {
		if found == nil {
			return false
		}
	}
	return true
}

// Is returns a function that matches one sentinel: the error is the sentinel, or its method Is says
// so.
func Is(target error) func(error) bool {
	return func(err error) bool {
		if err == target { //nolint:errorlint // Branches unwraps
			return true
		}
		e, ok := err.(interface{ Is(target error) bool })
		return ok && e.Is(target)
	}
}
