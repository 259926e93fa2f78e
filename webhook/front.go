package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// reporter counts, logs and reports the outcomes of deliveries. All fronts share it.
type reporter struct {
	count     *counters
	log       eventLog
	onDropped func(*event.Delivery, error)
}

// handlerFront is the front for deliveries that go to the event handler: those of the memory queue
// and those of WithSync. Each delivery comes to Finished exactly once.
type handlerFront struct {
	reporter

	handler event.Handler
}

// Handle runs the event handler.
func (f *handlerFront) Handle(ctx context.Context, it *dispatch.Item) error {
	if it.Attempts == 1 {
		f.count.lag.Record(it.Began.Sub(it.Arrived))
	}
	return f.count.run(ctx, f.handler, it.Delivery)
}

// Retrying logs a failed attempt.
func (f *handlerFront) Retrying(it *dispatch.Item, err error, wait time.Duration) {
	f.log.retry(it, err, wait)
}

// Finished accounts for a delivery.
func (f *handlerFront) Finished(it *dispatch.Item, o dispatch.Outcome, err error) {
	switch o {
	case dispatch.OutcomeDone, dispatch.OutcomeMerged:
	case dispatch.OutcomeUnhandled:
		f.log.unhandled(it)
	case dispatch.OutcomeFailed:
		f.log.failed(it, err)
		f.report(it, err)
	case dispatch.OutcomeRemoved:
		if err != nil { // it ran; those that waited are logged together
			f.log.removed(it, err)
		}
		f.report(it, withCause(ErrRemoved, err))
	case dispatch.OutcomeCut:
		f.drop(it, withCause(ErrShutdown, err))
	}
}

// queueFront is the front for deliveries that go to the queue of WithQueue. What that queue does
// not store is lost.
type queueFront struct {
	reporter

	queue Enqueuer
}

// Handle gives a delivery to the queue of the program.
func (f *queueFront) Handle(ctx context.Context, it *dispatch.Item) error {
	if err := f.queue.Enqueue(ctx, it.Delivery); err != nil {
		return fmt.Errorf("webhook: enqueue: %w", err)
	}
	return nil
}

// Retrying is not called, because there is one attempt.
func (*queueFront) Retrying(*dispatch.Item, error, time.Duration) {}

// Finished accounts for a delivery.
func (f *queueFront) Finished(it *dispatch.Item, o dispatch.Outcome, err error) {
	switch o {
	case dispatch.OutcomeDone:
	case dispatch.OutcomeCut:
		f.drop(it, withCause(ErrShutdown, err))
	default:
		f.drop(it, err)
	}
}

// withCause returns an error that matches a sentinel, and err if there is one.
func withCause(sentinel, err error) error {
	switch {
	case err == nil:
		return sentinel
	case errors.Is(err, sentinel):
		return err
	default:
		return fmt.Errorf("%w: %w", sentinel, err)
	}
}

// misfits counts and logs the values of a payload that do not fit.
func (a *reporter) misfits(ctx context.Context, d *event.Delivery) {
	for _, m := range d.Misfits() {
		a.count.misfits.Report(ctx, plainName(d.Name), m.Path, m.Want)
	}
}

// drop counts, logs and reports a delivery that is lost before it was processed.
func (a *reporter) drop(it *dispatch.Item, err error) {
	a.count.lost.Add(1)
	a.log.lost(it, err)
	a.report(it, err)
}

// report hands a delivery to the function of WithOnDropped.
func (a *reporter) report(it *dispatch.Item, err error) {
	if a.onDropped == nil {
		return
	}
	if perr := dispatch.Guard(func() error { a.onDropped(it.Delivery, err); return nil }); perr != nil {
		a.log.panicked(it, "webhook: panic in the function for dropped deliveries", perr)
	}
}
