package webhook

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/errtree"
)

// Handle implements [dispatch.Front]: it makes one attempt at a record.
func (w *durable) Handle(ctx context.Context, it *dispatch.Item) error {
	e, _ := it.Front.(*entry)
	if e.suspect {
		select {
		case w.suspect <- struct{}{}:
			defer func() { <-w.suspect }()
		default:
			return dispatch.Postponed(suspectWait)
		}
	}
	if !w.present(ctx, e) || !w.begin(ctx, e) {
		return dispatch.Postponed(storeWait)
	}
	if l := e.tenure.lease; ctx.Err() != nil || l != nil && !l.Valid() { // also because all this took its time
		return dispatch.Postponed(storeWait) // it is cut before that
	}
	if it.Delivery == nil {
		w.log.store(slog.LevelInfo, "webhook: a record was settled by another process before it was handled", nil,
			slog.String(KeyRecordID, e.id), slog.Int(KeyPartition, e.tenure.part))
		return nil
	}
	if w.tx == nil {
		return w.handling.Handle(ctx, it)
	}
	return w.handleTx(ctx, e)
}

// handleTx makes an attempt within what the store offers for it.
func (w *durable) handleTx(ctx context.Context, e *entry) error {
	var finish func(error) error
	within, finish := w.tx.Attempt(ctx, e.tenure.part, e.id)
	err := error(dispatch.ErrGoexit)
	returned := false
	defer func() {
		if !returned { // the handler ended the goroutine
			_ = finish(err)
		}
	}()
	err = dispatch.Guard(func() error { return w.handling.Handle(within, &e.item) })
	returned = true
	if err = finish(err); errors.Is(err, ErrSettled) {
		w.log.about(&e.item, slog.LevelWarn, "webhook: another process settled the record; the transaction of the handler is undone", err)
		return nil
	}
	return err
}

// present loads the delivery of an entry if it was put aside. It reports false if the store failed.
// The entry has no delivery afterwards if the record is gone.
func (w *durable) present(ctx context.Context, e *entry) bool {
	if e.item.Delivery != nil {
		return true
	}
	rec, err := w.loader.load(ctx, e.tenure.part, e.id)
	if err != nil {
		w.log.store(slog.LevelWarn, "webhook: the store does not load a record, trying again", err,
			slog.String(KeyRecordID, e.id), slog.Int(KeyPartition, e.tenure.part))
		return false
	}
	if rec == nil {
		return true
	}
	d, err := w.envelope.open(rec.Data)
	if err != nil { // it could be read when it was fed
		w.log.store(slog.LevelError, "webhook: the store returned other data than before, trying again", err,
			slog.String(KeyRecordID, e.id), slog.Int(KeyPartition, e.tenure.part))
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e.item.Delivery = d
	w.holdLocked(e, true)
	return true
}

// begin makes the store know that an attempt at a recovered record begins: the record may be what
// ended the last process. It reports false if the store failed.
func (w *durable) begin(ctx context.Context, e *entry) bool {
	if !e.recovered || e.item.Delivery == nil {
		return true
	}
	if e.begun == nil {
		e.begun = make(chan struct{})
		w.journal.mark(marking{
			Mark: Mark{
				Part: e.tenure.part, ID: e.id, State: StatePending, Attempts: e.failed, Interrupted: e.interrupted + 1,
			},
			e: e, begun: e.begun,
		})
	}
	timer := time.NewTimer(commitTimeout)
	defer timer.Stop()
	select {
	case <-e.begun:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// Retrying implements [dispatch.Front].
func (w *durable) Retrying(it *dispatch.Item, err error, wait time.Duration) {
	e, _ := it.Front.(*entry)
	w.handling.Retrying(it, err, wait)
	text := errorText(it.Delivery, err)
	e.failed, e.interrupted, e.suspect, e.begun = it.Attempts, 0, false, nil
	w.journal.mark(marking{Mark: Mark{
		Part: e.tenure.part, ID: e.id, State: StatePending, Attempts: e.failed, Due: time.Now().Add(wait).UTC(), Err: limited(text),
	}, e: e})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used > w.cfg.queueSize/2 { // what rests makes room for what can run
		w.letGoLocked(e)
		it.Delivery = nil
	}
}

// Finished implements [dispatch.Front].
func (w *durable) Finished(it *dispatch.Item, o dispatch.Outcome, err error) {
	e, _ := it.Front.(*entry)
	if o == dispatch.OutcomeCut {
		w.cut(e)
		return
	}
	m := Mark{State: StateDone}
	if o == dispatch.OutcomeFailed && !isDropped(err) {
		m = Mark{State: StateParked, Attempts: it.Attempts, Err: limited(errorText(it.Delivery, err))}
		w.numbers.parked.Add(1)
	}
	done := false
	defer func() {
		if !done { // the function for dropped deliveries ended the goroutine
			w.finish(e, m)
		}
	}()
	if it.Delivery == nil && w.onDropped != nil && o == dispatch.OutcomeRemoved {
		ctx, cancel := context.WithTimeout(context.Background(), storeWait)
		w.present(ctx, e)
		cancel()
	}
	if it.Delivery != nil {
		w.handling.Finished(it, o, err)
	}
	done = true
	w.finish(e, m)
}

// cut forgets a record that stays in the store. If an attempt at it began, the store learns that it
// was not the record that ended the process.
func (w *durable) cut(e *entry) {
	began := e.begun != nil
	w.leave(e)
	w.mu.Lock()
	t := e.tenure
	leave := began && (t.lease == nil || t.lease.Valid())
	w.forgetLocked(e, false)
	w.room.Broadcast()
	w.mu.Unlock()
	if leave {
		w.journal.mark(marking{Mark: Mark{
			Part: t.part, ID: e.id, State: StatePending, Attempts: e.failed, Interrupted: e.interrupted,
		}, e: e})
	}
}

// isDropped reports whether the handler itself dropped the delivery, by event.Drop, in every branch
// of its error. Other errors that are final may be those of a program that a later version
// corrects, so their records are parked.
func isDropped(err error) bool {
	outcome, _ := event.OutcomeOf(err)
	return outcome == event.Dropped && errtree.Every(err, func(err error) bool {
		e, ok := err.(interface{ Dropped() bool })
		return ok && e.Dropped()
	})
}

// limited is an error text fit for a Mark.
func limited(text string) string { return text[:min(len(text), maxErrorText)] }
