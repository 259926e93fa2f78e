package sqlitestore

import (
	"context"
	"errors"
	"fmt"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

const (
	// ErrConfig means that an argument or option of Open or a method is invalid.
	ErrConfig Error = "sqlitestore: invalid configuration"
	// ErrLocked means that another process, or another Store of this process, has the queue open.
	ErrLocked Error = "sqlitestore: another process has the queue open"
	// ErrForeign means that the file is not a queue of this package, or that a newer version of this
	// package made it. Open changes nothing in such a file.
	ErrForeign Error = "sqlitestore: the file is not a queue that this version of the package can use"
	// ErrDamaged means that the file is damaged.
	ErrDamaged Error = "sqlitestore: the file is damaged; stop the program, keep a copy of the file and try the command .recover of sqlite3"
	// ErrDown means that a write to the file failed earlier, so that the contents of the disk are
	// unknown. The Store stores nothing more. Close it and open it again.
	ErrDown Error = "sqlitestore: stopped after a disk error; close the store and open it again"
	// ErrDiskFull means that the file system is full. The Store continues when there is space again.
	ErrDiskFull Error = "sqlitestore: the disk is full"
	// ErrNotArchived means that the record that List was to continue after is no longer archived.
	ErrNotArchived Error = "sqlitestore: the record to list after is no longer archived; list from the beginning"
	// ErrClosed means that the Store was closed.
	ErrClosed Error = "sqlitestore: the store is closed"

	// The reasons why Commit rejects a record.
	errTooLarge Error = "sqlitestore: the record has more than MaxDataBytes of data"
	errNoData   Error = "sqlitestore: the record has no data"
)

// errArchiveOnly matches ErrConfig.
var errArchiveOnly = misconfigured("the queue was opened with WithArchiveOnly")

// misconfigured makes an [ErrConfig] with an explanation.
func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// Primary result codes of SQLite, and one extended code.
const (
	codeBusy     = 5
	codeReadonly = 8
	codeIOErr    = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNotADB   = 26

	codeShmSize = codeIOErr | 19<<8 // no space for the index of the log
)

// failure is an error of SQLite. Its text has the result code and none of the driver's text, which
// may quote values. The driver's error is in the chain for errors.As.
type failure struct {
	op    string
	code  int
	cause error // a sentinel of this package; may be nil
	err   error
}

func (f *failure) Error() string {
	text := f.op + ": "
	switch {
	case f.cause != nil:
		return fmt.Sprintf("%v: %sSQLite error %d", f.cause, text, f.code)
	case f.code == 0:
		return "sqlitestore: " + text + "the driver failed"
	default:
		return fmt.Sprintf("sqlitestore: %s%s", text, meaning(f.code))
	}
}

// GoString keeps fmt from printing the driver's error.
func (f *failure) GoString() string { return f.Error() }

// Unwrap returns the sentinel, if there is one, and the driver's error.
func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.err}
	}
	return []error{f.cause, f.err}
}

func meaning(code int) string {
	switch code & 0xff {
	case codeBusy:
		return fmt.Sprintf("another program has locked the file for too long (SQLite error %d)", code)
	case codeReadonly:
		return fmt.Sprintf("the file or its folder is not writable (SQLite error %d)", code)
	case codeIOErr:
		return fmt.Sprintf("the disk failed (SQLite error %d)", code)
	case codeCantOpen:
		return fmt.Sprintf("the file cannot be opened (SQLite error %d)", code)
	default:
		return fmt.Sprintf("SQLite error %d", code)
	}
}

// failed turns an error of the driver into one of this package. If ctx has ended, it returns that
// instead.
func (e engine) failed(ctx context.Context, op string, err error) error {
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("sqlitestore: %s: %w", op, ended)
	}
	if _, ok := errors.AsType[Error](err); ok {
		return err
	}
	f := &failure{op: op, code: e.code(err), err: err}
	switch {
	case f.code == codeShmSize || f.code&0xff == codeFull:
		f.cause = ErrDiskFull
	case f.code&0xff == codeCorrupt, f.code&0xff == codeNotADB:
		f.cause = ErrDamaged
	}
	return f
}

// final reports whether an error of the writing connection leaves the contents of the disk unknown.
func final(err error) bool {
	f, ok := errors.AsType[*failure](err)
	if !ok || f.cause == ErrDiskFull { //nolint:errorlint // the sentinel itself, not something that wraps it
		return false
	}
	switch f.code & 0xff {
	case codeIOErr, codeCorrupt, codeNotADB:
		return true
	default:
		return false
	}
}
