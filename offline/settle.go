package offline

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"
)

const (
	// flushInterval is how often finished records are cleared while others are still worked on. It bounds what a crash makes the
	// next process handle again.
	flushInterval = 5 * time.Second
	// settleTimeout is how long an engine that was stopped goes on trying to clear what was finished.
	settleTimeout = 10 * time.Second
	// maxNobody bounds what is remembered of rows that nothing can name.
	maxNobody = 1000
)

// settlement collects what is to be told to the portal about a reservation.
type settlement struct {
	processID   string
	clear, park []Record
}

// verdict is what becomes of a record.
type verdict int

const (
	left  verdict = iota // not finished: it stays reserved
	done                 // handled: to be cleared
	lost                 // given up: to be parked
	later                // to be tried again
)

// conclude notes what is to be told to the portal about a record.
func (e *engine) conclude(r Record, v verdict) {
	if v == lost && r.Parked {
		return // it is parked, and cannot be parked again; the next pass reads it
	}
	if r.spot != nil {
		e.concludeSpooled(r, v)
		return
	}
	s := e.owe(r.ProcessID)
	if v == lost {
		s.park = append(s.park, r)
	} else {
		s.clear = append(s.clear, r)
	}
}

func (e *engine) concludeSpooled(r Record, v verdict) {
	state := rowDone
	if v == lost {
		state = rowParked
	}
	e.spool.mark(r.spot, state)
	e.meter.count(func(s *Stats) {
		if v == lost {
			s.Parked++
		} else {
			s.Cleared++
		}
	})
}

func (e *engine) owe(processID string) *settlement {
	for _, s := range e.owed {
		if s.processID == processID {
			return s
		}
	}
	s := &settlement{processID: processID}
	e.owed = append(e.owed, s)
	return s
}

// paid drops the settlements that are settled.
func (e *engine) paid() {
	e.owed = slices.DeleteFunc(e.owed, func(s *settlement) bool { return len(s.clear) == 0 && len(s.park) == 0 })
	if len(e.owed) == 0 {
		e.owed = nil
	}
}

// clearings returns calls that remove finished records from the queue, up to maxJoined, and whether these are all.
func (e *engine) clearings(ctx context.Context) (calls []call, all bool) {
	e.stuck = false
	for _, s := range e.owed {
		var byMessage, byID, neither []Record
		for _, r := range s.clear {
			switch {
			case isMessageID(r.MessageID):
				byMessage = append(byMessage, r)
			case r.ID > 0:
				byID = append(byID, r)
			default:
				neither = append(neither, r)
			}
		}
		e.forget(ctx, &s.clear, neither)
		for chunk := range slices.Chunk(byMessage, maxNamed) {
			calls = append(calls, e.clearing(s, chunk, map[string]any{"process_id": s.processID, "message_id": messageIDs(chunk)}))
		}
		for chunk := range slices.Chunk(byID, maxNamed) {
			ids := make([]int64, len(chunk))
			for i, r := range chunk {
				ids[i] = r.ID
			}
			calls = append(calls, e.clearing(s, chunk, map[string]any{"process_id": s.processID, "id": ids}))
		}
	}
	e.paid()
	if len(calls) > 0 {
		e.sweep.start = 0 // the rows that are looked through move up
	}
	if len(calls) > maxJoined {
		return calls[:maxJoined], false
	}
	return calls, true
}

func (e *engine) clearing(s *settlement, records []Record, params map[string]any) call {
	return call{method: methodClear, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		if err == nil {
			err = readDone(methodClear, doc)
		}
		if err != nil {
			e.stuck = true
			return err
		}
		drop(&s.clear, records)
		e.paid()
		e.meter.count(func(st *Stats) { st.Cleared += int64(len(records)) })
		for _, r := range records {
			if r.Parked {
				e.countParked(-1, true)
			}
		}
		return nil
	}}
}

// park parks the records that were given up. It looks first which of them the reservation still holds: parking one that is gone, because
// another process finished it, would delete the newer change of its object; see [Queue.Park].
func (e *engine) park(ctx context.Context) error {
	if !slices.ContainsFunc(e.owed, func(s *settlement) bool { return len(s.park) > 0 }) {
		return nil
	}
	calls, _ := e.clearings(ctx)
	var parkings []call
	for _, s := range e.owed {
		var parkable, nameless []Record
		for _, r := range s.park {
			if isMessageID(r.MessageID) {
				parkable = append(parkable, r)
			} else {
				nameless = append(nameless, r)
			}
		}
		e.forget(ctx, &s.park, nameless)
		for chunk := range slices.Chunk(parkable, pageSize) {
			calls = append(calls, e.lookBeforeParking(s, chunk, &parkings))
		}
	}
	e.paid()
	if err := e.send(ctx, calls); err != nil {
		return err
	}
	return e.sent(ctx, e.send(ctx, parkings))
}

// lookBeforeParking adds to parkings the call that parks those records that are still there.
func (e *engine) lookBeforeParking(s *settlement, records []Record, parkings *[]call) call {
	filter := map[string]any{"=PROCESS_ID": s.processID, "=ERROR": 0, "@MESSAGE_ID": messageIDs(records)}
	return call{method: methodList, params: map[string]any{"filter": filter}, done: func(doc json.RawMessage, _ int, err error) error {
		var page []Record
		if err == nil {
			page, err = readPage(doc)
		}
		if err != nil {
			return err
		}
		held := make(map[string]bool, len(page))
		for _, r := range page {
			held[r.MessageID] = true
		}
		var there, gone []Record
		for _, r := range records {
			if held[r.MessageID] {
				there = append(there, r)
			} else {
				gone = append(gone, r)
			}
		}
		drop(&s.park, gone)
		e.paid()
		if len(there) > 0 {
			*parkings = append(*parkings, e.parking(s, there))
		}
		return nil
	}}
}

func (e *engine) parking(s *settlement, records []Record) call {
	params := map[string]any{"process_id": s.processID, "message_id": messageIDs(records)}
	return call{method: methodError, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		if err == nil {
			err = readDone(methodError, doc)
		}
		if err != nil {
			return err
		}
		drop(&s.park, records)
		e.paid()
		e.meter.count(func(st *Stats) { st.Parked += int64(len(records)) })
		e.countParked(len(records), true)
		return nil
	}}
}

// settleLast tells the portal what was finished after ctx has ended, for as long as settleTimeout. Where the lease is lost, nothing is parked:
// the records may be another's now, and parking what is not held deletes newer changes.
func (e *engine) settleLast(stopped context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stopped), settleTimeout)
	defer cancel()
	wait := backoff{shortest: minErrorWait, longest: maxErrorWait}
	for len(e.owed) > 0 {
		if e.leaseLost(stopped) {
			for _, s := range e.owed {
				e.left(ctx, len(s.park))
				s.park = nil
			}
			e.paid()
		}
		calls, _ := e.clearings(ctx)
		err := e.send(ctx, calls)
		if err == nil {
			err = e.park(ctx)
		}
		if err == nil {
			continue
		}
		if permanent(err) || !sleep(ctx, wait.next(), nil) {
			return err
		}
	}
	return nil
}

// leaseLost reports whether the queue may be another's.
func (e *engine) leaseLost(ctx context.Context) bool {
	select {
	case <-e.unleased:
		return true
	default:
		return errors.Is(context.Cause(ctx), ErrLeaseLost)
	}
}

// forget gives up on records that nothing can name to the portal. They stay reserved, and are not handled again.
func (e *engine) forget(ctx context.Context, list *[]Record, records []Record) {
	if len(records) == 0 {
		return
	}
	if e.nobody == nil || len(e.nobody) > maxNobody {
		e.nobody = make(map[rowKey]bool)
	}
	for _, r := range records {
		e.nobody[r.key()] = true
		e.cfg.logger.LogAttrs(ctx, slog.LevelError,
			"offline queue: a record without a usable message id cannot be settled and stays reserved", about(r)...)
	}
	drop(list, records)
	e.meter.count(func(s *Stats) { s.Left += int64(len(records)) })
}

// left counts records that stay reserved.
func (e *engine) left(ctx context.Context, n int) {
	if n == 0 {
		return
	}
	e.meter.count(func(s *Stats) { s.Left += int64(n) })
	e.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: records are left for the next start", slog.Int(keyRecords, n))
}

// drop takes records out of a list.
func drop(list *[]Record, records []Record) {
	gone := make(map[rowKey]bool, len(records))
	for _, r := range records {
		gone[r.key()] = true
	}
	*list = slices.DeleteFunc(*list, func(r Record) bool { return gone[r.key()] })
}

func messageIDs(records []Record) []string {
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.MessageID
	}
	return ids
}
