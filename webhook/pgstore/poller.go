package pgstore

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pollTimeout bounds the statements of a round.
	pollTimeout = 5 * time.Second
	// spacing is the least time between two looks.
	spacing = 2 * time.Millisecond
	// Waits after an error of the server. Each is twice the last.
	minPollWait = 50 * time.Millisecond
	maxPollWait = time.Second
	// unsureRows is how many fed records above low make the poller check open transactions earlier.
	unsureRows = 256
	// minCheck is the least time between two checks. Checks take at most a twentieth of the time.
	minCheck = 50 * time.Millisecond
	// sweepRows is how many records a page of a sweep has.
	sweepRows = 5000
)

// poller looks for records for all feeds of a Store.
//
// It must know up to which ID no new records can appear. Otherwise each look would read all pending
// records. Neither time nor the order of transactions helps: a transaction takes an ID, and may
// commit seconds or hours later. But it locks the table before it takes the ID, in a mode that
// readers do not use, and holds the lock until it ends. So the poller notes the newest ID that was
// taken, and lists the transactions that hold the lock now. Once all of these have ended,
// everything up to that ID either was committed, so that the next look sees it, or never will be.
// Long transactions on other tables do not matter.
type poller struct {
	s *Store

	next     time.Time // the next look, if nothing makes one due before
	earliest time.Time // the next look, if one is due
	interval time.Duration
	more     bool // the last look saw more than it passed on

	newest     int64           // the greatest ID that may have been taken before the last look
	final      int64           // looks that begin now find no unseen records up to this ID
	open       map[string]bool // transactions that upTo waits for
	upTo       int64           // becomes final when all transactions in open have ended
	since      time.Time       // when upTo began to wait
	warned     time.Time
	nextCheck  time.Time
	earlyCheck time.Time // the next check, if there are unsureRows

	sweepAt time.Time

	failing time.Time // when the server began to fail; zero if it works
	wait    time.Duration
}

func newPoller(s *Store) *poller { return &poller{s: s, interval: s.cfg.minPoll} }

// run polls until the Store is closed. ctx ends a little later.
func (p *poller) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for p.s.usable(ctx) == nil {
		feeds, lookDue := p.s.waiting()
		at := p.next
		if lookDue && p.failing.IsZero() {
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
func (s *Store) waiting() (feeds []*feed, lookDue bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, those := range s.feeds {
		for _, f := range those {
			if f.wanting {
				feeds = append(feeds, f)
			}
		}
	}
	return feeds, s.lookDue
}

// round looks once, and plans the next look.
func (p *poller) round(ctx context.Context, feeds []*feed) {
	began := time.Now()
	found, err := p.poll(ctx, feeds)
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

// failed plans the next look after an error. It ends the feeds if the error is permanent or lasts.
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
			f.out <- feedBatch{err: fail("feed", err)}
		}
	}
}

// poll does a look, and then a check and a page of a sweep if they are due, on one connection.
func (p *poller) poll(ctx context.Context, feeds []*feed) (found int, err error) {
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
		f.endLookLocked()
	}
}

// check lists open transactions that may still commit records with old IDs.
func (p *poller) check(ctx context.Context, conn *pgx.Conn, feeds []*feed) error {
	now := time.Now()
	unsure := p.unsure(feeds)
	if p.newest == p.final || unsure == 0 || now.Before(p.nextCheck) && (now.Before(p.earlyCheck) || unsure < unsureRows) {
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
	p.nextCheck, p.earlyCheck = now.Add(p.s.cfg.pace.check), now.Add(max(minCheck, 20*took))
	p.observe(ctx, open, now)
	return nil
}

// observe updates final from the transactions that are open now.
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
				p.s.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "pgstore: transactions that changed the table of pending records "+
					"have been open for more than a minute; looks for records take longer until they end",
					p.s.attrs(nil, slog.Int(KeyTransactions, len(p.open)))...)
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

// unsure returns how many fed records the next look may see again.
func (p *poller) unsure(feeds []*feed) (n int) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for _, f := range feeds {
		n += len(f.above)
	}
	return n
}
