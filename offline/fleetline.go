package offline

import (
	"container/heap"
	"context"
	"slices"
)

// kind tells portals apart by their last turn. Each kind stands in a line of its own.
type kind uint8

const (
	ordinary kind = iota
	long          // the turn took long
	failing       // the turn failed, or was ended before the portal had answered once
	stuck         // the turn was ended and goes on; it keeps no place from others, and none is kept for it
	kinds
)

// line holds the portals of one kind that wait for a turn, and the places that are kept for this kind, so that no other can take them.
type line struct {
	waiting       portalHeap
	places, taken int        // turns; more are taken than there are places where a turn that has to end has not yet
	room, inside  int        // handlers; likewise
	entrants      []*entrant // handlers that wait for room, first come, first served
}

// entrant is a handler that waits for room.
type entrant struct {
	turn  *turn
	enter chan struct{} // closed when there is
}

// newLines divides turns and handlers among the kinds: a quarter for long turns, an eighth for failing portals.
func newLines(turns, handlers int) (lines [kinds]line) {
	lines[long].places, lines[long].room = max(turns/4, 1), max(handlers/4, 1)
	lines[failing].places, lines[failing].room = max(turns/8, 1), max(handlers/8, 1)
	lines[ordinary].places = turns - lines[long].places - lines[failing].places
	lines[ordinary].room = handlers - lines[long].room - lines[failing].room
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

// enter waits for room for a handler of the portal's turn. It returns false where ctx ends first; otherwise leave must follow. It locks.
func (p *portal) enter(ctx context.Context) bool {
	f := p.fleet
	f.mu.Lock()
	if p.turn == nil { // its goroutine died, and left this one behind
		f.mu.Unlock()
		return false
	}
	l := &f.lines[p.kind]
	if l.inside < l.room && len(l.entrants) == 0 {
		l.inside++
		p.turn.inside++
		f.mu.Unlock()
		return true
	}
	e := &entrant{turn: p.turn, enter: make(chan struct{})}
	l.entrants = append(l.entrants, e)
	f.mu.Unlock()
	select {
	case <-e.enter:
		return true
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l = &f.lines[p.kind]
	i := slices.Index(l.entrants, e)
	if i < 0 {
		return true // it was let in at the same moment
	}
	l.entrants = slices.Delete(l.entrants, i, i+1)
	return false
}

// leave gives the room of a handler to the next. It locks.
func (p *portal) leave() {
	p.fleet.mu.Lock()
	defer p.fleet.mu.Unlock()
	if p.turn == nil || p.turn.inside == 0 {
		return // the turn's goroutine died, and what its handlers had was given back
	}
	p.turn.inside--
	p.fleet.lines[p.kind].inside--
	p.fleet.admit(p.kind)
}

// admit lets handlers in that wait for room.
func (f *Fleet) admit(k kind) {
	l := &f.lines[k]
	for l.inside < l.room && len(l.entrants) > 0 {
		e := l.entrants[0]
		l.entrants[0] = nil
		l.entrants = l.entrants[1:]
		l.inside++
		e.turn.inside++
		close(e.enter)
	}
}

// move puts a turn that is under way, and its handlers, into the line of another kind.
func (f *Fleet) move(t *turn, to kind) {
	from := t.portal.kind
	if from == to {
		return
	}
	a, b := &f.lines[from], &f.lines[to]
	a.taken--
	b.taken++
	a.inside -= t.inside
	b.inside += t.inside
	var stay []*entrant
	for _, e := range a.entrants {
		if e.turn == t {
			b.entrants = append(b.entrants, e)
		} else {
			stay = append(stay, e)
		}
	}
	a.entrants = stay
	t.portal.kind = to
	f.admit(from)
	f.admit(to)
	f.look()
}
