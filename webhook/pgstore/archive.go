package pgstore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/b24events/b24events/webhook"
)

// Load implements [webhook.Store].
func (s *Store) Load(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
	keys := sortedKeys(ids)
	if part < 0 || part >= s.partitions || len(keys) == 0 {
		return nil, fail("load", s.usable(ctx))
	}
	l := list{keys: keys, parts: slices.Repeat([]int16{int16(part)}, len(keys))} //nolint:gosec // at most webhook.MaxPartitions
	var records []*webhook.Record
	err := s.query(ctx, statement{sql: s.q.load, args: l.keyArgs(), rows: each(func(rows pgx.Rows) error {
		r, _, err := scanRecord(rows)
		records = append(records, r)
		return err
	})})
	if err != nil {
		return nil, fail("load", err)
	}
	return records, nil
}

// Depth implements [webhook.Store]. It counts all records, which takes the server about half a
// second for a million.
func (s *Store) Depth(ctx context.Context) (webhook.Depth, error) {
	var d webhook.Depth
	var pending, parked *time.Time
	if err := s.query(ctx, statement{sql: s.q.depth, rows: one(&d.Pending, &pending, &d.Parked, &d.Kept, &parked)}); err != nil {
		return webhook.Depth{}, fail("depth", err)
	}
	if pending != nil {
		d.OldestPending = pending.UTC()
	}
	if parked != nil {
		d.OldestParked = parked.UTC()
	}
	return d, nil
}

// List implements [webhook.Store]. It returns an error if the record with the ID after is not
// archived any more, because then it cannot know where the page begins. List from the beginning
// then.
func (s *Store) List(ctx context.Context, state webhook.State, after string, limit int) ([]*webhook.Record, error) {
	records, err := s.list(ctx, state, after, limit)
	if err != nil {
		return nil, fail("list", err)
	}
	return records, nil
}

func (s *Store) list(ctx context.Context, state webhook.State, after string, limit int) ([]*webhook.Record, error) {
	if limit <= 0 || state != webhook.StateDone && state != webhook.StateParked {
		return nil, s.usable(ctx)
	}
	from, err := s.place(ctx, after)
	if err != nil {
		return nil, err
	}
	var records []*webhook.Record
	err = s.query(ctx, statement{
		sql: s.q.list, args: []any{state.String(), from.settled, from.id, from.tag, int64(limit)},
		rows: each(func(rows pgx.Rows) error {
			var r webhook.Record
			var k key
			var part int16
			var attempts, interrupted int32
			err := rows.Scan(&part, &k.id, &k.tag, &r.Name, &r.MemberID, &r.Received, &attempts, &interrupted, &r.Err, &r.Settled, &r.Data)
			r.ID, r.Part, r.Received, r.Settled = k.String(), int(part), r.Received.UTC(), r.Settled.UTC()
			r.Attempts, r.Interrupted = int(attempts), int(interrupted)
			records = append(records, &r)
			return err
		}),
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// position is the place of a record in a list.
type position struct {
	key

	settled time.Time
}

// place returns the position at which a page begins.
func (s *Store) place(ctx context.Context, after string) (position, error) {
	if after == "" {
		return position{}, nil
	}
	k, ok := parseKey(after)
	if !ok {
		return position{}, errNoPlace
	}
	p := position{key: k}
	err := s.query(ctx, statement{sql: s.q.position, args: []any{k.id, k.tag}, rows: one(&p.settled)})
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoPlace
	}
	return p, err
}

// errNoPlace is the error of List if the record to list after is not archived.
const errNoPlace Error = "pgstore: list: the record to list after is no longer archived; list from the beginning"

// sortedKeys parses and sorts IDs. It drops duplicates, and those that are not of this package.
func sortedKeys(ids []string) []key {
	var keys []key
	for _, id := range ids {
		if k, ok := parseKey(id); ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.tag, b.tag))
	})
	return slices.Compact(keys)
}

// chunksOf splits IDs into chunks for one statement each, in the order of commits.
func chunksOf(ids []string) [][]key {
	return slices.Collect(slices.Chunk(sortedKeys(ids), perCommit))
}

// Replay implements [webhook.Store]. Records of one call keep the order in which they were
// committed. Replay may exceed the bound of [WithMaxPending].
func (s *Store) Replay(ctx context.Context, ids ...string) (int, error) {
	n := 0
	parts := make(map[int]bool)
	var statements []statement
	for _, chunk := range chunksOf(ids) {
		gone, tags := columns(chunk)
		statements = append(statements, statement{sql: s.q.replay, args: []any{gone, tags, newTag()}, rows: each(func(rows pgx.Rows) error {
			var part int16
			err := rows.Scan(&part)
			parts[int(part)] = true
			n++
			return err
		})})
	}
	if len(statements) == 0 {
		return 0, fail("replay", s.usable(ctx))
	}
	if err := s.change(ctx, false, statements...); err != nil {
		return 0, fail("replay", err)
	}
	s.bound.changed(n, 0)
	s.replayed(parts)
	return n, nil
}

// Discard implements [webhook.Store].
func (s *Store) Discard(ctx context.Context, ids ...string) (int, error) {
	chunks := chunksOf(ids)
	counts := make([]int64, len(chunks))
	statements := make([]statement, len(chunks))
	for i, chunk := range chunks {
		gone, tags := columns(chunk)
		statements[i] = statement{sql: s.q.discard, args: []any{gone, tags}, affected: &counts[i]}
	}
	if len(statements) == 0 {
		return 0, fail("discard", s.usable(ctx))
	}
	if err := s.change(ctx, false, statements...); err != nil {
		return 0, fail("discard", err)
	}
	n := 0
	for _, c := range counts {
		n += int(c)
	}
	return n, nil
}
