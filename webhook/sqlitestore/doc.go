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
// Commit returns once the disk has what it stores. So a delivery that was answered with 200 is
// still there after this:
//
//	                                         Full (the default)  Normal
//	the process ends, crashes or is killed   yes                 yes
//	the system crashes, the power fails      yes                 all but the last commits
//	the disk is full                         yes                 yes
//	the disk reports an error                yes                 all but the last commits
//	the disk loses what it reported written  no                  no
//	the disk itself is lost                  no                  no
//
// See [WithSynchronous]. With Normal, later records may get the IDs of records that a power failure
// lost. A disk with a volatile cache that ignores flushes, as some cheap ones and some virtual
// machines have, loses what it reported written.
//
// A failed Commit may still have stored its records, so a delivery that was answered with 503 may
// be handled.
//
// # Errors of the disk
//
// After a disk error, the contents of the disk are unknown: the system does not retry a failed
// write, and does not report it a second time. So the Store stops. Every Commit returns [ErrDown]
// until the program closes the Store and opens it again, which reads what the disk really has.
// Stored records can be read meanwhile.
//
// A full disk does not stop the Store. Commits fail with [ErrDiskFull], and succeed when there is
// room. [WithMaxPending] sets a bound before that. A damaged file gives [ErrDamaged].
//
// # The file
//
// The file must be on a local disk: the log of SQLite, and the lock, do not work over a network.
// One process at a time has it open; another one gets [ErrLocked]. The lock ends with the process.
// Beside it are three more files: the log (-wal), its index (-shm) and the lock (.lock). Log and
// file belong together: move both, or close the Store first. Copy the file with VACUUM INTO or
// .backup of the sqlite3 shell, never with cp while it is open.
//
// The process must open the file through this package only, even to read it: when a process closes
// any descriptor of the file, Unix releases the locks that SQLite holds on it.
//
// The files have mode 0600. They hold the bodies of deliveries; the Handler cuts tokens from them,
// or encrypts them. SQLite overwrites deleted data with zeros in the file (PRAGMA secure_delete).
// Copies stay in the log until SQLite overwrites it, which it does every few MB, or removes it,
// which it does when the Store is closed. No program can control what the disk itself keeps of old
// blocks.
//
// The file does not shrink when records are deleted; later records reuse the space. To shrink it,
// close the Store and run VACUUM in the sqlite3 shell.
//
// # Tables
//
// The tables are pending and archive; look at them with any SQLite tool, as long as it only reads:
//
//	SELECT id, name, member_id, attempts, err FROM pending ORDER BY id;
//	SELECT id, name, member_id, err, datetime(settled / 1000000, 'unixepoch') FROM archive WHERE state = 2;
//
// Times are microseconds since 1970. Commits fail while another program writes to the file, or
// locks it, for more than five seconds. The log grows while another program keeps a read
// transaction open.
//
// The header of the file has the application ID 0x62323471 and the version of the tables. Open
// refuses a file of another program or of a newer version with [ErrForeign], and changes nothing in
// it.
//
// # Speed
//
// A Commit is one transaction and one sync of the disk, no matter how many records it stores and
// settles. So the sync decides how long a delivery waits, and the size of the groups decides how
// many there are per second. As long as the Handler keeps up, it gets records from memory, and the
// Store does not read them from the file.
//
// On Linux and other systems with fdatasync, a program may call sqlite.Fdatasync(true) of
// modernc.org/sqlite, which makes syncs cheaper and just as safe. It affects all databases of the
// process, so this package leaves it to the program.
//
// # Errors
//
//	ErrConfig       Open and all methods: invalid arguments or options
//	ErrLocked       Open: another process has the queue open
//	ErrForeign      Open: another program or a newer version made the file
//	ErrDamaged      all but Close: the file is damaged
//	ErrDown         Commit, Replay, Discard: the disk failed earlier
//	ErrDiskFull     Commit, Replay, Discard: the disk is full
//	ErrNotArchived  List: the record to list after is gone
//	ErrClosed       all but Open and Close: the Store was closed
//
// Commit also returns webhook.ErrQueueFull, if [WithMaxPending] is set. Errors show the result code
// of SQLite and nothing that is stored. The driver's error is in the chain.
package sqlitestore
