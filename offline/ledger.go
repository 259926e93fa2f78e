package offline

import (
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// flushInterval is how long an ack waits for a request that it can join. It bounds what a crash
	// makes the next process handle again.
	flushInterval = 5 * time.Second
	// lastSendTimeout is how long an engine that was stopped goes on trying to send acks.
	lastSendTimeout = 10 * time.Second
	// maxAcks is how many records one request clears, so that it stays within what web servers take.
	maxAcks = 4000
	// maxAckCalls is how many calls clear them: one for each reservation, of 500 records at most. It
	// leaves room in a batch for other calls.
	maxAckCalls = 40
)

// rowKey names a record in a reservation.
type rowKey struct {
	processID, messageID string
	id                   int64
}

func (r Record) key() rowKey { return rowKey{r.ProcessID, r.MessageID, r.ID} }

// budget bounds the memory that the records of one process take, or of one consumer.
type budget struct {
	size int64
	used atomic.Int64
}

// ledger is what an engine holds of the queue: records in work, acks that were not sent yet, and
// records that are to be parked. It is safe for concurrent use: workers write to it, and turns read
// it.
type ledger struct {
	budget *budget

	mu          sync.Mutex
	records     map[rowKey]struct{} // all of them
	bytes       int64               // that records in work take
	working     int                 // records in work
	acks        []ack
	acksSince   time.Time // when the first ack came
	toPark      []Record
	toParkSince time.Time // when the first record to park came
	abandoned   int       // records that were left reserved, and not reported yet
}

// ack is a record that is to be cleared.
type ack struct {
	key    rowKey
	parked bool
}

// add adds records, which are in work from now on.
func (l *ledger) add(records ...Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		if l.records == nil {
			l.records = make(map[rowKey]struct{})
		}
		l.records[r.key()] = struct{}{}
		l.working++
		l.bytes += r.size()
		l.budget.used.Add(r.size())
	}
}

// finishLocked notes that a record is no longer in work. l.mu must be held.
func (l *ledger) finishLocked(r Record) {
	l.working--
	l.freeLocked(r)
}

// freeLocked gives back the memory of a record. l.mu must be held.
func (l *ledger) freeLocked(r Record) {
	l.bytes -= r.size()
	l.budget.used.Add(-r.size())
}

// ack notes that a record is to be cleared. reserved is false for a record that no reservation has.
func (l *ledger) ack(r Record, reserved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finishLocked(r)
	if !reserved {
		l.removeLocked(r.key())
		return
	}
	if len(l.acks) == 0 {
		l.acksSince = time.Now()
	}
	l.acks = append(l.acks, ack{key: r.key(), parked: r.Parked})
}

// park notes that a record is to be parked.
func (l *ledger) park(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.working-- // it takes memory until it is parked
	if len(l.toPark) == 0 {
		l.toParkSince = time.Now()
	}
	l.toPark = append(l.toPark, r)
}

// release forgets a record that stays as it is on the portal.
func (l *ledger) release(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finishLocked(r)
	l.removeLocked(r.key())
}

// keepReserved notes that a record stays reserved because no call can name it. It stays in the
// ledger, so that it is not handled again before the next start of the process.
func (l *ledger) keepReserved(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finishLocked(r)
	l.abandoned++
}

// abandon forgets a record that was not handled, and counts it.
func (l *ledger) abandon(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finishLocked(r)
	l.removeLocked(r.key())
	l.abandoned++
}

// discard gives back the memory of everything. Nothing may be in work, and the ledger is not used
// again.
func (l *ledger) discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.budget.used.Add(-l.bytes)
	l.bytes = 0
}

// removeLocked forgets a record. l.mu must be held.
func (l *ledger) removeLocked(key rowKey) {
	delete(l.records, key)
	if len(l.records) == 0 {
		l.records = nil
	}
}

// has reports whether a record is in the ledger.
func (l *ledger) has(r Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.records[r.key()]
	return ok
}

// acked removes acks that were sent.
func (l *ledger) acked(acks []ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := make(map[rowKey]bool, len(acks))
	for _, a := range acks {
		gone[a.key] = true
		l.removeLocked(a.key)
	}
	l.acks = slices.DeleteFunc(l.acks, func(a ack) bool { return gone[a.key] })
	if len(l.acks) == 0 {
		l.acks = nil
	} else {
		l.acksSince = time.Now()
	}
}

// parkingDone removes records that were parked, or that are gone from the queue.
func (l *ledger) parkingDone(records []Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := make(map[rowKey]bool, len(records))
	for _, r := range records {
		gone[r.key()] = true
		l.removeLocked(r.key())
	}
	l.toPark = slices.DeleteFunc(l.toPark, func(r Record) bool {
		if !gone[r.key()] {
			return false
		}
		l.freeLocked(r)
		return true
	})
	l.toParkSince = time.Now()
}

// abandonParking abandons the records that are to be parked.
func (l *ledger) abandonParking() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.toPark {
		l.freeLocked(r)
		l.removeLocked(r.key())
	}
	l.abandoned += len(l.toPark)
	l.toPark = nil
}

// acksDue reports whether acks deserve a request of their own: they have waited long enough, or
// nothing is in work that would add others.
func (l *ledger) acksDue(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acks) > 0 && (l.working == 0 || len(l.acks) >= maxAcks || now.Sub(l.acksSince) >= flushInterval)
}

// acksDueAt returns when acks will be due; zero for never.
func (l *ledger) acksDueAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.acks) == 0 {
		return time.Time{}
	}
	return l.acksSince.Add(flushInterval)
}

// memoryShare is how many times the free memory the records of one queue may take, so that it
// leaves some to the others.
const memoryShare = 3

// hasRoom reports whether there is memory for more records.
func (l *ledger) hasRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes <= memoryShare*(l.budget.size-l.budget.used.Load())
}

// idle reports whether nothing is in work.
func (l *ledger) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.working == 0
}

// empty reports whether the ledger holds nothing.
func (l *ledger) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.working == 0 && len(l.acks) == 0 && len(l.toPark) == 0
}

// parkingDue reports whether the records that are to be parked deserve a request of their own; see
// acksDue.
func (l *ledger) parkingDue(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.toPark) > 0 && (l.working == 0 || now.Sub(l.toParkSince) >= flushInterval)
}

// parkingDueAt returns when parkingDue will be true; zero for never.
func (l *ledger) parkingDueAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.toPark) == 0 {
		return time.Time{}
	}
	return l.toParkSince.Add(flushInterval)
}

func (l *ledger) toParkCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.toPark)
}

// unsent returns how many acks and parkings were not sent.
func (l *ledger) unsent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acks) + len(l.toPark)
}

// takeAbandoned returns how many records were left reserved since the last call.
func (l *ledger) takeAbandoned() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.abandoned
	l.abandoned = 0
	return n
}

// ackGroups returns acks by reservation and by how calls name them, as many as one request takes.
// It also reports whether these are all.
func (l *ledger) ackGroups() (groups [][]ack, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	type name struct {
		processID string
		byID      bool
	}
	index := make(map[name]int)
	n := 0
	for _, a := range l.acks {
		key := name{a.key.processID, a.byID()}
		at, ok := index[key]
		if !ok || len(groups[at]) == maxNamed {
			if len(groups) == maxAckCalls {
				continue
			}
			at = len(groups)
			index[key] = at
			groups = append(groups, nil)
		}
		if n == maxAcks {
			break
		}
		groups[at] = append(groups[at], a)
		n++
	}
	groups = slices.DeleteFunc(groups, func(g []ack) bool { return len(g) == 0 })
	return groups, n == len(l.acks)
}

// byID reports whether calls name the record by its ID. They do for parked records, because older
// ones of the same message may be in the same reservation.
func (a ack) byID() bool { return (a.parked && a.key.id > 0) || !isMessageID(a.key.messageID) }

// parkGroups returns the records that are to be parked by reservation.
func (l *ledger) parkGroups() map[string][]Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	groups := make(map[string][]Record)
	for _, r := range l.toPark {
		groups[r.ProcessID] = append(groups[r.ProcessID], r)
	}
	return groups
}

// size returns about how much memory the record takes, in bytes.
func (r Record) size() int64 {
	n := int64(len(r.Raw()))
	if r.Delivery != nil {
		n += r.Delivery.Size()
	}
	return n
}

// ackCalls returns calls that clear finished records, as many as one request takes. It also reports
// whether these are all.
func (e *engine) ackCalls() (calls []call, all bool) {
	e.clearFailed = false
	groups, all := e.ledger.ackGroups()
	for _, g := range groups {
		params := map[string]any{"process_id": g[0].key.processID}
		if g[0].byID() {
			ids := make([]int64, len(g))
			for i, a := range g {
				ids[i] = a.key.id
			}
			params["id"] = ids
		} else {
			ids := make([]string, len(g))
			for i, a := range g {
				ids[i] = a.key.messageID
			}
			params["message_id"] = ids
		}
		calls = append(calls, e.ackCall(g, params))
		e.orphans.rowsGone(len(g)) // at most
	}
	return calls, all
}

func (e *engine) ackCall(acks []ack, params map[string]any) call {
	return call{method: methodClear, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		if err == nil {
			err = readTrue(methodClear, doc)
		}
		if err != nil {
			e.clearFailed = true
			return err
		}
		e.ledger.acked(acks)
		e.meter.count(func(st *Stats) { st.Cleared += counted(len(acks)) })
		for _, a := range acks {
			if a.parked {
				e.addParkedCount(-1)
			}
		}
		return nil
	}}
}
