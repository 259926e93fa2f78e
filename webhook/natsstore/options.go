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

	// MinPartitions is the least number of partitions. With one partition, only one process could
	// work.
	MinPartitions = 2
	// MaxPartitions is the greatest number of partitions. The server has a consumer for each partition
	// that a process works.
	MaxPartitions = 256
)

// maxName keeps the names of streams short enough for file names.
const maxName = 64

// Option configures a [Store]. A nil Option is skipped.
type Option func(*config) error

type config struct {
	name       string
	partitions int // 0: as many as the streams have, or the default
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

// WithName sets the prefix of the names of the streams and their subjects. The default is
// [DefaultName]. Programs that share a NATS account need different names. A name has at most 64
// letters, digits, dashes and underscores.
func WithName(name string) Option {
	return func(c *config) error {
		if !validToken(name) || len(name) > maxName {
			return misconfigured("the name %q: want 1 to %d letters, digits, - and _", name[:min(len(name), maxName)], maxName)
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

// WithPartitions sets the number of partitions, from 2 to 256, when the streams are made. At most
// that many processes can share the work. The default is 32. Existing streams keep their number.
// New refuses another number, because portals would move to other partitions and lose their order.
func WithPartitions(n int) Option {
	return func(c *config) error {
		if n < MinPartitions || n > MaxPartitions {
			return misconfigured("%d partitions: want %d to %d", n, MinPartitions, MaxPartitions)
		}
		c.partitions = n
		return nil
	}
}

// WithReplicas sets how many servers of a cluster store the streams: 1, 3 or 5. The default is 1.
// New refuses existing streams with fewer replicas. The documentation of the package says what this
// guarantees.
func WithReplicas(n int) Option {
	return func(c *config) error {
		if n != 1 && n != 3 && n != 5 {
			return misconfigured("%d replicas: want 1, 3 or 5", n)
		}
		c.replicas = n
		return nil
	}
}

// WithMaxPending bounds the number of pending records. Commit returns [webhook.ErrQueueFull] when
// that is reached. The default is 1,000,000. If the option is given, New changes the limit of an
// existing stream.
func WithMaxPending(n int64) Option {
	return func(c *config) error {
		if n < 1 {
			return misconfigured("WithMaxPending(%d): the number must be positive", n)
		}
		c.maxPending = n
		return nil
	}
}

// WithMaxBytes bounds the stored bytes of pending records, in addition to [WithMaxPending]. By
// default there is no such bound. If the option is given, New changes the limit of an existing
// stream.
func WithMaxBytes(n int64) Option {
	return func(c *config) error {
		if n < 1<<20 {
			return misconfigured("WithMaxBytes(%d): want 1 MiB or more", n)
		}
		c.maxBytes = n
		return nil
	}
}

// WithKeep archives records that are done, so that they can be replayed, and deletes them after d.
// Without it they are deleted at once. It costs a read and a write per record, disk space, and
// about 150 bytes of the server's memory per archived record. Processes that share the streams
// should use the same duration: the last one that starts sets it, and those without the option
// archive nothing.
func WithKeep(d time.Duration) Option {
	return func(c *config) error {
		if d < time.Minute {
			return misconfigured("WithKeep(%s): want a minute or more", d)
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

// WithLogger sets the logger. The store logs repairs at INFO, and failed repairs at WARN. By
// default, WARN and above go to [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return misconfigured("nil logger; slog.DiscardHandler logs nothing")
		}
		c.logger = l
		return nil
	}
}
