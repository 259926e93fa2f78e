package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// DDL returns the statements that create the tables of an empty database, for a DBA to run. Each
// ends in a semicolon and a line feed. A comment with the version is above the statements of each
// version of the tables. The statements of later versions bring older tables up to date. Options
// other than [WithTablePrefix] and [WithSchema] have no effect. It returns an error that matches
// [ErrConfig].
func DDL(d Dialect, opts ...Option) (string, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return "", err
	}
	known, err := checkDialect(cfg, d)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for i, statements := range known.migrations {
		fmt.Fprintf(&text, "-- version %d\n", i+1)
		for _, statement := range statements {
			text.WriteString(known.sql(cfg, statement, 0) + ";\n")
		}
	}
	return text.String(), nil
}

// conn is a *sql.DB, *sql.Conn or *sql.Tx.
type conn interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkTables makes sure that the tables have the latest version. If they do, it writes nothing and
// takes no lock, so the user does not need the right to create tables.
func (s *Store) checkTables(ctx context.Context) error {
	const op = "migrate"
	latest := len(s.dialect.migrations)
	for migrated := false; ; migrated = true {
		found := 0
		err := s.retry(ctx, op, func() (err error) {
			found, err = s.tablesVersion(ctx, s.db)
			return err
		})
		switch {
		case err != nil:
			return err
		case found > latest:
			return fmt.Errorf("%w: a newer version of the package made them (version %d, and this one knows %d); "+
				"update this program, or give it tables of its own with WithTablePrefix", ErrSchema, found, latest)
		case found == latest:
			return nil
		case found < 0 || migrated:
			return fmt.Errorf("%w: they say that they have version %d; correct the row in %s", ErrSchema, found, s.dialect.table(s.cfg, "schema"))
		case !s.cfg.migrates && found == 0:
			return fmt.Errorf("%w: they are missing, and WithoutMigration was given; run the statements that sqlstore.DDL returns", ErrSchema)
		case !s.cfg.migrates:
			return fmt.Errorf("%w: they have version %d, this version of the package needs %d, and WithoutMigration was given; "+
				"run the statements that sqlstore.DDL returns for the later versions", ErrSchema, found, latest)
		}
		if err = s.retry(ctx, op, func() error { return s.migrate(ctx) }); err != nil {
			return err
		}
	}
}

// tablesVersion returns the version of the tables, or 0 if there are none.
func (s *Store) tablesVersion(ctx context.Context, c conn) (version int, err error) {
	var exists bool
	name := s.cfg.prefix + "schema"
	switch s.dialect.dialect {
	case PostgreSQL:
		err = c.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, s.dialect.table(s.cfg, "schema")).Scan(&exists)
	case MySQL:
		err = c.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.tables
WHERE table_name = ? AND table_schema = IF(? = '', DATABASE(), ?)`, name, s.cfg.schema, s.cfg.schema).Scan(&exists)
	case SQLite:
		err = c.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?`, name).Scan(&exists)
	}
	if err != nil || !exists {
		return 0, err
	}
	err = c.QueryRowContext(ctx, s.sql(`SELECT version FROM {schema} WHERE id = 1`)).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) { // MySQL commits each statement by itself
		return 0, nil
	}
	return version, err
}

// migrate brings the tables up to date, one process at a time.
func (s *Store) migrate(ctx context.Context) error {
	switch s.dialect.dialect {
	case PostgreSQL:
		return s.migratePostgreSQL(ctx)
	case MySQL:
		return s.migrateOnConn(ctx, s.lockMySQL)
	default:
		return s.migrateOnConn(ctx, lockSQLite)
	}
}

// migratePostgreSQL uses a lock that ends with the transaction, as PgBouncer requires.
func (s *Store) migratePostgreSQL(ctx context.Context) error {
	// A transaction of another level would not see the tables after it has waited for the lock.
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	const lock = 0x623234_6f61757468 // "b24oauth"
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lock)); err != nil {
		return err
	}
	if err := s.upgradeLocked(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// migrateOnConn uses one connection, on which it takes a lock first.
func (s *Store) migrateOnConn(ctx context.Context, lock func(context.Context, *sql.Conn) (unlock string, err error)) error {
	c, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	unlock, err := lock(ctx, c)
	if err == nil {
		err = s.upgradeLocked(ctx, c)
	}
	if err == nil {
		_, err = c.ExecContext(ctx, unlock)
	}
	if err != nil { // the lock and the transaction end with the connection
		_ = c.Raw(func(any) error { return driver.ErrBadConn })
	}
	return err
}

// lockSQLite begins a transaction that writes, which database/sql cannot do.
func lockSQLite(ctx context.Context, c *sql.Conn) (unlock string, err error) {
	_, err = c.ExecContext(ctx, `BEGIN IMMEDIATE`)
	return `COMMIT`, err
}

// migrationWait is how long a migration waits for another one, in seconds.
const migrationWait = 60

const errMigrating Error = "sqlstore: another process has been changing the tables for a minute; start again later"

// lockMySQL takes a lock of the connection, since MySQL commits each CREATE TABLE by itself. The
// server has one name space for locks, and the names must be short.
func (s *Store) lockMySQL(ctx context.Context, c *sql.Conn) (unlock string, err error) {
	sum := sha256.Sum256([]byte(s.dialect.table(s.cfg, "schema")))
	name := "'b24events-sqlstore-" + hex.EncodeToString(sum[:12]) + "'"
	var got sql.NullBool
	err = c.QueryRowContext(ctx, fmt.Sprintf(`SELECT GET_LOCK(%s, %d)`, name, migrationWait)).Scan(&got)
	if err == nil && !got.Bool {
		err = errMigrating
	}
	return `DO RELEASE_LOCK(` + name + `)`, err
}

// upgradeLocked executes the remaining migrations. The caller holds the lock of the migration.
func (s *Store) upgradeLocked(ctx context.Context, c conn) error {
	found, err := s.tablesVersion(ctx, c)
	if err != nil || found < 0 {
		return err
	}
	for ; found < len(s.dialect.migrations); found++ {
		for _, statement := range s.dialect.migrations[found] {
			if _, err := c.ExecContext(ctx, s.sql(statement)); err != nil {
				return err
			}
		}
	}
	return nil
}
