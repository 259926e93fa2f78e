package main

import (
	"os"
	"testing"
)

// asProgram makes the test binary run the program, for tests that need a real process.
const asProgram = "DEVPORTAL_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}
