package pgstore

import (
	"context"
	"sync"
	"time"
)

// bound keeps the number of pending records below a limit. Counting takes time, so after a count
// this process stores up to an eighth of the free room before it counts again.
type bound struct {
	limit int64 // 0 for none

	mu      sync.Mutex
	counted int64 // at the last count
	at      time.Time
	added   int64 // since then, by this process
	gone    int64 // settled since then, by this process
}

// recount is how often a full store is counted if this process settles nothing.
const recount = 100 * time.Millisecond

// hasRoom reports whether there is room for n more records.
func (b *bound) hasRoom(ctx context.Context, s *Store, n int) (bool, error) {
	if b.limit == 0 {
		return true, nil
	}
	more := int64(n)
	b.mu.Lock()
	free := b.limit - b.counted
	counted := !b.at.IsZero()
	sure := counted && b.added+more <= free/8
	full := counted && b.added+more > free && b.gone == 0 && time.Since(b.at) < recount
	b.mu.Unlock()
	if sure || full {
		return sure, nil
	}
	var pending int64
	if err := s.query(ctx, statement{sql: s.q.count, args: []any{b.limit + 1}, rows: one(&pending)}); err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counted, b.at, b.added, b.gone = pending, time.Now(), 0, 0
	return pending+more <= b.limit, nil
}

// changed notes how many records a Commit added and settled.
func (b *bound) changed(added int, gone int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.added += int64(added)
	b.gone += gone
}
