package pgstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/b24events/b24events/webhook"
)

// oldestServer is the first version of PostgreSQL that supports all statements.
const oldestServer = 130000

// checkServer refuses a server that a Store must not use.
func checkServer(ctx context.Context, conn *pgx.Conn, cfg *config) error {
	var (
		version                        int32
		standby                        bool
		encoding, fsync, pages, commit string
	)
	err := run(ctx, conn, statement{
		sql: `SELECT current_setting('server_version_num')::int, pg_catalog.pg_is_in_recovery(), current_setting('server_encoding'),
 current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')`,
		rows: one(&version, &standby, &encoding, &fsync, &pages, &commit),
	})
	switch {
	case err != nil:
		return err
	case version < oldestServer:
		return misconfigured("the server is PostgreSQL %d; 13 is the oldest that works", version/10000)
	case standby:
		return misconfigured("the server is a standby; connect to the primary, with target_session_attrs=read-write for example")
	case encoding != "UTF8" && encoding != "SQL_ASCII": // others cannot store every error text
		return misconfigured("the database has the encoding %s; it must be UTF8", encoding)
	case !cfg.checkDurable:
		return nil
	}
	for _, s := range []struct{ name, value, harm string }{
		{"fsync", fsync, "a power failure can destroy all data"},
		{"full_page_writes", pages, "a power failure can destroy pages that were being written"},
		{"synchronous_commit", commit, "what handlers write in the transaction of Tx can be lost after it was reported as done"},
	} {
		if s.value == "off" {
			return fmt.Errorf("%w: %s is off, so %s; switch it on, or use WithoutDurabilityCheck for tests", ErrNotDurable, s.name, s.harm)
		}
	}
	return nil
}

// tables returns the columns that the statements use, and the primary keys that they depend on.
func tables() map[string]struct{ columns, primary string } {
	return map[string]struct{ columns, primary string }{
		"pending": {
			"part smallint, id bigint, tag integer, name text, member_id text, received timestamp with time zone, attempts integer, " +
				"interrupted integer, due timestamp with time zone, err text, data bytea", "PRIMARY KEY (part, id)",
		},
		"archive": {
			"id bigint, tag integer, part smallint, state text, settled timestamp with time zone, name text, member_id text, " +
				"received timestamp with time zone, attempts integer, interrupted integer, err text, data bytea", "PRIMARY KEY (id, tag)",
		},
		"leases": {"name text, owner text, until timestamp with time zone, token bigint", "PRIMARY KEY (name)"},
	}
}

// relation describes a table or the sequence, as PostgreSQL's catalog does.
type relation struct {
	persistence, columns, primary string
	usable                        bool
}

// checkTables refuses tables that somebody changed so that the Store could lose records or their
// order, or could not work.
func checkTables(ctx context.Context, conn *pgx.Conn, cfg *config, partitions int) error {
	found := make(map[string]relation)
	catalog := statement{
		sql: `SELECT c.relname::text, c.relpersistence::text,
 coalesce((SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, NULL), ', ' ORDER BY a.attnum)
  FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), ''),
 coalesce((SELECT pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p'), ''),
 CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT')
  ELSE has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
   AND has_table_privilege(c.oid, 'DELETE') END
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'S')`,
		args: []any{cfg.schema},
		rows: each(func(rows pgx.Rows) error {
			var name string
			var r relation
			if err := rows.Scan(&name, &r.persistence, &r.columns, &r.primary, &r.usable); err != nil {
				return err
			}
			found[name] = r
			return nil
		}),
	}
	var step, cache int64
	var cycle bool
	sequence := statement{
		sql: `SELECT coalesce(max(s.seqincrement), 0), coalesce(max(s.seqcache), 0), coalesce(bool_or(s.seqcycle), false)
 FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relname = 'commits'`,
		args: []any{cfg.schema}, rows: one(&step, &cache, &cycle),
	}
	if err := run(ctx, conn, catalog, sequence); err != nil {
		return err
	}
	wanted := tables()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if err := checkTable(cfg, name, found[name], wanted[name].columns, wanted[name].primary); err != nil {
			return err
		}
	}
	switch commits := found["commits"]; {
	case step != 1 || cache != 1 || cycle:
		return fmt.Errorf("%w: the sequence %s.commits must have INCREMENT 1, CACHE 1 and NO CYCLE: the order of records follows from it",
			ErrSchema, cfg.schema)
	case commits.persistence != "p" || !commits.usable:
		return fmt.Errorf("%w: the sequence %s.commits must be LOGGED, and this role must have SELECT and USAGE on it", ErrSchema,
			cfg.schema)
	case partitions < 2 || partitions > webhook.MaxPartitions:
		return fmt.Errorf("%w: the table %s.store says that there are %d partitions", ErrSchema, cfg.schema, partitions)
	}
	return checkIDs(ctx, conn, *cfg, partitions)
}

// checkIDs refuses tables with IDs above the value of the sequence, which would give them a second
// time. That happens after a restore without the sequence.
func checkIDs(ctx context.Context, conn *pgx.Conn, cfg config, partitions int) error {
	cfg.partitions = partitions
	var behind bool
	err := run(ctx, conn, statement{
		sql: cfg.in(`SELECT coalesce(greatest(
  (SELECT max(p.id) FROM generate_series(0, {partitions} - 1) AS n(part)
   CROSS JOIN LATERAL (SELECT id FROM {schema}.pending WHERE part = n.part ORDER BY id DESC LIMIT 1) p),
  (SELECT max(id) FROM {schema}.archive)), 0) > ` + newestID + ` FROM {schema}.commits`),
		rows: one(&behind),
	})
	if err == nil && behind {
		return fmt.Errorf("%w: there are records with IDs that the sequence %s.commits has not given yet; "+
			"set it to more than the greatest ID divided by 1024", ErrSchema, cfg.schema)
	}
	return err
}

func checkTable(cfg *config, name string, r relation, columns, primary string) error {
	name = cfg.schema + "." + name
	switch {
	case r.columns == "":
		return fmt.Errorf("%w: there is no table %s", ErrSchema, name)
	case r.persistence != "p":
		return fmt.Errorf("%w: the table %s is unlogged, so PostgreSQL empties it after a crash; use ALTER TABLE … SET LOGGED", ErrSchema,
			name)
	case r.primary != primary:
		return fmt.Errorf("%w: the table %s lacks its %s", ErrSchema, name, primary)
	case !r.usable:
		return fmt.Errorf("%w: this role needs SELECT, INSERT, UPDATE and DELETE on the table %s", ErrSchema, name)
	}
	has := strings.Split(r.columns, ", ")
	for column := range strings.SplitSeq(columns, ", ") {
		if !slices.Contains(has, column) {
			return fmt.Errorf("%w: the table %s has no column %s", ErrSchema, name, column)
		}
	}
	return nil
}
