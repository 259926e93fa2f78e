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
	// MaxIDLength is how long a client ID or a member ID may be, in bytes. Those of Bitrix24 have
	// about 32.
	MaxIDLength = 255

	// maxTries is how often a statement is tried that the database undid because of another one.
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
// A Store keeps nothing in memory, has no goroutines and needs no closing. The database stays the
// caller's: close it after everything that uses the Store has ended.
//
// Besides the errors of an oauth.Store, its methods return the context's error,
// [oauth.ErrUnreadable], [oauth.ErrEncryptionKey], and an error of the database. The latter shows
// the database's code, and never a value, an address or a name of a user; the driver's error is in
// the chain.
type Store struct {
	db      *sql.DB
	cfg     config
	dialect *dialect
	codec   *oauth.Codec

	mu    sync.Mutex
	swept time.Time // when this process last looked for leases to forget
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
		return oauth.Installation{}, "", located(key, err)
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

// List returns keys of one application in order. It reads the primary key from the place where the
// page begins, and holds nothing between two pages. See [oauth.Store].
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

// writable returns an error for a key that nothing is stored under.
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

// keyArgs returns the parameters of a key. IDs are bytes, so that no collation takes two for one.
func keyArgs(key oauth.Key) []any {
	return []any{[]byte(key.ClientID), []byte(key.MemberID), key.UserID}
}

// located adds the place of an installation to an error of the codec.
func located(key oauth.Key, err error) error {
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

// retry calls f again if the database undid it because of something else at the same time. An error
// whose outcome is not known, such as a broken connection, is the caller's.
func (s *Store) retry(ctx context.Context, op string, f func() error) error {
	wait := firstWait
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return s.dialect.failed(ctx, op, err)
		}
		err := f()
		if err == nil {
			return nil
		}
		if try == maxTries || !s.dialect.passes(err) {
			return s.dialect.failed(ctx, op, err)
		}
		pause := time.NewTimer(wait/2 + mathrand.N(wait)) //nolint:gosec // spreads those that met
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, maxWait)
	}
}
