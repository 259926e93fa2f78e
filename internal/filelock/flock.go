//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

// Package filelock locks files between processes, so that the lock ends with the process that has it.
package filelock

import (
	"errors"
	"os"
	"syscall"
)

// Try takes the lock of an open file where nobody has it. The system releases it when the process dies, however that
// happens. Opening a file twice, in one process or in two, makes two parties.
func Try(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, os.NewSyscallError("flock", err)
		}
	}
}

// Release releases the lock. Closing alone would not, for the moment in which a process being started has a copy of f.
func Release(f *os.File) {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
}
