//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package oauth_test

import "testing"

// The tests that start these jobs fill disks and use up descriptors, for which they need a Unix.

func prepareJob(t *testing.T, _ job) {
	t.Helper()
	t.Fatal("no test on this system starts this job")
}

func descriptorsJob(t *testing.T, _ job) {
	t.Helper()
	t.Fatal("no test on this system starts this job")
}
