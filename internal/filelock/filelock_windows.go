package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// On Windows, other handles cannot use the bytes that a lock covers. So the lock covers one byte
// far behind the end of every file, and the content stays readable and writable.
const (
	lockOffsetHigh = 1 << 30 // the byte at 1<<62
	lockBytes      = 1
)

func lockedByte() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: lockOffsetHigh} }

func try(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, lockBytes, 0,
		lockedByte())
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return false, nil
	default:
		return false, os.NewSyscallError("LockFileEx", err)
	}
}

func release(f *os.File) {
	_ = windows.UnlockFileEx(windows.Handle(f.Fd()), 0, lockBytes, 0, lockedByte())
}
