package sqlitestore

import (
	"context"
	"math/bits"
	"slices"
	"time"

	"github.com/b24events/b24events/webhook"
)

// MaxDataBytes bounds the Data of a record. Commit rejects records with more.
const MaxDataBytes = 32 << 20

// Partitions returns 1: one process works a file.
func (s *Store) Partitions() int { return 1 }

// Commit implements [webhook.Store]. An error matches [webhook.ErrQueueFull], [ErrDiskFull],
// [ErrDown], [ErrDamaged], [ErrClosed], [ErrConfig] or the error of ctx, or the file is locked by
// another program. If there is no room for add, its marks are applied all the same.
func (s *Store) Commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	if s.archive {
		return errArchiveOnly
	}
	stored, err := storable(add)
	if err != nil {
		return err
	}
	// The slices are the caller's again when ctx ends, and the writer may still be at work then.
	settling := sortMarks(marks)
	if len(stored) == 0 && settling.empty() {
		return s.usable(ctx, "commit")
	}
	return s.do(ctx, "commit", func(ctx context.Context, w *writer, j *job) error { return w.commit(ctx, j, stored, settling) })
}

// storable rejects records that the file cannot hold and returns the others, in a slice of its own.
func storable(add []*webhook.Record) ([]*webhook.Record, error) {
	stored := make([]*webhook.Record, 0, len(add))
	for _, r := range add {
		switch {
		case r.Part != 0:
			return nil, misconfigured("Commit of a record of partition %d; there is one, 0", r.Part)
		case len(r.Data) > MaxDataBytes:
			r.Rejected = errTooLarge
		case len(r.Data) == 0:
			r.Rejected = errNoData
		default:
			stored = append(stored, r)
		}
	}
	return stored, nil
}

// settling is marks in the order in which they are applied: counters, then records that are parked,
// then records that are done. That is the order of the marks, as long as none is both parked and
// done.
type settling struct {
	counted []numbered
	parked  []numbered
	done    []int64 // sorted
}

type numbered struct {
	id   int64
	mark webhook.Mark
}

func sortMarks(marks []webhook.Mark) settling {
	var s settling
	for i := range marks {
		m := &marks[i]
		id := parseID(m.ID)
		if id == 0 || m.Part != 0 {
			continue
		}
		switch m.State {
		case webhook.StateDone:
			s.done = append(s.done, id)
		case webhook.StateParked:
			if !slices.Contains(s.done, id) { // else it was done before
				s.parked = append(s.parked, numbered{id, *m})
			}
		case webhook.StatePending:
			s.counted = append(s.counted, numbered{id, *m})
		}
	}
	slices.Sort(s.done)
	return s
}

func (s *settling) empty() bool { return len(s.counted)+len(s.parked)+len(s.done) == 0 }

// changes is how many records a transaction moves.
type changes struct{ pending, parked, kept int64 }

func (w *writer) commit(ctx context.Context, j *job, add []*webhook.Record, settling settling) error {
	var moved changes
	var last int64
	full := false
	bytes := 0
	err := w.transact(ctx, "commit", j, func() error {
		if err := w.settle(ctx, settling, &moved); err != nil {
			return err
		}
		bound := w.s.maxPending
		if full = bound > 0 && len(add) > 0 && w.s.pending.Load()+moved.pending+int64(len(add)) > bound; full {
			if settling.empty() {
				return webhook.ErrQueueFull
			}
			return nil
		}
		moved.pending += int64(len(add))
		for _, r := range add {
			bytes += len(r.Data) + recordBytes
		}
		var err error
		last, err = w.insert(ctx, add)
		return err
	})
	if err != nil {
		return err
	}
	if full {
		add = nil
	}
	w.wrote(bytes)
	w.s.moved(moved)
	w.publish(j, settling, add, last)
	if full {
		return webhook.ErrQueueFull
	}
	return nil
}

// recordBytes is what a record takes beside its Data, about.
const recordBytes = 80

func (s *Store) moved(c changes) {
	s.pending.Add(c.pending)
	s.parked.Add(c.parked)
	s.kept.Add(c.kept)
}

// maxRows is how many records one statement stores.
const (
	maxRowsLog = 6
	maxRows    = 1 << maxRowsLog
)

// insert stores records, in their order, and returns the ID of the last one. The IDs of the others
// go down from it, because nobody else writes in the transaction.
func (w *writer) insert(ctx context.Context, add []*webhook.Record) (last int64, err error) {
	for len(add) > 0 {
		rows := min(maxRows, 1<<(bits.Len(uint(len(add)))-1)) // powers of two are few statements to prepare
		for i, r := range add[:rows] {
			v := w.values[4*i : 4*i+4]
			v[0], v[1], v[2], v[3] = r.Name, r.MemberID, micros(r.Received), r.Data
		}
		result, err := w.c.exec(ctx, w.insertRows(rows), w.values[:4*rows]...)
		if err != nil {
			return 0, err
		}
		if last, err = result.LastInsertId(); err != nil {
			return 0, err
		}
		add = add[rows:]
	}
	return last, nil
}

// insertRows is the statement that stores so many records, a power of two.
func (w *writer) insertRows(rows int) string {
	statement := &w.inserts[bits.TrailingZeros(uint(rows))]
	if *statement == "" {
		*statement = insertRows(rows)
	}
	return *statement
}

// settle applies marks. What is not pending any more is not there to be changed.
func (w *writer) settle(ctx context.Context, marks settling, moved *changes) error {
	for _, m := range marks.counted {
		if _, err := w.c.exec(ctx, sqlCount, int64(m.mark.Attempts), int64(m.mark.Interrupted), dueMicros(m.mark.Due), m.mark.Err, m.id); err != nil {
			return err
		}
	}
	for _, m := range marks.parked {
		n, err := w.c.change(ctx, sqlPark, int64(webhook.StateParked), w.now(), int64(m.mark.Attempts), int64(m.mark.Interrupted), m.mark.Err, m.id)
		if err == nil && n > 0 {
			_, err = w.c.exec(ctx, sqlDelete, m.id, m.id)
		}
		if err != nil {
			return err
		}
		moved.parked += n
		moved.pending -= n
	}
	for first, last := range ranges(marks.done) {
		if w.s.keep > 0 {
			n, err := w.c.change(ctx, sqlArchive, int64(webhook.StateDone), w.now(), first, last)
			if err != nil {
				return err
			}
			moved.kept += n
		}
		n, err := w.c.change(ctx, sqlDelete, first, last)
		if err != nil {
			return err
		}
		moved.pending -= n
	}
	return nil
}

// now is the time of settling. It never goes back, so the order of settling is the order in time.
func (w *writer) now() int64 {
	w.settled = max(w.settled, micros(time.Now()))
	return w.settled
}

// ranges yields the runs of numbers that follow each other.
func ranges(sorted []int64) func(func(first, last int64) bool) {
	return func(yield func(first, last int64) bool) {
		for i := 0; i < len(sorted); {
			first, last := sorted[i], sorted[i]
			for i++; i < len(sorted) && sorted[i] <= last+1; i++ {
				last = sorted[i]
			}
			if !yield(first, last) {
				return
			}
		}
	}
}

// publish tells the Feeds what a transaction has changed, and the records their IDs.
func (w *writer) publish(j *job, marks settling, add []*webhook.Record, last int64) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for first, last := range ranges(marks.done) {
		s.recent.settle(first, last)
	}
	for _, m := range marks.parked {
		s.recent.settle(m.id, m.id)
	}
	for _, m := range marks.counted {
		s.recent.count(m.id, &m.mark)
	}
	if len(add) == 0 {
		return
	}
	before := last - int64(len(add))
	if j.finish() {
		for i, r := range add {
			r.ID = formatID(before + int64(i) + 1)
		}
		if s.feeds > 0 {
			s.recent.add(before, last, add)
		}
	}
	s.lastID = last
	s.wakeFeedsLocked()
}

// wakeFeedsLocked wakes the Feeds that wait. It needs mu.
func (s *Store) wakeFeedsLocked() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}
