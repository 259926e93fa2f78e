package offline

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
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
	memberID string
	queue    Queue
	meter    *meter
	woken    atomic.Bool
	gate     gate // nil where only cfg bounds the handlers

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

// task is a record that is to be handled.
type task struct {
	Record

	attempts int
	due      time.Time // of the next attempt; zero for at once
}

// rowKey names a record in a reservation.
type rowKey struct {
	processID, messageID string
	id                   int64
}

func (r Record) key() rowKey { return rowKey{r.ProcessID, r.MessageID, r.ID} }

// newEngine returns an engine that has not started.
func newEngine(cfg *config, call callFunc, memberID string) *engine {
	e := &engine{
		cfg:      cfg,
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

// due takes out of the waiting records those that can be handled now. A record whose object waits for another attempt of an
// earlier one waits with it.
func (e *engine) due(now time.Time) []task {
	var ready, later []task
	var blocked map[event.Entity]time.Time
	for _, t := range e.waiting {
		object := t.Delivery.Entity()
		named := object != event.Entity{}
		if named && blocked[object].After(t.due) {
			t.due = blocked[object]
		}
		if !t.due.After(now) {
			ready = append(ready, t)
			continue
		}
		later = append(later, t)
		if named {
			if blocked == nil {
				blocked = make(map[event.Entity]time.Time)
			}
			blocked[object] = t.due
		}
	}
	e.waiting = later
	return ready
}

// stop settles what was finished, for which it takes ten seconds at most after ctx has ended, and forgets the rest, which stays reserved for
// the next start. A turn may come after it, once start was called.
func (e *engine) stop(ctx context.Context) error {
	err := e.settleLast(ctx)
	left := len(e.waiting) + len(e.fresh)
	for _, s := range e.owed {
		left += len(s.clear) + len(s.park)
	}
	if left > 0 {
		e.left(ctx, left)
	}
	lost := e.closeSpool(ctx)
	e.waiting, e.fresh = nil, nil
	if lost != nil {
		return lost
	}
	return err
}

// take makes tasks of records, but for those that need no handler.
func (e *engine) take(ctx context.Context, records []Record) []task {
	tasks := make([]task, 0, len(records))
	for _, r := range records {
		switch {
		case r.Err != nil:
			e.giveUp(ctx, r, 0, r.Err)
			e.conclude(r, lost)
		case e.cfg.ignored[r.Delivery.Auth.UserID]:
			e.meter.count(func(s *Stats) { s.Ignored++ })
			e.conclude(r, done)
		default:
			r.Delivery.Auth.MemberID = e.memberID
			tasks = append(tasks, task{Record: r})
		}
	}
	return tasks
}

// reserved takes in the answer to a reservation. A plan that cannot reserve is no error as long as anything else is to be done.
func (e *engine) reserved(ctx context.Context, b Batch, asked int, err error) error {
	if errors.Is(err, ErrExtendedModeRequired) {
		return e.cannotReserve(ctx, err)
	}
	if err != nil {
		e.lost(err)
		return err
	}
	e.spool.taking = false
	n := len(b.Records)
	e.meter.count(func(s *Stats) { s.Reserved += int64(n) })
	e.pace(ctx, n, asked)
	e.fresh = append(e.fresh, e.take(ctx, b.Records)...)
	return nil
}

// cannotReserve goes on by the spool, where there is one; else the engine ends once it has finished what was reserved before.
func (e *engine) cannotReserve(ctx context.Context, err error) error {
	if e.cfg.spoolDir != "" {
		return e.startTaking(ctx, err)
	}
	e.refused, e.empty = err, false
	return nil
}

// pace decides by the number of records that came when to ask for more, and for how many.
func (e *engine) pace(ctx context.Context, n, asked int) {
	e.empty, e.full = n == 0, n >= asked
	if !e.full {
		e.measured(ctx, 0, time.Time{})
	}
	if e.empty {
		e.listen(ctx, &e.noRecord, NoRecord, e.cfg.noRecord)
		e.nextGet = time.Now().Add(e.idle.next())
		return
	}
	e.hear(ctx, &e.noRecord, NoRecord)
	e.meter.count(func(s *Stats) { s.LastRecord = time.Now() })
	e.nextGet = time.Time{}
	e.idle.reset()
	e.grow = e.full
}

// lost is what an error of a reservation calls for: the portal may have made it, and the answer may have been too large, or taken too long.
func (e *engine) lost(err error) {
	e.empty, e.grow = false, false
	if !surelyNotRun(err) {
		e.again = true
		e.shrink()
	}
}

// adapt decides how many records to ask for: more while reservations come back full and the handlers would keep up with more.
func (e *engine) adapt() {
	switch {
	case e.lastWork > keepUp:
		e.shrink()
	case e.grow && e.lastWork <= keepUp/2:
		e.limit = min(2*e.limit, e.cfg.batchSize)
	}
	e.grow, e.lastWork = false, 0
}

func (e *engine) shrink() { e.limit = max(e.limit/2, min(e.cfg.batchSize, firstLimit)) }
