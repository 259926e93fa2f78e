package polling

import (
	"fmt"
	"strconv"
	"sync"
)

const (
	// maxLimit is how many events a response may hold.
	maxLimit = 1000
	// maxMemory is how many bytes of events may be in memory when another page is asked for.
	maxMemory = 32 << 20
)

// window holds the events at or above the kept offset: those that handlers work on, and those that
// are finished but cannot be acknowledged yet, because one below them is not. Every request begins
// at the kept offset, so every page covers the window from its start. It is safe for concurrent
// use: workers finish events.
//
//	 kept        position                 end
//	──┼──────────────┼─────────────────────┼────▶ event IDs
//	  │   finished   │ the first of these  │ not seen yet
//	  │              │ is not finished     │
type window struct {
	mu         sync.Mutex
	kept       int64 // the offset in the store, which requests begin at; 0 for none
	end        int64 // every event below it was seen
	barrier    int64 // the end of a page with events without an ID, until all of them are finished; 0 for none
	events     map[eventKey]*entry
	nameless   int // events without an ID so far
	unfinished int
	bytes      int64 // of unfinished events
}

// eventKey names an event. The name of its type keeps events of bots and users apart, whose IDs the
// documentation does not call unique together.
type eventKey struct {
	id   int64
	name string
}

type entry struct {
	size     int64
	finished bool
}

// fresh is an event that a page brought for the first time.
type fresh struct {
	Event

	key eventKey
}

// reset empties the window.
func (w *window) reset(kept int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept, w.end, w.barrier = kept, kept, 0
	w.events, w.unfinished, w.bytes = make(map[eventKey]*entry), 0, 0
}

// add adds the events of a page that are new, and returns them. It refuses a page with events that
// have no ID unless nextOffset says how to go on after them, and a page that promises more events
// without a way to them.
func (w *window) add(p page) ([]fresh, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lowest, highest int64
	withoutID := false
	for _, e := range p.events {
		if e.ID == 0 {
			withoutID = true
			continue
		}
		if lowest == 0 {
			lowest = e.ID
		}
		highest = e.ID
	}
	if withoutID && p.next <= max(highest, w.kept) {
		return nil, fmt.Errorf("%w: an event has no usable eventId, and nextOffset does not lead past it", ErrBadResponse)
	}
	if !withoutID && p.more && (highest == 0 || highest < w.kept) && p.next <= w.kept {
		return nil, fmt.Errorf("%w: hasMore is true, with no event and no nextOffset at or above the offset", ErrBadResponse)
	}
	var list []fresh
	for _, e := range p.events {
		if key, isNew := w.keyLocked(e); isNew {
			w.events[key] = &entry{size: e.size()}
			w.unfinished++
			w.bytes += e.size()
			list = append(list, fresh{e, key})
		}
	}
	switch {
	case withoutID:
		w.barrier = p.next
	case highest > 0:
		end := highest + 1
		if p.next > lowest { // otherwise it would not lead past the page
			end = min(end, p.next)
		}
		w.end = max(w.end, end)
	case p.more && w.unfinished == 0: // the portal has nothing for us below its nextOffset
		w.end = max(w.end, p.next)
	}
	return list, nil
}

// keyLocked returns the key of an event, and whether the event is new. w.mu must be held.
func (w *window) keyLocked(e Event) (key eventKey, isNew bool) {
	if e.ID == 0 {
		w.nameless++
		return eventKey{name: strconv.Itoa(w.nameless)}, true
	}
	key = eventKey{id: e.ID, name: e.name()}
	_, seen := w.events[key]
	return key, !seen && e.ID >= w.kept // those below were acknowledged
}

// finish notes that an event is finished.
func (w *window) finish(key eventKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.events[key]
	if e == nil || e.finished {
		return
	}
	e.finished = true
	w.unfinished--
	w.bytes -= e.size
	if key.id == 0 {
		delete(w.events, key)
	}
	if w.unfinished == 0 && w.barrier > 0 {
		w.end, w.barrier = max(w.end, w.barrier), 0
	}
}

// position returns the offset that may be kept: every event below it is finished.
func (w *window) position() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.barrier > 0 {
		return w.kept
	}
	position := max(w.kept, w.end)
	for key, e := range w.events {
		if !e.finished {
			position = min(position, key.id)
		}
	}
	return position
}

// advance notes that an offset was kept.
func (w *window) advance(kept int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = kept
	for key := range w.events {
		if key.id < kept && key.id > 0 {
			delete(w.events, key)
		}
	}
}

// next returns the offset and the limit of the next request. ok is false if there must be none now:
// the window is full, or events without an ID are in work.
func (w *window) next(batch int) (offset int64, limit int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit = min(len(w.events)+batch, maxLimit)
	return w.kept, limit, w.barrier == 0 && w.bytes < maxMemory && len(w.events) < maxLimit
}

// keptOffset returns the kept offset.
func (w *window) keptOffset() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept
}

// inWork returns how many events are not finished.
func (w *window) inWork() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unfinished
}
