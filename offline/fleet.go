package offline

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/histogram"
	"github.com/b24events/b24events/internal/lease"
	"github.com/b24events/b24events/internal/typednil"
)

// Fleet works the queues of many portals of one application in one process, each as a [Consumer]
// does. What the package documentation says of a queue holds for each of them. The following holds
// for all of them together.
//
// Turns. A portal is worked in turns. A turn is a request or two: it clears what was finished and
// reserves the next records. It does not wait for their handlers. The portal's next turn is due
// when its workers have nothing left to start, when finished records have waited for five seconds,
// or when its empty queue is to be asked again. The portal that has been due for longest goes
// first.
//
// Bounded. [WithTurns] bounds how many turns are under way, and so the requests. [WithHandlers]
// bounds how many handlers run, [WithWorkers] how many of one portal. The records in memory take
// 256 MiB at most. An idle portal takes less than one and a half KiB. It has no goroutine and no
// timer.
//
// Fair. Portals take turns with the handlers, so that a few records of one portal do not wait
// behind thousands of another. A portal is slow while a handler of it has run for five seconds or
// more, and for half a minute at least after that. Slow portals share half of the handlers. Of the
// others, a portal has a backlog while as many of its objects wait for a handler as [WithWorkers]
// allows to run. Portals with a backlog have a quarter of the handlers that slow ones leave, and
// those that the other portals do not need.
//
// Handlers that hang. A handler that has run for five seconds counts in the half that slow portals
// share. If that half is full, it takes no place of the others, as long as no more than twice
// [WithHandlers] hang. One that goes on although its context has ended counts in neither half. It
// blocks its object, and keeps one of the handlers of its own portal. [FleetStats] counts it as
// stuck.
//
// Kept apart. Portals that respond slowly, and those whose last turn failed or hung, have turns of
// their own: a quarter and an eighth of [WithTurns]. So however many they are, they delay only each
// other. A turn that takes more than five seconds moves to the slow ones. It is ended if their
// places are taken, or after a minute. What it had not finished stays reserved for the next turn.
//
// Failing alone. After an error that may pass, a portal waits, two seconds at first and five
// minutes at most. A permanent error, for example a revoked token or a smaller plan, is reported to
// the function of [WithOnRefused]. That portal is tried again every half hour, and sooner after
// [Fleet.Add]. Neither ends [Fleet.Run].
//
// Not all at once. The first turns of many portals are spread over time: each second begins two for
// each of [WithTurns], and none waits longer than the longest interval of [WithInterval]. A portal
// that [Fleet.Wake] names does not wait.
//
// Shared. With [WithLeaser], the application's processes that share the leaser divide the portals
// among them, by member ID, into 256 shards. Each process holds an equal part of the shards. Shards
// move a few seconds after a process starts or stops. Those of a process that died move once their
// leases have run out. The work on a portal ends before the portal passes to another process:
// within the grace period if the shard is handed over, at once with the cause [ErrLeaseLost] if the
// lease was lost. Only a handler that goes on although its context has ended can overlap with
// another process's. While such a handler runs, its shard is not handed over: the fleet goes on
// with the other portals of the shard, and another shard moves instead.
//
// Add all portals in each process. A process that does not know a portal of its shards works it
// once another process, which knows the portal, is woken for it.
//
// Make one with [NewFleet]. Its methods are safe for concurrent use. Its zero value is not usable.
type Fleet struct {
	cfg     *config
	api     func(memberID string) event.Caller
	handler event.Handler
	log     *slog.Logger
	kick    chan struct{} // something is due before timerAt
	running atomic.Bool

	mu        sync.Mutex
	portals   map[string]*portal
	lines     [kinds]line
	shards    [shardCount]shard
	shares    *lease.Shares   // of the Run under way; nil without a leaser
	run       context.Context //nolint:containedctx // of the Run under way, from which turns derive theirs; otherwise nil
	turns     sync.WaitGroup
	lastFirst time.Time  // when the last first turn is due
	timerAt   time.Time  // when Run looks for portals that are due
	stats     FleetStats // the counters of it

	flushSlots chan struct{} // for turns that only send what was finished
	requests   atomic.Uint64
	responded  atomic.Int64 // when a call last succeeded, in Unix nanoseconds; 0 before the first
	lag        histogram.Histogram
}

// NewFleet returns a fleet without portals; see [Fleet.Add] and [Fleet.Run]. api returns the caller
// for a portal, as the methods Coalescer and Portal of rest.Clients do. It is called for each
// request, should do no I/O, and must be safe for concurrent use. h handles the records of all
// portals; [event.Delivery.MemberID] names the portal. The options of a [Consumer] apply to each
// portal. An error matches [ErrConfig].
func NewFleet(api func(memberID string) event.Caller, h event.Handler, opts ...FleetOption) (*Fleet, error) {
	switch {
	case api == nil:
		return nil, misconfigured("NewFleet with a nil function for callers")
	case typednil.Is(h):
		return nil, misconfigured("NewFleet with a nil handler")
	}
	cfg, err := configure(fleetDefaults(), opts, FleetOption.applyToFleet)
	if err != nil {
		return nil, err
	}
	if err := cfg.identifiable(); err != nil {
		return nil, err
	}
	f := &Fleet{
		cfg:        &cfg,
		api:        api,
		handler:    h,
		log:        cfg.logger,
		kick:       make(chan struct{}, 1),
		portals:    make(map[string]*portal),
		lines:      newLines(cfg.turns),
		flushSlots: make(chan struct{}, cfg.turns),
	}
	f.cfg.handle = f.handle
	f.cfg.connect(cfg.handlers, max(1, cfg.handlers/2), fleetMemory)
	return f, nil
}

// Add adds a portal, before Run or while it is under way, as soon as its application is installed.
// A portal may be added again. If it failed or refused, it is tried again, but not before half a
// minute has passed since the last time. So a program may add all portals of its store now and
// then. The only error is [ErrMemberID].
func (f *Fleet) Add(memberID string) error {
	if memberID == "" {
		return ErrMemberID
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.portals[memberID]
	switch {
	case p == nil:
		p = newPortal(f, memberID)
		f.portals[memberID] = p
		f.queueFirstLocked(p)
	case p.removed:
		p.turn.again = true
	case p.failures > 0 && p.turn == nil:
		f.wakeLocked(p)
	}
	p.removed, p.adopted = false, false
	return nil
}

// Remove makes the fleet forget a portal, for example one that uninstalled the application. Work
// under way ends as at the end of [Consumer.Run], and Remove does not wait for it. If the portal is
// added again, its first turn finishes what was left reserved. Remove ignores a portal that the
// fleet does not know.
func (f *Fleet) Remove(memberID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.portals[memberID]
	if p == nil {
		return
	}
	f.closeLocked(p, errRemoved)
	if p.turn == nil {
		delete(f.portals, memberID)
		return
	}
	p.removed = true // and forgotten when the turn has ended, as no two may overlap
	p.turn.again = false
}

// WakeFor calls [Fleet.Wake] for the portal of d if d is proven to come from the fleet's
// application there, and reports whether it did. Call it from a handler of [event.OnOfflineEvent],
// which a portal sends at most once a second and not for every record:
//
//	event.On(mux, event.OnOfflineEvent, func(_ context.Context, d *event.Delivery, _ event.OfflineNotice) error {
//		fleet.WakeFor(d)
//		return nil
//	})
//
// The application is that of [WithClientID], or else the one that the portal's caller names. A
// delivery that only a fixed token proved, or another application, wakes nothing.
func (f *Fleet) WakeFor(d *event.Delivery) bool {
	if !d.ProvenFor(d.Proof.ClientID) || !d.ProvenFor(f.clientID(d.MemberID())) {
		return false
	}
	f.Wake(d.MemberID())
	return true
}

// clientID returns the application that the fleet calls a portal for, or an empty string.
func (f *Fleet) clientID(memberID string) (id string) {
	if f.cfg.clientID != "" {
		return f.cfg.clientID
	}
	defer func() {
		if recover() != nil { // the portal has no usable caller; its turn reports that
			id = ""
		}
	}()
	if c := f.api(memberID); !typednil.Is(c) {
		return clientID(c)
	}
	return ""
}

// Wake makes the fleet ask a portal's queue now. It checks nothing: for an event use
// [Fleet.WakeFor], which checks that the portal sent it. A portal that failed is not asked before
// half a minute has passed, and one that refused is not asked at all; use [Fleet.Add] for it. If
// another process works the portal, Wake wakes that one through the leaser, with the default of
// [WithLeaseTTL] within about four seconds. Wake ignores a portal that the fleet does not know. It
// does no I/O.
func (f *Fleet) Wake(memberID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.portals[memberID]
	switch {
	case p == nil || p.removed || p.refused || f.run == nil:
	case f.shares == nil || f.shards[p.shard].workable():
		f.wakeLocked(p)
	default: // also while the portal is about to pass to another process
		f.shares.Note(memberID)
	}
}

// wakeLocked makes the next turn of a portal due. f.mu must be held.
func (f *Fleet) wakeLocked(p *portal) {
	if p.engine != nil {
		p.engine.wake()
	}
	if p.turn != nil {
		p.turn.again = true
		return
	}
	due := time.Now()
	if soonest := p.ended.Add(minFailureGap); p.failures > 0 && soonest.After(due) {
		due = soonest
	}
	if !p.queued() || due.Before(p.due) {
		f.queueLocked(p, due)
	}
}

// RetryParked makes the fleet try the parked records of a portal now, each change once, instead of
// at the next [WithParkedInterval]. It does no I/O. It has no effect if another process works the
// portal; call that process's fleet.
func (f *Fleet) RetryParked(memberID string) {
	f.mu.Lock()
	p := f.portals[memberID]
	var e *engine
	if p != nil {
		e = p.engine
	}
	f.mu.Unlock()
	if e != nil {
		e.retryParked() // without an engine the first turn tries them
	}
}

// Run works the portals until ctx ends, and then returns nil. Before that, the work on each portal
// ends as at the end of [Consumer.Run], for all at the same time. It returns [ErrRunning] if it is
// under way already, and no other error. It may be called again after it returned.
func (f *Fleet) Run(ctx context.Context) error {
	if !f.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer f.running.Store(false)
	defer f.cfg.dispatcher.Dismiss()
	f.mu.Lock()
	f.run, f.lastFirst = ctx, time.Time{}
	f.mu.Unlock()
	release := f.holdShards(ctx)
	f.schedule(ctx)

	f.mu.Lock()
	for _, p := range f.portals {
		f.closeLocked(p, ctx.Err())
	}
	f.run = nil
	f.mu.Unlock()
	f.turns.Wait()
	release()
	return nil
}

// handle is the handler of all engines.
func (f *Fleet) handle(ctx context.Context, d *event.Delivery) error {
	err := f.handler.HandleEvent(ctx, d)
	if err == nil || dispatch.IsGone(err) { // either way the record is done with
		lag := time.Since(d.Time)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stats.Handled++
		f.stats.LastHandled = time.Now()
		if !d.Time.IsZero() {
			f.lag.Record(lag)
		}
	}
	return err
}
