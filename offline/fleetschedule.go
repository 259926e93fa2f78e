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
	ordinary kind = iota
	long          // the turn took long
	failing       // the turn failed, or was ended before the portal had answered once
	stuck         // the turn was ended and goes on; it takes no place, and none is kept for it
	kinds
)

// line holds the portals of one kind that wait for a turn, and the places that are kept for this
// kind, so that no other can take them.
type line struct {
	waiting       portalHeap
	places, taken int // of turns; more may be taken, by turns that have to end and go on
}

// newLines divides turns among the kinds: a quarter for long turns, an eighth for failing portals.
func newLines(turns int) (lines [kinds]line) {
	lines[long].places = max(turns/4, 1)
	lines[failing].places = max(turns/8, 1)
	lines[ordinary].places = turns - lines[long].places - lines[failing].places
	return lines
}

func (l *line) push(p *portal)   { heap.Push(&l.waiting, p) }
func (l *line) remove(p *portal) { heap.Remove(&l.waiting, p.place) }

// portalHeap has the portal first that is due first.
type portalHeap []*portal

// Len implements heap.Interface, as the next four do.
func (h *portalHeap) Len() int           { return len(*h) }
func (h *portalHeap) Less(i, j int) bool { return (*h)[i].due.Before((*h)[j].due) }

func (h *portalHeap) Swap(i, j int) {
	all := *h
	all[i], all[j] = all[j], all[i]
	all[i].place, all[j].place = i, j
}

func (h *portalHeap) Push(x any) {
	p, _ := x.(*portal)
	p.place = len(*h)
	*h = append(*h, p)
}

func (h *portalHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	p.place = unqueued
	return p
}

// move puts a turn that is under way into the line of another kind.
func (f *Fleet) move(t *turn, to kind) {
	from := t.portal.kind
	if from == to {
		return
	}
	f.lines[from].taken--
	f.lines[to].taken++
	t.portal.kind = to
	f.look()
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
		timer.Reset(f.dispatch(time.Now()))
	}
}

// dispatch starts the turns that are due and have a place, and returns how long there will be none.
func (f *Fleet) dispatch(now time.Time) time.Duration {
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
			f.unqueue(p)
			if f.shards[p.shard].workable() {
				f.begin(p, now, nil)
			}
		}
	}
	return f.timerAt.Sub(now)
}

// queue puts a portal in its line, or moves it there, if the fleet works it.
func (f *Fleet) queue(p *portal, due time.Time) {
	f.unqueue(p)
	if !f.works(p) {
		return
	}
	p.due = due
	f.lines[p.kind].push(p)
	if due.Before(f.timerAt) {
		f.look()
	}
}

func (f *Fleet) unqueue(p *portal) {
	if p.queued() {
		f.lines[p.kind].remove(p)
	}
}

// look makes Run look for portals that are due.
func (f *Fleet) look() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// queueFirst puts a portal in line whose first turn may wait, so that those of many portals are
// spread.
func (f *Fleet) queueFirst(p *portal) {
	now := time.Now()
	if !f.works(p) {
		return
	}
	f.paced = f.paced.Add(time.Second / time.Duration(2*f.cfg.turns))
	due := f.paced
	switch latest := now.Add(f.cfg.maxInterval); {
	case due.Before(now):
		due, f.paced = now, now
	case due.After(latest):
		due = spread(now, f.cfg.maxInterval)
	}
	f.queue(p, due)
}

// works reports whether the portal is this fleet's, and the fleet at work.
func (f *Fleet) works(p *portal) bool {
	return f.run != nil && f.run.Err() == nil && f.shards[p.shard].workable()
}

// spread returns a time up to d after from.
func spread(from time.Time, d time.Duration) time.Time {
	return from.Add(timing.Below(d + 1))
}

// slack gives a portal its next turn soon, because its workers have nothing left to start.
func (f *Fleet) slack(p *portal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case p.turn != nil:
		p.turn.again = true
	case p.failures == 0 && !p.removed && f.portals[p.id] == p:
		f.queue(p, time.Now())
	}
}
