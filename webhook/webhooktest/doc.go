// Package webhooktest checks implementations of [webhook.Store]. If you write a store, run the
// suite in a test:
//
//	func TestStore(t *testing.T) {
//		webhooktest.TestStore(t, func(t *testing.T) func(*testing.T) webhook.Store {
//			db := emptyDatabase(t)
//			return func(t *testing.T) webhook.Store {
//				store, err := mystore.Open(t.Context(), db)
//				if err != nil {
//					t.Fatal(err)
//				}
//				return store
//			}
//		})
//	}
//
// A store that shares its data between processes is also a [webhook.Leaser]. Run the suite of
// package offlinetest for that.
//
// [MemoryStore] passes the suite. It is for tests of programs that use a store, and of what happens
// when the store fails.
//
// # What the suite checks
//
//   - Order: if the Commit of a record returned before the Commit of another began, the record is
//     yielded first, with several processes and slow Commits too. Nothing is left out, and nothing
//     is yielded twice.
//   - Every field comes back as it was: any bytes of Data, and times to the microsecond, in UTC.
//     The store takes Data of 900 KB, and 512 records of 8 KB in one Commit.
//   - Marks have their effect once, however often they come. Marks for records that are not pending
//     have none.
//   - Feed sets Recovered for records that are older than itself, and for no others.
//   - A Feed yields a new record within ten seconds, ends with its context, and leaves no
//     goroutine. A loop body that blocks holds up neither Commit nor another partition.
//   - The store never gives an ID again, even after the newest record is gone and the data are
//     opened again.
//   - List returns pages in the order in which records were settled. Replay and Discard skip what
//     is not archived. IDs that no store gave do no harm.
//   - Each method but Feed returns an error if its context has ended, and the store stays usable.
//   - Depth counts what is there, with a delay of ten seconds at most.
//
// [CheckKept], [CheckFull] and [CheckRejected] add checks of what only some stores do.
//
// The suite cannot cut the power. A store should have a test of its own: after its process and its
// server were killed, everything that Commit has stored is there.
package webhooktest
