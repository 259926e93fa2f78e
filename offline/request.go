package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/b24events/b24events/internal/batch"
	"github.com/b24events/b24events/internal/timing"
)

const (
	// batchPause is how long calls are made one by one after a batch was refused.
	batchPause = time.Hour
	// suspectBatch is how many batches fail in a row before their calls are tried one by one, in case
	// it is the batch; and again after every suspectAgain.
	suspectBatch, suspectAgain = 3, 30
	// noTotal is the number of rows where a call did not tell it.
	noTotal = -1
)

// call is one call of the portal.
type call struct {
	method string
	params map[string]any
	// done takes in the result, and for a list the number of rows that it has in all, or noTotal; or
	// the error of the call. It returns what is wrong with either.
	done func(doc json.RawMessage, total int, err error) error
}

// batching is what is known of batches.
type batching struct {
	retryAt  time.Time // when they may be tried again
	failures int       // in a row
}

// send makes calls, in as few requests as can be. It returns the worst of the errors that their
// done functions return.
func (e *engine) send(ctx context.Context, calls []call) error {
	if len(calls) == 0 {
		return nil
	}
	var worst error
	for chunk := range slices.Chunk(calls, batch.Max) {
		if err := e.sendChunk(ctx, chunk); worst == nil || permanent(err) {
			worst = err
		}
	}
	switch {
	case worst == nil:
		e.backoff.reset()
		e.noteActivity(ctx, &e.responseStall, StallNoResponse)
	case ctx.Err() == nil:
		e.noteStall(ctx, &e.responseStall, StallNoResponse, e.cfg.noResponse)
	}
	return worst
}

func (e *engine) sendChunk(ctx context.Context, calls []call) error {
	if len(calls) == 1 || !e.canBatch(time.Now()) {
		return e.sendSingly(ctx, calls)
	}
	reply, err := e.sendBatch(ctx, calls)
	if err != nil && !surelyNotRun(err) && !permanent(err) {
		e.batches.failures++
	} else if err == nil {
		e.batches.failures = 0
	}
	if err != nil && ctx.Err() == nil && (permanent(err) || e.batches.failures%suspectAgain == suspectBatch) {
		return e.fallBackToSingle(ctx, calls, err)
	}
	var worst error
	for i, c := range calls {
		var doc json.RawMessage
		total, failure := noTotal, err
		if err == nil {
			if doc, failure = reply.Answer(i, c.method); failure != nil {
				failure = explain(c.method, c.params, failure)
			}
			if n, ok := reply.Total(i); ok {
				total = n
			}
		}
		if err := c.done(doc, total, failure); worst == nil || permanent(err) {
			worst = err
		}
	}
	return worst
}

// fallBackToSingle makes the calls of a batch that failed one by one. Where it was the token, they
// say so themselves; where it was the batch, or a caller that cannot make one, they go through.
func (e *engine) fallBackToSingle(ctx context.Context, calls []call, err error) error {
	if slices.ContainsFunc(calls, func(c call) bool { return c.method == methodGet }) {
		e.reservationFailed(err)
	}
	failure := e.sendSingly(ctx, calls)
	if !surelyNotRun(err) && slices.ContainsFunc(calls, func(c call) bool { return c.method == methodGet && c.params["error"] == 1 }) {
		e.parked.restart() // the batch may have reserved what the pass then no longer got
	}
	if failure != nil {
		return failure
	}
	e.batches.retryAt = time.Now().Add(batchPause)
	e.log(ctx, slog.LevelWarn, "offline queue: batches fail where single calls do not, making one request for each call",
		errorAttr(nil, err), waitAttr(batchPause))
	return nil
}

func (e *engine) canBatch(now time.Time) bool { return !now.Before(e.batches.retryAt) }

func (e *engine) sendBatch(ctx context.Context, calls []call) (*batch.Reply, error) {
	commands := make([]batch.Command, len(calls))
	for i, c := range calls {
		commands[i] = batch.Command{Method: c.method, Params: e.queue.withConnector(c.params)}
	}
	params, err := batch.Params(commands)
	if err != nil {
		return nil, errors.Join(ErrBadAnswer, err) // cannot be: the parameters are this package's own
	}
	var doc json.RawMessage
	if err := e.queue.call(ctx, batch.Method, params, &doc); err != nil {
		return nil, explain(batch.Method, nil, err)
	}
	reply := new(batch.Reply)
	if err := json.Unmarshal(doc, reply); err != nil {
		return nil, errors.Join(ErrBadAnswer, err)
	}
	if len(reply.Results) == 0 && len(reply.Errors) == 0 {
		return nil, fmt.Errorf("%w: the answer to a batch has no results", ErrBadAnswer)
	}
	return reply, nil
}

// sendWithGrace makes a call whose answer must not be missed because ctx ends meanwhile, and waits
// for it for as long as settleTimeout then.
func (e *engine) sendWithGrace(ctx context.Context, c call) error {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if timing.Sleep(patient, lastSendTimeout) == nil {
			cancel()
		}
	})
	defer stop()
	return e.send(patient, []call{c})
}

// sendSingly makes a request for each call. Those after one that failed are not sent.
func (e *engine) sendSingly(ctx context.Context, calls []call) error {
	var failure error
	for _, c := range calls {
		var doc json.RawMessage
		err := error(errNotSent)
		if failure == nil {
			err = e.queue.do(ctx, c.method, c.params, &doc)
		}
		if err := c.done(doc, noTotal, err); failure == nil {
			failure = err
		}
	}
	return failure
}

// request makes one request of everything that is due: it sends acks, looks for orphans, parked records
// and dead letters, and reserves the next records. A second one parks dead letters.
func (e *engine) request(ctx context.Context, now time.Time) error {
	stuck := e.clearFailed
	calls, all := e.ackCalls()
	if !all || (stuck && len(calls) > 0) {
		return e.send(ctx, calls)
	}
	var orphans, parked pages
	var parkings []call
	if e.listing.ready(now) {
		if e.maySeekOrphans(now) {
			e.orphans.due = true
			calls = append(calls, e.listCalls(ctx, &orphans, max(1, e.orphans.pages), e.orphans.offset,
				map[string]any{"=ERROR": 0}, map[string]any{"PROCESS_ID": "DESC"})...)
		}
		calls = append(calls, e.parkingCalls(ctx, &parkings)...)
		calls = append(calls, e.uncheckedCalls(ctx)...)
		if !now.Before(e.parked.next) && !e.parked.running() {
			e.startParkedPass()
		}
		calls = append(calls, e.parkedCalls(ctx, &parked)...)
		if e.reserve.full && e.canBatch(now) && !now.Before(e.measuredAt.Add(measureInterval)) {
			calls = append(calls, e.backlogCall(ctx))
		}
	}
	takes := e.pops()
	// Parking removes newer rows of the same changes, so nothing is reserved before it is done.
	parks := e.listing.ready(now) && e.ledger.toParkCount() > 0
	reserves := func() bool {
		return !takes && e.mayReserve(now) && (e.reserve.receivedAt.IsZero() || e.mustReserve(now))
	}
	if !parks && reserves() {
		calls = append(calls, e.reserveCall(ctx, now))
	}
	err := e.send(ctx, calls)
	if orphans.asked > 0 { // before the ledger forgets what is parked
		e.orphansListed(ctx, &orphans)
	}
	if parked.asked > 0 {
		e.parkedListed(ctx, &parked)
	}
	if err == nil && parks && reserves() {
		parkings = append(parkings, e.reserveCall(ctx, now)) // otherwise letters that keep coming hold it up
	}
	if err == nil && len(parkings) > 0 {
		err = e.send(ctx, parkings)
	}
	if e.orphans.responseLost {
		e.orphans = orphanSearch{due: true}
	}
	if err == nil && takes && !parks && ctx.Err() == nil {
		err = e.pop(ctx, now) // alone: what deletes as it reads must not depend on another call's answer
	}
	return err
}
