package sqlitestore

import (
	"cmp"
	"slices"

	"github.com/b24events/b24events/webhook"
)

// Bounds of the records that are kept in memory for Feeds.
const (
	recentRecords = 4096
	recentBytes   = 8 << 20
)

// recent holds records that were stored while a Feed ran and that it has not yielded yet: those
// with IDs above from, up to to. A Feed that lags behind reads later ones from the file.
type recent struct {
	records  []recentRecord // by ID
	from, to int64
	bytes    int
}

type recentRecord struct {
	id     int64
	record *webhook.Record // nil if it was settled in the meantime
}

// reset removes all records. The next ones have IDs above last.
func (r *recent) reset(last int64) {
	clear(r.records)
	*r = recent{records: r.records[:0], from: last, to: last}
}

// add appends records with consecutive IDs, from before+1 to last. It appends nothing if there is a
// gap, or no room.
func (r *recent) add(before, last int64, records []*webhook.Record) {
	if len(r.records) == 0 {
		r.from, r.to, r.bytes = before, before, 0
	}
	if r.to != before || len(records) == 0 {
		return
	}
	bytes := 0
	for _, record := range records {
		bytes += len(record.Data)
	}
	if len(r.records)+len(records) > recentRecords || r.bytes+bytes > recentBytes {
		return
	}
	for i, record := range records {
		r.records = append(r.records, recentRecord{last - int64(len(records)-1-i), record})
	}
	r.to, r.bytes = last, r.bytes+bytes
}

// find returns the entry of a record that is in memory and was not settled.
func (r *recent) find(id int64) (*recentRecord, bool) {
	if len(r.records) == 0 || id < r.records[0].id {
		return nil, false
	}
	i, ok := slices.BinarySearchFunc(r.records, id, func(r recentRecord, id int64) int { return cmp.Compare(r.id, id) })
	if !ok || r.records[i].record == nil {
		return nil, false
	}
	return &r.records[i], true
}

// settle removes records that are not pending any more.
func (r *recent) settle(first, last int64) {
	if len(r.records) == 0 || last < r.records[0].id {
		return
	}
	for id := max(first, r.records[0].id); id <= min(last, r.to); id++ {
		if found, ok := r.find(id); ok {
			r.bytes -= len(found.record.Data)
			found.record = nil
		}
	}
}

// count copies the counters of a mark to a record that is in memory.
func (r *recent) count(id int64, m *webhook.Mark) {
	if found, ok := r.find(id); ok {
		record := found.record
		record.Attempts, record.Interrupted, record.Due, record.Err = m.Attempts, m.Interrupted, m.Due, m.Err
	}
}

// take removes and returns up to n records with IDs above at. It also returns the ID up to which
// the result is complete. It returns false if the next records must be read from the file.
func (r *recent) take(at int64, n int, into []*webhook.Record) ([]*webhook.Record, int64, bool) {
	if len(r.records) == 0 || at < r.from {
		return into, at, false
	}
	n = min(n, len(r.records))
	for _, found := range r.records[:n] {
		if found.record != nil && found.id > at {
			into = append(into, found.record)
		}
		if found.record != nil {
			r.bytes -= len(found.record.Data)
		}
	}
	at = max(at, r.records[n-1].id)
	rest := copy(r.records, r.records[n:])
	clear(r.records[rest:])
	r.records = r.records[:rest]
	r.from = at
	return into, at, true
}
