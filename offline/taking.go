package offline

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"
)

// reserveAgain is how often reserving is tried where the plan could not do so: plans change.
const reserveAgain = time.Hour

// spooling is what an engine knows of its spool, if it has one.
type spooling struct {
	*spool

	taking  bool      // records are removed from the queue as they are read
	next    time.Time // when to try to reserve again
	unsaved []Record  // taken, and not on the disk yet: nothing else may happen before
	parked  []*spot   // of the pass that is under way
}

// useSpool opens the spool for the first turn after a start. Where there is none yet, it is made when the plan calls for it.
func (e *engine) useSpool(ctx context.Context, create bool) error {
	if e.cfg.spoolDir == "" || e.spool.spool != nil {
		return nil
	}
	id := identity{clientID: e.clientID, memberID: e.memberID, connector: e.cfg.connector}
	if err := refuseOldSpool(e.cfg.spoolDir, id); err != nil {
		return err
	}
	dir := filepath.Join(e.cfg.spoolDir, id.folder())
	if !create && !hasSpool(dir) {
		return nil
	}
	s, err := openSpool(ctx, dir, id, e.cfg.logger)
	if err != nil {
		return err
	}
	e.spool.spool = s
	if s.open > 0 {
		e.meter.count(func(st *Stats) { st.Recovered += int64(s.open) })
		e.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: finishing records that were left in the spool", slog.Int(keyRecords, s.open))
	}
	e.countDamaged()
	return nil
}

// startTaking goes on without reservations, which the plan lacks.
func (e *engine) startTaking(ctx context.Context, cause error) error {
	if err := e.useSpool(ctx, true); err != nil {
		return err
	}
	if !e.spool.taking {
		e.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: the portal's plan cannot reserve records; going on with deletion on reading, "+
			"through the spool. What an answer holds that gets lost on the way is lost", errorAttr(nil, cause))
	}
	e.spool.taking, e.spool.next = true, time.Now().Add(reserveAgain)
	e.empty, e.nextGet = false, time.Time{}
	return nil
}

// takes reports whether records are to be read with deletion.
func (e *engine) takes() bool { return e.spool.taking && time.Now().Before(e.spool.next) }

// taking is a call that removes records from the queue as it reads them.
func (e *engine) taking(ctx context.Context, parked bool) call {
	if !parked {
		e.adapt()
	}
	asked := e.limit
	params := reading{limit: asked, parked: parked, remove: true}.params()
	return call{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		if err != nil {
			return e.takingFailed(ctx, err)
		}
		b, err := readBatch(params, doc)
		if err != nil {
			e.spool.rescue(ctx, doc)
			e.countDamaged()
			return err
		}
		n := len(b.Records)
		e.spool.unsaved = append(e.spool.unsaved, b.Records...)
		switch {
		case parked && n < asked:
			e.parkedDone()
		case !parked:
			e.pace(ctx, n, asked)
		}
		return e.save(ctx)
	}}
}

func (e *engine) takingFailed(ctx context.Context, err error) error {
	e.empty, e.grow = false, false
	if !surelyNotRun(err) {
		e.shrink()
		e.cfg.logger.LogAttrs(ctx, slog.LevelError, "offline queue: no answer to a reading that deletes; if the portal ran it, its records are lost",
			errorAttr(nil, err))
	}
	return err
}

// save writes to the spool what was taken, and lets it be handled. Until it succeeds nothing else is done.
func (e *engine) save(ctx context.Context) error {
	taken := e.spool.unsaved
	if len(taken) == 0 {
		return nil
	}
	for len(taken) > 0 {
		parked := taken[0].Parked
		n := slices.IndexFunc(taken, func(r Record) bool { return r.Parked != parked })
		if n < 0 {
			n = len(taken)
		}
		if err := e.saveAs(ctx, taken[:n], parked); err != nil {
			return err
		}
		taken = taken[n:]
		e.spool.unsaved = taken
	}
	e.spool.unsaved = nil
	return nil
}

// saveAs writes records to the spool that were parked on the portal, or that were not.
func (e *engine) saveAs(ctx context.Context, taken []Record, parked bool) error {
	rows := make([]json.RawMessage, len(taken))
	for i, r := range taken {
		rows[i] = r.Raw()
	}
	p, err := e.spool.add(rows, parked)
	if err != nil {
		return err
	}
	for i := range taken {
		taken[i].stands, taken[i].Parked = parked, false // it begins anew
		taken[i].spot = &spot{packet: p, row: i}
	}
	e.meter.count(func(s *Stats) { s.Spooled += int64(len(taken)) })
	e.fresh = append(e.fresh, e.take(ctx, taken)...)
	return nil
}

// unspool brings records of the spool into memory, as far as there is space: those left by an earlier process, and parked ones when
// their time has come.
func (e *engine) unspool(ctx context.Context) error {
	if e.spool.spool == nil {
		return nil
	}
	for len(e.fresh) == 0 && e.space() {
		p := e.spool.unread()
		if p == nil {
			break
		}
		records, err := e.spool.load(p, rowPending)
		if err != nil {
			return err
		}
		p.loaded = true
		e.waiting = append(e.waiting, e.take(ctx, records)...)
	}
	for len(e.spool.parked) > 0 && e.space() {
		p := e.spool.parked[0].packet
		records, err := e.spool.load(p, rowParked)
		if err != nil {
			return err
		}
		due := make(map[int]bool)
		e.spool.parked = slices.DeleteFunc(e.spool.parked, func(at *spot) bool {
			if at.packet == p {
				due[at.row] = true
			}
			return at.packet == p
		})
		records = slices.DeleteFunc(records, func(r Record) bool { return !due[r.spot.row] })
		e.takeParked(ctx, records)
	}
	return nil
}

// idleSpool reports whether nothing of the spool waits for memory.
func (e *engine) idleSpool() bool {
	return e.spool.spool == nil || (len(e.spool.unsaved) == 0 && len(e.spool.parked) == 0 && e.spool.unread() == nil)
}

// hasPlace reports whether the spool, where there is one, can take more records.
func (e *engine) hasPlace() bool {
	return e.spool.spool == nil || (e.idleSpool() && (!e.spool.taking || e.spool.open < maxSpooled))
}

// flushSpool writes down what became of records.
func (e *engine) flushSpool() error {
	if e.spool.spool == nil {
		return nil
	}
	return e.spool.flush()
}

// closeSpool ends the use of the spool. What was taken and could not be written is lost, which it returns as an error.
func (e *engine) closeSpool(ctx context.Context) error {
	if e.spool.spool == nil {
		return nil
	}
	err := e.save(ctx)
	n := len(e.spool.unsaved)
	if n == 0 {
		err = nil
	} else {
		err = fmt.Errorf("%w: %d records that were taken from the portal could not be written and are lost: %w", ErrSpool, n, err)
		e.cfg.logger.LogAttrs(ctx, slog.LevelError, "offline queue: records that were taken from the portal are lost",
			slog.Int(keyRecords, n), errorAttr(nil, err))
	}
	if flushed := e.flushSpool(); flushed != nil {
		e.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: finished records of the spool will be handled again", errorAttr(nil, flushed))
	}
	e.spool.close()
	e.spool = spooling{}
	return err
}

func (e *engine) countDamaged() {
	n := e.spool.damaged
	e.spool.damaged = 0
	e.meter.count(func(s *Stats) { s.Damaged += int64(n) })
}
