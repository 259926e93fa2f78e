package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/b24events/b24events/oauth"
)

// New returns the store in a database, of which d says which SQL it speaks. It asks the server
// whether that is so and whether commits survive a loss of power, and creates the tables, or brings
// them up to date. Any number of processes may call New at the same time. ctx is for New only.
//
// The pool stays the caller's. It must lead to one server, the primary: a Load from a replica that
// lags behind would take a portal for lost.
//
// It returns an error that matches [ErrConfig] if an argument makes no sense or the database is not
// set up as the package documentation says, one that matches [ErrSchema] if a newer version of this
// package made the tables or if they are missing or old with [WithoutMigration],
// [oauth.ErrEncryptionKey], the context's error, or an error of the database.
func New(ctx context.Context, db *sql.DB, d Dialect, opts ...Option) (*Store, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	if db == nil {
		return nil, misconfigured("New was given no database")
	}
	known, err := checkDialect(cfg, d)
	if err != nil {
		return nil, err
	}
	codec, err := oauth.NewCodec(cfg.codec...)
	if err != nil {
		return nil, err
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

// DDL returns the statements that create the tables of an empty database, for a DBA to run. Each
// ends in a semicolon and a line feed. Above those of each version of the tables is a comment with
// the version, so that the ones from a later version on bring older tables up to date. Options
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

func checkDialect(cfg config, d Dialect) (*dialect, error) {
	known, ok := dialectOf(d)
	switch {
	case !ok:
		return nil, misconfigured("%v is none of PostgreSQL, MySQL and SQLite", d)
	case d == SQLite && cfg.schema != "":
		return nil, misconfigured("WithSchema: SQLite has no schemas; use WithTablePrefix, or a file of its own")
	default:
		return known, nil
	}
}

const opConnect = "connect"

// checkServer refuses a server of another dialect, and one that would lose tokens.
func (s *Store) checkServer(ctx context.Context) error {
	err := s.retry(ctx, opConnect, func() error { return s.db.PingContext(ctx) })
	if err != nil {
		return err
	}
	found, version, err := s.identify(ctx)
	switch {
	case err != nil:
		return err
	case found == 0:
		return misconfigured("New was given %v, but the server says that it is %.60q, which is not supported", s.dialect.dialect, version)
	case found != s.dialect.dialect:
		return misconfigured("New was given %v, but the database speaks %v; pass sqlstore.%v", s.dialect.dialect, found, found)
	}
	switch found {
	case PostgreSQL:
		return s.checkPostgreSQL(ctx)
	case MySQL:
		return s.checkMySQL(ctx)
	default:
		return s.checkSQLite(ctx, version)
	}
}

var mysqlVersion = regexp.MustCompile(`^\d+\.\d+\.\d+`)

// identify returns the dialect and the version of the server. If it does not know the question, it
// gets those of the other dialects. The dialect is 0 if the package does not know the server.
func (s *Store) identify(ctx context.Context) (d Dialect, version string, err error) {
	questions := []string{s.dialect.identify, identifySQL, sqLite.identify}
	for i, question := range questions {
		var answers []string
		answers, errQuestion := query(ctx, s, opConnect, question, nil, func(rows *sql.Rows) (text string, err error) {
			err = rows.Scan(&text)
			return text, err
		})
		if i == 0 {
			err = errQuestion
		}
		if errQuestion != nil || len(answers) != 1 {
			continue
		}
		switch version = answers[0]; {
		case question == sqLite.identify:
			return SQLite, version, nil
		case strings.HasPrefix(version, "PostgreSQL "):
			return PostgreSQL, version, nil
		case mysqlVersion.MatchString(version):
			return MySQL, version, nil
		default:
			return 0, version, nil
		}
	}
	return 0, "", err
}

const unsynced = "; after a loss of power the last tokens would be missing, so correct that, or accept it with WithUnsyncedCommits"

func (s *Store) checkPostgreSQL(ctx context.Context) error {
	var fsync, commit string
	var standby bool
	err := s.ask(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery()`,
		&fsync, &commit, &standby)
	switch {
	case err != nil:
		return err
	case standby:
		return misconfigured("the server is a standby; connect to the primary (target_session_attrs=read-write)")
	case fsync == "off" && !s.cfg.unsynced:
		return misconfigured("fsync is off" + unsynced)
	case commit == "off" && !s.cfg.unsynced:
		return misconfigured("synchronous_commit is off" + unsynced)
	default:
		return nil
	}
}

func (s *Store) checkMySQL(ctx context.Context) error {
	var autocommit, readOnly bool
	var flush int
	err := s.ask(ctx, `SELECT @@autocommit, @@global.read_only, @@global.innodb_flush_log_at_trx_commit`,
		&autocommit, &readOnly, &flush)
	switch {
	case err != nil:
		return err
	case !autocommit:
		return misconfigured("autocommit is off, so nothing that the store writes would be committed; leave it on in the DSN and on the server")
	case readOnly:
		return misconfigured("the server is read-only; connect to the primary")
	case flush != 1 && flush != 3 && !s.cfg.unsynced: // 3 is MariaDB's: 1 and more
		return misconfigured("innodb_flush_log_at_trx_commit is %d%s", flush, unsynced)
	default:
		return nil
	}
}

const (
	// minBusyTimeout is in milliseconds. With less, writers in several processes get in each other's
	// way.
	minBusyTimeout = 1000
	syncFull       = 2 // of PRAGMA synchronous

	sqliteDSN = "; open the database with the settings that the documentation of package sqlstore shows"
)

func (s *Store) checkSQLite(ctx context.Context, version string) error {
	if older(version, 3, 35) {
		return misconfigured("SQLite %s is too old; the package needs 3.35 or later, and the driver brings it along", version)
	}
	var timeout, synchronous int
	var journal string
	err := s.ask(ctx, `PRAGMA busy_timeout`, &timeout)
	if err == nil {
		err = s.ask(ctx, `PRAGMA synchronous`, &synchronous)
	}
	if err == nil {
		err = s.ask(ctx, `PRAGMA journal_mode`, &journal)
	}
	if err == nil && journal != "wal" { // which the file keeps, unlike the other settings
		err = s.ask(ctx, `PRAGMA journal_mode = WAL`, &journal)
	}
	switch {
	case err != nil:
		return err
	case journal != "wal":
		return misconfigured("the journal mode stays %.20q instead of WAL, as in memory; use a file on a local disk", journal)
	case timeout < minBusyTimeout:
		return misconfigured("busy_timeout is %d ms, so processes that write at the same time would fail%s", timeout, sqliteDSN)
	case synchronous < syncFull && !s.cfg.unsynced:
		return misconfigured("synchronous is not FULL%s%s", unsynced, sqliteDSN)
	default:
		return nil
	}
}

// older reports whether a version is less than major.minor.
func older(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	return errA == nil && errB == nil && (a < major || a == major && b < minor)
}

// conn is a *sql.DB, *sql.Conn or *sql.Tx.
type conn interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// ask reads one row of settings.
func (s *Store) ask(ctx context.Context, statement string, into ...any) error {
	return s.retry(ctx, opConnect, func() error { return s.db.QueryRowContext(ctx, statement).Scan(into...) })
}

// checkTables makes sure that the tables have the latest version. If they have, it writes nothing
// and takes no lock, so the user need not have the right to create tables.
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
	if errors.Is(err, sql.ErrNoRows) { // MySQL commits each table by itself
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
		return s.migrateAlone(ctx, s.lockMySQL)
	default:
		return s.migrateAlone(ctx, lockSQLite)
	}
}

// migratePostgreSQL uses a lock that ends with the transaction, as PgBouncer requires.
func (s *Store) migratePostgreSQL(ctx context.Context) error {
	// After it has waited, a transaction of another level would not see the tables.
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	const lock = 0x623234_6f61757468 // "b24oauth"
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lock)); err != nil {
		return err
	}
	if err := s.upgrade(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// migrateAlone uses a connection of its own that it locks first.
func (s *Store) migrateAlone(ctx context.Context, lock func(context.Context, *sql.Conn) (unlock string, err error)) error {
	c, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	unlock, err := lock(ctx, c)
	if err == nil {
		err = s.upgrade(ctx, c)
	}
	if err == nil {
		_, err = c.ExecContext(ctx, unlock)
	}
	if err != nil { // the end of the connection is the end of the lock and of the transaction
		_ = c.Raw(func(any) error { return driver.ErrBadConn })
	}
	return err
}

// lockSQLite begins a transaction that writes, which database/sql cannot.
func lockSQLite(ctx context.Context, c *sql.Conn) (unlock string, err error) {
	_, err = c.ExecContext(ctx, `BEGIN IMMEDIATE`)
	return `COMMIT`, err
}

// migrationWait is how long a migration waits for another one, in seconds.
const migrationWait = 60

const errMigrating Error = "sqlstore: another process has been changing the tables for a minute; start again later"

// lockMySQL takes a lock of the connection, since MySQL commits each CREATE TABLE by itself. The
// names of locks are the server's, and short.
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

// upgrade executes the migrations that are left. The caller has the lock.
func (s *Store) upgrade(ctx context.Context, c conn) error {
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
