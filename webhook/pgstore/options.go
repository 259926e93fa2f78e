package pgstore

import (
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/webhook"
)

// Defaults of the options, and limits.
const (
	DefaultSchema     = "b24events"
	DefaultPartitions = 64
	DefaultMinPoll    = 20 * time.Millisecond
	DefaultMaxPoll    = 250 * time.Millisecond
	// MaxDataBytes is the size of the largest record that a Store accepts. PostgreSQL itself accepts
	// almost 1 GB, but that takes several times as much memory in both processes.
	MaxDataBytes = 64 << 20
)

// Option configures [New] and [DDL]. A nil Option is skipped.
type Option func(*config) error

type config struct {
	schema       string
	partitions   int // 0: as many as the data have
	minPoll      time.Duration
	maxPoll      time.Duration
	keep         time.Duration
	maxPending   int64
	migrate      bool
	checkDurable bool
	logger       *slog.Logger
	pace         pace
}

// pace is how often the Store does background work.
type pace struct {
	sweep time.Duration // between two pages of a sweep
	check time.Duration // between two looks for open transactions
	prune time.Duration // between two deletions of expired records
	grace time.Duration // how long a feed survives errors of the server
	open  time.Duration // how long a transaction may be open before the log says so
}

func newConfig(opts []Option) (config, error) {
	c := config{
		schema:  DefaultSchema,
		minPoll: DefaultMinPoll, maxPoll: DefaultMaxPoll,
		migrate: true, checkDurable: true,
		pace: pace{sweep: time.Second, check: time.Second, prune: time.Minute, grace: 5 * time.Second, open: time.Minute},
	}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&c); err != nil {
			return config{}, err
		}
	}
	if c.logger == nil {
		c.logger = defaultlog.New()
	}
	return c, nil
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// WithSchema sets the PostgreSQL schema that the tables are in, [DefaultSchema] by default. Each
// application has a schema of its own: two that share one would handle each other's events. The
// name consists of lower-case letters, digits and underscores, and does not begin with a digit or
// with pg_.
func WithSchema(name string) Option {
	return func(c *config) error {
		if !schemaName.MatchString(name) || strings.HasPrefix(name, "pg_") {
			return misconfigured("the name of a schema has up to 63 lower-case letters, digits and underscores, and does not begin with pg_")
		}
		c.schema = name
		return nil
	}
}

// WithPartitions sets the number of partitions, from 2 to [webhook.MaxPartitions]. New stores it
// when it creates the tables. It never changes: New refuses another number with [ErrConfig].
// Without the option, new tables get [DefaultPartitions], and existing tables keep theirs. Use
// several times as many partitions as processes, so that each gets an even share.
func WithPartitions(n int) Option {
	return func(c *config) error {
		if n < 2 || n > webhook.MaxPartitions {
			return misconfigured("%d partitions; a store for several processes has 2 to %d", n, webhook.MaxPartitions)
		}
		c.partitions = n
		return nil
	}
}

// WithPollInterval sets how often a process looks for records that other processes stored. The
// interval is lowest while there are some, and grows up to highest while there are none. A process
// sees its own records at once. The defaults are [DefaultMinPoll] and [DefaultMaxPoll].
func WithPollInterval(lowest, highest time.Duration) Option {
	return func(c *config) error {
		if lowest < time.Millisecond || highest < lowest || highest > time.Minute {
			return misconfigured("poll intervals of %s to %s; they are from 1ms to 1m, the lower one first", lowest, highest)
		}
		c.minPoll, c.maxPoll = lowest, highest
		return nil
	}
}

// WithKeep keeps records for d after they were handled, for [webhook.Archive.Replay]. Without it
// they are deleted at once. All processes should use the same duration: each archives the records
// that it handles, and deletes archived records that are older than its own duration. A process
// without the option deletes no archived records.
func WithKeep(d time.Duration) Option {
	return func(c *config) error {
		if d < time.Second {
			return misconfigured("WithKeep(%s): the duration must be at least a second", d)
		}
		c.keep = d
		return nil
	}
}

// WithMaxPending bounds the number of pending records. A Commit that would store more returns an
// error that matches [webhook.ErrQueueFull]. Each process counts for itself, more and more often as
// the number approaches the bound, so several of them may exceed it by a few percent. A count of
// 100,000 records takes the server some 20 ms. By default, only the disk bounds the number.
func WithMaxPending(n int64) Option {
	return func(c *config) error {
		if n < 1 {
			return misconfigured("WithMaxPending(%d): the number must be positive", n)
		}
		c.maxPending = n
		return nil
	}
}

// WithoutMigration makes New neither create nor change tables. It refuses tables that are missing,
// or of another version, with [ErrSchema]. Use it if the program's role may not create tables, and
// apply the result of [DDL] with another role.
func WithoutMigration() Option {
	return func(c *config) error {
		c.migrate = false
		return nil
	}
}

// WithoutDurabilityCheck makes New accept a server with fsync, full_page_writes or
// synchronous_commit switched off. After a power failure such a server may have lost deliveries
// that were answered 200, or all of the data. It is for tests.
func WithoutDurabilityCheck() Option {
	return func(c *config) error {
		c.checkDurable = false
		return nil
	}
}

// WithLogger sets the logger. The default writes WARN and above to [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return misconfigured("nil logger")
		}
		c.logger = l
		return nil
	}
}
