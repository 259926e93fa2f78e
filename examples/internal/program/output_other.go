//go:build !unix

package program

import (
	"errors"
	"os"
	"syscall"
)

// Windows reports these of a pipe whose reader has closed it, or is closing it.
const (
	errBrokenPipe = syscall.Errno(109)
	errNoData     = syscall.Errno(232)
)

// closedByReader reports whether err means that the reader of a pipe has closed it.
func closedByReader(err error) bool {
	return errors.Is(err, errBrokenPipe) || errors.Is(err, errNoData) || errors.Is(err, syscall.EPIPE)
}

// reopen opens a file again, for reading.
func reopen(f *os.File) (*os.File, error) { return os.Open(f.Name()) }
