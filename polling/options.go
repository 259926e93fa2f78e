package polling

import (
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/misfits"
	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/internal/typednil"
)

// The defaults of a [Consumer].
const (
	DefaultBatchSize      = 100              // new events in a response, at most
	DefaultWorkers        = 16               // chats that are handled at the same time
	DefaultMinInterval    = 5 * time.Second  // first wait when there were no more events
	DefaultMaxInterval    = 30 * time.Second // longest wait while none come
	DefaultHandlerTimeout = time.Minute      // for one attempt of a handler
	DefaultGrace          = 10 * time.Second // for handlers that run when the consumer is stopped
	DefaultMaxAttempts    = 5                // before an event is given up
	DefaultLeaseTTL       = 15 * time.Second // of a lease that is not renewed
)

// MinInterval is the shortest wait that [WithInterval] accepts, and the wait between two requests
// while there are more events. The documentation of Bitrix24 asks for it.
const MinInterval = 2 * time.Second

// MinLeaseTTL is the shortest time that [WithLeaseTTL] accepts.
const MinLeaseTTL = 3 * time.Second

// Waits of the consumer.
const (
	minRetryWait = time.Second // between attempts of a handler
	maxRetryWait = 30 * time.Second
	minErrorWait = time.Second // after an error of the portal or of the store
	maxErrorWait = time.Minute
	keepInterval = time.Second      // between two writes of the offset while events are in work
	lastKeep     = 10 * time.Second // for the last write of the offset
	storeTimeout = 30 * time.Second // for one call of the store
	callTimeout  = 90 * time.Second // above the platform's own limit of a minute for one request
	checkEvery   = 15 * time.Minute // between two checks of the bot's mode and of the user's subscription
	warnFullFor  = 5 * time.Minute  // without a request, because too many events are in memory
)

// Leaser grants leases, so that one process at a time polls a bot or a user. It is the same
// interface as offline.Leaser, whose documentation says what an implementation must do.
// offline.MemoryLeaser is one for the goroutines of one process, and package offlinetest has tests
// for your own.
type Leaser interface {
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	Release(ctx context.Context, owner string, names ...string) error
	Held(ctx context.Context, prefix string) (map[string]string, error)
}

// Option is an option of [NewBot] and [NewUser]. A nil option is skipped.
type Option func(*config) error

// config is what the options say.
type config struct {
	handle     event.HandlerFunc
	dispatcher *dispatch.Dispatcher
	store      Store
	key        Key
	botToken   event.Secret

	batchSize      int
	workers        int
	minInterval    time.Duration
	maxInterval    time.Duration
	handlerTimeout time.Duration
	grace          time.Duration
	maxAttempts    int
	leaser         Leaser // nil if no lease is needed
	leaseTTL       time.Duration
	hooks          Hooks
	logger         *slog.Logger
	misfits        *misfits.Log
}

func defaults() config {
	return config{
		batchSize:      DefaultBatchSize,
		workers:        DefaultWorkers,
		minInterval:    DefaultMinInterval,
		maxInterval:    DefaultMaxInterval,
		handlerTimeout: DefaultHandlerTimeout,
		grace:          DefaultGrace,
		maxAttempts:    DefaultMaxAttempts,
		leaseTTL:       DefaultLeaseTTL,
		logger:         defaultlog.New(),
	}
}

// connect makes what the options configure.
func (c *config) connect() {
	c.misfits = misfits.New(c.logger)
	c.dispatcher = dispatch.New(dispatch.Config{
		Workers: c.workers, Limit: c.workers, SlowShare: c.workers, Urgent: 1,
		Timeout: c.handlerTimeout, Closed: ErrStopped, MaxAttempts: c.maxAttempts,
		Backoff: timing.Backoff{First: minRetryWait, Longest: maxRetryWait, Factor: 2}.After,
		Grace:   c.grace, Logger: c.logger,
	})
}

// WithUserEvents polls the ONIMV2* events of a user together with those of the bot
// (withUserEvents). user is the ID of the user whose token the caller has; [Consumer.Run] asks the
// portal whether that is so, and subscribes. The application needs the scope im besides imbot. One
// offset acknowledges both kinds. It is an option of [NewBot] only.
func WithUserEvents(user int64) Option {
	return func(c *config) error {
		switch {
		case user < 1:
			return misconfigured("WithUserEvents wants the ID of a user")
		case c.key.BotID == 0:
			return misconfigured("WithUserEvents is for NewBot; NewUser polls events of a user anyway")
		}
		c.key.UserID = user
		return nil
	}
}

// WithBotToken sets the botToken of the bot, which calls through an incoming webhook need. It is an
// option of [NewBot] only. The token never appears in errors and logs.
func WithBotToken(token event.Secret) Option {
	return func(c *config) error {
		switch {
		case token == "":
			return misconfigured("WithBotToken with an empty token")
		case c.key.BotID == 0:
			return misconfigured("WithBotToken is for NewBot")
		}
		c.botToken = token
		return nil
	}
}

// WithClientID names the application. The default is what the caller's method ClientID() string
// returns, which the clients of package rest have. It is empty for an incoming webhook. The ID is
// part of the [Key], of the names of leases, and of the [event.Proof] of deliveries.
func WithClientID(id string) Option {
	return func(c *config) error {
		if id == "" {
			return misconfigured("WithClientID with an empty ID; it is the application's client_id")
		}
		c.key.ClientID = id
		return nil
	}
}

// WithMemberID names the portal. The default is what the caller's method MemberID() string returns,
// which the clients of package rest have. A consumer needs it.
func WithMemberID(id string) Option {
	return func(c *config) error {
		if id == "" {
			return misconfigured("WithMemberID with an empty identifier")
		}
		c.key.MemberID = id
		return nil
	}
}

// WithBatchSize bounds how many new events a response brings, [DefaultBatchSize] by default and
// 1000 at most. While an event is retried, later ones are asked for and handled. There are 1000 in
// memory at most, counted from the first that is not finished.
func WithBatchSize(n int) Option {
	return func(c *config) error {
		if n < 1 || n > maxLimit {
			return misconfigured("WithBatchSize wants 1 to %d", maxLimit)
		}
		c.batchSize = n
		return nil
	}
}

// WithWorkers sets how many chats are handled at the same time, [DefaultWorkers] by default. The
// events of one chat are handled one after the other.
func WithWorkers(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return misconfigured("WithWorkers wants 1 or more")
		}
		c.workers = n
		return nil
	}
}

// WithInterval sets how long the consumer waits when the last response had no more events: shortest
// at first, and longer each time while none come, up to longest. shortest must be [MinInterval] or
// more. The defaults are [DefaultMinInterval] and [DefaultMaxInterval].
func WithInterval(shortest, longest time.Duration) Option {
	return func(c *config) error {
		switch {
		case shortest < MinInterval:
			return misconfigured("WithInterval with a shortest wait of %v; it must be %v or more", shortest, MinInterval)
		case longest < shortest:
			return misconfigured("WithInterval wants the shorter duration first")
		}
		c.minInterval, c.maxInterval = shortest, longest
		return nil
	}
}

// WithHandlerTimeout sets after how long the context of one attempt of a handler ends,
// [DefaultHandlerTimeout] by default. A handler that goes on after that keeps its worker, so
// handlers must return when their context ends.
func WithHandlerTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return misconfigured("WithHandlerTimeout wants a positive duration")
		}
		c.handlerTimeout = d
		return nil
	}
}

// WithGrace sets how long handlers may go on after the consumer was stopped, [DefaultGrace] by
// default. Then their contexts end with the cause [ErrStopped]. With 0 they end at once.
func WithGrace(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return misconfigured("WithGrace wants a duration of 0 or more")
		}
		c.grace = d
		return nil
	}
}

// WithMaxAttempts sets how often a handler is tried with one event before the event is given up,
// [DefaultMaxAttempts] by default. Attempts that end with [event.Retry] count.
func WithMaxAttempts(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return misconfigured("WithMaxAttempts wants 1 or more")
		}
		c.maxAttempts = n
		return nil
	}
}

// WithLeaser lets several processes run a consumer of the same bot or user: the one that holds the
// lease polls, and the others wait. Without this option, a consumer polls as if it were alone. Two
// that poll the same bot handle events twice, and none is lost. A lease is named after the
// application, the portal, and the bot or the user. [WithUserEvents] needs both.
func WithLeaser(l Leaser) Option {
	return func(c *config) error {
		if typednil.Is(l) {
			return misconfigured("WithLeaser with a nil leaser; leave the option out if one process polls")
		}
		c.leaser = l
		return nil
	}
}

// WithLeaseTTL sets how long leases last without being renewed, [DefaultLeaseTTL] by default and
// [MinLeaseTTL] or more. After that time at most, another process takes over from one that died.
func WithLeaseTTL(d time.Duration) Option {
	return func(c *config) error {
		if d < MinLeaseTTL {
			return misconfigured("WithLeaseTTL wants %v or more", MinLeaseTTL)
		}
		c.leaseTTL = d
		return nil
	}
}

// WithHooks sets functions that the consumer calls as it works.
func WithHooks(h Hooks) Option {
	return func(c *config) error {
		c.hooks = h
		return nil
	}
}

// WithLogger sets the logger for events that were given up (ERROR), failing calls, dropped events
// and lost leases (WARN), and retries (INFO). Without this option, WARN and above go to
// slog.Default as it is when the consumer is made. slog.New(slog.DiscardHandler) silences the
// consumer. The errors that handlers return are logged, with tokens removed; payloads are not.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return misconfigured("WithLogger with a nil logger; slog.New(slog.DiscardHandler) is silent")
		}
		c.logger = l
		return nil
	}
}
