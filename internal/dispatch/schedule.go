package dispatch

import (
	"time"
)

// place says where a running item is counted.
type place uint8

const (
	placeOrdinary   place = iota // one of Config.Workers
	placeBusy                    // the same, of a portal with a backlog
	placeSlow                    // the same, in the share of slow portals
	placeOverdue                 // an overdue item, in the share of slow portals or beyond it
	placeUrgent                  // one of Config.Urgent
	placeUrgentSlow              // an overdue urgent item; there are as many places
	placeInline                  // an item of Do
	placeStuck                   // nowhere: it goes on long after its context has ended
	placeCount
)

// ringID names a ring. A portal is in each ring once at most, and in one of the first three at
// most.
type ringID uint8

const (
	ringOrdinary   ringID = iota // an item of the portal may start
	ringBusy                     // the same, and the portal has a backlog
	ringSlow                     // the same, and the portal is slow
	ringUrgent                   // an urgent item is ready
	ringRoom                     // items wait for room
	ringUrgentRoom               // urgent items wait for room
	ringOpen                     // portals of Open, which take no turns here
	ringCount
	noRing = ringCount
)

// ring is portals that take turns.
type ring struct {
	list[Portal]

	id ringID
}

// push puts a portal at the end, if it is not in the ring.
func (r *ring) push(p *Portal) {
	if at := &p.links[r.id]; at.of == nil {
		r.list.push(at, p)
	}
}

// remove takes a portal out of the ring, if it is in it.
func (r *ring) remove(p *Portal) { r.list.remove(&p.links[r.id]) }

// readyLocked makes a lane wait for a worker, or rest until its first item is due. d.mu is held.
func (d *Dispatcher) readyLocked(l *lane) {
	if d.sleepUntilDueLocked(l) {
		return
	}
	l.state = laneReady
	if l.urgent {
		d.rings[ringUrgent].push(l.portal)
		return
	}
	l.portal.ready.push(&l.inReady, l)
	d.lineUpLocked(l.portal)
}

// sleepUntilDueLocked makes a lane rest if its first item is not due yet, and reports whether it
// did. d.mu is held.
func (d *Dispatcher) sleepUntilDueLocked(l *lane) bool {
	if l.first().Due.IsZero() || d.closing {
		return false
	}
	wait := time.Until(l.first().Due)
	if wait <= 0 {
		return false
	}
	l.portal.resting++
	d.sleepLocked(l, wait)
	return true
}

// lineUpLocked puts a portal into the ring that it belongs to, and takes it out of the others. d.mu
// is held.
func (d *Dispatcher) lineUpLocked(p *Portal) {
	to := d.ringOfLocked(p)
	if to == noRing {
		p.turnItems = 0
	}
	for r := ringOrdinary; r <= ringSlow; r++ {
		if r == to {
			d.rings[r].push(p)
		} else {
			d.rings[r].remove(p)
		}
	}
}

// ringOfLocked returns the ring that a portal belongs to. A portal has a backlog if its ready lanes
// can use all that it may run at a time. It counts as busy until its turn is over. d.mu is held.
func (d *Dispatcher) ringOfLocked(p *Portal) ringID {
	switch {
	case p.ready.n == 0, p.running >= p.opts.Limit:
		return noRing
	case p.slow:
		return ringSlow
	case d.cfg.SlowShare < d.cfg.Workers && (p.turnItems > 0 || p.ready.n >= max(2, p.opts.Limit)):
		return ringBusy
	default:
		return ringOrdinary
	}
}

// setSlowLocked makes a portal slow, or ends that. d.mu is held.
func (d *Dispatcher) setSlowLocked(p *Portal, slow bool) {
	if p.slow == slow {
		return
	}
	p.slow, p.turnItems = slow, 0
	d.lineUpLocked(p)
}

// nextLocked takes the item that runs next, nil if none may. d.mu is held.
func (d *Dispatcher) nextLocked() *Item {
	if d.places[placeUrgent] < d.cfg.Urgent {
		if p := d.firstLocked(ringUrgent); p != nil {
			d.rings[ringUrgent].remove(p)
			return d.beginLocked(p.urgent, placeUrgent)
		}
	}
	fast := d.places[placeOrdinary] + d.places[placeBusy]
	if free := d.cfg.Workers - d.slowPartLocked(); fast < free {
		first, second := ringOrdinary, ringBusy
		if d.busyFirstLocked(free) {
			first, second = second, first
		}
		for _, from := range [...]ringID{first, second} {
			if it := d.takeTurnLocked(from); it != nil {
				d.busyBegan = from == ringBusy
				return it
			}
		}
	}
	if slow := d.slowLocked(); slow < d.cfg.SlowShare && fast+slow < d.cfg.Workers {
		return d.takeTurnLocked(ringSlow)
	}
	return nil
}

// busyFirstLocked reports whether busy portals come before ordinary ones for the next item. They
// have a quarter of the workers that slow portals leave. If slow portals leave one worker, it
// serves both in turn. d.mu is held.
func (d *Dispatcher) busyFirstLocked(free int) bool {
	if free == 1 {
		return !d.busyBegan
	}
	return d.places[placeBusy] < max(1, free/4)
}

// takeTurnLocked takes an item of the first portal of a ring, nil for none. The turn of an ordinary
// portal is one item. The turn of another goes on until as many items began as may run at a time,
// so that their handlers can join their calls. d.mu is held.
func (d *Dispatcher) takeTurnLocked(from ringID) *Item {
	p := d.firstLocked(from)
	if p == nil {
		return nil
	}
	it := d.beginLocked(p.ready.pop(), [...]place{ringOrdinary: placeOrdinary, ringBusy: placeBusy, ringSlow: placeSlow}[from])
	if p.turnItems++; p.turnItems >= p.opts.Limit || from == ringOrdinary {
		p.turnItems = 0
		d.rings[from].remove(p)
	}
	d.lineUpLocked(p)
	return it
}

// firstLocked returns the first portal of a ring that is not barred, nil for none. It removes
// barred portals before it from the ring. d.mu is held.
func (d *Dispatcher) firstLocked(in ringID) *Portal {
	r := &d.rings[in]
	p := r.first()
	for ; p != nil && p.barred(); p = r.first() {
		r.remove(p)
	}
	return p
}

// barred reports whether the intake of the portal has ended, so that no item of it may start.
func (p *Portal) barred() bool { return p.opts.Intake != nil && p.opts.Intake.Err() != nil }

// slowLocked returns how many running items count as those of slow portals. d.mu is held.
func (d *Dispatcher) slowLocked() int { return d.places[placeSlow] + d.places[placeOverdue] }

// slowPartLocked returns how many workers ordinary portals leave to slow ones: those that slow
// portals use within their share, and, if a slow portal waits, a few more than those that hang.
// d.mu is held.
func (d *Dispatcher) slowPartLocked() int {
	part := d.slowLocked()
	if d.firstLocked(ringSlow) != nil {
		part = max(part, d.places[placeOverdue]+max(1, d.cfg.Workers/8))
	}
	return min(part, d.cfg.SlowShare)
}

// beginLocked takes the first item of a lane to run it. The caller puts the portal into its ring.
// d.mu is held.
func (d *Dispatcher) beginLocked(l *lane, at place) *Item {
	it, p := l.items.pop(), l.portal
	l.state = laneRunning
	it.Attempts++
	it.Began, it.place = time.Now(), at
	d.places[at]++
	d.running.push(&it.inQueue, it)
	d.queued--
	p.queued--
	if at == placeUrgent {
		p.urgents++
	} else {
		p.running++
	}
	d.watchLocked(SlowAfter)
	return it
}

// endLocked removes an item from the running ones, and gives its place back. d.mu is held.
func (d *Dispatcher) endLocked(it *Item) {
	d.running.remove(&it.inQueue)
	p := it.portal
	switch {
	case it.place == placeInline:
		p.inline--
		d.inline--
		return
	case it.Urgent:
		p.urgents--
	default:
		p.running--
		switch {
		case it.overdue:
			p.overdue--
			p.slowAt = time.Now()
		case p.slow && p.overdue == 0 && time.Since(p.slowAt) >= SlowFor:
			d.setSlowLocked(p, false)
		}
		d.lineUpLocked(p)
	}
	it.overdue = false
	d.places[it.place]--
}

// advanceLocked goes on with a lane whose first item has ended or was taken out. d.mu is held.
func (d *Dispatcher) advanceLocked(l *lane) {
	switch {
	case l.first() == nil:
		p := l.portal
		d.dropLaneLocked(l)
		d.dropLocked(p)
	case l.first().admitting:
		l.state = laneIdle
	default:
		d.readyLocked(l)
	}
}

// restLocked puts an item back until its next attempt is due. If it was merged with the one behind
// it, restLocked returns the one of the two that ended. d.mu is held.
func (d *Dispatcher) restLocked(l *lane, it *Item, wait time.Duration) (merged *Item) {
	d.queued++
	l.portal.queued++
	l.portal.resting++
	l.items.pushFront(&it.inLane, it)
	if behind := it.inLane.next.element(); behind != nil {
		merged = d.joinLocked(l, it, behind)
	}
	if l.first().Due = (time.Time{}); wait <= 0 {
		d.wakeLocked(l)
		return merged
	}
	d.sleepLocked(l, wait)
	return merged
}

// sleepLocked makes a lane rest for a while. d.mu is held.
func (d *Dispatcher) sleepLocked(l *lane, wait time.Duration) {
	l.state = laneResting
	var t *time.Timer
	t = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if l.timer == t {
			d.wakeLocked(l)
			d.pumpLocked()
		}
	})
	l.timer = t
}

// wakeLocked ends the rest of a lane. d.mu is held.
func (d *Dispatcher) wakeLocked(l *lane) {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.portal.resting--
	l.first().Due = time.Time{}
	d.readyLocked(l)
}

// watchLocked calls watch after a time, unless a call is due already. d.mu is held.
func (d *Dispatcher) watchLocked(after time.Duration) {
	switch {
	case d.watching:
		return
	case d.watcher == nil:
		d.watcher = time.AfterFunc(after, d.watch)
	default:
		d.watcher.Reset(after)
	}
	d.watching = true
}

// watch looks for items that are overdue, and for those that go on long after their contexts have
// ended.
func (d *Dispatcher) watch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watching = false
	now := time.Now()
	var next time.Duration
	for it := range d.running.all() {
		if it.place == placeInline || it.place == placeStuck {
			continue
		}
		age := now.Sub(it.Began)
		if age >= SlowAfter && !it.overdue {
			d.overdueLocked(it)
		}
		limit := SlowAfter
		if it.overdue {
			limit = d.cfg.Timeout + SlowAfter
		}
		if left := limit - age; left <= 0 {
			d.moveLocked(it, placeStuck)
		} else if next == 0 || left < next {
			next = left
		}
		if !it.overdue {
			break // those behind it began later
		}
	}
	if next > 0 {
		d.watchLocked(min(next, SlowAfter)) // an item that begins in the meantime is not overlooked
	}
	d.pumpLocked()
}

// overdueLocked makes the portal of an item slow, and moves the item out of the way of others if
// there is a place for overdue ones. d.mu is held.
func (d *Dispatcher) overdueLocked(it *Item) {
	it.overdue = true
	if it.Urgent {
		if d.places[placeUrgentSlow] < d.cfg.Urgent {
			d.moveLocked(it, placeUrgentSlow)
		}
		return
	}
	it.portal.overdue++
	if d.cfg.SlowShare >= d.cfg.Workers {
		return
	}
	d.setSlowLocked(it.portal, true)
	if it.place == placeSlow || d.slowLocked() < d.cfg.Overflow {
		d.moveLocked(it, placeOverdue)
	}
}

// moveLocked moves a running item to another place. d.mu is held.
func (d *Dispatcher) moveLocked(it *Item, to place) {
	d.places[it.place]--
	it.place = to
	d.places[to]++
}
