package dispatch

import (
	"cmp"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/errtree"
)

// Outcome is what became of an item.
type Outcome uint8

// The outcomeCount of an item.
const (
	OutcomeDone      Outcome = iota // the handler returned nil
	OutcomeUnhandled                // no handler takes the event
	OutcomeFailed                   // given up: a final error, or out of attempts
	OutcomeMerged                   // it was merged into another item
	OutcomeRemoved                  // the portal removed the application
	OutcomeCut                      // Shutdown or Stop ended it
	outcomeCount
)

// idleTime is about how long a worker waits for work before it ends.
const idleTime = time.Second

// worker is a goroutine that runs items.
type worker struct {
	next  chan *Item // closed for the worker to end
	spare bool       // it was idle when the reaper last looked
}

// pumpLocked starts what may run. d.mu is held.
func (d *Dispatcher) pumpLocked() {
	for {
		it := d.nextLocked()
		if it == nil {
			return
		}
		if n := len(d.idleWorkers); n > 0 {
			w := d.idleWorkers[n-1]
			d.idleWorkers[n-1] = nil
			d.idleWorkers = d.idleWorkers[:n-1]
			w.next <- it // it has room for one
			continue
		}
		go d.work(it)
	}
}

// result is the result of an attempt.
type result struct {
	err       error
	asked     event.Outcome // what err asks for
	after     time.Duration
	unhandled bool // err says that no handler takes the event
	postponed bool // there was no attempt

	outcome Outcome // of the item, if it is finished
	next    *Item   // for the worker; nil after it became idle
}

// work runs items until there is none for a while.
func (d *Dispatcher) work(it *Item) {
	w := &worker{next: make(chan *Item, 1)}
	for it != nil {
		if it = d.serve(w, it).next; it == nil {
			it = <-w.next
		}
	}
}

// serve runs an item once and settles the result. w is nil for an item of Do. It survives a handler
// and a front that end the goroutine.
func (d *Dispatcher) serve(w *worker, it *Item) (r result) {
	alive := false
	r = result{err: ErrGoexit, asked: event.OutcomeDropped}
	defer func() {
		if !alive { // the handler ended the goroutine
			d.settle(w, it, &r, true)
		}
	}()
	r = d.attempt(it)
	alive = true
	d.settle(w, it, &r, false)
	return r
}

// attempt calls the front's Handle, and turns panics into errors.
func (d *Dispatcher) attempt(it *Item) (r result) {
	ctx := d.context(it)
	defer ctx.End()
	err := Guard(func() error {
		r = resultOf(it.portal.opts.Front.Handle(ctx, it))
		return nil
	})
	if err != nil {
		r = result{err: err, asked: event.OutcomeDropped}
	}
	if r.postponed {
		it.Attempts--
	}
	return r
}

// resultOf returns the result for an error of a handler. Methods of the error may call the
// dispatcher, or panic, as those of a nil *url.Error do. So everything that the outcome and the log
// depend on is called here, while panics are caught and no lock is held.
func resultOf(err error) result {
	r := result{err: err}
	if p, ok := err.(PostponedError); ok { //nolint:errorlint // fronts return it as it is
		r.postponed, r.asked, r.after = true, event.OutcomeRetried, time.Duration(p)
		return r
	}
	if err != nil {
		r.asked, r.after = event.OutcomeOf(err)
		r.unhandled = errtree.Every(err, errtree.Is(event.ErrUnhandled))
		_ = err.Error()
	}
	return r
}

// Guard runs f and turns a panic into an [event.PanicError].
func Guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = event.NewPanicError(v, debug.Stack())
		}
	}()
	return f()
}

// decideLocked decides whether an item is tried again, and its outcome otherwise. d.mu is held.
func (d *Dispatcher) decideLocked(it *Item, r *result) (o Outcome, retry bool) {
	p := it.portal
	switch {
	case it.reported: // Shutdown gave it up
		return OutcomeCut, false
	case r.err == nil:
		return OutcomeDone, false
	case r.unhandled:
		return OutcomeUnhandled, false
	case d.cut, p.life.Err() != nil:
		return OutcomeCut, false // perhaps it failed because its context ended
	case r.asked == event.OutcomeDropped, !r.postponed && it.Attempts >= d.attempts(it):
		return OutcomeFailed, false
	case p.stopped:
		return OutcomeCut, false
	case it.portalIsRemoved:
		return OutcomeRemoved, false
	default:
		return 0, true
	}
}

// attempts returns how many attempts an item has.
func (d *Dispatcher) attempts(it *Item) int { return cmp.Or(it.MaxAttempts, d.cfg.MaxAttempts) }

// wait returns how long an item rests before its next attempt.
func (d *Dispatcher) wait(it *Item, r *result) time.Duration {
	switch {
	case r.asked != event.OutcomeRetried:
		return d.cfg.Backoff(it.Attempts)
	case d.cfg.MaxWait > 0:
		return min(r.after, d.cfg.MaxWait)
	default:
		return r.after
	}
}

// settle retries or finishes an item after an attempt, and takes the next item for the worker.
// dying says that the goroutine ends. While the front gets the report, the item holds its lane, its
// place and its worker.
func (d *Dispatcher) settle(w *worker, it *Item, r *result, dying bool) {
	d.mu.Lock()
	front := it.portal.opts.Front
	o, retry := d.decideLocked(it, r)
	if retry && r.postponed {
		d.mu.Unlock()
		d.retryLater(w, it, r, r.after, dying)
		return
	}
	if retry {
		d.mu.Unlock()
		d.counts.retried.Add(1)
		wait := d.wait(it, r)
		d.callFront(func() { front.Retrying(it, r.err, wait) }, func(exits bool) { d.retryLater(w, it, r, wait, dying || exits) })
		return
	}
	r.outcome = o
	if r.postponed {
		r.err = nil // there was no attempt
	}
	if it.reported {
		d.releaseLocked(w, it, r, dying)
		return
	}
	it.reported = true
	d.counts.outcomes[o].Add(1)
	if d.cut && o == OutcomeCut {
		d.cutItems++
	}
	d.mu.Unlock()
	d.callFront(func() { front.Finished(it, o, r.err) }, func(exits bool) {
		d.mu.Lock()
		d.releaseLocked(w, it, r, dying || exits)
	})
}

// retryLater puts an item back until its next attempt, unless something ended it in the meantime.
func (d *Dispatcher) retryLater(w *worker, it *Item, r *result, wait time.Duration, dying bool) {
	d.mu.Lock()
	if _, retry := d.decideLocked(it, r); !retry {
		d.mu.Unlock()
		d.settle(w, it, r, dying)
		return
	}
	p := it.portal
	d.endLocked(it)
	merged := d.restLocked(it.lane, it, wait)
	if merged == nil {
		d.takeNextLocked(w, p, r, dying)
		return
	}
	d.counts.outcomes[OutcomeMerged].Add(1)
	d.finishing++
	p.finishing++
	d.mu.Unlock()
	d.callFront(func() { p.opts.Front.Finished(merged, OutcomeMerged, nil) }, func(exits bool) {
		d.mu.Lock()
		d.finishing--
		p.finishing--
		d.takeNextLocked(w, p, r, dying || exits)
	})
}

// releaseLocked gives back what a finished item holds. d.mu is held, and released when it returns.
func (d *Dispatcher) releaseLocked(w *worker, it *Item, r *result, dying bool) {
	p := it.portal
	d.endLocked(it)
	if it.lane != nil {
		d.giveRoomLocked(it, it.holds)
		d.advanceLocked(it.lane)
	}
	d.takeNextLocked(w, p, r, dying)
}

// takeNextLocked takes the next item for a worker after one of p. d.mu is held, and released when
// it returns.
func (d *Dispatcher) takeNextLocked(w *worker, p *Portal, r *result, dying bool) {
	d.dropLocked(p)
	if !p.slackLocked() {
		r.next = d.nextForLocked(w, dying)
		d.mu.Unlock()
		return
	}
	d.finishing++
	d.pumpLocked()
	d.mu.Unlock()
	d.callFront(p.opts.OnSlack, func(exits bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.finishing--
		r.next = d.nextForLocked(w, dying || exits)
	})
}

// nextForLocked takes the next item for a worker, or makes it idle, and starts what else may run.
// d.mu is held.
func (d *Dispatcher) nextForLocked(w *worker, dying bool) (next *Item) {
	if w != nil && !dying {
		if next = d.nextLocked(); next == nil {
			w.spare = false
			d.idleWorkers = append(d.idleWorkers, w)
			d.reapLocked()
		}
	}
	d.pumpLocked()
	d.announceQuietLocked()
	return next
}

// reapLocked sets the timer that ends idle workers. d.mu is held.
func (d *Dispatcher) reapLocked() {
	switch {
	case d.dismissed:
		d.dismissLocked(true)
		return
	case d.reaping:
		return
	case d.reaper == nil:
		d.reaper = time.AfterFunc(idleTime, d.reap)
	default:
		d.reaper.Reset(idleTime)
	}
	d.reaping = true
}

// reap ends workers that were idle for a while.
func (d *Dispatcher) reap() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reaping = false
	d.dismissLocked(false)
	if len(d.idleWorkers) > 0 {
		d.reapLocked()
	}
}

// Dismiss ends idle workers now, and those that become idle before the next item comes. Call it
// when nothing is expected for a while, as after the end of a run.
func (d *Dispatcher) Dismiss() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dismissed = true
	d.dismissLocked(true)
}

// dismissLocked ends idle workers: all of them, or only those that were idle at the last call too.
// d.mu is held.
func (d *Dispatcher) dismissLocked(all bool) {
	kept := d.idleWorkers[:0]
	for _, w := range d.idleWorkers {
		if all || w.spare {
			close(w.next)
			continue
		}
		w.spare = true
		kept = append(kept, w)
	}
	clear(d.idleWorkers[len(kept):])
	d.idleWorkers = kept
}

// callFront calls f, a method of a front, and then calls then. exits says that the front ends the
// goroutine. A panic of the front's own code is logged.
func (d *Dispatcher) callFront(f func(), then func(exits bool)) {
	exits := true
	defer func() { then(exits) }()
	if err := Guard(func() error { f(); return nil }); err != nil {
		d.cfg.Logger.LogAttrs(d.life, slog.LevelError, "panic while the outcome of an event was reported",
			slog.String("error", err.Error()))
	}
	exits = false
}

// reporters is how many goroutines report items that end together.
const reporters = 16

// finishAll reports items that the caller has counted in finishing. It reports several at a time,
// in order of their beginning, and returns when all are reported.
func (d *Dispatcher) finishAll(items []*Item, o Outcome, err error) {
	if len(items) == 0 {
		return
	}
	d.counts.outcomes[o].Add(uint64(len(items)))
	queue := make(chan *Item, len(items))
	for _, it := range items {
		queue <- it
	}
	close(queue)
	var group sync.WaitGroup
	var report func()
	report = func() {
		alive := false
		defer func() {
			if !alive { // the front ended this goroutine
				group.Go(report)
			}
		}()
		for it := range queue {
			d.finish(it, o, err)
		}
		alive = true
	}
	for range min(reporters, len(items)) {
		group.Go(report)
	}
	group.Wait()
}

// finish reports an item that the caller has counted in finishing.
func (d *Dispatcher) finish(it *Item, o Outcome, err error) {
	p := it.portal
	d.callFront(func() { p.opts.Front.Finished(it, o, err) }, func(bool) { d.finished(p) })
}

// finished counts an item that is back at its front.
func (d *Dispatcher) finished(p *Portal) {
	d.mu.Lock()
	p.finishing--
	d.dropLocked(p)
	if !p.slackLocked() {
		d.finishing--
		d.announceQuietLocked()
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	d.callFront(p.opts.OnSlack, func(bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.finishing--
		d.announceQuietLocked()
	})
}
