package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/offline/internal/spool"
)

const (
	// reserveAgain is how often the engine tries whether the plan can reserve by now.
	reserveAgain = time.Hour
	// replayPage is how many records of the spool are read into memory at a time.
	replayPage = 500
)

// spoolState is what an engine knows of its spool.
type spoolState struct {
	journal *spool.Journal // nil if the queue has no folder yet

	opened    bool      // openSpool has looked for a folder since the start
	popping   bool      // records are removed from the queue as they are read
	reserveAt time.Time // when to try to reserve again
	retryAt   time.Time // when to try the disk again
	backoff   backoff
	stall     stallWatch
	damaged   int // files that Stats.Damaged counts
}

// openSpool opens the spool in the first turn after a start, if there is a folder.
func (e *engine) openSpool(ctx context.Context) error {
	if e.spool == nil || e.spool.opened {
		return nil
	}
	if err := e.ensureSpool(ctx, false); err != nil {
		return err
	}
	e.spool.opened = true
	return nil
}

// ensureSpool opens the spool. With create, it makes a folder if there is none.
func (e *engine) ensureSpool(ctx context.Context, create bool) error {
	if e.spool.journal != nil {
		return nil
	}
	id := identity{clientID: e.clientID, memberID: e.memberID, connector: e.cfg.connector}
	if err := refuseOldSpool(e.cfg.spoolDir, id); err != nil {
		return err
	}
	dir := filepath.Join(e.cfg.spoolDir, id.folder())
	if !create && !spool.Exists(dir) {
		return nil
	}
	j, err := spool.Open(ctx, dir, spool.Identity{ClientID: id.clientID, MemberID: id.memberID, Connector: id.connector}, e.portalLogger())
	if err != nil {
		return spoolError(err)
	}
	e.spool.journal = j
	e.spool.backoff = backoff{shortest: minErrorWait, longest: maxErrorWait}
	if n := j.Counts().Pending + j.Counts().Parked; n > 0 {
		e.meter.count(func(st *Stats) { st.Recovered += counted(n) })
		e.log(ctx, slog.LevelInfo, "offline queue: finishing records that were left in the spool", slog.Int(keyRecords, n))
	}
	e.countDamaged()
	return nil
}

// refuseOldSpool returns an error if an older version left records of the queue in the spool. That
// version named folders without the application, so it is unknown whose records they are.
func refuseOldSpool(dir string, id identity) error {
	for _, name := range []string{id.oldFolder(), identity{memberID: "portal", connector: id.connector}.oldFolder()} {
		folder := filepath.Join(dir, name)
		old, err := spool.HoldsRecords(folder)
		if err == nil && old {
			err = spool.OldFormatError(folder)
		}
		if err != nil {
			return spoolError(err)
		}
	}
	return nil
}

// spoolError returns an error of the spool that ends the consumer.
func spoolError(err error) error {
	switch {
	case errors.Is(err, spool.ErrInUse):
		return fmt.Errorf("%w: %w", ErrSpoolInUse, err)
	case errors.Is(err, spool.ErrOwner):
		return fmt.Errorf("%w: %w", ErrSpoolOwner, err)
	default:
		return fmt.Errorf("%w: %w", ErrSpool, err)
	}
}

// spoolUsed handles the result of a write to the spool. It returns an error only if that ends the
// consumer. While the disk fails, no more records are taken from the portal, and those that were
// taken are handled from memory.
func (e *engine) spoolUsed(ctx context.Context, err error) error {
	j := e.spool
	since, failure := j.journal.Failing()
	switch {
	case err != nil && !errors.Is(err, spool.ErrDisk):
		return spoolError(err)
	case since.IsZero():
		j.retryAt = time.Time{}
		j.backoff.reset()
		e.noteActivity(ctx, &j.stall, StallNoDisk)
	default:
		j.retryAt = time.Now().Add(j.backoff.next())
		if j.stall.missedSince.IsZero() {
			e.log(ctx, slog.LevelError, "offline queue: the spool cannot be written; no more records are taken from the portal, "+
				"and those that could not be written are handled from memory", logattr.Error(nil, failure))
		}
		e.noteStall(ctx, &j.stall, StallNoDisk, e.cfg.noResponse)
	}
	return nil
}

// startPopping makes the engine read with deletion, because the plan cannot reserve.
func (e *engine) startPopping(ctx context.Context, cause error) error {
	if err := e.ensureSpool(ctx, true); err != nil {
		return err
	}
	if !e.spool.popping {
		e.log(ctx, slog.LevelWarn, "offline queue: the portal's plan cannot reserve records; going on with deletion on reading, "+
			"through the spool. The records of a response that does not arrive are lost", logattr.Error(nil, cause))
	}
	e.spool.popping, e.spool.reserveAt = true, time.Now().Add(reserveAgain)
	e.reserve.empty, e.reserve.next = false, time.Time{}
	return nil
}

// pops reports whether the engine reads records with deletion.
func (e *engine) pops() bool {
	return e.spool != nil && e.spool.popping && time.Now().Before(e.spool.reserveAt)
}

// pop removes records from the queue as it reads them: parked ones first, if a pass is ready for
// them.
func (e *engine) pop(ctx context.Context, now time.Time) error {
	parked := e.parked.running() && e.parked.stage == parkedFree && e.mayReadParked(now)
	fresh := e.mustReserve(now)
	if now.Before(e.spool.retryAt) || (!parked && !fresh) {
		return nil
	}
	if err := e.spool.journal.Acquire(ctx); err != nil {
		return e.spoolUsed(ctx, err)
	}
	defer e.spool.journal.Release()
	if err := e.spoolUsed(ctx, nil); err != nil {
		return err
	}
	if parked {
		if err := e.sendWithGrace(ctx, e.popCall(ctx, true)); err != nil {
			return err
		}
	}
	if !fresh || ctx.Err() != nil || !e.spool.retryAt.IsZero() || e.spool.journal.Counts().Ready > 0 {
		return nil
	}
	e.reserve.adapt(now)
	return e.sendWithGrace(ctx, e.popCall(ctx, false))
}

// popCall returns a call that removes records from the queue as it reads them.
func (e *engine) popCall(ctx context.Context, parked bool) call {
	asked := e.reserve.limit
	params := getParams{limit: asked, parked: parked, remove: true}.params()
	return call{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		if err != nil {
			return e.popFailed(ctx, err)
		}
		b, err := readBatch(params, doc)
		if err != nil {
			_ = e.spool.journal.Rescue(ctx, doc) // which logs
			e.countDamaged()
			return err
		}
		n := len(b.Records)
		switch {
		case parked && n < asked:
			e.endParkedReading()
		case !parked:
			e.recordsReceived(ctx, n, asked)
		}
		return e.saveToSpool(ctx, e.withMemberID(b.Records))
	}}
}

func (e *engine) popFailed(ctx context.Context, err error) error {
	e.reserve.empty, e.reserve.mayGrow = false, false
	if !surelyNotRun(err) {
		e.reserve.shrink()
		e.log(ctx, slog.LevelError, "offline queue: no response to a reading that deletes; if the portal ran it, its records are lost",
			logattr.Error(nil, err))
	}
	return err
}

// saveToSpool writes records that were taken from the portal to the spool, and makes tasks of them.
// What cannot be written is handled from memory.
func (e *engine) saveToSpool(ctx context.Context, taken []Record) error {
	for len(taken) > 0 {
		parked := taken[0].Parked
		n := slices.IndexFunc(taken, func(r Record) bool { return r.Parked != parked })
		if n < 0 {
			n = len(taken)
		}
		if err := e.appendToSpool(ctx, taken[:n], parked); err != nil {
			return err
		}
		taken = taken[n:]
	}
	return nil
}

// appendToSpool does so for records that were all parked on the portal, or were all not.
func (e *engine) appendToSpool(ctx context.Context, taken []Record, parked bool) error {
	rows := make([]json.RawMessage, len(taken))
	for i, r := range taken {
		rows[i] = r.Raw()
	}
	offsets, err := e.spool.journal.Append(ctx, rows, parked)
	saved := err == nil
	err = e.spoolUsed(ctx, err)
	if offsets == nil {
		return err
	}
	for i := range taken {
		taken[i].wasParked, taken[i].Parked = parked, false // its attempts begin anew
		taken[i].offset = offsets[i]
	}
	if saved {
		e.meter.count(func(s *Stats) { s.Spooled += counted(len(taken)) })
	}
	e.fresh = append(e.fresh, e.tasksOf(ctx, taken)...)
	return err
}

// replaySpool reads records that an earlier process left in the spool, as far as there is room in
// memory.
func (e *engine) replaySpool(ctx context.Context) error {
	if e.spool == nil {
		return nil
	}
	for e.spool.journal != nil && ctx.Err() == nil && e.hasHandlerRoom() && !time.Now().Before(e.spool.retryAt) {
		if e.spool.journal.Counts().Ready == 0 {
			return nil
		}
		rows, err := e.spool.journal.Replay(ctx, replayPage)
		if err != nil {
			return e.spoolUsed(ctx, err)
		}
		if len(rows) == 0 {
			return nil
		}
		e.addTasks(e.tasksOf(ctx, e.withMemberID(recordsOfRows(rows, false)))...) //nolint:contextcheck // items have contexts of their own
	}
	return nil
}

// loadSpooledParked reads a window of the parked records of the spool into memory.
func (e *engine) loadSpooledParked(ctx context.Context) {
	p := e.parked.parkedPass
	for p.spool != nil && p.tried() && !time.Now().Before(e.spool.retryAt) {
		rows, err := p.spool.Next(ctx, replayPage)
		if err != nil {
			_ = e.spoolUsed(ctx, err) // the next turn tries again
			return
		}
		if len(rows) == 0 {
			p.spool = nil
			return
		}
		e.tryParked(ctx, e.withMemberID(recordsOfRows(rows, true)))
	}
}

// recordsOfRows makes records of rows of the spool.
func recordsOfRows(rows []spool.Row, parked bool) []Record {
	records := make([]Record, len(rows))
	for i, row := range rows {
		r := newRecord(row.Data, "", parked)
		r.Parked = parked // whatever the portal once said
		r.offset, r.wasParked = row.Offset, row.WasParked
		records[i] = r
	}
	return records
}

// spoolIsRead reports whether all records of the spool are in memory.
func (e *engine) spoolIsRead() bool {
	if e.spool == nil || e.spool.journal == nil {
		return true
	}
	return (!e.parked.running() || e.parked.spool == nil) && e.spool.journal.Counts().Ready == 0
}

// spoolHasRoom reports whether the spool, if there is one, can take more records.
func (e *engine) spoolHasRoom() bool {
	if e.spool == nil || e.spool.journal == nil || !e.spool.popping {
		return true
	}
	c := e.spool.journal.Counts()
	return c.Ready == 0 && c.Pending < spool.MaxPending && !time.Now().Before(e.spool.retryAt)
}

// spoolDueAt returns when the spool needs a turn; zero for never.
func (e *engine) spoolDueAt() time.Time {
	if e.spool == nil {
		return time.Time{}
	}
	return e.spool.retryAt
}

// flushSpool writes what became of records, and the records that could not be written before.
func (e *engine) flushSpool(ctx context.Context) error {
	if e.spool == nil || e.spool.journal == nil || time.Now().Before(e.spool.retryAt) {
		return nil
	}
	return e.spoolUsed(ctx, e.spool.journal.Flush(ctx))
}

// closeSpool closes the spool. It returns an error if records are lost, because they were taken and
// could not be written.
func (e *engine) closeSpool(ctx context.Context) error {
	if e.spool == nil {
		return nil
	}
	j := e.spool.journal
	e.spool = new(spoolState)
	if j == nil {
		return nil
	}
	n, err := j.Close(ctx)
	switch {
	case n > 0:
		err = fmt.Errorf("%w: %d records that were taken from the portal could not be written and are lost: %w", ErrSpool, n, err)
		e.log(ctx, slog.LevelError, "offline queue: records that were taken from the portal are lost",
			slog.Int(keyRecords, n), logattr.Error(nil, err))
	case err != nil:
		e.log(ctx, slog.LevelWarn, "offline queue: finished records of the spool will be handled again", logattr.Error(nil, err))
		err = nil
	}
	return err
}

func (e *engine) countDamaged() {
	n := e.spool.journal.Counts().Damaged
	e.meter.count(func(s *Stats) { s.Damaged += counted(n - e.spool.damaged) })
	e.spool.damaged = n
}
