package webhook

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/b24events/b24events/event"
)

// unitBytes is how much memory a delivery may hold for one place in the queue.
const unitBytes = 8 << 10

// queue is the memory queue and the account of everything that is under way, which Shutdown waits for. A lane holds the deliveries
// of one object; lanes with something to do stand in line for a worker. Workers start when a lane is ready and end when none is,
// so an idle queue has no goroutines.
type queue struct {
	cfg     config
	handler event.Handler
	count   *counters
	log     journal
	room    *semaphore.Weighted
	misfits event.MisfitReporter

	intake      context.Context //nolint:containedctx // ends when Shutdown is called; the parent of waiting for room
	closeIntake context.CancelCauseFunc
	life        context.Context //nolint:containedctx // ends when Shutdown gives up waiting; the parent of every handler's context
	endLife     context.CancelCauseFunc

	mu        sync.Mutex
	lanes     map[laneKey]*lane // every lane
	ready     line
	lastAlone uint64
	queued    int          // waiting, for a worker or for the next attempt
	running   runningItems // being handled
	reporting int          // done, and on the way to the function of WithOnDropped
	workers   int
	closing   bool // Shutdown was called
	cut       bool // Shutdown gave up waiting
	left      int  // deliveries lost to the cut
	cause     error
	settled   bool          // idle is closed
	idle      chan struct{} // closed when closing and nothing is under way
	cutDone   chan struct{} // closed when the cut is over
}

func newQueue(cfg config, h event.Handler, count *counters) *queue {
	q := &queue{
		cfg:     cfg,
		handler: h,
		count:   count,
		log:     journal{cfg.logger},
		room:    semaphore.NewWeighted(cfg.queueSize),
		lanes:   make(map[laneKey]*lane),
		idle:    make(chan struct{}),
		cutDone: make(chan struct{}),
	}
	q.misfits = func(ctx context.Context, d *event.Delivery) {
		for _, m := range d.Misfits() {
			count.misfits.Report(ctx, verifiedName(d), m.Path, m.Want)
		}
	}
	q.intake, q.closeIntake = context.WithCancelCause(context.Background())
	q.life, q.endLife = context.WithCancelCause(context.Background())
	return q
}

// enqueue gives an item a place in its lane, or in that of the older delivery that it replaces. It waits for room up to the enqueue timeout.
func (q *queue) enqueue(it *item) error {
	key := laneKey{client: it.d.Proof.ClientID, member: it.d.MemberID()}
	if e := it.d.Lane(); e.Kind != "" {
		key.kind, key.id = e.Kind, e.ID
	}
	it.units = min(it.units, q.cfg.queueSize)

	placed, err := q.offer(it, key, false)
	if placed || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(q.intake, q.cfg.enqueueTimeout, ErrQueueFull)
	defer cancel()
	if q.room.Acquire(ctx, it.units) != nil {
		return context.Cause(ctx)
	}
	if _, err = q.offer(it, key, true); err != nil {
		q.room.Release(it.units)
	}
	return err
}

// offer tries to place an item. acquired says that its room is taken already; otherwise offer takes it where there is some.
func (q *queue) offer(it *item, key laneKey, acquired bool) (placed bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing {
		return false, ErrShutdown
	}
	mergeable := key.kind != "" && q.cfg.coalesce[it.d.Name]
	l := q.lanes[key]
	if mergeable && l != nil {
		if old := l.waiting(it.d.Name); old != nil && q.replace(old, it, acquired) {
			return true, nil
		}
	}
	if !acquired && !q.room.TryAcquire(it.units) {
		return false, nil
	}
	if key.kind == "" {
		q.lastAlone++
		key.alone = q.lastAlone
	}
	if l == nil {
		l = &lane{key: key}
		q.lanes[key] = l
		q.makeReady(l)
	}
	// An older one that could not be replaced for want of room stays the one to replace.
	l.push(it, mergeable && l.waiting(it.d.Name) == nil)
	q.queued++
	q.count.accepted.Add(1)
	return true, nil
}

// replace puts a newer delivery in the place of an older one that waits. The place is as large as the larger of both.
func (q *queue) replace(old, it *item, acquired bool) bool {
	switch grow := it.units - old.units; {
	case acquired:
		q.room.Release(old.units)
	case grow > 0 && !q.room.TryAcquire(grow):
		return false
	case grow < 0:
		q.room.Release(-grow)
	}
	old.d, old.values, old.units = it.d, it.values, it.units
	if old.tries > 0 { // the wait for the next attempt goes on, with all attempts ahead
		old.tries, old.arrived = 0, it.arrived
	}
	q.count.accepted.Add(1)
	q.count.coalesced.Add(1)
	return true
}

// makeReady puts a lane in line, with a worker to come for it.
func (q *queue) makeReady(l *lane) {
	l.state = laneReady
	q.ready.push(l)
	if q.workers < q.cfg.workers {
		q.workers++
		go q.work()
	}
}

// work handles what is ready, and ends when nothing is.
func (q *queue) work() {
	ended := false
	defer func() {
		if ended {
			return
		}
		// A handler called runtime.Goexit, as a failing test does. Another worker takes over.
		q.mu.Lock()
		defer q.mu.Unlock()
		q.workers--
		if q.ready.head != nil {
			q.workers++
			go q.work()
		}
		q.settle()
	}()
	for {
		l, it := q.take()
		if it == nil {
			ended = true
			return
		}
		_ = q.serve(l, it) // counted and reported already
	}
}

// take returns the next item to handle, nil for the worker to end.
func (q *queue) take() (*lane, *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.ready.pop()
	if l == nil {
		q.workers--
		q.settle()
		return nil, nil
	}
	it := l.pop()
	l.state = laneRunning
	it.tries++
	it.begun = time.Now()
	q.queued--
	q.running.add(it)
	if it.tries == 1 {
		q.count.lag.record(it.begun.Sub(it.arrived))
	}
	return l, it
}

// next goes on with a lane after one of its items is done with.
func (q *queue) next(l *lane) {
	switch {
	case l == nil:
	case l.head == nil:
		delete(q.lanes, l.key)
	default:
		q.makeReady(l)
	}
}

// rest puts an item back until its next attempt is due. A newer delivery that may replace it does so here, and inherits the wait.
func (q *queue) rest(l *lane, it *item, wait time.Duration) {
	mergeable := l.key.kind != "" && q.cfg.coalesce[it.d.Name]
	if mergeable {
		if newer := l.waiting(it.d.Name); newer != nil {
			l.remove(newer)
			q.queued--
			q.room.Release(it.units)
			q.count.coalesced.Add(1)
			it = newer
		}
	}
	l.pushFront(it, mergeable)
	q.queued++
	if wait <= 0 {
		q.makeReady(l)
		return
	}
	l.state = laneResting
	var t *time.Timer
	t = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if l.state == laneResting && l.timer == t {
			q.wake(l)
		}
	})
	l.timer = t
}

// wake ends the wait of a lane.
func (q *queue) wake(l *lane) {
	l.timer.Stop()
	l.timer = nil
	q.makeReady(l)
}

// enter takes an item into the account that is not to be queued: it is handled, or handed on, within its request.
func (q *queue) enter(it *item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing {
		return ErrShutdown
	}
	it.tries, it.begun = 1, time.Now()
	q.running.add(it)
	return nil
}

// leave ends what enter began. It reports false where Shutdown has given up on the item and reported it.
func (q *queue) leave(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.running.remove(it)
	q.settle()
	return mine
}

// closed reports whether Shutdown was called.
func (q *queue) closed() bool { return q.intake.Err() != nil }

// depth returns how many items wait and how many are being handled.
func (q *queue) depth() (queued, running int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.queued, q.running.n
}
