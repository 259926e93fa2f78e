package pgstore

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Acquire implements [webhook.Leaser]. Leases end by the clock of the database. When a lease gets
// another owner, its token in the table grows. Programs can use the token to fence their writes
// elsewhere.
func (s *Store) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if len(names) == 0 {
		return nil, fail("acquire", s.usable(ctx))
	}
	names = slices.Clone(names)
	slices.Sort(names)
	held := make([]string, 0, len(names))
	err := s.change(ctx, false, statement{
		sql: s.q.acquire, args: []any{slices.Compact(names), owner, ttl.Microseconds()},
		rows: each(func(rows pgx.Rows) error {
			var name string
			err := rows.Scan(&name)
			held = append(held, name)
			return err
		}),
	})
	if err != nil {
		return nil, fail("acquire", err)
	}
	return held, nil
}

// Release implements [webhook.Leaser].
func (s *Store) Release(ctx context.Context, owner string, names ...string) error {
	if len(names) == 0 {
		return fail("release", s.usable(ctx))
	}
	return fail("release", s.change(ctx, true, statement{sql: s.q.release, args: []any{owner, names}}))
}

// Held implements [webhook.Leaser].
func (s *Store) Held(ctx context.Context, prefix string) (map[string]string, error) {
	owners := make(map[string]string)
	err := s.query(ctx, statement{sql: s.q.held, args: []any{prefix}, rows: each(func(rows pgx.Rows) error {
		var name, owner string
		err := rows.Scan(&name, &owner)
		owners[name] = owner
		return err
	})})
	if err != nil {
		return nil, fail("held", err)
	}
	return owners, nil
}
