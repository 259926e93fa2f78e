package pgstore

import (
	"context"
	"iter"
	"math"
	"time"

	"github.com/b24events/b24events/webhook"
)

const (
	// feedRows and feedBytes bound the records that a feed gets at a time. A larger record comes
	// alone.
	feedRows  = 128
	feedBytes = 256 << 10
	// lookBytes bounds in the same way the records that all feeds get at a time.
	lookBytes = 4 << 20
	// ownBytes bounds the records in memory that this process has stored and that a feed has not got
	// yet. Others are read from the server.
	ownBytes = 256 << 10
)

// feed is one call of Feed. Store.mu guards it. A cursor would not work: a transaction that began
// early can commit late, and then its records have smaller IDs than others that were fed already.
// So each look asks for all records with an ID above low, and leaves out those that were fed.
type feed struct {
	part int
	out  chan feedBatch // has room while the feed is wanting

	started bool
	start   int64 // records up to this ID were committed before the feed began
	low     int64 // no unfed record up to this ID can appear any more

	fed   map[key]struct{} // fed, and not known to be settled
	above []int64          // IDs above low that were fed; some may be settled
	late  []key            // settled during the current look
	swept int64            // the ID that the current sweep has reached

	sweptAt time.Time // used by the poller only

	wanting bool // the loop body has got all records that were read
	looking bool // a look is running
	more    bool // the last look saw more than it passed on
	missed  bool // this process stored records while the feed was not wanting

	own     map[key]webhook.Record // records that this process stored since the feed began
	ownSize int
}

// feedBatch is what a feed gets at a time: records, or the error that ends it.
type feedBatch struct {
	records []*webhook.Record
	err     error
}

// Feed implements [webhook.Store]. All feeds of a Store share one goroutine that looks for records,
// so a feed needs no connection. A feed holds at most 128 records or 256 KiB in memory, or one
// larger record. It also holds the ID of each record that was fed and is not settled.
//
// A feed survives an outage of the server of a few seconds. After that, or at once if a table or a
// privilege is missing, it yields an error and ends.
func (s *Store) Feed(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
	return func(yield func(*webhook.Record, error) bool) {
		if part < 0 || part >= s.partitions {
			yield(nil, misconfigured("there is no partition %d", part))
			return
		}
		f := &feed{part: part, out: make(chan feedBatch, 1), fed: make(map[key]struct{}), own: make(map[key]webhook.Record), wanting: true}
		s.mu.Lock()
		s.feeds[part] = append(s.feeds[part], f)
		s.lookDue = true
		s.mu.Unlock()
		s.wakePoller()
		defer s.endFeed(f)
		for {
			var next feedBatch
			select {
			case <-ctx.Done():
				return
			case <-s.closed:
				next.err = ErrClosed
			case next = <-f.out:
			}
			if next.err != nil {
				if ctx.Err() == nil {
					yield(nil, next.err)
				}
				return
			}
			for i, r := range next.records {
				next.records[i] = nil
				if ctx.Err() != nil || !yield(r, nil) {
					return
				}
			}
			s.want(f)
		}
	}
}

func (s *Store) endFeed(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := s.feeds[f.part][:0:0]
	for _, other := range s.feeds[f.part] {
		if other != f {
			rest = append(rest, other)
		}
	}
	if len(rest) == 0 {
		delete(s.feeds, f.part)
		return
	}
	s.feeds[f.part] = rest
}

// want notes that a feed has room for more.
func (s *Store) want(f *feed) {
	s.mu.Lock()
	f.wanting = true
	if f.more || f.missed {
		s.lookDue = true
	}
	s.mu.Unlock()
	s.wakePoller()
}

// wakePoller makes the poller check whether a look is due.
func (s *Store) wakePoller() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// stored notes records that this process has committed, for the feeds of their partitions.
func (s *Store) stored(records []*webhook.Record, keys []key) {
	s.mu.Lock()
	lookDue := false
	for i, r := range records {
		for _, f := range s.feeds[r.Part] {
			f.missed = f.missed || !f.wanting
			lookDue = lookDue || f.wanting
			_, known := f.fed[keys[i]]
			if known || keys[i].id <= f.low || f.ownSize+len(r.Data) > ownBytes && len(f.own) > 0 {
				continue
			}
			f.own[keys[i]] = *r // a copy of its present state; see takeOwnLocked
			f.ownSize += len(r.Data)
		}
	}
	s.lookDue = s.lookDue || lookDue
	s.mu.Unlock()
	if lookDue {
		s.wakePoller()
	}
}

// replayed notes that this process has replayed records of partitions.
func (s *Store) replayed(parts map[int]bool) {
	s.mu.Lock()
	for part := range parts {
		for _, f := range s.feeds[part] {
			f.missed = true
			s.lookDue = true
		}
	}
	s.mu.Unlock()
	s.wakePoller()
}

// settled removes a record that is not pending any more.
func (s *Store) settled(part int, k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds[part] {
		if f.looking { // the look may see the record, and must not feed it again
			f.late = append(f.late, k)
			continue
		}
		delete(f.fed, k)
	}
}

// endLookLocked ends a look or a sweep. Store.mu must be held.
func (f *feed) endLookLocked() {
	f.looking = false
	for _, k := range f.late {
		delete(f.fed, k)
	}
	f.late = f.late[:0]
}

// takeOwnLocked removes and returns a record that this process has stored, or nil if it is not in
// memory. Store.mu must be held.
func (f *feed) takeOwnLocked(k key) *webhook.Record {
	r, ok := f.own[k]
	if !ok {
		return nil
	}
	delete(f.own, k)
	f.ownSize -= len(r.Data)
	return &r
}

// raiseLocked sets low to at least id. Store.mu must be held.
func (f *feed) raiseLocked(id int64) {
	if id <= f.low {
		return
	}
	f.low = id
	keep := f.above[:0]
	for _, a := range f.above {
		if a > id {
			keep = append(keep, a)
		}
	}
	f.above = keep
	for k, r := range f.own { // there are few
		if k.id <= id {
			delete(f.own, k)
			f.ownSize -= len(r.Data)
		}
	}
}

// recountLocked computes above from the records that were fed and not settled. Store.mu must be
// held.
func (f *feed) recountLocked() {
	f.above = f.above[:0]
	for k := range f.fed {
		if k.id > f.low {
			f.above = append(f.above, k.id)
		}
	}
}

// wasteLimit is how many IDs of settled records above may hold.
const wasteLimit = 1024

// lookLimitLocked returns how many records a look must ask for, so that it sees feedRows records
// that were not fed. Store.mu must be held.
func (f *feed) lookLimitLocked() int64 {
	if len(f.above) > 2*len(f.fed)+wasteLimit {
		f.recountLocked()
	}
	return int64(len(f.above)) + feedRows
}

// restartLocked makes the feed look at all records again. Store.mu must be held.
func (f *feed) restartLocked() {
	f.low, f.swept = 0, 0
	f.recountLocked()
}

// noLimit is an ID above all others.
const noLimit = math.MaxInt64
