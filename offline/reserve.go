package offline

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

const (
	// firstLimit is how many records the first reservation asks for. Reservations do not shrink below
	// it.
	firstLimit = 50
	// keepUp is how long handlers should need for a reservation at most. If they need longer,
	// reservations shrink, so that records do not wait in reservations.
	keepUp = 20 * time.Second
	// reserveSpacing is between two reservations while records are in work. Portals take two requests
	// a second.
	reserveSpacing = 500 * time.Millisecond
	// linger is how long workers may have nothing to start before more records are reserved, while
	// other workers go on.
	linger = time.Second
)

// reserver decides when to reserve records, and how many.
type reserver struct {
	limit      int       // of the next reservation
	maxLimit   int       // that it may be
	next       time.Time // when to reserve at the latest
	empty      bool      // the last reservation held nothing
	full       bool      // the last reservation may not have held everything
	mayGrow    bool      // the last reservation came back full, so the next one may ask for more
	receivedAt time.Time // when records came last; zero after the next reservation
	emptyWaits backoff   // between looks at an empty queue
	slackSince time.Time // since when workers have nothing to start; zero while they have
	planError  error     // why nothing is reserved: the portal's plan
	stall      stallWatch
}

func newReserver(cfg *config) reserver {
	return reserver{
		limit: min(firstLimit, cfg.batchSize), maxLimit: cfg.batchSize,
		emptyWaits: backoff{shortest: cfg.minInterval, longest: cfg.maxInterval},
	}
}

// reset makes the next reservation due.
func (p *reserver) reset() {
	p.next, p.empty, p.receivedAt, p.planError = time.Time{}, false, time.Time{}, nil
	p.emptyWaits.reset()
}

// wake makes the next reservation due: at once if nothing is in work, and otherwise soon or with
// the next acks.
func (p *reserver) wake(now time.Time, idle bool) {
	switch soon := now.Add(p.shortWait()); {
	case idle:
		p.next = time.Time{}
	case p.next.After(soon):
		p.next = soon
	}
	p.empty = false
}

// noteSlack notes whether workers have nothing to start.
func (p *reserver) noteSlack(slack bool, now time.Time) {
	switch {
	case !slack:
		p.slackSince = time.Time{}
	case p.slackSince.IsZero():
		p.slackSince = now
	}
}

// reserveAt returns when to reserve while records are in work. Workers that have just become free
// wait for a moment, in case the others are about to finish too. Then one request has all their
// acks.
func (p *reserver) reserveAt() time.Time {
	if p.receivedAt.IsZero() || p.slackSince.IsZero() {
		return p.next
	}
	if at := p.slackSince.Add(linger); at.After(p.next) {
		return at
	}
	return p.next
}

// shortWait is how long after a reservation that was not full the next one comes, while records are
// in work.
func (p *reserver) shortWait() time.Duration { return min(p.emptyWaits.shortest, flushInterval) }

// adapt decides how many records to ask for: more if the last reservation came back full and the
// workers soon had nothing left to start.
func (p *reserver) adapt(now time.Time) {
	if !p.receivedAt.IsZero() {
		switch took := now.Sub(p.receivedAt); {
		case took > keepUp:
			p.shrink()
		case p.mayGrow && took <= keepUp/2:
			p.limit = min(2*p.limit, p.maxLimit)
		}
	}
	p.mayGrow, p.receivedAt = false, time.Time{}
}

// shrink makes reservations smaller, for example after a response that did not arrive: it may have
// been too large, or taken too long.
func (p *reserver) shrink() { p.limit = max(p.limit/2, min(p.maxLimit, firstLimit)) }

// received notes how many records a reservation returned of those that it asked for.
func (p *reserver) received(n, asked int, now time.Time) {
	p.empty, p.full, p.mayGrow = n == 0, n >= asked, n >= asked
	if p.empty {
		p.next = now.Add(p.emptyWaits.next())
		return
	}
	p.receivedAt = now
	p.next = now.Add(reserveSpacing) // or once the records are finished, so that their acks join
	if !p.full {
		p.next = now.Add(p.shortWait())
	}
	p.emptyWaits.reset()
}

// recordsReceived notes how many records came of those that were asked for.
func (e *engine) recordsReceived(ctx context.Context, n, asked int) {
	now := time.Now()
	e.reserve.received(n, asked, now)
	if !e.reserve.full {
		e.noteBacklog(ctx, 0, time.Time{})
	}
	if e.reserve.empty {
		e.noteStall(ctx, &e.reserve.stall, StallNoRecord, e.cfg.noRecord)
		return
	}
	e.noteActivity(ctx, &e.reserve.stall, StallNoRecord)
	e.meter.count(func(s *Stats) { s.LastRecord = now })
}

// reserveCall is a call that reserves the next records.
func (e *engine) reserveCall(ctx context.Context, now time.Time) call {
	e.reserve.adapt(now)
	asked := e.reserve.limit
	params := getParams{limit: asked}.params()
	return call{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		var b Batch
		if err == nil {
			b, err = readBatch(params, doc)
		}
		return e.reservationDone(ctx, b, asked, err)
	}}
}

// reservationDone handles the response to a reservation. If the plan cannot reserve, it returns no
// error: the engine first does what else is to be done.
func (e *engine) reservationDone(ctx context.Context, b Batch, asked int, err error) error {
	if errors.Is(err, ErrExtendedModeRequired) {
		return e.cannotReserve(ctx, err)
	}
	if err != nil {
		e.reservationFailed(err)
		return err
	}
	if e.spool != nil {
		e.spool.popping = false
	}
	n := len(b.Records)
	e.meter.count(func(s *Stats) { s.Reserved += counted(n) })
	e.recordsReceived(ctx, n, asked)
	e.fresh = append(e.fresh, e.tasksOf(ctx, e.withMemberID(b.Records))...)
	return nil
}

// withMemberID sets the portal of records.
func (e *engine) withMemberID(records []Record) []Record {
	for i := range records {
		records[i].MemberID = e.memberID
	}
	return records
}

// cannotReserve goes on with the spool if there is one. Otherwise the engine ends once it has
// finished what was reserved before.
func (e *engine) cannotReserve(ctx context.Context, err error) error {
	if e.spool != nil {
		return e.startPopping(ctx, err)
	}
	e.reserve.planError, e.reserve.empty = err, false
	return nil
}

// reservationFailed updates the engine after an error of a reservation, which the portal may have
// made nevertheless.
func (e *engine) reservationFailed(err error) {
	e.reserve.empty, e.reserve.mayGrow = false, false
	if !surelyNotRun(err) {
		e.orphans.responseLost = true
		e.reserve.shrink()
	}
}

// mustReserve reports whether a reservation is due.
func (e *engine) mustReserve(now time.Time) bool {
	due := !now.Before(e.reserve.reserveAt()) || (!e.reserve.empty && e.ledger.idle())
	return due && e.mayReserve(now)
}

// mayReserve reports whether records may be reserved. If there are many orphans, they come first.
func (e *engine) mayReserve(now time.Time) bool {
	return e.reserve.planError == nil && e.hasRoom() && (!e.orphans.pagesLeft() || !e.orphans.holdsBack(e.listing.ready(now)))
}
