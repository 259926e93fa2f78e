package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"iter"

	"github.com/b24events/b24events/webhook"
)

// Bounds of the records that a Feed reads at a time.
const (
	feedRecords = 256
	feedBytes   = 1 << 20
)

// Feed implements [webhook.Store]. It yields the same *webhook.Record values that Commit was given
// while the Feed ran. If the loop body is 4,096 records or 8 MiB of Data behind, it reads them from
// the file instead. Errors match [ErrDamaged], [ErrClosed] or [ErrConfig]. Any other error means
// that the file could not be read.
func (s *Store) Feed(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
	return func(yield func(*webhook.Record, error) bool) {
		if s.archive {
			yield(nil, errArchiveOnly)
			return
		}
		if part != 0 {
			yield(nil, misconfigured("Feed of partition %d; there is one, 0", part))
			return
		}
		f := feed{s: s, begun: s.beginFeed()}
		defer s.endFeed()
		for {
			batch, err := f.next(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for i, r := range batch {
				batch[i] = nil // so that memory is freed when the caller drops the record
				if !yield(r, nil) {
					return
				}
				if ctx.Err() != nil {
					return
				}
			}
		}
	}
}

// beginFeed registers a Feed, and returns the ID of the newest record that is older than it.
func (s *Store) beginFeed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds++; s.feeds == 1 {
		s.recent.reset(s.lastID)
	}
	return s.lastID
}

func (s *Store) endFeed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds--; s.feeds == 0 {
		s.recent = recent{}
	}
}

// feed is one Feed.
type feed struct {
	s     *Store
	begun int64 // records up to this ID are older than the Feed
	at    int64 // records up to this ID were yielded
	batch []*webhook.Record
}

// next waits for the next records and returns some of them. It returns none if ctx ends.
func (f *feed) next(ctx context.Context) ([]*webhook.Record, error) {
	for ctx.Err() == nil {
		f.s.mu.Lock()
		if f.at >= f.s.lastID {
			wake := f.s.wakeLocked()
			f.s.mu.Unlock()
			select {
			case <-wake:
			case <-f.s.quit:
			case <-ctx.Done():
			}
			if f.s.closed() {
				return nil, ErrClosed
			}
			continue
		}
		batch, at, ok := f.s.recent.take(f.at, feedRecords, f.batch[:0])
		upTo := f.s.lastID
		if len(f.s.recent.records) > 0 {
			upTo = f.s.recent.from
		}
		f.s.mu.Unlock()
		if !ok {
			var err error
			if batch, at, err = f.s.page(ctx, f.at, upTo, f.batch[:0]); err != nil {
				return nil, err
			}
			for _, r := range batch {
				r.Recovered = parseID(r.ID) <= f.begun
			}
		}
		f.batch, f.at = batch, at
		if len(batch) > 0 {
			return batch, nil
		}
	}
	return nil, nil
}

// wakeLocked returns a channel that is closed when records come. s.mu must be held.
func (s *Store) wakeLocked() <-chan struct{} {
	if s.wake == nil {
		s.wake = make(chan struct{})
	}
	return s.wake
}

func (s *Store) closed() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

// page reads records from the file, with IDs above at and up to upTo, as many as fit into a batch.
// It also returns the ID up to which the batch is complete.
func (s *Store) page(ctx context.Context, at, upTo int64, into []*webhook.Record) ([]*webhook.Record, int64, error) {
	bytes := 0
	more := false
	list, err := s.query(ctx, recordQuery{
		op: "feed", sql: sqlFeed, args: []any{at, upTo, feedRecords}, into: into,
		more: func(r *webhook.Record) bool {
			bytes += len(r.Data)
			more = bytes >= feedBytes
			return !more
		},
	})
	if err != nil {
		return nil, at, err
	}
	if more || len(list) == feedRecords {
		return list, parseID(list[len(list)-1].ID), nil
	}
	return list, upTo, nil
}

// recordQuery is a query for records.
type recordQuery struct {
	op   string // for errors
	sql  string
	args []any
	into []*webhook.Record          // the slice to append to
	more func(*webhook.Record) bool // is called with each record and stops the query with false; may be nil
}

// query reads records.
func (s *Store) query(ctx context.Context, q recordQuery) ([]*webhook.Record, error) {
	list, err := s.scan(ctx, q)
	if err != nil {
		return nil, s.readFailed(ctx, q.op, err)
	}
	return list, nil
}

// readFailed turns an error of a reading connection into one of this package.
func (s *Store) readFailed(ctx context.Context, op string, err error) error {
	if s.closed() {
		return ErrClosed
	}
	return s.failed(ctx, op, err)
}

func (s *Store) scan(ctx context.Context, q recordQuery) (list []*webhook.Record, err error) {
	s.reading.RLock()
	defer s.reading.RUnlock()
	rows, err := s.reader.QueryContext(ctx, q.sql, q.args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	settled := len(names) > pendingColumns
	list = q.into
	for rows.Next() {
		r, err := scanRecord(rows, settled)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
		if q.more != nil && !q.more(r) {
			return list, nil
		}
	}
	return list, rows.Err()
}

// pendingColumns is how many columns a pending record has. An archived one has one more.
const pendingColumns = 9

func scanRecord(rows *sql.Rows, archived bool) (*webhook.Record, error) {
	var r webhook.Record
	var id, received, due, settled int64
	to := [pendingColumns + 1]any{&id, &r.Name, &r.MemberID, &received, &r.Attempts, &r.Interrupted, &due, &r.Err, &r.Data, &settled}
	n := pendingColumns
	if archived {
		n++
	}
	if err := rows.Scan(to[:n]...); err != nil {
		return nil, err
	}
	r.ID, r.Received, r.Due = formatID(id), fromMicros(received), fromDueMicros(due)
	if archived {
		r.Settled = fromMicros(settled)
	}
	return &r, nil
}
