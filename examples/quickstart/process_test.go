package main

import (
	"os"
	"testing"
)

// asProgram makes the test binary the program itself, for tests that need a real process.
const asProgram = "QUICKSTART_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}
