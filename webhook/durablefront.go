package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/timing"
)

// errUnbegun finishes a transaction if its handler does not begin.
var errUnbegun = errors.New("webhook: the attempt did not begin")

// unreadableError is the error of a record that was readable when it was fed. Another attempt would
// not help.
type unreadableError struct{ error }

// Permanent reports true.
func (unreadableError) Permanent() bool { return true }

// Handle implements [dispatch.Front]. It makes one attempt at a record.
func (w *durable) Handle(ctx context.Context, it *dispatch.Item) error {
	e, _ := it.Front.(*entry)
	if e.suspect {
		release, ok := w.takeSuspectSlot()
		if !ok {
			return dispatch.PostponedError(suspectWait)
		}
		defer release()
	}
	d, saved, err := w.deliveryOf(ctx, e)
	switch {
	case errors.Is(err, errUnreadable):
		return unreadableError{err}
	case err != nil:
		return dispatch.PostponedError(storeWait) // the loader has logged it
	case d == nil:
		w.storeCount.gone.Add(1)
		w.log.store(ctx, slog.LevelInfo, "webhook: a record was settled by another process before it was handled", nil,
			slog.String(KeyRecordID, e.id), slog.Int(KeyPartition, e.tenure.part))
		return nil
	case !w.markBegun(ctx, e):
		return dispatch.PostponedError(storeWait)
	}
	ctx = w.restore(ctx, d, saved)
	if w.tx == nil {
		return w.attempt(ctx, ctx, e, d)
	}
	return w.attemptTx(ctx, e, d)
}

// takeSuspectSlot lets one suspect run at a time, so that a crash shows which one ended the
// process. The slot is free again after release, or after the time that a handler usually takes.
func (w *durable) takeSuspectSlot() (release func(), ok bool) {
	select {
	case w.suspectSlot <- struct{}{}:
	default:
		return nil, false
	}
	once := sync.OnceFunc(func() { <-w.suspectSlot })
	timer := time.AfterFunc(dispatch.SlowAfter, once)
	return func() {
		timer.Stop()
		once()
	}, true
}

// attempt runs the handler, unless it is too late to begin because everything before took long.
func (w *durable) attempt(ctx, within context.Context, e *entry, d *event.Delivery) error {
	if l := e.tenure.lease; ctx.Err() != nil || l != nil && !l.Valid() {
		return dispatch.PostponedError(storeWait) // the record is cut before that
	}
	if e.item.Attempts == 1 {
		w.count.lag.Record(e.item.Began.Sub(e.item.Arrived))
	}
	return w.count.run(within, w.handler, d)
}

// attemptTx makes an attempt within a transaction of the store.
func (w *durable) attemptTx(ctx context.Context, e *entry, d *event.Delivery) error {
	var within context.Context
	var finish func(error) error
	err := dispatch.Guard(func() error {
		within, finish = w.tx.Attempt(ctx, e.tenure.part, e.id) //nolint:fatcontext // it is made once
		return nil
	})
	if err != nil {
		w.log.store(ctx, slog.LevelError, "webhook: the store begins no transaction, trying again", plainError("transaction", err),
			slog.String(KeyRecordID, e.id))
		return dispatch.PostponedError(storeWait)
	}
	returned := false
	defer func() {
		if !returned { // the handler ended the goroutine
			_ = dispatch.Guard(func() error { return finish(dispatch.ErrGoexit) })
		}
	}()
	err = dispatch.Guard(func() error { return w.attempt(ctx, within, e, d) })
	returned = true
	var postponed dispatch.PostponedError
	if errors.As(err, &postponed) {
		_ = dispatch.Guard(func() error { return finish(errUnbegun) })
		return postponed
	}
	panicked := true
	var result error
	broken := dispatch.Guard(func() error { result = finish(err); panicked = false; return nil })
	switch {
	case panicked:
		return plainError("transaction", broken)
	case errors.Is(result, ErrSettled):
		w.storeCount.gone.Add(1)
		w.log.store(ctx, slog.LevelWarn, "webhook: another process settled the record; the transaction of the handler is undone", result,
			slog.String(KeyRecordID, e.id), slog.Int(KeyPartition, e.tenure.part))
		return nil
	}
	return result
}

// deliveryOf returns the delivery of an entry, with what was saved of its request, and loads it if
// it was put aside. It returns nil if the record is gone.
func (w *durable) deliveryOf(ctx context.Context, e *entry) (*event.Delivery, savedTexts, error) {
	w.mu.Lock()
	d, saved := e.item.Delivery, e.saved
	w.mu.Unlock()
	if d != nil {
		return d, saved, nil
	}
	rec, err := w.loader.load(ctx, e.tenure.part, e.id)
	if err != nil || rec == nil {
		return nil, nil, err
	}
	if d, saved, err = w.envelope.open(rec); err != nil {
		return nil, nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.portal == nil { // Shutdown has given it up
		return d, saved, nil
	}
	if other := newItem(&w.cfg, d, rec.Received); keyOf(d) != e.portal.key || other.Lane != e.item.Lane || other.Urgent != e.item.Urgent {
		return nil, nil, fmt.Errorf("%w: the store returned that of another object than before", errUnreadable)
	}
	e.item.Delivery, e.saved = d, saved
	w.chargeLocked(e, true)
	return d, saved, nil
}

// markBegun stores that an attempt at a recovered record begins, because the record may be what
// ended the last process. It reports false if the store failed.
func (w *durable) markBegun(ctx context.Context, e *entry) bool {
	if !e.recovered {
		return true
	}
	if e.begun == nil {
		e.begun = make(chan struct{})
		w.journal.mark(e, Mark{State: StatePending, Attempts: e.failed, Interrupted: e.interrupted + 1, Err: e.failure}, e.begun)
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
	e.failed, e.failure = it.Attempts, limitText(errorText(it.Delivery, err))
	e.interrupted, e.suspect, e.begun = 0, false, nil
	w.journal.mark(e, Mark{State: StatePending, Attempts: e.failed, Due: time.Now().Add(wait).UTC(), Err: e.failure}, nil)
	w.handlerFront.Retrying(it, err, wait)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used > w.cfg.queueSize/2 { // records that rest make room for those that can run
		w.releaseLocked(e)
		e.unload()
	}
}

// Finished implements [dispatch.Front].
func (w *durable) Finished(it *dispatch.Item, o dispatch.Outcome, err error) {
	e, _ := it.Front.(*entry)
	m := Mark{State: StateDone}
	switch {
	case o == dispatch.OutcomeCut:
		w.cut(e)
		return
	case o == dispatch.OutcomeRemoved && it.Delivery == nil && w.onDropped != nil:
		w.reportLater(e)
		return
	case o == dispatch.OutcomeFailed && !dispatch.IsDropped(err):
		m = Mark{State: StateParked, Attempts: it.Attempts, Err: limitText(errorText(it.Delivery, err))}
		w.storeCount.parked.Add(1)
	}
	defer w.finish(e, m) // also if the function for dropped deliveries ends the goroutine
	switch {
	case it.Delivery != nil:
		w.handlerFront.Finished(it, o, err)
	case o == dispatch.OutcomeFailed:
		w.log.store(w.life, slog.LevelError, "webhook: a stored delivery cannot be handled; it is parked", err,
			slog.String(KeyRecordID, e.id))
	}
}

// reportLater reports an entry that was removed, once its delivery is loaded.
func (w *durable) reportLater(e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unreported = append(w.unreported, e); len(w.unreported) == 1 {
		go w.reportRemoved()
	}
}

// reportRemoved reports the entries that were removed. It tries again to load what it could not
// load.
func (w *durable) reportRemoved() {
	for {
		w.mu.Lock()
		if len(w.unreported) == 0 {
			w.mu.Unlock()
			return
		}
		e := w.unreported[0]
		w.mu.Unlock()
		d, _, err := w.deliveryOf(w.life, e)
		switch {
		case err != nil && !errors.Is(err, errUnreadable):
			if timing.Await(w.stopped, storeWait) {
				return // the records stay in the store
			}
			continue
		case d != nil:
			_ = protect(func() error { w.report(&dispatch.Item{Delivery: d}, ErrRemoved); return nil })
		}
		w.finish(e, Mark{State: StateDone})
		w.mu.Lock()
		w.unreported = w.unreported[1:]
		w.mu.Unlock()
	}
}

// cut removes an entry from memory whose record stays in the store. If an attempt began, a mark
// says that the record did not end the process.
func (w *durable) cut(e *entry) {
	began := e.begun != nil
	t := e.tenure
	ours := t.lease == nil || t.lease.Valid()
	w.mu.Lock()
	after := w.detachLocked(e, true)
	p := &w.partitions[t.part]
	if resumed := p.entries[e.id] != e; began && !ours && !resumed && len(p.cutAttempts) < maxRemembered {
		p.cutAttempts[e.id] = e.interrupted
	}
	w.forgetLocked(e, false) // under the same lock, so that no feed passes it in between
	w.mu.Unlock()
	after()
	if began && ours {
		w.journal.mark(e, Mark{State: StatePending, Attempts: e.failed, Interrupted: e.interrupted, Err: e.failure}, nil)
	}
}

// limitText is an error text fit for a Mark.
func limitText(text string) string {
	if len(text) <= maxErrorText {
		return text
	}
	const dots = "…"
	return strings.ToValidUTF8(text[:maxErrorText-len(dots)], "") + dots
}
