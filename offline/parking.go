package offline

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"

	"github.com/b24events/b24events/internal/logattr"
)

// Records are parked in two requests. The first one looks which of them their reservations still
// hold. The second one parks those, and looks whether they are parked then.

// parkingCalls returns calls that look which of the records that are to be parked their
// reservations still hold. To park one that is gone, because another process finished it, would
// delete the newer change of its object; see [Queue.Park]. The calls add to parkings the calls that
// park the others.
func (e *engine) parkingCalls(ctx context.Context, parkings *[]call) (calls []call) {
	for processID, records := range e.ledger.parkGroups() {
		for chunk := range slices.Chunk(records, pageSize) {
			calls = append(calls, e.heldCall(ctx, processID, chunk, parkings))
		}
	}
	return calls
}

// heldCall returns a call of parkingCalls, for records of one reservation.
func (e *engine) heldCall(ctx context.Context, processID string, records []Record, parkings *[]call) call {
	filter := map[string]any{"=PROCESS_ID": processID, "=ERROR": 0, "@MESSAGE_ID": messageIDs(records)}
	return call{method: methodList, params: map[string]any{"filter": filter}, done: func(doc json.RawMessage, _ int, err error) error {
		var page []Record
		if err == nil {
			page, err = readPage(doc)
		}
		if err = e.listDone(ctx, err); err != nil || e.listing.err() != nil {
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
		e.ledger.parkingDone(gone)
		if len(there) > 0 {
			*parkings = append(*parkings, e.parkCall(processID, there), e.checkCall(ctx, there))
		}
		return nil
	}}
}

// parkCall returns a call that parks records of one reservation.
func (e *engine) parkCall(processID string, records []Record) call {
	params := map[string]any{"process_id": processID, "message_id": messageIDs(records)}
	return call{method: methodError, params: params, done: func(doc json.RawMessage, _ int, err error) error {
		if err == nil {
			err = readTrue(methodError, doc)
		}
		if err != nil {
			return err
		}
		e.ledger.parkingDone(records)
		e.orphans.rowsGone(len(records)) // out of the list
		e.meter.count(func(s *Stats) { s.Parked += counted(len(records)) })
		e.addParkedCount(len(records))
		return nil
	}}
}

// checkCall returns a call that looks whether the records are parked now. Another consumer of the
// same queue may have cleared one just before it was parked. Then parking removed a newer change of
// its object, and nothing is left of it, so its handler runs once more.
func (e *engine) checkCall(ctx context.Context, records []Record) call {
	filter := map[string]any{"=ERROR": 1, "@MESSAGE_ID": messageIDs(records)}
	return call{method: methodList, params: map[string]any{"filter": filter}, done: func(doc json.RawMessage, total int, err error) error {
		var page []Record
		if err == nil {
			page, err = readPage(doc)
		}
		more := len(page) >= pageSize || total > len(page) // there may be rows that were not read
		if err = e.listDone(ctx, err); err != nil || e.listing.err() != nil || (more && len(records) > 1) {
			e.checkLater(ctx, records)
			return err
		}
		there := make(map[string]bool, len(page))
		for _, r := range page {
			there[r.MessageID] = true
		}
		for _, r := range records {
			if there[r.MessageID] || r.Delivery == nil || e.ledger.has(r) {
				continue
			}
			e.log(ctx, slog.LevelWarn, "offline queue: handling a record once more that another consumer cleared",
				append(recordAttrs(r), logattr.Error(nil, errRowGone))...)
			e.ledger.add(r)
			e.fresh = append(e.fresh, &task{Record: r, rowGone: true})
		}
		return nil
	}}
}

// maxUnchecked bounds the records that checkLater remembers.
const maxUnchecked = 1000

// checkLater remembers records that could not be looked for. Later requests look for them one by
// one.
func (e *engine) checkLater(ctx context.Context, records []Record) {
	if len(e.unchecked)+len(records) > maxUnchecked {
		e.log(ctx, slog.LevelWarn, "offline queue: it cannot be checked whether records were parked", slog.Int(keyRecords, len(records)))
		return
	}
	e.unchecked = append(e.unchecked, records...)
}

// uncheckedCalls returns calls that look for records that checkLater remembers.
func (e *engine) uncheckedCalls(ctx context.Context) (calls []call) {
	const atATime = 10
	n := min(len(e.unchecked), atATime)
	for _, r := range e.unchecked[:n] {
		calls = append(calls, e.checkCall(ctx, []Record{r}))
	}
	e.unchecked = e.unchecked[n:]
	if len(e.unchecked) == 0 {
		e.unchecked = nil
	}
	return calls
}

func messageIDs(records []Record) []string {
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.MessageID
	}
	return ids
}
