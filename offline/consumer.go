package offline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
)

// Keys of log attributes.
const (
	keyEvent    = "event"
	keyRecord   = "record_id"
	keyMessage  = "message_id"
	keyProcess  = "process_id"
	keyRecords  = "records"
	keyAttempts = "attempts"
	keyError    = "error"
	keyWait     = "wait"
)

// Waits after an error of the portal.
const (
	minErrorWait = time.Second
	maxErrorWait = time.Minute
)

// Consumer works a queue: it reserves records, hands them to a handler, and removes from the queue what the handler finished. See the
// package documentation for what it guarantees. Make one with [NewConsumer] for each queue; two on one queue, in whatever
// process, handle records twice. Its methods are safe for concurrent use.
type Consumer struct {
	cfg    config
	queue  *Queue
	handle event.HandlerFunc
	meter  *meter
	log    *slog.Logger
	wake   chan struct{}

	running atomic.Bool
	// The rest belongs to whoever set running.
	sweep    bool // look for reservations that no one works on
	limit    int  // of the next reservation
	verdicts map[rowKey]verdict
}

// rowKey names a record in a reservation.
type rowKey struct {
	processID, messageID string
	id                   int64
}

func (r Record) key() rowKey { return rowKey{r.ProcessID, r.MessageID, r.ID} }

// NewConsumer returns a consumer of the queue that c's application has on c's portal. h is usually an [event.Mux], the same that serves online
// deliveries. It starts nothing: see [Consumer.Run] and [Consumer.Drain].
func NewConsumer(c event.Caller, h event.Handler, opts ...Option) (*Consumer, error) {
	switch {
	case isNil(c):
		return nil, errors.New("offline: NewConsumer with a nil caller")
	case isNil(h):
		return nil, errors.New("offline: NewConsumer with a nil handler")
	}
	cfg, err := collect(config{
		consumer:       true,
		batchSize:      DefaultBatchSize,
		workers:        DefaultWorkers,
		minInterval:    DefaultMinInterval,
		maxInterval:    DefaultMaxInterval,
		handlerTimeout: DefaultHandlerTimeout,
		grace:          DefaultGrace,
		maxAttempts:    DefaultMaxAttempts,
		leaseTTL:       DefaultLeaseTTL,
		logger:         slog.New(slog.DiscardHandler),
	}, opts)
	if err != nil {
		return nil, err
	}
	if m, ok := c.(interface{ MemberID() string }); ok && cfg.memberID == "" {
		cfg.memberID = m.MemberID()
	}
	m := &meter{call: c.Call}
	return &Consumer{
		cfg:      cfg,
		queue:    &Queue{call: m.Call, connector: cfg.connector},
		handle:   h.HandleEvent,
		meter:    m,
		log:      cfg.logger,
		wake:     make(chan struct{}, 1),
		limit:    cfg.batchSize,
		verdicts: make(map[rowKey]verdict),
	}, nil
}

// Run works the queue until ctx ends, and then returns nil. It first finishes what an earlier process left reserved. Errors that may
// pass, of the network or of the portal, are logged and waited out; one that waiting cannot mend ends Run: [ErrExtendedModeRequired],
// [ErrConnectorRefused], [ErrAccessDenied], [ErrWrongAuthType], [ErrBadAnswer], or the caller's error for any other that the portal
// means for good, such as a revoked token. Run may be called again after it returned.
//
// When ctx ends, Run reserves nothing more and starts no handler, lets the running ones finish within the grace period, removes from the
// queue what was finished, for which it takes ten seconds at most, and leaves the rest reserved for the next start.
//
// Run returns [ErrRunning] where the consumer is at work already.
func (c *Consumer) Run(ctx context.Context) error {
	err := c.work(ctx, false)
	if ctx.Err() != nil && !permanent(err) && !errors.Is(err, ErrRunning) {
		return nil
	}
	return err
}

// Drain works the queue as [Consumer.Run] does, until it is empty, and then returns nil. Records that were parked count as done. Where ctx
// ends before, Drain stops as Run does and returns an error that wraps ctx's cause.
func (c *Consumer) Drain(ctx context.Context) error {
	err := c.work(ctx, true)
	if cause := context.Cause(ctx); cause != nil && err != nil && !permanent(err) && !errors.Is(err, ErrRunning) {
		return fmt.Errorf("offline: stopped before the queue was empty: %w", cause)
	}
	return err
}

// Wake makes the consumer ask the queue now where it waits for its next turn. It never blocks; call it from a handler of
// [event.OnOfflineEvent], which the portal sends at most once a second and not for every record. A wait after an error of the portal
// is not cut short.
func (c *Consumer) Wake() {
	select {
	case c.wake <- struct{}{}:
	default: // a wake-up is pending
	}
}

// Stats returns what the consumer did so far.
func (c *Consumer) Stats() Stats { return c.meter.read() }

// work is the loop behind Run and Drain. It returns nil when a drained queue is empty, and else an error; that of ctx where ctx ended.
func (c *Consumer) work(ctx context.Context, drain bool) error {
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer c.running.Store(false)
	c.sweep = true
	idle := backoff{shortest: c.cfg.minInterval, longest: c.cfg.maxInterval}
	failing := backoff{shortest: minErrorWait, longest: maxErrorWait}
	for ctx.Err() == nil {
		asked := c.limit
		n, err := c.turn(ctx)
		switch {
		case permanent(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			wait := failing.next()
			c.log.LogAttrs(ctx, slog.LevelWarn, "offline queue: the portal failed, trying again",
				slog.String(keyError, err.Error()), slog.Duration(keyWait, wait))
			sleep(ctx, wait, nil)
			continue
		case n == 0 && drain:
			return nil
		case n < asked && !drain: // that was all there is
			if n > 0 {
				idle.reset()
			}
			sleep(ctx, idle.next(), c.wake)
		default:
			idle.reset()
		}
		failing.reset()
	}
	return ctx.Err()
}

// turn makes one reservation and works it off. It returns how many records the reservation held.
func (c *Consumer) turn(ctx context.Context) (int, error) {
	if c.sweep {
		if err := c.finishAbandoned(ctx); err != nil {
			return 0, err
		}
		c.sweep = false
	}
	b, err := c.queue.Reserve(ctx, c.limit)
	if err != nil {
		c.sweep = !surelyNotRun(err) // a reservation may have been made, and its answer lost
		c.shrink(err)
		return 0, err
	}
	c.meter.count(func(s *Stats) { s.Reserved += int64(len(b.Records)) })
	if _, err = c.workOff(ctx, b); err == nil && len(b.Records) >= c.limit {
		c.limit = min(2*c.limit, c.cfg.batchSize)
	}
	return len(b.Records), err
}

// shrink asks for less after an answer that did not come whole: it may have been too large, or taken the portal too long.
func (c *Consumer) shrink(err error) {
	if !surelyNotRun(err) {
		c.limit = max(c.limit/2, min(c.cfg.batchSize, DefaultBatchSize))
	}
}

// finishAbandoned finishes reservations that are in the queue while this consumer holds none: a process died with them, or their answer
// was lost on the way. One request tells where there are none, however long the queue is, because reserved records are sorted to the
// front.
func (c *Consumer) finishAbandoned(ctx context.Context) error {
	seen := make(map[string]bool)
	for start := 0; ; {
		page, err := c.queue.page(ctx, map[string]any{
			"filter": map[string]any{"=ERROR": 0},
			"order":  map[string]any{"PROCESS_ID": "DESC"},
			"start":  start,
		})
		if err != nil {
			return err
		}
		slices.SortStableFunc(page, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) }) // oldest reservation first
		found, last := false, len(page) < pageSize
		for _, r := range page {
			switch {
			case r.ProcessID == "":
				last = true
			case !seen[r.ProcessID]:
				seen[r.ProcessID], found = true, true
				if err := c.finish(ctx, r.ProcessID); err != nil {
					return err
				}
			}
		}
		switch {
		case found:
			start = 0 // what was finished is gone from the front
		case last:
			return nil
		default:
			start += pageSize // reservations that could not be finished fill the page
		}
	}
}

// finish works a reservation off that an earlier run left.
func (c *Consumer) finish(ctx context.Context, processID string) error {
	for {
		asked := c.limit
		b, err := c.queue.Resume(ctx, processID, asked)
		if err != nil {
			c.shrink(err)
			return err
		}
		if len(b.Records) > 0 {
			c.meter.count(func(s *Stats) { s.Recovered += int64(len(b.Records)) })
			c.log.LogAttrs(ctx, slog.LevelInfo, "offline queue: finishing a reservation that was left",
				slog.String(keyProcess, processID), slog.Int(keyRecords, len(b.Records)))
		}
		settled, err := c.workOff(ctx, b)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || settled == 0 || len(b.Records) < asked {
			return err
		}
	}
}
