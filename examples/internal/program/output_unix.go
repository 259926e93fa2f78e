//go:build unix

package program

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// closedByReader reports whether err means that the reader of a pipe or a socket has closed it.
func closedByReader(err error) bool { return errors.Is(err, syscall.EPIPE) }

// reopen opens a file again, for reading.
func reopen(f *os.File) (*os.File, error) { return os.Open(fmt.Sprintf("/dev/fd/%d", f.Fd())) }
