package sqlstore

import (
	"strconv"
	"strings"
)

// Dialect is the SQL of a database. The zero Dialect is not valid.
type Dialect uint8

const (
	// PostgreSQL is for PostgreSQL, also behind PgBouncer.
	PostgreSQL Dialect = iota + 1
	// MySQL is for MariaDB and MySQL.
	MySQL
	// SQLite is for SQLite, for processes of one machine.
	SQLite
)

// String returns the name of the constant.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case MySQL:
		return "MySQL"
	case SQLite:
		return "SQLite"
	default:
		return "Dialect(" + strconv.Itoa(int(d)) + ")"
	}
}

// dialect has what differs between databases. The statements are templates; see [dialect.sql].
type dialect struct {
	dialect Dialect
	quote   string // around a name
	bytes   string // a parameter that is a []byte
	// now is the time of the server in microseconds since 1970. No statement uses another clock.
	now string

	identify      string // returns the version of the server
	insert        string // an installation, if there is none
	list          string
	acquire       string // takes leases; returns the names unless this is MySQL
	release       string
	deleteExpired string // deletes leases that expired a while ago

	migrations [][]string // to each version of the tables, from the one before
}

func dialectOf(d Dialect) (*dialect, bool) {
	switch d {
	case PostgreSQL:
		return &postgreSQL, true
	case MySQL:
		return &mySQL, true
	case SQLite:
		return &sqLite, true
	default:
		return nil, false
	}
}

// checkDialect returns the dialect of a constant, and refuses options that do not fit it.
func checkDialect(cfg config, d Dialect) (*dialect, error) {
	known, ok := dialectOf(d)
	switch {
	case !ok:
		return nil, configError("%v is none of PostgreSQL, MySQL and SQLite", d)
	case d == SQLite && cfg.schema != "":
		return nil, configError("WithSchema: SQLite has no schemas; use WithTablePrefix, or a file of its own")
	default:
		return known, nil
	}
}

// These are statements that all databases understand. Each does all of its work by itself, so none
// needs a transaction, and none depends on the isolation level.
const (
	loadSQL = `SELECT version, document FROM {installations}
WHERE client_id = {bytes} AND member_id = {bytes} AND user_id = ?`

	replaceSQL = `UPDATE {installations} SET version = {bytes}, document = {bytes}
WHERE client_id = {bytes} AND member_id = {bytes} AND user_id = ? AND version = {bytes}`

	deleteSQL = `DELETE FROM {installations}
WHERE client_id = {bytes} AND member_id = {bytes} AND user_id = ? AND version = {bytes}`

	existsSQL = `SELECT 1 FROM {installations}
WHERE client_id = {bytes} AND member_id = {bytes} AND user_id = ?`

	heldSQL = `SELECT name, owner FROM {leases} WHERE name >= {bytes} AND expires_at > {now}`

	heldBelowSQL = heldSQL + ` AND name < {bytes}`

	fencesSQL = `SELECT name, fence FROM {leases}
WHERE name IN ({names}) AND owner = {bytes} AND expires_at > {now}`

	expiredSQL = `SELECT name FROM {leases} WHERE expires_at < {now} - ? LIMIT ?`
)

// Expired leases are free. A new owner gets a fence that is greater than the one before, and than
// that of a row that was deleted since.
const upsertLeasesSQL = `WITH wanted (name) AS (VALUES {rows})
INSERT INTO {leases} AS held (name, owner, expires_at, fence)
SELECT name, {bytes}, {now} + ?, {now} FROM wanted WHERE true ORDER BY name
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at,
  fence = CASE WHEN held.expires_at > {now} THEN held.fence ELSE {greatest}(held.fence + 1, excluded.fence) END
WHERE held.owner = excluded.owner OR held.expires_at <= {now}
RETURNING name`

const insertSQL = `INSERT INTO {installations} (client_id, member_id, user_id, version, document)
VALUES ({bytes}, {bytes}, ?, {bytes}, {bytes})`

const listSQL = `SELECT member_id, user_id FROM {installations} WHERE client_id = {bytes}
AND (member_id, user_id) > ({bytes}, ?) ORDER BY member_id, user_id LIMIT ?`

const identifySQL = `SELECT version()`

var postgreSQL = dialect{
	dialect:  PostgreSQL,
	quote:    `"`,
	bytes:    `CAST(? AS bytea)`,
	now:      `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`,
	identify: identifySQL,
	insert:   insertSQL + ` ON CONFLICT DO NOTHING`,
	list:     listSQL,
	acquire:  strings.ReplaceAll(upsertLeasesSQL, "{greatest}", "greatest"),
	// Every statement locks leases in the order of their names, so that there is no deadlock.
	release: `WITH ending AS (SELECT name FROM {leases} WHERE name IN ({names}) AND owner = {bytes} ORDER BY name FOR UPDATE)
UPDATE {leases} AS held SET expires_at = 0 FROM ending WHERE held.name = ending.name AND held.owner = {bytes}`,
	deleteExpired: `WITH over AS (SELECT name FROM {leases} WHERE name IN ({names}) AND expires_at < {now} - ? ORDER BY name FOR UPDATE)
DELETE FROM {leases} AS held USING over WHERE held.name = over.name AND held.expires_at < {now} - ?`,
	migrations: [][]string{{
		`CREATE TABLE IF NOT EXISTS {installations} (
  client_id bytea NOT NULL,
  member_id bytea NOT NULL,
  user_id bigint NOT NULL,
  version bytea NOT NULL,
  document bytea NOT NULL,
  PRIMARY KEY (client_id, member_id, user_id)
)`,
		`CREATE TABLE IF NOT EXISTS {leases} (
  name bytea NOT NULL PRIMARY KEY,
  owner bytea NOT NULL,
  expires_at bigint NOT NULL,
  fence bigint NOT NULL
)`,
		`CREATE TABLE IF NOT EXISTS {schema} (
  id smallint NOT NULL PRIMARY KEY,
  version integer NOT NULL
)`,
		`INSERT INTO {schema} (id, version) VALUES (1, 1) ON CONFLICT DO NOTHING`,
	}},
}

var mySQL = dialect{
	dialect: MySQL,
	quote:   "`",
	bytes:   `?`,
	// UNIX_TIMESTAMP depends on the time zone of the session, and is an hour off twice a year.
	now:      `TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))`,
	identify: identifySQL,
	// IGNORE hides more than a duplicate key, such as a text that is cut off, so Swap checks lengths.
	// ON DUPLICATE KEY UPDATE counts rows differently if the DSN says clientFoundRows.
	insert: strings.Replace(insertSQL, "INSERT", "INSERT IGNORE", 1),
	list: `SELECT member_id, user_id FROM {installations} WHERE client_id = ?
AND (member_id > ? OR (member_id = ? AND user_id > ?)) ORDER BY member_id, user_id LIMIT ?`,
	// MySQL assigns from left to right, and each assignment sees those before it, unless the mode is
	// SIMULTANEOUS_ASSIGNMENT. These give the same both ways.
	acquire: `INSERT INTO {leases} (name, owner, expires_at, fence) VALUES {rows} ON DUPLICATE KEY UPDATE
  fence = IF(expires_at > {now}, fence, GREATEST(fence + 1, {now})),
  owner = IF(expires_at > {now}, owner, ?),
  expires_at = IF(owner = ? OR expires_at <= {now}, {now} + ?, expires_at)`,
	release:       `UPDATE {leases} SET expires_at = 0 WHERE name IN ({names}) AND owner = ? ORDER BY name`,
	deleteExpired: `DELETE FROM {leases} WHERE name IN ({names}) AND expires_at < {now} - ? ORDER BY name`,
	migrations: [][]string{{
		`CREATE TABLE IF NOT EXISTS {installations} (
  client_id VARBINARY(255) NOT NULL,
  member_id VARBINARY(255) NOT NULL,
  user_id BIGINT NOT NULL,
  version VARBINARY(64) NOT NULL,
  document MEDIUMBLOB NOT NULL,
  PRIMARY KEY (client_id, member_id, user_id)
) ENGINE = InnoDB`,
		`CREATE TABLE IF NOT EXISTS {leases} (
  name VARBINARY(512) NOT NULL PRIMARY KEY,
  owner VARBINARY(255) NOT NULL,
  expires_at BIGINT NOT NULL,
  fence BIGINT NOT NULL
) ENGINE = InnoDB`,
		`CREATE TABLE IF NOT EXISTS {schema} (
  id SMALLINT NOT NULL PRIMARY KEY,
  version INT NOT NULL
) ENGINE = InnoDB`,
		`INSERT IGNORE INTO {schema} (id, version) VALUES (1, 1)`,
	}},
}

var sqLite = dialect{
	dialect: SQLite,
	quote:   `"`,
	bytes:   `CAST(? AS BLOB)`,
	// In whole milliseconds. SQLite has functions of Unix time since 3.42 only.
	now:           `(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000)`,
	identify:      `SELECT sqlite_version()`,
	insert:        insertSQL + ` ON CONFLICT DO NOTHING`,
	list:          listSQL,
	acquire:       strings.ReplaceAll(upsertLeasesSQL, "{greatest}", "max"),
	release:       `UPDATE {leases} SET expires_at = 0 WHERE name IN ({names}) AND owner = {bytes}`,
	deleteExpired: `DELETE FROM {leases} WHERE name IN ({names}) AND expires_at < {now} - ?`,
	migrations: [][]string{{
		`CREATE TABLE IF NOT EXISTS {installations} (
  client_id BLOB NOT NULL,
  member_id BLOB NOT NULL,
  user_id INTEGER NOT NULL,
  version BLOB NOT NULL,
  document BLOB NOT NULL,
  PRIMARY KEY (client_id, member_id, user_id)
)`,
		`CREATE TABLE IF NOT EXISTS {leases} (
  name BLOB NOT NULL PRIMARY KEY,
  owner BLOB NOT NULL,
  expires_at INTEGER NOT NULL,
  fence INTEGER NOT NULL
)`,
		`CREATE TABLE IF NOT EXISTS {schema} (
  id INTEGER NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL
)`,
		`INSERT INTO {schema} (id, version) VALUES (1, 1) ON CONFLICT DO NOTHING`,
	}},
}

// table returns the quoted name of a table.
func (d *dialect) table(cfg config, name string) string {
	table := d.quote + cfg.prefix + name + d.quote
	if cfg.schema != "" {
		table = d.quote + cfg.schema + d.quote + "." + table
	}
	return table
}

// sql makes a statement of a template, for a number of names. {rows} are rows to insert, {names}
// are the values of a list.
func (d *dialect) sql(cfg config, template string, names int) string {
	row := "(" + d.bytes + ")"
	if d.dialect == MySQL {
		row = "(?, ?, " + d.now + " + ?, " + d.now + ")"
	}
	statement := strings.NewReplacer(
		"{installations}", d.table(cfg, "installations"),
		"{leases}", d.table(cfg, "leases"),
		"{schema}", d.table(cfg, "schema"),
		"{rows}", repeat(row, names),
		"{names}", repeat(d.bytes, names),
		"{bytes}", d.bytes,
		"{now}", d.now,
	).Replace(template)
	if d.dialect != PostgreSQL {
		return statement
	}
	var numbered strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(statement, "?")
		numbered.WriteString(before)
		if !found {
			return numbered.String()
		}
		numbered.WriteString("$" + strconv.Itoa(n))
		statement = after
	}
}

// repeat returns a list of n times s.
func repeat(s string, n int) string {
	return strings.TrimSuffix(strings.Repeat(s+", ", n), ", ")
}
