package oauth

import (
	"context"
	"fmt"
	"strconv"
	"sync"
)

// MemoryStore is a [Store] for tests and first steps: it forgets everything when the process ends.
// The zero MemoryStore is ready. It is safe for concurrent use. Besides ErrNotFound and ErrConflict
// its methods return the context's error. They refuse a key or a limit that [Store] does not allow.
type MemoryStore struct {
	mu      sync.Mutex
	rows    map[Key]*memoryRow // pointers, because fmt prints what a map holds, and does not follow those
	order   keyIndex           // of rows
	version uint64
}

type memoryRow struct {
	in      Installation
	version Version
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore { return &MemoryStore{} }

// Load returns a copy of an installation, or [ErrNotFound].
func (s *MemoryStore) Load(ctx context.Context, key Key) (Installation, Version, error) {
	if err := ctx.Err(); err != nil {
		return Installation{}, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.rows[key]
	if !ok {
		return Installation{}, "", ErrNotFound
	}
	return row.in.clone(), row.version, nil
}

// Swap writes a copy of in, or returns [ErrConflict].
func (s *MemoryStore) Swap(ctx context.Context, key Key, old Version, in Installation) (Version, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := key.writable(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var stored Version
	row, known := s.rows[key]
	if known {
		stored = row.version
	}
	if stored != old {
		return "", ErrConflict
	}
	if s.rows == nil {
		s.rows = make(map[Key]*memoryRow)
	}
	if !known {
		s.order.insert(key)
	}
	s.version++
	version := Version(strconv.FormatUint(s.version, 10))
	s.rows[key] = &memoryRow{in: in.clone(), version: version}
	return version, nil
}

// Delete removes an installation, or returns [ErrConflict].
func (s *MemoryStore) Delete(ctx context.Context, key Key, old Version) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.rows[key]
	switch {
	case !ok:
		return nil
	case row.version != old:
		return ErrConflict
	}
	delete(s.rows, key)
	s.order.remove(key)
	return nil
}

// List returns keys of one application in order. See [Store].
func (s *MemoryStore) List(ctx context.Context, after Key, limit int) ([]Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, errLimit
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []Key
	for key := range s.order.after(after) {
		if key.ClientID != after.ClientID || len(page) == limit {
			break
		}
		page = append(page, key)
	}
	return page, nil
}

// Format prints no installation, whatever the verb.
func (s *MemoryStore) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.MemoryStore")) }
