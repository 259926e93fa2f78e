package polling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/lease"
	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/internal/typednil"
)

// Consumer polls the events of a bot or a user, and passes them to a handler. The package
// documentation states what it guarantees. Make one with [NewBot] or [NewUser]. Its methods are
// safe for concurrent use.
type Consumer struct {
	cfg     *config
	meter   *meter
	running atomic.Bool
	current atomic.Pointer[run] // nil while it does not run

	unhandled logattr.Names // events without a handler that the log has named
}

// NewBot returns a consumer of the events of a bot in fetch mode, which is the default of
// imbot.v2.Bot.register. botID is the ID that it returned. h is usually an [event.Mux], the same
// that serves online deliveries. s keeps the offset. NewBot starts nothing; see [Consumer.Run] and
// [Consumer.Drain]. An error matches [ErrConfig], and also [ErrIdentity] if c belongs to another
// application or portal than the options name.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/imbot.v2/events/event-get.html
func NewBot(c event.Caller, botID int64, h event.Handler, s Store, opts ...Option) (*Consumer, error) {
	if botID < 1 {
		return nil, misconfigured("NewBot wants the ID of a bot, which imbot.v2.Bot.register returns")
	}
	return newConsumer(c, Key{BotID: botID}, h, s, opts)
}

// NewUser returns a consumer of the messenger events of a user, without a bot. userID is the user
// whose token c has; [Consumer.Run] asks the portal whether that is so, and subscribes. The
// application needs the scope im. Otherwise it is like [NewBot].
//
// A portal keeps one log for each user, whatever application asks: two applications that poll the
// same user delete each other's events.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/im.v2/events/event-get.html
func NewUser(c event.Caller, userID int64, h event.Handler, s Store, opts ...Option) (*Consumer, error) {
	if userID < 1 {
		return nil, misconfigured("NewUser wants the ID of a user")
	}
	return newConsumer(c, Key{UserID: userID}, h, s, opts)
}

func newConsumer(c event.Caller, key Key, h event.Handler, s Store, opts []Option) (*Consumer, error) {
	switch {
	case typednil.Is(c):
		return nil, misconfigured("a nil caller")
	case typednil.Is(h):
		return nil, misconfigured("a nil handler")
	case typednil.Is(s):
		return nil, misconfigured("a nil store; use NewFileStore, or NewMemoryStore in tests")
	}
	cfg := defaults()
	cfg.key = key
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return nil, err
		}
	}
	if err := cfg.identify(c); err != nil {
		return nil, err
	}
	cfg.handle, cfg.store = h.HandleEvent, s
	cfg.connect()
	return &Consumer{cfg: &cfg, meter: &meter{caller: c}}, nil
}

// identify completes the key with the application and the portal that c calls for. Options may name
// them, too. They must not contradict c, because what they name becomes the proof of deliveries.
func (c *config) identify(caller event.Caller) error {
	var clientID, memberID string
	if app, ok := caller.(interface{ ClientID() string }); ok {
		clientID = app.ClientID()
	}
	if portal, ok := caller.(interface{ MemberID() string }); ok {
		memberID = portal.MemberID()
	}
	switch {
	case clientID != "" && c.key.ClientID != "" && clientID != c.key.ClientID:
		return fmt.Errorf("%w: %w: it calls for the application %q and not for %q", ErrConfig, ErrIdentity, clientID, c.key.ClientID)
	case memberID != "" && c.key.MemberID != "" && memberID != c.key.MemberID:
		return fmt.Errorf("%w: %w: it calls the portal %q and not %q", ErrConfig, ErrIdentity, memberID, c.key.MemberID)
	}
	c.key.ClientID, c.key.MemberID = cmp.Or(c.key.ClientID, clientID), cmp.Or(c.key.MemberID, memberID)
	if c.key.MemberID == "" {
		return misconfigured("the offset is kept under the portal's member ID; " +
			"add WithMemberID, or pass a caller that has a method MemberID() string")
	}
	return nil
}

// Key returns the key under which the consumer keeps its offset.
func (c *Consumer) Key() Key { return c.cfg.key }

// Run polls until ctx ends, and then returns nil. Errors that may pass, of the network, the portal
// or the store, are logged, and the call is made again after a second, later after up to a minute.
// A permanent error ends Run: [ErrBot], [ErrScope], [ErrIdentity], [ErrStore], or the caller's
// error for anything else that the portal refuses for good, for example a revoked token. Run may be
// called again after it returned. It returns [ErrRunning] if Run or Drain is under way.
//
// When ctx ends, Run asks for no more events and starts no more handlers. Handlers that run may
// finish within the grace period ([WithGrace]). Then their contexts end with the cause
// [ErrStopped]. Run waits until they have returned, keeps the offset, which takes ten seconds at
// most, and releases the lease. The contexts of handlers have the values of ctx, but do not end
// with it.
//
// With a [Leaser], Run polls while it holds the lease, and otherwise waits for it. When the lease
// is lost, the contexts of running handlers end at once with the cause [ErrLeaseLost], and the
// offset is not kept any more.
func (c *Consumer) Run(ctx context.Context) error {
	err := c.start(ctx, false)
	if ctx.Err() != nil && !permanent(err) && !errors.Is(err, ErrRunning) {
		return nil
	}
	return err
}

// Drain polls as [Consumer.Run] does, until the portal has no more events and all are handled and
// acknowledged, and then returns nil. If ctx ends first, Drain stops as Run does and returns an
// error that wraps the cause of ctx. If another owner has the lease, it returns [ErrLeaseHeld].
func (c *Consumer) Drain(ctx context.Context) error {
	err := c.start(ctx, true)
	if cause := context.Cause(ctx); cause != nil && err != nil && !permanent(err) && !errors.Is(err, ErrRunning) {
		return fmt.Errorf("polling: stopped before all events were handled: %w", cause)
	}
	return err
}

// Unsubscribe ends the subscription of the user: the portal logs no more events. Those that it has
// logged stay for a day. It does nothing if there is no subscription, and returns [ErrConfig] for a
// consumer without events of a user, and [ErrRunning] while Run or Drain is under way.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/im.v2/events/event-unsubscribe.html
func (c *Consumer) Unsubscribe(ctx context.Context) error {
	if c.cfg.key.UserID == 0 {
		return misconfigured("Unsubscribe without events of a user")
	}
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer c.running.Store(false)
	if err := (&run{c: c}).checkUser(ctx); err != nil {
		return err
	}
	return c.meter.call(ctx, methodUnsubscribe, nil, nil)
}

// Stats returns what the consumer has done since it was made.
func (c *Consumer) Stats() Stats {
	s := c.meter.read()
	if r := c.current.Load(); r != nil {
		s.InWork = r.window.inWork()
	}
	return s
}

// start does what Run and Drain have in common. It returns nil if nothing is left to drain, and
// otherwise an error: that of ctx if ctx has ended.
func (c *Consumer) start(ctx context.Context, drain bool) error {
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer c.running.Store(false)
	defer c.cfg.dispatcher.Dismiss()
	if c.cfg.leaser != nil {
		return c.workLeased(ctx, drain)
	}
	return c.work(ctx, drain, func() {})
}

// work polls from a start to a stop. It calls check before each turn.
func (c *Consumer) work(ctx context.Context, drain bool, check func()) error {
	r := newRun(ctx, c, drain)
	c.current.Store(r)
	defer c.current.Store(nil)
	err := r.work(ctx, check)
	r.stop(ctx)
	return err
}

// leaseNames returns the names of the leases that the consumer needs.
func (c *Consumer) leaseNames() []string {
	key, names := c.cfg.key, []string(nil)
	prefix := "polling/" + url.PathEscape(key.ClientID) + "/" + url.PathEscape(key.MemberID)
	if key.BotID != 0 {
		names = append(names, prefix+"/bot/"+strconv.FormatInt(key.BotID, 10))
	}
	if key.UserID != 0 {
		names = append(names, prefix+"/user/"+strconv.FormatInt(key.UserID, 10))
	}
	return names
}

// workLeased polls while it holds the leases, and otherwise waits for them.
func (c *Consumer) workLeased(ctx context.Context, drain bool) error {
	names := c.leaseNames()
	k := lease.Start(ctx, lease.Config{
		Leaser: c.cfg.leaser, TTL: c.cfg.leaseTTL, Prefix: names[0] + "/",
		Log: c.cfg.logger.With(attrsAsAny(c.identityAttrs())...),
	})
	defer k.Stop()
	waiting := false
	for {
		leases, err := k.Acquire(ctx, names...)
		switch {
		case len(leases) == len(names):
			waiting = false
			if err := c.workUnder(ctx, leases, drain); !errors.Is(err, ErrLeaseLost) {
				return err
			}
			c.log(ctx, slog.LevelWarn, "polling: the lease was lost; going on when it is back")
			leases = nil
		case ctx.Err() != nil || err != nil: // the keeper logs what failed
		case drain:
			return ErrLeaseHeld
		case !waiting:
			waiting = true
			c.log(ctx, slog.LevelInfo, "polling: another process polls; waiting for its lease")
		}
		if len(leases) > 0 {
			_ = k.Release(ctx, leases...) // half of them is of no use, and others may need it
		}
		if timing.Sleep(ctx, k.Step()) != nil {
			return ctx.Err()
		}
	}
}

// workUnder polls while the leases are valid. It returns ErrLeaseLost if one was lost. The keeper
// releases them when it stops.
func (c *Consumer) workUnder(ctx context.Context, leases []*lease.Lease, drain bool) error {
	working, end := context.WithCancelCause(ctx)
	defer end(nil)
	lose := func() {
		end(ErrLeaseLost)
		if r := c.current.Load(); r != nil { // even if a call hangs, or handlers finish within the grace period
			r.loseLease()
		}
	}
	var watching sync.WaitGroup
	stopped := make(chan struct{})
	for _, l := range leases {
		watching.Go(func() {
			select {
			case <-l.Lost():
				lose()
			case <-stopped:
			}
		})
	}
	err := c.work(working, drain, func() {
		for _, l := range leases {
			if !l.Valid() { // the machine slept
				lose()
			}
		}
	})
	close(stopped)
	watching.Wait()
	if errors.Is(context.Cause(working), ErrLeaseLost) && !permanent(err) && ctx.Err() == nil {
		return ErrLeaseLost
	}
	return err
}

func attrsAsAny(attrs []slog.Attr) []any {
	list := make([]any, len(attrs))
	for i, a := range attrs {
		list[i] = a
	}
	return list
}
