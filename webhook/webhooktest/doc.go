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
//   - Order: a record whose Commit returned before the Commit of another began is yielded first,
//     with several processes and slow Commits too. Nothing is left out, and nothing is yielded
//     twice.
//   - Every field comes back as it was: any bytes of Data, times to the microsecond, in UTC. Data
//     of 900 KB, and 512 records of 8 KB in one Commit, are stored.
//   - Marks have their effect once, however often they come. Marks for other records have none.
//   - Recovered is set for records that are older than the Feed, and for no others.
//   - A Feed yields what comes within ten seconds, ends with its context, and leaves no goroutine.
//     A loop body that blocks holds up neither Commit nor another partition.
//   - IDs are never given again, also after the newest record is gone and the data are opened
//     again.
//   - List gives pages in the order of settling. Replay and Discard skip what is not archived. IDs
//     that no store gave do no harm.
//   - Each method but Feed returns an error if its context has ended, and the store stays usable.
//   - Depth counts what is there, at the latest ten seconds later.
//
// [CheckKept], [CheckFull] and [CheckRejected] add checks of what not every store does.
//
// The suite cannot cut the power. A store should have a test of its own that what Commit has stored
// is there after its process, and its server, were killed.
package webhooktest
