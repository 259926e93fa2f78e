package offline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/lease"
	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/internal/typednil"
)

// Consumer works a queue: it reserves records, passes them to a handler, and removes from the queue
// what the handler finished. The package documentation states what it guarantees. Make one with
// [NewConsumer] for each queue. Two consumers of one queue, in one process or several, handle
// records twice unless they share a [Leaser]. Its methods are safe for concurrent use.
type Consumer struct {
	cfg     *config
	engine  *engine
	signal  chan struct{}                // ends a wait
	running atomic.Bool                  // the goroutine that sets it has the engine
	keeper  atomic.Pointer[lease.Keeper] // of the run under way; nil without a leaser
}

// NewConsumer returns a consumer of the queue that c's application has on c's portal. h is usually
// an [event.Mux], the same that serves online deliveries. It starts nothing; see [Consumer.Run] and
// [Consumer.Drain]. An error matches [ErrConfig], and also [ErrIdentity] if c belongs to another
// application or portal than the options name.
func NewConsumer(c event.Caller, h event.Handler, opts ...ConsumerOption) (*Consumer, error) {
	switch {
	case typednil.Is(c):
		return nil, misconfigured("NewConsumer with a nil caller")
	case typednil.Is(h):
		return nil, misconfigured("NewConsumer with a nil handler")
	}
	cfg, err := configure(consumerDefaults(), opts, ConsumerOption.applyToConsumer)
	if err != nil {
		return nil, err
	}
	cfg.handle = h.HandleEvent
	if cfg.clientID, cfg.memberID, err = identify(c, cfg.clientID, cfg.memberID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := cfg.identifiable(); err != nil {
		return nil, err
	}
	cfg.connect(cfg.workers, cfg.workers, consumerMemory)
	consumer := &Consumer{cfg: &cfg, signal: make(chan struct{}, 1)}
	consumer.engine = newEngine(&cfg, c.Call, cfg.clientID, cfg.memberID, consumer.signalTurn)
	return consumer, nil
}

// Run works the queue until ctx ends, and then returns nil. It first finishes what an earlier
// process left reserved. Errors that may pass, of the network or of the portal, are logged, and the
// call is made again later. A permanent error ends Run:
// [ErrExtendedModeRequired], [ErrConnectorRefused], [ErrAccessDenied], [ErrWrongAuthType],
// [ErrBadResponse], [ErrIdentity], [ErrSpool], [ErrSpoolOwner], [ErrSpoolInUse], or the caller's
// error for anything else that the portal refuses for good, for example a revoked token. Run may be
// called again after it returned.
//
// When ctx ends, Run reserves nothing more and starts no more handlers. Handlers that run may
// finish within the grace period ([WithGrace]). Then their contexts end with the cause
// [ErrStopped]. Run waits until they have returned. It clears what was finished, which takes ten
// seconds at most, and leaves the rest reserved for the next start.
//
// The contexts of handlers have the values of ctx, but do not end with it.
//
// With a [Leaser], Run works the queue while it holds the lease, and otherwise waits for it. When
// the lease is lost, the contexts of running handlers end at once with the cause [ErrLeaseLost],
// also during the grace period and when the leaser hangs. Finished records are cleared, and no
// record is parked.
//
// Run returns [ErrRunning] if Run or Drain is under way.
func (c *Consumer) Run(ctx context.Context) error {
	err := c.work(ctx, false)
	if ctx.Err() != nil && !permanent(err) && !errors.Is(err, ErrRunning) {
		return nil
	}
	return err
}

// Drain works the queue as [Consumer.Run] does, until it is empty, and then returns nil. Parked
// records are tried once, at the start, and count as done. If ctx ends first, Drain stops as Run
// does and returns an error that wraps the cause of ctx. If another owner has the lease, it returns
// [ErrLeaseHeld].
//
// Drain also waits for records that wait for their next attempt. While event.offline.list fails, it
// does not end, because it cannot know what an earlier process left.
func (c *Consumer) Drain(ctx context.Context) error {
	err := c.work(ctx, true)
	if cause := context.Cause(ctx); cause != nil && err != nil && !permanent(err) && !errors.Is(err, ErrRunning) {
		return fmt.Errorf("offline: stopped before the queue was empty: %w", cause)
	}
	return err
}

// WakeFor calls [Consumer.Wake] if d is proven to come from the consumer's application on its
// portal, and reports whether it did. Call it from a handler of [event.OnOfflineEvent]; see
// [Fleet.WakeFor].
func (c *Consumer) WakeFor(d *event.Delivery) bool {
	if !d.ProvenFor(c.cfg.clientID) || d.MemberID() != c.cfg.memberID {
		return false
	}
	c.Wake()
	return true
}

// Wake makes the consumer ask the queue now if it waits for its next turn. It never blocks. It does
// not shorten a wait after an error of the portal. If another process holds the lease of the
// queue, Wake wakes that one through the [Leaser], with the default of [WithLeaseTTL] within about
// four seconds. For an event of the portal use [Consumer.WakeFor].
func (c *Consumer) Wake() {
	c.wakeHere()
	if k := c.keeper.Load(); k != nil && !k.Holds(c.leaseName()) {
		k.Note("")
	}
}

func (c *Consumer) wakeHere() {
	c.engine.wake()
	c.signalTurn()
}

// RetryParked makes the consumer try the parked records now, each once, instead of at the next
// [WithParkedInterval]. It never blocks. A consumer that does not run tries them at its start
// anyway.
func (c *Consumer) RetryParked() { c.engine.retryParked() }

// signalTurn ends the wait for the next turn.
func (c *Consumer) signalTurn() {
	select {
	case c.signal <- struct{}{}:
	default: // a signal is pending
	}
}

// Stats returns what the consumer has done since it was made.
func (c *Consumer) Stats() Stats {
	s := c.engine.meter.read()
	s.Lag, s.Handlers = Latency{c.cfg.lag.Snapshot()}, latencies(c.cfg.took)
	return s
}

// work does what Run and Drain have in common. It returns nil if drain is true and the queue is
// empty, and otherwise an error: that of ctx if ctx has ended.
func (c *Consumer) work(ctx context.Context, drain bool) error {
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer c.running.Store(false)
	defer c.cfg.dispatcher.Dismiss()
	if c.cfg.leaser != nil {
		return c.workLeased(ctx, drain)
	}
	return c.workUntil(ctx, drain, func() {})
}

// workUntil works the queue from a start to a stop, until ctx ends or a drained queue is empty. It
// calls check before each turn.
func (c *Consumer) workUntil(ctx context.Context, drain bool, check func()) error {
	c.engine.start(ctx)
	err := c.takeTurns(ctx, drain, check)
	// Other errors do not matter: the next start, of any process, finishes what could not be sent.
	if lost := c.engine.stop(ctx, func(send func()) { send() }); errors.Is(lost, ErrSpool) {
		return lost
	}
	return err
}

func (c *Consumer) takeTurns(ctx context.Context, drain bool, check func()) error {
	for ctx.Err() == nil {
		check()
		wait, err := c.engine.turn(ctx)
		switch {
		case permanent(err):
			return err
		case ctx.Err() != nil:
		case err != nil:
			c.engine.log(ctx, slog.LevelWarn, "offline queue: the queue could not be worked, trying again",
				logattr.Error(nil, err), logattr.Wait(wait))
			_ = timing.Sleep(ctx, wait)
		case drain && c.engine.drained():
			return nil
		case wait > 0:
			c.wait(ctx, wait)
		}
	}
	return ctx.Err()
}

// wait waits for d, or until something wakes the consumer.
func (c *Consumer) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.signal:
	case <-timer.C:
	}
}

func (c *Consumer) leaseName() string {
	return identity{clientID: c.cfg.clientID, memberID: c.cfg.memberID, connector: c.cfg.connector}.leaseName()
}

// workLeased works the queue while it holds the lease, and otherwise waits for the lease.
func (c *Consumer) workLeased(ctx context.Context, drain bool) error {
	k := lease.Start(ctx, lease.Config{
		Leaser: c.cfg.leaser,
		TTL:    c.cfg.leaseTTL,
		Prefix: c.leaseName() + "/",
		Log:    c.engine.portalLogger(),
		Noted:  func(string) { c.wakeHere() },
		Wall:   c.cfg.wall,
	})
	defer k.Stop()
	c.keeper.Store(k)
	defer c.keeper.Store(nil)
	waiting := false
	for {
		leases, err := k.Acquire(ctx, c.leaseName())
		switch {
		case len(leases) > 0:
			waiting = false
			if err := c.workUnder(ctx, leases[0], drain); !errors.Is(err, ErrLeaseLost) {
				return err
			}
			c.engine.log(ctx, slog.LevelWarn, "offline queue: the lease was lost; going on when it is back")
		case ctx.Err() != nil || err != nil: // the keeper logs what failed
		case drain:
			return ErrLeaseHeld
		case !waiting:
			waiting = true
			c.engine.log(ctx, slog.LevelInfo, "offline queue: another process works the queue; waiting for its lease")
		}
		if timing.Sleep(ctx, k.Step()) != nil {
			return ctx.Err()
		}
	}
}

// workUnder works the queue while l is valid. It returns ErrLeaseLost if l was lost. The keeper
// releases l when it stops.
func (c *Consumer) workUnder(ctx context.Context, l *lease.Lease, drain bool) error {
	working, end := context.WithCancelCause(ctx)
	defer end(nil)
	lose := func() {
		end(ErrLeaseLost)
		c.engine.loseLease() // also while the consumer stops
	}
	stopped, watched := make(chan struct{}), make(chan struct{})
	defer func() {
		close(stopped)
		<-watched // it must not see the next lease
	}()
	go func() {
		defer close(watched)
		select {
		case <-l.Lost():
			lose()
		case <-stopped:
		}
	}()
	err := c.workUntil(working, drain, func() {
		if !l.Valid() { // the machine slept
			lose()
		}
	})
	if errors.Is(context.Cause(working), ErrLeaseLost) && !permanent(err) && ctx.Err() == nil {
		return ErrLeaseLost
	}
	return err // the keeper releases the lease
}
