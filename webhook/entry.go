package webhook

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// openPortal is a portal that has records in memory.
type openPortal struct {
	*dispatch.Portal

	key     dispatch.Key
	entries int
	charged int64                // places
	waiting map[laneKey][]*entry // for the end of a handler of an earlier tenure
}

// entry is a record in memory.
type entry struct {
	item        dispatch.Item
	id          string
	lane        laneKey
	tenure      *tenure
	portal      *openPortal // nil if it is not for the dispatcher, and after the end
	cost        int64       // places that its delivery takes
	charged     bool        // it has them
	failed      int         // attempts
	failure     string      // of the last attempt that failed
	interrupted int
	recovered   bool
	suspect     bool          // it was interrupted, so it is handled alone
	begun       chan struct{} // closed when a mark of the attempt is durable; nil before there is one
	passedBy    *tenure       // whose feed has passed it; never nil for an entry that is in memory
	pass        uint64        // its place in the order of the feed
	saved       savedTexts    // of the request; nil while the delivery is not in memory
	mark        *pendingMark  // the lock of the journal guards it
}

// tombstone names a record that was settled a short time ago.
type tombstone struct {
	part int
	id   string
}

// offer takes a record into memory, if there is room for it. It reports whether the feed goes on.
func (t *tenure) offer(rec *Record) bool {
	w := t.w
	if known, ended := t.pass(rec.ID); known || ended {
		return !ended
	}
	d, saved, err := rec.delivery, rec.saved, error(nil)
	rec.delivery, rec.saved = nil, nil // the store may keep the record
	if d == nil {
		d, saved, err = w.envelope.open(rec)
	}
	e := w.newEntry(t, rec, d)
	e.saved = saved
	switch w.enter(e, rec) {
	case entryEnded:
		return false
	case entrySkipped, entryWaits:
	case entryParked:
		if err == nil {
			err = errInterrupted
		}
		w.park(e, rec, d, err)
	case entryRemoved:
		w.dropRemoved(e, d)
	case entryReady:
		e.portal.Add(&e.item)
	}
	return true
}

// pass notes that the feed passes a record. known says whether the record is in memory already, or
// was settled a short time ago. ended says whether the tenure has ended.
func (t *tenure) pass(id string) (known, ended bool) {
	w := t.w
	w.mu.Lock()
	defer w.mu.Unlock()
	t.failed = nil
	p := &w.partitions[t.part]
	old, known := p.entries[id]
	switch {
	case old == nil:
	case t.ended: // the next tenure may have passed it before
	case old.passedBy == t: // in an earlier feed: it keeps its place, like the entries behind it
	case p.hasSkipped(old.lane.orderKey):
		t.skipped++ // an earlier record stayed in the store, so this one has to come again behind it
	default:
		p.passes++
		old.passedBy, old.pass = t, p.passes
	}
	return known, t.ended
}

// hasSkipped reports whether the feed has left records with that key in the store since it began.
func (p *partition) hasSkipped(key orderKey) bool {
	_, left := p.skipped[key]
	return left
}

// newEntry returns the entry of a record. d is nil if the record cannot be read.
func (w *durable) newEntry(t *tenure, rec *Record, d *event.Delivery) *entry {
	e := &entry{
		id: rec.ID, tenure: t, recovered: rec.Recovered,
		failed: min(max(rec.Attempts, 0), math.MaxInt32), failure: rec.Err, interrupted: max(rec.Interrupted, 0),
	}
	if d == nil {
		return e
	}
	e.item = *newItem(&w.cfg, d, rec.Received)
	it := &e.item
	it.Front, it.Attempts, e.cost = e, e.failed, it.Cost
	it.Lane.ID, it.Merge = strings.Clone(it.Lane.ID), strings.Clone(it.Merge) // not parts of the body
	if !d.Time.IsZero() {
		it.Fired = d.Time.Unix()
	}
	if latest := time.Now().Add(maxRetryAfter); !rec.Due.IsZero() { // the clock that set it may have been wrong
		if it.Due = rec.Due; it.Due.After(latest) {
			it.Due = latest
		}
	}
	return e
}

// unload takes the delivery out of memory. The lock of durable is held, or nobody else has the
// entry yet.
func (e *entry) unload() { e.item.Delivery, e.saved = nil, nil }

// entryOutcome says what happens to a record that a feed yields.
type entryOutcome uint8

const (
	entryEnded   entryOutcome = iota // the tenure has ended
	entrySkipped                     // there is no room, so the record stays in the store for now
	entryParked                      // it cannot be handled
	entryRemoved                     // its portal removed the application
	entryWaits                       // it waits for the end of a handler of an earlier tenure
	entryReady                       // it goes to the dispatcher
)

// enter takes an entry into memory, and returns what to do with it.
func (w *durable) enter(e *entry, rec *Record) entryOutcome {
	t, it := e.tenure, &e.item
	d := it.Delivery
	var key dispatch.Key
	if d != nil {
		key = keyOf(d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &w.partitions[t.part]
	if t.ended {
		return entryEnded
	}
	if behind := (orderKey{Key: key, urgent: it.Urgent}); p.hasSkipped(behind) || !w.roomLocked(t, behind, d == nil) {
		p.skipped[behind] = struct{}{}
		w.starved[t.part] = struct{}{}
		t.skipped++
		return entrySkipped
	}
	if before, cut := p.cutAttempts[e.id]; cut {
		if e.interrupted == before+1 {
			e.interrupted = before // this process ended it
		}
		delete(p.cutAttempts, e.id)
	}
	e.suspect = e.recovered && e.interrupted > 0
	p.passes++
	e.passedBy, e.pass = t, p.passes
	w.countLocked(e)
	if e.recovered {
		w.storeCount.recovered.Add(1)
	}
	switch {
	case d == nil || e.interrupted >= maxInterrupted:
		return entryParked
	case w.wasRemovedLocked(rec, d):
		return entryRemoved
	}
	portal := w.portalLocked(t, key)
	portal.entries++
	e.portal = portal
	if it.Urgent || it.Lane != (event.Entity{}) {
		e.lane = laneKey{orderKey{portal.key, it.Urgent}, it.Lane}
	}
	if _, flushing := portal.waiting[e.lane]; flushing || p.unfinished[e.lane] > 0 {
		e.unload()
		portal.waitLocked(e)
		return entryWaits
	}
	if !w.chargeLocked(e, false) {
		e.unload()
	}
	return entryReady
}

// countLocked counts an entry that comes into memory. w.mu is held.
func (w *durable) countLocked(e *entry) {
	w.partitions[e.tenure.part].entries[e.id] = e
	w.entries++
	e.tenure.entries++
}

// waitLocked makes an entry wait for the end of a handler of an earlier tenure, among the others of
// its lane, in the order of the store. The lock of durable is held.
func (p *openPortal) waitLocked(e *entry) {
	if p.waiting == nil {
		p.waiting = make(map[laneKey][]*entry)
	}
	some := p.waiting[e.lane]
	i := len(some)
	for i > 0 && some[i-1].pass > e.pass {
		i--
	}
	p.waiting[e.lane] = slices.Insert(some, i, e)
}

// roomLocked reports whether another record may come into memory. A portal has at most three times
// what is free, so that a portal that makes no progress leaves room for others. Application events,
// and records that are parked at once, have a little more. w.mu is held.
func (w *durable) roomLocked(t *tenure, key orderKey, unreadable bool) bool {
	free := w.maxEntries - w.entries
	if key.urgent || unreadable {
		return free+w.maxEntries/8+1 > 0
	}
	held := 0
	if portal := t.portals[key.Key]; portal != nil {
		held = portal.entries
	}
	return free > 0 && (held == 0 || held < 3*free)
}

// portalLocked returns a portal of a tenure, a new one if there is none. w.mu is held.
func (w *durable) portalLocked(t *tenure, key dispatch.Key) *openPortal {
	portal := t.portals[key]
	if portal == nil {
		key = dispatch.Key{ClientID: strings.Clone(key.ClientID), MemberID: strings.Clone(key.MemberID)}
		portal = &openPortal{key: key}
		portal.Portal = w.dispatcher.Open(key, dispatch.PortalOptions{
			Front: w, Limit: w.cfg.portalWorkers, Misfits: w.misfits, Removal: w.removed, Intake: t.feeding,
		})
		t.portals[key] = portal
	}
	return portal
}

// flush gives the dispatcher the entries of a lane that waited for a handler of an earlier tenure.
func (w *durable) flush(portal *openPortal, lane laneKey) {
	for {
		w.mu.Lock()
		waiting := portal.waiting[lane]
		if len(waiting) == 0 {
			delete(portal.waiting, lane)
			w.mu.Unlock()
			return
		}
		portal.waiting[lane] = nil // entries that come meanwhile wait behind these
		w.mu.Unlock()
		items := make([]*dispatch.Item, 0, len(waiting))
		for _, e := range waiting {
			items = append(items, &e.item)
		}
		portal.Add(items...)
	}
}

// chargeLocked charges the delivery of an entry, if there is room for it or must is set, and
// reports whether it did. A portal has at most three times what is free. w.mu is held.
func (w *durable) chargeLocked(e *entry, must bool) bool {
	free := w.cfg.queueSize - w.used - e.cost
	p := e.portal
	if p == nil || !must && (free < 0 || p.charged > 0 && (p.charged+e.cost)/3 > free) {
		return false
	}
	w.used += e.cost
	p.charged += e.cost
	e.charged = true
	return true
}

// releaseLocked ends the charge for the delivery of an entry. w.mu is held.
func (w *durable) releaseLocked(e *entry) {
	if e.charged {
		w.used -= e.cost
		e.portal.charged -= e.cost
		e.charged = false
	}
}

// finish writes the last mark of an entry. The entry leaves memory when the mark is durable.
func (w *durable) finish(e *entry, m Mark) {
	w.detach(e)
	w.journal.mark(e, m, nil)
}

// detach takes an entry off its portal when its work is over.
func (w *durable) detach(e *entry) {
	w.mu.Lock()
	after := w.detachLocked(e, false)
	w.mu.Unlock()
	after()
}

// detachLocked takes an entry off its portal. If the entry was cut, and the feed of a later tenure
// has passed it, that tenure gets it. The caller calls the returned function without the lock. w.mu
// is held.
func (w *durable) detachLocked(e *entry, cut bool) (after func()) {
	portal := e.portal
	if portal == nil {
		return func() {}
	}
	w.releaseLocked(e)
	e.unload()
	e.portal = nil
	portal.entries--
	last := portal.entries == 0
	t := e.tenure
	p := &w.partitions[t.part]
	if last {
		delete(t.portals, portal.key)
		if p.hasSkipped(orderKey{Key: portal.key}) {
			w.restartLaterLocked(p, false)
		}
	}
	var waits *openPortal
	if t.ended && e.lane != (laneKey{}) {
		if cut && e.passedBy == p.tenure {
			w.resumeLocked(p.tenure, portal.key, e)
		}
		if p.unfinished[e.lane]--; p.unfinished[e.lane] == 0 {
			delete(p.unfinished, e.lane)
			if p.tenure != nil {
				waits = p.tenure.portals[portal.key]
			}
		}
	}
	return func() {
		if last {
			portal.Close()
		}
		if waits != nil {
			w.flush(waits, e.lane)
		}
	}
}

// resumeLocked gives a tenure a record whose handler was ended in an earlier tenure. The feed has
// passed it, and the others of its lane wait behind it. w.mu is held.
func (w *durable) resumeLocked(t *tenure, key dispatch.Key, old *entry) {
	e := &entry{
		id: old.id, lane: old.lane, tenure: t, cost: old.cost, failed: old.failed, failure: old.failure, interrupted: old.interrupted,
		recovered: true, suspect: old.suspect, passedBy: t, pass: old.pass,
	}
	e.item = dispatch.Item{
		Lane: old.item.Lane, Urgent: old.item.Urgent, Merge: old.item.Merge, Fired: old.item.Fired,
		Cost: old.cost, Arrived: old.item.Arrived, Attempts: old.failed, Front: e,
	}
	portal := w.portalLocked(t, key)
	portal.entries++
	e.portal = portal
	portal.waitLocked(e)
	w.countLocked(e)
}

// marksCommitted is called by the journal with marks that are durable.
func (w *durable) marksCommitted(marks []*pendingMark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range marks {
		if m.begun != nil {
			close(m.begun)
		}
		if m.State != StatePending {
			w.forgetLocked(m.e, true)
		}
	}
}

// marksAbandoned is called by the journal with marks that this process must not make any more.
func (w *durable) marksAbandoned(marks []*pendingMark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range marks {
		if m.State != StatePending {
			w.forgetLocked(m.e, false)
		}
	}
}

// forgetLocked removes an entry from memory. If the record was settled, it leaves a tombstone for a
// while, because a feed may have read it before. w.mu is held.
func (w *durable) forgetLocked(e *entry, settled bool) {
	t := e.tenure
	p := &w.partitions[t.part]
	switch {
	case p.entries[e.id] != e: // another tenure has it
	case settled:
		p.entries[e.id] = nil
		old := &w.tombstones[w.nextTombstone]
		if old.id != "" {
			if at, there := w.partitions[old.part].entries[old.id]; there && at == nil {
				delete(w.partitions[old.part].entries, old.id)
			}
		}
		*old = tombstone{part: t.part, id: e.id}
		w.nextTombstone = (w.nextTombstone + 1) % maxTombstones
	default:
		delete(p.entries, e.id)
		if e.passedBy == p.tenure {
			p.tenure.restart()
		}
	}
	w.entries--
	t.entries--
	t.announceDrainedLocked()
	full := w.entries > w.maxEntries/2
	if len(p.skipped) > 0 {
		w.restartLaterLocked(p, full)
	}
	for part := range w.starved { // the memory is for all partitions
		w.restartLaterLocked(&w.partitions[part], full)
		delete(w.starved, part)
	}
}
