package offline

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/b24events/b24events/event"
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
	stopped, unleased := ctx.Done(), e.unleased
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
		case <-unleased:
			unleased = nil
			end(ErrLeaseLost)
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
		e.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: cannot clear finished records yet", errorAttr(nil, err))
	}
	return err
}

// lanes groups tasks by their lane, in order, as their positions. A record without one has a lane
// of its own.
func lanes(tasks []task) [][]int {
	var all [][]int
	index := make(map[event.Entity]int)
	for i, t := range tasks {
		object := t.Delivery.Lane()
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
