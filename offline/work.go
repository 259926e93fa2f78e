package offline

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/b24events/b24events/event"
)

// Waits between attempts of a handler that asks for none.
const (
	minRetryWait = time.Second
	maxRetryWait = 30 * time.Second
)

// result is what a lane decided of a task.
type result struct {
	at      int // the task's position
	verdict verdict
	due     time.Time // with later
}

// workOff tries each task once, those of one object in order, and notes what became of them. What a stop of ctx leaves undone stays reserved.
// The error is one that waiting cannot mend; the end of ctx is none.
func (e *engine) workOff(ctx context.Context, tasks []task) error {
	start := time.Now()
	intake, stop := context.WithCancel(ctx)
	defer stop()
	handling, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)

	results := make(chan result, len(tasks))
	var running sync.WaitGroup
	running.Go(func() {
		defer close(results)
		e.runLanes(intake, handling, tasks, results)
	})
	verdicts := make([]verdict, len(tasks))
	failure := e.collect(ctx, stop, end, tasks, verdicts, results)
	running.Wait()
	e.lastWork = max(e.lastWork, time.Since(start))

	var again []task
	abandoned := 0
	e.behind = false
	for i, t := range tasks {
		switch verdicts[i] {
		case later:
			again = append(again, t)
			e.behind = e.behind || t.due.IsZero()
		case left:
			abandoned++
		case done, lost:
		}
	}
	e.waiting = append(again, e.waiting...) // before those of the same objects that wait for them
	e.left(ctx, abandoned)
	return failure
}

// collect takes in what the lanes decide, clearing now and then, until all have ended.
func (e *engine) collect(ctx context.Context, stop func(), end context.CancelCauseFunc, tasks []task, verdicts []verdict, results <-chan result) error {
	flush := time.NewTicker(flushInterval)
	defer flush.Stop()
	stopped := ctx.Done()
	var grace <-chan time.Time
	var failure error
	for {
		select {
		case r, more := <-results:
			if !more {
				return failure
			}
			verdicts[r.at] = r.verdict
			switch r.verdict {
			case done, lost:
				e.conclude(tasks[r.at].Record, r.verdict)
			case later:
				tasks[r.at].due = r.due
			case left:
			}
		case <-flush.C:
			if ctx.Err() == nil {
				if err := e.flush(ctx); permanent(err) {
					failure = err
					stop()
				}
			}
		case <-stopped:
			stopped = nil
			if errors.Is(context.Cause(ctx), ErrLeaseLost) {
				end(ErrLeaseLost) // the records are about to be another's
				continue
			}
			timer := time.NewTimer(e.cfg.grace)
			defer timer.Stop()
			grace = timer.C
		case <-grace:
			end(ErrStopped)
		}
	}
}

// flush clears what is finished while other records are worked on. Where that fails, the next flush or turn makes it good.
func (e *engine) flush(ctx context.Context) error {
	err := e.flushSpool()
	if err == nil {
		calls, _ := e.clearings(ctx)
		err = e.send(ctx, calls)
	}
	if err != nil && ctx.Err() == nil {
		e.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: cannot clear finished records yet", slog.String(keyError, err.Error()))
	}
	return err
}

// lanes groups tasks by the object that they are about, in order, as their positions. A record about no known object has a lane of its own.
func lanes(tasks []task) [][]int {
	var all [][]int
	index := make(map[event.Entity]int)
	for i, t := range tasks {
		object := t.Delivery.Entity()
		if object == (event.Entity{}) {
			object = event.Entity{ID: strconv.Itoa(i)} // no entity of the catalogue lacks a kind
		}
		at, ok := index[object]
		if !ok {
			at = len(all)
			index[object] = at
			all = append(all, nil)
		}
		all[at] = append(all[at], i)
	}
	return all
}

// runLanes handles the tasks, those of one object one after the other, and sends what became of them to results, which has room for all.
// It starts no handler after intake has ended; handlers run under handling. What it left is not sent. It returns when all handlers have.
func (e *engine) runLanes(intake, handling context.Context, tasks []task, results chan<- result) {
	var until time.Time
	if e.cfg.turnTime > 0 {
		until = time.Now().Add(e.cfg.turnTime)
	}
	var workers errgroup.Group
	workers.SetLimit(e.cfg.workers)
	for _, lane := range lanes(tasks) {
		if intake.Err() != nil {
			break
		}
		workers.Go(func() error {
			e.runLane(intake, handling, tasks, lane, until, results)
			return nil
		})
	}
	_ = workers.Wait() // no lane returns an error
}

func (e *engine) runLane(intake, handling context.Context, tasks []task, lane []int, until time.Time, results chan<- result) {
	r := result{verdict: left}
	for _, i := range lane {
		r.at = i
		switch {
		case intake.Err() != nil:
			return
		case r.verdict == later: // what comes after must not overtake it
		case !until.IsZero() && time.Now().After(until):
			r.verdict = later
		default:
			if !e.enter(intake) {
				return
			}
			r.verdict, r.due = e.attempt(handling, &tasks[i])
			if r.verdict == left {
				return
			}
		}
		results <- r
	}
}

// gate bounds the handlers of many engines together.
type gate interface {
	enter(ctx context.Context) bool // waits for room; false where ctx ends first
	leave()
}

func (e *engine) enter(intake context.Context) bool { return e.gate == nil || e.gate.enter(intake) }

func (e *engine) leave() {
	if e.gate != nil {
		e.gate.leave()
	}
}

// attempt tries a record once, and says what becomes of it, and when it is due again.
func (e *engine) attempt(ctx context.Context, t *task) (verdict, time.Time) {
	defer e.leave()
	if t.attempts > 0 {
		e.meter.count(func(s *Stats) { s.Retries++ })
	}
	t.attempts++
	err := e.handle(ctx, t.Delivery)
	if errors.Is(err, event.ErrGone) {
		e.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: the object is gone, its record is done with", about(t.Record)...)
		err = nil
	}
	if err == nil {
		e.handled(ctx, t.Delivery)
		return done, time.Time{}
	}
	if ctx.Err() != nil {
		return left, time.Time{} // it failed because its context was ended
	}
	outcome, after := event.OutcomeOf(err)
	var panicked *event.PanicError
	if outcome == event.Dropped || errors.As(err, &panicked) || t.attempts >= e.cfg.maxAttempts || t.Parked {
		e.giveUp(ctx, t.Record, t.attempts, err)
		return lost, time.Time{}
	}
	if outcome == event.Default {
		after = retryWait(t.attempts)
	}
	e.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: the handler failed, trying again", append(about(t.Record),
		slog.Int(keyAttempts, t.attempts), slog.String(keyError, withoutURL(err).Error()), slog.Duration(keyWait, after))...)
	return later, time.Now().Add(after)
}

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

// handle calls the handler once.
func (e *engine) handle(ctx context.Context, d *event.Delivery) (err error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.handlerTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = &event.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return e.cfg.handle(ctx, d)
}

// giveUp says why a record will be parked, or stays so.
func (e *engine) giveUp(ctx context.Context, r Record, attempts int, err error) {
	attrs := append(about(r), slog.Int(keyAttempts, attempts), slog.String(keyError, withoutURL(err).Error()))
	if r.Parked {
		e.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: failed again, the record stays parked", attrs...)
		return
	}
	e.cfg.logger.LogAttrs(ctx, slog.LevelError, "offline queue: given up, the record will be parked", attrs...)
	if e.cfg.hooks.Parked != nil {
		e.cfg.hooks.Parked(ctx, r, err)
	}
}

// about identifies a record in the log.
func about(r Record) []slog.Attr {
	attrs := []slog.Attr{slog.Int64(keyRecord, r.ID), slog.String(keyMessage, r.MessageID)}
	if r.Delivery != nil {
		attrs = append(attrs, slog.String(keyEvent, r.Delivery.Name))
	}
	return attrs
}
