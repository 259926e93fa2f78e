package offline

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"time"
)

const (
	// maxJoined is how many clearings go into one request with other calls, so that it stays within what web servers take: each names
	// up to 500 records, in some 30 KB.
	maxJoined = 8
	// maxPages is how many pages of a list one request asks for where the first page was full.
	maxPages = 10
)

// sweep looks for reservations that are in the queue while this engine knows nothing of them: a process died with them, or their answer was lost
// on the way. One page tells where there are none, however long the queue is, because reserved records are sorted to the front.
type sweep struct {
	due   bool
	start int       // the first row of the next page; those before it are known
	pages int       // to ask for
	next  time.Time // when to look again
}

// pages are the answers to pages of a list.
type pages struct {
	asked int
	rows  []Record
	total int // of the rows that match
	err   error
}

func (p *pages) full() bool { return len(p.rows) == p.asked*pageSize }

// ask tells the portal what was finished, looks for what is abandoned or parked, and reserves the next records, as far as these
// are due; in one request where that can be.
func (e *engine) ask(ctx context.Context, now time.Time) error {
	stuck := e.stuck
	calls, all := e.clearings(ctx)
	if !all || (stuck && len(calls) > 0) {
		return e.sent(ctx, e.send(ctx, calls))
	}
	var abandoned, parked pages
	var alone []call // what deletes as it reads: its answer must not depend on that to another call
	if e.space() && (e.sweep.due || !now.Before(e.sweep.next)) {
		e.sweep.due = true
		calls = append(calls, list(&abandoned, max(1, e.sweep.pages), e.sweep.start,
			map[string]any{"=ERROR": 0}, map[string]any{"PROCESS_ID": "DESC"})...)
	}
	if !e.parked.running && !now.Before(e.parked.next) {
		e.startParkedPass()
	}
	if e.parked.running && e.room() {
		if e.parked.pages == 0 && e.takes() {
			alone = append(alone, e.taking(ctx, true))
		} else {
			calls = append(calls, e.parkedCalls(ctx, &parked)...)
		}
	}
	if e.full && e.canBatch(now) && !now.Before(e.measureAt) {
		calls = append(calls, e.measurement(ctx))
	}
	if e.room() && e.refused == nil && e.sweep.start == 0 && e.sweep.pages <= 1 {
		if e.takes() {
			alone = append(alone, e.taking(ctx, false))
		} else {
			calls = append(calls, e.reservation(ctx))
		}
	}
	err := e.send(ctx, calls)
	for _, c := range alone {
		if err == nil {
			err = e.flushSpool() // a disk that cannot take marks cannot take a packet
		}
		if err == nil && ctx.Err() == nil {
			err = e.sendPatiently(ctx, c)
		}
	}
	if abandoned.asked > 0 {
		e.swept(ctx, &abandoned)
	}
	if e.again {
		e.sweep, e.again = sweep{due: true}, false
	}
	if parked.asked > 0 {
		e.readParked(ctx, &parked)
	}
	return e.sent(ctx, err)
}

// sent takes in how a request went.
func (e *engine) sent(ctx context.Context, err error) error {
	switch {
	case err == nil:
		e.failing.reset()
		e.hear(ctx, &e.noAnswer, NoAnswer)
	case ctx.Err() == nil:
		e.listen(ctx, &e.noAnswer, NoAnswer, e.cfg.noAnswer)
	}
	return err
}

func (e *engine) reservation(ctx context.Context) call {
	e.adapt()
	asked := e.limit
	params := reading{limit: asked}.params()
	return call{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		var b Batch
		if err == nil {
			b, err = readBatch(params, doc)
		}
		return e.reserved(ctx, b, asked, err)
	}}
}

// list asks for n pages of the queue, from the row with the number start.
func list(p *pages, n, start int, filter, order map[string]any) []call {
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
			p.rows = append(p.rows, page...)
			p.err = cmp.Or(p.err, err)
			return err
		}}
	}
	return calls
}

// swept takes in the front of the queue.
func (e *engine) swept(ctx context.Context, p *pages) {
	if p.err != nil {
		e.sweep.pages /= 2 // again with the next request, in case the answer was too large
		return
	}
	known := e.known()
	var found []Record
	last := !p.full()
	for _, r := range p.rows {
		switch {
		case r.ProcessID == "":
			last = true
		case !known[r.key()]:
			found = append(found, r)
		}
	}
	if len(found) > 0 {
		sortRecords(found)
		e.meter.count(func(s *Stats) { s.Recovered += int64(len(found)) })
		e.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: finishing records that were left reserved", slog.Int(keyRecords, len(found)))
		e.waiting = append(e.waiting, e.take(ctx, found)...)
	}
	switch {
	case last:
		e.sweep = sweep{next: time.Now().Add(sweepInterval)}
	case len(found) > 0:
		e.sweep.start, e.sweep.pages = 0, maxPages // what will be finished is gone from the front
	default:
		e.sweep.start, e.sweep.pages = e.sweep.start+len(p.rows), maxPages
	}
}

// known returns the records that this engine holds.
func (e *engine) known() map[rowKey]bool {
	known := make(map[rowKey]bool)
	for _, tasks := range [][]task{e.waiting, e.fresh} {
		for _, t := range tasks {
			known[t.key()] = true
		}
	}
	for _, s := range e.owed {
		for _, records := range [][]Record{s.clear, s.park} {
			for _, r := range records {
				known[r.key()] = true
			}
		}
	}
	for key := range e.nobody {
		known[key] = true
	}
	return known
}
