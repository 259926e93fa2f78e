package offline

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

const (
	// firstLimit is what the first reservation asks for, and what lost answers do not shrink
	// reservations below.
	firstLimit = 50
	// keepUp is the time within which handlers should work a reservation off. If they need longer,
	// reservations shrink, so that records do not wait in reservations.
	keepUp = 20 * time.Second
	// reserveSpacing is between two reservations while records are in work. Portals take two requests
	// a second.
	reserveSpacing = 500 * time.Millisecond
	// linger is how long workers may have nothing to start before more is reserved, while others go
	// on.
	linger = time.Second
)

// pacer decides when to reserve records, and how many.
type pacer struct {
	limit    int       // of the next reservation
	most     int       // that it may be
	next     time.Time // when to reserve at the latest
	empty    bool      // the last reservation held nothing
	full     bool      // the last reservation may not have held everything
	grow     bool      // the last reservation came back full
	reserved time.Time // when records came last; zero after the next reservation
	idle     backoff   // between looks at an empty queue
	slack    time.Time // since when workers have nothing to start; zero while they have
}

func newPacer(cfg *config) pacer {
	return pacer{
		limit: min(firstLimit, cfg.batchSize), most: cfg.batchSize,
		idle: backoff{shortest: cfg.minInterval, longest: cfg.maxInterval},
	}
}

// reset makes the next reservation due.
func (p *pacer) reset() {
	p.next, p.empty, p.reserved = time.Time{}, false, time.Time{}
	p.idle.reset()
}

// wake makes the next reservation due: at once when nothing is in work, or else soon, or with the
// acks of what is.
func (p *pacer) wake(now time.Time, idle bool) {
	switch soon := now.Add(p.again()); {
	case idle:
		p.next = time.Time{}
	case p.next.After(soon):
		p.next = soon
	}
	p.empty = false
}

// noteSlack notes whether workers have nothing to start.
func (p *pacer) noteSlack(slack bool, now time.Time) {
	switch {
	case !slack:
		p.slack = time.Time{}
	case p.slack.IsZero():
		p.slack = now
	}
}

// at returns when to reserve while records are in work. Workers that have just become free wait for
// a moment, in case the others are about to finish too: then one request has all their acks.
func (p *pacer) at() time.Time {
	if p.reserved.IsZero() || p.slack.IsZero() {
		return p.next
	}
	if at := p.slack.Add(linger); at.After(p.next) {
		return at
	}
	return p.next
}

// again returns how long after a reservation that was not full the next one comes, while records
// are in work.
func (p *pacer) again() time.Duration { return min(p.idle.shortest, flushInterval) }

// adapt decides how many records to ask for: more while reservations come back full and the workers
// had nothing left to start soon after.
func (p *pacer) adapt(now time.Time) {
	if !p.reserved.IsZero() {
		switch took := now.Sub(p.reserved); {
		case took > keepUp:
			p.shrink()
		case p.grow && took <= keepUp/2:
			p.limit = min(2*p.limit, p.most)
		}
	}
	p.grow, p.reserved = false, time.Time{}
}

// shrink makes reservations smaller, as after an answer that did not arrive: it may have been too
// large, or taken too long.
func (p *pacer) shrink() { p.limit = max(p.limit/2, min(p.most, firstLimit)) }

// came takes in how many records came of those that were asked for.
func (p *pacer) came(n, asked int, now time.Time) {
	p.empty, p.full, p.grow = n == 0, n >= asked, n >= asked
	if p.empty {
		p.next = now.Add(p.idle.next())
		return
	}
	p.reserved = now
	p.next = now.Add(reserveSpacing) // or once the records are finished, so that their acks join
	if !p.full {
		p.next = now.Add(p.again())
	}
	p.idle.reset()
}

// paced takes in the number of records that came.
func (e *engine) paced(ctx context.Context, n, asked int) {
	now := time.Now()
	e.pace.came(n, asked, now)
	if !e.pace.full {
		e.backlog(ctx, 0, time.Time{})
	}
	if e.pace.empty {
		e.listen(ctx, &e.noRecord, StallNoRecord, e.cfg.noRecord)
		return
	}
	e.hear(ctx, &e.noRecord, StallNoRecord)
	e.meter.count(func(s *Stats) { s.LastRecord = now })
}

// reservation is a call that reserves the next records.
func (e *engine) reservation(ctx context.Context, now time.Time) call {
	e.pace.adapt(now)
	asked := e.pace.limit
	params := reading{limit: asked}.params()
	return call{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		var b Batch
		if err == nil {
			b, err = readBatch(params, doc)
		}
		return e.reserved(ctx, b, asked, err)
	}}
}

// reserved takes in the answer to a reservation. A plan that cannot reserve is no error as long as
// anything else is to be done.
func (e *engine) reserved(ctx context.Context, b Batch, asked int, err error) error {
	if errors.Is(err, ErrExtendedModeRequired) {
		return e.cannotReserve(ctx, err)
	}
	if err != nil {
		e.lostAnswer(err)
		return err
	}
	if e.journal != nil {
		e.journal.taking = false
	}
	n := len(b.Records)
	e.meter.count(func(s *Stats) { s.Reserved += counted(n) })
	e.paced(ctx, n, asked)
	e.fresh = append(e.fresh, e.tasksOf(ctx, e.owned(b.Records))...)
	return nil
}

// owned says whose the records are.
func (e *engine) owned(records []Record) []Record {
	for i := range records {
		records[i].MemberID = e.memberID
	}
	return records
}

// cannotReserve goes on with the spool, if there is one; else the engine ends once it has finished
// what was reserved before.
func (e *engine) cannotReserve(ctx context.Context, err error) error {
	if e.journal != nil {
		return e.startTaking(ctx, err)
	}
	e.refused, e.pace.empty = err, false
	return nil
}

// lostAnswer is what an error of a reservation calls for: the portal may have made it.
func (e *engine) lostAnswer(err error) {
	e.pace.empty, e.pace.grow = false, false
	if !surelyNotRun(err) {
		e.reclaim.again = true
		e.pace.shrink()
	}
}

// mustReserve reports whether records are to be reserved.
func (e *engine) mustReserve(now time.Time) bool {
	due := !now.Before(e.pace.at()) || (!e.pace.empty && e.ledger.idle())
	return due && e.mayReserve(now)
}

// mayReserve reports whether records may be reserved. If there are many orphans, these come first.
func (e *engine) mayReserve(now time.Time) bool {
	return e.refused == nil && e.room() && (!e.reclaim.reading() || !e.reclaim.holdsBack(e.lists.ready(now)))
}
