// Package oauthtest checks that an [oauth.Store] does what package oauth relies on. If you write a
// store, for example for a database, run the suite in a test:
//
//	func TestStore(t *testing.T) {
//		oauthtest.TestStore(t, func(t *testing.T) oauth.Store {
//			return mystore.New(emptyDatabase(t))
//		})
//	}
//
//	func TestSharedStore(t *testing.T) {
//		oauthtest.TestSharedStore(t, func(t *testing.T) func() oauth.Store {
//			db := emptyDatabase(t)
//			return func() oauth.Store { return mystore.New(db) }
//		})
//	}
//
// [TestStore] is for every store, [TestSharedStore] for those that several processes can use at
// once. Both need an empty store for each of their subtests, which run one after the other. Both
// may run in parallel with other tests.
//
// The suite checks this:
//
//   - Swap and Delete are compare-and-swap. Of many calls with one version exactly one wins, and
//     the others get [oauth.ErrConflict].
//   - A version never comes back, not even after the installation was deleted and created again.
//   - Load sees every Swap that has returned, by whichever instance.
//   - Every field of an [oauth.Installation] comes back as it was. Times are compared as instants,
//     to the microsecond; nil and empty slices are equal. Fields that later versions of package
//     oauth add are checked without a change of the suite.
//   - Installations are copied, both ways.
//   - Keys are compared byte by byte, and so are applications. A store may refuse an ID that it
//     cannot hold, with an error of its own. It must accept IDs of up to 64 letters, digits, dots,
//     hyphens and underscores.
//   - List returns the keys of one application in order, each once, page by page, also while others
//     write.
//   - A canceled context ends an operation with the context's error and leaves the store as it was.
//   - Neither errors nor the printed store show a secret.
//   - If the store is an [oauth.Preparer], a reservation changes nothing that others see, and does
//     not lock the key.
//
// [TestLocker] is a suite of its own, for an [oauth.Locker].
package oauthtest
