package webhook

import (
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// storeGrace is the part of ShutdownGrace for storing the last marks and releasing the leases.
const storeGrace = ShutdownGrace / 4

// stopFeeds begins the shutdown. Nothing more is fed, and records that wait stay in the store. It
// does not wait for handlers, and returns when ctx ends.
func (w *durable) stopFeeds(ctx context.Context) {
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
			_, empties[part] = w.stopTenure(part, ErrShutdown) //nolint:contextcheck // handlers have contexts of their own
		}
		go func() { // there may be very many records in memory
			defer close(w.feedsStopped)
			for _, empty := range empties {
				empty()
			}
		}()
	}
	select {
	case <-w.feedsStopped:
	case <-ctx.Done():
	}
}

// close stores the last marks and releases the leases. It returns within storeGrace after the
// context of a call ended.
func (w *durable) close(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		timing.Await(w.stopped, storeGrace)
		w.endLife()
	})
	defer stop()
	w.mu.Lock()
	first := !w.handlersDone
	w.handlersDone = true
	w.mu.Unlock()
	if first {
		w.shutDown()
	}
	<-w.stopped
}

// shutDown does the work of close, once.
func (w *durable) shutDown() {
	defer close(w.stopped)
	defer w.endLife()
	w.awaitReports()
	if left := w.journal.close(w.life); left > 0 {
		w.log.store(w.life, slog.LevelWarn, "webhook: the outcome of deliveries could not be stored; they will be handled again", nil,
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
	case <-w.life.Done():
	}
}

// awaitReports waits until all removed entries are reported.
func (w *durable) awaitReports() {
	for {
		w.mu.Lock()
		none := len(w.unreported) == 0
		w.mu.Unlock()
		if none || timing.Await(w.life.Done(), 10*time.Millisecond) {
			return
		}
	}
}

// idle waits until nothing is pending in the store.
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
