package webhook

import (
	"context"
	"iter"
	"time"

	"github.com/b24events/b24events/event"
)

// Store keeps accepted deliveries until they are settled: handled, parked or discarded. [WithStore]
// puts one behind a Handler. The Handler is responsible for the order of work, retries, coalescing
// and fairness. A Store is a table of pending records, and an archive of parked and kept ones.
//
// A record is in one partition, which depends on its application and portal. One process at a time
// works a partition. It owns the lease of the partition, or the store has one partition and lets
// only one process open it.
//
// Implementations must be safe for concurrent use, except that a Handler calls Commit from one
// goroutine. Methods return soon after their context ended. The caller owns what a method returns.
// Commit may keep the records that it gets and yield them in Feed; their Data never change.
//
// Package webhooktest has a suite that checks a Store. The file docs/stores.md of the module says
// how to write one. A Store may also be a [Leaser] and a [Transactor].
type Store interface {
	// Partitions returns the number of partitions, which never changes for the data. If there are
	// several, several processes may use the data at a time, and each needs a [Leaser].
	Partitions() int

	// Commit stores add, in this order, sets the ID of each record, and applies marks. If Commit
	// returns nil, all of that is durable. If the store can never hold a record, for example because
	// it is too large, Commit sets its Rejected and stores the others.
	//
	// After an error any part of add and marks may have been done. The Handler refuses the requests of
	// add and passes the marks again, so applying a mark twice must do what applying it once does. A
	// mark for a record that is no longer pending does nothing. If the store has no room for add, the
	// error matches [ErrQueueFull].
	Commit(ctx context.Context, add []*Record, marks []Mark) error

	// Feed yields the pending records of a partition: those that are there, then those that come,
	// until ctx ends or the loop stops. If Commit of a returned before Commit of b began, in any
	// process, or if a came before b in one Commit, then Feed yields a before b. A Feed yields no
	// record twice. It yields no record after a Commit that settled it has returned, unless it read
	// the record just before.
	//
	// Feed sets Recovered for records that were committed before it began. The loop body blocks if
	// there is no room in memory; that must not hold up other partitions. If Feed fails, it yields one
	// error, with a nil record, and ends. The end of ctx is not an error.
	Feed(ctx context.Context, part int) iter.Seq2[*Record, error]

	// Load reads pending records of a partition again, in any order. It leaves out records that are
	// no longer pending.
	Load(ctx context.Context, part int, ids []string) ([]*Record, error)

	// Depth counts what the store holds. It may be off by what happens at the same time.
	Depth(ctx context.Context) (Depth, error)

	// List returns up to limit archived records of a state, in the order in which they were settled,
	// starting behind the record with the ID after, or from the beginning if after is empty. If it
	// returns fewer than limit, there are no more. The state is [StateParked] or [StateDone].
	List(ctx context.Context, state State, after string, limit int) ([]*Record, error)

	// Replay makes archived records pending again, behind all that are there, with new IDs and no
	// attempts counted. It returns how many, and skips IDs that are not archived.
	Replay(ctx context.Context, ids ...string) (int, error)

	// Discard deletes archived records for good. It returns how many, and skips IDs that are not
	// archived.
	Discard(ctx context.Context, ids ...string) (int, error)
}

// State is the state of a stored record.
type State uint8

// The states of a record.
const (
	StatePending State = iota // to be handled
	StateDone                 // handled; a store archives such records or deletes them
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
	// ID is set by Commit: at most 64 printable ASCII characters without spaces. The store never uses
	// it for another record, and an archived record keeps it.
	ID   string
	Part int // partition, from 0 to Partitions()-1
	// Name and MemberID are the event and the portal, for people who look at the data: printable ASCII
	// of at most 128 bytes each. The Handler reads only Data.
	Name, MemberID string
	Received       time.Time // UTC, to the microsecond
	// Data is the delivery. It may hold any bytes and is not empty. Stores keep it as it is.
	Data []byte

	Attempts    int       // failed attempts
	Interrupted int       // attempts in a row that began after a restart and never ended
	Due         time.Time // time of the next attempt; zero for at once
	Err         string    // why the last attempt failed, or why the record is parked
	Settled     time.Time // when the record was archived; zero if it is pending
	// Recovered is set by Feed if the record is older than the Feed, so that an earlier owner may have
	// begun to handle it.
	Recovered bool
	// Rejected is set by Commit if the store can never hold the record, and says why.
	Rejected error

	delivery *event.Delivery // what Data decodes to, if this process accepted it
	saved    savedTexts      // that Data has, too
}

// Mark is a change of the state of a record.
type Mark struct {
	Part int
	ID   string
	// State is StateDone, StateParked, or StatePending for new counters of a record that stays
	// pending. The fields below replace those of the record, except with StateDone.
	State       State
	Attempts    int
	Interrupted int
	Due         time.Time
	Err         string // without secrets, valid UTF-8 without control characters, at most 512 bytes
}

// Depth is what a [Store] holds. A time is zero if there is no such record.
type Depth struct {
	Pending       int64
	Parked        int64
	Kept          int64     // done, and kept for a replay
	OldestPending time.Time // when the oldest pending record was received
	OldestParked  time.Time // when the oldest parked record was parked
}

// Leaser gives leases to processes that share a [Store], so that one of them works each partition.
// If a Store is a Leaser, the Handler uses it as such. It is the same interface as in package
// offline, so an implementation for one works for the other, and package offlinetest checks both.
type Leaser interface {
	// Acquire takes the named leases for owner, or renews those that it holds, to ttl from now, each
	// by itself and atomically. It returns those that owner holds now. Other owners hold the rest.
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	// Release ends the named leases that owner holds, and no others.
	Release(ctx context.Context, owner string, names ...string) error
	// Held returns the leases in force whose names begin with prefix, as a map from names to owners.
	Held(ctx context.Context, prefix string) (map[string]string, error)
}

// Transactor is a [Store] with transactions: a handler can write in the transaction that settles
// its record.
type Transactor interface {
	// Attempt is called before each attempt at a record. The handler gets the context that it returns.
	// finish is called once, from the goroutine of the handler, with the error that the handler
	// returned or that of its panic, and returns the error of the attempt. If the handler succeeded
	// and used the transaction, finish marks the record done in it and commits.
	//
	// If finish returns an error that matches [ErrSettled], another process settled the record before.
	// The writes of the handler in the transaction are then undone, and the record is not tried again.
	Attempt(ctx context.Context, part int, id string) (handler context.Context, finish func(error) error)
}
