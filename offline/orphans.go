package offline

import (
	"context"
	"log/slog"
	"time"
)

// orphanInterval is how often reservations are looked for that nobody works on. It costs no request
// of its own.
const orphanInterval = 5 * time.Minute

// orphanSearch looks for reservations that are in the queue while this engine knows nothing of them: a
// process died with them, or their answer was lost on the way. One page suffices if there are none,
// however long the queue is, because reserved records are sorted to the front.
type orphanSearch struct {
	due          bool
	failed       bool      // and failed: fresh records no longer wait
	responseLost bool      // a reservation may have been made whose answer is lost
	offset       int       // the first row of the next page; those before it are known
	pages        int       // to ask for
	next         time.Time // when to look again
}

// pagesLeft reports whether pages after the first are to be looked at.
func (r *orphanSearch) pagesLeft() bool { return r.offset > 0 || r.pages > 1 }

// rowsGone takes in that n rows went away, so that those behind them move up.
func (r *orphanSearch) rowsGone(n int) { r.offset = max(0, r.offset-n) }

// holdsBack reports whether fresh records wait for a look for orphans, which are older.
func (r *orphanSearch) holdsBack(canList bool) bool { return r.due && !r.failed && canList }

// mustSeekOrphans reports whether a look for orphans is worth a request of its own.
func (e *engine) mustSeekOrphans(now time.Time) bool { return e.orphans.due && e.maySeekOrphans(now) }

// maySeekOrphans reports whether orphans may be looked for, with a request that is made anyway. What is
// found needs memory, and workers.
func (e *engine) maySeekOrphans(now time.Time) bool {
	return !now.Before(e.orphans.next) && e.ledger.hasRoom() && e.hasSlack()
}

// orphansListed takes in the front of the queue.
func (e *engine) orphansListed(ctx context.Context, p *pages) {
	if p.err != nil {
		e.orphans.failed = true
		e.orphans.pages /= 2 // again with a later request, in case the answer was too large
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
