package offline

import (
	"context"
	"errors"
	"time"
)

// reserved takes in the answer to a reservation. A plan that cannot reserve is no error as long as anything else is to be done.
func (e *engine) reserved(ctx context.Context, b Batch, asked int, err error) error {
	if errors.Is(err, ErrExtendedModeRequired) {
		return e.cannotReserve(ctx, err)
	}
	if err != nil {
		e.lost(err)
		return err
	}
	e.spool.taking = false
	n := len(b.Records)
	e.meter.count(func(s *Stats) { s.Reserved += int64(n) })
	e.pace(ctx, n, asked)
	e.fresh = append(e.fresh, e.take(ctx, b.Records)...)
	return nil
}

// cannotReserve goes on by the spool, where there is one; else the engine ends once it has finished what was reserved before.
func (e *engine) cannotReserve(ctx context.Context, err error) error {
	if e.cfg.spoolDir != "" {
		return e.startTaking(ctx, err)
	}
	e.refused, e.empty = err, false
	return nil
}

// pace decides by the number of records that came when to ask for more, and for how many.
func (e *engine) pace(ctx context.Context, n, asked int) {
	e.empty, e.full = n == 0, n >= asked
	if !e.full {
		e.measured(ctx, 0, time.Time{})
	}
	if e.empty {
		e.listen(ctx, &e.noRecord, NoRecord, e.cfg.noRecord)
		e.nextGet = time.Now().Add(e.idle.next())
		return
	}
	e.hear(ctx, &e.noRecord, NoRecord)
	e.meter.count(func(s *Stats) { s.LastRecord = time.Now() })
	e.nextGet = time.Time{}
	e.idle.reset()
	e.grow = e.full
}

// lost is what an error of a reservation calls for: the portal may have made it, and the answer may have been too large, or taken too long.
func (e *engine) lost(err error) {
	e.empty, e.grow = false, false
	if !surelyNotRun(err) {
		e.again = true
		e.shrink()
	}
}

// adapt decides how many records to ask for: more while reservations come back full and the handlers would keep up with more.
func (e *engine) adapt() {
	switch {
	case e.lastWork > keepUp:
		e.shrink()
	case e.grow && e.lastWork <= keepUp/2:
		e.limit = min(2*e.limit, e.cfg.batchSize)
	}
	e.grow, e.lastWork = false, 0
}

func (e *engine) shrink() { e.limit = max(e.limit/2, min(e.cfg.batchSize, firstLimit)) }
