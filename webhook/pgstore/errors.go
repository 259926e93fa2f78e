package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/b24events/b24events/webhook"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

const (
	// ErrConfig means that arguments or options of [New] or [DDL] are invalid, or do not match the
	// data.
	ErrConfig Error = "pgstore: invalid configuration"
	// ErrSchema means that the tables are missing, are of a newer version, or were changed so that the
	// Store cannot work.
	ErrSchema Error = "pgstore: this version cannot work with the tables"
	// ErrNotDurable means that the server may lose what it acknowledged. See
	// [WithoutDurabilityCheck].
	ErrNotDurable Error = "pgstore: the server may lose what it acknowledges"
	// ErrClosed means that [Store.Close] was called.
	ErrClosed Error = "pgstore: the store is closed"
	// ErrLocked means that another transaction locks records that a Commit should mark. The rest of
	// that Commit was stored.
	ErrLocked Error = "pgstore: another transaction holds locks on records"
	// ErrNoAttempt means that the context passed to [Tx] does not come from a handler of a record of
	// this Store.
	ErrNoAttempt Error = "pgstore: the context does not belong to a handler of a record of a pgstore.Store"
	// ErrAttemptOver means that [Tx] was called after the handler had returned.
	ErrAttemptOver Error = "pgstore: the attempt is over"
	// ErrTxEnded means that the handler ended the transaction of [Tx] itself, so the record could
	// not be settled in it.
	ErrTxEnded Error = "pgstore: the handler ended the transaction of its attempt, which is for the store to end"
	// ErrTxFailed means that a statement in the transaction of [Tx] had failed, but the handler
	// returned nil. PostgreSQL cannot commit such a transaction.
	ErrTxFailed Error = "pgstore: a statement in the transaction of the attempt failed, so nothing was committed"
	// ErrUnknownOutcome means that the connection was lost while the transaction of [Tx] was
	// committed, and the server could not report the outcome. If it was committed, the next attempt
	// ends with [webhook.ErrSettled].
	ErrUnknownOutcome Error = "pgstore: the connection was lost during the commit; its outcome is unknown"
)

// failure is an error of the driver. Its text quotes neither values nor the connection.
type failure struct {
	text   string
	causes []error
}

// Error returns the text.
func (f *failure) Error() string { return f.text }

// Unwrap returns the error of the driver and, if there is one, the sentinel that the failure
// matches.
func (f *failure) Unwrap() []error { return f.causes }

// SQLSTATE codes and classes.
const (
	codeLockNotAvailable = "55P03"
	codeDeadlock         = "40P01"
	codeDiskFull         = "53100"
)

// fail returns the error of an operation. It replaces the text of the driver's error, which may
// quote the address of the server, the user, and values.
func fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if isOwn(err) {
		return err
	}
	f := &failure{causes: []error{err}}
	pg, isPg := errors.AsType[*pgconn.PgError](err)
	_, isConnect := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case isPg:
		f.text = fmt.Sprintf("pgstore: %s: SQLSTATE %s%s", op, plain(pg.Code), message(pg))
		if pg.Code == codeDiskFull {
			f.causes = append(f.causes, webhook.ErrQueueFull)
		}
	case errors.Is(err, context.DeadlineExceeded):
		f.text = "pgstore: " + op + ": " + context.DeadlineExceeded.Error()
	case errors.Is(err, context.Canceled):
		f.text = "pgstore: " + op + ": " + context.Canceled.Error()
	case isConnect:
		f.text = "pgstore: " + op + ": cannot connect to the server"
	case errors.Is(err, pgx.ErrNoRows):
		f.text = "pgstore: " + op + ": no row"
	default:
		f.text = "pgstore: " + op + ": the connection failed, or the pool is closed"
	}
	return f
}

// isOwn reports whether the text of an error is from this package.
func isOwn(err error) bool {
	_, sentinel := errors.AsType[Error](err)
	_, full := errors.AsType[webhook.Error](err)
	_, made := errors.AsType[*failure](err)
	return sentinel || full || made
}

// message returns the message of the server if messages of its class quote names of tables and
// columns, but no values.
func message(err *pgconn.PgError) string {
	if len(err.Code) != 5 {
		return ""
	}
	switch err.Code[:2] {
	case "23", "25", "3F", "40", "42", "53", "55", "57", "58":
		return ": " + err.Message
	default:
		return ""
	}
}

// plain returns code if it is a SQLSTATE, otherwise a question mark.
func plain(code string) string {
	for _, r := range code {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') {
			return "?"
		}
	}
	return code
}

// permanent reports whether an error stays until somebody acts, for example because a table or a
// privilege is missing.
func permanent(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "0A", "22", "28", "3D", "3F", "42":
		return true
	default:
		return false
	}
}

// hasCode reports whether err is an error of the server with one of the codes.
func hasCode(err error, codes ...string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pg.Code)
}

// misconfigured makes an [ErrConfig] with an explanation.
func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}
