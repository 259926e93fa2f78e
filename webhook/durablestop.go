package webhook

import (
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// storeGrace is the part of ShutdownGrace in which the last marks are stored and the leases are
// given back.
const storeGrace = ShutdownGrace / 4

// quit begins the end: nothing more is fed, and what waits stays in the store. It does not wait for
// handlers, and not longer than for the end of ctx.
func (w *durable) quit(ctx context.Context) {
	w.mu.Lock()
	first, shares := !w.closing, w.shares
	w.closing = true
	w.mu.Unlock()
	if first {
		if shares != nil {
			shares.Quit()
		}
		empties := make([]func(), len(w.partitions))
		for part := range w.partitions {
			_, empties[part] = w.beginEnd(part, ErrShutdown) //nolint:contextcheck // handlers have contexts of their own
		}
		go func() { // there may be very many records in memory
			defer close(w.quitted)
			for _, empty := range empties {
				empty()
			}
		}()
	}
	select {
	case <-w.quitted:
	case <-ctx.Done():
	}
}

// close stores the last marks and gives the leases back. It returns at the latest storeGrace after
// the context of a call ended.
func (w *durable) close(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		timing.Await(w.over, storeGrace)
		w.endLimit()
	})
	defer stop()
	w.mu.Lock()
	first := !w.ending
	w.ending = true
	w.mu.Unlock()
	if first {
		w.end()
	}
	<-w.over
}

func (w *durable) end() {
	defer close(w.over)
	defer w.endLimit()
	w.awaitReports()
	if left := w.journal.close(w.limit); left > 0 {
		w.log.store(w.limit, slog.LevelWarn, "webhook: the outcome of deliveries could not be stored; they will be handled again", nil,
			slog.Int(KeyRecords, left))
	}
	w.mu.Lock()
	shares := w.shares
	w.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.feeds.Wait()
		if shares != nil {
			shares.Stop()
		}
	}()
	select {
	case <-ended:
	case <-w.limit.Done():
	}
}

// awaitReports waits until what was removed is reported.
func (w *durable) awaitReports() {
	for {
		w.mu.Lock()
		none := len(w.unreported) == 0
		w.mu.Unlock()
		if none || timing.Await(w.limit.Done(), 10*time.Millisecond) {
			return
		}
	}
}

// idle waits until nothing is pending.
func (w *durable) idle(ctx context.Context) error {
	const minPause, maxPause = time.Millisecond, 100 * time.Millisecond
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		select {
		case <-w.journal.flushed():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := w.dispatcher.Idle(ctx); err != nil {
			return err
		}
		if depth, err := w.store.Depth(ctx); err == nil && depth.Pending == 0 {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
