// Package sqlitestore keeps the queue of package webhook in a file, with SQLite. It is for a
// program that runs as one process on one machine. Programs with several replicas use pgstore or
// natsstore.
//
//	store, err := sqlitestore.Open(ctx, "/var/lib/myapp/events.db")
//	if err != nil {
//		return err
//	}
//	h, err := webhook.NewHandler(verifier, mux, webhook.WithStore(store))
//	if err != nil {
//		return err
//	}
//	…
//	err = errors.Join(server.Shutdown(ctx), h.Shutdown(ctx), store.Close()) // in this order
//
// # What survives
//
// Commit returns when the disk has what it stores, so a delivery that was answered with 200 is
// there after this:
//
//	                                         Full (the default)  Normal
//	the process ends, crashes or is killed   yes                 yes
//	the system crashes, the power fails      yes                 all but the last commits
//	the disk is full                         yes                 yes
//	the disk reports an error                yes                 all but the last commits
//	the disk loses what it reported written  no                  no
//	the disk itself is lost                  no                  no
//
// See [WithSynchronous]. With Normal, the IDs of records that a loss of power took may come back
// for others. A disk with a volatile cache that ignores flushes, as some cheap ones and some
// virtual machines have, loses what it reported written.
//
// A Commit that failed may have stored its records all the same: a delivery that was answered with
// 503 may be handled.
//
// # Errors of the disk
//
// After an error of the disk nobody knows what it holds: the system does not write again what it
// could not write, and does not report it a second time. So the Store stops. Every Commit returns
// [ErrDown] until the program closes the Store and opens it again, which reads what the disk really
// has. What is stored can still be read meanwhile.
//
// A full disk is no such error. Commits fail with [ErrDiskFull], and succeed when there is room.
// [WithMaxPending] sets a bound before that. A damaged file gives [ErrDamaged].
//
// # The file
//
// The file must be on a local disk: the log of SQLite, and the lock, do not work over a network.
// One process at a time has it open; another one gets [ErrLocked]. The lock ends with the process.
// Three files are beside it: the log (-wal), its index (-shm) and the lock (.lock). Log and file
// belong together: move both, or close the Store before. Copy the file with VACUUM INTO or .backup
// of the sqlite3 shell, never with cp while it is open.
//
// The process must not open the file by other means than this package, not even to read it: when it
// closes it, Unix releases the locks of SQLite.
//
// The files have mode 0600. They hold the bodies of deliveries; the Handler cuts tokens from them,
// or encrypts them. What is deleted is overwritten with zeros in the file (PRAGMA secure_delete).
// Copies of it stay in the log until the log is written over, which begins anew every few MB, or
// removed, when the Store is closed. No program can promise what the disk itself keeps of old
// blocks.
//
// The file does not shrink when records are deleted; later ones use the room. To shrink it, close
// the Store and run VACUUM in the sqlite3 shell.
//
// # Tables
//
// The tables are pending and archive; look at them with any SQLite tool, as long as it only reads:
//
//	SELECT id, name, member_id, attempts, err FROM pending ORDER BY id;
//	SELECT id, name, member_id, err, datetime(settled / 1000000, 'unixepoch') FROM archive WHERE state = 2;
//
// Times are microseconds since 1970. A program that writes, or locks the file for more than five
// seconds, makes Commits fail. One that reads in a transaction for long makes the log grow.
//
// The header of the file has the application ID 0x62323471 and the version of the tables. Open
// refuses a file of another program or of a newer version with [ErrForeign], and changes nothing in
// it.
//
// # Speed
//
// A Commit is one transaction and one sync of the disk, whatever it stores and settles. So the sync
// decides how long a delivery waits, and the size of the groups how many a second there are.
// Records that the Handler keeps up with are passed on in memory and not read again.
//
// On Linux and other systems with fdatasync, a program may call sqlite.Fdatasync(true) of
// modernc.org/sqlite, which makes syncs cheaper and just as safe. It affects all databases of the
// process, so this package leaves it to the program.
//
// # Errors
//
//	ErrConfig       Open and all methods: arguments or options that make no sense
//	ErrLocked       Open: another process has the queue open
//	ErrForeign      Open: the file is another program's, or a newer version's
//	ErrDamaged      all but Close: the file is damaged
//	ErrDown         Commit, Replay, Discard: the disk failed before
//	ErrDiskFull     Commit, Replay, Discard: there is no room on the disk
//	ErrNotArchived  List: the record to list after is gone
//	ErrClosed       all but Open and Close: the Store was closed
//
// Commit also returns webhook.ErrQueueFull, if [WithMaxPending] is set. Errors show the result code
// of SQLite and nothing that is stored. The driver's error is in the chain.
package sqlitestore
