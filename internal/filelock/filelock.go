// Package filelock locks files between processes. The system releases a lock when the process that
// holds it ends, however that happens.
//
// It uses flock on Unix and LockFileEx on Windows. Everything else has no lock that ends with its
// process, and [Try] returns an error.
package filelock

import "os"

// Try takes the exclusive lock of an open file, and reports whether it got it. It does not wait.
// Two opens of one file exclude each other, in one process as in two. The lock is advisory:
// everybody can read and write the file.
//
// The caller must not close f before [Release].
func Try(f *os.File) (bool, error) { return try(f) }

// Release releases the lock of f. Call it before you close f: on Unix a child process that is
// starting may hold a copy of f for a moment, and Windows releases the lock of a closed file in its
// own time.
func Release(f *os.File) { release(f) }
