package offline

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/timing"
)

// Waits between attempts, if the handler does not ask for one.
const (
	minRetryWait = time.Second
	maxRetryWait = 30 * time.Second
)

// task is a record on its way to its handler and back.
type task struct {
	Record

	pass    *parkedPass // nil for a record that is not parked
	older   []Record    // parked rows of the same change, which this one stands for
	rowGone bool        // the row is gone from the queue: there is nothing to clear or to park

	// values are those of the request that brought the record. It is nil without WithContext.
	values context.Context //nolint:containedctx // it travels with the record
}

// item returns the task as an item of the dispatcher.
func (t *task) item(values context.Context) *dispatch.Item {
	it := &dispatch.Item{
		Delivery: t.Delivery, Values: values, Lane: t.Delivery.Lane(), Parked: t.Parked || t.wasParked, Arrived: time.Now(), Front: t,
	}
	if t.Parked {
		it.MaxAttempts = 1 // for each pass
	}
	return it
}

// tasksOf makes tasks of records. It finishes those that need no handler: unreadable ones and those
// of ignored users.
func (e *engine) tasksOf(ctx context.Context, records []Record) []*task {
	tasks := make([]*task, 0, len(records))
	for _, r := range records {
		e.ledger.add(r)
		t := &task{Record: r}
		if len(e.cfg.contexts) > 0 {
			t.values = context.WithoutCancel(ctx) //nolint:fatcontext // each record has the same
		}
		switch {
		case r.Err != nil:
			e.reportParking(ctx, r, 0, r.Err)
			e.park(t) //nolint:contextcheck // it logs, of a record and not of the turn
		case !r.wasParked && !r.Parked && e.cfg.ignored[r.Delivery.Auth.UserID]:
			e.meter.count(func(s *Stats) { s.Ignored++ })
			e.ack(t) //nolint:contextcheck // it logs, of a record and not of the turn
		default:
			r.Delivery.SetProof(e.proof())
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// Handle implements dispatch.Front: it makes one attempt.
func (e *engine) Handle(ctx context.Context, it *dispatch.Item) error {
	t, _ := it.Front.(*task)
	if it.Attempts > 1 {
		e.meter.count(func(s *Stats) { s.Retried++ })
	}
	err := e.runHandler(ctx, t.Delivery)
	switch {
	case dispatch.IsGone(err):
		e.log(ctx, slog.LevelInfo, "offline queue: the object is gone, its record is cleared", recordAttrs(t.Record)...)
		return nil
	case dispatch.IsUnfetchable(err):
		e.log(ctx, slog.LevelWarn, "offline queue: no method reads the object, its record is cleared",
			append(recordAttrs(t.Record), logattr.Error(t.Delivery, err))...)
		return nil
	default:
		return err
	}
}

// runHandler calls the handler, and records how long it took.
func (e *engine) runHandler(ctx context.Context, d *event.Delivery) error {
	began := time.Now()
	defer func() { e.cfg.took.Record(event.MetricLabel(d.Name), time.Since(began)) }()
	return e.cfg.handle(ctx, d)
}

// Retrying implements dispatch.Front.
func (e *engine) Retrying(it *dispatch.Item, err error, wait time.Duration) {
	t, _ := it.Front.(*task)
	e.log(it.Values, slog.LevelInfo, "offline queue: the handler failed, trying again", append(recordAttrs(t.Record),
		slog.Int(keyAttempt, it.Attempts), logattr.Error(t.Delivery, err), logattr.Wait(wait))...)
}

// Finished implements dispatch.Front: it notes whether the record is to be cleared or parked.
func (e *engine) Finished(it *dispatch.Item, o dispatch.Outcome, err error) {
	t, _ := it.Front.(*task)
	ctx := it.Values
	done := false
	defer func() {
		if !done { // a hook panicked, or ended the goroutine
			e.abandon(t)
		}
		e.parkedEnded(t)
	}()
	switch o {
	case dispatch.OutcomeDone:
		e.reportHandled(ctx, t.Delivery)
		done = true
		e.ack(t)
	case dispatch.OutcomeUnhandled:
		e.reportUnhandled(ctx, t.Record, err)
		done = true
		e.park(t)
	case dispatch.OutcomeFailed:
		if dispatch.IsDropped(err) {
			e.reportDropped(ctx, t.Record, it.Attempts, err)
			done = true
			e.ack(t)
			return
		}
		if t.rowGone {
			e.reportLost(ctx, t.Record, it.Attempts, err)
		} else {
			e.reportParking(ctx, t.Record, it.Attempts, err)
		}
		done = true
		e.park(t)
	default: // the dispatcher gave it up, because the engine stops
		done = true
		e.abandon(t)
	}
}

// ack notes that a record and the older rows that it stands for are to be cleared.
func (e *engine) ack(t *task) {
	for _, r := range t.older {
		e.ackRow(r, true)
	}
	e.ackRow(t.Record, !t.rowGone)
}

// hasUsableID reports whether calls can name the record, by its ID or by its message ID.
func hasUsableID(r Record) bool { return r.ID > 0 || isMessageID(r.MessageID) }

// leaveUnnameable logs a record that no call can clear or park. It stays reserved.
func (e *engine) leaveUnnameable(r Record) {
	e.log(context.Background(), slog.LevelError,
		"offline queue: a record without a usable message ID cannot be cleared or parked, and stays reserved", recordAttrs(r)...)
	e.ledger.keepReserved(r)
}

// ackRow notes that a row is to be cleared. reserved is false if the row is gone from the queue.
func (e *engine) ackRow(r Record, reserved bool) {
	switch {
	case !r.offset.IsZero():
		e.spool.journal.Ack(r.offset)
		e.meter.count(func(s *Stats) { s.Cleared++ })
		e.ledger.release(r)
	case reserved && !hasUsableID(r):
		e.leaveUnnameable(r)
	default:
		e.ledger.ack(r, reserved)
	}
}

// park notes that a record is to be parked. One that is parked already stays so. Older rows that it
// stands for are cleared.
func (e *engine) park(t *task) {
	for _, r := range t.older {
		e.ackRow(r, true)
	}
	switch {
	case !t.offset.IsZero():
		e.spool.journal.Park(t.offset)
		if !t.Parked {
			e.meter.count(func(s *Stats) { s.Parked++ })
		}
	case t.Parked, t.rowGone:
	case isMessageID(t.MessageID):
		e.ledger.park(t.Record)
		return
	default: // the portal parks by message
		e.leaveUnnameable(t.Record)
		return
	}
	if t.pass != nil {
		t.pass.noteFailed(t.Record)
	}
	e.ledger.release(t.Record)
}

// abandon leaves a record as it is on the portal, for the next start.
func (e *engine) abandon(t *task) {
	for _, r := range append(t.older, t.Record) {
		if !r.offset.IsZero() {
			e.spool.journal.Nack(r.offset)
		}
		if r.Parked {
			e.ledger.release(r)
		} else {
			e.ledger.abandon(r)
		}
	}
}

func (e *engine) reportHandled(ctx context.Context, d *event.Delivery) {
	var lag time.Duration
	if !d.Time.IsZero() {
		lag = max(0, time.Since(d.Time))
	}
	e.meter.count(func(s *Stats) {
		s.Handled++
		s.LastLag = lag
	})
	if !d.Time.IsZero() {
		e.cfg.lag.Record(lag)
	}
	if hook := e.cfg.hooks.Handled; hook != nil {
		e.callHook(ctx, "Handled", func() { hook(ctx, d, lag) })
	}
}

// retryWait returns the wait after an attempt that failed.
func retryWait(attempts int) time.Duration {
	return timing.Backoff{First: minRetryWait, Longest: maxRetryWait, Factor: 2}.After(attempts)
}

// reportMisfits reports the values of a payload that do not fit.
func (e *engine) reportMisfits(ctx context.Context, d *event.Delivery) {
	list := d.Misfits()
	e.meter.count(func(s *Stats) { s.Misfits += counted(len(list)) })
	for _, m := range list {
		e.cfg.misfits.Report(ctx, d.Name, m.Path, m.Want)
	}
}

// reportUnhandled reports a record without a handler. It is parked, so that a version of the
// program that has a handler finds it. The log names each event once.
func (e *engine) reportUnhandled(ctx context.Context, r Record, err error) {
	if r.Parked || r.wasParked {
		return // it was reported before
	}
	e.meter.count(func(s *Stats) { s.Unhandled++ })
	if e.cfg.unhandled.First(r.Delivery.Name) {
		e.log(ctx, slog.LevelError, "offline queue: no handler takes this event, its records are parked until one does",
			recordAttrs(r)...)
	}
	e.callRecordHook(ctx, "Parked", e.cfg.hooks.Parked, r, err)
}

// reportDropped reports a record that its handler dropped.
func (e *engine) reportDropped(ctx context.Context, r Record, attempts int, err error) {
	e.meter.count(func(s *Stats) { s.Dropped++ })
	e.log(ctx, slog.LevelWarn, "offline queue: the handler dropped the record, it is cleared",
		append(recordAttrs(r), slog.Int(keyAttempt, attempts), logattr.Error(r.Delivery, err))...)
	e.callRecordHook(ctx, "Dropped", e.cfg.hooks.Dropped, r, err)
}

// reportParking reports why a record will be parked, or stays so.
func (e *engine) reportParking(ctx context.Context, r Record, attempts int, err error) {
	attrs := append(recordAttrs(r), slog.Int(keyAttempt, attempts), logattr.Error(r.Delivery, err))
	if r.Parked {
		e.log(ctx, slog.LevelWarn, "offline queue: failed again, the record stays parked", attrs...)
		return
	}
	e.log(ctx, slog.LevelError, "offline queue: out of attempts, the record will be parked", attrs...)
	e.callRecordHook(ctx, "Parked", e.cfg.hooks.Parked, r, err)
}

// reportLost reports a record that cannot be parked any more, because its row is gone from the
// queue.
func (e *engine) reportLost(ctx context.Context, r Record, attempts int, err error) {
	e.meter.count(func(s *Stats) { s.Dropped++ })
	e.log(ctx, slog.LevelError, "offline queue: out of attempts, and the row is gone from the queue; the change is lost",
		append(recordAttrs(r), slog.Int(keyAttempt, attempts), logattr.Error(r.Delivery, err))...)
	e.callRecordHook(ctx, "Dropped", e.cfg.hooks.Dropped, r, err)
}

// errRowGone is the reason why a record is handled once more.
var errRowGone = errors.New("offline: the record was gone when it was parked; its handler runs once more")
