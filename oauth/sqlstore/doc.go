// Package sqlstore keeps the installations of package oauth, and the leases of packages oauth,
// offline and webhook, in a database that the replicas of a program share: PostgreSQL, MariaDB or
// MySQL, or SQLite for processes of one machine.
//
// The program opens the database with a driver of its choice; the package imports none.
//
//	import _ "github.com/jackc/pgx/v5/stdlib"
//
//	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
//	if err != nil {
//		return err
//	}
//	db.SetMaxOpenConns(10)
//	db.SetMaxIdleConns(10) // the default, 2, makes busy programs connect all the time
//	store, err := sqlstore.New(ctx, db, sqlstore.PostgreSQL, sqlstore.WithCodec(oauth.WithEncryptionKey(key)))
//	if err != nil {
//		return err
//	}
//	portals, err := oauth.NewPortals(cfg, store) // one refresh for all replicas
//	…
//	fleet, err := offline.NewFleet(callers, mux, offline.WithClientID(cfg.ClientID), offline.WithLeaser(store))
//	…
//	h, err := webhook.NewHandler(portals, mux, webhook.WithStore(journal), webhook.WithLeaser("events", store))
//
// [New] creates the tables. One type is both the store and the leaser, because both are tables of
// one database. They are created together and fail together, and a program has one value to pass.
//
// # Databases
//
//	            tested with                       driver                            isolation
//	PostgreSQL  PostgreSQL 15                     github.com/jackc/pgx/v5 (stdlib)  any
//	MySQL       MariaDB 10.11; MySQL itself not   github.com/go-sql-driver/mysql    any
//	SQLite      SQLite 3.54                       modernc.org/sqlite                any
//
// Every operation is one statement that commits by itself, so the isolation level does not matter.
// If the database undoes a statement because of another one at the same time, by a deadlock or
// because SQLite is busy, the store tries it again, up to ten times. IDs, names and owners are
// columns of bytes, so they are compared byte by byte with any collation.
//
// A refresh token works once. If the commit that stores the next one is lost, somebody must install
// the application again on that portal. So New asks the server whether a commit survives a power
// failure. It refuses a server on which it does not, unless [WithUnsyncedCommits] is given:
//
//	            a commit is on the disk when it returns, by default; but not with
//	PostgreSQL  fsync=off, synchronous_commit=off
//	MySQL       innodb_flush_log_at_trx_commit=0 or 2
//	SQLite      PRAGMA synchronous=NORMAL or OFF
//
// A standby that lags behind when it is promoted lacks the last commits. Replicate synchronously to
// prevent that. The disk must not report a write before it is safe.
//
// With MariaDB and MySQL, add interpolateParams=true to the DSN: a statement then takes one round
// trip to the server instead of two.
//
// # SQLite
//
// The database is a file on a local disk, for processes of one machine. Each connection of the pool
// must wait for the others, and sync:
//
//	file:tokens.db?_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)   modernc.org/sqlite, github.com/ncruces/go-sqlite3
//	file:tokens.db?_busy_timeout=10000&_synchronous=FULL                   github.com/mattn/go-sqlite3
//
// New refuses other settings. It turns on the write-ahead log, which the file keeps. SQLite before
// 3.51.3 can damage a file with such a log, so use a driver that brings a later one.
//
// SQLite creates the file with the permissions that the umask leaves, and gives the files beside it
// (-wal, -shm) the same. They hold tokens: create the folder with mode 0700, or the file with mode
// 0600 before sql.Open. While the file is in use, a process must not open it by other means,
// because that ends SQLite's locks. VACUUM INTO makes a copy. Deleted tokens stay in free pages of
// the file until these are used again. [WithCodec] encrypts those, too.
//
// # PgBouncer
//
// The store keeps no state in a connection, so it works in transaction mode, also while it creates
// the tables (tested with PgBouncer 1.18). The driver must not keep prepared statements, either.
// With pgx, add default_query_exec_mode=exec to the DSN. The modes cache_describe and
// simple_protocol work, too. In the default mode of pgx, statements fail with an error that says
// what to change.
//
// # Tables
//
// There are three, named b24events_installations, b24events_leases and b24events_schema; see
// [WithTablePrefix] and [WithSchema]. The last holds the version of the tables. New checks it, and
// brings the tables up to date under a lock. If the user of the program may create no tables, give
// [WithoutMigration] and let a DBA run what [DDL] returns. The user then needs SELECT, INSERT,
// UPDATE and DELETE. New refuses tables that a newer version of this package made. Processes that
// have opened them before go on.
//
// # Leases
//
// Leases end by the clock of the database. The clocks of the processes do not matter. It must be
// the clock of one server; on SQLite, it is that of the machine. If it is set ahead, leases in
// force end early, so let it run evenly, as NTP does. A process may not know yet that it has lost
// its lease. A fencing token protects what is written under the lease from that process; see
// [Store.Fences]. The row of a lease is deleted ten minutes after its end, by the next process that
// calls Acquire.
//
// # Limits
//
//   - Every call must go to one server, the primary. Load must see what Swap has written, so do not
//     put a proxy in between that sends SELECT to replicas. A cluster in which several nodes take
//     writes, such as Galera, works if all processes use the same node. CockroachDB is refused.
//   - An installation has at most 1 MiB, an ID 255 bytes, the name of a lease 512.
//   - Calls take as long as their context allows. Packages oauth, offline and webhook limit theirs
//     to seconds.
//   - After a broken connection it is unknown whether a write has happened. Load shows it. Package
//     oauth writes again, and a conflict shows it.
package sqlstore
