package dispatch

import (
	"context"
	"time"

	"github.com/b24events/b24events/event"
)

// Portal is the items of one portal. The lock of the dispatcher guards it.
type Portal struct {
	d     *Dispatcher
	key   Key
	opts  PortalOptions
	owned bool            // Open made it; otherwise it is dropped when it is empty
	life  context.Context //nolint:containedctx // the parent of the handlers' contexts
	end   context.CancelCauseFunc

	lanes       map[event.Entity]*lane
	all         list[lane] // every lane, those without a key included
	ready       list[lane] // in the order in which they became ready
	urgent      *lane      // nil while it is empty
	running     int        // of the lanes, urgent ones not counted
	urgents     int        // urgent items that run
	inline      int        // items of Do that run
	queued      int        // admitted, and not running
	resting     int        // of these, those whose lane rests for them
	finishing   int
	held        [classCount]int64
	admissions  [classCount]list[Item] // those that wait for room
	slow        bool
	slowAt      time.Time // when the last overdue item ended
	turnItems   int       // items that began in its turn, while that goes on
	overdue     int       // running items
	stopped     bool
	slackCalled bool // OnSlack was called since the last Add
	done        []chan struct{}
	links       [ringCount]link[Portal]
}

// PortalOptions are what [Dispatcher.Open] needs to know.
type PortalOptions struct {
	Front   Front
	Limit   int                  // items that run at a time
	Misfits event.MisfitReporter // nil for none
	// Removal is what handlers find in their context to report that the portal removed the
	// application. It may be nil.
	Removal event.RemovalReporter
	// Intake ends when no further item may start. The owner calls Stop then. It may be nil.
	Intake context.Context //nolint:containedctx // it bounds the portal's work
	// OnSlack is called when fewer items are ready or running than may run at a time, once after each
	// Add, and whenever the portal has nothing left. It is called without locks and should be quick.
	OnSlack func()
}

// Open returns a portal that only its owner adds to. The owner closes it.
func (d *Dispatcher) Open(key Key, o PortalOptions) *Portal {
	p := &Portal{d: d, key: key, opts: o, owned: true}
	p.life, p.end = context.WithCancelCause(d.life)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rings[ringOpen].push(p)
	return p
}

// portalLocked returns the portal of a key, a new one if there is none. d.mu is held.
func (d *Dispatcher) portalLocked(key Key) *Portal {
	p := d.portals[key]
	if p == nil {
		opts := PortalOptions{Front: d.cfg.Front, Limit: d.cfg.Limit, Misfits: d.cfg.Misfits, Removal: d.remove}
		p = &Portal{d: d, key: key, opts: opts, life: d.life}
		d.portals[key] = p
	}
	return p
}

// dropLocked forgets a portal of Enqueue that has nothing left. d.mu is held.
func (d *Dispatcher) dropLocked(p *Portal) {
	if !p.owned && p.emptyLocked() {
		delete(d.portals, p.key)
	}
}

// emptyLocked reports whether nothing belongs to the portal, not even an item on its way to the
// front. A portal that is not empty must stay, or there would be two portals of a key, and two
// lanes of an object. d.mu is held.
func (p *Portal) emptyLocked() bool {
	return p.all.n == 0 && p.running+p.urgents+p.inline+p.finishing == 0
}

// Add takes items, which need no room. If the portal was stopped, they are finished with
// OutcomeCut.
func (p *Portal) Add(items ...*Item) {
	d := p.d
	d.mu.Lock()
	var merged, cut []*Item
	p.slackCalled, d.dismissed = false, false
	for _, it := range items {
		d.counts.accepted.Add(1)
		it.portal = p
		it.noteFired()
		if p.stopped || d.cut {
			cut = append(cut, it)
			continue
		}
		l := d.laneOfLocked(p, it)
		if ended := d.mergeLocked(l, it); ended != nil {
			merged = append(merged, ended)
			continue
		}
		l.push(it)
		d.queued++
		p.queued++
		if l.state == laneIdle && l.first() == it {
			d.readyLocked(l)
		}
	}
	d.finishing += len(merged) + len(cut)
	p.finishing += len(merged) + len(cut)
	d.pumpLocked()
	d.mu.Unlock()
	d.finishAll(merged, OutcomeMerged, nil)
	d.finishAll(cut, OutcomeCut, ErrClosed)
}

// PortalDepth is what a portal has under way.
type PortalDepth struct {
	Ready   int // lanes whose first item waits for a worker
	Running int
	Resting int // items that wait for their next attempt
	Queued  int // all items that do not run
}

// Depth returns what the portal has under way.
func (p *Portal) Depth() PortalDepth {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return PortalDepth{
		Ready: p.ready.n, Running: p.running + p.urgents + p.inline, Resting: p.resting, Queued: p.queued,
	}
}

// Stop finishes what waits with OutcomeCut, for which Finished gets err, and starts nothing more.
// What runs goes on. If it fails, its outcome is OutcomeCut too.
func (p *Portal) Stop(err error) {
	d := p.d
	d.mu.Lock()
	p.stopped = true
	waiting := d.clearLocked(p)
	d.mu.Unlock()
	d.finishAll(waiting, OutcomeCut, err)
}

// Cancel ends the contexts of what runs, with a cause.
func (p *Portal) Cancel(cause error) { p.end(cause) }

// Done returns a channel that is closed once nothing of the portal runs and the front has
// everything back. Call it after Stop.
func (p *Portal) Done() <-chan struct{} {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	done := make(chan struct{})
	if p.nothingRunsLocked() {
		close(done)
		return done
	}
	p.done = append(p.done, done)
	return done
}

// Close removes a portal of which nothing runs.
func (p *Portal) Close() {
	p.end(nil)
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.rings[ringOpen].remove(p)
}

// nothingRunsLocked reports whether nothing runs, and nothing is on its way to the front. d.mu is
// held.
func (p *Portal) nothingRunsLocked() bool { return p.running+p.urgents+p.inline+p.finishing == 0 }

// slackLocked reports whether to call OnSlack. It also closes the channels of Done, if nothing
// runs. d.mu is held.
func (p *Portal) slackLocked() bool {
	nothingRuns := p.nothingRunsLocked()
	if nothingRuns {
		for _, done := range p.done {
			close(done)
		}
		p.done = nil
	}
	if p.opts.OnSlack == nil || p.stopped || p.d.cut {
		return false
	}
	if nothingRuns && p.queued == 0 {
		p.slackCalled = true
		return true
	}
	if p.slackCalled || p.ready.n+p.running >= p.opts.Limit {
		return false
	}
	p.slackCalled = true
	return true
}

// laneOfLocked returns the lane of an item, a new one if there is none. d.mu is held.
func (d *Dispatcher) laneOfLocked(p *Portal, it *Item) *lane {
	switch {
	case it.Urgent:
		if p.urgent == nil {
			p.urgent = d.newLaneLocked(p)
			p.urgent.urgent = true
		}
		return p.urgent
	case it.Lane == event.Entity{}:
		return d.newLaneLocked(p)
	}
	l := p.lanes[it.Lane]
	if l == nil {
		l = d.newLaneLocked(p)
		l.key = it.Lane
		if p.lanes == nil {
			p.lanes = make(map[event.Entity]*lane)
		}
		p.lanes[it.Lane] = l
	}
	return l
}

// maxSpareLanes bounds the lanes that are kept for later use.
const maxSpareLanes = 1024

// newLaneLocked returns a lane of the portal. d.mu is held.
func (d *Dispatcher) newLaneLocked(p *Portal) *lane {
	var l *lane
	if last := len(d.spareLanes) - 1; last >= 0 {
		l = d.spareLanes[last]
		d.spareLanes = d.spareLanes[:last]
	} else {
		l = new(lane)
	}
	l.portal = p
	p.all.pushFront(&l.inPortal, l)
	return l
}

// dropLaneLocked forgets a lane that is empty. d.mu is held.
func (d *Dispatcher) dropLaneLocked(l *lane) {
	p := l.portal
	p.all.remove(&l.inPortal)
	switch {
	case l.urgent:
		p.urgent = nil
	case l.key != event.Entity{}:
		delete(p.lanes, l.key)
	}
	*l = lane{}
	if len(d.spareLanes) < maxSpareLanes {
		d.spareLanes = append(d.spareLanes, l)
	}
}
