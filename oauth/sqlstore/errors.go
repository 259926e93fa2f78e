package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"syscall"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

const (
	// ErrConfig means that [New] or [DDL] got arguments or options that make no sense, or a database
	// that is not set up as this package needs it.
	ErrConfig Error = "sqlstore: invalid configuration"
	// ErrSchema means that the tables are missing, or that another version of this package made
	// them.
	ErrSchema Error = "sqlstore: the tables do not fit this version of the package"
)

// configError returns an [ErrConfig] with an explanation.
func configError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// failure is an error of the database or the driver. The texts of drivers quote addresses, users
// and values, so a failure shows only the code. The driver's error is in the chain, for errors.As.
type failure struct {
	op   string
	text string
	err  error
}

func (f *failure) Error() string    { return "sqlstore: " + f.op + ": " + f.text }
func (f *failure) Unwrap() error    { return f.err }
func (f *failure) GoString() string { return f.Error() } // fmt would print the driver's error

// wrapError makes a failure of a driver's error. If ctx has ended, the failure says so instead. It
// returns an error of this package unchanged.
func (d *dialect) wrapError(ctx context.Context, op string, err error) error {
	if ended := ctx.Err(); ended != nil {
		return &failure{op: op, text: ended.Error(), err: ended}
	}
	if own, ok := errors.AsType[Error](err); ok {
		return own
	}
	code := d.code(err)
	text, known := codeTexts[code]
	errno, broken := errors.AsType[syscall.Errno](err)
	switch {
	case known:
		text += " (" + code + ")"
	case code != "":
		text = "the database reports " + code
	case broken:
		text = "the connection to the database failed: " + errno.Error()
	default:
		text = "the database, or the connection to it, failed"
	}
	return &failure{op: op, text: text, err: err}
}

// codeTexts are the texts of codes that somebody can do something about.
var codeTexts = map[string]string{
	"SQLSTATE 25006":  "the server takes no writes; connect to the primary (target_session_attrs=read-write)",
	"SQLSTATE 26000":  textPooled,
	"SQLSTATE 28000":  "the server refuses the user",
	"SQLSTATE 28P01":  "the server refuses the password",
	"SQLSTATE 3D000":  "there is no such database",
	"SQLSTATE 3F000":  "there is no such schema; create it",
	"SQLSTATE 42501":  "the user lacks a right",
	"SQLSTATE 42P01":  "a table is missing; run the statements of sqlstore.DDL",
	"SQLSTATE 42P05":  textPooled,
	"SQLSTATE 53100":  "the disk of the server is full",
	"SQLSTATE 53300":  "the server has too many connections; see sql.DB.SetMaxOpenConns",
	"error 1021":      "the disk of the server is full",
	"error 1040":      "the server has too many connections; see sql.DB.SetMaxOpenConns",
	"error 1044":      "the user may not use the database",
	"error 1045":      "the server refuses the user or the password",
	"error 1046":      "the DSN names no database",
	"error 1049":      "there is no such database",
	"error 1142":      "the user lacks a right",
	"error 1146":      "a table is missing; run the statements of sqlstore.DDL",
	"error 1290":      "the server takes no writes; connect to the primary",
	"error 1836":      "the server takes no writes; connect to the primary",
	"SQLite error 5":  "another connection has locked the database for too long",
	"SQLite error 8":  "the file or its folder is not writable",
	"SQLite error 10": "reading or writing the file failed",
	"SQLite error 11": "the file is damaged",
	"SQLite error 13": "the disk is full",
	"SQLite error 14": "the file cannot be opened",
	"SQLite error 26": "the file is not a SQLite database",
}

const textPooled = "a connection pooler keeps no prepared statements; with pgx use default_query_exec_mode=exec"

// code returns the code that the database gave an error, or nothing if it has none. The package
// imports no driver, so it reads what the errors of drivers have in common.
func (d *dialect) code(err error) string {
	switch d.dialect {
	case PostgreSQL:
		var state interface{ SQLState() string }
		if errors.As(err, &state) && state.SQLState() != "" {
			return "SQLSTATE " + state.SQLState()
		}
	case MySQL:
		for ; err != nil; err = errors.Unwrap(err) {
			v := reflect.Indirect(reflect.ValueOf(err))
			if v.Kind() != reflect.Struct {
				continue
			}
			if n := v.FieldByName("Number"); n.IsValid() && n.CanUint() {
				return "error " + strconv.FormatUint(n.Uint(), 10)
			}
		}
	case SQLite:
		var coded interface{ Code() int }
		if errors.As(err, &coded) {
			return "SQLite error " + strconv.Itoa(coded.Code()&0xff)
		}
	}
	return ""
}

// isRetryable reports whether the database undid a statement because of another one at the same
// time, so that it can be tried again.
func (d *dialect) isRetryable(err error) bool {
	if d.dialect == SQLite { // all of its drivers pass on this text
		return strings.Contains(err.Error(), "is locked")
	}
	switch d.code(err) {
	case "SQLSTATE 40001", "SQLSTATE 40P01", // not serializable, deadlock
		"error 1020", "error 1205", "error 1213": // changed since it was read, lock wait timeout, deadlock
		return true
	default:
		return false
	}
}
