package offline

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/b24events/b24events/offline/internal/spool"
)

// parkedPass is a pass over the parked records. It tries each change once, however many rows the
// portal has of it. It reads the rows that an earlier pass has reserved, a window at a time, and
// reserves the others at its end. The rows of one change share a message ID. The newest row is
// tried and stands for all. When it succeeds, all are cleared. When it fails, all but the newest
// are cleared.
//
//	portal ──list──▶ window ─▶ groups ─▶ queue ──a few at a time──▶ dispatcher
//
// Only a share of the workers tries parked records, so that those that hang delay no others.
type parkedPass struct {
	stage   parkedStage
	afterID int64 // the last ID seen
	pages   int   // to ask for
	free    bool  // there are rows that no pass has reserved yet
	spool   *spool.Pass

	mu         sync.Mutex
	queue      []*task           // of the window, to be tried
	inWork     int               // being tried
	failedRows map[string]Record // by message ID: what failed in this pass and stays parked
}

// parkedPasses is the pass that is under way, if any, and the time of the next.
type parkedPasses struct {
	next time.Time
	*parkedPass
}

type parkedStage uint8

const (
	parkedList parkedStage = iota // lists the rows that an earlier pass has reserved
	parkedFree                    // reserves the others
	parkedLast                    // has read everything, and tries the last window
)

// reset makes a pass due.
func (p *parkedPasses) reset() { *p = parkedPasses{} }

// mayReadParked reports whether the pass may read rows now.
func (e *engine) mayReadParked(now time.Time) bool {
	if !e.parked.running() || !e.parked.mayRead() {
		return false
	}
	if e.parked.stage == parkedFree && e.pops() {
		return e.hasRoom() // these are handled like fresh ones
	}
	return e.listing.ready(now)
}

// running reports whether a pass is under way.
func (p *parkedPasses) running() bool { return p.parkedPass != nil }

// mayRead reports whether the pass is ready to read more rows: it has tried the window before.
func (p *parkedPass) mayRead() bool { return p.stage != parkedLast && p.tried() }

// restart makes the pass read from the first row again, after it has tried what it has in work.
func (p *parkedPass) restart() { p.stage, p.pages, p.afterID = parkedList, 1, 0 }

// tried reports whether nothing of the window is left.
func (p *parkedPass) tried() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)+p.inWork == 0
}

// noteFailed notes that a parked record failed in this pass. One without a message ID has no other
// rows.
func (p *parkedPass) noteFailed(r Record) {
	if r.MessageID == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failedRows[r.MessageID] = r.withoutPayload()
}

// withoutPayload returns the record without its payload.
func (r Record) withoutPayload() Record {
	return Record{ID: r.ID, MessageID: r.MessageID, ProcessID: r.ProcessID, Parked: r.Parked, offset: r.offset}
}

// abandonUntried forgets the records that were not tried. They stay parked.
func (p *parkedPasses) abandonUntried(l *ledger) {
	if !p.running() {
		return
	}
	p.mu.Lock()
	queue := p.queue
	p.queue = nil
	p.mu.Unlock()
	for _, t := range queue {
		for _, r := range append(t.older, t.Record) {
			l.release(r)
		}
	}
}

// retryParked makes a pass due at once. It may be called at any time.
func (e *engine) retryParked() {
	e.parkedWanted.Store(true)
	e.onSlack()
}

// startParkedWhenDue starts a pass if the program asked for one, or if one is due and there is no
// room to reserve, because then no request would start it.
func (e *engine) startParkedWhenDue(now time.Time) {
	if e.parkedWanted.Swap(false) && !e.parked.running() {
		e.parked.next = time.Time{}
		e.startParkedPass()
		return
	}
	if !e.parked.running() && !now.Before(e.parked.next) && !e.hasRoom() {
		e.startParkedPass()
	}
}

func (e *engine) startParkedPass() {
	e.parked.parkedPass = &parkedPass{pages: 1, failedRows: make(map[string]Record)}
	if e.spool != nil && e.spool.journal != nil {
		e.parked.spool = e.spool.journal.ParkedPass()
	}
}

// endParkedReading notes that the pass has read all rows.
func (e *engine) endParkedReading() {
	if e.parked.running() {
		e.parked.stage = parkedLast
	}
}

// parkedCalls returns the next calls of a pass.
func (e *engine) parkedCalls(ctx context.Context, p *pages) []call {
	switch {
	case !e.parked.running(), !e.parked.mayRead():
		return nil
	case e.parked.stage == parkedList:
		filter := map[string]any{"=ERROR": 1}
		if e.parked.afterID > 0 {
			filter[">ID"] = e.parked.afterID
		}
		return e.listCalls(ctx, p, listQuery{pages: e.parked.pages, filter: filter, order: map[string]any{"ID": "ASC"}})
	case e.pops():
		return nil // see pop
	}
	asked := e.reserve.limit
	params := getParams{limit: asked, parked: true}.params()
	return []call{{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		var b Batch
		if err == nil {
			b, err = readBatch(params, doc)
		}
		if err != nil {
			return e.parkedReservationFailed(ctx, err)
		}
		if len(b.Records) < asked {
			e.endParkedReading()
		}
		e.tryParked(ctx, e.withMemberID(b.Records))
		return nil
	}}}
}

// parkedListed handles the response to a list of parked records. It leaves out those that no pass
// has reserved, because they cannot be cleared yet.
func (e *engine) parkedListed(ctx context.Context, p *pages) {
	if p.err != nil {
		e.parked.pages = max(1, e.parked.pages/2)
		return
	}
	if e.parked.afterID == 0 {
		e.setParkedCount(max(p.total, len(p.rows)))
	}
	var mine []Record
	for _, r := range p.rows {
		switch {
		case r.ProcessID == "":
			e.parked.free = true
		case !e.ledger.has(r):
			mine = append(mine, r)
		}
		e.parked.afterID = max(e.parked.afterID, r.ID)
	}
	switch {
	case p.full():
		e.parked.pages = maxPages
	case e.parked.free && e.reserve.planError == nil:
		e.parked.stage = parkedFree
	default:
		e.endParkedReading()
	}
	sortRecords(mine)
	e.tryParked(ctx, mine)
}

// tryParked adds a window of records, the oldest first, to the pass. It tries the newest row of
// each change.
func (e *engine) tryParked(ctx context.Context, records []Record) {
	e.meter.count(func(s *Stats) { s.Unparked += counted(len(records)) })
	p := e.parked.parkedPass
	index := make(map[string]*task)
	var queue []*task
	for _, t := range e.tasksOf(ctx, records) {
		group := index[t.MessageID]
		t.pass = p
		if group == nil || t.MessageID == "" {
			index[t.MessageID] = t
			queue = append(queue, t)
			continue
		}
		group.older = append(group.older, group.Record)
		group.Record = t.Record
	}
	p.mu.Lock()
	var again []*task
	var kept []Record
	for _, t := range queue {
		if r, failed := p.failedRows[t.MessageID]; failed {
			again, kept = append(again, t), append(kept, r)
			continue
		}
		p.queue = append(p.queue, t)
	}
	p.mu.Unlock()
	for i, t := range again { // they failed in this pass: the newest row stays, and the others need not
		known := func(r Record) bool { return r.key() == kept[i].key() }
		if !known(t.Record) && !slices.ContainsFunc(t.older, known) { // the pass may have begun again
			e.ledger.add(kept[i])
			t.older = append(t.older, kept[i])
		}
		e.park(t) //nolint:contextcheck // it logs, of a record and not of the turn
	}
}

// parkedShare is the part of the workers that may try parked records.
const parkedShare = 4

// advanceParked passes parked records on to their handlers, a few at a time, and ends the pass when
// all were tried.
func (e *engine) advanceParked(ctx context.Context) {
	if !e.parked.running() {
		return
	}
	e.loadSpooledParked(ctx)
	e.feedParked(e.parked.parkedPass) //nolint:contextcheck // items have contexts of their own
	if e.parked.stage == parkedLast && e.parked.spool == nil && e.parked.tried() {
		e.parked = parkedPasses{next: time.Now().Add(e.cfg.parkedInterval)}
	}
}

// feedParked passes on as many parked records as may be tried at a time.
func (e *engine) feedParked(p *parkedPass) {
	p.mu.Lock()
	n := min(len(p.queue), max(1, e.cfg.workers/parkedShare)-p.inWork)
	var tasks []*task
	if n > 0 {
		tasks = p.queue[:n:n]
		p.queue = p.queue[n:]
		p.inWork += n
	}
	p.mu.Unlock()
	e.addTasks(tasks...)
}

// parkedEnded notes that a task has ended, and passes on the next one if it was parked.
func (e *engine) parkedEnded(t *task) {
	p := t.pass
	if p == nil {
		return
	}
	p.mu.Lock()
	p.inWork--
	last := p.inWork+len(p.queue) == 0
	p.mu.Unlock()
	if last {
		e.onSlack()
		return
	}
	e.feedParked(p)
}

// parkedReservationFailed handles an error of a reservation of parked records.
func (e *engine) parkedReservationFailed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrExtendedModeRequired):
		if e.spool == nil {
			e.endParkedReading()
		}
		return e.cannotReserve(ctx, err)
	case !surelyNotRun(err):
		e.parked.restart() // it may have been made
	}
	return err
}
