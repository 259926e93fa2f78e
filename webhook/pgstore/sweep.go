package pgstore

import (
	"context"
	"log/slog"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/b24events/b24events/webhook"
)

// sweep compares the records that were fed with those in the table, a page at a time, below the IDs
// that looks ask for. It finds records that somebody inserted with old IDs, and removes from memory
// those that other processes have settled.
func (p *poller) sweep(ctx context.Context, conn *pgx.Conn, f *feed) error {
	p.s.mu.Lock()
	from, to := f.swept, f.low
	p.s.mu.Unlock()
	if from >= to {
		return nil
	}
	var there []key
	if err := run(ctx, conn, statement{
		sql: p.s.q.sweep, args: []any{int32(f.part), from, to, int64(sweepRows)}, //nolint:gosec // at most webhook.MaxPartitions
		rows: each(func(rows pgx.Rows) error {
			var k key
			err := rows.Scan(&k.id, &k.tag)
			there = append(there, k)
			return err
		}),
	}); err != nil {
		return err
	}
	if p.s.compare(f, there, from, to) {
		p.restart()
		p.s.cfg.logger.LogAttrs(ctx, slog.LevelWarn,
			"pgstore: found records with old IDs, as after a failover, or because somebody inserted them",
			p.s.attrs(nil, slog.Int(webhook.KeyPartition, f.part))...)
	}
	return nil
}

// compare processes a page of a sweep, and reports whether it has records that were not fed.
func (s *Store) compare(f *feed, there []key, from, to int64) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.swept = 0
	if len(there) == sweepRows {
		to = there[len(there)-1].id
		f.swept = to
	}
	present := make(map[key]bool, len(there))
	for _, k := range there {
		present[k] = true
		_, known := f.fed[k]
		news = news || !known && !slices.Contains(f.late, k)
	}
	for k := range f.fed {
		if k.id > from && k.id <= to && !present[k] {
			delete(f.fed, k)
		}
	}
	return news
}

// restart makes all feeds look at all records again, because the table has records with unexpected
// IDs.
func (p *poller) restart() {
	p.newest, p.final, p.upTo, p.open = 0, 0, 0, nil
	p.s.mu.Lock()
	for _, those := range p.s.feeds {
		for _, f := range those {
			f.restartLocked()
		}
	}
	p.s.lookDue = true
	p.s.mu.Unlock()
}
