package webhook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/errtree"
)

const (
	// firstWait is about how long a delivery waits for its second attempt; each further wait is four times as long, up to maxWait.
	firstWait = time.Second
	maxWait   = 5 * time.Minute
	// maxRetryAfter caps what a handler may ask for with event.Retry: the delivery holds a place in memory all the while.
	maxRetryAfter = time.Hour
)

// call runs the handler.
func (q *queue) call(it *item) error {
	ctx := q.context(it, q.cfg.handlerTimeout)
	defer ctx.end()
	return guard(func() error { return judged(q.handler.HandleEvent(ctx, it.d)) })
}

// judged returns the error of a handler, after it called the methods of the error that the verdict
// and the log depend on. Some panic, such as those of a nil *url.Error, and that must happen where
// panics are caught.
func judged(err error) error {
	if err != nil {
		_, _ = event.OutcomeOf(err)
		_ = isUnhandled(err)
		_ = err.Error()
	}
	return err
}

// serve runs the handler for an item and settles what comes of it. l is nil where there is no queue.
func (q *queue) serve(l *lane, it *item) (err error) {
	err = errGoexit
	defer func() { q.finish(l, it, err) }()
	err = q.call(it)
	return err
}

// verdict is what becomes of an item after an attempt.
type verdict int

const (
	processed verdict = iota
	unhandled         // no handler takes the event
	failed
	retry
	cutOff
)

// judge decides on the verdict, and on the wait before the next attempt. The caller holds the lock.
func (q *queue) judge(l *lane, it *item, err error) (verdict, time.Duration) {
	if err == nil {
		return processed, 0
	}
	if isUnhandled(err) {
		return unhandled, 0
	}
	outcome, after := event.OutcomeOf(err)
	switch {
	case q.cut:
		return cutOff, 0
	case l == nil, errors.Is(err, errGoexit), outcome == event.Dropped, it.tries >= q.cfg.maxAttempts:
		return failed, 0
	case outcome == event.Retried:
		return retry, min(after, maxRetryAfter)
	default:
		return retry, backoff(it.tries)
	}
}

// backoff is the wait after a number of attempts: 1, 4, 16 … seconds, less a random part of up to a half, lest what failed
// together comes back together.
func backoff(tries int) time.Duration {
	d := firstWait
	for range tries - 1 {
		if d *= 4; d >= maxWait {
			d = maxWait
			break
		}
	}
	return d - rand.N(d/2) //nolint:gosec // spreads load; nothing secret depends on it
}

// isUnhandled reports whether a handler's error says that none took the event.
func isUnhandled(err error) bool { return errtree.Every(err, errtree.Is(event.ErrUnhandled)) }

// finish takes an item off the running ones and does what the verdict asks for.
func (q *queue) finish(l *lane, it *item, err error) {
	q.mu.Lock()
	if !q.running.remove(it) { // Shutdown gave up on it, and reported it
		q.next(l)
		q.mu.Unlock()
		return
	}
	d, ctx, tries := it.d, it.values, it.tries
	v, wait := q.judge(l, it, err)
	switch v {
	case processed:
		q.count.processed.Add(1)
		q.done(l, it)
	case unhandled:
		q.count.unhandled.Add(1)
		q.done(l, it)
	case retry:
		q.count.retried.Add(1)
		q.rest(l, it, wait)
	case failed, cutOff:
		q.reporting++
		if v == cutOff {
			q.left++
		}
	}
	q.mu.Unlock()

	switch v {
	case processed:
		return
	case unhandled:
		q.log.unhandled(ctx, d)
		return
	case retry:
		q.log.retry(ctx, d, err, tries, wait)
		return
	case failed:
		q.count.failed.Add(1)
		q.log.failed(ctx, d, err, tries)
		q.report(ctx, d, err)
	case cutOff:
		q.drop(ctx, d, fmt.Errorf("%w: %w", ErrShutdown, err))
	}
	q.mu.Lock()
	q.reporting--
	q.done(l, it)
	q.mu.Unlock()
}

// done frees the place of an item that is over and goes on with its lane.
func (q *queue) done(l *lane, it *item) {
	if l != nil {
		q.room.Release(it.units)
	}
	q.next(l)
	q.settle()
}

// drop counts, logs and reports a delivery that is lost without having been processed.
func (q *queue) drop(ctx context.Context, d *event.Delivery, err error) {
	q.count.dropped.Add(1)
	q.log.lost(ctx, d, err)
	q.report(ctx, d, err)
}

// report hands a delivery to the function of WithOnDropped.
func (q *queue) report(ctx context.Context, d *event.Delivery, err error) {
	if q.cfg.onDropped == nil {
		return
	}
	if perr := guard(func() error { q.cfg.onDropped(d, err); return nil }); perr != nil {
		q.log.panicked(ctx, "webhook: panic in the function for dropped deliveries", perr)
	}
}
