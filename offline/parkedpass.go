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

// parkedPass is a pass over the parked records: each change is tried once, however many rows the
// portal has of it. A pass reads the rows that an earlier one has reserved, a window at a time, and
// reserves the others at its end. The rows of one change have one message ID. The newest is tried
// and stands for all. When it succeeds, all are cleared; when it fails, all but the newest.
//
//	portal ──list──▶ window ─▶ groups ─▶ queue ──a few at a time──▶ dispatcher
//
// Only a share of the workers tries parked records, so that those that hang delay no others.
type parkedPass struct {
	stage parkedStage
	after int64 // the last ID seen
	pages int   // to ask for
	free  bool  // there are rows that no pass has reserved
	spool *spool.Pass

	mu     sync.Mutex
	queue  []*task           // of the window, to be tried
	inWork int               // being tried
	kept   map[string]Record // by message ID: what failed in this pass and stays parked
}

// parkedPasses is the pass that is under way, if any, and the time of the next.
type parkedPasses struct {
	next time.Time
	*parkedPass
}

type parkedStage uint8

const (
	parkedList parkedStage = iota // rows are read that an earlier pass has reserved
	parkedFree                    // the others are reserved
	parkedLast                    // everything was read, and is being tried
)

// reset makes a pass due.
func (p *parkedPasses) reset() { *p = parkedPasses{} }

// parkedReads reports whether the pass may read rows now.
func (e *engine) parkedReads(now time.Time) bool {
	if !e.parked.running() || !e.parked.reads() {
		return false
	}
	if e.parked.stage == parkedFree && e.takes() {
		return e.room() // these are handled like fresh ones
	}
	return e.lists.ready(now)
}

// running reports whether a pass is under way.
func (p *parkedPasses) running() bool { return p.parkedPass != nil }

// reads reports whether the pass has rows to read now: the window before was tried.
func (p *parkedPass) reads() bool { return p.stage != parkedLast && p.tried() }

// again makes the pass read from the first row again, after what it has in work.
func (p *parkedPass) again() { p.stage, p.pages, p.after = parkedList, 1, 0 }

// tried reports whether nothing of the window is left.
func (p *parkedPass) tried() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)+p.inWork == 0
}

// failed notes that a parked record failed in this pass. One without a message ID has no others.
func (p *parkedPass) failed(r Record) {
	if r.MessageID == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept[r.MessageID] = r.bare()
}

// bare returns the record without its payload.
func (r Record) bare() Record {
	return Record{ID: r.ID, MessageID: r.MessageID, ProcessID: r.ProcessID, Parked: r.Parked, offset: r.offset}
}

// drop leaves what was not tried.
func (p *parkedPasses) drop(l *ledger) {
	if !p.running() {
		return
	}
	p.mu.Lock()
	queue := p.queue
	p.queue = nil
	p.mu.Unlock()
	for _, t := range queue {
		for _, r := range append(t.older, t.Record) {
			l.keep(r)
		}
	}
}

// retryParked makes a pass due at once. It may be called at any time.
func (e *engine) retryParked() {
	e.retry.Store(true)
	e.onSlack()
}

// parkedByTheClock starts a pass when there is no room to reserve, so that no other call starts
// one.
func (e *engine) parkedByTheClock(now time.Time) {
	if e.retry.Swap(false) && !e.parked.running() {
		e.parked.next = time.Time{}
		e.startParkedPass()
		return
	}
	if !e.parked.running() && !now.Before(e.parked.next) && !e.room() {
		e.startParkedPass()
	}
}

func (e *engine) startParkedPass() {
	e.parked.parkedPass = &parkedPass{pages: 1, kept: make(map[string]Record)}
	if e.journal != nil && e.journal.spool != nil {
		e.parked.spool = e.journal.spool.ParkedPass()
	}
}

// parkedRead ends the reading of rows.
func (e *engine) parkedRead() {
	if e.parked.running() {
		e.parked.stage = parkedLast
	}
}

// parkedCalls are the next calls of a pass.
func (e *engine) parkedCalls(ctx context.Context, p *pages) []call {
	switch {
	case !e.parked.running(), !e.parked.reads():
		return nil
	case e.parked.stage == parkedList:
		filter := map[string]any{"=ERROR": 1}
		if e.parked.after > 0 {
			filter[">ID"] = e.parked.after
		}
		return e.list(ctx, p, e.parked.pages, 0, filter, map[string]any{"ID": "ASC"})
	case e.takes():
		return nil // see take
	}
	asked := e.pace.limit
	params := reading{limit: asked, parked: true}.params()
	return []call{{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		var b Batch
		if err == nil {
			b, err = readBatch(params, doc)
		}
		if err != nil {
			return e.parkedRefused(ctx, err)
		}
		if len(b.Records) < asked {
			e.parkedRead()
		}
		e.tryParked(ctx, e.owned(b.Records))
		return nil
	}}}
}

// readParked takes in a window of parked records. Those that no pass has reserved cannot be cleared
// yet.
func (e *engine) readParked(ctx context.Context, p *pages) {
	if p.err != nil {
		e.parked.pages = max(1, e.parked.pages/2)
		return
	}
	if e.parked.after == 0 {
		e.countParked(max(p.total, len(p.rows)), false)
	}
	var mine []Record
	for _, r := range p.rows {
		switch {
		case r.ProcessID == "":
			e.parked.free = true
		case !e.ledger.holds(r):
			mine = append(mine, r)
		}
		e.parked.after = max(e.parked.after, r.ID)
	}
	switch {
	case p.full():
		e.parked.pages = maxPages
	case e.parked.free && e.refused == nil:
		e.parked.stage = parkedFree
	default:
		e.parkedRead()
	}
	sortRecords(mine)
	e.tryParked(ctx, mine)
}

// tryParked takes records of a window, the oldest first, and tries the newest of each change.
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
		if r, failed := p.kept[t.MessageID]; failed {
			again, kept = append(again, t), append(kept, r)
			continue
		}
		p.queue = append(p.queue, t)
	}
	p.mu.Unlock()
	for i, t := range again { // they failed in this pass: the newest row stays, and the others need not
		known := func(r Record) bool { return r.key() == kept[i].key() }
		if !known(t.Record) && !slices.ContainsFunc(t.older, known) { // the pass may have begun again
			e.ledger.hold(kept[i])
			t.older = append(t.older, kept[i])
		}
		e.deadLetter(t) //nolint:contextcheck // it logs, of a record and not of the turn
	}
}

// parkedShare is the part of the workers that may try parked records.
const parkedShare = 4

// nextParked passes parked records on to their handlers, a few at a time, and ends the pass when
// all were tried.
func (e *engine) nextParked(ctx context.Context) {
	if !e.parked.running() {
		return
	}
	e.nextSpooled(ctx)
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
	e.add(tasks...)
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

// parkedRefused takes in the failure of a reservation of parked records.
func (e *engine) parkedRefused(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrExtendedModeRequired):
		if e.journal == nil {
			e.parkedRead()
		}
		return e.cannotReserve(ctx, err)
	case !surelyNotRun(err):
		e.parked.again() // it may have been made
	}
	return err
}
