package natsstore

import (
	"log/slog"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/defaultlog"
)

// Defaults and limits of the options.
const (
	DefaultName       = "B24EVENTS"
	DefaultPartitions = 32
	DefaultMaxPending = 1_000_000

	// MinPartitions is the least, because one partition would let one process work only.
	MinPartitions = 2
	// MaxPartitions is the most. Each partition that a process works is a consumer on the server.
	MaxPartitions = 256
)

// maxName keeps the names of streams short enough for file names.
const maxName = 64

// Option configures a [Store]. A nil Option is skipped.
type Option func(*config) error

type config struct {
	name       string
	partitions int // 0: those that exist, or the default
	replicas   int // 0: as they are, or 1
	maxPending int64
	maxBytes   int64
	keep       time.Duration
	domain     string
	logger     *slog.Logger
}

func newConfig(opts []Option) (config, error) {
	c := config{name: DefaultName}
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

// WithName sets what the names of the streams and their subjects begin with. The default is
// [DefaultName]. Programs that share an account of NATS need names of their own. Letters, digits,
// dashes and underscores are allowed, 64 at most.
func WithName(name string) Option {
	return func(c *config) error {
		if !validToken(name) || len(name) > maxName {
			return misconfigured("the name %q: want 1 to %d letters, digits, dashes and underscores", name[:min(len(name), maxName)], maxName)
		}
		c.name = name
		return nil
	}
}

func validToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// WithPartitions sets the number of partitions, from 2 to 256, when the streams are made: the
// number of processes that can share the work is at most that. The default is 32. Streams that
// exist keep their number: New refuses another one, because the portals would move to other
// partitions and lose their order.
func WithPartitions(n int) Option {
	return func(c *config) error {
		if n < MinPartitions || n > MaxPartitions {
			return misconfigured("%d partitions: want %d to %d", n, MinPartitions, MaxPartitions)
		}
		c.partitions = n
		return nil
	}
}

// WithReplicas sets on how many servers of a cluster the streams are stored: 1, 3 or 5. The default
// is 1. New refuses streams that exist with fewer. Read about what this guarantees in the
// documentation of the package.
func WithReplicas(n int) Option {
	return func(c *config) error {
		if n != 1 && n != 3 && n != 5 {
			return misconfigured("%d replicas: want 1, 3 or 5", n)
		}
		c.replicas = n
		return nil
	}
}

// WithMaxPending bounds the pending records. Commit returns [webhook.ErrQueueFull] when there are
// so many. The default is 1,000,000. If the option is given, New changes the limit of a stream that
// exists.
func WithMaxPending(n int64) Option {
	return func(c *config) error {
		if n < 1 {
			return misconfigured("room for %d pending records", n)
		}
		c.maxPending = n
		return nil
	}
}

// WithMaxBytes bounds the bytes of the pending records as the server stores them, in addition to
// [WithMaxPending]. There is no such bound by default. If the option is given, New changes the
// limit of a stream that exists.
func WithMaxBytes(n int64) Option {
	return func(c *config) error {
		if n < 1<<20 {
			return misconfigured("room for %d bytes of pending records: want 1 MiB or more", n)
		}
		c.maxBytes = n
		return nil
	}
}

// WithKeep archives records that are done for this long, so that they can be replayed. Without it
// they are deleted at once. It costs a read and a write for each record, disk, and about 150 bytes
// of the server's memory for each record that is kept. Programs that share the data should give the
// same: the last one that starts sets the time, and those without the option keep nothing.
func WithKeep(d time.Duration) Option {
	return func(c *config) error {
		if d < time.Minute {
			return misconfigured("records that are done kept for %s: want a minute or more", d)
		}
		c.keep = d
		return nil
	}
}

// WithDomain sets the JetStream domain, for a connection to a leaf node that reaches JetStream of
// another domain.
func WithDomain(domain string) Option {
	return func(c *config) error {
		if !validToken(domain) {
			return misconfigured("the JetStream domain must be letters, digits, dashes and underscores")
		}
		c.domain = domain
		return nil
	}
}

// WithLogger sets the logger. The store logs what it repairs and what it could not clean up, at
// WARN. By default that goes to [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return misconfigured("nil logger; slog.DiscardHandler logs nothing")
		}
		c.logger = l
		return nil
	}
}
