package offline

import (
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
//	        │ error   ◀─ letters ───┴──── ledger ◀────────────────┘
//	        └──────────────────────┘
//
// The next turn is due when workers have nothing left to start (slack), when acks have waited for
// five seconds, and when an empty queue is to be asked again. Between turns the engine has no
// goroutine and no timer, so that a process can have very many.
//
// One goroutine at a time may call turn, stop and start. The ledger, the meter and what mu guards
// are also used by workers.
type engine struct {
	cfg      *config // shared with other engines
	clientID string  // of the application, for the proof of deliveries
	memberID string
	queue    Queue
	meter    *meter
	onSlack  func() // makes the owner take a turn soon; called by workers
	woken    atomic.Bool
	retry    atomic.Bool // parked records are to be tried now

	pace    pacer
	batches batching
	lists   listing
	reclaim reclaimer
	parked  parkedPasses
	journal *journal // nil without a spool
	ledger  ledger

	failing    backoff  // between failed requests
	refused    error    // why the portal reserves nothing: its plan
	unchecked  []Record // that were parked, and are still to be looked for
	fresh      []*task  // reserved, and held back until orphans are found
	stuck      bool     // records could not be cleared; before they are, nothing new is reserved
	noResponse alarm
	noRecord   alarm
	measured   time.Time // when the backlog was measured last

	mu       sync.Mutex
	work     *dispatch.Portal // nil while nothing is in work
	unleased bool             // the lease is lost
	grace    *time.Timer      // ends the contexts of handlers; nil unless the engine stops
	intake   context.Context  //nolint:containedctx // of the run: handlers start until it ends, and have its values
}

// newEngine returns an engine that has not started.
func newEngine(cfg *config, call callFunc, clientID, memberID string, onSlack func()) *engine {
	e := &engine{
		cfg:      cfg,
		clientID: clientID,
		memberID: memberID,
		meter:    &meter{call: call},
		onSlack:  onSlack,
		failing:  backoff{shortest: minErrorWait, longest: maxErrorWait},
	}
	e.pace = newPacer(cfg)
	if cfg.spoolDir != "" {
		e.journal = new(journal)
	}
	e.queue = Queue{call: e.meter.Call, connector: cfg.connector}
	e.ledger.budget = cfg.budget
	return e
}

// start makes the next turn begin as after a start of the process: with a look for what was
// abandoned and for what is parked. Acks that a stopped engine could not send stay. Handlers start
// until intake ends, and their contexts have its values.
func (e *engine) start(intake context.Context) {
	e.reclaim = reclaimer{due: true}
	e.parked.reset()
	e.pace.reset()
	e.lists.reset()
	e.failing.reset()
	e.refused = nil
	e.mu.Lock()
	defer e.mu.Unlock()
	e.intake, e.unleased = intake, false
	e.ungraceLocked()
}

// wake makes the next turn ask the queue, even if it was found empty. It may be called at any time.
func (e *engine) wake() { e.woken.Store(true) }

// turn does the next piece of work for the queue: it sends acks and reserves records, in one
// request, and passes records on to their handlers. It returns for how long the queue may be left
// alone, 0 if there is more to do. After an error the time is for how long the portal should be; a
// permanent one has none, and waiting does not help. Turns may come early.
//
// When ctx ends, no handler starts any more; those that run go on. After the last turn comes stop.
func (e *engine) turn(ctx context.Context) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	defer e.stopWith(ctx)()
	err := e.step(ctx)
	switch {
	case permanent(err):
		return 0, err
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		return e.failing.next(), err
	default:
		return e.pause(time.Now()), nil
	}
}

func (e *engine) step(ctx context.Context) error {
	now := time.Now()
	if e.woken.Swap(false) {
		e.pace.wake(now, e.ledger.idle())
	}
	if err := e.openJournal(ctx); err != nil {
		return err
	}
	if err := e.replay(ctx); permanent(err) {
		return err
	}
	e.parkedByTheClock(now)
	e.pace.noteSlack(e.hasSlack(), now)
	var err error
	if e.mustAsk(now) {
		if err = e.ask(ctx, now); permanent(err) {
			return err
		}
	}
	if ctx.Err() == nil {
		e.nextParked(ctx) // which are older
		e.release()       //nolint:contextcheck // items have contexts of their own
	}
	if flushed := e.flushJournal(ctx); permanent(flushed) {
		return flushed
	}
	e.rest()
	if err == nil && e.refused != nil && e.settled() {
		return e.refused
	}
	return err
}

// release passes fresh records on, unless orphans are looked for that come first.
func (e *engine) release() {
	if len(e.fresh) == 0 || e.reclaim.holdsBack(e.lists.ready(time.Now())) {
		return
	}
	e.add(e.fresh...)
	e.fresh = nil
}

// mustAsk reports whether there is anything to ask the portal, or to send to it.
func (e *engine) mustAsk(now time.Time) bool {
	switch {
	case e.ledger.due(now), e.mustList(now):
		return true
	default:
		return e.mustReserve(now)
	}
}

// mustList reports whether a list is due that is worth a request of its own.
func (e *engine) mustList(now time.Time) bool {
	return e.parkedReads(now) || (e.lists.ready(now) && (e.mustReclaim(now) || e.ledger.lettersDue(now)))
}

// room reports whether more records may be taken in: workers have nothing to start, and there is
// memory.
func (e *engine) room() bool {
	return e.hasPlace() && e.journalHasRoom()
}

// hasPlace reports the same of records that are in the spool already.
func (e *engine) hasPlace() bool { return len(e.fresh) == 0 && e.hasSlack() && e.ledger.hasRoom() }

// hasSlack reports whether fewer objects wait for a worker than may run.
func (e *engine) hasSlack() bool {
	work := e.portal()
	if work == nil {
		return true
	}
	d := work.Depth()
	return d.Ready+d.Running < e.cfg.workers
}

// settled reports whether the engine holds no record.
func (e *engine) settled() bool {
	return e.ledger.empty() && len(e.fresh) == 0 && !e.reclaim.due && e.journalIsRead()
}

// drained reports whether the queue was empty when the last turn looked, but for parked records.
func (e *engine) drained() bool { return e.pace.empty && e.settled() && !e.parked.running() }

// busy reports whether the engine has handlers that run, or anything to send.
func (e *engine) busy() bool {
	return !e.ledger.empty() || (e.journal != nil && e.journal.spool != nil)
}

// pause returns for how long the queue may be left alone.
func (e *engine) pause(now time.Time) time.Duration {
	if e.mustAsk(now) || (len(e.fresh) > 0 && !e.reclaim.holdsBack(e.lists.ready(now))) {
		return 0
	}
	next := now.Add(e.cfg.maxInterval)
	if e.mayReserve(now) {
		next = e.pace.at()
	}
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if !e.ledger.hasRoom() { // other queues may have the memory, and do not say when they give it back
		earlier(now.Add(e.cfg.minInterval))
	}
	earlier(e.ledger.flushAt())
	if e.lists.ready(now) {
		earlier(e.ledger.lettersAt())
		if e.reclaim.due && now.Before(e.reclaim.next) {
			earlier(e.reclaim.next)
		}
	} else if e.reclaim.due || (e.parked.running() && e.parked.reads()) || e.ledger.letterCount() > 0 {
		earlier(e.lists.next())
	}
	if !e.room() && !e.parked.running() {
		earlier(e.parked.next)
	}
	earlier(e.journalAt())
	return max(0, next.Sub(now))
}

// add passes tasks on to their handlers.
func (e *engine) add(tasks ...*task) {
	if len(tasks) == 0 {
		return
	}
	e.mu.Lock()
	if e.work == nil {
		e.work = e.cfg.dispatcher.Open(dispatch.Key{ClientID: e.clientID, MemberID: e.memberID}, dispatch.PortalOptions{
			Front: e, Limit: e.cfg.workers, Misfits: e.misfits, OnSlack: e.onSlack, Intake: e.intake,
		})
	}
	work, values := e.work, context.WithoutCancel(e.intake)
	e.mu.Unlock()
	items := make([]*dispatch.Item, len(tasks))
	for i, t := range tasks {
		items[i] = t.item(values)
	}
	work.Add(items...)
}

// portal returns what is in work, nil for nothing.
func (e *engine) portal() *dispatch.Portal {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.work
}

// rest lets go of the dispatcher's portal when nothing is in work.
func (e *engine) rest() {
	if !e.ledger.idle() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.work != nil {
		e.work.Close()
		e.work = nil
	}
	e.ungraceLocked()
}

// ungraceLocked ends the grace period, because no handler runs. e.mu is held.
func (e *engine) ungraceLocked() {
	if e.grace != nil {
		e.grace.Stop()
		e.grace = nil
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
