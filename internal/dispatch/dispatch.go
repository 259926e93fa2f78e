package dispatch

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

const (
	// ErrFull means that there was no room in time.
	ErrFull Error = "dispatch: no room in time"
	// ErrClosed means that Shutdown was called.
	ErrClosed Error = "dispatch: shutting down"
	// ErrGoexit is the error of an attempt that ended its goroutine.
	ErrGoexit Error = "the handler ended its goroutine with runtime.Goexit"
)

const (
	// SlowAfter is how long an item runs before it makes its portal slow.
	SlowAfter = 5 * time.Second
	// SlowFor is how long a portal stays slow after the last such item ended, at least.
	SlowFor = 30 * time.Second
)

// PostponedError is what [Front.Handle] returns if it did not begin an attempt. The dispatcher
// handles the item again after that time, and neither counts nor reports an attempt or a retry.
type PostponedError time.Duration

// Error says that no attempt was made, and how long the item waits.
func (p PostponedError) Error() string { return "dispatch: postponed by " + time.Duration(p).String() }

// Front handles items and accounts for them. Its methods are called without locks, by several
// goroutines at a time. They should be quick, because they hold up the item's lane and its worker.
type Front interface {
	// Handle makes one attempt. A panic becomes the error of the attempt. Handle may return
	// [PostponedError].
	Handle(ctx context.Context, it *Item) error
	// Retrying reports an attempt that failed and is repeated after wait, unless something ends
	// the item first. The next attempt begins after Retrying returned.
	Retrying(it *Item, err error, wait time.Duration)
	// Finished gives the item back, once for each item. err is the error of the last attempt, or why
	// there was none. An item with OutcomeMerged lives on in another one. The item must not be used
	// again.
	Finished(it *Item, o Outcome, err error)
}

// Config configures a [Dispatcher]. All fields must be set, unless their comment allows zero. The
// package documentation says which portals are slow or busy.
type Config struct {
	// Workers is how many items run at a time, besides urgent ones and those of Overflow.
	Workers int
	// Limit is how many items of one portal run at a time. Open can set another limit. It is also
	// the length of a turn of a busy or a slow portal.
	Limit int
	// SlowShare is how many of Workers all slow portals together have. If it is Workers, no portal
	// is slow or busy.
	SlowShare int
	// Overflow bounds the items of slow portals. An item that has run for SlowAfter counts as one of
	// a slow portal, and no longer as one of the others, while there are fewer than Overflow. 0
	// means Workers.
	Overflow int
	// Urgent is how many urgent items run at a time, besides as many that have run for SlowAfter.
	Urgent int

	Size       int64 // room for items; 0 for no bound
	UrgentSize int64 // room for urgent items

	Front       Front                // of the portals that Enqueue makes
	Misfits     event.MisfitReporter // for those portals; nil for none
	Timeout     time.Duration
	TimedOut    error // cause of a context that ends with Timeout
	Closed      error // cause of contexts that Shutdown ends
	MaxAttempts int
	Backoff     func(attempts int) time.Duration // wait after a number of failed attempts
	MaxWait     time.Duration                    // that a handler may ask for; 0 for no bound
	Grace       time.Duration                    // of Shutdown, for handlers to return after their contexts ended

	// Removed is called if the removal of an application dropped waiting items, with their number,
	// before the front gets them. It may be nil.
	Removed func(key Key, dropped int)

	Logger *slog.Logger // for panics of the front's own code
}

// Dispatcher runs items. Make one with [New]. It has no goroutines while there is nothing to run.
type Dispatcher struct {
	cfg    Config
	life   context.Context //nolint:containedctx // ends when Shutdown stops waiting; parent of the handlers' contexts
	end    context.CancelCauseFunc
	counts counts
	remove event.RemovalReporter

	mu          sync.Mutex
	portals     map[Key]*Portal // those that Enqueue made
	rings       [ringCount]ring
	rooms       [classCount]room
	places      [placeCount]int // running items
	busyBegan   bool            // the last item that began in placeOrdinary or placeBusy was a busy one
	running     list[Item]      // those first that began first
	queued      int             // items that are admitted and do not run
	finishing   int             // items on their way back to the front
	inline      int             // running items of Do
	spareLanes  []*lane
	idleWorkers []*worker
	dismissed   bool        // workers end instead of becoming idle
	reaper      *time.Timer // ends idle workers
	reaping     bool        // reaper is set
	watcher     *time.Timer // looks for overdue items
	watching    bool        // watcher is set

	closing    bool          // Shutdown was called
	cut        bool          // Shutdown stopped waiting
	cutItems   int           // items that it cut
	cutWaiting int           // of these, those that did not run
	cutCause   error         // why
	cutDone    chan struct{} // closed when the cut is over
	quiet      chan struct{} // closed when nothing is under way; nil unless somebody waits
}

// counts are the live numbers behind [Counts].
type counts struct {
	accepted, retried atomic.Uint64
	outcomes          [outcomeCount]atomic.Uint64
}

// Counts are totals since the dispatcher was made. When nothing is under way, Accepted is the sum
// of Outcomes.
type Counts struct {
	Accepted uint64               // items that were admitted
	Retried  uint64               // failed attempts that were followed, or will be, by another one
	Outcomes [outcomeCount]uint64 // by Outcome
}

// Depth is what is under way.
type Depth struct {
	Queued  int // items that wait for a worker or for their next attempt
	Running int
	Stuck   int // of these, those that go on long after their contexts have ended
}

// New returns a dispatcher.
func New(cfg Config) *Dispatcher {
	d := &Dispatcher{cfg: cfg, portals: make(map[Key]*Portal), cutDone: make(chan struct{})}
	d.cfg.Overflow = cmp.Or(cfg.Overflow, cfg.Workers)
	d.life, d.end = context.WithCancelCause(context.Background())
	d.remove = d.removed
	for i := range d.rings {
		d.rings[i].id = ringID(i)
	}
	d.rooms[classOrdinary] = room{size: cfg.Size, line: ringRoom}
	d.rooms[classUrgent] = room{size: cfg.UrgentSize, line: ringUrgentRoom}
	return d
}

// Counts returns what happened so far.
func (d *Dispatcher) Counts() Counts {
	c := Counts{Accepted: d.counts.accepted.Load(), Retried: d.counts.retried.Load()}
	for i := range c.Outcomes {
		c.Outcomes[i] = d.counts.outcomes[i].Load()
	}
	return c
}

// Depth returns what is under way: items that wait for a worker or for their next attempt, and
// those that run.
func (d *Dispatcher) Depth() Depth {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Depth{Queued: d.queued, Running: d.running.n, Stuck: d.places[placeStuck]}
}

// Closed reports whether Shutdown was called.
func (d *Dispatcher) Closed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closing
}

// Enqueue takes an item of the portal key, which the dispatcher makes if there is none. If there is
// no room within patience, it returns [ErrFull]. After Shutdown it returns [ErrClosed]. In both
// cases the item is the caller's again.
func (d *Dispatcher) Enqueue(key Key, it *Item, patience time.Duration) error {
	d.mu.Lock()
	if d.closing {
		d.mu.Unlock()
		return ErrClosed
	}
	d.dismissed = false
	p := d.portalLocked(key)
	it.Cost = min(it.Cost, d.rooms[it.class()].size)
	it.portal, it.refusal = p, refusalNone
	it.noteFired()
	l := d.laneOfLocked(p, it)
	if merged := d.mergeLocked(l, it); merged != nil {
		d.counts.accepted.Add(1)
		d.counts.outcomes[OutcomeMerged].Add(1)
		d.finishing++
		p.finishing++
		d.pumpLocked() // the item that stays may need less room
		d.mu.Unlock()
		d.finish(merged, OutcomeMerged, nil)
		return nil
	}
	l.push(it)
	r := &d.rooms[it.class()]
	if !r.reserved && p.admissions[it.class()].first() == nil && d.takeRoomLocked(it, it.Cost) {
		d.admittedLocked(it)
		d.pumpLocked()
		d.mu.Unlock()
		return nil
	}
	it.admitting = true
	if patience <= 0 {
		d.refuseLocked(it, refusalNone)
		d.mu.Unlock()
		return ErrFull
	}
	it.admitted = make(chan struct{})
	p.admissions[it.class()].push(&it.inQueue, it)
	d.rings[r.line].push(p)
	r.reserved = r.reserved || (p.admissions[it.class()].first() == it && d.comesFirstLocked(it))
	d.mu.Unlock()
	return d.waitForRoom(it, patience)
}

// waitForRoom waits until an item is admitted or refused.
func (d *Dispatcher) waitForRoom(it *Item, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-it.admitted:
		return it.refusal.err()
	case <-timer.C:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if it.admitting {
		d.leaveLineLocked(it)
		d.refuseLocked(it, refusalFull)
		d.admitLocked(it.class()) // items behind it may need less
		d.pumpLocked()
	}
	return it.refusal.err()
}

// refuseLocked takes an item that was not admitted out of its lane. d.mu is held.
func (d *Dispatcher) refuseLocked(it *Item, why refusal) {
	it.admitting, it.refusal = false, why
	l := it.lane
	first := l.first() == it
	l.items.remove(&it.inLane)
	it.lane = nil
	if first && l.state == laneIdle {
		d.advanceLocked(l)
	}
}

// admittedLocked counts an item that was admitted, and readies its lane if the item is the first.
// d.mu is held.
func (d *Dispatcher) admittedLocked(it *Item) {
	d.counts.accepted.Add(1)
	d.queued++
	it.portal.queued++
	if it.admitting {
		it.admitting = false
		close(it.admitted)
	}
	if l := it.lane; l.state == laneIdle && l.first() == it {
		d.readyLocked(l)
	}
	d.absorbLocked(it)
}

// Do runs an item at once, in the goroutine of the caller. The item is in no lane, needs no room,
// and has one attempt. Do returns what became of it, or [ErrClosed].
func (d *Dispatcher) Do(key Key, it *Item) (Outcome, error) {
	d.mu.Lock()
	if d.closing {
		d.mu.Unlock()
		return OutcomeCut, ErrClosed
	}
	d.counts.accepted.Add(1)
	it.portal = d.portalLocked(key)
	it.MaxAttempts, it.Attempts = 1, 1
	it.noteFired()
	it.Began, it.place = time.Now(), placeInline
	it.portal.inline++
	d.inline++
	d.running.push(&it.inQueue, it)
	d.mu.Unlock()
	r := d.serve(nil, it)
	return r.outcome, r.err
}

// Idle waits until nothing is under way, retries included. If ctx ends first, it returns the cause
// of that.
func (d *Dispatcher) Idle(ctx context.Context) error {
	d.mu.Lock()
	quiet := d.quietSignalLocked()
	d.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// quietLocked reports whether nothing is under way. d.mu is held.
func (d *Dispatcher) quietLocked() bool { return d.queued+d.running.n+d.finishing == 0 }

// announceQuietLocked announces that nothing is under way, if so. d.mu is held.
func (d *Dispatcher) announceQuietLocked() {
	if !d.quietLocked() {
		return
	}
	if d.quiet != nil {
		close(d.quiet)
		d.quiet = nil
	}
	if d.closing {
		d.dismissLocked(true)
	}
}
