package webhooktest

import (
	"context"
	"errors"
	"fmt"

	"github.com/b24events/b24events/webhook"
)

// MemoryOption is an option of [NewMemoryStore].
type MemoryOption func(*memoryConfig) error

type memoryConfig struct {
	partitions int
	maxPending int // 0 for no bound
	maxData    int // the same
	keep       bool
}

var (
	errTooLarge = errors.New("webhooktest: the record has more Data than WithMaxData allows")
	errAfter    = errors.New("webhooktest: the record to list after is not archived; list from the beginning")
)

// WithPartitions sets the number of partitions, at least 1.
func WithPartitions(n int) MemoryOption {
	return positive("WithPartitions", n, func(c *memoryConfig) { c.partitions = n })
}

// WithMaxPending bounds the number of pending records. A Commit that would exceed n fails with
// [webhook.ErrQueueFull].
func WithMaxPending(n int) MemoryOption {
	return positive("WithMaxPending", n, func(c *memoryConfig) { c.maxPending = n })
}

// WithMaxData bounds the Data of a record, in bytes. Commit rejects records with more.
func WithMaxData(n int) MemoryOption {
	return positive("WithMaxData", n, func(c *memoryConfig) { c.maxData = n })
}

// WithKeep archives the records that are done, until they are replayed or discarded.
func WithKeep() MemoryOption {
	return func(c *memoryConfig) error {
		c.keep = true
		return nil
	}
}

func positive(option string, n int, set func(*memoryConfig)) MemoryOption {
	return func(c *memoryConfig) error {
		if n < 1 {
			return fmt.Errorf("%w: webhooktest.%s(%d): the number must be positive", webhook.ErrConfig, option, n)
		}
		set(c)
		return nil
	}
}

// Op is a method of a [MemoryStore].
type Op string

// The methods of a MemoryStore that may fail.
const (
	OpCommit  Op = "commit"
	OpFeed    Op = "feed"
	OpLoad    Op = "load"
	OpDepth   Op = "depth"
	OpList    Op = "list"
	OpReplay  Op = "replay"
	OpDiscard Op = "discard"
	OpAcquire Op = "acquire"
	OpRelease Op = "release"
	OpHeld    Op = "held"
)

// Call is a call of a method of a [MemoryStore]. The fields other than Op are the arguments of that
// method, and zero for other methods. They belong to the caller of the method: do not change or
// keep them.
type Call struct {
	Op    Op
	Part  int               // of Feed, Load
	Fed   int               // what the Feed has yielded so far
	Add   []*webhook.Record // of Commit
	Marks []webhook.Mark    // of Commit
	IDs   []string          // of Load, Replay, Discard
	State webhook.State     // of List
	After string            // of List
	Limit int               // of List
	Owner string            // of Acquire, Release
	Names []string          // of Acquire, Release
}

// Fault says what goes wrong with a call. The zero Fault is no fault.
type Fault struct {
	// Err is what the method returns, or what Feed yields before it ends. The method does nothing.
	Err error
	// Added and Marked are for Commit: how many of the first records it stores, and of the first
	// marks it applies, before it fails. Larger numbers mean all of them.
	Added, Marked int
}

// SetFaults sets a function that each method of m calls before it does anything, and Feed before
// each record. The function may wait, for example to hold up a Commit, and must return when ctx
// ends. It is called without a lock, from several goroutines at once. A nil function ends the
// faults. SetFaults does not affect calls that have begun.
func (m *MemoryStore) SetFaults(f func(ctx context.Context, call Call) Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = f
}

func (m *MemoryStore) fault(ctx context.Context, call Call) Fault {
	m.mu.Lock()
	f := m.faults
	m.mu.Unlock()
	if f == nil {
		return Fault{}
	}
	return f(ctx, call)
}

// begin returns the error with which a method fails at once: that of a fault, or of ctx.
func (m *MemoryStore) begin(ctx context.Context, call Call) error {
	if fault := m.fault(ctx, call); fault.Err != nil {
		return fault.Err
	}
	return ctx.Err()
}
