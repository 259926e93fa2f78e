package webhook

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// ShutdownGrace is how long [Handler.Shutdown] waits for handlers to return after it cancelled their contexts.
const ShutdownGrace = 2 * time.Second

// shutdown is Handler.Shutdown.
func (q *queue) shutdown(ctx context.Context) error {
	q.mu.Lock()
	if !q.closing {
		q.closing = true
		q.closeIntake(ErrShutdown)
		for _, l := range q.lanes {
			if l.state == laneResting {
				q.wake(l) // the time is better spent on trying than on waiting
			}
		}
		q.settle()
	}
	q.mu.Unlock()

	select {
	case <-q.idle:
	case <-q.cutDone: // by another call
	case <-ctx.Done():
		q.cutOff(context.Cause(ctx)) // which looks again whether there is anything to cut
	}

	q.mu.Lock()
	cut := q.cut
	q.mu.Unlock()
	if !cut {
		return nil
	}
	<-q.cutDone
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left == 0 {
		return nil // all handlers returned within the grace, without an error
	}
	return &ShutdownError{Left: q.left, Cause: q.cause}
}

// settle announces the end of a drain. The caller holds the lock.
func (q *queue) settle() {
	if q.closing && !q.settled && q.queued+q.running.n+q.reporting+q.workers == 0 {
		q.settled = true
		close(q.idle)
	}
}

// cutOff gives up what waits, cancels what runs, and after the grace gives that up too.
func (q *queue) cutOff(cause error) {
	q.mu.Lock()
	if q.cut || q.settled {
		q.mu.Unlock()
		return
	}
	q.cut, q.cause = true, cause
	waiting := q.clear()
	q.left += len(waiting)
	q.reporting += len(waiting)
	q.mu.Unlock()
	defer close(q.cutDone)

	q.endLife(ErrShutdown)
	q.dropAll(waiting)
	q.mu.Lock()
	q.reporting -= len(waiting)
	q.settle()
	q.mu.Unlock()

	grace := time.NewTimer(ShutdownGrace)
	defer grace.Stop()
	select {
	case <-q.idle:
		return
	case <-grace.C:
	}
	q.mu.Lock()
	stuck := q.running.removeAll()
	q.left += len(stuck)
	q.mu.Unlock()
	q.dropAll(stuck)
}

// clear empties all lanes and returns what they held. The caller holds the lock.
func (q *queue) clear() []*item {
	var all []*item
	for _, l := range q.lanes {
		for l.head != nil {
			all = append(all, l.pop())
		}
		if l.timer != nil {
			l.timer.Stop()
			l.timer = nil
		}
		if l.state != laneRunning {
			delete(q.lanes, l.key)
		}
	}
	q.ready = line{}
	q.queued = 0
	return all
}

// dropAll reports items in the order of their arrival.
func (q *queue) dropAll(items []*item) {
	slices.SortStableFunc(items, func(a, b *item) int {
		return cmp.Compare(a.arrived.UnixNano(), b.arrived.UnixNano())
	})
	for _, it := range items {
		q.drop(it.values, it.d, ErrShutdown)
	}
}
