package offline

import (
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/typednil"
)

// QueueOption is an option of [NewQueue]: a [CommonOption] or a [PortalOption]. A nil option is
// skipped.
type QueueOption interface{ applyToQueue(c *config) error }

// ConsumerOption is an option of [NewConsumer]: a [CommonOption], a [PortalOption] or a
// [WorkOption]. A nil option is skipped.
type ConsumerOption interface{ applyToConsumer(c *config) error }

// FleetOption is an option of [NewFleet]: one that only fleets have, a [CommonOption] or a
// [WorkOption]. A nil option is skipped.
type FleetOption interface{ applyToFleet(c *config) error }

// CommonOption is an option of all three: [NewQueue], [NewConsumer] and [NewFleet].
type CommonOption interface {
	QueueOption
	ConsumerOption
	FleetOption
}

// PortalOption is an option of [NewQueue] and [NewConsumer], which work one portal.
type PortalOption interface {
	QueueOption
	ConsumerOption
}

// WorkOption is an option of [NewConsumer] and [NewFleet], which work queues.
type WorkOption interface {
	ConsumerOption
	FleetOption
}

// What implements these interfaces, one type each, so that no option has a method of an interface
// that is not its own.
type (
	commonOption func(*config) error
	portalOption func(*config) error
	workOption   func(*config) error
	fleetOption  func(*config) error
)

func (o commonOption) applyToQueue(c *config) error    { return o(c) }
func (o commonOption) applyToConsumer(c *config) error { return o(c) }
func (o commonOption) applyToFleet(c *config) error    { return o(c) }
func (o portalOption) applyToQueue(c *config) error    { return o(c) }
func (o portalOption) applyToConsumer(c *config) error { return o(c) }
func (o workOption) applyToConsumer(c *config) error   { return o(c) }
func (o workOption) applyToFleet(c *config) error      { return o(c) }
func (o fleetOption) applyToFleet(c *config) error     { return o(c) }

// WithConnector selects the queue of a connector (auth_connector). Connectors keep the integrations
// of one application apart. The portal's plan must have the feature rest_auth_connector. The
// default is the queue without a connector, which an empty name selects, too.
func WithConnector(name string) CommonOption {
	return commonOption(func(c *config) error {
		if strings.TrimSpace(name) != name {
			return misconfigured("WithConnector with spaces around the name; the portal compares every character")
		}
		c.connector = name
		return nil
	})
}

// WithClientID names the application whose queue it is. The default of a [Consumer] and a [Queue]
// is what the caller's method ClientID() string returns, which the clients of package rest have. A
// [Fleet] takes no default: it must know the application before it asks for a caller. A caller that
// belongs to another application is refused with [ErrIdentity].
//
// The ID is part of the names of leases and of spool folders, so that applications can share a
// [Leaser] and a folder. [WithLeaser] and [WithSpool] need it. It is also the application in the
// [event.Proof] of the deliveries that handlers get.
func WithClientID(id string) CommonOption {
	return commonOption(func(c *config) error {
		if id == "" {
			return misconfigured("WithClientID with an empty ID; it is the application's client_id")
		}
		c.clientID = id
		return nil
	})
}

// WithMemberID names the portal. Handlers read it from [event.Delivery.MemberID]; records do not
// carry it. The default is what the caller's method MemberID() string returns, which the clients of
// package rest have. A caller that belongs to another portal is refused with [ErrIdentity].
func WithMemberID(id string) PortalOption {
	return portalOption(func(c *config) error {
		if id == "" {
			return misconfigured("WithMemberID with an empty identifier")
		}
		c.memberID = id
		return nil
	})
}

// WithBatchSize bounds how many records a reservation asks for, [DefaultBatchSize] by default.
// Reservations begin with 50 and double while they come back full and workers are free again within
// 10 seconds. They are halved, down to 50, when that takes more than 20 seconds, and after a
// response that did not arrive. A crash costs only time, however large they are, because finished
// records are cleared every five seconds.
func WithBatchSize(n int) WorkOption {
	return workOption(func(c *config) error {
		if n < 1 {
			return misconfigured("WithBatchSize wants 1 or more")
		}
		c.batchSize = n
		return nil
	})
}

// WithWorkers sets how many objects of a portal are handled at the same time, [DefaultWorkers] by
// default. That is as many as a batch has calls, so that handlers which call the portal through
// rest.Coalescer fill its batches. A quarter of them, and one at least, may try parked records.
func WithWorkers(n int) WorkOption {
	return workOption(func(c *config) error {
		if n < 1 {
			return misconfigured("WithWorkers wants 1 or more")
		}
		c.workers = n
		return nil
	})
}

// MinInterval is the shortest wait that [WithInterval] accepts. A portal allows two requests a
// second.
const MinInterval = 100 * time.Millisecond

// WithInterval sets how long the consumer waits before it asks an empty queue again: shortest at
// first, twice as long each time, longest at most, and each time less a random part up to a half.
// shortest must be [MinInterval] or more. The defaults are [DefaultMinInterval] and
// [DefaultMaxInterval], for a [Fleet] [DefaultFleetMinInterval] and [DefaultFleetMaxInterval].
func WithInterval(shortest, longest time.Duration) WorkOption {
	return workOption(func(c *config) error {
		switch {
		case shortest < MinInterval:
			return misconfigured("WithInterval with a shortest wait of %v; it must be %v or more", shortest, MinInterval)
		case longest < shortest:
			return misconfigured("WithInterval wants the shorter duration first")
		}
		c.minInterval, c.maxInterval = shortest, longest
		return nil
	})
}

// WithHandlerTimeout sets after how long the context of one attempt of a handler ends,
// [DefaultHandlerTimeout] by default. A handler that goes on after that keeps its worker, so
// handlers must return when their context ends.
func WithHandlerTimeout(d time.Duration) WorkOption {
	return workOption(func(c *config) error {
		if d <= 0 {
			return misconfigured("WithHandlerTimeout wants a positive duration")
		}
		c.handlerTimeout = d
		return nil
	})
}

// WithGrace sets how long handlers may go on after the consumer was stopped. Then their contexts
// end with the cause [ErrStopped]. The default is [DefaultGrace]. With 0 they end at once.
func WithGrace(d time.Duration) WorkOption {
	return workOption(func(c *config) error {
		if d < 0 {
			return misconfigured("WithGrace wants a duration of 0 or more")
		}
		c.grace = d
		return nil
	})
}

// WithMaxAttempts sets how often a handler is tried with one record before the record is parked,
// [DefaultMaxAttempts] by default. Attempts that end with [event.Retry] count. Parked records get
// one attempt each [WithParkedInterval].
func WithMaxAttempts(n int) WorkOption {
	return workOption(func(c *config) error {
		if n < 1 {
			return misconfigured("WithMaxAttempts wants 1 or more")
		}
		c.maxAttempts = n
		return nil
	})
}

// WithParkedInterval sets how long after a pass over the parked records the next one begins,
// [DefaultParkedInterval] by default. They are also tried at each start, and by
// [Consumer.RetryParked]. If the queue is asked less often (see [WithInterval]), the next pass
// begins with the next request.
func WithParkedInterval(d time.Duration) WorkOption {
	return workOption(func(c *config) error {
		if d <= 0 {
			return misconfigured("WithParkedInterval wants a positive duration")
		}
		c.parkedInterval = d
		return nil
	})
}

// WithIgnoredUsers clears records without calling a handler if one of these users made their last
// change. It is a guard against loops, for an application whose own changes come back to it because
// it makes them with the token of a user of its own, for example a technical one. See "Loops" in
// the package documentation.
//
// A record that waits takes in later changes of its object and names only the last one's user. So
// if a person's change is followed at once by one of an ignored user, no handler is called for it.
// Ignore only users whose writes leave the object as your own system has it. Parked records are
// handled whichever user they name, because they may stand for changes of others.
func WithIgnoredUsers(ids ...int64) WorkOption {
	return workOption(func(c *config) error {
		ignored := maps.Clone(c.ignored)
		if ignored == nil {
			ignored = make(map[int64]bool, len(ids))
		}
		for _, id := range ids {
			if id < 1 {
				return misconfigured("WithIgnoredUsers wants the IDs of users; 0 means a change without a user, which cannot be ignored")
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
// consumer that is stopped waits ten seconds for one. If the disk fails between the request and the
// file, the records are handled from memory at once, an error that names the folder is logged, and
// no more records are taken until the disk can be written. Those that are not finished by the time
// the consumer stops are lost, and Run returns an [ErrSpool] that says how many. A file that is
// damaged is put aside, with the suffix ".damaged", and the records in it that can be read are
// used.
//
// Records are kept as they came, payload in clear, in files that only the owner can read. On
// Windows the system and the administrators can read them, too. If dir existed before, its
// permissions may let others read them.
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
func WithSpool(dir string) WorkOption {
	return workOption(func(c *config) error {
		if dir == "" {
			return misconfigured("WithSpool without a folder")
		}
		c.spoolDir = dir
		return nil
	})
}

// WithLeaser lets several processes share queues. A process works a queue only while it holds the
// lease of the queue, or of its shard. Without this option, each consumer and each fleet works its
// queues as if it were alone. For the queues of one portal use either consumers or a fleet, because
// they do not keep each other out.
//
// Leases are named after the application and the connector, so several applications may share a
// leaser. The option needs the application's client ID (see [WithClientID]) and excludes
// [WithSpool].
func WithLeaser(l Leaser) WorkOption {
	return workOption(func(c *config) error {
		if typednil.Is(l) {
			return misconfigured("WithLeaser with a nil leaser; leave the option out if one process works the queue")
		}
		c.leaser = l
		return nil
	})
}

// DefaultLeaseTTL is how long a lease lasts if it is not renewed. After that time at most, another
// process takes over from one that died.
const DefaultLeaseTTL = 15 * time.Second

// MinLeaseTTL is the shortest time that [WithLeaseTTL] accepts. A holder renews its leases five
// times in a lease's time to live.
const MinLeaseTTL = 3 * time.Second

// WithLeaseTTL sets how long leases last without being renewed, [DefaultLeaseTTL] by default and
// [MinLeaseTTL] or more. With a short time, another process takes over sooner from one that died.
// But one that hangs for longer, or cannot reach the store, loses its leases.
func WithLeaseTTL(d time.Duration) WorkOption {
	return workOption(func(c *config) error {
		if d < MinLeaseTTL {
			return misconfigured("WithLeaseTTL wants 3 seconds or more")
		}
		c.leaseTTL = d
		return nil
	})
}

// WithHooks sets functions that the consumer calls as it works.
func WithHooks(h Hooks) WorkOption {
	return workOption(func(c *config) error {
		c.hooks = h
		return nil
	})
}

// WithStallAlert sets after how long a [Stall] is reported. noResponse is for calls that fail, for
// event.offline.list alone, and for the disk; the default is [DefaultNoResponse]. noRecord is for a
// queue without records; by default it is never reported. 0 means never. A stall is logged as an
// error and reported to [Hooks], once, and so is its end. For noRecord choose a time in which
// people certainly change something, weekends included.
func WithStallAlert(noResponse, noRecord time.Duration) WorkOption {
	return workOption(func(c *config) error {
		if noResponse < 0 || noRecord < 0 {
			return misconfigured("WithStallAlert wants durations of 0 or more")
		}
		c.noResponse, c.noRecord = noResponse, noRecord
		return nil
	})
}

// WithLogger sets the logger for parked and lost records and stalls (ERROR), failing portals,
// dropped records and lost leases (WARN), and retries and recovered records (INFO). Without this
// option, WARN and above go to slog.Default as it is when the consumer is made.
// slog.New(slog.DiscardHandler) silences the consumer. The errors that handlers return are logged,
// with tokens removed; payloads are not.
func WithLogger(l *slog.Logger) WorkOption {
	return workOption(func(c *config) error {
		if l == nil {
			return misconfigured("WithLogger with a nil logger; slog.New(slog.DiscardHandler) is silent")
		}
		c.logger = l
		return nil
	})
}

// WithTurns bounds how many turns of a fleet are under way at the same time, and so how many
// requests it makes, [DefaultTurns] by default and four or more. A turn is a request or two and
// waits for no handler. A quarter of the turns is kept for portals that respond slowly, an eighth
// for those that fail. If portals respond within a third of a second, n turns ask about 3n queues a
// second.
func WithTurns(n int) FleetOption {
	return fleetOption(func(c *config) error {
		if n < minTurns {
			return misconfigured("WithTurns wants 4 or more, as some are kept for portals that are slow or fail")
		}
		c.turns = n
		return nil
	})
}

// WithHandlers bounds how many handlers of a fleet run at the same time, [DefaultHandlers] by
// default and four or more. Slow portals share half of them; see [Fleet]. Handlers that have run
// for five seconds come on top, up to twice this number, and 256 at least. [WithWorkers] bounds the
// handlers of one portal.
func WithHandlers(n int) FleetOption {
	return fleetOption(func(c *config) error {
		if n < minTurns {
			return misconfigured("WithHandlers wants 4 or more, as some are kept for portals that are slow or fail")
		}
		c.handlers = n
		return nil
	})
}

// WithOnRefused sets a function that a fleet calls when a portal begins to refuse for good: its
// token was revoked, its plan lacks a feature, or there is no caller for it. err is what
// [Consumer.Run] would return. The portal is tried again every half hour. Call [Fleet.Remove] to
// stop that, or [Fleet.Add] to try it sooner. A turn waits for the function, so it should return
// soon.
func WithOnRefused(f func(memberID string, err error)) FleetOption {
	return fleetOption(func(c *config) error {
		if f == nil {
			return misconfigured("WithOnRefused with a nil function; leave the option out to have refusals logged only")
		}
		c.onRefused = f
		return nil
	})
}
