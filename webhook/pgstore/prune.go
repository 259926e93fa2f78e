package pgstore

import (
	"context"
	"log/slog"
	"time"
)

// pruneRows is how many records one statement deletes.
const pruneRows = 1000

// pruneLoop deletes records that were kept for as long as [WithKeep] says, and leases that ended
// long ago.
func (s *Store) pruneLoop(ctx context.Context) {
	period := s.cfg.pace.prune
	if s.cfg.keep > 0 {
		period = min(period, s.cfg.keep)
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-s.closed:
			return
		case <-ticker.C:
		}
		if err := s.prune(ctx); err != nil && s.usable(ctx) == nil {
			s.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "pgstore: cannot delete expired records and leases, trying again", s.attrs(err)...)
		}
	}
}

func (s *Store) prune(ctx context.Context) error {
	if err := s.change(ctx, true, statement{sql: s.q.purge}); err != nil {
		return err
	}
	for n := int64(pruneRows); s.cfg.keep > 0 && n == pruneRows; {
		if err := s.change(ctx, true, statement{
			sql: s.q.prune, args: []any{s.cfg.keep.Microseconds(), int64(pruneRows)}, affected: &n,
		}); err != nil {
			return err
		}
	}
	return nil
}
