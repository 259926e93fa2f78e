package spool

import (
	"fmt"
	"path/filepath"
)

// Error is a kind of failure, to be compared with [errors.Is].
type Error string

func (e Error) Error() string { return string(e) }

const (
	// ErrDisk means that the folder cannot be read or written. The system's error is in the chain.
	ErrDisk Error = "spool disk"
	// ErrOwner means that the folder holds records of another queue, or is in the format of an
	// older version. Nothing in it was changed.
	ErrOwner Error = "spool owner"
	// ErrInUse means that another journal has the folder, in this process or in another.
	ErrInUse Error = "spool in use"
	// ErrClosed means that the journal was closed.
	ErrClosed Error = "spool closed"
	// ErrRow means that a row is not a JSON document.
	ErrRow Error = "spool row"
)

// diskError returns an error of the system as an ErrDisk that names the folder.
func diskError(dir string, err error) error {
	return fmt.Errorf("%w: folder %q: %w", ErrDisk, filepath.Base(dir), err)
}
