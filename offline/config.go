package offline

import (
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/histogram"
	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/misfits"
)

// The defaults of a [Consumer].
const (
	DefaultBatchSize      = 500              // records in a reservation, at most
	DefaultWorkers        = 50               // objects of a portal that are handled at the same time
	DefaultMinInterval    = 2 * time.Second  // first wait when the queue was empty
	DefaultMaxInterval    = time.Minute      // longest wait when the queue stays empty
	DefaultHandlerTimeout = time.Minute      // for one attempt of a handler
	DefaultGrace          = 10 * time.Second // for handlers that run when the consumer is stopped
	DefaultMaxAttempts    = 5                // before a record is parked
	DefaultParkedInterval = 10 * time.Minute // between passes over parked records
	DefaultNoResponse     = 5 * time.Minute  // of failures, before they are reported as a stall
)

// The defaults of a [Fleet], if they differ from those of a [Consumer] or are its own.
const (
	DefaultTurns            = 256              // portals worked at the same time
	DefaultHandlers         = 1024             // handlers that run at the same time
	DefaultFleetMinInterval = 10 * time.Second // first wait when a queue was empty
	DefaultFleetMaxInterval = 5 * time.Minute  // longest wait while it stays empty
)

const (
	// consumerMemory and fleetMemory bound the memory of records in work, in bytes. Records that wait
	// for another attempt are in work, too. A record of a usual event takes one or two kilobytes.
	consumerMemory = 64 << 20
	fleetMemory    = 256 << 20
	// minOverflow is how many handlers may hang at the same time, at least, before they delay other
	// portals.
	minOverflow = 256
)

// minTurns is the fewest turns, or handlers, that can be divided among the kinds of portals.
const minTurns = 4

// config is what the options of a queue, a consumer or a fleet say.
type config struct {
	handle event.HandlerFunc

	dispatcher *dispatch.Dispatcher
	budget     *budget // of memory for records

	fleet bool // it is a fleet's: each of its portals has a member ID of its own

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
	unhandled      *logattr.Names // events without a handler that the log has named
	misfits        *misfits.Log
	took           *histogram.ByName    // handlers, by event
	lag            *histogram.Histogram // of handled records
	contexts       []func(context.Context, string) context.Context
	observers      []func(context.Context, RequestInfo)
	noResponse     time.Duration
	noRecord       time.Duration
	logger         *slog.Logger
	leaser         Leaser           // nil if the queue needs no lease
	leaseTTL       time.Duration    // of its leases
	wall           func() time.Time // the wall clock of leases; nil for the system's, set by tests
}

func consumerDefaults() config {
	return config{
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

// fleetDefaults are the defaults of [NewFleet].
func fleetDefaults() config {
	cfg := consumerDefaults()
	cfg.fleet = true
	cfg.minInterval, cfg.maxInterval = DefaultFleetMinInterval, DefaultFleetMaxInterval
	cfg.turns, cfg.handlers = DefaultTurns, DefaultHandlers
	return cfg
}

// configure applies options to cfg. apply is the method of their interface.
func configure[O any](cfg config, opts []O, apply func(O, *config) error) (config, error) {
	cfg.unhandled, cfg.took, cfg.lag = new(logattr.Names), new(histogram.ByName), new(histogram.Histogram)
	for _, opt := range opts {
		if any(opt) == nil {
			continue
		}
		if err := apply(opt, &cfg); err != nil {
			return config{}, err
		}
	}
	cfg.misfits = misfits.New(cfg.logger)
	return cfg, nil
}

// identifiable returns an error if the name under which leases or a spool are kept would not be the
// queue's own, because the options do not name the application or the portal.
func (c *config) identifiable() error {
	option := "WithLeaser"
	switch {
	case c.leaser != nil && c.spoolDir != "":
		return misconfigured("WithLeaser and WithSpool exclude each other; a queue that passes to another process would leave its spool behind")
	case c.spoolDir != "":
		option = "WithSpool"
	case c.leaser == nil:
		return nil
	}
	switch {
	case c.clientID == "" && c.fleet:
		return misconfigured("%s needs the application's client ID, so that two applications never share state; add WithClientID", option)
	case c.clientID == "":
		return misconfigured("%s needs the application's client ID, so that two applications never share state; "+
			"add WithClientID, or pass a caller that has a method ClientID() string", option)
	case c.memberID == "" && !c.fleet:
		return misconfigured("%s needs the portal's member ID, so that two portals never share state; "+
			"add WithMemberID, or pass a caller that has a method MemberID() string", option)
	default:
		return nil
	}
}

// connect makes the dispatcher. It runs so many handlers at a time as there are workers, of which
// slow portals may have slowShare.
func (c *config) connect(workers, slowShare int, memory int64) {
	c.budget = &budget{size: memory}
	c.dispatcher = dispatch.New(dispatch.Config{
		Workers:     workers,
		Limit:       c.workers,
		SlowShare:   slowShare,
		Overflow:    max(2*workers, minOverflow),
		Urgent:      1,
		Timeout:     c.handlerTimeout,
		Closed:      ErrStopped,
		MaxAttempts: c.maxAttempts,
		Backoff:     retryWait,
		Grace:       c.grace,
		Logger:      c.logger,
	})
}
