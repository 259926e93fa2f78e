package offline

import (
	"context"
	"log/slog"
	"time"
)

// reclaimInterval is how often reservations are looked for that nobody works on. It costs no request
// of its own.
const reclaimInterval = 5 * time.Minute

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

// mustReclaim reports whether a look for orphans is worth a request of its own.
func (e *engine) mustReclaim(now time.Time) bool { return e.reclaim.due && e.mayReclaim(now) }

// mayReclaim reports whether orphans may be looked for, with a request that is made anyway. What is
// found needs memory, and workers.
func (e *engine) mayReclaim(now time.Time) bool {
	return !now.Before(e.reclaim.next) && e.ledger.hasRoom() && e.hasSlack()
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
