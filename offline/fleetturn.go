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
	"github.com/b24events/b24events/internal/typednil"
)

const (
	// longTurn is how long a turn may hold a place among ordinary ones. Handlers are started for a
	// little less.
	longTurn = 5 * time.Second
	// longestTurn is how long a long turn may take before it has to end, besides what one handler
	// may take.
	longestTurn = time.Minute
	// firstProbe is how long a failing portal is waited for until it has answered once. It doubles
	// with each failure, as a portal that needs longer is slow and not dead.
	firstProbe = 15 * time.Second
	// longestProbe leaves a call the time that it has by itself.
	longestProbe = callTimeout + longTurn

	minFailureWait = 2 * time.Second
	maxFailureWait = 5 * time.Minute
	minFailureGap  = 30 * time.Second // between a failure and the turn of a portal that was woken
	refusedWait    = 30 * time.Minute // for portals that refuse for good
)

// Why turns end early: causes of their contexts.
const (
	errTurnOver Error = "offline: the portal's turn is over"
	errRemoved  Error = "offline: the portal was removed"
	errHandover Error = "offline: the portal passes to another process"
)

// What turns fail with that got no error from the portal.
const (
	errNoAnswer Error = "offline: the portal did not answer in time"
	errTurnDied Error = "offline: a caller or a hook panicked, or ended the goroutine of the portal's turn"
)

// portal is what a fleet keeps of a portal. There may be very many: what only a turn needs is in
// turn.
type portal struct {
	fleet  *Fleet
	id     string
	engine *engine // nil until the first turn; the turn's while one is under way
	turn   *turn   // nil while none is under way

	due      time.Time // of the next turn
	ended    time.Time // the last turn
	place    int       // in the line, or unqueued
	shard    uint8
	kind     kind // by the last turn, or of the turn under way
	failures uint8
	stale    bool // the engine was stopped
	refused  bool // the last error is one that waiting does not help
	removed  bool // while a turn is under way
	adopted  bool // known from another process only
	err      error
}

const unqueued = -1

// turn is a turn under way.
type turn struct {
	portal   *portal
	began    time.Time
	intake   context.Context //nolint:containedctx // of the fleet's Run
	cancel   context.CancelCauseFunc
	limit    *time.Timer
	again    bool // the next turn is due as soon as this one has ended
	closing  bool // it only settles what was finished
	told     bool // to end
	stopping bool // it waits for handlers, and sends what they finished
	answered bool // the portal answered a call
}

func newPortal(f *Fleet, id string) *portal {
	return &portal{fleet: f, id: id, place: unqueued, shard: shardOf(id)}
}

func (p *portal) queued() bool { return p.place != unqueued }

// call is the callFunc of the portal's engine.
func (p *portal) call(ctx context.Context, method string, params, result any) error {
	err := p.ask(ctx, method, params, result)
	p.fleet.requests.Add(1)
	if err == nil || codeOf(err) != "" {
		p.fleet.mu.Lock()
		defer p.fleet.mu.Unlock()
		if p.turn != nil {
			p.turn.answered = true
		}
	}
	return err
}

// ask makes a call. A caller that panics does so for one portal.
func (p *portal) ask(ctx context.Context, method string, params, result any) error {
	return dispatch.Guard(func() error { return p.askCaller(ctx, method, params, result) })
}

func (p *portal) askCaller(ctx context.Context, method string, params, result any) error {
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

// begin starts a turn, with a cause one that is over and only settles. Like all that follow and do
// not lock, it is called with the lock held.
func (f *Fleet) begin(p *portal, now time.Time, over error) { f.beginIn(f.run, p, now, over) }

// beginIn is begin for a Run that may be ending.
func (f *Fleet) beginIn(run context.Context, p *portal, now time.Time, over error) {
	ctx, cancel := context.WithCancelCause(run)
	t := &turn{portal: p, began: now, intake: run, cancel: cancel, closing: over != nil}
	if over != nil {
		cancel(over)
	}
	p.turn = t
	if p.engine == nil {
		p.engine = newEngine(f.cfg, p.call, f.cfg.clientID, p.id, func() { f.slack(p) })
		p.stale = true
	}
	t.limit = time.AfterFunc(p.patience(), func() { f.overdue(t) }) //nolint:contextcheck // it outlasts the turn
	f.lines[p.kind].taken++
	f.shards[p.shard].turns++
	f.turns.Go(func() { f.take(ctx, t) })
}

// patience is how long a turn may take before [Fleet.overdue] looks at it.
func (p *portal) patience() time.Duration {
	switch p.kind {
	case long:
		return longestTurn
	case failing:
		return min(firstProbe<<min(p.failures, 8), longestProbe)
	default:
		return longTurn
	}
}

// overdue deals with a turn that takes too long for its kind. It locks.
func (f *Fleet) overdue(t *turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := t.portal
	switch {
	case p.turn != t: // it has just ended
		return
	case t.told:
		f.move(t, stuck)
		f.shards[p.shard].stuck++
		f.turnsChangedLocked(p.shard)
		f.log.LogAttrs(context.Background(), slog.LevelError, "offline fleet: a turn does not end; handlers and callers must heed their contexts",
			slog.String(keyMember, p.id))
		return
	case p.kind == long, p.kind == failing && !t.answered:
		t.told = true
		t.cancel(errTurnOver)
		t.limit.Reset(f.cfg.grace + lastSendTimeout + longTurn)
		return
	case f.lines[long].taken >= f.lines[long].places:
		t.cancel(errTurnOver)
	}
	f.move(t, long)
	t.limit.Reset(p.patience())
}

// take is a turn, in a goroutine of its own. It locks.
func (f *Fleet) take(ctx context.Context, t *turn) {
	var wait time.Duration
	var err error = errTurnDied
	defer func() { f.end(ctx, t, wait, err) }()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %w", errTurnDied, event.NewPanicError(v, debug.Stack()))
		}
	}()
	p := t.portal
	if p.stale {
		p.engine.start(t.intake) //nolint:contextcheck // of Run, from which the context of the turn derives
		p.stale = false
	}
	wait, err = p.engine.turn(ctx)
	if ctx.Err() == nil && !permanent(err) {
		return
	}
	p.stale = true
	f.mu.Lock()
	t.stopping = true
	f.mu.Unlock()
	ended := err
	err = errTurnDied // unless stop returns
	failure := p.engine.stop(ctx, func(send func()) { f.sending(t, send) })
	if err = ended; err == nil {
		err = failure
	}
}

// sending calls send, which calls a portal that is stopped. There are places for turns that were
// made for nothing else, because there may be very many.
func (f *Fleet) sending(t *turn, send func()) {
	if t.closing {
		f.closing <- struct{}{}
		defer func() { <-f.closing }()
	}
	send()
}

// close ends the work on a portal for now, and makes a turn if there is something to settle.
func (f *Fleet) close(p *portal, cause error) {
	f.unqueue(p)
	if p.engine != nil && errors.Is(cause, ErrLeaseLost) {
		p.engine.loseLease() // also if the turn ends for another cause
	}
	switch {
	case p.turn != nil:
		p.turn.cancel(cause)
		f.tell(p.turn)
	case p.engine == nil:
	case p.engine.busy() && f.run != nil:
		f.begin(p, time.Now(), cause)
		f.tell(p.turn)
	default:
		p.stale = true
	}
	if p.turn == nil && !f.shards[p.shard].workable() {
		if p.engine != nil {
			p.engine.closeIdleWork()
		}
		p.engine = nil // another process goes on
	}
}

// tell notes that a turn was asked to end. If it has not ended in time, it is stuck.
func (f *Fleet) tell(t *turn) {
	if !t.told {
		t.told = true
		t.limit.Reset(f.cfg.grace + lastSendTimeout + longTurn)
	}
}

// end gives the place of a turn back and puts the portal in line for the next. It locks.
func (f *Fleet) end(ctx context.Context, t *turn, wait time.Duration, err error) {
	t.limit.Stop()
	if errors.Is(err, errTurnDied) {
		t.portal.engine.abandonWork(ctx)
	}
	refused := f.settleTurn(ctx, t, wait, err)
	t.cancel(nil)
	if refused && f.cfg.onRefused != nil {
		f.cfg.onRefused(t.portal.id, err)
	}
}

// settleTurn does the work of end. It reports whether the portal refused, and did not the last
// time. It locks.
func (f *Fleet) settleTurn(ctx context.Context, t *turn, wait time.Duration, err error) (refused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	over := errors.Is(context.Cause(ctx), errTurnOver)
	outside := ctx.Err() != nil && !over // the turn was ended for reasons that are not the portal's
	died := errors.Is(err, errTurnDied)
	if over && !died {
		err = errNoAnswer // unless it answered
	}
	p, now := t.portal, time.Now()
	l := &f.lines[p.kind]
	l.taken--
	if p.kind == stuck {
		p.kind = long
		f.shards[p.shard].stuck--
	}
	f.shards[p.shard].turns--
	defer f.turnsChangedLocked(p.shard)
	p.turn, p.ended = nil, now
	f.stats.Turns++
	defer f.look()
	if (outside || (over && t.told)) && !t.stopping && !died { // it was over when it was told to end
		if p.engine.busy() {
			f.beginIn(t.intake, p, now, context.Cause(ctx)) //nolint:contextcheck // turns derive their contexts from that of Run
			f.tell(p.turn)
			return false
		}
		p.stale = true
	}
	if p.removed {
		delete(f.portals, p.id)
		return false
	}
	due := now.Add(wait)
	switch {
	case err == nil, over && t.answered:
		p.failures, p.refused, p.err = 0, false, nil
		p.kind = ordinary
		if over || now.Sub(t.began) > longTurn {
			p.kind = long
		}
		if over {
			due = now
		}
	case outside:
		due = now
	case permanent(err):
		refused = !p.refused
		p.kind, p.failures, p.refused, p.err = failing, 1, true, err
		due = spread(now.Add(refusedWait), refusedWait/2)
		if p.adopted {
			delete(f.portals, p.id)
			return false
		}
	default:
		wait := min(minFailureWait<<min(p.failures, 16), maxFailureWait)
		p.kind, p.failures, p.refused, p.err = failing, min(p.failures+1, 250), false, err
		due = spread(now.Add(wait/2), wait/2)
	}
	if t.again && p.err == nil {
		due = now
	}
	if died || (!f.shards[p.shard].workable() && (p.stale || !p.engine.busy())) {
		p.engine = nil // it was left in the middle of something, or another process goes on
	}
	f.queue(p, due)
	if p.err != nil && !outside {
		f.stats.Failures++
		f.log.LogAttrs(ctx, slog.LevelWarn, "offline fleet: a portal failed", slog.String(keyMember, p.id),
			errorAttr(nil, p.err), waitAttr(due.Sub(now)))
	}
	return refused
}
