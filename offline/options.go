package offline

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/misfits"
)

// The defaults of a [Consumer].
const (
	DefaultBatchSize      = 500              // records in a reservation, at most
	DefaultWorkers        = 50               // objects of a portal that are worked at the same time
	DefaultMinInterval    = 2 * time.Second  // first wait when the queue was empty
	DefaultMaxInterval    = time.Minute      // longest wait when the queue stays empty
	DefaultHandlerTimeout = time.Minute      // for one attempt of a handler
	DefaultGrace          = 10 * time.Second // for handlers that run when the consumer is stopped
	DefaultMaxAttempts    = 5                // before a record is parked
	DefaultParkedInterval = 10 * time.Minute // between passes over parked records
	DefaultNoResponse     = 5 * time.Minute  // of failures, before they are reported as a silence
)

// Option changes how a [Queue], a [Consumer] or a [Fleet] is made. A nil Option is skipped. An
// option that does not apply is an error.
type Option func(*config) error

type config struct {
	handle event.HandlerFunc

	dispatcher *dispatch.Dispatcher
	budget     *budget // of memory for records

	consumer bool // whether the options of a consumer apply
	fleet    bool // whether those of a fleet do

	turns, handlers int // of a fleet, at the same time
	onRefused       func(memberID string, err error)

	connector      string
	clientID       string
	memberID       string
	batchSize      int
	workers        int
	minInterval    time.Duration
	maxInterval    time.Duration
	handlerTimeout time.Duration
	grace          time.Duration
	maxAttempts    int
	parkedInterval time.Duration
	spoolDir       string
	ignored        map[int64]bool // users
	hooks          Hooks
	unhandled      *names // events that no handler took, and that the log named
	misfits        *misfits.Log
	noResponse     time.Duration
	noRecord       time.Duration
	logger         *slog.Logger
	leaser         Leaser           // nil if the queue needs no lease
	leaseTTL       time.Duration    // of its leases
	wall           func() time.Time // the wall clock of leases; nil for the system's, set by tests
}

func consumerDefaults() config {
	return config{
		consumer:       true,
		batchSize:      DefaultBatchSize,
		workers:        DefaultWorkers,
		minInterval:    DefaultMinInterval,
		maxInterval:    DefaultMaxInterval,
		handlerTimeout: DefaultHandlerTimeout,
		grace:          DefaultGrace,
		maxAttempts:    DefaultMaxAttempts,
		parkedInterval: DefaultParkedInterval,
		noResponse:     DefaultNoResponse,
		leaseTTL:       DefaultLeaseTTL,
		logger:         defaultlog.New(),
	}
}

func collect(cfg config, opts []Option) (config, error) {
	cfg.unhandled = new(names)
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return config{}, err
		}
	}
	cfg.misfits = misfits.New(cfg.logger)
	return cfg, nil
}

// consumerOption is an option of NewConsumer and NewFleet only.
func consumerOption(name string, set func(*config) error) Option {
	return func(c *config) error {
		if !c.consumer {
			return fmt.Errorf("offline: %s is an option of NewConsumer and NewFleet, not of NewQueue", name)
		}
		return set(c)
	}
}

// WithConnector picks the queue of a connector (auth_connector), by which one application keeps its
// integrations apart. The portal's plan must have the feature rest_auth_connector. The default, and
// what an empty name means, is the queue without a connector.
func WithConnector(name string) Option {
	return func(c *config) error {
		if strings.TrimSpace(name) != name {
			return errors.New("offline: WithConnector with spaces around the name; the portal compares every character")
		}
		c.connector = name
		return nil
	}
}

// WithClientID names the application whose queue it is. The default of a [Consumer] and a [Queue]
// is what the caller's method ClientID() string returns, which the clients of package rest have. A
// [Fleet] takes no default: it must know the application before it asks for a caller. A caller that
// belongs to another application is refused with [ErrIdentity].
//
// The ID is part of the names of leases and of spool folders, so that applications can share a
// [Leaser] and a folder. [WithLeaser] and [WithSpool] need it. It is also the application in the
// [event.Proof] of the deliveries that handlers get.
func WithClientID(id string) Option {
	return func(c *config) error {
		if id == "" {
			return errors.New("offline: WithClientID with an empty ID; it is the application's client_id")
		}
		c.clientID = id
		return nil
	}
}

// WithMemberID names the portal, which handlers read from [event.Delivery.MemberID]; records do not
// carry it. The default is what the caller's method MemberID() string returns, which the clients of
// package rest have. A caller that belongs to another portal is refused with [ErrIdentity].
func WithMemberID(id string) Option {
	return func(c *config) error {
		switch {
		case c.fleet:
			return errors.New("offline: WithMemberID is an option of NewConsumer and NewQueue; a fleet's portals have one each")
		case id == "":
			return errors.New("offline: WithMemberID with an empty identifier")
		}
		c.memberID = id
		return nil
	}
}

// WithBatchSize bounds how many records a reservation asks for, [DefaultBatchSize] by default.
// Reservations begin with 50 and double while they come back full and workers are free again within
// 10 seconds. They are halved, down to 50, when that takes more than 20 seconds, and after a
// response that did not arrive. A crash costs nothing but time, however large they are, because
// finished records are cleared every five seconds.
func WithBatchSize(n int) Option {
	return consumerOption("WithBatchSize", func(c *config) error {
		if n < 1 {
			return errors.New("offline: WithBatchSize wants 1 or more")
		}
		c.batchSize = n
		return nil
	})
}

// WithWorkers sets how many objects of a portal are worked at the same time, [DefaultWorkers] by
// default: as many as a batch has calls, so that handlers which call the portal through
// rest.Coalescer fill its batches. A quarter of them, and one at least, may try parked records.
func WithWorkers(n int) Option {
	return consumerOption("WithWorkers", func(c *config) error {
		if n < 1 {
			return errors.New("offline: WithWorkers wants 1 or more")
		}
		c.workers = n
		return nil
	})
}

// MinInterval is the shortest wait that [WithInterval] takes: a portal allows two requests a
// second.
const MinInterval = 100 * time.Millisecond

// WithInterval sets how long the consumer waits before it asks an empty queue again: shortest at
// first, twice as long each time, longest at most, and each time less a random part up to a half.
// shortest must be [MinInterval] or more. The defaults are [DefaultMinInterval] and
// [DefaultMaxInterval], for a [Fleet] [DefaultFleetMinInterval] and [DefaultFleetMaxInterval].
func WithInterval(shortest, longest time.Duration) Option {
	return consumerOption("WithInterval", func(c *config) error {
		switch {
		case shortest < MinInterval:
			return fmt.Errorf("offline: WithInterval with a shortest wait of %v; it must be %v or more", shortest, MinInterval)
		case longest < shortest:
			return errors.New("offline: WithInterval wants the shorter duration first")
		}
		c.minInterval, c.maxInterval = shortest, longest
		return nil
	})
}

// WithHandlerTimeout bounds one attempt of a handler, whose context then ends;
// [DefaultHandlerTimeout] by default. A handler that goes on after that keeps its worker, so
// handlers must return when their context ends.
func WithHandlerTimeout(d time.Duration) Option {
	return consumerOption("WithHandlerTimeout", func(c *config) error {
		if d <= 0 {
			return errors.New("offline: WithHandlerTimeout wants a positive duration")
		}
		c.handlerTimeout = d
		return nil
	})
}

// WithGrace sets how long handlers that run when the consumer is stopped may go on before their
// context ends, with the cause [ErrStopped]. The default is [DefaultGrace]; 0 ends them at once.
func WithGrace(d time.Duration) Option {
	return consumerOption("WithGrace", func(c *config) error {
		if d < 0 {
			return errors.New("offline: WithGrace wants a duration of 0 or more")
		}
		c.grace = d
		return nil
	})
}

// WithMaxAttempts sets how often a handler is tried with one record before the record is parked,
// [DefaultMaxAttempts] by default. Attempts that end with [event.Retry] count. Parked records get
// one attempt each [WithParkedInterval].
func WithMaxAttempts(n int) Option {
	return consumerOption("WithMaxAttempts", func(c *config) error {
		if n < 1 {
			return errors.New("offline: WithMaxAttempts wants 1 or more")
		}
		c.maxAttempts = n
		return nil
	})
}

// WithParkedInterval sets how long after a pass over the parked records the next one begins,
// [DefaultParkedInterval] by default. They are also tried at each start, and by
// [Consumer.RetryParked]. If the queue is asked less often than that, see [WithInterval], the next
// pass begins with the next request.
func WithParkedInterval(d time.Duration) Option {
	return consumerOption("WithParkedInterval", func(c *config) error {
		if d <= 0 {
			return errors.New("offline: WithParkedInterval wants a positive duration")
		}
		c.parkedInterval = d
		return nil
	})
}

// WithIgnoredUsers clears records without calling a handler if their change was made by one of
// these users. It is a guard against loops, for an application whose own changes come back to it
// because they are made with the token of a user of its own, such as a technical one. See the
// package documentation on loops.
//
// A record that waits takes in later changes of its object and names only the last one's user. So
// if a person's change is followed at once by one of an ignored user, no handler is called for it.
// Ignore only users whose writes leave the object as your own system has it. Parked records are
// handled whoever is named, because they may stand for changes of others.
func WithIgnoredUsers(ids ...int64) Option {
	return consumerOption("WithIgnoredUsers", func(c *config) error {
		ignored := maps.Clone(c.ignored)
		if ignored == nil {
			ignored = make(map[int64]bool, len(ids))
		}
		for _, id := range ids {
			if id < 1 {
				return errors.New("offline: WithIgnoredUsers wants the IDs of users; 0 stands for changes without a user, which cannot be ignored")
			}
			ignored[id] = true
		}
		c.ignored = ignored
		return nil
	})
}

// WithSpool names a folder for records that could not be reserved. If the portal's plan lacks the
// feature rest_offline_extended, the consumer goes on with deletion on reading. Without this option
// it ends with [ErrExtendedModeRequired] then. The records of a response are written to the folder
// and synced before the first of them is handled, and later starts finish them if the process dies.
// Records that are parked stay in the folder, and are retried each [WithParkedInterval].
//
// What can be lost is a response that does not arrive, up to one reservation's worth of records. A
// consumer that is stopped waits ten seconds for it. If the disk fails between the request and the
// file, the records are handled from memory at once, an error that names the folder is logged, and
// no more records are taken until the disk can be written. Those that are not finished by the time
// the consumer stops are lost, and Run returns an [ErrSpool] that says how many. A file that is
// damaged is put aside, with the suffix ".damaged", and the records in it that can be read are
// used.
//
// Records are kept as they came, payload in clear, in files that only the owner can read. On
// Windows the system and the administrators can read them, too, unless dir was there before and
// lets others.
//
// Each queue has a folder of its own in dir. It is named after the application, the portal and the
// connector, and a file in it says so. A folder that belongs to another queue, or that is in the
// format of an older version, is refused with [ErrSpoolOwner]. So several applications may share
// dir.
//
// A folder is locked while there are records in it, or while they are being taken from the portal;
// a second consumer of the queue ends with [ErrSpoolInUse] then. An idle queue has no open files.
// There are locks on Linux, macOS, the BSDs and Windows. On Windows, which cannot flush a folder,
// records that were finished shortly before a loss of power may be handled again.
//
// The option excludes [WithLeaser], because a spool stays on the machine when the queue passes to
// another.
func WithSpool(dir string) Option {
	return consumerOption("WithSpool", func(c *config) error {
		if dir == "" {
			return errors.New("offline: WithSpool without a folder")
		}
		c.spoolDir = dir
		return nil
	})
}

// WithLogger sets where the consumer reports parked and lost records and silences (ERROR), failing
// portals, dropped records and lost leases (WARN), retries and recovered records (INFO). Without
// this option, WARN and above go to slog.Default as it is when the consumer is made.
// slog.New(slog.DiscardHandler) silences the consumer. The errors that handlers return are logged,
// with tokens removed; payloads are not.
func WithLogger(l *slog.Logger) Option {
	return consumerOption("WithLogger", func(c *config) error {
		if l == nil {
			return errors.New("offline: WithLogger with a nil logger; slog.New(slog.DiscardHandler) is silent")
		}
		c.logger = l
		return nil
	})
}
