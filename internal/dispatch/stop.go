package dispatch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// CutError is the error of a Shutdown that ended items.
type CutError struct {
	Left    int   // items that it ended
	Waiting int   // of these, those that did not run
	Cause   error // why it stopped waiting
}

// Error names the number and the cause.
func (e *CutError) Error() string {
	return fmt.Sprintf("dispatch: %d items were cut: %v", e.Left, e.Cause)
}

// Unwrap returns the cause.
func (e *CutError) Unwrap() error { return e.Cause }

// Shutdown refuses new items of Enqueue and Do, and waits until everything else is finished. It
// tries items at once that rest when it is called. If ctx ends first, Shutdown finishes what waits
// with OutcomeCut, ends the contexts of what runs, and returns within [Config].Grace. What has not
// ended by then is finished with OutcomeCut as well. It returns a [CutError] if it cut anything.
// All calls return the same. The first context that ends, ends the wait for all.
func (d *Dispatcher) Shutdown(ctx context.Context) error {
	d.mu.Lock()
	if !d.closing {
		d.closing = true
		d.refuseAllLocked()
		d.wakeAllLocked()
		d.pumpLocked() //nolint:contextcheck // items have contexts of their own
		d.dismissLocked(true)
	}
	quiet := d.quietSignalLocked()
	d.mu.Unlock()

	select {
	case <-quiet:
	case <-d.cutDone: // by another call
	case <-ctx.Done():
		// It checks again whether there is anything to cut.
		d.cutOff(context.Cause(ctx)) //nolint:contextcheck // items have contexts of their own
	}

	d.mu.Lock()
	cut := d.cut
	d.mu.Unlock()
	if !cut {
		return nil
	}
	<-d.cutDone
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cutItems == 0 {
		return nil // everything ended within the grace, without an error
	}
	return &CutError{Left: d.cutItems, Waiting: d.cutWaiting, Cause: d.cutCause}
}

// quietSignalLocked returns a channel that is closed once nothing is under way. d.mu is held.
func (d *Dispatcher) quietSignalLocked() <-chan struct{} {
	if d.quietLocked() {
		quiet := make(chan struct{})
		close(quiet)
		return quiet
	}
	if d.quiet == nil {
		d.quiet = make(chan struct{})
	}
	return d.quiet
}

// wakeAllLocked ends all rests, in the order in which the items arrived. While a shutdown waits, an
// attempt is worth more than a rest. d.mu is held.
func (d *Dispatcher) wakeAllLocked() {
	var resting []*lane
	d.eachLocked(func(p *Portal) {
		for l := range p.all.all() {
			if l.state == laneResting {
				resting = append(resting, l)
			}
		}
	})
	slices.SortStableFunc(resting, func(a, b *lane) int { return byArrival(a.first(), b.first()) })
	for _, l := range resting {
		d.wakeLocked(l)
	}
}

// eachLocked calls f for each portal. d.mu is held.
func (d *Dispatcher) eachLocked(f func(*Portal)) {
	for _, p := range d.portals {
		f(p)
	}
	for p := range d.rings[ringOpen].all() {
		f(p)
	}
}

// refuseAllLocked refuses all items that wait for room. d.mu is held.
func (d *Dispatcher) refuseAllLocked() {
	for c := range d.rooms {
		line := &d.rings[d.rooms[c].line]
		for p := line.pop(); p != nil; p = line.pop() {
			for it := p.admissions[c].pop(); it != nil; it = p.admissions[c].pop() {
				d.refuseLocked(it, refusalClosed)
				close(it.admitted)
			}
		}
	}
}

// cutOff ends what is under way.
func (d *Dispatcher) cutOff(cause error) {
	d.mu.Lock()
	if d.cut || d.quietLocked() {
		d.mu.Unlock()
		return
	}
	d.cut, d.cutCause = true, cause
	var waiting []*Item
	d.eachLocked(func(p *Portal) { waiting = append(waiting, d.clearLocked(p)...) })
	d.cutItems += len(waiting)
	d.cutWaiting = len(waiting)
	quiet := d.quietSignalLocked()
	d.mu.Unlock()
	defer close(d.cutDone)

	d.end(d.cfg.Closed)
	slices.SortStableFunc(waiting, byArrival)
	go d.finishAll(waiting, OutcomeCut, d.cfg.Closed)
	const forReports = 4 // the last part of the grace is for the reports of what does not end
	if timing.Await(quiet, d.cfg.Grace-d.cfg.Grace/forReports) {
		return
	}
	d.mu.Lock()
	var stuck []*Item
	for it := range d.running.all() {
		if !it.reported { // otherwise the front is about to get it
			d.running.remove(&it.inQueue)
			it.reported = true
			it.portal.finishing++
			d.finishing++
			stuck = append(stuck, it)
		}
	}
	d.cutItems += len(stuck)
	d.mu.Unlock()
	slices.SortStableFunc(stuck, byArrival)
	go d.finishAll(stuck, OutcomeCut, d.cfg.Closed)
	timing.Await(quiet, d.cfg.Grace/forReports)
}

func byArrival(a, b *Item) int { return a.Arrived.Compare(b.Arrived) }

// clearLocked takes out all items that wait or rest. The caller finishes them. d.mu is held.
func (d *Dispatcher) clearLocked(p *Portal) []*Item {
	return d.takeOutLocked(p, func(*Item) bool { return true })
}

// takeOutLocked takes out the items of a portal that match and do not run. The caller finishes
// them. They are counted in finishing, and as accepted if they waited for room. d.mu is held.
func (d *Dispatcher) takeOutLocked(p *Portal, match func(*Item) bool) (out []*Item) {
	p.finishing++ // the portal stays
	for l := range p.all.all() {
		for it := range l.items.all() {
			if match(it) {
				d.takeItemLocked(it)
				out = append(out, it)
			}
		}
	}
	p.finishing += len(out) - 1
	d.finishing += len(out)
	d.rebuildReadyLocked(p)
	for _, it := range out {
		d.freeRoomLocked(it, it.holds)
	}
	for c := range classCount {
		d.admitLocked(c)
	}
	d.dropLocked(p)
	return out
}

// takeItemLocked takes an item that does not run out of its lane. d.mu is held.
func (d *Dispatcher) takeItemLocked(it *Item) {
	l, p := it.lane, it.portal
	if l.state == laneResting && l.first() == it {
		l.timer.Stop()
		l.timer = nil
		p.resting--
		l.state = laneIdle
	}
	l.items.remove(&it.inLane)
	if it.admitting {
		d.counts.accepted.Add(1)
		d.leaveLineLocked(it)
		close(it.admitted)
		return
	}
	d.queued--
	p.queued--
}

// rebuildReadyLocked updates the lanes of a portal after items were taken out. It readies those
// that have something to run and forgets those that are empty. d.mu is held.
func (d *Dispatcher) rebuildReadyLocked(p *Portal) {
	for l := range p.ready.all() {
		if it := l.first(); it == nil || it.admitting {
			p.ready.remove(&l.inReady)
			l.state = laneIdle
		}
	}
	for l := range p.all.all() {
		it := l.first()
		switch {
		case l.state == laneIdle && !l.urgent && it != nil && !it.admitting:
			if !d.sleepUntilDueLocked(l) {
				l.state = laneReady
				p.ready.push(&l.inReady, l)
			}
		case l.state == laneIdle, l.urgent && l.state == laneReady && it == nil:
			d.advanceLocked(l)
		}
	}
	d.lineUpLocked(p)
	if p.urgent == nil || p.urgent.state != laneReady {
		d.rings[ringUrgent].remove(p)
	}
}

// removed calls [Portal.Remove] for a portal of Enqueue.
func (d *Dispatcher) removed(clientID, memberID string, at time.Time) {
	d.mu.Lock()
	p := d.portals[Key{ClientID: clientID, MemberID: memberID}]
	d.mu.Unlock()
	if p != nil {
		p.Remove(at)
	}
}

// Remove drops what waits for the portal, which removed the application at a time. Urgent items
// stay, because one of them may be a new installation. Items that were fired later stay too. A zero
// time means that it is unknown, so that all others are dropped.
func (p *Portal) Remove(at time.Time) {
	d := p.d
	match := func(it *Item) bool {
		return !it.Urgent && (at.IsZero() || it.Fired <= at.Unix())
	}
	d.mu.Lock()
	out := d.takeOutLocked(p, match)
	for it := range d.running.all() {
		if it.portal == p && match(it) {
			it.portalIsRemoved = true
		}
	}
	d.pumpLocked()
	d.mu.Unlock()
	if len(out) == 0 {
		return
	}
	go d.callFront(func() {
		if d.cfg.Removed != nil {
			d.cfg.Removed(p.key, len(out))
		}
	}, func(bool) { d.finishAll(out, OutcomeRemoved, nil) })
}
