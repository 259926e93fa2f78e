package dispatch

import (
	"fmt"

	"github.com/b24events/b24events/event"
)

// inspect looks for something in the dispatcher that does not fit together.
func (d *Dispatcher) inspect() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := inspection{d: d}
	for it := range d.running.all() {
		in.running++
		in.places[it.place]++
		in.hold(it)
	}
	d.eachLocked(in.portal)
	gaveUp := in.fast()+d.slowLocked()+d.places[placeUrgent]+d.places[placeUrgentSlow]+d.places[placeStuck]+d.inline != d.running.n
	in.check(in.running == d.running.n, "running list")
	in.check(in.queued == d.queued, "queued %d, not %d", d.queued, in.queued)
	for c := range classCount {
		r := &d.rooms[c]
		in.check(r.size == 0 || r.used <= r.size, "room: %d of %d used", r.used, r.size)
		if !d.cut {
			in.check(r.used == in.used[c], "room: %d used, not %d", r.used, in.used[c])
		}
	}
	if !d.cut {
		in.check(!gaveUp, "places %v", d.places)
		for p := range placeCount {
			in.check(p == placeInline || in.places[p] == d.places[p], "places %v, not %v", d.places, in.places)
		}
	}
	w := d.cfg.Workers
	in.check(in.fast() <= w && d.slowLocked() <= max(d.cfg.SlowShare, d.cfg.Overflow), "places %v of %d", d.places, w)
	in.check(max(d.places[placeUrgent], d.places[placeUrgentSlow]) <= d.cfg.Urgent, "urgent places")
	in.idle()
	return in.problem
}

type inspection struct {
	d               *Dispatcher
	problem         string
	running, queued int
	places          [placeCount]int
	used            [classCount]int64
	waits           [ringCount]bool // portals wait for a worker
}

func (in *inspection) check(ok bool, format string, args ...any) {
	if !ok && in.problem == "" {
		in.problem = "broken: " + fmt.Sprintf(format, args...)
	}
}

func (in *inspection) hold(it *Item) {
	in.used[it.class()] += it.holds
	in.check(it.holds == 0 || it.holds == it.Cost, "an item of %d holds %d", it.Cost, it.holds)
}

func (in *inspection) portal(p *Portal) {
	var lanes, ready, queued, resting int
	var waits [classCount]bool
	for l := range p.all.all() {
		lanes++
		in.check(l.portal == p, "lane of another portal")
		in.check(l.first() != nil || l.state == laneRunning, "empty lane in state %d", l.state)
		in.check(l.key == event.Entity{} || p.lanes[l.key] == l, "lane is not in the map")
		in.check(l.state != laneResting || l.timer != nil, "lane never wakes")
		if l.state == laneReady && !l.urgent {
			ready++
		}
		if l.state == laneResting {
			resting++
		}
		if l.first() != nil {
			in.check((l.state == laneIdle) == (l.first().admitting && l.state != laneRunning), "lane in state %d", l.state)
		}
		for it := range l.items.all() {
			in.check(it.lane == l && it.portal == p, "item of another lane")
			in.check(it.inLane.next != nil || l.items.last() == it, "tail of a lane")
			if it.admitting {
				waits[it.class()] = true
				continue
			}
			queued++
			in.hold(it)
		}
	}
	in.queued += queued
	in.check(p.owned || !p.emptyLocked(), "portal without items")
	in.check(len(p.lanes) <= lanes, "lanes are left in the map")
	in.check(queued == p.queued && ready == p.ready.n && resting == p.resting, "counts of a portal")
	in.check(p.running <= p.opts.Limit, "portal runs %d of %d", p.running, p.opts.Limit)
	in.check(p.urgents <= 1, "portal runs %d urgent ones", p.urgents)
	in.check(p.turnItems >= 0 && p.turnItems < p.opts.Limit, "%d items of a turn of %d", p.turnItems, p.opts.Limit)
	if !p.barred() {
		in.turns(p, ready)
	}
	in.check((p.links[ringRoom].of != nil) == waits[classOrdinary] && (p.links[ringUrgentRoom].of != nil) == waits[classUrgent],
		"portal in the line for room")
}

// turns checks that a portal of which an item may start is in its ring, and in no other.
func (in *inspection) turns(p *Portal, ready int) {
	d := in.d
	can := ready > 0 && p.running < p.opts.Limit
	parts := d.cfg.SlowShare < d.cfg.Workers
	backlog := ready >= p.opts.Limit && ready >= 2
	belongs := map[ringID]bool{
		ringSlow:     can && p.slow,
		ringBusy:     can && !p.slow && parts && (backlog || p.turnItems > 0),
		ringOrdinary: can && !p.slow && (!parts || (!backlog && p.turnItems == 0)),
		ringUrgent:   p.urgent != nil && p.urgent.state == laneReady,
	}
	for r, is := range belongs {
		in.check((p.links[r].of != nil) == is, "portal in ring %d: %v, slow %v, %d ready, %d running, %d items of its turn",
			r, !is, p.slow, ready, p.running, p.turnItems)
		in.waits[r] = in.waits[r] || is
	}
	if p.turnItems > 0 {
		in.check(d.rings[ringBusy].first() == p || d.rings[ringSlow].first() == p, "a portal in the middle of its turn is not the first")
	}
}

func (in *inspection) fast() int { return in.d.places[placeOrdinary] + in.d.places[placeBusy] }

// idle checks that nothing waits while it could run.
func (in *inspection) idle() {
	d := in.d
	n, slow := in.fast(), d.slowLocked()
	in.check(!in.waits[ringUrgent] || d.places[placeUrgent] == d.cfg.Urgent, "an urgent worker is free")
	in.check(!in.waits[ringSlow] || slow >= d.cfg.SlowShare || n+slow >= d.cfg.Workers, "a worker for slow portals is free")
	if in.waits[ringOrdinary] || in.waits[ringBusy] {
		kept := slow
		if in.waits[ringSlow] {
			kept = max(kept, d.places[placeOverdue]+max(1, d.cfg.Workers/8))
		}
		in.check(n+min(kept, d.cfg.SlowShare) >= d.cfg.Workers, "a worker is free")
	}
}

// leftovers looks for something that is left after everything ended.
func (d *Dispatcher) leftovers() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := inspection{d: d}
	in.check(d.quietLocked(), "something is under way")
	in.check(len(d.portals) == 0, "%d portals are left", len(d.portals))
	in.check(len(d.idleWorkers) == 0, "%d workers are left", len(d.idleWorkers))
	in.check(d.places == [placeCount]int{}, "places %v are left", d.places)
	in.check(d.inline == 0, "calls of Do are left")
	in.check(len(d.spareLanes) <= maxSpareLanes, "%d spare lanes", len(d.spareLanes))
	for i := range d.rings {
		in.check(d.rings[i].n == 0 && d.rings[i].head == nil && d.rings[i].tail == nil, "ring %d is not empty", i)
	}
	for c := range classCount {
		in.check(d.cut || d.rooms[c].used == 0, "%d of the room is left", d.rooms[c].used)
	}
	return in.problem
}
