package pgstore

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/b24events/b24events/webhook"
)

const (
	// pollTimeout bounds what the poller asks the server.
	pollTimeout = 5 * time.Second
	// spacing is the least time between two looks.
	spacing = 2 * time.Millisecond
	// Waits after an error of the server. Each is twice the last.
	minPollWait = 50 * time.Millisecond
	maxPollWait = time.Second
	// unsureRows is how many fed records above low make a check of open transactions due.
	unsureRows = 256
	// minCheck is the least time between two checks. They take a twentieth of the time at most.
	minCheck = 50 * time.Millisecond
	// sweepRows is how many records a page of a sweep has.
	sweepRows = 5000
)

// poller looks for records for all feeds of a Store.
//
// It has to know up to which ID nothing new can appear, or each look would pass over all that is
// pending. Neither time nor the order of transactions tells: a transaction takes an ID, and may
// commit seconds or hours later. But it has locked the table before it took the ID, in a mode that
// readers do not use, and has the lock until it ends. So: note the newest ID that was taken; list
// who has the lock now; once all of these are gone, everything up to that ID has either been
// committed, and the next look sees it, or never will be. Long transactions on other tables do not
// matter.
type poller struct {
	s *Store

	next     time.Time // of the next look without a reason
	earliest time.Time // of the next look with one
	interval time.Duration
	more     bool // the last look did not give all that it saw

	newest int64 // the greatest ID that may have been taken before the last look
	final  int64 // nothing unseen up to here can appear, for looks that begin now
	open   map[string]bool
	upTo   int64     // becomes final when all of open have ended
	since  time.Time // since when upTo waits
	warned time.Time
	due    time.Time // of the next check
	soon   time.Time // of the next check if much is unsure

	sweepAt time.Time

	failing time.Time // since when the server fails; zero if it does not
	wait    time.Duration
}

func newPoller(s *Store) *poller { return &poller{s: s, interval: s.cfg.minPoll} }

// run looks until the Store is closed. ctx ends a little later.
func (p *poller) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for p.s.usable(ctx) == nil {
		feeds, hurry := p.s.waiting()
		at := p.next
		if hurry && p.failing.IsZero() {
			at = p.earliest
		}
		pause := time.Until(at)
		if len(feeds) == 0 {
			pause = time.Hour
		}
		if pause > 0 {
			timer.Reset(pause)
			select {
			case <-p.s.closed:
			case <-p.s.wake:
			case <-timer.C:
			}
			continue
		}
		p.round(ctx, feeds)
	}
}

// waiting returns the feeds that have room, and whether a look is due at once.
func (s *Store) waiting() (feeds []*feed, hurry bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, those := range s.feeds {
		for _, f := range those {
			if f.wanting {
				feeds = append(feeds, f)
			}
		}
	}
	return feeds, s.hurry
}

// round looks once, and plans the next look.
func (p *poller) round(ctx context.Context, feeds []*feed) {
	began := time.Now()
	found, err := p.ask(ctx, feeds)
	now := time.Now()
	p.earliest = now.Add(max(spacing, now.Sub(began)))
	if p.more {
		p.earliest = now
	}
	switch {
	case err != nil && ctx.Err() == nil:
		p.failed(ctx, feeds, err)
		return
	case found > 0:
		p.interval = p.s.cfg.minPoll
	default:
		p.interval = min(p.interval*3/2, p.s.cfg.maxPoll)
	}
	if !p.failing.IsZero() {
		p.s.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "pgstore: looks for records succeed again", p.s.attrs(nil)...)
	}
	p.failing, p.wait = time.Time{}, 0
	p.next = now.Add(p.interval)
}

// failed plans the next look after an error, and ends the feeds if it is of the kind that stays.
func (p *poller) failed(ctx context.Context, feeds []*feed, err error) {
	now := time.Now()
	if p.failing.IsZero() {
		p.failing = now
		p.s.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "pgstore: cannot look for records, trying again", p.s.attrs(err)...)
	}
	p.wait = min(max(2*p.wait, minPollWait), maxPollWait)
	p.next = now.Add(p.wait)
	if !permanent(err) && now.Sub(p.failing) < p.s.cfg.pace.grace {
		return
	}
	p.failing = time.Time{}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for _, f := range feeds {
		if f.wanting {
			f.wanting = false
			f.out <- portion{err: fail("feed", err)}
		}
	}
}

// ask does a look, and what else is due on the same connection.
func (p *poller) ask(ctx context.Context, feeds []*feed) (found int, err error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	conn, err := p.s.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	defer p.s.finishLook(feeds)
	if found, err = p.look(ctx, conn.Conn(), feeds); err != nil {
		return found, err
	}
	if err := p.check(ctx, conn.Conn(), feeds); err != nil {
		return found, err
	}
	if now := time.Now(); now.After(p.sweepAt) {
		p.sweepAt = now.Add(p.s.cfg.pace.sweep)
		f := slices.MinFunc(feeds, func(a, b *feed) int { return a.sweptAt.Compare(b.sweptAt) })
		f.sweptAt = now
		return found, p.sweep(ctx, conn.Conn(), f)
	}
	return found, nil
}

func (s *Store) finishLook(feeds []*feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range feeds {
		f.lookedLocked()
	}
}

// sighting is a record that a look saw.
type sighting struct {
	key

	size    int
	touched bool // it was marked
}

// lookup is one look at the records of several feeds.
type lookup struct {
	feeds []*feed
	most  int64 // rows for each feed
	seen  [][]sighting
	picks [][]sighting // what each feed gets
	raise []int64      // what low becomes, for each feed
	own   map[key]*webhook.Record
}

// look asks what is there, reads what this process has not got in memory, and passes it on.
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
		p.forget()
		p.s.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "pgstore: the database has gone back, as after a failover to a standby that had not got everything",
			p.s.attrs(nil)...)
		return 0, nil
	}
	p.newest = newest
	missing := p.pick(l, newest)
	loaded := make(map[key]*webhook.Record)
	if len(missing.keys) > 0 {
		if err := run(ctx, conn, statement{sql: p.s.q.load, args: missing.which(), rows: each(func(rows pgx.Rows) error {
			r, k, err := scanRecord(rows)
			loaded[k] = r
			return err
		})}); err != nil {
			return 0, err
		}
	}
	return p.pass(l, loaded), nil
}

// begin notes that a look is under way, and returns its arguments.
func (p *poller) begin(l *lookup) []any {
	parts, lows := make([]int16, len(l.feeds)), make([]int64, len(l.feeds))
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.hurry = false
	for i, f := range l.feeds {
		f.looking, f.missed = true, false
		parts[i], lows[i] = int16(f.part), f.low //nolint:gosec // at most webhook.MaxPartitions
		l.most = max(l.most, f.mostLocked())
	}
	return []any{parts, lows, l.most}
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

// pick decides what each feed gets, and returns what has to be read for that.
func (p *poller) pick(l *lookup, newest int64) (missing list) {
	l.picks, l.raise, l.own = make([][]sighting, len(l.feeds)), make([]int64, len(l.feeds)), make(map[key]*webhook.Record)
	total := 0
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for i, f := range l.feeds { // in another order each time: they come from a map
		if !f.started {
			f.started, f.start = true, newest
		}
		last := int64(noLimit) // up to here, all that the look saw has been fed then
		if rows := l.seen[i]; int64(len(rows)) == l.most {
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

// pass gives the feeds what was picked. Records that are gone in the meantime are left out.
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
			p.s.hurry = p.s.hurry || f.more
			continue
		}
		found += len(records)
		f.wanting = false
		f.out <- portion{records: records}
	}
	return found
}

// check asks for open transactions that may still bring records with old IDs.
func (p *poller) check(ctx context.Context, conn *pgx.Conn, feeds []*feed) error {
	now := time.Now()
	unsure := p.unsure(feeds)
	if p.newest == p.final || unsure == 0 || now.Before(p.due) && (now.Before(p.soon) || unsure < unsureRows) {
		return nil
	}
	open := make(map[string]bool)
	if err := run(ctx, conn, statement{sql: p.s.q.open, rows: each(func(rows pgx.Rows) error {
		var transaction string
		err := rows.Scan(&transaction)
		open[transaction] = true
		return err
	})}); err != nil {
		return err
	}
	took := time.Since(now)
	now = now.Add(took)
	p.due, p.soon = now.Add(p.s.cfg.pace.check), now.Add(max(minCheck, 20*took))
	p.observe(ctx, open, now)
	return nil
}

// observe draws the conclusions from the transactions that are open now.
func (p *poller) observe(ctx context.Context, open map[string]bool, now time.Time) {
	if p.upTo > p.final {
		for transaction := range p.open {
			if !open[transaction] {
				delete(p.open, transaction)
			}
		}
		if len(p.open) > 0 {
			if limit := p.s.cfg.pace.open; now.Sub(p.since) > limit && now.Sub(p.warned) > limit {
				p.warned = now
				p.s.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "pgstore: transactions that changed the table of pending records have been open "+
					"for more than a minute; looks for records take longer until they end", p.s.attrs(nil, slog.Int(KeyTransactions, len(p.open)))...)
			}
			return
		}
		p.final = p.upTo
	}
	p.upTo, p.open, p.since = p.newest, open, now
	if len(open) == 0 {
		p.final = p.upTo
	}
}

// unsure returns how many records have been fed that the next look may see again.
func (p *poller) unsure(feeds []*feed) (n int) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for _, f := range feeds {
		n += len(f.above)
	}
	return n
}

// sweep compares what a feed has fed with what is there, a page at a time, below the IDs that looks
// ask for. It finds records that somebody put there with old IDs, and forgets those that others
// have settled.
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
		p.forget()
		p.s.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "pgstore: found records with old IDs, as after a failover, or when somebody has inserted them",
			p.s.attrs(nil, slog.Int(webhook.KeyPartition, f.part))...)
	}
	return nil
}

// compare notes what a page of a sweep found, and reports whether there are records that were not
// fed.
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

// forget makes all feeds look at everything again, because IDs are not what they were taken for.
func (p *poller) forget() {
	p.newest, p.final, p.upTo, p.open = 0, 0, 0, nil
	p.s.mu.Lock()
	for _, those := range p.s.feeds {
		for _, f := range those {
			f.forgetLocked()
		}
	}
	p.s.hurry = true
	p.s.mu.Unlock()
}

// scanRecord reads a row with recordColumns.
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
