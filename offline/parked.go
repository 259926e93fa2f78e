package offline

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// parkedPass works on the parked records, one after the other. It first reads those that an earlier pass has reserved, which
// failed again then, and reserves the others afterwards.
type parkedPass struct {
	next    time.Time
	running bool
	after   int64 // the last number seen
	pages   int   // to ask for; 0 once all are read
	free    bool  // there are some that no pass has reserved
}

// parkedCalls are the next calls of a pass over the parked records.
func (e *engine) parkedCalls(ctx context.Context, p *pages) []call {
	if e.parked.pages > 0 {
		filter := map[string]any{"=ERROR": 1}
		if e.parked.after > 0 {
			filter[">ID"] = e.parked.after
		}
		return list(p, e.parked.pages, 0, filter, map[string]any{"ID": "ASC"})
	}
	asked := e.limit
	params := reading{limit: asked, parked: true}.params()
	return []call{{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		var b Batch
		if err == nil {
			b, err = readBatch(params, doc)
		}
		if err != nil {
			return e.parkedRefused(ctx, err)
		}
		e.takeParked(ctx, b.Records)
		if len(b.Records) < asked {
			e.parkedDone()
		}
		return nil
	}}}
}

// readParked takes in parked records. Those that no pass has reserved cannot be cleared yet.
func (e *engine) readParked(ctx context.Context, p *pages) {
	if p.err != nil {
		e.parked.pages = max(1, e.parked.pages/2)
		return
	}
	if e.parked.after == 0 {
		e.countParked(max(p.total, len(p.rows)), false)
	}
	var mine []Record
	known := e.known()
	for _, r := range p.rows {
		switch {
		case r.ProcessID == "":
			e.parked.free = true
		case !known[r.key()]:
			mine = append(mine, r)
		}
		e.parked.after = max(e.parked.after, r.ID)
	}
	sortRecords(mine)
	e.takeParked(ctx, mine)
	switch {
	case p.full():
		e.parked.pages = maxPages
	case e.parked.free && e.refused == nil:
		e.parked.pages = 0
	default:
		e.parkedDone()
	}
}

// takeParked makes tasks of parked records. They come before what is reserved in the same turn, since they are older.
func (e *engine) takeParked(ctx context.Context, records []Record) {
	e.meter.count(func(s *Stats) { s.Unparked += int64(len(records)) })
	e.waiting = append(e.waiting, e.take(ctx, records)...)
}

// parkedRefused takes in the failure of a reservation of parked records.
func (e *engine) parkedRefused(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrExtendedModeRequired):
		if e.cfg.spoolDir == "" {
			e.parkedDone()
		}
		return e.cannotReserve(ctx, err)
	case !surelyNotRun(err):
		e.parked.pages, e.parked.after = 1, 0 // it may have been made
	}
	return err
}

func (e *engine) startParkedPass() {
	e.parked = parkedPass{running: true, pages: 1}
	if e.spool.spool != nil {
		e.spool.parked = e.spool.states(rowParked)
	}
}

func (e *engine) parkedDone() {
	e.parked = parkedPass{next: time.Now().Add(e.cfg.parkedInterval)}
}
