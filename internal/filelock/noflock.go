//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

// Package filelock locks files between processes, so that the lock ends with the process that has it.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// Try refuses: there is no lock here that ends with its process.
func Try(*os.File) (bool, error) {
	return false, fmt.Errorf("file locks on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Release does nothing.
func Release(*os.File) {}
