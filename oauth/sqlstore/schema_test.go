package sqlstore_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/sqlstore"
)

func TestNewRefusesArguments(t *testing.T) {
	t.Parallel()
	db := freshSQLite(t).open(t)
	for name, c := range map[string]struct {
		db      *sql.DB
		dialect sqlstore.Dialect
		option  sqlstore.Option
	}{
		"no database":               {nil, sqlstore.SQLite, nil},
		"no dialect":                {db, 0, nil},
		"an unknown dialect":        {db, 4, nil},
		"an empty prefix":           {db, sqlstore.SQLite, sqlstore.WithTablePrefix("")},
		"a prefix in upper case":    {db, sqlstore.SQLite, sqlstore.WithTablePrefix("B24_")},
		"a prefix with a quote":     {db, sqlstore.SQLite, sqlstore.WithTablePrefix(`a"; drop table x; --`)},
		"a prefix with a line feed": {db, sqlstore.SQLite, sqlstore.WithTablePrefix("a\n")},
		"a long prefix":             {db, sqlstore.SQLite, sqlstore.WithTablePrefix(strings.Repeat("a", 33))},
		"an empty schema":           {db, sqlstore.PostgreSQL, sqlstore.WithSchema("")},
		"a schema with a quote":     {db, sqlstore.PostgreSQL, sqlstore.WithSchema(`a"b`)},
		"a schema with a dot":       {db, sqlstore.PostgreSQL, sqlstore.WithSchema("a.b")},
		"a schema on SQLite":        {db, sqlstore.SQLite, sqlstore.WithSchema("main")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := sqlstore.New(t.Context(), c.db, c.dialect, c.option)
			require.ErrorIs(t, err, sqlstore.ErrConfig)
			require.Nil(t, s)
			if c.db == nil {
				return
			}
			_, err = sqlstore.DDL(c.dialect, c.option)
			require.ErrorIs(t, err, sqlstore.ErrConfig)
		})
	}
	_, err := sqlstore.New(t.Context(), db, sqlstore.SQLite, nil, sqlstore.WithCodec(nil, oauth.WithEncryptionKey([]byte("short"))))
	require.ErrorIs(t, err, oauth.ErrEncryptionKey)
	require.ErrorIs(t, err, sqlstore.ErrConfig)
	_, err = sqlstore.New(t.Context(), db, sqlstore.SQLite, nil, sqlstore.WithCodec(nil))
	require.NoError(t, err, "a nil option is skipped")
}

func TestNewRefusesTheWrongDialect(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		if p.Schema != "" {
			p = p.with("search_path=" + p.Schema) // New is called without WithSchema
		}
		db := p.open(t)
		for _, d := range dialect {
			_, err := sqlstore.New(t.Context(), db, d)
			if d == p.dialect() {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, sqlstore.ErrConfig)
			require.ErrorContains(t, err, "pass sqlstore."+p.dialect().String())
		}
	})
}

// TestNewReportsTheDatabase has no connection, or a server that refuses it.
func TestNewReportsTheDatabase(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		place place
		says  string
	}{
		"nobody listens": {place{Driver: "pgx", DSN: "postgres://postgres:" + planted + "@127.0.0.1:1/test"}, "connection refused"},
		"no database": {
			place{Driver: "pgx", DSN: "postgres://postgres@" + postgresAddress + "/planted-in-sqlstore?sslmode=disable"},
			"there is no such database",
		},
		"no user": {
			place{Driver: "mysql", DSN: "planted-in-sqlstore:planted-in-sqlstore@tcp(" + mysqlAddress + ")/test"},
			"refuses the user or the password",
		},
		"no folder":      {place{Driver: "sqlite", DSN: "file:/planted-in-sqlstore/tokens.db" + sqlitePragmas}, "the file cannot be opened"},
		"not a database": {place{Driver: "sqlite", DSN: fileURI(notSQLite(t)) + sqlitePragmas}, "not a SQLite database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.place.Driver == "pgx" {
				needs(t, "PostgreSQL", postgresAddress, postgresStart)
			}
			if c.place.Driver == "mysql" {
				needs(t, "MariaDB", mysqlAddress, mysqlStart)
			}
			_, err := sqlstore.New(t.Context(), c.place.open(t), c.place.dialect())
			require.ErrorContains(t, err, c.says)
			require.NotErrorIs(t, err, sqlstore.ErrConfig)
			requireSafe(t, err)
		})
	}
}

func notSQLite(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "thesis.txt")
	require.NoError(tb, os.WriteFile(path, []byte(strings.Repeat("planted-in-sqlstore ", 1000)), 0o600))
	return path
}

// TestNewRefusesSettings opens databases whose settings would lose tokens.
func TestNewRefusesSettings(t *testing.T) {
	t.Parallel()
	file := func(pragmas string) func(tb testing.TB) place {
		return func(tb testing.TB) place {
			tb.Helper()
			return place{Driver: "sqlite", DSN: fileURI(filepath.Join(tb.TempDir(), "x.db")) + pragmas}
		}
	}
	with := func(fresh func(tb testing.TB) place, parameters string) func(tb testing.TB) place {
		return func(tb testing.TB) place {
			tb.Helper()
			return fresh(tb).with(parameters)
		}
	}
	for name, c := range map[string]struct {
		fresh  func(tb testing.TB) place
		says   string
		waived bool // by WithUnsyncedCommits
	}{
		"PostgreSQL, asynchronous commits": {with(freshPostgreSQL, "synchronous_commit=off"), "synchronous_commit", true},
		"MariaDB, no autocommit":           {with(freshMariaDB, "autocommit=0"), "autocommit", false},
		"SQLite, nothing set":              {file(""), "busy_timeout", false},
		"SQLite, a short timeout":          {file("?_pragma=busy_timeout(10)"), "busy_timeout", false},
		"SQLite, unsynced":                 {file("?_pragma=busy_timeout(10000)&_pragma=synchronous(NORMAL)"), "synchronous", true},
		"SQLite, in memory": {func(testing.TB) place {
			return place{Driver: "sqlite", DSN: ":memory:" + sqlitePragmas}
		}, "in memory", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := c.fresh(t)
			_, err := sqlstore.New(t.Context(), p.open(t), p.dialect(), p.options()...)
			require.ErrorIs(t, err, sqlstore.ErrConfig)
			require.ErrorContains(t, err, c.says)
			requireSafe(t, err)
			_, err = sqlstore.New(t.Context(), p.open(t), p.dialect(), p.options(sqlstore.WithUnsyncedCommits())...)
			if c.waived {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, sqlstore.ErrConfig)
			}
		})
	}
}

// TestNewSetsWAL opens a file without a write-ahead log. The file keeps the mode.
func TestNewSetsWAL(t *testing.T) {
	t.Parallel()
	p := freshSQLite(t)
	mode := func() string { return texts(t, p, "PRAGMA journal_mode")[0] }
	require.Equal(t, "delete", mode())
	p.store(t)
	require.Equal(t, "wal", mode())
}

// TestMigrateAtOnce starts replicas on an empty database at the same time.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 8 {
			db := p.open(t)
			db.SetMaxOpenConns(1 + i%2)
			wg.Go(func() {
				<-start
				_, err := sqlstore.New(t.Context(), db, p.dialect(), p.options()...)
				if err != nil {
					t.Errorf("New: %v, %v", err, errors.Unwrap(err))
				}
			})
		}
		close(start)
		wg.Wait()
		require.EqualValues(t, 1, number(t, p.open(t), "SELECT version FROM "+p.table("schema")))
	})
}

// TestMigrateFromAnOlderVersion brings tables to the version of a later release, in several
// processes at once. The older release refuses them.
func TestMigrateFromAnOlderVersion(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		s := p.store(t)
		_, err := s.Swap(t.Context(), portal, "", installation("one"))
		require.NoError(t, err)
		var wg sync.WaitGroup
		replicas := []*sqlstore.Store{s, p.store(t), p.store(t), p.store(t)}
		for _, replica := range replicas {
			later := replica.Later(
				"ALTER TABLE {leases} ADD COLUMN note INT",
				"UPDATE {schema} SET version = 2 WHERE id = 1")
			wg.Go(func() {
				for range 2 {
					if err := later.CheckTables(t.Context()); err != nil {
						t.Errorf("CheckTables: %v, %v", err, errors.Unwrap(err))
					}
				}
			})
		}
		wg.Wait()
		db := p.open(t)
		require.EqualValues(t, 2, number(t, db, "SELECT version FROM "+p.table("schema")))
		require.Zero(t, number(t, db, "SELECT COUNT(note) FROM "+p.table("leases")))

		for _, opts := range [][]sqlstore.Option{nil, {sqlstore.WithoutMigration()}} {
			_, err = sqlstore.New(t.Context(), db, p.dialect(), p.options(opts...)...)
			require.ErrorIs(t, err, sqlstore.ErrSchema)
			require.ErrorContains(t, err, "version 2, and this one knows 1")
		}
		in, _, err := s.Load(t.Context(), portal) // of a process that runs on during the update
		require.NoError(t, err)
		require.Equal(t, installation("one"), in)
	})
}

// TestVersionChangedByHand sets versions that no release writes.
func TestVersionChangedByHand(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		p.store(t)
		db := p.open(t)
		for _, version := range []string{"0", "-1"} {
			run(t, db, "UPDATE "+p.table("schema")+" SET version = "+version)
			_, err := sqlstore.New(t.Context(), db, p.dialect(), p.options()...)
			require.ErrorIs(t, err, sqlstore.ErrSchema)
			require.ErrorContains(t, err, "version "+version+"; correct the row")
		}
		run(t, db, "DELETE FROM "+p.table("schema"))
		p.store(t)
	})
}

func TestWithoutMigration(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		db := p.open(t)
		opts := p.options(sqlstore.WithoutMigration(), sqlstore.WithTablePrefix("by_hand_"))
		_, err := sqlstore.New(t.Context(), db, p.dialect(), opts...)
		require.ErrorIs(t, err, sqlstore.ErrSchema)
		require.ErrorContains(t, err, "sqlstore.DDL")

		text, err := sqlstore.DDL(p.dialect(), opts...)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(text, "-- version 1\n"))
		for range 2 { // once more does no harm
			for statement := range strings.SplitSeq(strings.TrimSpace(text), ";\n") {
				run(t, db, statement)
			}
		}
		s, err := sqlstore.New(t.Context(), db, p.dialect(), opts...)
		require.NoError(t, err)
		_, err = s.Swap(t.Context(), portal, "", installation("one"))
		require.NoError(t, err)

		err = s.Later("SELECT 1").CheckTables(t.Context())
		require.ErrorIs(t, err, sqlstore.ErrSchema)
		require.ErrorContains(t, err, "they have version 1")
	})
}

// TestMigrateGoesOn starts with some of the tables, as after a crash of a migration on MariaDB,
// which commits each table by itself.
func TestMigrateGoesOn(t *testing.T) {
	t.Parallel()
	for done := 1; done <= 3; done++ {
		t.Run(fmt.Sprint(done, " statements"), func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, p place) {
				t.Helper()
				testMigrateGoesOn(t, p, done)
			})
		})
	}
}

func testMigrateGoesOn(t *testing.T, p place, done int) {
	t.Helper()
	text, err := sqlstore.DDL(p.dialect(), p.options()...)
	require.NoError(t, err)
	db := p.open(t)
	for _, statement := range strings.SplitN(text, ";\n", done+1)[:done] {
		run(t, db, statement)
	}
	_, err = p.store(t).Swap(t.Context(), portal, "", installation("one"))
	require.NoError(t, err)
}

func TestPrefixesShareNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		one, two := p.store(t, sqlstore.WithTablePrefix("one_")), p.store(t, sqlstore.WithTablePrefix("two_"))
		_, err := one.Swap(t.Context(), portal, "", installation("one"))
		require.NoError(t, err)
		_, _, err = two.Load(t.Context(), portal)
		require.ErrorIs(t, err, oauth.ErrNotFound)
		for _, s := range []*sqlstore.Store{one, two} {
			names, err := s.Acquire(t.Context(), "owner", time.Hour, "lease")
			require.NoError(t, err)
			require.Len(t, names, 1)
		}
	})
}

// TestSchemaOfMySQL has the tables in another database than that of the connection.
func TestSchemaOfMySQL(t *testing.T) {
	t.Parallel()
	tables, connection := freshMariaDB(t), freshMariaDB(t)
	connection.Schema = tables.DSN[strings.LastIndexByte(tables.DSN, '/')+1:]
	s := connection.store(t)
	_, err := s.Swap(t.Context(), portal, "", installation("one"))
	require.NoError(t, err)
	in, _, err := tables.store(t, sqlstore.WithoutMigration()).Load(t.Context(), portal)
	require.NoError(t, err)
	require.Equal(t, installation("one"), in)
}

// TestUserWithoutRights uses tables that somebody else made, as a user who may not create tables.
func TestUserWithoutRights(t *testing.T) {
	t.Parallel()
	p := freshPostgreSQL(t)
	db := p.open(t)
	role := newName()
	run(t, db, "CREATE ROLE "+role)
	other, err := sql.Open(p.Driver, p.DSN)
	require.NoError(t, err)
	cleanUp(t, other, "DROP OWNED BY "+role+"; DROP ROLE "+role)
	run(t, db, "GRANT USAGE ON SCHEMA "+p.Schema+" TO "+role)

	limited := p.with("role=" + role)
	_, err = sqlstore.New(t.Context(), limited.open(t), p.dialect(), p.options()...)
	require.ErrorContains(t, err, "the user lacks a right (SQLSTATE 42501)")

	p.store(t)
	run(t, db, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "+p.Schema+" TO "+role)
	s := limited.store(t)
	version, err := s.Swap(t.Context(), portal, "", installation("one"))
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), portal, version))
	_, err = s.Acquire(t.Context(), "owner", time.Hour, "lease")
	require.NoError(t, err)
}
