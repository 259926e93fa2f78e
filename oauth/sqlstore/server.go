package sqlstore

import (
	"context"
	"database/sql"
	"regexp"
	"strconv"
	"strings"
)

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
		return configError("New was given %v, but the server says that it is %.60q, which is not supported", s.dialect.dialect, version)
	case found != s.dialect.dialect:
		return configError("New was given %v, but the database speaks %v; pass sqlstore.%v", s.dialect.dialect, found, found)
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

// identify returns the dialect and the version of the server. If the server does not understand the
// query of its dialect, identify tries those of the others. The dialect is 0 if the package does
// not know the server.
func (s *Store) identify(ctx context.Context) (d Dialect, version string, err error) {
	queries := []string{s.dialect.identify, identifySQL, sqLite.identify}
	for i, q := range queries {
		var versions []string
		versions, queryErr := query(ctx, s, opConnect, q, nil, func(rows *sql.Rows) (text string, err error) {
			err = rows.Scan(&text)
			return text, err
		})
		if i == 0 {
			err = queryErr
		}
		if queryErr != nil || len(versions) != 1 {
			continue
		}
		switch version = versions[0]; {
		case q == sqLite.identify:
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

const textUnsynced = "; after a power failure the last tokens would be missing, so correct that, or accept it with WithUnsyncedCommits"

func (s *Store) checkPostgreSQL(ctx context.Context) error {
	var fsync, commit string
	var standby bool
	err := s.readSettings(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery()`,
		&fsync, &commit, &standby)
	switch {
	case err != nil:
		return err
	case standby:
		return configError("the server is a standby; connect to the primary (target_session_attrs=read-write)")
	case fsync == "off" && !s.cfg.unsynced:
		return configError("fsync is off" + textUnsynced)
	case commit == "off" && !s.cfg.unsynced:
		return configError("synchronous_commit is off" + textUnsynced)
	default:
		return nil
	}
}

func (s *Store) checkMySQL(ctx context.Context) error {
	var autocommit, readOnly bool
	var flush int
	err := s.readSettings(ctx, `SELECT @@autocommit, @@global.read_only, @@global.innodb_flush_log_at_trx_commit`,
		&autocommit, &readOnly, &flush)
	switch {
	case err != nil:
		return err
	case !autocommit:
		return configError("autocommit is off, so nothing that the store writes would be committed; leave it on in the DSN and on the server")
	case readOnly:
		return configError("the server is read-only; connect to the primary")
	case flush != 1 && flush != 3 && !s.cfg.unsynced: // 3 is a value of MariaDB that includes 1
		return configError("innodb_flush_log_at_trx_commit is %d%s", flush, textUnsynced)
	default:
		return nil
	}
}

const (
	// minBusyTimeout is in milliseconds. With less, writers in several processes make each other fail.
	minBusyTimeout = 1000
	syncFull       = 2 // of PRAGMA synchronous

	textSQLiteDSN = "; open the database with the settings that the documentation of package sqlstore shows"
)

func (s *Store) checkSQLite(ctx context.Context, version string) error {
	if isOlder(version, 3, 35) {
		return configError("SQLite %s is too old; the package needs 3.35 or later, and the driver brings it along", version)
	}
	var timeout, synchronous int
	var journal string
	err := s.readSettings(ctx, `PRAGMA busy_timeout`, &timeout)
	if err == nil {
		err = s.readSettings(ctx, `PRAGMA synchronous`, &synchronous)
	}
	if err == nil {
		err = s.readSettings(ctx, `PRAGMA journal_mode`, &journal)
	}
	if err == nil && journal != "wal" { // the file keeps this setting, unlike the others
		err = s.readSettings(ctx, `PRAGMA journal_mode = WAL`, &journal)
	}
	switch {
	case err != nil:
		return err
	case journal != "wal":
		return configError("the journal mode stays %.20q instead of WAL, as in memory; use a file on a local disk", journal)
	case timeout < minBusyTimeout:
		return configError("busy_timeout is %d ms, so processes that write at the same time would fail%s", timeout, textSQLiteDSN)
	case synchronous < syncFull && !s.cfg.unsynced:
		return configError("synchronous is not FULL%s%s", textUnsynced, textSQLiteDSN)
	default:
		return nil
	}
}

// isOlder reports whether a version is less than major.minor.
func isOlder(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	return errA == nil && errB == nil && (a < major || a == major && b < minor)
}

// readSettings reads one row of settings.
func (s *Store) readSettings(ctx context.Context, statement string, into ...any) error {
	return s.retry(ctx, opConnect, func() error { return s.db.QueryRowContext(ctx, statement).Scan(into...) })
}
