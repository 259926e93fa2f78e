package offline

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// firstLimit is what the first reservation asks for, and what lost answers do not shrink reservations below.
	firstLimit = 50
	// keepUp is the time within which handlers should work a reservation off. Where they need longer, reservations shrink, so that
	// records do not wait in reservations.
	keepUp = 20 * time.Second
	// maxWaiting is how many records may wait for another attempt before nothing more is reserved.
	maxWaiting = 1000
	// sweepInterval is how often reservations are looked for that no one works on. It costs no request of its own.
	sweepInterval = 5 * time.Minute
)

// Waits after an error of the portal.
const (
	minErrorWait = time.Second
	maxErrorWait = time.Minute
)

// engine works one queue in turns. It has no goroutine and no timer between them, so that a process can have very many. One goroutine at a
// time may use it, except for wake and the meter.
type engine struct {
	cfg      *config // shared with other engines
	clientID string  // of the application, for the proof of deliveries
	memberID string
	queue    Queue
	meter    *meter
	woken    atomic.Bool
	gate     gate            // nil where only cfg bounds the handlers
	unleased <-chan struct{} // closed when a consumer's lease is lost, also while it stops; nil where there is none

	limit    int           // of the next reservation
	lastWork time.Duration // the longest that handling records took since the last reservation
	grow     bool          // the last reservation came back full
	idle     backoff       // between looks at an empty queue
	failing  backoff       // between failed requests
	batchAt  time.Time     // when batches may be tried again

	batchFailures int // in a row

	refused error     // why the portal reserves nothing: its plan
	nextGet time.Time // when to reserve at the latest
	empty   bool      // the last reservation held nothing
	full    bool      // the last reservation may not have held everything
	stuck   bool      // records could not be cleared; before they are, nothing new is reserved

	noAnswer, noRecord alarm
	measureAt          time.Time // when to measure the backlog again

	sweep  sweep
	again  bool // a reservation may have been made whose answer is lost: look again
	parked parkedPass

	spool  spooling
	opened bool // the spool was looked for

	waiting []task // to be handled, in order
	behind  bool   // some of them could be handled now, and the time of the turn was over
	fresh   []task // reserved, and held back until what was abandoned is found
	owed    []*settlement
	nobody  map[rowKey]bool // rows that nothing can name to the portal; nil until there is one
}

// newEngine returns an engine that has not started.
func newEngine(cfg *config, call callFunc, clientID, memberID string) *engine {
	e := &engine{
		cfg:      cfg,
		clientID: clientID,
		memberID: memberID,
		meter:    &meter{call: call},
		limit:    min(firstLimit, cfg.batchSize),
		idle:     backoff{shortest: cfg.minInterval, longest: cfg.maxInterval},
		failing:  backoff{shortest: minErrorWait, longest: maxErrorWait},
	}
	e.queue = Queue{call: e.meter.Call, connector: cfg.connector}
	e.start()
	return e
}

// start makes the next turn begin as after a start of the process: with a look for what was abandoned and for what is parked. What a
// stopped engine owes the portal it remembers.
func (e *engine) start() {
	e.sweep = sweep{due: true}
	e.parked = parkedPass{}
	e.refused, e.nextGet, e.empty, e.opened, e.behind = nil, time.Time{}, false, false, false
	e.idle.reset()
	e.failing.reset()
}

// wake makes the next turn ask the queue, however long it may be left alone. It may be called at any time.
func (e *engine) wake() { e.woken.Store(true) }

// turn does the next piece of work: it tells the portal what was finished and reserves the next records, in one request, and tries each
// record once that is due. It returns for how long the queue may be left alone, 0 where there is more to do. After an error the time is
// for how long the portal should be; a permanent one has none, and waiting does not mend it. Turns may come early.
//
// When ctx ends, turn starts no handler, lets those that run finish within the grace period, and returns the error of ctx. After the last turn
// comes stop.
func (e *engine) turn(ctx context.Context) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
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
		e.nextGet = time.Time{}
	}
	if err := e.prepare(ctx); err != nil {
		return err
	}
	var err error
	if e.mustAsk(now) {
		if err = e.ask(ctx, now); permanent(err) {
			return err
		}
	}
	if !e.sweep.due && len(e.fresh) > 0 { // what was abandoned comes first
		e.waiting = append(e.waiting, e.fresh...)
		e.fresh = nil
	}
	if tasks := e.due(time.Now()); len(tasks) > 0 && ctx.Err() == nil {
		failure := e.workOff(ctx, tasks)
		if spoiled := e.flushSpool(); err == nil {
			err = spoiled
		}
		if failure != nil {
			return failure
		}
	}
	if err == nil && e.refused != nil && e.settled() {
		return e.refused
	}
	return err
}

// prepare does what comes before the portal is asked for anything new.
func (e *engine) prepare(ctx context.Context) error {
	if !e.opened {
		if err := e.useSpool(ctx, false); err != nil {
			return err
		}
		e.opened = true
	}
	if err := e.save(ctx); err != nil {
		return err
	}
	if err := e.park(ctx); err != nil {
		return err
	}
	return e.unspool(ctx)
}

// mustAsk reports whether there is anything to ask the portal, or to tell it.
func (e *engine) mustAsk(now time.Time) bool {
	return len(e.owed) > 0 || (e.space() && e.sweep.due) || (e.room() && (e.parked.running || e.refused == nil && !now.Before(e.nextGet)))
}

// space reports whether more records may be taken in that were left reserved. Those that wait for another attempt hold nothing up
// until there are very many.
func (e *engine) space() bool { return !e.behind && len(e.waiting) < max(e.limit, maxWaiting) }

// room reports whether other records may be taken in.
func (e *engine) room() bool { return len(e.fresh) == 0 && e.space() && e.hasPlace() }

// settled reports whether the engine holds no record.
func (e *engine) settled() bool {
	return len(e.waiting) == 0 && len(e.fresh) == 0 && len(e.owed) == 0 && !e.sweep.due && e.idleSpool()
}

// drained reports whether the queue was empty when the last turn looked, but for parked records.
func (e *engine) drained() bool { return e.empty && e.settled() && !e.parked.running }

// pause returns for how long the queue may be left alone.
func (e *engine) pause(now time.Time) time.Duration {
	if e.mustAsk(now) || (e.space() && !e.idleSpool()) {
		return 0
	}
	next := now.Add(e.cfg.maxInterval)
	if e.room() && e.refused == nil {
		next = e.nextGet
	}
	for _, t := range e.waiting {
		if t.due.Before(next) {
			next = t.due
		}
	}
	return max(0, next.Sub(now))
}

// stop settles what was finished, for which it takes ten seconds at most after ctx has ended, and forgets the rest, which stays reserved for
// the next start. A turn may come after it, once start was called.
func (e *engine) stop(ctx context.Context) error {
	err := e.settleLast(ctx)
	left := len(e.waiting) + len(e.fresh)
	for _, s := range e.owed {
		left += len(s.clear) + len(s.park)
	}
	e.left(ctx, left)
	lost := e.closeSpool(ctx)
	e.waiting, e.fresh = nil, nil
	if lost != nil {
		return lost
	}
	return err
}
