package pgstore_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook/pgstore"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]pgstore.Option{
		"no schema":            pgstore.WithSchema(""),
		"schema of the server": pgstore.WithSchema("pg_b24"),
		"capital letters":      pgstore.WithSchema("B24"),
		"quotes":               pgstore.WithSchema(`b"24`),
		"long schema":          pgstore.WithSchema(strings.Repeat("s", 64)),
		"digit in front":       pgstore.WithSchema("2b"),
		"one partition":        pgstore.WithPartitions(1),
		"too many partitions":  pgstore.WithPartitions(4097),
		"no interval":          pgstore.WithPollInterval(0, time.Second),
		"intervals reversed":   pgstore.WithPollInterval(time.Second, time.Millisecond),
		"long interval":        pgstore.WithPollInterval(time.Second, time.Hour),
		"keep too short":       pgstore.WithKeep(time.Millisecond),
		"no room":              pgstore.WithMaxPending(0),
		"nil logger":           pgstore.WithLogger(nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pgstore.DDL(opt)
			require.ErrorIs(t, err, pgstore.ErrConfig)
			require.ErrorContains(t, err, "pgstore: invalid configuration: ")
		})
	}
	_, err := pgstore.New(t.Context(), nil)
	require.ErrorIs(t, err, pgstore.ErrConfig)
	_, err = pgstore.DDL(nil)
	require.NoError(t, err, "a nil option is skipped")
}

func TestPartitionsAreFixed(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	require.Equal(t, 16, k.open(pgstore.WithPartitions(16)).Partitions())
	require.Equal(t, 16, k.open().Partitions())
	_, err := k.try(k.pool, pgstore.WithPartitions(32))
	require.ErrorIs(t, err, pgstore.ErrConfig)
	require.ErrorContains(t, err, "has 16 partitions")
}

// TestServers: databases that a Store cannot use are refused.
func TestServers(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	latin := k.schema + "_latin1"
	k.exec(`CREATE DATABASE ` + latin + ` ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
	t.Cleanup(func() {
		conn, err := pgx.Connect(k.cleanupContext(), k.dsn)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close(k.cleanupContext()) }()
		_, err = conn.Exec(k.cleanupContext(), `DROP DATABASE `+latin+` WITH (FORCE)`)
		assert.NoError(t, err)
	})
	for name, c := range map[string]struct {
		change func(*pgxpool.Config)
		want   error
		text   string
	}{
		"encoding": {func(c *pgxpool.Config) { c.ConnConfig.Database = latin }, pgstore.ErrConfig, "encoding LATIN1"},
		"asynchronous commits": {
			func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["synchronous_commit"] = "off" }, pgstore.ErrNotDurable, "synchronous_commit is off",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := k.try(newPool(t, k.dsn, c.change))
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
		})
	}
	s := k.openWith(newPool(t, k.dsn, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["synchronous_commit"] = "off"
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
		c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
		c.ConnConfig.RuntimeParams["statement_timeout"] = "1000"
		c.ConnConfig.RuntimeParams["search_path"] = "pg_temp"
	}), pgstore.WithoutDurabilityCheck()) // nothing of this matters
	store(t, s, record(0, "a"))
	require.Equal(t, []string{"a"}, feed(t, s, 0).texts(1))
}

// TestVersions: tables of a newer version are refused, and so are those of an older one without
// migration.
func TestVersions(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	_, err := k.try(k.pool, pgstore.WithoutMigration())
	require.ErrorIs(t, err, pgstore.ErrSchema)
	require.ErrorContains(t, err, "DDL")
	require.Zero(t, k.number(`SELECT count(*) FROM pg_namespace WHERE nspname = '{s}'`))
	k.open()
	k.exec(`UPDATE {s}.store SET version = 1000`)
	_, err = k.try(k.pool)
	require.ErrorIs(t, err, pgstore.ErrSchema)
	require.ErrorContains(t, err, "version 1000")
	k.exec(`UPDATE {s}.store SET version = 0, partitions = 64`)
	_, err = k.try(k.pool, pgstore.WithoutMigration())
	require.ErrorIs(t, err, pgstore.ErrSchema)
}

// TestBrokenSchema: what somebody changed by hand is found before it loses anything.
func TestBrokenSchema(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct{ sql, text string }{
		"table dropped":        {`DROP TABLE {s}.archive`, "no table"},
		"unlogged table":       {`ALTER TABLE {s}.pending SET UNLOGGED`, "unlogged"},
		"column dropped":       {`ALTER TABLE {s}.pending DROP COLUMN due`, "no column due"},
		"column of other type": {`ALTER TABLE {s}.pending ALTER COLUMN data TYPE text USING encode(data, 'hex')`, "no column data"},
		"no primary key":       {`ALTER TABLE {s}.pending DROP CONSTRAINT pending_pkey`, "PRIMARY KEY (part, id)"},
		"cached sequence":      {`ALTER SEQUENCE {s}.commits CACHE 20`, "CACHE 1"},
		"cycling sequence":     {`ALTER SEQUENCE {s}.commits CYCLE`, "NO CYCLE"},
		"sequence backwards":   {`ALTER SEQUENCE {s}.commits INCREMENT -1`, "INCREMENT 1"},
		"no sequence":          {`DROP SEQUENCE {s}.commits`, "INCREMENT 1"},
		"sequence reset":       {`ALTER SEQUENCE {s}.commits RESTART`, "not given yet"},
		"no row of the store":  {`DELETE FROM {s}.store`, "no row"},
		"partitions by hand":   {`UPDATE {s}.store SET partitions = 1`, "1 partitions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			s := k.open()
			store(t, s, records(0, "a")...)
			store(t, s, records(0, "b")...)
			k.exec(change.sql)
			_, err := k.try(k.pool)
			require.ErrorContains(t, err, change.text)
			require.ErrorContains(t, err, "pgstore: ")
			if name != "no row of the store" {
				require.ErrorIs(t, err, pgstore.ErrSchema)
			}
		})
	}
}

// TestDDL: a role that may create nothing works with tables that another created from DDL.
func TestDDL(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	ddl, err := pgstore.DDL(pgstore.WithSchema(k.schema), pgstore.WithPartitions(8))
	require.NoError(t, err)
	k.exec(ddl)
	role := k.schema + "_role"
	k.exec(`CREATE ROLE ` + role)
	t.Cleanup(func() {
		conn, err := pgx.Connect(k.cleanupContext(), k.dsn)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close(k.cleanupContext()) }()
		_, _ = conn.Exec(k.cleanupContext(), `DROP OWNED BY `+role)
		_, err = conn.Exec(k.cleanupContext(), `DROP ROLE `+role)
		assert.NoError(t, err)
	})
	pool := newPool(t, k.dsn, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["role"] = role })
	_, err = k.try(pool)
	require.ErrorContains(t, err, "permission denied")

	_, grants, found := strings.Cut(ddl, "-- What the program's role needs:\n")
	require.True(t, found)
	var lines []string
	for line := range strings.Lines(grants) {
		lines = append(lines, strings.ReplaceAll(strings.TrimPrefix(line, "-- "), "TO program", "TO "+role))
	}
	for i := range lines {
		k.exec(`BEGIN; DROP OWNED BY ` + role + `; ` + strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "") + `COMMIT`)
		_, err = k.try(pool, pgstore.WithoutMigration())
		require.Error(t, err, "without %s", lines[i])
	}
	k.exec(strings.Join(lines, ""))
	s := k.openWith(pool)
	require.Equal(t, 8, s.Partitions())
	all := store(t, s, records(0, "a", "b", "c")...)
	f := feed(t, s, 0)
	f.next(3)
	mark(t, s, done(all[0]), parked(all[1], "no"))
	n, err := s.Replay(t.Context(), all[1].ID)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"b"}, f.texts(1))
	held, err := s.Acquire(t.Context(), "me", time.Minute, "lease")
	require.NoError(t, err)
	require.Equal(t, []string{"lease"}, held)

	_, err = k.try(pool, pgstore.WithSchema(k.schema+"x"))
	require.ErrorContains(t, err, "permission denied", "the role may not create a schema")
}

// TestSchemaOfAnother: the schema exists, and the role may create tables in it, but no schemas.
func TestSchemaOfAnother(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	role := k.schema + "_role"
	k.exec(`CREATE ROLE ` + role + `; CREATE SCHEMA {s} AUTHORIZATION ` + role)
	t.Cleanup(func() {
		conn, err := pgx.Connect(k.cleanupContext(), k.dsn)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close(k.cleanupContext()) }()
		_, err = conn.Exec(k.cleanupContext(), `DROP OWNED BY `+role+` CASCADE; DROP ROLE `+role)
		assert.NoError(t, err)
	})
	s := k.openWith(newPool(t, k.dsn, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["role"] = role }))
	store(t, s, record(0, "a"))
}

const migrateEnv = "PGSTORE_MIGRATE"

// TestMigrateProcess is what the processes of TestMigrateAtOnce run.
//
//nolint:paralleltest // it is the only test of its process
func TestMigrateProcess(t *testing.T) {
	schema := os.Getenv(migrateEnv)
	if schema == "" {
		t.Skip("for the processes of TestMigrateAtOnce only")
	}
	pool, err := pgxpool.New(t.Context(), serverDSN())
	require.NoError(t, err)
	defer pool.Close()
	s, err := pgstore.New(t.Context(), pool, pgstore.WithSchema(schema))
	require.NoError(t, err)
	store(t, s, record(0, "from a process"))
	require.NoError(t, s.Close())
}

// TestMigrateAtOnce starts eight processes at the same time on a database without tables.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	const processes = 8
	k := newKit(t)
	self, err := os.Executable()
	require.NoError(t, err)
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			c := exec.CommandContext(t.Context(), self, "-test.run=^TestMigrateProcess$", "-test.v")
			c.Env = append(os.Environ(), migrateEnv+"="+k.schema)
			out, err := c.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
				t.Errorf("a process that migrates: %v\n%s", err, out)
			}
		})
	}
	all.Wait()
	require.Equal(t, int64(processes), k.number(`SELECT count(*) FROM {s}.pending`))
	require.Equal(t, int64(1), k.number(`SELECT count(*) FROM {s}.store`))
}

// TestMigrateBroken: a migration that fails leaves nothing behind.
func TestMigrateBroken(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.exec(`CREATE SCHEMA {s}; CREATE TABLE {s}.leases (n int)`)
	_, err := k.try(k.pool)
	require.ErrorContains(t, err, "42P07")
	require.Zero(t, k.number(`SELECT count(*) FROM pg_class WHERE relname IN ('pending', 'commits') AND relnamespace = '{s}'::regnamespace`))
	k.exec(`DROP TABLE {s}.leases`)
	store(t, k.open(), record(0, "a"))
	require.Equal(t, "1 64", fmt.Sprint(k.number(`SELECT version FROM {s}.store`), k.number(`SELECT partitions FROM {s}.store`)))
}
