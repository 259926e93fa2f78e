package oneportal

import (
	"errors"
	"fmt"
	"os"
)

// ErrInUse means that another process holds a lock.
var ErrInUse = errors.New("another process uses it; stop that one first")

// Lock keeps other processes off a file, which it makes where there is none, until [Unlock]. The system ends the lock with the
// process, however that dies. It returns [ErrInUse].
func Lock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|os.O_CREATE, 0o600) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return f, err // nothing to lock in a pipe or a terminal
	}
	if err := lock(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Unlock ends a lock and closes the file. Closing alone would not end it for the moment in which a process being started has a copy of the file.
func Unlock(f *os.File) error {
	unlock(f)
	return f.Close()
}
