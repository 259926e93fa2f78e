// Package filelock locks files between processes. The system releases a lock when the process that
// holds it ends, even if it crashes.
//
// It uses flock on Unix and LockFileEx on Windows. Other systems have no lock that ends with its
// process, and there [Try] returns an error.
package filelock

import "os"

// Try tries to take the exclusive lock of an open file, and reports whether it got it. It does not
// wait. Two descriptors of one file exclude each other, also within one process. The lock is
// advisory: other processes can read and write the file.
//
// The caller must not close f before [Release].
func Try(f *os.File) (bool, error) { return try(f) }

// Release releases the lock of f. Call it before you close f: on Unix, a child process that is
// starting may hold a copy of f for a moment, and Windows may release the lock of a closed file
// later.
func Release(f *os.File) { release(f) }
