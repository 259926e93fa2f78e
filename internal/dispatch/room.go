package dispatch

// class is one of the two kinds of room.
type class uint8

const (
	classOrdinary class = iota
	classUrgent
	classCount
)

func (it *Item) class() class {
	if it.Urgent {
		return classUrgent
	}
	return classOrdinary
}

// portion is how many times the free room a portal may hold. With three, one portal alone gets
// three quarters, two get three sevenths each, and n get 3/(3n+1).
const portion = 3

// room is a bound on what items hold together. A size of 0 means no bound.
type room struct {
	size, used int64
	line       ringID // the portals whose items wait for it
	reserved   bool   // for the first of them: see comesFirstLocked
}

// takeRoomLocked takes room for an item and reports true, if its portal may have it. d.mu is held.
func (d *Dispatcher) takeRoomLocked(it *Item, cost int64) bool {
	p, c := it.portal, it.class()
	r := &d.rooms[c]
	if r.size == 0 {
		return true
	}
	free := r.size - r.used - cost
	if free < 0 || (p.held[c] > 0 && p.held[c]+cost > portion*free) {
		return false
	}
	r.used += cost
	p.held[c] += cost
	it.holds += cost
	return true
}

// giveRoomLocked gives room of an item back, and admits what waits for it. d.mu is held.
func (d *Dispatcher) giveRoomLocked(it *Item, cost int64) {
	if cost > 0 {
		d.freeRoomLocked(it, cost)
		d.admitLocked(it.class())
	}
}

// freeRoomLocked gives room of an item back. The caller admits what waits for it. d.mu is held.
func (d *Dispatcher) freeRoomLocked(it *Item, cost int64) {
	c := it.class()
	d.rooms[c].used -= cost
	it.portal.held[c] -= cost
	it.holds -= cost
}

// admitLocked admits what waits for room, the portals in turn. A portal that may not have room yet
// keeps its turn. d.mu is held.
func (d *Dispatcher) admitLocked(c class) {
	r := &d.rooms[c]
	r.reserved = false
	line := &d.rings[r.line]
	for p := line.first(); p != nil && r.used < r.size; {
		switch it := p.admissions[c].first(); {
		case d.takeRoomLocked(it, it.Cost):
			line.remove(p)
			p.admissions[c].remove(&it.inQueue)
			d.admittedLocked(it)
			if p.admissions[c].n > 0 {
				line.push(p)
			}
			p = line.first()
		case d.comesFirstLocked(it):
			r.reserved = true
			return
		default:
			p = p.links[line.id].next.element()
		}
	}
}

// leaveLineLocked takes an item out of the items that wait for room. d.mu is held.
func (d *Dispatcher) leaveLineLocked(it *Item) {
	p, c := it.portal, it.class()
	p.admissions[c].remove(&it.inQueue)
	if p.admissions[c].n == 0 {
		d.rings[d.rooms[c].line].remove(p)
	}
	it.admitting = false
}

// comesFirstLocked reports whether nothing else may be admitted before an item that waits for room.
// That is so if its portal holds nothing, and the item fits into the part of the room that stays
// free. Otherwise small items of other portals would keep it out for as long as they come. d.mu is
// held.
func (d *Dispatcher) comesFirstLocked(it *Item) bool {
	r := &d.rooms[it.class()]
	return it.portal.held[it.class()] == 0 && it.Cost <= r.size/(portion+1)
}
