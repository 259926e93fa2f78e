package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth/sqlstore"
)

// server returns one row for statements that begin with a key, and refuses all others. It stands
// for servers with settings that a test cannot give to a shared server.
type server map[string][]driver.Value

var errSyntax = errors.New("syntax error near " + planted)

func (s server) Connect(context.Context) (driver.Conn, error) { return s, nil }
func (s server) Driver() driver.Driver                        { return nil }
func (s server) Prepare(string) (driver.Stmt, error)          { return nil, errSyntax }
func (s server) Begin() (driver.Tx, error)                    { return nil, errSyntax }
func (s server) Close() error                                 { return nil }

func (s server) QueryContext(_ context.Context, statement string, _ []driver.NamedValue) (driver.Rows, error) {
	for begin, row := range s {
		if len(statement) >= len(begin) && statement[:len(begin)] == begin {
			return &answer{row: row}, nil
		}
	}
	return nil, errSyntax
}

type answer struct {
	row  []driver.Value
	read bool
}

func (a *answer) Columns() []string { return make([]string, len(a.row)) }
func (a *answer) Close() error      { return nil }

func (a *answer) Next(into []driver.Value) error {
	if a.read {
		return io.EOF
	}
	a.read = true
	copy(into, a.row)
	return nil
}

// TestNewAsksTheServer opens servers that New must refuse because of their settings.
func TestNewAsksTheServer(t *testing.T) {
	t.Parallel()
	const version, postgres, mysql = "SELECT version()",
		"SELECT current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery()",
		"SELECT @@autocommit, @@global.read_only, @@global.innodb_flush_log_at_trx_commit"
	values := func(v ...driver.Value) []driver.Value { return v }
	for name, c := range map[string]struct {
		dialect sqlstore.Dialect
		server  server
		says    string // nothing if the server is accepted, and has no tables then
		waived  bool   // by WithUnsyncedCommits
	}{
		"PostgreSQL": {
			sqlstore.PostgreSQL, server{version: values("PostgreSQL 17.2"), postgres: values("on", "on", false)}, "", false,
		},
		"PostgreSQL, remote": {
			sqlstore.PostgreSQL, server{version: values("PostgreSQL 17.2"), postgres: values("on", "remote_apply", false)}, "", false,
		},
		"PostgreSQL, no fsync": {
			sqlstore.PostgreSQL, server{version: values("PostgreSQL 17.2"), postgres: values("off", "on", false)}, "fsync is off", true,
		},
		"PostgreSQL, no sync": {
			sqlstore.PostgreSQL, server{version: values("PostgreSQL 17.2"), postgres: values("on", "off", false)}, "synchronous_commit is off", true,
		},
		"PostgreSQL, standby": {
			sqlstore.PostgreSQL, server{version: values("PostgreSQL 17.2"), postgres: values("on", "on", true)}, "standby", false,
		},
		"MySQL": {sqlstore.MySQL, server{version: values("8.4.3"), mysql: values(int64(1), int64(0), int64(1))}, "", false},
		"MariaDB, more": {
			sqlstore.MySQL, server{version: values("11.8.2-MariaDB"), mysql: values(int64(1), int64(0), int64(3))}, "", false,
		},
		"MySQL, each second": {
			sqlstore.MySQL,
			server{version: values("8.4.3"), mysql: values(int64(1), int64(0), int64(0))},
			"innodb_flush_log_at_trx_commit is 0",
			true,
		},
		"MySQL, unsynced": {
			sqlstore.MySQL,
			server{version: values("8.4.3"), mysql: values(int64(1), int64(0), int64(2))},
			"innodb_flush_log_at_trx_commit is 2",
			true,
		},
		"MySQL, read-only": {
			sqlstore.MySQL, server{version: values("8.4.3"), mysql: values(int64(1), int64(1), int64(1))}, "read-only", false,
		},
		"MySQL, no autocommit": {
			sqlstore.MySQL, server{version: values("8.4.3"), mysql: values(int64(0), int64(0), int64(1))}, "autocommit is off", false,
		},
		"an old SQLite":         {sqlstore.SQLite, server{"SELECT sqlite_version()": values("3.34.1")}, "3.34.1 is too old", false},
		"an unknown server":     {sqlstore.PostgreSQL, server{version: values("CockroachDB CCL v24.1")}, "which is not supported", false},
		"PostgreSQL for MySQL":  {sqlstore.MySQL, server{version: values("PostgreSQL 17.2")}, "pass sqlstore.PostgreSQL", false},
		"SQLite for PostgreSQL": {sqlstore.PostgreSQL, server{"SELECT sqlite_version()": values("3.50.1")}, "pass sqlstore.SQLite", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := sql.OpenDB(c.server)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			_, err := sqlstore.New(t.Context(), db, c.dialect)
			requireSafe(t, err)
			if c.says == "" {
				require.NotErrorIs(t, err, sqlstore.ErrConfig)
				require.ErrorIs(t, err, errSyntax, "the next statement is about the tables")
				return
			}
			require.ErrorIs(t, err, sqlstore.ErrConfig)
			require.ErrorContains(t, err, c.says)
			_, err = sqlstore.New(t.Context(), db, c.dialect, sqlstore.WithUnsyncedCommits())
			require.Equal(t, !c.waived, errors.Is(err, sqlstore.ErrConfig))
		})
	}
}
