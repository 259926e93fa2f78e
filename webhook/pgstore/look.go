package pgstore

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/b24events/b24events/webhook"
)

// sighting is a record that a look saw.
type sighting struct {
	key

	size    int
	touched bool // it was marked
}

// lookup is one look at the records of several feeds.
type lookup struct {
	feeds []*feed
	limit int64 // rows for each feed
	seen  [][]sighting
	picks [][]sighting // what each feed gets
	raise []int64      // the new low of each feed
	own   map[key]*webhook.Record
}

// look lists the pending records, reads those that are not in memory, and passes them to the feeds.
func (p *poller) look(ctx context.Context, conn *pgx.Conn, feeds []*feed) (found int, err error) {
	l := &lookup{feeds: feeds, seen: make([][]sighting, len(feeds))}
	var newest int64
	var jit string
	if err := run(ctx, conn,
		statement{sql: p.s.q.newest, rows: one(&newest, &jit)},
		statement{sql: p.s.q.look, args: p.begin(l), rows: each(l.scan)},
	); err != nil {
		return 0, err
	}
	if newest < p.newest {
		p.restart()
		p.s.cfg.logger.LogAttrs(ctx, slog.LevelWarn,
			"pgstore: the database has lost its newest commits, as after a failover to a standby that lagged behind",
			p.s.attrs(nil)...)
		return 0, nil
	}
	p.newest = newest
	missing := p.pick(l, newest)
	loaded := make(map[key]*webhook.Record)
	if len(missing.keys) > 0 {
		if err := run(ctx, conn, statement{sql: p.s.q.load, args: missing.keyArgs(), rows: each(func(rows pgx.Rows) error {
			r, k, err := scanRecord(rows)
			loaded[k] = r
			return err
		})}); err != nil {
			return 0, err
		}
	}
	return p.pass(l, loaded), nil
}

// begin notes that a look has begun, and returns the arguments of its statement.
func (p *poller) begin(l *lookup) []any {
	parts, lows := make([]int16, len(l.feeds)), make([]int64, len(l.feeds))
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.lookDue = false
	for i, f := range l.feeds {
		f.looking, f.missed = true, false
		parts[i], lows[i] = int16(f.part), f.low //nolint:gosec // at most webhook.MaxPartitions
		l.limit = max(l.limit, f.lookLimitLocked())
	}
	return []any{parts, lows, l.limit}
}

func (l *lookup) scan(rows pgx.Rows) error {
	var place int64
	var size int32
	var s sighting
	if err := rows.Scan(&place, &s.id, &s.tag, &size, &s.touched); err != nil {
		return err
	}
	s.size = int(size)
	l.seen[place-1] = append(l.seen[place-1], s)
	return nil
}

// pick decides which records each feed gets, and returns those that must be read from the server.
func (p *poller) pick(l *lookup, newest int64) (missing list) {
	l.picks, l.raise, l.own = make([][]sighting, len(l.feeds)), make([]int64, len(l.feeds)), make(map[key]*webhook.Record)
	total := 0
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for i, f := range l.feeds { // their order changes each time, because they come from a map
		if !f.started {
			f.started, f.start = true, newest
		}
		last := int64(noLimit) // the feed will have got all records up to this ID that the look saw
		if rows := l.seen[i]; int64(len(rows)) == l.limit {
			last = rows[len(rows)-1].id
		}
		size := 0
		f.more = last != noLimit
		for _, row := range l.seen[i] {
			if _, known := f.fed[row.key]; known || slices.Contains(f.late, row.key) {
				continue
			}
			if c := len(l.picks[i]); c > 0 && (c == feedRows || size+row.size > feedBytes) || total > 0 && total+row.size > lookBytes {
				last, f.more = row.id-1, true
				break
			}
			size += row.size
			total += row.size
			l.picks[i] = append(l.picks[i], row)
			if r := f.takeOwnLocked(row.key); r != nil && !row.touched {
				r.Recovered = row.id <= f.start
				l.own[row.key] = r
				continue
			}
			missing.parts, missing.keys = append(missing.parts, int16(f.part)), append(missing.keys, row.key) //nolint:gosec // as above
		}
		l.raise[i] = min(last, p.final)
	}
	return missing
}

// pass gives the picked records to the feeds. It leaves out those that were settled meanwhile.
func (p *poller) pass(l *lookup, loaded map[key]*webhook.Record) (found int) {
	p.more = false
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for i, f := range l.feeds {
		records := make([]*webhook.Record, 0, len(l.picks[i]))
		for _, row := range l.picks[i] {
			r := l.own[row.key]
			if r == nil {
				if r = loaded[row.key]; r == nil {
					continue
				}
				r.Recovered = row.id <= f.start
			}
			f.fed[row.key] = struct{}{}
			f.above = append(f.above, row.id)
			records = append(records, r)
		}
		f.raiseLocked(l.raise[i])
		p.more = p.more || f.more
		if len(records) == 0 {
			p.s.lookDue = p.s.lookDue || f.more
			continue
		}
		found += len(records)
		f.wanting = false
		f.out <- feedBatch{records: records}
	}
	return found
}

// scanRecord reads a row of recordColumns.
func scanRecord(rows pgx.Rows) (*webhook.Record, key, error) {
	var (
		part                  int16
		k                     key
		attempts, interrupted int32
		due                   *time.Time
		r                     webhook.Record
	)
	if err := rows.Scan(&part, &k.id, &k.tag, &r.Name, &r.MemberID, &r.Received, &attempts, &interrupted, &due, &r.Err, &r.Data); err != nil {
		return nil, k, err
	}
	r.ID, r.Part, r.Received = k.String(), int(part), r.Received.UTC()
	r.Attempts, r.Interrupted = int(attempts), int(interrupted)
	if due != nil {
		r.Due = due.UTC()
	}
	return &r, k, nil
}
