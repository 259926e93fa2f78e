// Package pgstore keeps the deliveries of a [webhook.Handler] in PostgreSQL, so that several
// processes can share the work and none of them loses anything. It is a module of its own, on
// github.com/jackc/pgx/v5.
//
// # Start
//
//	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
//	if err != nil {
//		return err
//	}
//	defer pool.Close()
//	store, err := pgstore.New(ctx, pool) // creates its tables in the schema b24events
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	h, err := webhook.NewHandler(verifier, mux, webhook.WithStore(store))
//	if err != nil {
//		return err
//	}
//	http.Handle("POST /bitrix24", h)
//	…
//	err = errors.Join(server.Shutdown(ctx), h.Shutdown(ctx)) // then the deferred calls
//
// Start as many processes as you like with the same code. The Store manages the leases of its
// partitions itself, so [webhook.WithLeaser] is not needed. Each application needs a schema of its
// own: see [WithSchema].
//
// # Guarantees
//
// A delivery that was answered 200 is handled at least once:
//
//	what happens                             what is lost                      tested
//	a process is killed                      nothing                           yes, processes are killed
//	a process freezes, or loses its lease    nothing                           yes, two handle one record
//	the connection breaks                    nothing                           yes, before and after COMMIT
//	the server is killed or crashes          nothing                           yes, kill -9 during commits
//	the power of the server fails            nothing, if its disks keep what   no
//	                                         they have synced
//	the machine of the server is lost        nothing, with a synchronous       no; yes that nothing is
//	                                         standby                           acknowledged without it
//	failover to an asynchronous standby      what that standby had not got     yes, by winding IDs back
//	a transaction commits late               nothing, and no order             yes
//
// "Handled at least once" means that a record may be handled again: if a process dies after the
// handler and before the commit, if the server crashes within a second after records were settled
// and nothing else was committed, or if a process loses its lease while a handler runs. [Tx] makes
// the writes of a handler to this database exactly-once in all of these cases.
//
// New refuses servers with fsync or full_page_writes switched off, because a power failure can
// destroy all their data. It also refuses sessions with synchronous_commit switched off. Commits of
// records switch it on themselves, but the transactions of handlers use the setting of the session.
// A server with synchronous_standby_names acknowledges only what its standby has received, as its
// synchronous_commit says. A Commit that cannot be sure of that returns an error, no matter how
// long the standby is away.
//
// Order: see [webhook.Store]. It does not depend on clocks or on how long a transaction takes.
//
// The suites of webhooktest and offlinetest run directly and through PgBouncer 1.18. The server in
// the tests is PostgreSQL 15; 13 is the oldest that New accepts.
//
// # Transactions
//
// See [Tx] for how a handler writes in the transaction that settles its record. Do not write to the
// tables of the Store in it.
//
// # Sizing
//
// A process needs three connections: for commits, for feeds, and for leases and the rest. Each
// handler that has called Tx holds one more. The Store reserves three connections of its pool for
// itself, so a pool of n serves n-3 such handlers at a time. The default size of pgxpool is four,
// or the number of CPUs: set pool_max_conns. If the program uses the pool for other things too,
// these must not hold all connections for long: Commit waits for one until its context ends, and
// the Handler refuses deliveries meanwhile.
//
// The default of 64 partitions serves up to about 16 processes. Partitions need no connections; a
// process polls all of its partitions with one statement.
//
// A record of 600 bytes costs about 900 bytes of WAL, stored and settled, and one sync for as many
// records as are committed together. An idle process polls four times a second, and a busy one up
// to two hundred times.
//
// The tables stay small as long as handlers keep up. [WithMaxPending] bounds the backlog.
//
// Transactions that stay open for hours, even on other tables, keep VACUUM from removing settled
// records, as in any queue on PostgreSQL. The Store does not read those again, so it stays fast. An
// open transaction that has changed the table of pending records itself, for example in psql, makes
// polls slower and slower until it ends. The log says so after a minute.
//
// # PgBouncer
//
// The Store works through PgBouncer in transaction mode, in any version and with the default
// settings of the pool: it uses neither named statements, nor settings of the session, nor LISTEN.
// What your handlers do with the transaction of [Tx] is different: pgx names their statements
// unless the pool has default_query_exec_mode=exec or cache_describe in its address. PgBouncer 1.21
// and later handle named statements too. Statement mode does not work.
//
// # Roles, migrations, upgrades
//
// New creates the schema and the tables when they are missing, and migrates tables of an older
// version, in one transaction under an advisory lock. Tables of a newer version are refused, so
// update all processes before you go back. [WithoutMigration] and [DDL] are for programs whose role
// may not create tables. If somebody changes the tables by hand so that records or their order
// could be lost, the next New returns [ErrSchema].
//
// Leases end by the clock of the server. Set tcp_keepalives_idle on the server to about a minute,
// so that it notices when a process was cut off, and ends the transactions of that process.
//
// A server logs the arguments of slow statements, with the deliveries in them, if
// log_min_duration_statement is set. Set log_parameter_max_length to 0, or use
// [webhook.WithEncryptionKey].
//
// # Errors
//
//	ErrConfig         New, DDL, Feed: arguments or options that are invalid or do not match the data
//	ErrNotDurable     New: the server may lose what it acknowledges
//	ErrSchema         New: tables that are missing, newer, or changed by hand
//	ErrClosed         after Close
//	ErrLocked         Commit: other transactions lock records to be marked; the rest was stored
//	ErrNoAttempt      Tx: the context is not that of a handler of this Store's records
//	ErrAttemptOver    Tx: the handler has returned
//	ErrTxEnded        the attempt: the handler ended the transaction itself
//	ErrTxFailed       the attempt: a statement in the transaction failed, and the handler succeeded
//	ErrUnknownOutcome the attempt: the connection broke during the commit, and the server is away
//
// For [webhook.ErrQueueFull] and [webhook.ErrSettled] see package webhook.
package pgstore
