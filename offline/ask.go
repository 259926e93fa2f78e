package offline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

const (
	// maxPages is how many pages of a list one request asks for if the first page was full.
	maxPages = 10
	// reclaimInterval is how often reservations are looked for that nobody works on. It costs no
	// request of its own.
	reclaimInterval = 5 * time.Minute
	// minListWait and maxListWait are between failures of event.offline.list alone.
	minListWait = 2 * time.Second
	maxListWait = 5 * time.Minute
)

// listing is the state of event.offline.list. The portal limits methods one by one, so it may fail
// while others work. Then only what needs it waits.
type listing struct {
	failure *listFailure // nil after a success
}

type listFailure struct {
	next  time.Time // when to call the method again
	waits backoff
	err   error // of the last call
	alarm alarm
}

func (l *listing) reset() { l.failure = nil }

// ready reports whether the method may be called.
func (l *listing) ready(now time.Time) bool { return l.failure == nil || !now.Before(l.failure.next) }

// err returns the error of the last call.
func (l *listing) err() error {
	if l.failure == nil {
		return nil
	}
	return l.failure.err
}

// next returns when the method may be called again; zero for now.
func (l *listing) next() time.Time {
	if l.failure == nil {
		return time.Time{}
	}
	return l.failure.next
}

// listed takes in the error of a list. It returns one that is not the method's alone.
func (e *engine) listed(ctx context.Context, err error) error {
	f := e.lists.failure
	if err == nil {
		if f != nil {
			e.log(ctx, slog.LevelInfo, "offline queue: the portal lists the queue again")
			e.hear(ctx, &f.alarm, StallNoList)
			e.lists.reset()
		}
		return nil
	}
	if codeOf(err) == "" && !errors.Is(err, ErrBadResponse) {
		return err
	}
	if f == nil {
		f = &listFailure{waits: backoff{shortest: minListWait, longest: maxListWait}}
		e.lists.failure = f
		e.log(ctx, slog.LevelWarn, "offline queue: the portal does not list the queue; orphaned and parked records wait, others do not",
			errorAttr(nil, err))
	}
	f.err, f.next = err, time.Now().Add(f.waits.next())
	e.listen(ctx, &f.alarm, StallNoList, e.cfg.noResponse)
	return nil
}

// reclaimer looks for reservations that are in the queue while this engine knows nothing of them: a
// process died with them, or their answer was lost on the way. One page suffices if there are none,
// however long the queue is, because reserved records are sorted to the front.
type reclaimer struct {
	due   bool
	tried bool      // and failed: fresh records no longer wait
	again bool      // a reservation may have been made whose answer is lost
	start int       // the first row of the next page; those before it are known
	pages int       // to ask for
	next  time.Time // when to look again
}

// reading reports whether pages after the first are to be looked at.
func (r *reclaimer) reading() bool { return r.start > 0 || r.pages > 1 }

// moved takes in that n rows went away, so that those behind them move up.
func (r *reclaimer) moved(n int) { r.start = max(0, r.start-n) }

// holdsBack reports whether fresh records wait for a look for orphans, which are older.
func (r *reclaimer) holdsBack(canList bool) bool { return r.due && !r.tried && canList }

// pages are the answers to pages of a list.
type pages struct {
	asked int
	rows  []Record
	total int // of the rows that match
	err   error
}

func (p *pages) full() bool { return len(p.rows) == p.asked*pageSize }

// ask makes one request of everything that is due: it sends acks, looks for orphans, parked records
// and dead letters, and reserves the next records. A second one parks dead letters.
func (e *engine) ask(ctx context.Context, now time.Time) error {
	stuck := e.stuck
	calls, all := e.ackCalls()
	if !all || (stuck && len(calls) > 0) {
		return e.send(ctx, calls)
	}
	var orphans, parked pages
	var parkings []call
	if e.lists.ready(now) {
		if e.mayReclaim(now) {
			e.reclaim.due = true
			calls = append(calls, e.list(ctx, &orphans, max(1, e.reclaim.pages), e.reclaim.start,
				map[string]any{"=ERROR": 0}, map[string]any{"PROCESS_ID": "DESC"})...)
		}
		calls = append(calls, e.letterCalls(ctx, &parkings)...)
		calls = append(calls, e.uncheckedCalls(ctx)...)
		if !now.Before(e.parked.next) && !e.parked.running() {
			e.startParkedPass()
		}
		calls = append(calls, e.parkedCalls(ctx, &parked)...)
		if e.pace.full && e.canBatch(now) && !now.Before(e.measured.Add(measureInterval)) {
			calls = append(calls, e.measurement(ctx))
		}
	}
	takes := e.takes()
	// Parking removes newer rows of the same changes, so nothing is reserved before it is done.
	parks := e.lists.ready(now) && e.ledger.letterCount() > 0
	reserves := func() bool {
		return !takes && e.mayReserve(now) && (e.pace.reserved.IsZero() || e.mustReserve(now))
	}
	if !parks && reserves() {
		calls = append(calls, e.reservation(ctx, now))
	}
	err := e.send(ctx, calls)
	if orphans.asked > 0 { // before the ledger forgets what is parked
		e.reclaimed(ctx, &orphans)
	}
	if parked.asked > 0 {
		e.readParked(ctx, &parked)
	}
	if err == nil && parks && reserves() {
		parkings = append(parkings, e.reservation(ctx, now)) // otherwise letters that keep coming hold it up
	}
	if err == nil && len(parkings) > 0 {
		err = e.send(ctx, parkings)
	}
	if e.reclaim.again {
		e.reclaim = reclaimer{due: true}
	}
	if err == nil && takes && !parks && ctx.Err() == nil {
		err = e.take(ctx, now) // alone: what deletes as it reads must not depend on another call's answer
	}
	return err
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

// list asks for n pages of the queue, from the row with the number start.
func (e *engine) list(ctx context.Context, p *pages, n, start int, filter, order map[string]any) []call {
	p.asked = n
	calls := make([]call, n)
	for i := range calls {
		params := map[string]any{"filter": filter, "order": order}
		if at := start + i*pageSize; at > 0 {
			params["start"] = at
		}
		calls[i] = call{method: methodList, params: params, done: func(doc json.RawMessage, total int, err error) error {
			var page []Record
			if err == nil {
				page, err = readPage(doc)
			}
			p.total = max(total, p.total)
			p.rows = append(p.rows, e.owned(page)...)
			p.err = cmp.Or(p.err, err)
			return e.listed(ctx, err)
		}}
	}
	return calls
}

// reclaimed takes in the front of the queue.
func (e *engine) reclaimed(ctx context.Context, p *pages) {
	if p.err != nil {
		e.reclaim.tried = true
		e.reclaim.pages /= 2 // again with a later request, in case the answer was too large
		return
	}
	e.reclaim.tried = false
	var found []Record
	last := !p.full()
	for _, r := range p.rows {
		switch {
		case r.ProcessID == "":
			last = true
		case !e.ledger.holds(r):
			found = append(found, r)
		}
	}
	if len(found) > 0 {
		sortRecords(found)
		e.meter.count(func(s *Stats) { s.Recovered += counted(len(found)) })
		e.log(ctx, slog.LevelInfo, "offline queue: finishing records that were left reserved", slog.Int(keyRecords, len(found)))
		if tasks := e.tasksOf(ctx, found); ctx.Err() == nil {
			e.add(tasks...) //nolint:contextcheck // items have contexts of their own
		} else {
			e.fresh = append(tasks, e.fresh...)
		}
	}
	switch {
	case last:
		e.reclaim = reclaimer{next: time.Now().Add(reclaimInterval)}
	case len(found) > 0:
		e.reclaim.start, e.reclaim.pages = 0, maxPages // what will be finished is gone from the front
	default:
		e.reclaim.start, e.reclaim.pages = e.reclaim.start+len(p.rows), maxPages
		e.reclaim.next = time.Now().Add(reserveSpacing)
	}
}
