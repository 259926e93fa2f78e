package offline

import "container/heap"

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
