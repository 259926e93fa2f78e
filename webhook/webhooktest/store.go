package webhooktest

import (
	"testing"

	"github.com/b24events/b24events/webhook"
)

// TestOption describes the store under test to [TestStore].
type TestOption func(*suite)

type suite struct {
	keeps   bool
	full    func(t *testing.T, room int) func(t *testing.T) webhook.Store
	tooMuch int
}

// CheckKept states that the store under test archives records that are done, for at least an hour.
// Without this option the suite checks that they are gone.
func CheckKept() TestOption { return func(s *suite) { s.keeps = true } }

// CheckFull adds the checks of a store that has no room. Its function is like that of [TestStore],
// but opens a store with room for that many pending records.
func CheckFull(open func(t *testing.T, room int) func(t *testing.T) webhook.Store) TestOption {
	return func(s *suite) { s.full = open }
}

// CheckRejected adds the checks of a store that can never hold records with that many bytes of
// Data.
func CheckRejected(dataBytes int) TestOption { return func(s *suite) { s.tooMuch = dataBytes } }

// TestStore runs the suite. Each subtest calls open once, with its own t, to which open may add a
// cleanup. open creates empty data for the subtest and returns a function that opens them, each
// time as another process would.
//
// If a store is an io.Closer, the suite closes it. With one partition it does so before it opens
// the data again. With more partitions, several stores are open on the data side by side.
func TestStore(t *testing.T, open func(t *testing.T) func(t *testing.T) webhook.Store, opts ...TestOption) {
	t.Helper()
	var s suite
	for _, opt := range opts {
		if opt != nil {
			opt(&s)
		}
	}
	for _, c := range []struct {
		name string
		run  func(k *kit)
	}{
		{"empty", testEmpty},
		{"nothing to commit", testNothing},
		{"order", testOrder},
		{"order of concurrent commits", testConcurrent},
		{"backlog with holes", testBacklog},
		{"partitions apart", testPartitions},
		{"hostile bytes", testBytes},
		{"large record", testLarge},
		{"many large records", testManyLarge},
		{"every field", testFields},
		{"what is returned is the caller's", testOwned},
		{"done", testDone},
		{"parked", testParked},
		{"marks of records that stay", testCounters},
		{"marks twice", testMarksTwice},
		{"marks of strangers", testStrangers},
		{"marks of two partitions", testMarksOfTwo},
		{"recovered", testRecovered},
		{"feed goes on", testFeedGoesOn},
		{"feed blocked", testFeedBlocked},
		{"feed far behind", testFeedBehind},
		{"feed again", testFeedAgain},
		{"feed ends", testFeedEnds},
		{"feed leaks nothing", testFeedLeaks},
		{"load", testLoad},
		{"depth", testDepth},
		{"list in pages", testList},
		{"replay", testReplay},
		{"discard", testDiscard},
		{"kept", testKept},
		{"hostile ids", testHostileIDs},
		{"ids never come back", testIDs},
		{"cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newKit(t, s, open)) })
	}
	if s.full != nil {
		t.Run("full", func(t *testing.T) {
			testFull(newKit(t, s, func(t *testing.T) func(*testing.T) webhook.Store {
				t.Helper()
				return s.full(t, fullRoom)
			}))
		})
	}
	if s.tooMuch > 0 {
		t.Run("rejected", func(t *testing.T) { testRejected(newKit(t, s, open)) })
	}
}
