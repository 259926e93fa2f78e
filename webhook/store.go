package webhook

import (
	"context"
	"iter"
	"time"

	"github.com/b24events/b24events/event"
)

// Store keeps accepted deliveries until they are settled: handled, parked or discarded. [WithStore]
// puts one behind a Handler. The order of work, retries, coalescing and fairness are the Handler's;
// a Store is a table of what is pending, and an archive of what is parked or kept.
//
// A record is in one partition, which follows from its application and portal. One process at a
// time works a partition. It owns the lease of the partition, or the store has one partition and
// lets one process open it.
//
// Implementations must be safe for concurrent use, except that a Handler calls Commit from one
// goroutine. Methods return soon after their context ended. The caller owns what a method returns.
// Commit may keep the records that it was given and yield them in Feed; their Data never change.
//
// Package webhooktest has a suite that checks a Store. See docs/stores.md of the module for how to
// write one. A Store may also be a [Leaser] and a [Transactor].
type Store interface {
	// Partitions returns the number of partitions, which is fixed for the data. With more than one,
	// several processes may use the data at a time, and each needs a [Leaser].
	Partitions() int

	// Commit stores add, in this order, gives each record its ID, and applies marks. All of it is
	// durable when Commit returns nil. A record that the store can never hold, because it is too
	// large for example, is left out: Commit sets its Rejected and stores the others.
	//
	// After an error any part of add and marks may have happened. The Handler refuses the requests
	// of add and passes the marks again, so applying a mark twice must do what applying it once
	// does. A mark for a record that is not pending any more does nothing. If the store has no room
	// for add, the error matches [ErrQueueFull].
	Commit(ctx context.Context, add []*Record, marks []Mark) error

	// Feed yields the pending records of a partition: those that are there, then those that come,
	// until ctx ends or the loop stops. Order: if Commit of a returned before Commit of b began, in
	// any process, or if a came before b in one Commit, then a is yielded before b. No record is
	// yielded twice in one Feed, and none after a Commit that settled it has returned, except those
	// that were read just before.
	//
	// Recovered is set for records that were committed before this Feed began. The loop body blocks
	// when there is no room in memory; that must hold up no other partition. Feed yields one error,
	// with a nil record, and then ends. It yields no error for the end of ctx.
	Feed(ctx context.Context, part int) iter.Seq2[*Record, error]

	// Load reads pending records of a partition again, in any order. Those that are gone are left
	// out.
	Load(ctx context.Context, part int, ids []string) ([]*Record, error)

	// Depth counts what the store holds. It may be off by what happens at the same time.
	Depth(ctx context.Context) (Depth, error)

	// List returns up to limit archived records of a state, oldest first by the time at which they
	// were settled, that follow the record with the ID after, or from the beginning if after is
	// empty. Fewer than limit mean that there are no more. The state is [StateParked] or
	// [StateDone].
	List(ctx context.Context, state State, after string, limit int) ([]*Record, error)

	// Replay moves archived records back among the pending ones, behind all that are there, with
	// new IDs and no attempts counted. It returns how many. IDs that are not archived are skipped.
	Replay(ctx context.Context, ids ...string) (int, error)

	// Discard deletes archived records for good and returns how many. IDs that are not archived are
	// skipped.
	Discard(ctx context.Context, ids ...string) (int, error)
}

// State is the state of a stored record.
type State uint8

// The states of a record.
const (
	StatePending State = iota // to be handled
	StateDone                 // handled; a store that keeps such records archives it, others delete it
	StateParked               // given up; archived until it is replayed or discarded
)

// String returns the name of the state in lower case.
func (s State) String() string {
	switch s {
	case StatePending:
		return "pending"
	case StateDone:
		return "done"
	case StateParked:
		return "parked"
	default:
		return "unknown"
	}
}

// Record is one accepted delivery as a [Store] keeps it.
type Record struct {
	// ID is given by the store: at most 64 printable ASCII characters without spaces. It is empty
	// before Commit. It never comes back for another record, and an archived record keeps it.
	ID   string
	Part int // partition, from 0 to Partitions()-1
	// Name and MemberID are the event and the portal, for people who look at the data: printable
	// ASCII of at most 128 bytes each. What counts is in Data.
	Name, MemberID string
	Received       time.Time // UTC, to the microsecond
	// Data is the delivery. It may hold any bytes and is not empty. Stores keep it as it is.
	Data []byte

	Attempts    int       // that failed
	Interrupted int       // attempts in a row that began after a restart and never ended
	Due         time.Time // of the next attempt; zero for at once
	Err         string    // of the last attempt that failed, or why the record is parked
	Settled     time.Time // when the record was archived; zero if it is pending
	// Recovered is set by Feed: the record is older than the Feed, so an earlier owner may have
	// begun it.
	Recovered bool
	// Rejected is set by Commit: why the store can never hold the record.
	Rejected error

	delivery *event.Delivery // what Data decodes to, if this process accepted it
}

// Mark says what became of a record.
type Mark struct {
	Part int
	ID   string
	// State is StateDone, StateParked, or StatePending for new counters of a record that stays
	// pending. The fields below replace those of the record; they mean nothing with StateDone.
	State       State
	Attempts    int
	Interrupted int
	Due         time.Time
	Err         string // without secrets, valid UTF-8 without control characters, at most 512 bytes
}

// Depth is what a [Store] holds. Times are zero if there is nothing.
type Depth struct {
	Pending       int64
	Parked        int64
	Kept          int64     // done, and kept for a replay
	OldestPending time.Time // when the oldest pending record was received
	OldestParked  time.Time // when the oldest parked record was parked
}

// Leaser gives leases to processes that share a [Store], so that each partition is worked by one of
// them. A Store that is a Leaser is used as its own. It is the interface of package offline, so an
// implementation for one works for the other, and package offlinetest checks both.
type Leaser interface {
	// Acquire takes the named leases for owner, or renews those that it holds, to ttl from now,
	// each by itself and atomically. It returns those that owner holds now; the others are
	// another's.
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	// Release ends the named leases that owner holds. Those of others stay as they are.
	Release(ctx context.Context, owner string, names ...string) error
	// Held returns the leases in force whose names begin with prefix, by name, with their owners.
	Held(ctx context.Context, prefix string) (map[string]string, error)
}

// Transactor is what a [Store] may also be, if a handler can write in the transaction that settles
// its record.
type Transactor interface {
	// Attempt is called before each attempt at a record. The handler gets the context that it
	// returns. Finish is called once, from the goroutine of the handler, with what the handler
	// returned or the error of its panic, and returns the error of the attempt. If the handler
	// succeeded and used the transaction, finish marks the record done in it and commits.
	//
	// An error of finish that matches [ErrSettled] means that another process settled the record
	// before. What the handler wrote in the transaction is undone then, and the record is not tried
	// again.
	Attempt(ctx context.Context, part int, id string) (handler context.Context, finish func(error) error)
}
