// Package spool keeps records on disk that were taken from an offline queue and are not finished.
//
// A [Journal] is a folder of one queue. Its rows are JSON documents; the package does not read
// them. Each [Journal.Append] writes one file, a segment, and syncs it before it returns. A second
// file beside it, the segment's marks, says which rows are done or parked. An [Offset] names a row.
//
//	                Append                      Ack
//	(the portal) ------------> pending --------------------------> done
//	                           ^     |  Park                         ^
//	                    Replay |     +--------> parked --------------+
//	                           |                |    ^        Ack
//	(a restart) ---------------+    Pass.Next  +----+  Park
//
// Append, [Journal.Replay] and [Pass.Next] hand out rows. A row is not handed out again before
// [Journal.Ack], [Journal.Park] or [Journal.Nack] was called for it. Marks stay in memory until
// [Journal.Flush] writes them. Flush also removes the segments whose rows are all done.
//
// # Guarantees
//
// After a crash of the process or of the machine, [Open] finds every row for which Append returned
// nil, unless Flush has written that it is done. A row whose mark Flush has written does not come
// back. On Windows, which cannot flush a folder, rows that were done shortly before a loss of power
// may come back. A row that Append could not write may be lost.
//
// Every line of a file has a checksum. A file that is damaged is put aside, with the suffix
// ".damaged", and the rows in it that can be read are used. A row that was read was written.
//
// # A disk that fails
//
// Append also takes the rows that it cannot write. They are held in memory, as unsaved rows, and
// have offsets like all others. Flush tries again to write those that are not done by then.
// [Journal.Failing] reports since when the disk fails.
//
// # Locks and open files
//
// A journal that has rows keeps its folder open and locked, so two processes never work on the same
// rows. A journal without rows closes its files and releases the lock. Before rows are taken from
// the portal, [Journal.Acquire] takes the lock again and keeps it until [Journal.Release]. If
// another process has used the folder in between and left rows in it, Acquire finds them.
//
// # Concurrency
//
// All methods may be called at any time from any goroutine. Those that use files wait for each
// other. The others, [Journal.Ack], [Journal.Park], [Journal.Nack], [Journal.Counts] and
// [Journal.Failing], never wait for the disk.
package spool
