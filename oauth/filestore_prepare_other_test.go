//go:build !unix

package oauth_test

import "testing"

// descriptorsJob is the job of a test for Unix. Windows does not limit the files that a process
// opens.
func descriptorsJob(t *testing.T, _ job) {
	t.Helper()
	t.Fatal("no test of this system starts it")
}
