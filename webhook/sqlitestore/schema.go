package sqlitestore

import (
	"fmt"
	"strings"
)

// All SQL of the package is in this file.

// Numbers in the header of the file. The first one is "b24q".
const (
	applicationID = 0x62323471
	schemaVersion = 1
)

// The tables. AUTOINCREMENT keeps the ID of a record from being used again when the newest record
// is deleted. Large columns come last, so that reading the others does not touch them.
const (
	createPending = `CREATE TABLE pending (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	name        TEXT    NOT NULL,
	member_id   TEXT    NOT NULL,
	received    INTEGER NOT NULL,           -- microseconds since 1970
	attempts    INTEGER NOT NULL DEFAULT 0,
	interrupted INTEGER NOT NULL DEFAULT 0,
	due         INTEGER NOT NULL DEFAULT 0, -- microseconds since 1970, 0 for at once
	err         TEXT    NOT NULL DEFAULT '',
	data        BLOB    NOT NULL
) STRICT`
	createArchive = `CREATE TABLE archive (
	seq         INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of settling
	id          INTEGER NOT NULL UNIQUE,           -- that it had in pending
	state       INTEGER NOT NULL,                  -- 1 done, 2 parked
	settled     INTEGER NOT NULL,                  -- microseconds since 1970, never less than in the row before
	name        TEXT    NOT NULL,
	member_id   TEXT    NOT NULL,
	received    INTEGER NOT NULL,
	attempts    INTEGER NOT NULL,
	interrupted INTEGER NOT NULL,
	err         TEXT    NOT NULL,
	data        BLOB    NOT NULL
) STRICT`
	createArchiveState = `CREATE INDEX archive_state ON archive (state, seq)`
)

// Statements of the connection that writes.
const (
	sqlBegin    = `BEGIN IMMEDIATE`
	sqlCommit   = `COMMIT`
	sqlRollback = `ROLLBACK`

	sqlCount   = `UPDATE pending SET attempts = ?, interrupted = ?, due = ?, err = ? WHERE id = ?`
	sqlDelete  = `DELETE FROM pending WHERE id BETWEEN ? AND ?`
	sqlArchive = `INSERT INTO archive (id, state, settled, name, member_id, received, attempts, interrupted, err, data)
		SELECT id, ?, ?, name, member_id, received, attempts, interrupted, err, data FROM pending WHERE id BETWEEN ? AND ? ORDER BY id`
	sqlPark = `INSERT INTO archive (id, state, settled, name, member_id, received, attempts, interrupted, err, data)
		SELECT id, ?, ?, name, member_id, received, ?, ?, ?, data FROM pending WHERE id = ?`

	sqlReplay = `INSERT INTO pending (name, member_id, received, data)
		SELECT name, member_id, received, data FROM archive WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id`
	sqlDiscarded = `SELECT state, count(*) FROM archive WHERE id IN (SELECT value FROM json_each(?)) GROUP BY state`
	sqlDiscard   = `DELETE FROM archive WHERE id IN (SELECT value FROM json_each(?))`
	sqlPurge     = `DELETE FROM archive WHERE seq IN (SELECT seq FROM (
		SELECT seq, settled FROM archive WHERE state = ? ORDER BY seq LIMIT ?) WHERE settled < ?)`

	sqlCheckpoint = `PRAGMA wal_checkpoint(PASSIVE)`
)

// Statements of the connections that read.
const (
	columns = `id, name, member_id, received, attempts, interrupted, due, err, data`

	sqlFeed          = `SELECT ` + columns + ` FROM pending WHERE id > ? AND id <= ? ORDER BY id LIMIT ?`
	sqlLoad          = `SELECT ` + columns + ` FROM pending WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id`
	sqlOldestPending = `SELECT received FROM pending ORDER BY id LIMIT 1`
	sqlOldestParked  = `SELECT settled FROM archive WHERE state = ? ORDER BY seq LIMIT 1`
	sqlAfter         = `SELECT seq FROM archive WHERE id = ?`
	sqlList          = `SELECT id, name, member_id, received, attempts, interrupted, 0, err, data, settled
		FROM archive WHERE state = ? AND seq > ? ORDER BY seq LIMIT ?`
)

// Statements of Open.
const (
	sqlApplicationID = `PRAGMA application_id`
	sqlUserVersion   = `PRAGMA user_version`
	sqlTables        = `SELECT count(*) FROM sqlite_schema`
	sqlJournal       = `PRAGMA journal_mode = WAL`
	sqlDataVersion   = `PRAGMA data_version` // changes when another connection has changed the file
	sqlLastID        = `SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'pending'`
	sqlPending       = `SELECT count(*) FROM pending`
	sqlArchived      = `SELECT state, count(*) FROM archive GROUP BY state`
	sqlLastSettled   = `SELECT coalesce((SELECT settled FROM archive ORDER BY seq DESC LIMIT 1), 0)`
)

// create returns the statements that turn an empty file into a queue, in one transaction.
func create() []string {
	return []string{
		createPending, createArchive, createArchiveState,
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", schemaVersion),
	}
}

// waitPragma is set before all others. A program that reads the file, for example the sqlite3
// shell, may lock it for a moment.
const waitPragma = "PRAGMA busy_timeout = 5000"

// writerPragmas are those of the writing connection. The package itself writes the log back to the
// file, because SQLite does not report errors of that.
func writerPragmas(sync Synchronous) []string {
	return []string{
		"PRAGMA synchronous = " + sync.String(),
		"PRAGMA fullfsync = ON", // macOS: fsync alone leaves data in the cache of the disk
		"PRAGMA checkpoint_fullfsync = ON",
		"PRAGMA wal_autocheckpoint = 0",
		fmt.Sprintf("PRAGMA journal_size_limit = %d", 16<<20),
		"PRAGMA cache_size = -8000",
		"PRAGMA secure_delete = ON", // costs nothing here: the pages of deleted records go to the log anyway
		"PRAGMA trusted_schema = OFF",
	}
}

// readerPragmas are those of the reading connections.
func readerPragmas() []string {
	return []string{"PRAGMA query_only = ON", "PRAGMA cache_size = -2000", "PRAGMA trusted_schema = OFF"}
}

// insertRows returns the statement that stores a number of records.
func insertRows(rows int) string {
	return "INSERT INTO pending (name, member_id, received, data) VALUES " + strings.Repeat("(?,?,?,?),", rows-1) + "(?,?,?,?)"
}
