// Package errtree looks at all branches of an error. errors.Is and errors.As stop at the first
// match.
package errtree

// Every reports whether every branch of err holds an error that matches. It looks at err itself
// first, then at what its Unwrap method returns; an error that unwraps to several matches when all
// of these do. It is false for nil, and when one of several is nil or holds no match.
//
// match looks at the one error that it is given and must not unwrap it.
func Every(err error, match func(error) bool) bool {
	for err != nil {
		if match(err) {
			return true
		}
		switch e := err.(type) { //nolint:errorlint // this is what unwraps
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			parts := e.Unwrap()
			for _, part := range parts {
				if !Every(part, match) {
					return false
				}
			}
			return len(parts) > 0
		default:
			return false
		}
	}
	return false
}

// Is returns a match for one sentinel: the error is it, or says so in its own method Is.
func Is(target error) func(error) bool {
	return func(err error) bool {
		if err == target { //nolint:errorlint // Every unwraps
			return true
		}
		e, ok := err.(interface{ Is(target error) bool })
		return ok && e.Is(target)
	}
}
