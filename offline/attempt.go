package offline

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/errtree"
	"github.com/b24events/b24events/internal/redact"
)

// Waits between attempts of a handler that asks for none.
const (
	minRetryWait = time.Second
	maxRetryWait = 30 * time.Second
)

// attempt tries a record once, and says what becomes of it, and when it is due again.
func (e *engine) attempt(ctx context.Context, t *task) (verdict, time.Time) {
	defer e.leave()
	if t.attempts > 0 {
		e.meter.count(func(s *Stats) { s.Retries++ })
	}
	t.attempts++
	err := e.handle(ctx, t.Delivery)
	if isGone(err) {
		e.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: the object is gone, its record is done with", about(t.Record)...)
		err = nil
	}
	if err == nil {
		e.handled(ctx, t.Delivery)
		return done, time.Time{}
	}
	if isUnfetchable(err) {
		e.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: nothing can read the object, its record is done with",
			append(about(t.Record), errorAttr(t.Delivery, err))...)
		e.handled(ctx, t.Delivery)
		return done, time.Time{}
	}
	if isUnhandled(err) {
		e.unhandled(ctx, t.Record, err)
		return lost, time.Time{}
	}
	if ctx.Err() != nil {
		return left, time.Time{} // it failed because its context was ended
	}
	outcome, after := event.OutcomeOf(err)
	if outcome == event.Dropped || t.attempts >= e.cfg.maxAttempts || t.Parked {
		e.giveUp(ctx, t.Record, t.attempts, err)
		return lost, time.Time{}
	}
	if outcome == event.Default {
		after = retryWait(t.attempts)
	}
	e.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: the handler failed, trying again", append(about(t.Record),
		slog.Int(keyAttempts, t.attempts), errorAttr(t.Delivery, err), slog.Duration(keyWait, after))...)
	return later, time.Now().Add(after)
}

// isGone reports whether a handler's error says that there is nothing left to do because the object
// is gone. It does not if the handler asks for another attempt, or if something else failed too.
func isGone(err error) bool { return isFinal(err, errtree.Is(event.ErrGone)) }

// isFinal reports whether an error asks for no other attempt and matches in every branch.
func isFinal(err error, match func(error) bool) bool {
	outcome, _ := event.OutcomeOf(err)
	return outcome == event.Dropped && errtree.Every(err, match)
}

// isUnfetchable reports whether a handler's error says that the platform has no method for the
// object, as for a comment of the new task card. Package event marks such errors.
func isUnfetchable(err error) bool {
	return isFinal(err, func(err error) bool {
		e, ok := err.(interface{ Unfetchable() bool })
		return ok && e.Unfetchable()
	})
}

// isUnhandled reports whether a handler's error says that none took the event.
func isUnhandled(err error) bool { return errtree.Every(err, errtree.Is(event.ErrUnhandled)) }

func (e *engine) handled(ctx context.Context, d *event.Delivery) {
	var lag time.Duration
	if !d.Time.IsZero() {
		lag = max(0, time.Since(d.Time))
	}
	e.meter.count(func(s *Stats) {
		s.Handled++
		s.Lag = lag
	})
	if e.cfg.hooks.Handled != nil {
		e.cfg.hooks.Handled(ctx, d, lag)
	}
}

// retryWait returns the wait after an attempt that failed.
func retryWait(attempts int) time.Duration {
	b := backoff{shortest: minRetryWait, longest: maxRetryWait}
	var wait time.Duration
	for range min(attempts, 10) {
		wait = b.next()
	}
	return wait
}

// handle calls the handler once. It also calls the methods of the error that the verdict and the
// log depend on: some panic, such as those of a nil *url.Error, and that must happen where panics
// are caught.
func (e *engine) handle(ctx context.Context, d *event.Delivery) (err error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.handlerTimeout)
	defer cancel()
	defer recovered(&err)
	if err = e.cfg.handle(event.WithMisfitReporter(ctx, e.misfits), d); err != nil {
		_, _ = event.OutcomeOf(err)
		_ = isUnhandled(err)
		_ = err.Error()
	}
	return err
}

// misfits reports the values of a payload that do not fit.
func (e *engine) misfits(ctx context.Context, d *event.Delivery) {
	list := d.Misfits()
	e.meter.count(func(s *Stats) { s.Misfits += int64(len(list)) })
	for _, m := range list {
		e.cfg.misfits.Report(ctx, d.Name, m.Path, m.Want)
	}
}

// recovered turns a panic into an error of the function that defers it.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = event.NewPanicError(v, debug.Stack())
	}
}

// unhandled reports a record that no handler takes. It is parked, so that a version of the program
// that has a handler finds it; the log names each event once.
func (e *engine) unhandled(ctx context.Context, r Record, err error) {
	if r.Parked || r.stands {
		return // it was reported before
	}
	e.meter.count(func(s *Stats) { s.Unhandled++ })
	if e.cfg.unhandled.first(r.Delivery.Name) {
		e.cfg.logger.LogAttrs(ctx, slog.LevelError, "offline queue: no handler takes this event, its records are parked until one does",
			about(r)...)
	}
	if e.cfg.hooks.Parked != nil {
		e.cfg.hooks.Parked(ctx, r, err)
	}
}

// maxNames bounds how many names of events are remembered.
const maxNames = 1000

// names remembers which events were reported. It is safe for concurrent use.
type names struct {
	mu   sync.Mutex
	seen map[string]bool
}

// first reports whether a name is new, and remembers it.
func (n *names) first(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen[name] || len(n.seen) >= maxNames {
		return false
	}
	if n.seen == nil {
		n.seen = make(map[string]bool)
	}
	n.seen[name] = true
	return true
}

// giveUp says why a record will be parked, or stays so.
func (e *engine) giveUp(ctx context.Context, r Record, attempts int, err error) {
	attrs := append(about(r), slog.Int(keyAttempts, attempts), errorAttr(r.Delivery, err))
	if r.Parked {
		e.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: failed again, the record stays parked", attrs...)
		return
	}
	e.cfg.logger.LogAttrs(ctx, slog.LevelError, "offline queue: given up, the record will be parked", attrs...)
	if e.cfg.hooks.Parked != nil {
		e.cfg.hooks.Parked(ctx, r, err)
	}
}

// maxMessageText bounds what is shown of a message id, in characters. Real ones have 32.
const maxMessageText = 64

// about identifies a record in the log.
func about(r Record) []slog.Attr {
	attrs := []slog.Attr{slog.Int64(keyRecord, r.ID), slog.String(keyMessage, redact.Clean(r.MessageID, maxMessageText))}
	if r.Delivery != nil {
		attrs = append(attrs, slog.String(keyEvent, r.Delivery.Name))
	}
	return attrs
}
