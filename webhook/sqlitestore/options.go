package sqlitestore

import "time"

// Option is an option of [Open].
type Option func(*config) error

type config struct {
	keep       time.Duration
	maxPending int64 // 0 for no bound
	sync       Synchronous
	logPages   int // pages of the log that are written back to the file at a time
	archive    bool
}

// Synchronous says when Commit waits for the disk.
type Synchronous uint8

const (
	// Full waits in each Commit until the disk has what it stores. It is the default.
	Full Synchronous = iota
	// Normal lets the system decide when it writes to the disk what Commit stores. A power failure, or
	// a crash of the system, loses the last Commits, although they returned nil. A crash of the
	// process loses nothing.
	Normal
)

// String returns the name of the mode as SQLite spells it.
func (s Synchronous) String() string {
	if s == Normal {
		return "NORMAL"
	}
	return "FULL"
}

// WithKeep archives records that are done, so that they can be replayed, and deletes them after d,
// a few at a time. d must be at least a second. By default, such records are deleted at once.
// Archiving about doubles the amount of data written. A Store that is opened without this option
// keeps archived records as they are.
func WithKeep(d time.Duration) Option {
	return func(c *config) error {
		if d < time.Second {
			return misconfigured("WithKeep(%v): the duration must be at least a second", d)
		}
		c.keep = d
		return nil
	}
}

// WithMaxPending bounds the number of pending records: a Commit that would exceed n fails with
// webhook.ErrQueueFull. Its marks are applied nevertheless. By default, only the disk bounds the
// number.
func WithMaxPending(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return misconfigured("WithMaxPending(%d): the number must be positive", n)
		}
		c.maxPending = int64(n)
		return nil
	}
}

// WithSynchronous sets when Commit waits for the disk. The default is [Full].
func WithSynchronous(s Synchronous) Option {
	return func(c *config) error {
		if s > Normal {
			return misconfigured("WithSynchronous(%d): the mode must be Full or Normal", s)
		}
		c.sync = s
		return nil
	}
}

// WithArchiveOnly opens a queue that another process may have open for processing. It is for List,
// Replay, Discard and Depth, which is what a [webhook.Archive] needs. Commit and Feed return
// [ErrConfig]. The file must exist. The process that works the queue sees replayed records within
// about a second.
func WithArchiveOnly() Option {
	return func(c *config) error {
		c.archive = true
		return nil
	}
}
