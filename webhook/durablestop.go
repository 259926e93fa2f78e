package webhook

import (
	"context"
	"log/slog"
	"time"
)

// storeGrace is the part of ShutdownGrace in which the last marks are stored and the leases are
// given back.
const storeGrace = ShutdownGrace / 4

// quit begins the end: nothing more is fed, and what waits stays in the store. It does not wait.
func (w *durable) quit() {
	w.mu.Lock()
	again := w.closing
	w.closing = true
	w.mu.Unlock()
	if again {
		return
	}
	if w.shares != nil {
		w.shares.Quit()
	}
	for part := range w.partitions {
		w.endTenure(part, ErrShutdown)
	}
}

// close stores the last marks and gives the leases back. It returns at the latest storeGrace after
// ctx ended.
func (w *durable) close(ctx context.Context) {
	limit, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if !waitFor(limit.Done(), storeGrace) {
			cancel()
		}
	})
	defer stop()
	if left := w.journal.close(limit); left > 0 {
		w.log.store(slog.LevelWarn, "webhook: the outcome of deliveries could not be stored; they will be handled again", nil,
			slog.Int(KeyRecords, left))
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.feeds.Wait()
		if w.shares != nil {
			w.shares.Stop()
		}
	}()
	select {
	case <-ended:
	case <-limit.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.over: // by another call
	default:
		close(w.over)
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
		depth, err := w.store.Depth(ctx)
		switch {
		case err != nil:
			return err
		case depth.Pending == 0:
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
