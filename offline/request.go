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
	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/internal/typednil"
)

const (
	// batchPause is how long calls are made one by one after a batch was refused.
	batchPause = time.Hour
	// suspectBatch is how many batches fail in a row before their calls are made one by one, in case
	// the portal has something against the batch. It is tried again after every suspectAgain.
	suspectBatch, suspectAgain = 3, 30
	// noTotal is the number of rows if the response does not have it.
	noTotal = -1
)

// call is one call of the portal.
type call struct {
	method string
	params map[string]any
	// done handles the result, or the error of the call. total is the number of all rows of a list,
	// or noTotal. done returns what is wrong with the call or its result.
	done func(doc json.RawMessage, total int, err error) error
}

// sender is what an engine remembers of its requests.
type sender struct {
	backoff       backoff // between failed requests
	stall         stallWatch
	batchAt       time.Time // when batches may be tried again
	batchFailures int       // in a row
}

// send makes calls in as few requests as possible. It returns the worst of the errors that their
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
		e.sender.backoff.reset()
		e.noteActivity(ctx, &e.sender.stall, StallNoResponse)
	case ctx.Err() == nil:
		e.noteStall(ctx, &e.sender.stall, StallNoResponse, e.cfg.noResponse)
	}
	return worst
}

func (e *engine) sendChunk(ctx context.Context, calls []call) error {
	if len(calls) == 1 || !e.canBatch(time.Now()) {
		return e.sendSingly(ctx, calls)
	}
	reply, err := e.sendBatch(ctx, calls)
	if err != nil && !surelyNotRun(err) && !permanent(err) {
		e.sender.batchFailures++
	} else if err == nil {
		e.sender.batchFailures = 0
	}
	if err != nil && ctx.Err() == nil && (permanent(err) || e.sender.batchFailures%suspectAgain == suspectBatch) {
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

// fallBackToSingle makes the calls of a failed batch one by one. If the token is the reason, they
// fail with that error. If the batch is, or the caller cannot make batches, they succeed.
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
	e.sender.batchAt = time.Now().Add(batchPause)
	e.log(ctx, slog.LevelWarn, "offline queue: batches fail and single calls do not, making one request for each call",
		logattr.Error(nil, err), logattr.Wait(batchPause))
	return nil
}

func (e *engine) canBatch(now time.Time) bool { return !now.Before(e.sender.batchAt) }

func (e *engine) sendBatch(ctx context.Context, calls []call) (*batch.Reply, error) {
	commands := make([]batch.Command, len(calls))
	for i, c := range calls {
		commands[i] = batch.Command{Method: c.method, Params: e.queue.withConnector(c.params)}
	}
	params, err := batch.Params(commands)
	if err != nil {
		return nil, errors.Join(ErrBadResponse, err) // cannot be: the parameters are this package's own
	}
	var doc json.RawMessage
	if err := e.queue.call(ctx, batch.Method, params, &doc); err != nil {
		return nil, explain(batch.Method, nil, err)
	}
	reply := new(batch.Reply)
	if err := json.Unmarshal(doc, reply); err != nil {
		return nil, errors.Join(ErrBadResponse, err)
	}
	if len(reply.Results) == 0 && len(reply.Errors) == 0 {
		return nil, fmt.Errorf("%w: the response to a batch has no results", ErrBadResponse)
	}
	return reply, nil
}

// sendWithGrace makes a call whose response must not be missed because ctx ends meanwhile. It then
// waits for lastSendTimeout at most.
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

// requestPlan is what one turn sends.
type requestPlan struct {
	calls    []call
	acksOnly bool
	orphans  pages // what the calls list
	parked   pages

	// parks says that the calls look for records that are to be parked. They add to parkings what
	// follows in a second request. Nothing is reserved before it, because parking removes newer rows
	// of the same changes.
	parks    bool
	parkings []call

	pops bool // records are read with deletion, in a request of their own
}

// planRequest puts everything that is due into one request: acks, looks for orphans, parked records
// and records that are to be parked, and the next reservation.
func (e *engine) planRequest(ctx context.Context, now time.Time) *requestPlan {
	p := new(requestPlan)
	failed := e.clearFailed
	calls, all := e.ackCalls()
	if !all || (failed && len(calls) > 0) {
		p.calls, p.acksOnly = calls, true
		return p
	}
	if e.listing.ready(now) {
		if e.maySeekOrphans(now) {
			e.orphans.due = true
			calls = append(calls, e.orphanCalls(ctx, &p.orphans)...)
		}
		calls = append(calls, e.parkingCalls(ctx, &p.parkings)...)
		calls = append(calls, e.uncheckedCalls(ctx)...)
		if !now.Before(e.parked.next) && !e.parked.running() {
			e.startParkedPass()
		}
		calls = append(calls, e.parkedCalls(ctx, &p.parked)...)
		if e.reserve.full && e.canBatch(now) && !now.Before(e.measuredAt.Add(measureInterval)) {
			calls = append(calls, e.backlogCall(ctx))
		}
	}
	p.pops = e.pops()
	p.parks = e.listing.ready(now) && e.ledger.toParkCount() > 0
	if !p.parks && e.reservesIn(p, now) {
		calls = append(calls, e.reserveCall(ctx, now))
	}
	p.calls = calls
	return p
}

// reservesIn reports whether a reservation joins the request.
func (e *engine) reservesIn(p *requestPlan, now time.Time) bool {
	return !p.pops && e.mayReserve(now) && (e.reserve.receivedAt.IsZero() || e.mustReserve(now))
}

// observedRequest is request, with the context and the observers of the options. The observers are
// called even if the caller of the queue panics, because they may end what a context began.
func (e *engine) observedRequest(ctx context.Context, now time.Time) (err error) {
	for _, f := range e.cfg.contexts {
		e.callHook(ctx, "WithContext", func() {
			if own := f(ctx, e.memberID); !typednil.Is(own) {
				ctx = own //nolint:fatcontext // each option adds to it
			}
		})
	}
	if len(e.cfg.observers) == 0 {
		return e.request(ctx, now)
	}
	before := e.meter.read()
	err = errTurnDied // unless request returns
	defer func() { e.observe(ctx, &before, now, err) }()
	err = e.request(ctx, now)
	return err
}

// observe calls the observers after the requests of a turn.
func (e *engine) observe(ctx context.Context, before *Stats, began time.Time, err error) {
	after := e.meter.read()
	info := RequestInfo{
		MemberID: e.memberID, Requests: int(after.Requests - before.Requests), //nolint:gosec // there are few
		Records: int(after.Reserved + after.Recovered - before.Reserved - before.Recovered), //nolint:gosec // there are few
		Err:     err, Took: time.Since(began),
	}
	for _, f := range e.cfg.observers {
		e.callHook(ctx, "WithObserver", func() { f(ctx, info) })
	}
}

// request sends what is due: one request, a second one if records are parked, and another if
// records are read with deletion.
func (e *engine) request(ctx context.Context, now time.Time) error {
	p := e.planRequest(ctx, now)
	err := e.send(ctx, p.calls)
	if p.acksOnly {
		return err
	}
	if p.orphans.asked > 0 { // before the ledger forgets what is parked
		e.orphansListed(ctx, &p.orphans)
	}
	if p.parked.asked > 0 {
		e.parkedListed(ctx, &p.parked)
	}
	if err == nil && p.parks && e.reservesIn(p, now) {
		p.parkings = append(p.parkings, e.reserveCall(ctx, now)) // otherwise records that keep failing hold it up
	}
	if err == nil && len(p.parkings) > 0 {
		err = e.send(ctx, p.parkings)
	}
	if e.orphans.responseLost {
		e.orphans = orphanSearch{due: true}
	}
	if err == nil && p.pops && !p.parks && ctx.Err() == nil {
		err = e.pop(ctx, now) // alone: what deletes as it reads must not depend on the response to another call
	}
	return err
}
