package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/b24events/b24events/oauth"
)

const (
	// MaxIDLength is the greatest length of a client ID or a member ID, in bytes. Those of Bitrix24
	// have about 32.
	MaxIDLength = 255

	// maxTries is how often a statement is tried if the database undoes it because of another one.
	maxTries = 10
	// firstWait doubles with each try up to maxWait.
	firstWait = 5 * time.Millisecond
	maxWait   = 200 * time.Millisecond
)

var (
	_ oauth.Store  = (*Store)(nil)
	_ oauth.Locker = (*Store)(nil)
)

// Store keeps installations and leases in a database. It is an [oauth.Store], an [oauth.Locker] and
// an offline.Leaser. It is safe for concurrent use by any number of processes. Make one with [New].
//
// A Store keeps nothing in memory, has no goroutines and need not be closed. The caller owns the
// database: close it after everything that uses the Store has ended.
//
// Besides the errors of an oauth.Store, its methods return the context's error,
// [oauth.ErrUnreadable], [oauth.ErrEncryptionKey], and an error of the database. The text of the
// latter has the database's code, and never a value, an address or a name of a user. The driver's
// error is in the chain.
type Store struct {
	db      *sql.DB
	cfg     config
	dialect *dialect
	codec   *oauth.Codec

	mu        sync.Mutex
	deletedAt time.Time // when this process last deleted expired leases
}

// New returns the store in a database that speaks the SQL of d. It asks the server whether that is
// so, and whether commits survive a power failure. It creates the tables, or brings them up to
// date. Any number of processes may call New at the same time. ctx is for New only.
//
// The caller owns the pool. It must lead to one server, the primary. If Load read from a replica
// that lags behind, package oauth would conclude that a portal is lost.
//
// It returns an error that matches [ErrConfig] if an argument or an option makes no sense, or if
// the database is not set up as the package documentation says. An error of a key also matches
// [oauth.ErrEncryptionKey]. New returns an error that matches [ErrSchema] if a newer version of
// this package made the tables, or if they are missing or old with [WithoutMigration]. It may also
// return the context's error, or an error of the database.
func New(ctx context.Context, db *sql.DB, d Dialect, opts ...Option) (*Store, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	if db == nil {
		return nil, configError("New: the database is nil")
	}
	known, err := checkDialect(cfg, d)
	if err != nil {
		return nil, err
	}
	codec, err := oauth.NewCodec(cfg.codec...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	s := &Store{db: db, cfg: cfg, dialect: known, codec: codec}
	if err := s.checkServer(ctx); err != nil {
		return nil, err
	}
	if err := s.checkTables(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Load returns an installation and its version, or [oauth.ErrNotFound].
func (s *Store) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	if writable(key) != nil {
		return oauth.Installation{}, "", oauth.ErrNotFound
	}
	type row struct{ version, document []byte }
	rows, err := query(ctx, s, "load", s.sql(loadSQL), keyArgs(key), func(rows *sql.Rows) (r row, err error) {
		err = rows.Scan(&r.version, &r.document)
		return r, err
	})
	if err != nil {
		return oauth.Installation{}, "", err
	}
	if len(rows) == 0 {
		return oauth.Installation{}, "", oauth.ErrNotFound
	}
	in, err := s.codec.Open(key, rows[0].document)
	if err != nil {
		return oauth.Installation{}, "", withKey(key, err)
	}
	return in, oauth.Version(rows[0].version), nil
}

// Swap writes an installation, or returns [oauth.ErrConflict]. It refuses one of more than 1 MiB,
// text that is not UTF-8, and IDs of more than [MaxIDLength] bytes.
//
// After any other error the new installation may be stored: a connection can break between the
// commit and its confirmation. Load shows which is stored. Another Swap with the same old version
// is safe; it returns ErrConflict if the first one succeeded.
func (s *Store) Swap(ctx context.Context, key oauth.Key, old oauth.Version, in oauth.Installation) (oauth.Version, error) {
	if err := writable(key); err != nil {
		return "", err
	}
	document, err := s.codec.Seal(key, in)
	if err != nil {
		return "", err
	}
	version := rand.Text() // 130 random bits, so that it never comes back
	var written int64
	if old == "" {
		written, err = s.exec(ctx, "swap", s.sql(s.dialect.insert), append(keyArgs(key), []byte(version), document))
	} else {
		args := append([]any{[]byte(version), document}, keyArgs(key)...)
		written, err = s.exec(ctx, "swap", s.sql(replaceSQL), append(args, []byte(old)))
	}
	switch {
	case err != nil:
		return "", err
	case written == 0:
		return "", oauth.ErrConflict
	}
	return oauth.Version(version), nil
}

// Delete removes an installation, or returns [oauth.ErrConflict]. After any other error it may be
// removed or not.
func (s *Store) Delete(ctx context.Context, key oauth.Key, old oauth.Version) error {
	if writable(key) != nil {
		return nil //nolint:nilerr // nothing is stored under it
	}
	deleted, err := s.exec(ctx, "delete", s.sql(deleteSQL), append(keyArgs(key), []byte(old)))
	if err != nil || deleted > 0 {
		return err
	}
	found, err := query(ctx, s, "delete", s.sql(existsSQL), keyArgs(key), func(rows *sql.Rows) (n int, err error) {
		err = rows.Scan(&n)
		return n, err
	})
	if err == nil && len(found) > 0 {
		return oauth.ErrConflict
	}
	return err
}

// List returns keys of one application in order. It reads the primary key from the beginning of the
// page on, and keeps nothing open between two pages. See [oauth.Store].
func (s *Store) List(ctx context.Context, after oauth.Key, limit int) ([]oauth.Key, error) {
	if limit < 1 {
		return nil, errLimit
	}
	args := []any{[]byte(after.ClientID), []byte(after.MemberID)}
	if s.dialect.dialect == MySQL {
		args = append(args, []byte(after.MemberID))
	}
	args = append(args, after.UserID, min(limit, math.MaxInt32))
	return query(ctx, s, "list", s.sql(s.dialect.list), args, func(rows *sql.Rows) (oauth.Key, error) {
		var member []byte
		key := oauth.Key{ClientID: after.ClientID}
		err := rows.Scan(&member, &key.UserID)
		key.MemberID = string(member)
		return key, err
	})
}

// Format prints no installation, no key and nothing of the database, whatever the verb.
func (s *Store) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("sqlstore.Store")) }

const (
	errNoMember     Error = "sqlstore: the key has no member ID, and nothing is stored for it"
	errNegativeUser Error = "sqlstore: the key has a negative user ID, and nothing is stored for it"
	errLongID       Error = "sqlstore: the client ID or the member ID has more than 255 bytes, and nothing was written"
	errLimit        Error = "sqlstore: List needs a limit of 1 or more"
)

// writable returns an error for a key that the store does not accept.
func writable(key oauth.Key) error {
	switch {
	case key.MemberID == "":
		return errNoMember
	case key.UserID < 0:
		return errNegativeUser
	case len(key.ClientID) > MaxIDLength, len(key.MemberID) > MaxIDLength:
		return errLongID
	default:
		return nil
	}
}

// keyArgs returns the parameters of a key. IDs are bytes, so that no collation treats two as equal.
func keyArgs(key oauth.Key) []any {
	return []any{[]byte(key.ClientID), []byte(key.MemberID), key.UserID}
}

// withKey adds the portal and the user to an error of the codec.
func withKey(key oauth.Key, err error) error {
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		with := *e
		with.Op, with.Detail = "sqlstore", fmt.Sprintf("member %q, user %d: %s", key.MemberID, key.UserID, e.Detail)
		return &with
	}
	return err
}

func (s *Store) sql(template string) string { return s.dialect.sql(s.cfg, template, 0) }

// exec executes a statement and returns the number of rows that it changed.
func (s *Store) exec(ctx context.Context, op, statement string, args []any) (changed int64, err error) {
	err = s.retry(ctx, op, func() error {
		result, err := s.db.ExecContext(ctx, statement, args...)
		if err == nil {
			changed, err = result.RowsAffected()
		}
		return err
	})
	return changed, err
}

// query executes a statement and returns what scan makes of each row.
func query[T any](ctx context.Context, s *Store, op, statement string, args []any, scan func(*sql.Rows) (T, error)) ([]T, error) {
	var found []T
	err := s.retry(ctx, op, func() error {
		found = nil
		rows, err := s.db.QueryContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				return err
			}
			found = append(found, v)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// retry calls f again if the database undid it because of another statement at the same time. It
// returns an error whose outcome is unknown, such as a broken connection, to the caller.
func (s *Store) retry(ctx context.Context, op string, f func() error) error {
	wait := firstWait
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return s.dialect.wrapError(ctx, op, err)
		}
		err := f()
		if err == nil {
			return nil
		}
		if try == maxTries || !s.dialect.isRetryable(err) {
			return s.dialect.wrapError(ctx, op, err)
		}
		pause := time.NewTimer(wait/2 + mathrand.N(wait)) //nolint:gosec // spreads the tries of those that collided
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, maxWait)
	}
}
