package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/b24events/b24events/webhook"
)

// Load implements [webhook.Store]. Errors match [ErrDamaged], [ErrClosed], [ErrConfig] or the error
// of ctx. Any other error means that the file could not be read.
func (s *Store) Load(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
	if part != 0 {
		return nil, misconfigured("Load from partition %d; there is one, 0", part)
	}
	if err := s.usable(ctx, "load"); err != nil {
		return nil, err
	}
	list, n := jsonIDs(ids)
	if n == 0 {
		return nil, nil
	}
	return s.query(ctx, recordQuery{op: "load", sql: sqlLoad, args: []any{list}})
}

// usable returns an error if ctx has ended or the Store is closed.
func (s *Store) usable(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlitestore: %s: %w", op, err)
	}
	if s.closed() {
		return ErrClosed
	}
	return nil
}

// Depth implements [webhook.Store]. OldestPending is the time at which the first pending record was
// received. Errors are those of [Store.Load].
func (s *Store) Depth(ctx context.Context) (webhook.Depth, error) {
	if err := s.usable(ctx, "depth"); err != nil {
		return webhook.Depth{}, err
	}
	d := webhook.Depth{Pending: s.pending.Load(), Parked: s.parked.Load(), Kept: s.kept.Load()}
	received, err := s.number(ctx, sqlOldestPending)
	if received.Valid {
		d.OldestPending = fromMicros(received.Int64)
	}
	if err == nil {
		var settled sql.NullInt64
		if settled, err = s.number(ctx, sqlOldestParked, int64(webhook.StateParked)); settled.Valid {
			d.OldestParked = fromMicros(settled.Int64)
		}
	}
	if err != nil {
		return webhook.Depth{}, s.readFailed(ctx, "depth", err)
	}
	return d, nil
}

// number returns the single value of a query, which is null if there is no row.
func (s *Store) number(ctx context.Context, query string, args ...any) (sql.NullInt64, error) {
	s.reading.RLock()
	defer s.reading.RUnlock()
	var n sql.NullInt64
	err := s.reader.QueryRowContext(ctx, query, args...).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return n, err
}

// List implements [webhook.Store]. An error matches [ErrNotArchived] if the record with the ID
// after is not archived any more; the others are those of [Store.Load].
func (s *Store) List(ctx context.Context, state webhook.State, after string, limit int) ([]*webhook.Record, error) {
	if state != webhook.StateParked && state != webhook.StateDone {
		return nil, misconfigured("List of records that are %v; only parked and done ones are archived", state)
	}
	if limit < 1 {
		return nil, misconfigured("List with limit %d; it must be positive", limit)
	}
	if err := s.usable(ctx, "list"); err != nil {
		return nil, err
	}
	seq := sql.NullInt64{Valid: true}
	if after != "" {
		var err error
		if seq, err = s.number(ctx, sqlAfter, parseID(after)); err != nil {
			return nil, s.readFailed(ctx, "list", err)
		}
	}
	if !seq.Valid {
		return nil, ErrNotArchived
	}
	return s.query(ctx, recordQuery{op: "list", sql: sqlList, args: []any{int64(state), seq.Int64, limit}})
}
