package dispatch

// mergeLocked merges a new item with the last waiting one of its lane, if they may be merged. It
// returns the one that ended, nil for none. It considers only the last one, so that no item moves
// past another. d.mu is held.
func (d *Dispatcher) mergeLocked(l *lane, it *Item) (ended *Item) {
	last := l.items.last()
	switch {
	case last == nil, last.admitting, it.Merge == "", last.Merge != it.Merge:
		return nil
	case older(it, last):
		last.Merged += 1 + it.Merged
		return it
	case !d.swapRoomLocked(last, it):
		return nil
	}
	it.Merged += 1 + last.Merged
	it.Attempts = 0 // it rests as long as the other had to, and has all attempts ahead
	it.lane = l
	l.items.replace(&last.inLane, &it.inLane, it)
	return last
}

// joinLocked merges an item that rests with the one behind it, if they may be merged. It takes the
// one that ended out of the lane and returns it, nil for none. d.mu is held.
func (d *Dispatcher) joinLocked(l *lane, it, behind *Item) (ended *Item) {
	if behind.admitting || it.Merge == "" || behind.Merge != it.Merge {
		return nil
	}
	if older(behind, it) {
		ended = behind
		it.Merged += 1 + ended.Merged
	} else {
		ended = it
		behind.Merged += 1 + ended.Merged
		behind.Attempts = 0
	}
	l.items.remove(&ended.inLane)
	d.queued--
	l.portal.queued--
	d.giveRoomLocked(ended, ended.holds)
	return ended
}

// absorbLocked merges an item that was admitted with those right behind it that wait for room. They
// would have been merged if they had come later. They need no room of their own, unless one of them
// is larger. The caller gives spare room to the next in line. d.mu is held.
func (d *Dispatcher) absorbLocked(it *Item) {
	for it.Merge != "" {
		next := it.inLane.next.element()
		if next == nil || !next.admitting || next.Merge != it.Merge {
			return
		}
		kept, ended := next, it
		if older(next, it) {
			kept, ended = it, next
		} else if grow := next.Cost - it.holds; grow > 0 && !d.takeRoomLocked(it, grow) {
			return
		}
		d.freeRoomLocked(it, max(0, it.holds-kept.Cost))
		kept.holds, ended.holds = it.holds, 0
		kept.Merged += 1 + ended.Merged
		d.leaveLineLocked(next)
		close(next.admitted)
		it.lane.items.remove(&ended.inLane)
		d.counts.accepted.Add(1)
		d.counts.outcomes[OutcomeMerged].Add(1)
		d.finishing++
		it.portal.finishing++
		go d.finish(ended, OutcomeMerged, nil)
		it = kept
	}
}

// swapRoomLocked gives the room of an item to the one that takes its place, and takes more if it is
// larger. It reports false if there is not enough. d.mu is held.
func (d *Dispatcher) swapRoomLocked(old, it *Item) bool {
	if old.portal.owned {
		return true
	}
	switch grow := it.Cost - old.holds; {
	case grow > 0:
		if !d.takeRoomLocked(old, grow) {
			return false
		}
	case grow < 0:
		d.giveRoomLocked(old, -grow)
	}
	it.holds, old.holds = old.holds, 0
	return true
}

// older reports whether a was fired before b. If either time is unknown, it is not.
func older(a, b *Item) bool {
	return a.Fired != 0 && b.Fired != 0 && a.Fired < b.Fired
}
