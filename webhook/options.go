package webhook

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/internal/seal"
	"github.com/b24events/b24events/internal/typednil"
)

// Defaults of the options.
const (
	DefaultMaxBodyBytes   = 1 << 20
	DefaultReadTimeout    = 10 * time.Second
	DefaultVerifyTimeout  = 15 * time.Second
	DefaultQueueSize      = 10_000
	DefaultEnqueueTimeout = time.Second
	DefaultWorkers        = 32
	DefaultMaxAttempts    = 5
	DefaultInFlightBytes  = 64 << 20
	DefaultHandlerTimeout = 5 * time.Minute
)

// minInFlight leaves room for a few small requests in each stage.
const minInFlight = 1 << 20

// Enqueuer is a queue of the program's own, for example a job table in its database. [WithQueue]
// hands verified deliveries to it. The queue then decides on their order, coalescing, fairness
// between portals, retries and shutdown: see [WithQueue].
type Enqueuer interface {
	// Enqueue stores d. If it returns nil, the portal gets a 200, so d must be safe. It returns an
	// error that matches [ErrQueueFull] if there is no room. ctx ends after the enqueue timeout.
	// Enqueue must not change d, and must be safe for concurrent use.
	Enqueue(ctx context.Context, d *event.Delivery) error
}

// Event names an event of the catalogue. Every [event.Descriptor] implements it, for example
// event.OnCrmDealUpdate.
type Event interface {
	Name() string
	Info() event.Info
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
	portalWorkers  int // 0 for the default
	maxAttempts    int
	handlerTimeout time.Duration
	coalesce       map[string]bool // wire names
	contexts       []func(context.Context, *http.Request) context.Context
	saved          []savedContext
	observers      []func(context.Context, RequestInfo)
	onDropped      func(*event.Delivery, error)
	sync           bool
	activities     bool // calls of automation rules are let in
	queue          Enqueuer
	dispatchOnly   []string // options given that need the dispatcher's order and retries

	store       Store
	keys        seal.Keyring
	leaser      Leaser
	leasePrefix string
	leaseTTL    time.Duration
	receiveOnly bool
	storeOnly   []string // options given that need a store
}

func newConfig(opts []Option) (config, error) {
	c := config{
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
		leaseTTL:       DefaultLeaseTTL,
		leasePrefix:    leasePrefix(""),
	}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&c); err != nil {
			return config{}, err
		}
	}
	if err := c.check(); err != nil {
		return config{}, err
	}
	if c.portalWorkers == 0 {
		c.portalWorkers = max(1, c.workers-max(1, c.workers/4))
	}
	if c.logger == nil {
		c.logger = defaultlog.New()
	}
	return c, nil
}

// check returns an error if options contradict each other.
func (c *config) check() error {
	switch {
	case c.inFlightBytes < c.maxBodyBytes:
		return misconfigured("%d bytes in flight are less than the limit on one body", c.inFlightBytes)
	case c.sync && c.queue != nil, c.sync && c.store != nil, c.queue != nil && c.store != nil:
		return misconfigured("WithSync, WithQueue and WithStore exclude each other")
	case (c.queue != nil || c.store != nil) && c.enqueueTimeout == 0:
		return misconfigured("an enqueue timeout of 0 leaves the queue or the store no time")
	case (c.sync || c.queue != nil) && len(c.dispatchOnly) > 0:
		return misconfigured("%s has no meaning with WithSync and WithQueue", c.dispatchOnly[0])
	case c.store == nil && len(c.storeOnly) > 0:
		return misconfigured("%s has no meaning without WithStore", c.storeOnly[0])
	case c.store != nil && len(c.contexts) > 0:
		return misconfigured("WithContext and WithStore exclude each other: a stored delivery outlives its request; see WithSavedContext")
	case c.portalWorkers > c.workers:
		return misconfigured("%d workers for one portal are more than the %d for all", c.portalWorkers, c.workers)
	case c.store == nil:
		return nil
	}
	return c.checkStore()
}

// checkStore returns an error if the store cannot be used.
func (c *config) checkStore() error {
	parts := c.store.Partitions()
	if l, ok := c.store.(Leaser); ok && c.leaser == nil {
		c.leaser = l
	}
	switch {
	case parts < 1 || parts > MaxPartitions:
		return misconfigured("a store of %d partitions; it may have 1 to %d", parts, MaxPartitions)
	case parts > 1 && c.leaser == nil:
		return misconfigured("a store of %d partitions needs WithLeaser, because it is not a Leaser itself", parts)
	}
	return nil
}

// WithLogger sets where the Handler reports refusals (WARN), lost events and panics (ERROR),
// retries (WARN), removals (INFO) and events without a handler (DEBUG). Without this option, WARN
// and above go to slog.Default as it is when [NewHandler] is called. slog.New(slog.DiscardHandler)
// silences the Handler.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return misconfigured("nil logger")
		}
		c.logger = l
		return nil
	}
}

// WithMaxBodyBytes limits the body of a request, in bytes. The response to a longer one is 413. The
// default is 1 MiB; usual events have about one KiB. The limit cannot be higher than
// [event.MaxBodyBytes].
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
// in bytes. Anybody can send such requests, so this limit keeps strangers from filling the memory.
// The default is 64 MiB. A request that finds no room waits up to the enqueue timeout. Then the
// response is 503, the request is counted as [ReasonBusy], and its event is lost.
//
// One half is for bodies, the other for parsed deliveries. A quarter of each is for requests of up
// to 64 KiB, so that large requests cannot keep small ones out. The first 4 KiB of a body are free
// until the body is complete, so a connection that sends nothing takes no room. Beyond that, a body
// is charged its declared length, or, if it declares none, as much as it grows to. While a body is
// parsed, the charge is the most memory that parsing may take. After that, until the response is
// sent, it is what the delivery holds: less than twice its body plus 512 bytes.
//
// The limit must be at least 1 MiB, and at least the limit on one body.
func WithMaxInFlightBytes(n int64) Option {
	return func(c *config) error {
		if n < minInFlight {
			return misconfigured("limit of %d bytes in flight is less than %d", n, minInFlight)
		}
		c.inFlightBytes = n
		return nil
	}
}

// WithReadTimeout limits how long a body may take to arrive. The response to a slower one is 408.
// The default is 10 seconds. It needs a ResponseWriter that can set deadlines, as those of net/http
// can. If a middleware hides this, set http.Server.ReadTimeout.
func WithReadTimeout(d time.Duration) Option {
	return positive("read timeout", d, func(c *config) { c.readTimeout = d })
}

// WithVerifyTimeout limits the context of the verifier, which may have to call the OAuth server
// about an installation. The default is 15 seconds.
func WithVerifyTimeout(d time.Duration) Option {
	return positive("verify timeout", d, func(c *config) { c.verifyTimeout = d })
}

// WithActivities lets in calls of automation rules and workflow activities, for the handlers of
// [event.OnActivity]. They are verified, answered, queued and retried like events. They have no
// order, and none is merged with another. Register the rules with the URL of the Handler. Without
// this option the response to them is 400.
//
// With [WithStore] and no encryption key, the token of the acting user is removed, as from events.
// The event token, which a result is returned with, is stored.
//
// Source: https://apidocs.bitrix24.com/api-reference/bizproc/bizproc-robot/index.html
func WithActivities() Option {
	return func(c *config) error {
		c.activities = true
		return nil
	}
}

// WithQueueSize limits the memory queue to n deliveries, those being handled included. A delivery
// takes one place for each 8 KiB of memory that it holds, rounded up. So n also bounds the memory:
// n × 8 KiB, 80 MB with the default of 10,000. Usual events of 1 KiB take one place.
//
// One portal can hold three quarters of the places, so that a storm of one portal leaves room for
// the others. If several portals fill the queue, each gets an equal part, and one part stays free:
// two portals get three sevenths each. A portal that holds nothing can have any free place.
//
// Application events have n/8 places of their own, at least one, so that a full queue does not lose
// an uninstallation.
func WithQueueSize(n int) Option {
	return atLeastOne("queue size", "WithQueueSize", n, func(c *config) { c.queueSize = int64(n) })
}

// WithEnqueueTimeout sets how long a request waits for room in a full queue. Then the response is
// 503 and the event is lost. The delivery has its place in the order of its object from the
// beginning, so waiting does not move it behind a later one. The timeout also limits the context of
// [Enqueuer.Enqueue]. The default is one second, because Bitrix24 calls slow handlers less often. 0
// means no waiting; only the memory queue accepts it.
func WithEnqueueTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return misconfigured("negative enqueue timeout")
		}
		c.enqueueTimeout = d
		return nil
	}
}

// WithWorkers sets how many deliveries are handled at a time. The default is 32, which suits
// handlers that wait for the network. [WithPortalWorkers] limits those of one portal.
//
// A handler that has run for five seconds no longer counts among the n, so that slow handlers do
// not stop the others. Up to n of them run in addition. (With one worker there is one handler at a
// time, however long it takes.) Application events have workers of their own: a quarter of n, at
// least one. Workers are goroutines that start when there is work, and end when there is none.
func WithWorkers(n int) Option {
	return atLeastOne("number of workers", "WithWorkers", n, func(c *config) { c.workers = n })
}

// WithPortalWorkers sets how many deliveries of one portal are handled at a time. The default is
// three quarters of the workers, at least one. A program for a single portal can set it to the
// number of workers. It cannot be higher than that.
func WithPortalWorkers(n int) Option {
	return atLeastOne("number of workers for one portal", "WithPortalWorkers", n, func(c *config) { c.portalWorkers = n })
}

// WithMaxAttempts sets how many times a delivery is tried before it counts as failed, the first
// time included. The default is 5, spread over about a minute and a half.
func WithMaxAttempts(n int) Option {
	return atLeastOne("number of attempts", "WithMaxAttempts", n, func(c *config) { c.maxAttempts = n })
}

// WithHandlerTimeout limits the context of a handler, for each attempt. Its cause is then
// [ErrTimeout]. The default is 5 minutes. A handler that ignores its context keeps its object, and
// one of its portal's workers, for as long as it runs.
func WithHandlerTimeout(d time.Duration) Option {
	return positive("handler timeout", d, func(c *config) { c.handlerTimeout = d })
}

// WithContext sets a function that makes the values of a handler's context out of the request that
// brought the delivery. Without it a handler's context has no values of the request, because a
// router reuses what it keeps there as soon as the request is over: another request's path
// parameters would be found in it.
//
//	webhook.WithContext(func(ctx context.Context, r *http.Request) context.Context {
//		return context.WithValue(ctx, tenantKey{}, r.PathValue("tenant"))
//	})
//
// f runs within the request, once for each delivery, after the delivery was verified. The ctx that
// it gets is empty and never ends. What f returns supplies values and nothing else: its end and its
// deadline are not looked at. Copy what you need; do not return r.Context() or keep r. The body of
// r is read already. If f returns nil there are no values. If it panics, the response is 503 and
// the delivery is lost.
//
// With several of these options, each function gets what the one before it returned. For a [Store]
// there is [WithSavedContext].
//
// The values are in the contexts of handlers, of [Enqueuer.Enqueue] with [WithQueue], and of log
// lines about the delivery.
func WithContext(f func(ctx context.Context, r *http.Request) context.Context) Option {
	return func(c *config) error {
		if f == nil {
			return misconfigured("nil function for contexts")
		}
		c.contexts = append(c.contexts, f)
		return nil
	}
}

// WithCoalescing names events of which only the newest matters for one object, because the payload
// is no more than the object's ID and the handler reads the present state anyway:
//
//	webhook.WithCoalescing(event.OnCrmDealUpdate, event.OnCrmContactUpdate)
//
// If a delivery of such an event arrives, and the last one that waits for the same object of the
// same portal is of the same event, the two become one. So a thousand changes of one deal cost a
// few calls of the handler. The delivery that was fired later, by its time (ts), stays. If the
// times are equal or unknown, the one that arrived later stays. Nothing moves past a delivery of
// another event, so an update never comes before a deletion that was there first. If the replaced
// delivery was waiting for its next attempt, the wait goes on and all attempts are ahead.
//
// The handler finds the number of deliveries that were merged into its own in
// event.AttemptOf(ctx).Merged.
//
// If each delivery of an event is a fact of its own, for example a message or anything about the
// application, the option fails with [ErrConfig]: see [event.Info.Coalescable]. So does an empty
// list. Several calls add up.
func WithCoalescing(events ...Event) Option {
	return func(c *config) error {
		if len(events) == 0 {
			return misconfigured("no events for coalescing")
		}
		for _, e := range events {
			if typednil.Is(e) {
				return misconfigured("a nil event for coalescing")
			}
			name, info := e.Name(), e.Info()
			_, known := event.Lookup(name)
			switch {
			case !known:
				return misconfigured("an event for coalescing is not in the catalogue")
			case strings.HasSuffix(name, "}"):
				return misconfigured("%s for coalescing: name the event with a number in place of the braces", info.Name)
			case !info.Coalescable:
				return misconfigured("%s for coalescing: each of its deliveries is a fact of its own", info.Name)
			}
			c.coalesce[name] = true
		}
		c.dispatchOnly = append(c.dispatchOnly, "WithCoalescing")
		return nil
	}
}

// WithOnDropped sets a function that gets every authentic delivery that is not processed, with the
// reason. The reason is an error that matches [ErrQueueFull], [ErrShutdown] or [ErrRemoved], the
// error of [Enqueuer.Enqueue], or the handler's last error. Use it to keep such deliveries for a
// replay. It does not get coalesced deliveries, or deliveries that could not be verified.
//
// f runs in the worker or in the request that lost the delivery, several at a time. It must not
// call Shutdown or Idle, and should be quick, because it holds up a worker. A panic in it is
// logged.
func WithOnDropped(f func(d *event.Delivery, err error)) Option {
	return func(c *config) error {
		if f == nil {
			return misconfigured("nil function for dropped deliveries")
		}
		c.onDropped = f
		return nil
	}
}

// WithSync runs the handler within the request. The response is 200 if it succeeds, and 500 if it
// fails. There is no queue, no retry and no order: deliveries about one object may run at the same
// time. Bitrix24 does not retry after a 500, and calls slow handlers less often. So this is for
// handlers that take microseconds, for example if they only write to a broker, and for tests.
func WithSync() Option {
	return func(c *config) error {
		c.sync = true
		return nil
	}
}

// WithQueue hands verified deliveries to a queue of the program's own instead of the memory queue.
// [event.Delivery.AppendStored] writes a whole delivery, and [event.ParseStored] reads it back. The
// workers of q then run the handlers. Give them the mux that NewHandler gets; the Handler itself
// does not call it any more.
//
// With this option, q is responsible for everything behind Enqueue: order per object, coalescing,
// fairness between portals, retries, dropping deliveries after a removal, and [Stats] of all that.
// Stop q after [Handler.Shutdown].
func WithQueue(q Enqueuer) Option {
	return func(c *config) error {
		if typednil.Is(q) {
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
		c.dispatchOnly = append(c.dispatchOnly, option)
		return nil
	}
}
