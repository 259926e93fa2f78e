package pgstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// migrationFiles has a script for each version of the tables, in the order of their names. Each
// script but the first ends with an update of the version in the table "store".
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations returns the scripts, the first of which makes version 1.
func migrations() ([]string, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	scripts := make([]string, len(names))
	for i, name := range names {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		scripts[i] = string(text)
	}
	return scripts, nil
}

// DDL returns the SQL that creates the tables, for use with [WithoutMigration]. Apply it with psql
// as a role that may create tables, and grant the program's role the privileges in the last lines.
// It takes the options of New; only [WithSchema] and [WithPartitions] make a difference.
func DDL(opts ...Option) (string, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return "", err
	}
	scripts, err := migrations()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-- Tables of b24events/webhook/pgstore, version %d.\nBEGIN;\n", len(scripts))
	b.WriteString(cfg.in("CREATE SCHEMA IF NOT EXISTS {schema};\n"))
	for _, script := range scripts {
		b.WriteString("\n" + cfg.in(script))
	}
	b.WriteString(cfg.in(`
COMMIT;
-- What the program's role needs:
-- GRANT USAGE ON SCHEMA {schema} TO program;
-- GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO program;
-- GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO program;
`))
	return b.String(), nil
}

// in replaces the placeholders for the schema and the number of partitions.
func (c *config) in(sql string) string {
	n := c.partitions
	if n == 0 {
		n = DefaultPartitions
	}
	return strings.NewReplacer("{schema}", pgx.Identifier{c.schema}.Sanitize(), "{partitions}", strconv.Itoa(n)).Replace(sql)
}

// layout is the row of the table "store".
type layout struct {
	version    int // 0: there are no tables
	partitions int
}

// prepare creates or migrates the tables if they are not of this version. It returns the number of
// partitions.
func prepare(ctx context.Context, conn *pgx.Conn, cfg *config) (int, error) {
	scripts, err := migrations()
	if err != nil {
		return 0, err
	}
	found, err := readLayout(ctx, conn, cfg)
	if err != nil {
		return 0, err
	}
	if found.version < len(scripts) {
		if !cfg.migrate {
			return 0, outdated(cfg, found.version, len(scripts))
		}
		if found, err = migrate(ctx, conn, cfg, scripts); err != nil {
			return 0, err
		}
	}
	switch {
	case found.version > len(scripts):
		return 0, fmt.Errorf("%w: schema %s has version %d, and this program knows versions up to %d; update the program",
			ErrSchema, cfg.schema, found.version, len(scripts))
	case cfg.partitions != 0 && cfg.partitions != found.partitions:
		return 0, misconfigured("schema %s has %d partitions, and the number cannot change to %d; leave WithPartitions out, or use "+
			"another schema",
			cfg.schema, found.partitions, cfg.partitions)
	}
	return found.partitions, nil
}

func outdated(cfg *config, found, wanted int) error {
	if found == 0 {
		return fmt.Errorf("%w: schema %s has no tables; apply what DDL returns, or leave WithoutMigration out", ErrSchema, cfg.schema)
	}
	return fmt.Errorf("%w: schema %s has version %d, and this program needs %d; migrate it", ErrSchema, cfg.schema, found, wanted)
}

// migrate brings the tables to the version of this program. A lock keeps processes apart that do so
// at the same time, for which IF NOT EXISTS is not enough.
func migrate(ctx context.Context, conn *pgx.Conn, cfg *config, scripts []string) (layout, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return layout{}, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	lock := statement{sql: `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, args: []any{"b24events/pgstore/" + cfg.schema}}
	var exists bool
	schema := statement{
		sql:  `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`,
		args: []any{cfg.schema}, rows: one(&exists),
	}
	if err := run(ctx, conn, lock, schema); err != nil {
		return layout{}, err
	}
	found, err := readLayout(ctx, conn, cfg)
	if err != nil {
		return layout{}, err
	}
	if found.version >= len(scripts) { // another process was first
		return found, nil
	}
	if !exists { // IF NOT EXISTS would require the privilege even if the schema exists
		if _, err := tx.Exec(ctx, cfg.in("CREATE SCHEMA {schema}")); err != nil {
			return layout{}, err
		}
	}
	for _, script := range scripts[found.version:] {
		if _, err := tx.Exec(ctx, cfg.in(script)); err != nil { // without arguments a script may have several statements
			return layout{}, err
		}
	}
	if found, err = readLayout(ctx, conn, cfg); err != nil {
		return layout{}, err
	}
	return found, tx.Commit(ctx)
}

func readLayout(ctx context.Context, conn *pgx.Conn, cfg *config) (layout, error) {
	var exists bool
	table := statement{
		sql: `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relname = 'store')`,
		args: []any{cfg.schema}, rows: one(&exists),
	}
	if err := run(ctx, conn, table); err != nil || !exists {
		return layout{}, err
	}
	var version, partitions int32
	store := statement{sql: cfg.in(`SELECT version, partitions FROM {schema}.store`), rows: one(&version, &partitions)}
	if err := run(ctx, conn, store); err != nil {
		return layout{}, err
	}
	return layout{version: int(version), partitions: int(partitions)}, nil
}
