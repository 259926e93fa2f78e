package oneportal

import (
	"errors"
	"fmt"
	"os"

	"github.com/b24events/b24events/internal/filelock"
)

// ErrInUse means that another process holds a lock.
var ErrInUse = errors.New("another process uses it; stop that one first")

// Lock opens and locks a file, which it makes if there is none. Other callers of Lock get
// [ErrInUse] until [Unlock]; others can read the file meanwhile. The system releases the lock when
// the process ends, even if it crashes.
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

// Unlock releases a lock and closes the file. Closing alone is not enough, because a process that
// is being started may have a copy of the descriptor for a moment.
func Unlock(f *os.File) error {
	filelock.Release(f)
	return f.Close()
}
