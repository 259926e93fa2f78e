package webhook

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// Defaults of the options.
const (
	DefaultMaxBodyBytes   = 1 << 20
	DefaultReadTimeout    = 10 * time.Second
	DefaultVerifyTimeout  = 15 * time.Second
	DefaultQueueSize      = 10_000
	DefaultEnqueueTimeout = time.Second
	DefaultWorkers        = 16
	DefaultMaxAttempts    = 5
	DefaultInFlightBytes  = 64 << 20
	DefaultHandlerTimeout = 5 * time.Minute
)

// minInFlight leaves room for a few small requests in each stage.
const minInFlight = 1 << 20

// Queue keeps verified deliveries until they were processed. The queue that a Handler has by itself lives in memory; a durable one survives the
// process.
type Queue interface {
	// Enqueue takes d over. When it returns nil the portal is told 200, so d must be safe by then. It returns an error that matches
	// [ErrQueueFull] when there is no room. ctx ends after the enqueue timeout. Enqueue must not change d, and must be safe for
	// concurrent use.
	Enqueue(ctx context.Context, d *event.Delivery) error
}

// Option configures a [Handler]. A nil Option is skipped.
type Option func(*config) error

type config struct {
	logger         *slog.Logger
	maxBodyBytes   int64
	readTimeout    time.Duration
	verifyTimeout  time.Duration
	inFlightBytes  int64
	queueSize      int64
	enqueueTimeout time.Duration
	workers        int
	maxAttempts    int
	handlerTimeout time.Duration
	coalesce       map[string]bool // names in upper case
	onDropped      func(*event.Delivery, error)
	sync           bool
	queue          Queue
	memoryOnly     []string // options given that only the memory queue has
}

func newConfig(opts []Option) (config, error) {
	c := config{
		logger:         slog.New(slog.DiscardHandler),
		maxBodyBytes:   DefaultMaxBodyBytes,
		readTimeout:    DefaultReadTimeout,
		verifyTimeout:  DefaultVerifyTimeout,
		inFlightBytes:  DefaultInFlightBytes,
		queueSize:      DefaultQueueSize,
		enqueueTimeout: DefaultEnqueueTimeout,
		workers:        DefaultWorkers,
		maxAttempts:    DefaultMaxAttempts,
		handlerTimeout: DefaultHandlerTimeout,
		coalesce:       make(map[string]bool),
	}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&c); err != nil {
			return config{}, err
		}
	}
	switch {
	case c.inFlightBytes < c.maxBodyBytes:
		return config{}, misconfigured("%d bytes in flight are less than the limit on one body", c.inFlightBytes)
	case c.sync && c.queue != nil:
		return config{}, misconfigured("WithSync and WithQueue exclude each other")
	case c.queue != nil && c.enqueueTimeout == 0:
		return config{}, misconfigured("an enqueue timeout of 0 leaves the queue of WithQueue no time")
	case (c.sync || c.queue != nil) && len(c.memoryOnly) > 0:
		return config{}, misconfigured("%s is for the memory queue, which WithSync and WithQueue replace", c.memoryOnly[0])
	}
	return c, nil
}

// WithLogger sets where the Handler reports refusals (WARN), lost events and panics (ERROR), retries (WARN) and events
// without a handler (DEBUG). By default it is silent.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return misconfigured("nil logger")
		}
		c.logger = l
		return nil
	}
}

// WithMaxBodyBytes limits the body of a request; a longer one is answered 413. The default is 1 MiB, while usual events have about
// one KiB. It cannot pass [event.MaxBodyBytes].
func WithMaxBodyBytes(n int64) Option {
	return func(c *config) error {
		if n <= 0 || n > event.MaxBodyBytes {
			return misconfigured("body limit of %d bytes is not in 1…%d", n, event.MaxBodyBytes)
		}
		c.maxBodyBytes = n
		return nil
	}
}

// WithMaxInFlightBytes limits the memory of all requests that are being read, parsed and verified,
// in bytes. Anybody can send such requests, so this is what keeps strangers from filling the
// memory. The default is 64 MiB. A request that finds no room waits up to the enqueue timeout; then
// it is answered 503, counted as [ReasonBusy], and its event is lost.
//
// One half is for bodies, the other for parsed deliveries. A quarter of each is for requests of up
// to 64 KiB, so that large requests cannot keep small ones out. The first 4 KiB of a body are free
// until the body is complete: a connection that sends nothing takes no room. Then a body is charged
// by its declared length, or, without one, as it grows. While it is parsed, it is charged by the
// most that this may take, and then by what the delivery holds until the response is sent: less
// than twice its body plus 512 bytes.
//
// The limit must be at least 1 MiB, and at least that on one body.
func WithMaxInFlightBytes(n int64) Option {
	return func(c *config) error {
		if n < minInFlight {
			return misconfigured("limit of %d bytes in flight is less than %d", n, minInFlight)
		}
		c.inFlightBytes = n
		return nil
	}
}

// WithReadTimeout limits how long a body may take to arrive; a slower one is answered 408. The default is 10 seconds. It needs a
// ResponseWriter that can set deadlines, as those of net/http can; behind a middleware that hides this, set http.Server.ReadTimeout.
func WithReadTimeout(d time.Duration) Option {
	return positive("read timeout", d, func(c *config) { c.readTimeout = d })
}

// WithVerifyTimeout limits the context of the verifier, which may have to ask the OAuth server about an installation. The default is
// 15 seconds.
func WithVerifyTimeout(d time.Duration) Option {
	return positive("verify timeout", d, func(c *config) { c.verifyTimeout = d })
}

// WithQueueSize limits the memory queue to n deliveries, those being handled included. A delivery
// takes one place for each 8 KiB of memory that it holds, begun ones included. So n also bounds the
// memory: n × 8 KiB, 80 MB with the default of 10,000. Usual events of 1 KiB take one place.
func WithQueueSize(n int) Option {
	return atLeastOne("queue size", "WithQueueSize", n, func(c *config) { c.queueSize = int64(n) })
}

// WithEnqueueTimeout sets how long a request waits for room in a full queue before it is answered 503 and its event is lost. It also limits the
// context of [Queue.Enqueue]. The default is one second: Bitrix24 calls slow handlers less often. 0 means no waiting, for the memory
// queue only.
func WithEnqueueTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return misconfigured("negative enqueue timeout")
		}
		c.enqueueTimeout = d
		return nil
	}
}

// WithWorkers sets how many deliveries are handled at a time. The default is 16, which suits handlers that wait for the network.
func WithWorkers(n int) Option {
	return atLeastOne("number of workers", "WithWorkers", n, func(c *config) { c.workers = n })
}

// WithMaxAttempts sets how many times a delivery is tried, the first included, before it counts as failed. The default is 5, spread over
// about a minute and a half.
func WithMaxAttempts(n int) Option {
	return atLeastOne("number of attempts", "WithMaxAttempts", n, func(c *config) { c.maxAttempts = n })
}

// WithHandlerTimeout limits the context of a handler, for each attempt; its cause is then [ErrTimeout]. The default is 5 minutes. A handler that
// ignores its context keeps its worker for as long as it runs.
func WithHandlerTimeout(d time.Duration) Option {
	return positive("handler timeout", d, func(c *config) { c.handlerTimeout = d })
}

// WithCoalescing names events of which only the newest matters for one object, such as
// ONCRMDEALUPDATE: payloads carry no more than the object's ID, and the handler reads the present
// state anyway. While a delivery of such an event waits, a newer one about the same object of the
// same portal takes its place in line. A thousand changes of one deal cost a few handler calls.
// Events that name no object are never coalesced. Names compare without regard to case. A name that
// the catalogue does not know is refused with [ErrConfig]. So is an event that is a fact of its
// own, such as a message or everything about the application: see [event.Delivery.CoalesceKey].
// Calls add up.
func WithCoalescing(names ...string) Option {
	return func(c *config) error {
		for _, name := range names {
			name = strings.ToUpper(strings.TrimSpace(name))
			info, ok := event.Lookup(name)
			if !ok {
				return misconfigured("an event for coalescing that the catalogue does not know")
			}
			if strings.HasSuffix(name, "}") {
				return misconfigured("%s for coalescing: deliveries have a number in place of the braces", info.Name)
			}
			if !info.Coalescable {
				return misconfigured("%s for coalescing: each of its deliveries is a fact of its own", info.Name)
			}
			c.coalesce[name] = true
		}
		c.memoryOnly = append(c.memoryOnly, "WithCoalescing")
		return nil
	}
}

// WithOnDropped sets a function that gets every delivery that was authentic and will not be processed, with the reason: an error that matches
// [ErrQueueFull] or [ErrShutdown], that of [Queue.Enqueue], or the handler's last one. It is the place to keep such deliveries for a replay.
// A coalesced delivery is not among them, and neither is one that could not be verified.
//
// f runs in the worker or in the request that lost the delivery, several at a time. It must not call Shutdown and should be quick. A
// panic in it is logged.
func WithOnDropped(f func(d *event.Delivery, err error)) Option {
	return func(c *config) error {
		if f == nil {
			return misconfigured("nil function for dropped deliveries")
		}
		c.onDropped = f
		return nil
	}
}

// WithSync runs the handler inside the request and answers 200 only when it succeeded, 500 when it did not. There is no queue, no
// retry and no order: deliveries about one object may run at the same time. Bitrix24 does not repeat what was answered 500, and calls slow
// handlers less often, so this is for handlers that take microseconds, such as one that writes to a broker, and for tests.
func WithSync() Option {
	return func(c *config) error {
		c.sync = true
		return nil
	}
}

// WithQueue hands verified deliveries to q instead of the memory queue. The workers of q run the handlers then, and
// decide on order, retries and shutdown: give them the mux that NewHandler gets, which the Handler itself no longer calls. Stop q
// after [Handler.Shutdown].
func WithQueue(q Queue) Option {
	return func(c *config) error {
		if isNil(q) {
			return misconfigured("nil queue")
		}
		c.queue = q
		return nil
	}
}

func positive(what string, d time.Duration, set func(*config)) Option {
	return func(c *config) error {
		if d <= 0 {
			return misconfigured("%s of %s is not positive", what, d)
		}
		set(c)
		return nil
	}
}

func atLeastOne(what, option string, n int, set func(*config)) Option {
	return func(c *config) error {
		if n < 1 {
			return misconfigured("%s of %d is less than 1", what, n)
		}
		set(c)
		c.memoryOnly = append(c.memoryOnly, option)
		return nil
	}
}
