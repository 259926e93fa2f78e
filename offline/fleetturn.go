package offline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/typednil"
)

const (
	// slowTurn is how long a turn may hold a place among the ordinary ones.
	slowTurn = 5 * time.Second
	// maxSlowTurn is how long a slow turn may take before it has to end.
	maxSlowTurn = time.Minute
	// minProbe is how long a turn of a failing portal waits for the first response. It doubles with
	// each failure, because a portal that needs longer is slow and not dead.
	minProbe = 15 * time.Second
	// maxProbe leaves a call the time that it has by itself.
	maxProbe = callTimeout + slowTurn

	minFailureWait = 2 * time.Second
	maxFailureWait = 5 * time.Minute
	minFailureGap  = 30 * time.Second // between a failure and the turn of a portal that was woken
	refusedWait    = 30 * time.Minute // of a portal that refuses for good
)

// Why turns end early: causes of their contexts.
const (
	errTurnTooLong Error = "offline: the portal's turn takes too long"
	errRemoved     Error = "offline: the portal was removed"
	errHandover    Error = "offline: the portal passes to another process"
)

// Errors of turns that are not the portal's.
const (
	errNoResponse Error = "offline: the portal did not respond in time"
	errTurnDied   Error = "offline: a caller or a hook panicked, or ended the goroutine of the portal's turn"
)

// portal is what a fleet keeps of a portal. There may be very many, so what only a turn needs is in
// turn. The fleet's mu guards it.
type portal struct {
	fleet  *Fleet
	id     string
	engine *engine // nil until the first turn; the turn's while one is under way
	turn   *turn   // nil while none is under way

	due        time.Time // of the next turn
	ended      time.Time // the last turn
	heapIndex  int       // in its line, or notQueued
	shard      uint8
	kind       kind // by the last turn, or of the turn under way
	failures   uint8
	needsStart bool // the engine was stopped, or has not started
	refused    bool // the last error is one that waiting does not help
	removed    bool // while a turn is under way
	adopted    bool // this process knows it from another one only
	err        error
}

const notQueued = -1

// turn is a turn under way.
type turn struct {
	portal    *portal
	began     time.Time
	run       context.Context //nolint:containedctx // of the fleet's Run
	cancel    context.CancelCauseFunc
	timer     *time.Timer
	again     bool // the next turn is due as soon as this one has ended
	flushOnly bool // it only sends what was finished
	mustEnd   bool // it was asked to end
	stopping  bool // it waits for handlers, and sends what they finished
	responded bool // the portal responded to a call
}

func newPortal(f *Fleet, id string) *portal {
	return &portal{fleet: f, id: id, heapIndex: notQueued, shard: shardOf(id)}
}

func (p *portal) queued() bool { return p.heapIndex != notQueued }

// call is the callFunc of the portal's engine.
func (p *portal) call(ctx context.Context, method string, params, result any) error {
	err := p.callGuarded(ctx, method, params, result)
	p.fleet.requests.Add(1)
	if err == nil {
		p.fleet.responded.Store(time.Now().UnixNano())
	}
	if err == nil || codeOf(err) != "" {
		p.fleet.mu.Lock()
		defer p.fleet.mu.Unlock()
		if p.turn != nil {
			p.turn.responded = true
		}
	}
	return err
}

// callGuarded makes a call and returns a panic of the caller as an error of this portal.
func (p *portal) callGuarded(ctx context.Context, method string, params, result any) error {
	return dispatch.Guard(func() error { return p.callCaller(ctx, method, params, result) })
}

func (p *portal) callCaller(ctx context.Context, method string, params, result any) error {
	c := p.fleet.api(p.id)
	if typednil.Is(c) {
		return noCallerError{}
	}
	app, _, err := identify(c, p.fleet.cfg.clientID, p.id)
	if err != nil {
		return err
	}
	p.engine.clientID = app // before the first record is here
	return c.Call(ctx, method, params, result)
}

// noCallerError is an error that waiting does not help.
type noCallerError struct{}

func (noCallerError) Error() string {
	return "offline: the fleet's function returned no caller for the portal"
}
func (noCallerError) Permanent() bool { return true }

// beginLocked starts a turn. If ended is not nil, the context of the turn has ended with that
// cause, so that the turn only stops the engine and sends what was finished. f.mu must be held.
func (f *Fleet) beginLocked(p *portal, now time.Time, ended error) {
	f.beginTurnLocked(f.run, p, now, ended)
}

// beginTurnLocked is beginLocked for a Run that may be ending. f.mu must be held.
func (f *Fleet) beginTurnLocked(run context.Context, p *portal, now time.Time, ended error) {
	ctx, cancel := context.WithCancelCause(run)
	t := &turn{portal: p, began: now, run: run, cancel: cancel, flushOnly: ended != nil}
	if ended != nil {
		cancel(ended)
	}
	p.turn = t
	if p.engine == nil {
		p.engine = newEngine(f.cfg, p.call, f.cfg.clientID, p.id, func() { f.onSlack(p) })
		p.needsStart = true
	}
	t.timer = time.AfterFunc(p.turnLimit(), func() { f.turnTooLong(t) }) //nolint:contextcheck // it outlasts the turn
	f.lines[p.kind].taken++
	f.shards[p.shard].turns++
	f.turns.Go(func() { f.runTurn(ctx, t) })
}

// turnLimit is how long a turn may take before [Fleet.turnTooLong] looks at it.
func (p *portal) turnLimit() time.Duration {
	switch p.kind {
	case kindSlow:
		return maxSlowTurn
	case kindFailing:
		return min(minProbe<<min(p.failures, 8), maxProbe)
	default:
		return slowTurn
	}
}

// turnTooLong deals with a turn that takes too long for its kind. It locks f.mu.
func (f *Fleet) turnTooLong(t *turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := t.portal
	switch {
	case p.turn != t: // it has just ended
		return
	case t.mustEnd:
		f.moveLocked(t, kindStuck)
		f.shards[p.shard].stuck++
		f.turnsChangedLocked(p.shard)
		f.log.LogAttrs(
			context.Background(),
			slog.LevelError,
			"offline fleet: a turn does not end; handlers and callers must return when their contexts end",
			slog.String(keyMember, p.id),
		)
		return
	case p.kind == kindSlow, p.kind == kindFailing && !t.responded:
		t.mustEnd = true
		t.cancel(errTurnTooLong)
		t.timer.Reset(f.cfg.grace + lastSendTimeout + slowTurn)
		return
	case f.lines[kindSlow].taken >= f.lines[kindSlow].places:
		t.cancel(errTurnTooLong)
	}
	f.moveLocked(t, kindSlow)
	t.timer.Reset(p.turnLimit())
}

// runTurn is a turn, in a goroutine of its own. It locks f.mu.
func (f *Fleet) runTurn(ctx context.Context, t *turn) {
	var wait time.Duration
	var err error = errTurnDied
	defer func() { f.endTurn(ctx, t, wait, err) }()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %w", errTurnDied, event.NewPanicError(v, debug.Stack()))
		}
	}()
	p := t.portal
	if p.needsStart {
		p.engine.start(t.run) //nolint:contextcheck // of Run, from which the context of the turn derives
		p.needsStart = false
	}
	wait, err = p.engine.turn(ctx)
	if ctx.Err() == nil && !permanent(err) {
		return
	}
	p.needsStart = true
	f.mu.Lock()
	t.stopping = true
	f.mu.Unlock()
	ended := err
	err = errTurnDied // unless stop returns
	failure := p.engine.stop(ctx, func(send func()) { f.withFlushSlot(t, send) })
	if err = ended; err == nil {
		err = failure
	}
}

// withFlushSlot calls send, which calls a portal whose work was stopped. Turns that are made for
// nothing else wait for a slot, because there may be very many.
func (f *Fleet) withFlushSlot(t *turn, send func()) {
	if t.flushOnly {
		f.flushSlots <- struct{}{}
		defer func() { <-f.flushSlots }()
	}
	send()
}

// closeLocked ends the work on a portal for now. It begins a turn if there is something to send.
// f.mu must be held.
func (f *Fleet) closeLocked(p *portal, cause error) {
	f.unqueueLocked(p)
	if p.engine != nil && errors.Is(cause, ErrLeaseLost) {
		p.engine.loseLease() // also if the turn ends for another cause
	}
	switch {
	case p.turn != nil:
		p.turn.cancel(cause)
		f.expectEndLocked(p.turn)
	case p.engine == nil:
	case p.engine.busy() && f.run != nil:
		f.beginLocked(p, time.Now(), cause)
		f.expectEndLocked(p.turn)
	default:
		p.needsStart = true
	}
	if p.turn == nil && !f.shards[p.shard].workable() {
		if p.engine != nil {
			p.engine.closeIdleWork()
		}
		p.engine = nil // another process goes on
	}
}

// expectEndLocked notes that a turn was asked to end. If it does not end in time, it is stuck. f.mu
// must be held.
func (f *Fleet) expectEndLocked(t *turn) {
	if !t.mustEnd {
		t.mustEnd = true
		t.timer.Reset(f.cfg.grace + lastSendTimeout + slowTurn)
	}
}

// endTurn ends a turn, after which the portal waits in line for the next one. It locks f.mu.
func (f *Fleet) endTurn(ctx context.Context, t *turn, wait time.Duration, err error) {
	t.timer.Stop()
	if errors.Is(err, errTurnDied) {
		t.portal.engine.abandonWork(ctx)
	}
	refused := f.finishTurn(ctx, t, wait, err)
	t.cancel(nil)
	if refused && f.cfg.onRefused != nil {
		f.cfg.onRefused(t.portal.id, err)
	}
}

// turnEnd is how a turn ended.
type turnEnd struct {
	cause endCause
	died  bool          // a panic or runtime.Goexit ended it
	err   error         // nil if all went well
	wait  time.Duration // until the next turn, if all went well
}

// endCause is what ended a turn.
type endCause uint8

const (
	endByItself endCause = iota
	endTooLong           // it took too long for its kind
	endOutside           // something else than the portal, for example the end of Run
)

func newTurnEnd(ctx context.Context, wait time.Duration, err error) turnEnd {
	end := turnEnd{died: errors.Is(err, errTurnDied), err: err, wait: wait}
	switch {
	case errors.Is(context.Cause(ctx), errTurnTooLong):
		end.cause = endTooLong
		if !end.died {
			end.err = errNoResponse // which does not count if the portal responded
		}
	case ctx.Err() != nil:
		end.cause = endOutside
	}
	return end
}

// finishTurn gives the place of a turn back and puts the portal in line for the next one. It
// reports whether the portal refuses for good, and did not after the turn before. It locks f.mu.
func (f *Fleet) finishTurn(ctx context.Context, t *turn, wait time.Duration, err error) (refused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := newTurnEnd(ctx, wait, err)
	p, now := t.portal, time.Now()
	f.freePlaceLocked(p)
	defer f.turnsChangedLocked(p.shard)
	p.turn, p.ended = nil, now
	f.stats.Turns++
	defer f.signal()
	if t.skippedStop(end) {
		if p.engine.busy() {
			f.beginTurnLocked(t.run, p, now, context.Cause(ctx)) //nolint:contextcheck // turns derive their contexts from that of Run
			f.expectEndLocked(p.turn)
			return false
		}
		p.needsStart = true
	}
	if p.removed {
		delete(f.portals, p.id)
		return false
	}
	due, refused := p.noteEndLocked(t, end, now)
	if refused && p.adopted {
		delete(f.portals, p.id)
		return false
	}
	if t.again && p.err == nil {
		due = now
	}
	if end.died || (!f.shards[p.shard].workable() && (p.needsStart || !p.engine.busy())) {
		p.engine = nil // it was left in the middle of something, or another process goes on
	}
	f.queueLocked(p, due)
	if p.err != nil && end.cause != endOutside {
		f.stats.Failures++
		f.log.LogAttrs(ctx, slog.LevelWarn, "offline fleet: a portal failed", slog.String(keyMember, p.id),
			logattr.Error(nil, p.err), logattr.Wait(due.Sub(now)))
	}
	return refused
}

// freePlaceLocked gives back the place of a portal's turn in its line and in its shard. f.mu must
// be held.
func (f *Fleet) freePlaceLocked(p *portal) {
	f.lines[p.kind].taken--
	if p.kind == kindStuck {
		p.kind = kindSlow
		f.shards[p.shard].stuck--
	}
	f.shards[p.shard].turns--
}

// skippedStop reports whether a turn did not stop the engine because it had done its work when it
// was asked to end.
func (t *turn) skippedStop(end turnEnd) bool {
	asked := end.cause == endOutside || (end.cause == endTooLong && t.mustEnd)
	return asked && !t.stopping && !end.died
}

// noteEndLocked notes how a turn of the portal ended. It returns when the next one is due, and
// whether the portal refuses for good and did not before. The fleet's mu must be held.
func (p *portal) noteEndLocked(t *turn, end turnEnd, now time.Time) (due time.Time, refused bool) {
	switch {
	case end.err == nil, end.cause == endTooLong && t.responded:
		p.failures, p.refused, p.err = 0, false, nil
		p.kind = kindOrdinary
		if end.cause == endTooLong || now.Sub(t.began) > slowTurn {
			p.kind = kindSlow
		}
		if end.cause == endTooLong {
			return now, false
		}
		return now.Add(end.wait), false
	case end.cause == endOutside:
		return now, false
	case permanent(end.err):
		refused = !p.refused
		p.kind, p.failures, p.refused, p.err = kindFailing, 1, true, end.err
		return spread(now.Add(refusedWait), refusedWait/2), refused
	default:
		wait := min(minFailureWait<<min(p.failures, 16), maxFailureWait)
		p.kind, p.failures, p.refused, p.err = kindFailing, min(p.failures+1, 250), false, end.err
		return spread(now.Add(wait/2), wait/2), false
	}
}
