package offline

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/timing"
)

// Waits after an error of the portal.
const (
	minErrorWait = time.Second
	maxErrorWait = time.Minute
)

// engine works one queue. Its owner, a Consumer or a Fleet, gives it turns: each is a request or
// two, and never waits for a handler.
//
//	           turn: one request                 workers of the dispatcher
//	        ┌──────────────────────┐
//	portal ─┤ reserve ─▶ fresh ────┼─▶ tasks ─▶ lanes ─▶ handler ─┬─▶ retry: rests in its lane
//	        │ list    ─▶ orphans ──┤                              │
//	        │         ─▶ parked ───┘                              │ finished
//	        │ clear   ◀─ acks ──────┐                             │
//	        │ error   ◀─ to park ───┴──── ledger ◀────────────────┘
//	        └──────────────────────┘
//
// The next turn is due when workers have nothing left to start (slack), when acks have waited for
// five seconds, and when an empty queue is to be asked again. Between turns the engine has no
// goroutine and no timer, so that a process can have very many.
//
// One goroutine at a time may call turn, stop and start. Workers also use the meter, the ledger,
// the work and the atomic fields, which are safe for concurrent use.
type engine struct {
	cfg      *config // shared with other engines
	clientID string  // of the application, for the proof of deliveries
	memberID string
	queue    Queue
	meter    *meter
	onSlack  func() // makes the owner take a turn soon; called by workers

	wakeWanted   atomic.Bool // the next turn is to ask the queue, even if it was found empty
	parkedWanted atomic.Bool // the next turn is to try parked records

	sender     sender
	reserve    reserver
	orphans    orphanSearch
	parked     parkedPasses
	listing    listing
	spool      *spoolState // nil without WithSpool
	measuredAt time.Time   // when the backlog was measured last

	ledger      ledger
	fresh       []*task  // reserved, and held back until orphans are found
	unchecked   []Record // that were parked, and are still to be looked for
	clearFailed bool     // records could not be cleared; before they are, nothing new is reserved

	work work
}

// work is what an engine has in the dispatcher.
type work struct {
	mu         sync.Mutex
	portal     *dispatch.Portal // nil while nothing is in work
	leaseLost  bool
	graceTimer *time.Timer     // ends the contexts of handlers; nil unless the engine stops
	intake     context.Context //nolint:containedctx // of the run: handlers start until it ends, and have its values
}

// newEngine returns an engine that has not started.
func newEngine(cfg *config, call callFunc, clientID, memberID string, onSlack func()) *engine {
	e := &engine{
		cfg:      cfg,
		clientID: clientID,
		memberID: memberID,
		meter:    &meter{call: call},
		onSlack:  onSlack,
		sender:   sender{backoff: backoff{shortest: minErrorWait, longest: maxErrorWait}},
		reserve:  newReserver(cfg),
	}
	if cfg.spoolDir != "" {
		e.spool = new(spoolState)
	}
	e.queue = Queue{call: e.meter.Call, connector: cfg.connector}
	e.ledger.budget = cfg.budget
	return e
}

// start makes the next turn begin as after a start of the process: it looks for orphans and for
// parked records. Acks that a stopped engine could not send are kept. Handlers start until intake
// ends, and their contexts have its values.
func (e *engine) start(intake context.Context) {
	e.orphans = orphanSearch{due: true}
	e.parked.reset()
	e.reserve.reset()
	e.listing.reset()
	e.sender.backoff.reset()
	e.work.begin(intake)
}

// wake makes the next turn ask the queue, even if it was found empty. It may be called at any time.
func (e *engine) wake() { e.wakeWanted.Store(true) }

// turn does the next piece of work for the queue: it sends acks and reserves records, in one
// request, and passes records on to their handlers. It returns how long the owner may wait before
// the next turn, 0 if there is more to do. After an error that may pass, the owner should wait for
// that long. A permanent error has no such time. Turns may come early.
//
// When ctx ends, no more handlers start, and those that run go on. After the last turn, the owner
// calls stop.
func (e *engine) turn(ctx context.Context) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	defer e.stopWhenDone(ctx)()
	err := e.step(ctx)
	switch {
	case permanent(err):
		return 0, err
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		return e.sender.backoff.next(), err
	default:
		return e.untilNextTurn(time.Now()), nil
	}
}

func (e *engine) step(ctx context.Context) error {
	now := time.Now()
	if e.wakeWanted.Swap(false) {
		e.reserve.wake(now, e.ledger.idle())
	}
	if err := e.openSpool(ctx); err != nil {
		return err
	}
	if err := e.replaySpool(ctx); permanent(err) {
		return err
	}
	e.startParkedWhenDue(now)
	e.reserve.noteSlack(e.hasSlack(), now)
	var err error
	if e.mustRequest(now) {
		if err = e.observedRequest(ctx, now); permanent(err) {
			return err
		}
	}
	if ctx.Err() == nil {
		e.advanceParked(ctx) // which are older
		e.addFresh()         //nolint:contextcheck // items have contexts of their own
	}
	if flushed := e.flushSpool(ctx); permanent(flushed) {
		return flushed
	}
	e.closeIdleWork()
	if err == nil && e.reserve.planError != nil && e.holdsNothing() {
		return e.reserve.planError
	}
	return err
}

// addFresh passes fresh records on to their handlers, unless the engine must look for orphans
// first.
func (e *engine) addFresh() {
	if len(e.fresh) == 0 || e.orphans.holdsBack(e.listing.ready(time.Now())) {
		return
	}
	e.addTasks(e.fresh...)
	e.fresh = nil
}

// mustRequest reports whether anything is due that needs a request.
func (e *engine) mustRequest(now time.Time) bool {
	switch {
	case e.ledger.acksDue(now), e.mustList(now):
		return true
	default:
		return e.mustReserve(now)
	}
}

// mustList reports whether a list is due that deserves a request of its own.
func (e *engine) mustList(now time.Time) bool {
	return e.mayReadParked(now) || (e.listing.ready(now) && (e.mustSeekOrphans(now) || e.ledger.parkingDue(now)))
}

// hasRoom reports whether more records may be read: workers have nothing to start, and there is
// memory and, if records go there, room in the spool.
func (e *engine) hasRoom() bool {
	return e.hasHandlerRoom() && e.spoolHasRoom()
}

// hasHandlerRoom reports the same for records that are in the spool already.
func (e *engine) hasHandlerRoom() bool {
	return len(e.fresh) == 0 && e.hasSlack() && e.ledger.hasRoom()
}

// hasSlack reports whether fewer objects wait for a worker than may run.
func (e *engine) hasSlack() bool {
	work := e.currentWork()
	if work == nil {
		return true
	}
	d := work.Depth()
	return d.Ready+d.Running < e.cfg.workers
}

// holdsNothing reports whether the engine holds no record.
func (e *engine) holdsNothing() bool {
	return e.ledger.empty() && len(e.fresh) == 0 && !e.orphans.due && e.spoolIsRead()
}

// drained reports whether the last turn found the queue empty, apart from parked records.
func (e *engine) drained() bool { return e.reserve.empty && e.holdsNothing() && !e.parked.running() }

// busy reports whether the engine has handlers that run, or anything to send.
func (e *engine) busy() bool {
	return !e.ledger.empty() || (e.spool != nil && e.spool.journal != nil)
}

// untilNextTurn returns how long the owner may wait before the next turn.
func (e *engine) untilNextTurn(now time.Time) time.Duration {
	if e.mustRequest(now) || (len(e.fresh) > 0 && !e.orphans.holdsBack(e.listing.ready(now))) {
		return 0
	}
	next := now.Add(e.cfg.maxInterval)
	if e.mayReserve(now) {
		next = e.reserve.reserveAt()
	}
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if !e.ledger.hasRoom() { // other queues may have the memory, and do not say when they give it back
		earlier(now.Add(e.cfg.minInterval))
	}
	earlier(e.ledger.acksDueAt())
	if e.listing.ready(now) {
		earlier(e.ledger.parkingDueAt())
		if e.orphans.due && now.Before(e.orphans.next) {
			earlier(e.orphans.next)
		}
	} else if e.orphans.due || (e.parked.running() && e.parked.mayRead()) || e.ledger.toParkCount() > 0 {
		earlier(e.listing.next())
	}
	if !e.hasRoom() && !e.parked.running() {
		earlier(e.parked.next)
	}
	earlier(e.spoolDueAt())
	return max(0, next.Sub(now))
}

// addTasks passes tasks on to their handlers.
func (e *engine) addTasks(tasks ...*task) {
	if len(tasks) == 0 {
		return
	}
	e.work.mu.Lock()
	if e.work.portal == nil {
		e.work.portal = e.cfg.dispatcher.Open(dispatch.Key{ClientID: e.clientID, MemberID: e.memberID}, dispatch.PortalOptions{
			Front: e, Limit: e.cfg.workers, Misfits: e.reportMisfits, OnSlack: e.onSlack, Intake: e.work.intake,
		})
	}
	work, values := e.work.portal, context.WithoutCancel(e.work.intake)
	e.work.mu.Unlock()
	items := make([]*dispatch.Item, len(tasks))
	for i, t := range tasks {
		items[i] = t.item(cmp.Or(t.values, values))
	}
	work.Add(items...)
}

// currentWork returns the dispatcher's portal, or nil if nothing is in work.
func (e *engine) currentWork() *dispatch.Portal {
	e.work.mu.Lock()
	defer e.work.mu.Unlock()
	return e.work.portal
}

// closeIdleWork closes the dispatcher's portal if nothing is in work.
func (e *engine) closeIdleWork() {
	if !e.ledger.idle() {
		return
	}
	e.work.mu.Lock()
	defer e.work.mu.Unlock()
	if e.work.portal != nil {
		e.work.portal.Close()
		e.work.portal = nil
	}
	e.work.endGraceLocked()
}

// begin begins work after a start of the engine.
func (w *work) begin(intake context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.intake, w.leaseLost = intake, false
	w.endGraceLocked()
}

// endGraceLocked ends the grace period, because no handler runs. w.mu must be held.
func (w *work) endGraceLocked() {
	if w.graceTimer != nil {
		w.graceTimer.Stop()
		w.graceTimer = nil
	}
}

// proof is the proof of the deliveries in the queue.
func (e *engine) proof() event.Proof {
	return event.Proof{By: event.ProofCall, ClientID: e.clientID, MemberID: e.memberID}
}

// backoff yields waits that double from shortest to longest, each less a random part up to a half,
// so that many consumers do not call in step.
type backoff struct {
	shortest, longest time.Duration
	failures          int // in a row
}

func (b *backoff) next() time.Duration {
	b.failures++
	return timing.Backoff{First: b.shortest, Longest: b.longest, Factor: 2}.After(b.failures)
}

func (b *backoff) reset() { b.failures = 0 }
