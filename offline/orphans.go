package offline

import (
	"context"
	"log/slog"
	"time"
)

// orphanInterval is how often the engine looks for orphans. It costs no request of its own.
const orphanInterval = 5 * time.Minute

// orphanSearch is the search for orphans: reserved records that this engine does not know, because
// the process that reserved them died or the response to the reservation was lost. If there are
// none, one page is enough, however long the queue is, because reserved records come first.
type orphanSearch struct {
	due          bool      // the engine must look
	failed       bool      // the last look failed, so fresh records no longer wait for it
	responseLost bool      // a reservation may have been made whose response was lost
	offset       int       // of the next page; the rows before it are known
	pages        int       // to ask for
	next         time.Time // when to look again
}

// pagesLeft reports whether there are pages after the first to look at.
func (r *orphanSearch) pagesLeft() bool { return r.offset > 0 || r.pages > 1 }

// rowsGone notes that n rows are gone, so that those behind them move up.
func (r *orphanSearch) rowsGone(n int) { r.offset = max(0, r.offset-n) }

// holdsBack reports whether fresh records wait for the search for orphans, which are older.
func (r *orphanSearch) holdsBack(canList bool) bool { return r.due && !r.failed && canList }

// mustSeekOrphans reports whether a look for orphans deserves a request of its own.
func (e *engine) mustSeekOrphans(now time.Time) bool { return e.orphans.due && e.maySeekOrphans(now) }

// maySeekOrphans reports whether a look for orphans may join a request. What it finds needs memory
// and workers.
func (e *engine) maySeekOrphans(now time.Time) bool {
	return !now.Before(e.orphans.next) && e.ledger.hasRoom() && e.hasSlack()
}

// orphanCalls returns the calls of a look for orphans.
func (e *engine) orphanCalls(ctx context.Context, p *pages) []call {
	return e.listCalls(ctx, p, listQuery{
		pages: max(1, e.orphans.pages), offset: e.orphans.offset,
		filter: map[string]any{"=ERROR": 0}, order: map[string]any{"PROCESS_ID": "DESC"},
	})
}

// orphansListed handles the response to a look for orphans.
func (e *engine) orphansListed(ctx context.Context, p *pages) {
	if p.err != nil {
		e.orphans.failed = true
		e.orphans.pages /= 2 // again with a later request, in case the response was too large
		return
	}
	e.orphans.failed = false
	var found []Record
	last := !p.full()
	for _, r := range p.rows {
		switch {
		case r.ProcessID == "":
			last = true
		case !e.ledger.has(r):
			found = append(found, r)
		}
	}
	if len(found) > 0 {
		sortRecords(found)
		e.meter.count(func(s *Stats) { s.Recovered += counted(len(found)) })
		e.log(ctx, slog.LevelInfo, "offline queue: finishing records that were left reserved", slog.Int(keyRecords, len(found)))
		if tasks := e.tasksOf(ctx, found); ctx.Err() == nil {
			e.addTasks(tasks...) //nolint:contextcheck // items have contexts of their own
		} else {
			e.fresh = append(tasks, e.fresh...)
		}
	}
	switch {
	case last:
		e.orphans = orphanSearch{next: time.Now().Add(orphanInterval)}
	case len(found) > 0:
		e.orphans.offset, e.orphans.pages = 0, maxPages // what will be finished is gone from the front
	default:
		e.orphans.offset, e.orphans.pages = e.orphans.offset+len(p.rows), maxPages
		e.orphans.next = time.Now().Add(reserveSpacing)
	}
}
