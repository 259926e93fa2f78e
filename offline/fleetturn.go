package offline

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// longTurn is how long a turn may hold a place among ordinary ones. Handlers are started for a little less.
	longTurn = 5 * time.Second
	// longestTurn is how long a long turn may take before it has to end, besides what one handler may take.
	longestTurn = time.Minute
	// firstProbe is how long a failing portal is waited for until it has answered once. It doubles with each failure, as a portal that
	// needs longer is slow and not dead.
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
	errTurnDied Error = "offline: a caller ended the goroutine of the portal's turn"
)

// portal is what a fleet keeps of a portal. There may be very many: what only a turn needs is in turn.
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
	refused  bool // the last error is one that waiting cannot mend
	removed  bool // while a turn is under way
	adopted  bool // known from another process only
	err      error
}

const unqueued = -1

// turn is a turn under way.
type turn struct {
	portal   *portal
	began    time.Time
	cancel   context.CancelCauseFunc
	limit    *time.Timer
	inside   int  // handlers that run
	again    bool // the next turn is due as soon as this one has ended
	closing  bool // it only settles what was finished
	told     bool // to end
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
func (p *portal) ask(ctx context.Context, method string, params, result any) (err error) {
	defer recovered(&err)
	c := p.fleet.api(p.id)
	if isNil(c) {
		return noCallerError{}
	}
	app, _, err := identify(c, p.fleet.cfg.clientID, p.id)
	if err != nil {
		return err
	}
	p.engine.clientID = app // before the first record is here
	return c.Call(ctx, method, params, result)
}

// noCallerError is an error that waiting cannot mend.
type noCallerError struct{}

func (noCallerError) Error() string {
	return "offline: the fleet's function returned no caller for the portal"
}
func (noCallerError) Permanent() bool { return true }

// begin starts a turn, with a cause one that is over and only settles. Like all that follow and do not lock, it is called with the lock held.
func (f *Fleet) begin(p *portal, now time.Time, over error) {
	ctx, cancel := context.WithCancelCause(f.run)
	t := &turn{portal: p, began: now, cancel: cancel, closing: over != nil}
	if over != nil {
		cancel(over)
	}
	p.turn = t
	if p.engine == nil {
		p.engine = newEngine(f.cfg, p.call, f.cfg.clientID, p.id)
		p.engine.gate = p
	}
	t.limit = time.AfterFunc(p.patience(), func() { f.overdue(t) })
	f.lines[p.kind].taken++
	f.shards[p.shard].turns++
	f.turns.Go(func() { f.take(ctx, t) })
}

// patience is how long a turn may take before [Fleet.overdue] looks at it.
func (p *portal) patience() time.Duration {
	switch p.kind {
	case long:
		return longestTurn + p.fleet.cfg.handlerTimeout
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
		f.log.LogAttrs(context.Background(), slog.LevelError, "offline fleet: a turn does not end; handlers and callers must heed their contexts",
			slog.String(keyMember, p.id))
		return
	case p.kind == long, p.kind == failing && !t.answered:
		t.told = true
		t.cancel(errTurnOver)
		t.limit.Reset(f.cfg.grace + settleTimeout + longTurn)
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
	defer recovered(&err)
	p := t.portal
	if p.stale {
		p.engine.start()
		p.stale = false
	}
	wait, err = p.engine.turn(ctx)
	if ctx.Err() == nil && !permanent(err) {
		return
	}
	if t.closing {
		f.closing <- struct{}{}
		defer func() { <-f.closing }()
	}
	p.stale = true
	if failure := p.engine.stop(ctx); err == nil {
		err = failure
	}
}

// close ends the work on a portal for now, and makes a turn where there is something to settle.
func (f *Fleet) close(p *portal, cause error) {
	f.unqueue(p)
	switch {
	case p.turn != nil:
		p.turn.cancel(cause)
	case p.engine == nil:
	case p.engine.owes() && f.run != nil && !errors.Is(cause, ErrLeaseLost):
		f.begin(p, time.Now(), cause)
	default:
		p.engine.discard()
		p.stale = true
	}
	if p.turn == nil && !f.shards[p.shard].workable(time.Now()) {
		p.engine = nil // another process goes on
	}
}

// end gives the place of a turn back and puts the portal in line for the next. It locks.
func (f *Fleet) end(ctx context.Context, t *turn, wait time.Duration, err error) {
	over := errors.Is(context.Cause(ctx), errTurnOver)
	outside := ctx.Err() != nil && !over // the turn was ended for reasons that are not the portal's
	if over {
		err = errNoAnswer // unless it answered
	}
	t.limit.Stop()
	t.cancel(nil)
	if refused := f.settleTurn(ctx, t, wait, err, over, outside); refused && f.cfg.onRefused != nil {
		f.cfg.onRefused(t.portal.id, err)
	}
}

// settleTurn does the work of end. It reports whether the portal refused, and did not the last time. It locks.
func (f *Fleet) settleTurn(ctx context.Context, t *turn, wait time.Duration, err error, over, outside bool) (refused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, now := t.portal, time.Now()
	l := &f.lines[p.kind]
	l.taken--
	l.inside -= t.inside // of handlers whose goroutines ended themselves
	f.admit(p.kind)
	if p.kind == stuck {
		p.kind = long
	}
	f.shards[p.shard].turns--
	p.turn, p.ended = nil, now
	f.stats.Turns++
	defer f.look()
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
	if errors.Is(err, errTurnDied) || !f.shards[p.shard].workable(now) {
		p.engine = nil // it was left in the middle of something, or another process goes on
	}
	f.queue(p, due)
	if p.err != nil && !outside {
		f.stats.Failures++
		f.log.LogAttrs(ctx, slog.LevelWarn, "offline fleet: a portal failed", slog.String(keyMember, p.id),
			errorAttr(nil, p.err), slog.Duration(keyWait, due.Sub(now)))
	}
	return refused
}

// spread returns a time up to d after from.
func spread(from time.Time, d time.Duration) time.Time {
	return from.Add(rand.N(d + 1)) //nolint:gosec // spreads load, guards nothing
}

// owes reports whether the engine has anything to tell the portal, or the disk.
func (e *engine) owes() bool { return len(e.owed) > 0 || e.spool.spool != nil }

// discard forgets what an engine holds, all of which stays reserved.
func (e *engine) discard() { e.waiting, e.fresh, e.owed = nil, nil, nil }
