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

	"github.com/b24events/b24events/offline/internal/spool"
)

const (
	// reserveAgain is how often reserving is tried if the plan could not do so: plans change.
	reserveAgain = time.Hour
	// replayPage is how many records of the spool are brought into memory at a time.
	replayPage = 500
)

// journal is what an engine knows of its spool, if it has one.
type journal struct {
	spool *spool.Journal // nil if there is none

	opened  bool      // it was looked for since the start
	taking  bool      // records are removed from the queue as they are read
	reserve time.Time // when to try to reserve again
	next    time.Time // when to try the disk again
	failing backoff
	alarm   alarm
	damaged int // files that were counted
}

// openJournal opens the spool for the first turn after a start, if there is one.
func (e *engine) openJournal(ctx context.Context) error {
	if e.journal == nil || e.journal.opened {
		return nil
	}
	if err := e.useJournal(ctx, false); err != nil {
		return err
	}
	e.journal.opened = true
	return nil
}

// useJournal opens the spool. With create, it makes one if there is none.
func (e *engine) useJournal(ctx context.Context, create bool) error {
	if e.journal.spool != nil {
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
	e.journal.spool = j
	e.journal.failing = backoff{shortest: minErrorWait, longest: maxErrorWait}
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

// spoolError is an error of the spool that ends the consumer.
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

// written takes in the error of a write to the spool. It returns one that ends the consumer. While
// the disk fails, no more records are taken from the portal; those that were, are handled from
// memory.
func (e *engine) written(ctx context.Context, err error) error {
	j := e.journal
	since, failure := j.spool.Failing()
	switch {
	case err != nil && !errors.Is(err, spool.ErrDisk):
		return spoolError(err)
	case since.IsZero():
		j.next = time.Time{}
		j.failing.reset()
		e.hear(ctx, &j.alarm, StallNoDisk)
	default:
		j.next = time.Now().Add(j.failing.next())
		if j.alarm.silent.IsZero() {
			e.log(ctx, slog.LevelError, "offline queue: the spool cannot be written; no more records are taken from the portal, "+
				"and those that could not be written are handled from memory", errorAttr(nil, failure))
		}
		e.listen(ctx, &j.alarm, StallNoDisk, e.cfg.noResponse)
	}
	return nil
}

// startTaking goes on without reservations, which the plan lacks.
func (e *engine) startTaking(ctx context.Context, cause error) error {
	if err := e.useJournal(ctx, true); err != nil {
		return err
	}
	if !e.journal.taking {
		e.log(ctx, slog.LevelWarn, "offline queue: the portal's plan cannot reserve records; going on with deletion on reading, "+
			"through the spool. An answer that gets lost on the way is lost with its records", errorAttr(nil, cause))
	}
	e.journal.taking, e.journal.reserve = true, time.Now().Add(reserveAgain)
	e.pace.empty, e.pace.next = false, time.Time{}
	return nil
}

// takes reports whether records are to be read with deletion.
func (e *engine) takes() bool {
	return e.journal != nil && e.journal.taking && time.Now().Before(e.journal.reserve)
}

// take removes records from the queue as it reads them, parked ones first if a pass has come to
// them.
func (e *engine) take(ctx context.Context, now time.Time) error {
	parked := e.parked.running() && e.parked.stage == parkedFree && e.parkedReads(now)
	fresh := e.mustReserve(now)
	if now.Before(e.journal.next) || (!parked && !fresh) {
		return nil
	}
	if err := e.journal.spool.Acquire(ctx); err != nil {
		return e.written(ctx, err)
	}
	defer e.journal.spool.Release()
	if err := e.written(ctx, nil); err != nil {
		return err
	}
	if parked {
		if err := e.sendPatiently(ctx, e.takeCall(ctx, true)); err != nil {
			return err
		}
	}
	if !fresh || ctx.Err() != nil || !e.journal.next.IsZero() || e.journal.spool.Counts().Ready > 0 {
		return nil
	}
	e.pace.adapt(now)
	return e.sendPatiently(ctx, e.takeCall(ctx, false))
}

// takeCall is a call that removes records from the queue as it reads them.
func (e *engine) takeCall(ctx context.Context, parked bool) call {
	asked := e.pace.limit
	params := reading{limit: asked, parked: parked, remove: true}.params()
	return call{method: methodGet, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		if err != nil {
			return e.takingFailed(ctx, err)
		}
		b, err := readBatch(params, doc)
		if err != nil {
			_ = e.journal.spool.Rescue(ctx, doc) // which logs
			e.countDamaged()
			return err
		}
		n := len(b.Records)
		switch {
		case parked && n < asked:
			e.parkedRead()
		case !parked:
			e.paced(ctx, n, asked)
		}
		return e.save(ctx, e.owned(b.Records))
	}}
}

func (e *engine) takingFailed(ctx context.Context, err error) error {
	e.pace.empty, e.pace.grow = false, false
	if !surelyNotRun(err) {
		e.pace.shrink()
		e.log(ctx, slog.LevelError, "offline queue: no answer to a reading that deletes; if the portal ran it, its records are lost",
			errorAttr(nil, err))
	}
	return err
}

// save puts records into the spool that were taken from the portal, and lets them be handled. What
// cannot be written is handled from memory.
func (e *engine) save(ctx context.Context, taken []Record) error {
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
	}
	return nil
}

// saveAs puts records into the spool that were parked on the portal, or that were not.
func (e *engine) saveAs(ctx context.Context, taken []Record, parked bool) error {
	rows := make([]json.RawMessage, len(taken))
	for i, r := range taken {
		rows[i] = r.Raw()
	}
	offsets, err := e.journal.spool.Append(ctx, rows, parked)
	saved := err == nil
	err = e.written(ctx, err)
	if offsets == nil {
		return err
	}
	for i := range taken {
		taken[i].stands, taken[i].Parked = parked, false // it begins anew
		taken[i].offset = offsets[i]
	}
	if saved {
		e.meter.count(func(s *Stats) { s.Spooled += counted(len(taken)) })
	}
	e.fresh = append(e.fresh, e.tasksOf(ctx, taken)...)
	return err
}

// replay brings records of the spool into memory that an earlier process left, as far as there is
// room.
func (e *engine) replay(ctx context.Context) error {
	if e.journal == nil {
		return nil
	}
	for e.journal.spool != nil && ctx.Err() == nil && e.hasPlace() && !time.Now().Before(e.journal.next) {
		if e.journal.spool.Counts().Ready == 0 {
			return nil
		}
		rows, err := e.journal.spool.Replay(ctx, replayPage)
		if err != nil {
			return e.written(ctx, err)
		}
		if len(rows) == 0 {
			return nil
		}
		e.add(e.tasksOf(ctx, e.owned(spooledRecords(rows, false)))...) //nolint:contextcheck // items have contexts of their own
	}
	return nil
}

// nextSpooled brings a window of the parked records of the spool into memory.
func (e *engine) nextSpooled(ctx context.Context) {
	p := e.parked.parkedPass
	for p.spool != nil && p.tried() && !time.Now().Before(e.journal.next) {
		rows, err := p.spool.Next(ctx, replayPage)
		if err != nil {
			_ = e.written(ctx, err) // the next turn tries again
			return
		}
		if len(rows) == 0 {
			p.spool = nil
			return
		}
		e.tryParked(ctx, e.owned(spooledRecords(rows, true)))
	}
}

// spooledRecords makes records of rows of the spool.
func spooledRecords(rows []spool.Row, parked bool) []Record {
	records := make([]Record, len(rows))
	for i, row := range rows {
		r := newRecord(row.Data, "", parked)
		r.Parked = parked // even if the portal once said otherwise
		r.offset, r.stands = row.Offset, row.WasParked
		records[i] = r
	}
	return records
}

// journalIsRead reports whether nothing of the spool waits for memory.
func (e *engine) journalIsRead() bool {
	if e.journal == nil || e.journal.spool == nil {
		return true
	}
	return (!e.parked.running() || e.parked.spool == nil) && e.journal.spool.Counts().Ready == 0
}

// journalHasRoom reports whether the spool, if there is one, can take more records.
func (e *engine) journalHasRoom() bool {
	if e.journal == nil || e.journal.spool == nil || !e.journal.taking {
		return true
	}
	c := e.journal.spool.Counts()
	return c.Ready == 0 && c.Pending < spool.MaxPending && !time.Now().Before(e.journal.next)
}

// journalAt returns when the spool needs a turn; zero for never.
func (e *engine) journalAt() time.Time {
	if e.journal == nil {
		return time.Time{}
	}
	return e.journal.next
}

// flushJournal writes what became of records, and records that could not be written before.
func (e *engine) flushJournal(ctx context.Context) error {
	if e.journal == nil || e.journal.spool == nil || time.Now().Before(e.journal.next) {
		return nil
	}
	return e.written(ctx, e.journal.spool.Flush(ctx))
}

// closeJournal ends the use of the spool. It returns an error if records were taken that could not
// be written: they are lost.
func (e *engine) closeJournal(ctx context.Context) error {
	if e.journal == nil {
		return nil
	}
	j := e.journal.spool
	e.journal = new(journal)
	if j == nil {
		return nil
	}
	n, err := j.Close(ctx)
	switch {
	case n > 0:
		err = fmt.Errorf("%w: %d records that were taken from the portal could not be written and are lost: %w", ErrSpool, n, err)
		e.log(ctx, slog.LevelError, "offline queue: records that were taken from the portal are lost",
			slog.Int(keyRecords, n), errorAttr(nil, err))
	case err != nil:
		e.log(ctx, slog.LevelWarn, "offline queue: finished records of the spool will be handled again", errorAttr(nil, err))
		err = nil
	}
	return err
}

func (e *engine) countDamaged() {
	n := e.journal.spool.Counts().Damaged
	e.meter.count(func(s *Stats) { s.Damaged += counted(n - e.journal.damaged) })
	e.journal.damaged = n
}
