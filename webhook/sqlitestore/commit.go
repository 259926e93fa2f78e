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
// [ErrDown], [ErrDamaged], [ErrClosed], [ErrConfig] or the error of ctx. Any other error means that
// another program has locked the file. If there is no room for add, the marks are applied
// nevertheless.
func (s *Store) Commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	if s.archive {
		return errArchiveOnly
	}
	stored, err := storable(add)
	if err != nil {
		return err
	}
	// When ctx ends, the slices belong to the caller again, but the writer may still be using them.
	settling := sortMarks(marks)
	if len(stored) == 0 && settling.empty() {
		return s.usable(ctx, "commit")
	}
	return s.do(ctx, "commit", func(ctx context.Context, w *writer, j *job) error { return w.commit(ctx, j, stored, settling) })
}

// storable rejects records that the file cannot hold, and returns the others in a new slice.
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

// settling holds marks in the order in which they are applied: first counters, then parked records,
// then done records. The result is that of the marks in their own order, as long as none is both
// parked and done.
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
			if !slices.Contains(s.done, id) { // an earlier mark wins
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

// changes counts the records that a transaction adds and removes.
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

// recordBytes is about what a record needs besides its Data.
const recordBytes = 80

func (s *Store) moved(c changes) {
	s.pending.Add(c.pending)
	s.parked.Add(c.parked)
	s.kept.Add(c.kept)
}

// maxRows is the most records that one statement stores.
const (
	maxRowsLog = 6
	maxRows    = 1 << maxRowsLog
)

// insert stores records in order, and returns the ID of the last one. The IDs are consecutive,
// because no other connection writes during the transaction.
func (w *writer) insert(ctx context.Context, add []*webhook.Record) (last int64, err error) {
	for len(add) > 0 {
		rows := min(maxRows, 1<<(bits.Len(uint(len(add)))-1)) // a power of two, so that there are few statements to prepare
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

// insertRows returns the statement that stores a number of records, which is a power of two.
func (w *writer) insertRows(rows int) string {
	statement := &w.inserts[bits.TrailingZeros(uint(rows))]
	if *statement == "" {
		*statement = insertRows(rows)
	}
	return *statement
}

// settle applies marks. Those of records that are not pending change nothing.
func (w *writer) settle(ctx context.Context, marks settling, moved *changes) error {
	for _, m := range marks.counted {
		_, err := w.c.exec(ctx, sqlCount, int64(m.mark.Attempts), int64(m.mark.Interrupted), dueMicros(m.mark.Due), m.mark.Err, m.id)
		if err != nil {
			return err
		}
	}
	for _, m := range marks.parked {
		n, err := w.c.change(ctx, sqlPark, int64(webhook.StateParked), w.now(), int64(m.mark.Attempts), int64(m.mark.Interrupted),
			m.mark.Err, m.id)
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

// now returns the time of settling. It never goes backward, so records that were settled later
// never have earlier times.
func (w *writer) now() int64 {
	w.settled = max(w.settled, micros(time.Now()))
	return w.settled
}

// ranges yields the runs of consecutive numbers.
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

// publish passes the changes of a transaction to the Feeds, and gives the records their IDs.
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

// wakeFeedsLocked wakes the waiting Feeds. s.mu must be held.
func (s *Store) wakeFeedsLocked() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}
