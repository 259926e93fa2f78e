package offline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/b24events/b24events/event"
)

// Keys of log attributes.
const (
	keyEvent    = "event"
	keyRecord   = "record_id"
	keyMessage  = "message_id"
	keyRecords  = "records"
	keyAttempts = "attempts"
	keyError    = "error"
	keyWait     = "wait"
	keyFile     = "file"
	keyKind     = "kind"
	keySince    = "since"
)

// Consumer works a queue: it reserves records, hands them to a handler, and removes from the queue what the handler finished. See the
// package documentation for what it guarantees. Make one with [NewConsumer] for each queue; two on one queue, in whatever
// process, handle records twice unless they share a [Leaser]. Its methods are safe for concurrent use.
type Consumer struct {
	cfg     *config
	engine  *engine
	signal  chan struct{} // ends a wait
	running atomic.Bool   // whoever sets it has the engine
}

// NewConsumer returns a consumer of the queue that c's application has on c's portal. h is usually an [event.Mux], the same that serves online
// deliveries. It starts nothing: see [Consumer.Run] and [Consumer.Drain].
func NewConsumer(c event.Caller, h event.Handler, opts ...Option) (*Consumer, error) {
	switch {
	case isNil(c):
		return nil, errors.New("offline: NewConsumer with a nil caller")
	case isNil(h):
		return nil, errors.New("offline: NewConsumer with a nil handler")
	}
	cfg, err := collect(consumerDefaults(), opts)
	if err != nil {
		return nil, err
	}
	cfg.handle = h.HandleEvent
	if cfg.clientID, cfg.memberID, err = identify(c, cfg.clientID, cfg.memberID); err != nil {
		return nil, err
	}
	if err := cfg.identifiable(); err != nil {
		return nil, err
	}
	return &Consumer{
		cfg:    &cfg,
		engine: newEngine(&cfg, c.Call, cfg.clientID, cfg.memberID),
		signal: make(chan struct{}, 1),
	}, nil
}

// Run works the queue until ctx ends, and then returns nil. It first finishes what an earlier process left reserved. Errors that may
// pass, of the network or of the portal, are logged and waited out; one that waiting cannot mend ends Run: [ErrExtendedModeRequired],
// [ErrConnectorRefused], [ErrAccessDenied], [ErrWrongAuthType], [ErrBadAnswer], [ErrSpool], [ErrSpoolInUse], or the caller's error for any
// other that the portal means for good, such as a revoked token. Run may be called again after it returned.
//
// When ctx ends, Run reserves nothing more and starts no handler, lets the running ones finish within the grace period, removes from the
// queue what was finished, for which it takes ten seconds at most, and leaves the rest reserved for the next start.
//
// With a [Leaser], Run works the queue while it holds the lease, and otherwise waits for it. When the lease is lost, the contexts of running
// handlers end at once, with the cause [ErrLeaseLost]; what was finished is cleared, and nothing is parked.
//
// Run returns [ErrRunning] where the consumer is at work already.
func (c *Consumer) Run(ctx context.Context) error {
	err := c.work(ctx, false)
	if ctx.Err() != nil && !permanent(err) && !errors.Is(err, ErrRunning) {
		return nil
	}
	return err
}

// Drain works the queue as [Consumer.Run] does, until it is empty, and then returns nil. Parked records are tried once, at the start, and count as
// done. Where ctx ends before, Drain stops as Run does and returns an error that wraps ctx's cause. Where another owner has the lease, it
// returns [ErrLeaseHeld].
func (c *Consumer) Drain(ctx context.Context) error {
	err := c.work(ctx, true)
	if cause := context.Cause(ctx); cause != nil && err != nil && !permanent(err) && !errors.Is(err, ErrRunning) {
		return fmt.Errorf("offline: stopped before the queue was empty: %w", cause)
	}
	return err
}

// WakeFor calls [Consumer.Wake] when d is proven to come from the consumer's application on its
// portal, and reports whether it did. Call it from a handler of [event.OnOfflineEvent]; see
// [Fleet.WakeFor].
func (c *Consumer) WakeFor(d *event.Delivery) bool {
	if !d.ProvenFor(c.cfg.clientID) || d.MemberID() != c.cfg.memberID {
		return false
	}
	c.Wake()
	return true
}

// Wake makes the consumer ask the queue now when it waits for its next turn. It never blocks. A
// wait after an error of the portal is not cut short. For an event of the portal use
// [Consumer.WakeFor].
func (c *Consumer) Wake() {
	c.engine.wake()
	select {
	case c.signal <- struct{}{}:
	default: // a signal is pending
	}
}

// Stats returns what the consumer did so far.
func (c *Consumer) Stats() Stats { return c.engine.meter.read() }

// work is the loop behind Run and Drain. It returns nil when a drained queue is empty, and else an error; that of ctx where ctx ended.
func (c *Consumer) work(ctx context.Context, drain bool) error {
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer c.running.Store(false)
	if c.cfg.leaser != nil {
		return c.leased(ctx, drain)
	}
	return c.stint(ctx, drain, func() {})
}

// stint works the queue from a start to a stop. It calls check before each turn.
func (c *Consumer) stint(ctx context.Context, drain bool, check func()) error {
	c.engine.start()
	err := c.turns(ctx, drain, check)
	// What could not be settled is remembered, and made good by the next start of whichever process.
	if lost := c.engine.stop(ctx); errors.Is(lost, ErrSpool) {
		return lost
	}
	return err
}

func (c *Consumer) turns(ctx context.Context, drain bool, check func()) error {
	for ctx.Err() == nil {
		check()
		wait, err := c.engine.turn(ctx)
		switch {
		case permanent(err):
			return err
		case ctx.Err() != nil:
		case err != nil:
			c.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: the portal failed, trying again",
				errorAttr(nil, err), slog.Duration(keyWait, wait))
			sleep(ctx, wait, nil)
		case drain && c.engine.drained():
			return nil
		case wait > 0:
			sleep(ctx, wait, c.signal)
		}
	}
	return ctx.Err()
}
