package sqlstore

import (
	"context"
	"slices"
	"time"
)

// ListStatement returns the statement of List.
func (s *Store) ListStatement() string { return s.sql(s.dialect.list) }

// DeleteExpired deletes expired leases now.
func (s *Store) DeleteExpired(ctx context.Context) {
	s.mu.Lock()
	s.deletedAt = time.Time{}
	s.mu.Unlock()
	s.deleteExpired(ctx)
}

// Later returns the store of a later version of this package, whose tables have another version.
func (s *Store) Later(statements ...string) *Store {
	d := *s.dialect
	d.migrations = append(slices.Clone(d.migrations), statements)
	return &Store{db: s.db, cfg: s.cfg, dialect: &d, codec: s.codec}
}

// CheckTables is the last step of New.
func (s *Store) CheckTables(ctx context.Context) error { return s.checkTables(ctx) }
