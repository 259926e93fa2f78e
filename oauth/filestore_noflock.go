//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package oauth

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// tryLock refuses: without a lock that ends with its process, two of them could void each other's tokens.
func tryLock(*os.File) (bool, error) {
	return false, fmt.Errorf("file locks on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func unlock(*os.File) {}
