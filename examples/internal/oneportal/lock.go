package oneportal

import (
	"errors"
	"fmt"
	"os"

	"github.com/b24events/b24events/internal/filelock"
)

// ErrInUse means that another process holds a lock.
var ErrInUse = errors.New("another process uses it; stop that one first")

// Lock opens a file, which it makes when there is none, and keeps other callers of Lock from it
// until [Unlock]. Everybody can read the file meanwhile. The system ends the lock with the process,
// however that dies. It returns [ErrInUse].
func Lock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|os.O_CREATE, 0o600) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return f, err // nothing to lock in a pipe or a terminal
	}
	ok, err := filelock.Try(f)
	if err == nil && !ok {
		err = ErrInUse
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Unlock ends a lock and closes the file. Closing alone would not end it for the moment in which a
// process being started has a copy of the file.
func Unlock(f *os.File) error {
	filelock.Release(f)
	return f.Close()
}
