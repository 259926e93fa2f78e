// Package longtest keeps the tests that take long out of an ordinary run. They run if the
// environment variable LONG_TESTS is set, as it is in the gate: LONG_TESTS=1 go test work.
package longtest

import (
	"os"
	"testing"
)

// Skip skips a test in an ordinary run. The reason says what takes long, such as "it starts three
// servers".
func Skip(tb testing.TB, reason string) {
	tb.Helper()
	if !wanted() {
		tb.Skip(reason + "; LONG_TESTS=1 runs it")
	}
}

// Times returns how often to repeat something in an ordinary run, or in a long one.
func Times(ordinary, long int) int {
	if wanted() {
		return long
	}
	return ordinary
}

func wanted() bool { return os.Getenv("LONG_TESTS") != "" && !testing.Short() }
