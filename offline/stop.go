package offline

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/timing"
)

// stopWhenDone begins the stop when ctx ends. It returns a function that undoes this, or waits
// until the stop has begun.
func (e *engine) stopWhenDone(ctx context.Context) (undo func()) {
	begun := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(begun)
		e.beginStop(ctx)
	})
	return func() {
		if !cancel() {
			<-begun
		}
	}
}

// beginStop makes the engine start no more handlers. It ends the contexts of those that run when
// the grace period is over, or at once if the lease is lost. It may be called at any time; the
// first call counts.
func (e *engine) beginStop(stopped context.Context) {
	e.startNoMore() //nolint:contextcheck // handlers have contexts of their own
	e.work.mu.Lock()
	defer e.work.mu.Unlock()
	switch {
	case e.work.portal == nil:
	case errors.Is(context.Cause(stopped), ErrLeaseLost):
		e.work.portal.Cancel(ErrLeaseLost)
	case e.work.graceTimer == nil:
		work := e.work.portal
		e.work.graceTimer = time.AfterFunc(e.cfg.grace, func() { work.Cancel(ErrStopped) })
	}
}

// startNoMore makes the engine start no more handlers. Records that wait for one stay reserved.
func (e *engine) startNoMore() {
	if work := e.currentWork(); work != nil {
		work.Stop(ErrStopped)
	}
}

// abandonWork ends everything, because a panic or runtime.Goexit left the engine in the middle of
// something. Its records stay reserved, and another engine finds them.
func (e *engine) abandonWork(ctx context.Context) {
	e.startNoMore() //nolint:contextcheck // handlers have contexts of their own
	if work := e.currentWork(); work != nil {
		work.Cancel(errTurnDied)
		go func() {
			<-work.Done()
			work.Close()
			e.ledger.discard()
		}()
	} else {
		e.ledger.discard()
	}
	if e.spool != nil && e.spool.journal != nil {
		_, _ = e.spool.journal.Close(context.WithoutCancel(ctx)) // handlers that go on may use it still
	}
}

// loseLease ends the contexts of handlers, because another process may work the queue now. It may
// be called at any time; start undoes it.
func (e *engine) loseLease() {
	e.work.mu.Lock()
	defer e.work.mu.Unlock()
	e.work.leaseLost = true
	if e.work.portal != nil {
		e.work.portal.Cancel(ErrLeaseLost)
	}
}

// leaseLost reports whether another process may work the queue.
func (e *engine) leaseLost(ctx context.Context) bool {
	e.work.mu.Lock()
	defer e.work.mu.Unlock()
	return e.work.leaseLost || errors.Is(context.Cause(ctx), ErrLeaseLost)
}

// stop waits for the handlers that run and sends what was finished, which takes ten seconds at
// most. It forgets the rest, which stays reserved for the next start. It calls the portal within
// sending, which may wait. To take turns again, call start first.
func (e *engine) stop(ctx context.Context, sending func(func())) error {
	e.beginStop(ctx)
	e.parked.abandonUntried(&e.ledger)
	e.awaitHandlers(ctx, sending)
	var err error
	sending(func() { err = e.sendLast(ctx) })
	for _, t := range e.fresh {
		e.ledger.abandon(t.Record)
	}
	e.fresh = nil
	e.countAbandoned(ctx, e.ledger.takeAbandoned()+e.ledger.unsent())
	if lost := e.closeSpool(ctx); lost != nil {
		return lost
	}
	return err
}

// awaitHandlers waits until all handlers have returned, and sends acks meanwhile.
func (e *engine) awaitHandlers(stopped context.Context, sending func(func())) {
	work := e.currentWork()
	if work == nil {
		return
	}
	flush := time.NewTicker(flushInterval)
	defer flush.Stop()
	waiting, end := context.WithCancel(context.WithoutCancel(stopped))
	defer end()
	done := work.Done()
	go func() {
		select {
		case <-done:
			end() // a call that is under way does not delay the rest
		case <-waiting.Done():
		}
	}()
	for {
		select {
		case <-done:
			e.work.mu.Lock()
			e.work.portal = nil
			e.work.endGraceLocked()
			e.work.mu.Unlock()
			work.Close()
			return
		case <-flush.C:
			sending(func() { e.flushAcks(waiting) })
		}
	}
}

// flushAcks sends acks while the engine waits for handlers. What fails is sent later.
func (e *engine) flushAcks(waiting context.Context) {
	ctx, cancel := context.WithTimeout(waiting, flushInterval)
	defer cancel()
	err := e.flushSpool(ctx)
	if calls, _ := e.ackCalls(); len(calls) > 0 && err == nil {
		err = e.send(ctx, calls)
	}
	if err != nil && waiting.Err() == nil {
		e.log(ctx, slog.LevelWarn, "offline queue: cannot clear finished records yet", logattr.Error(nil, err))
	}
}

// sendLast sends what was finished, after the context of the run has ended. It gives up after
// lastSendTimeout. If the lease is lost, it parks nothing: another process may have the records
// now, and to park a record that is not reserved deletes newer changes.
func (e *engine) sendLast(stopped context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stopped), lastSendTimeout)
	defer cancel()
	wait := backoff{shortest: minErrorWait, longest: maxErrorWait}
	for {
		if e.leaseLost(stopped) {
			e.ledger.abandonParking()
		}
		e.listing.reset()
		calls, _ := e.ackCalls()
		var parkings []call
		calls = append(calls, e.parkingCalls(ctx, &parkings)...)
		if len(calls) == 0 {
			return nil
		}
		err := e.send(ctx, calls)
		if err == nil {
			err = e.send(ctx, parkings)
		}
		if err == nil {
			err = e.listing.err()
		}
		if err == nil {
			continue
		}
		if permanent(err) || timing.Sleep(ctx, wait.next()) != nil {
			return err
		}
	}
}

// countAbandoned counts and logs records that stay reserved.
func (e *engine) countAbandoned(ctx context.Context, n int) {
	if n == 0 {
		return
	}
	e.meter.count(func(s *Stats) { s.Abandoned += counted(n) })
	e.log(ctx, slog.LevelInfo, "offline queue: records are left for the next start", slog.Int(keyRecords, n))
}
