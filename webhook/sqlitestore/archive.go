package sqlitestore

import (
	"cmp"
	"context"
	"database/sql/driver"
	"slices"
	"time"

	"github.com/b24events/b24events/webhook"
)

// moveAtOnce is how many archived records one transaction replays or discards. Commits run in
// between.
const moveAtOnce = 256

// Replay implements [webhook.Store]. Records of one call keep the order in which they were first
// stored. If it fails in the middle, it returns how many were replayed. Errors are those of
// [Store.Commit].
func (s *Store) Replay(ctx context.Context, ids ...string) (int, error) {
	return s.move(ctx, "replay", ids, (*writer).replay)
}

// Discard implements [webhook.Store]. If it fails in the middle, it returns how many were deleted.
// Errors are those of [Store.Commit].
func (s *Store) Discard(ctx context.Context, ids ...string) (int, error) {
	return s.move(ctx, "discard", ids, (*writer).discard)
}

// mover replays or discards archived records, whose IDs are a JSON array, and returns how many.
type mover func(w *writer, ctx context.Context, j *job, ids string) (int, error)

// move lets the writer replay or discard archived records, some at a time, the oldest first.
func (s *Store) move(ctx context.Context, op string, ids []string, run mover) (int, error) {
	if err := s.usable(ctx, op); err != nil {
		return 0, err
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return parseID(id) == 0 })
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(parseID(a), parseID(b)) })
	moved := 0
	for some := range slices.Chunk(slices.Compact(ids), moveAtOnce) {
		list, _ := jsonIDs(some)
		n := make(chan int, 1) // buffered, because the writer may finish after ctx has ended
		err := s.do(ctx, op, func(ctx context.Context, w *writer, j *job) error {
			count, err := run(w, ctx, j, list)
			n <- count
			return err
		})
		if err != nil {
			return moved, err
		}
		moved += <-n
	}
	return moved, nil
}

// archived counts the archived records of a list by state. The result is the change of the counters
// when they are removed.
func (w *writer) archived(ctx context.Context, ids string) (changes, error) {
	var c changes
	err := w.c.rows(ctx, func(row []driver.Value) error {
		if toInt(row[0]) == int64(webhook.StateParked) {
			c.parked = -toInt(row[1])
		} else {
			c.kept = -toInt(row[1])
		}
		return nil
	}, sqlDiscarded, ids)
	return c, err
}

func (w *writer) discard(ctx context.Context, j *job, ids string) (int, error) {
	var moved changes
	err := w.transact(ctx, "discard", j, func() (err error) {
		if moved, err = w.archived(ctx, ids); err != nil {
			return err
		}
		_, err = w.c.exec(ctx, sqlDiscard, ids)
		return err
	})
	if err != nil {
		return 0, err
	}
	w.wrote(0)
	w.s.moved(moved)
	return int(-moved.parked - moved.kept), nil
}

func (w *writer) replay(ctx context.Context, j *job, ids string) (int, error) {
	var moved changes
	var last int64
	err := w.transact(ctx, "replay", j, func() (err error) {
		if moved, err = w.archived(ctx, ids); err != nil {
			return err
		}
		if moved.pending = -moved.parked - moved.kept; moved.pending == 0 {
			return nil
		}
		result, err := w.c.exec(ctx, sqlReplay, ids)
		if err != nil {
			return err
		}
		if last, err = result.LastInsertId(); err != nil {
			return err
		}
		_, err = w.c.exec(ctx, sqlDiscard, ids)
		return err
	})
	if err != nil || moved.pending == 0 {
		return 0, err
	}
	w.wrote(int(moved.pending) * pageBytes)
	w.s.moved(moved)
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.lastID = last
	w.s.wakeFeedsLocked()
	return int(moved.pending), nil
}

const (
	purgeAtOnce = 200
	purgePause  = time.Minute           // the longest time between two purges
	purgeSoon   = 20 * time.Millisecond // if there is more to delete
	purgeShare  = 10                    // the part of the time that records are kept, to wait between two
)

// purge deletes some of the records that were kept long enough, and returns when to do it again.
func (w *writer) purge(ctx context.Context) time.Duration {
	pause := min(w.s.keep/purgeShare, purgePause)
	if w.down != nil || w.s.kept.Load() == 0 {
		return pause
	}
	j := &job{} // no method waits for it
	var n int64
	err := w.transact(ctx, "purge", j, func() (err error) {
		n, err = w.c.change(ctx, sqlPurge, int64(webhook.StateDone), int64(purgeAtOnce), micros(time.Now().Add(-w.s.keep)))
		return err
	})
	if err != nil {
		w.note(err)
		return pause // it is only delayed
	}
	w.wrote(int(n) * pageBytes)
	w.s.moved(changes{kept: -n})
	if n == purgeAtOnce {
		return purgeSoon
	}
	return pause
}
