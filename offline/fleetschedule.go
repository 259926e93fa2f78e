package offline

import (
	"container/heap"
	"context"
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// kind is what a portal is by its last turn. Each kind has a line of its own.
type kind uint8

const (
	kindOrdinary kind = iota
	kindSlow          // the turn took more than slowTurn
	kindFailing       // the turn failed, or was ended before the first response
	kindStuck         // the turn was asked to end and goes on; it takes no place, and none is kept for it
	kinds
)

// line holds the portals of one kind that wait for a turn, and the places that are kept for this
// kind, so that no other can take them.
type line struct {
	waiting       portalHeap
	places, taken int // of turns; more may be taken, by turns that have to end and go on
}

// newLines divides turns among the kinds: a quarter for slow portals, an eighth for failing ones.
func newLines(turns int) (lines [kinds]line) {
	lines[kindSlow].places = max(turns/4, 1)
	lines[kindFailing].places = max(turns/8, 1)
	lines[kindOrdinary].places = turns - lines[kindSlow].places - lines[kindFailing].places
	return lines
}

func (l *line) push(p *portal)   { heap.Push(&l.waiting, p) }
func (l *line) remove(p *portal) { heap.Remove(&l.waiting, p.heapIndex) }

// portalHeap has the portal first that is due first.
type portalHeap []*portal

// Len implements heap.Interface, as the next four do.
func (h *portalHeap) Len() int           { return len(*h) }
func (h *portalHeap) Less(i, j int) bool { return (*h)[i].due.Before((*h)[j].due) }

func (h *portalHeap) Swap(i, j int) {
	all := *h
	all[i], all[j] = all[j], all[i]
	all[i].heapIndex, all[j].heapIndex = i, j
}

func (h *portalHeap) Push(x any) {
	p, _ := x.(*portal)
	p.heapIndex = len(*h)
	*h = append(*h, p)
}

func (h *portalHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	p.heapIndex = notQueued
	return p
}

// moveLocked moves a turn that is under way to the line of another kind. f.mu must be held.
func (f *Fleet) moveLocked(t *turn, to kind) {
	from := t.portal.kind
	if from == to {
		return
	}
	f.lines[from].taken--
	f.lines[to].taken++
	t.portal.kind = to
	f.signal()
}

// schedule starts turns when they are due, until ctx ends.
func (f *Fleet) schedule(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-f.kick:
		}
		timer.Reset(f.startDue(time.Now()))
	}
}

// startDue starts the turns that are due and have a place. It returns for how long there are no
// others. It locks f.mu.
func (f *Fleet) startDue(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timerAt = now.Add(time.Hour)
	for k := range f.lines {
		l := &f.lines[k]
		for l.taken < l.places && len(l.waiting) > 0 {
			p := l.waiting[0]
			if p.due.After(now) {
				if p.due.Before(f.timerAt) {
					f.timerAt = p.due
				}
				break
			}
			f.unqueueLocked(p)
			if f.shards[p.shard].workable() {
				f.beginLocked(p, now, nil)
			}
		}
	}
	return f.timerAt.Sub(now)
}

// queueLocked puts a portal in its line, or moves it there, if the fleet works it. f.mu must be
// held.
func (f *Fleet) queueLocked(p *portal, due time.Time) {
	f.unqueueLocked(p)
	if !f.worksLocked(p) {
		return
	}
	p.due = due
	f.lines[p.kind].push(p)
	if due.Before(f.timerAt) {
		f.signal()
	}
}

// unqueueLocked takes a portal out of its line. f.mu must be held.
func (f *Fleet) unqueueLocked(p *portal) {
	if p.queued() {
		f.lines[p.kind].remove(p)
	}
}

// signal makes Run look for portals that are due.
func (f *Fleet) signal() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// queueFirstLocked puts a portal in line for its first turn. The first turns of many portals are
// spread over time. f.mu must be held.
func (f *Fleet) queueFirstLocked(p *portal) {
	now := time.Now()
	if !f.worksLocked(p) {
		return
	}
	f.lastFirst = f.lastFirst.Add(time.Second / time.Duration(2*f.cfg.turns))
	due := f.lastFirst
	switch latest := now.Add(f.cfg.maxInterval); {
	case due.Before(now):
		due, f.lastFirst = now, now
	case due.After(latest):
		due = spread(now, f.cfg.maxInterval)
	}
	f.queueLocked(p, due)
}

// worksLocked reports whether the fleet runs and works the portal. f.mu must be held.
func (f *Fleet) worksLocked(p *portal) bool {
	return f.run != nil && f.run.Err() == nil && f.shards[p.shard].workable()
}

// spread returns a time up to d after from.
func spread(from time.Time, d time.Duration) time.Time {
	return from.Add(timing.Below(d + 1))
}

// onSlack gives a portal its next turn soon, because its workers have nothing left to start. It
// locks f.mu.
func (f *Fleet) onSlack(p *portal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case p.turn != nil:
		p.turn.again = true
	case p.failures == 0 && !p.removed && f.portals[p.id] == p:
		f.queueLocked(p, time.Now())
	}
}
