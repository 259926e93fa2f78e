package offline

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
)

const keyMember = "member_id"

// The defaults of a [Fleet], where they differ from those of a [Consumer] or are its own.
const (
	DefaultTurns            = 256              // portals worked at the same time
	DefaultHandlers         = 1024             // handlers that run at the same time
	DefaultFleetMinInterval = 10 * time.Second // first wait when a queue was empty
	DefaultFleetMaxInterval = 5 * time.Minute  // longest wait while it stays empty
)

// ErrMemberID means that no portal was named.
const ErrMemberID Error = "offline: the member id is empty; it names the portal"

// Fleet works the queues of many portals of one application in one process, each as a [Consumer] would, in turns: a turn makes one
// reservation, handles it and clears it. See the package documentation for what holds for each queue. What holds for all of them:
//
// Bounded. [WithTurns] bounds how many portals are worked at the same time, [WithHandlers] how many handlers run. An idle portal costs
// less than one and a half kilobytes of memory, and neither a goroutine nor a timer.
//
// Fair. The portal goes first whose time came first. One with a large backlog gets one reservation at a time and then goes to the end of
// the line.
//
// Kept apart. Portals whose turns take long, and those whose last turn failed or hung, have turns and handlers of their own, so that
// however many they are they delay one another and no one else. A portal is told from the rest by its last turn; the first that
// takes more than five seconds gives its place back then, and is ended where the places for long turns are taken too. What it had not
// finished stays reserved for the next.
//
// A handler that goes on though its context has ended holds its portal up, and soon no other; it is logged and counted
// ([FleetStats]), and no longer among those that are bounded.
//
// Failing alone. Errors that may pass make a portal wait, two seconds at first and five minutes at most. One that waiting cannot mend, such
// as a revoked token or a smaller plan, is reported ([WithOnRefused]); the portal is tried again every half hour, and sooner after
// [Fleet.Add]. Neither ends [Fleet.Run].
//
// Not all at once. The first turns of many portals are spread: each second sees two for each of [WithTurns], and none waits longer than
// the longest interval of [WithInterval]. A portal that [Fleet.Wake] names does not wait.
//
// Shared. With [WithLeaser], the application's processes that share the leaser divide the portals
// among them: into 256 shards, by member id, of which each process holds an equal part. Shards move
// when a process comes or goes, a few seconds after it did; those of a process that dies, once
// their leases have run out. A turn ends before its portal passes to another process: within the
// grace period where it is handed over, at once where the lease was lost, with the cause
// [ErrLeaseLost]. Only a handler that goes on though its context has ended can overlap with another
// process's. Tell each process of all portals. One that holds the shard of a portal that it was not
// told of works it once another process, which was, is woken for it.
//
// Make one with [NewFleet]. Its methods are safe for concurrent use.
type Fleet struct {
	cfg     *config
	api     func(memberID string) event.Caller
	handler event.Handler
	log     *slog.Logger
	owner   string        // of its leases
	kick    chan struct{} // something is due before timerAt
	noted   chan struct{} // there are notes
	working atomic.Bool

	mu      sync.Mutex
	portals map[string]*portal
	lines   [kinds]line
	shards  [shards]shard
	run     context.Context //nolint:containedctx // of the Run under way, from which turns derive theirs; nil between two
	turns   sync.WaitGroup
	paced   time.Time       // when the last first turn is due
	timerAt time.Time       // when Run looks for portals that are due
	notes   map[string]bool // portals that were woken here and are another process's
	stats   FleetStats      // what is counted as it happens

	closing  chan struct{} // places for turns that only settle
	requests atomic.Int64
}

// NewFleet returns a fleet without portals: see [Fleet.Add] and [Fleet.Run]. api returns the caller for a portal, as the methods Coalescer
// and Portal of what rest.NewPortals makes do; it is asked for each call, should do no I/O, and must be safe for concurrent use.
// h handles the records of all portals; [event.Delivery.MemberID] tells them apart. Options of a [Consumer] hold for each portal.
func NewFleet(api func(memberID string) event.Caller, h event.Handler, opts ...Option) (*Fleet, error) {
	switch {
	case api == nil:
		return nil, errors.New("offline: NewFleet with a nil function for callers")
	case isNil(h):
		return nil, errors.New("offline: NewFleet with a nil handler")
	}
	cfg, err := collect(fleetDefaults(), opts)
	if err != nil {
		return nil, err
	}
	if err := cfg.identifiable(); err != nil {
		return nil, err
	}
	f := &Fleet{
		cfg:     &cfg,
		api:     api,
		handler: h,
		log:     cfg.logger,
		owner:   rand.Text(),
		kick:    make(chan struct{}, 1),
		noted:   make(chan struct{}, 1),
		portals: make(map[string]*portal),
		lines:   newLines(cfg.turns, cfg.handlers),
		closing: make(chan struct{}, cfg.turns),
	}
	f.cfg.handle = f.handle
	return f, nil
}

// Add tells the fleet of a portal, before Run or while it is under way, as soon as its application is installed. A portal that the fleet
// knows is no error; where it failed or refused, it is tried again, half a minute after the last time at the soonest. So a program may add all
// portals of its store now and then. The only error is [ErrMemberID].
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
		f.queueFirst(p)
	case p.removed:
		p.turn.again = true
	case p.failures > 0 && p.turn == nil:
		f.wake(p)
	}
	p.removed, p.adopted = false, false
	return nil
}

// Remove makes the fleet forget a portal, such as one that uninstalled the application. A turn under way ends as at the end of [Consumer.Run],
// and Remove does not wait for it; what it leaves reserved, the first turn after another [Fleet.Add] finishes. A portal that the
// fleet does not know is no error.
func (f *Fleet) Remove(memberID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.portals[memberID]
	if p == nil {
		return
	}
	f.close(p, errRemoved)
	if p.turn == nil {
		delete(f.portals, memberID)
		return
	}
	p.removed = true // and forgotten when the turn has ended, as no two may overlap
	p.turn.again = false
}

// WakeFor calls [Fleet.Wake] for the portal of d when d is proven to come from the fleet's
// application there, and reports whether it did. Call it from a handler of [event.OnOfflineEvent],
// which a portal sends at most once a second and not for every record:
//
//	event.On(mux, event.OnOfflineEvent, func(_ context.Context, d *event.Delivery, _ event.Offline) error {
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
		if recover() != nil { // the caller of that portal is useless; its turn reports that
			id = ""
		}
	}()
	if c := f.api(memberID); !isNil(c) {
		return clientID(c)
	}
	return ""
}

// Wake makes the fleet ask a portal's queue now. The caller answers for the portal: for an event
// use [Fleet.WakeFor], which checks where it comes from. A portal that failed is not asked sooner
// than half a minute after that, and one that refused not at all: that is for [Fleet.Add]. Where
// another process works the portal, it hears of it through the leaser, with the default of
// [WithLeaseTTL] within four seconds or so. A portal that the fleet does not know does no harm.
// Wake does no I/O.
func (f *Fleet) Wake(memberID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.portals[memberID]
	switch {
	case p == nil || p.removed || p.refused || f.run == nil:
	case f.shards[p.shard].held || f.cfg.leaser == nil:
		f.wake(p)
	case len(f.notes) < maxNotes:
		if f.notes == nil {
			f.notes = make(map[string]bool)
		}
		f.notes[memberID] = true
		select {
		case f.noted <- struct{}{}:
		default:
		}
	}
}

func (f *Fleet) wake(p *portal) {
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
		f.queue(p, due)
	}
}

// Run works the portals until ctx ends, and then returns nil, after all turns ended as they do at the end of [Consumer.Run]. It returns
// [ErrRunning] where the fleet is at work already, and no other error. It may be called again after it returned.
func (f *Fleet) Run(ctx context.Context) error {
	if !f.working.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer f.working.Store(false)
	f.mu.Lock()
	f.run, f.paced = ctx, time.Time{}
	f.mu.Unlock()
	release := f.holdShards(ctx)
	f.schedule(ctx)

	f.mu.Lock()
	for _, p := range f.portals {
		f.close(p, ctx.Err()) //nolint:contextcheck // turns derive their contexts from that of Run
	}
	f.run = nil
	f.mu.Unlock()
	f.turns.Wait()
	release()
	return nil
}

// schedule starts turns when they are due, until ctx ends.
func (f *Fleet) schedule(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-f.kick:
		}
		timer.Reset(f.dispatch(time.Now())) //nolint:contextcheck // turns derive their contexts from that of Run
	}
}

// dispatch starts the turns that are due and have a place, and returns how long there will be none.
func (f *Fleet) dispatch(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timerAt = now.Add(time.Hour)
	for k := range f.lines {
		l := &f.lines[k]
		for l.taken < l.places && len(l.waiting) > 0 {
			p := l.waiting[0]
			if p.due.After(now) {
				if p.due.Before(f.timerAt) {
					f.timerAt = p.due
				}
				break
			}
			f.unqueue(p)
			if f.shards[p.shard].workable(now) {
				f.begin(p, now, nil)
			}
		}
	}
	return f.timerAt.Sub(now)
}

// queue puts a portal in its line, or moves it there, where a turn of it may come up at all.
func (f *Fleet) queue(p *portal, due time.Time) {
	f.unqueue(p)
	if !f.works(p, time.Now()) {
		return
	}
	p.due = due
	f.lines[p.kind].push(p)
	if due.Before(f.timerAt) {
		f.look()
	}
}

func (f *Fleet) unqueue(p *portal) {
	if p.queued() {
		f.lines[p.kind].remove(p)
	}
}

// look makes Run look for portals that are due.
func (f *Fleet) look() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// queueFirst puts a portal in line whose first turn may wait, so that those of many portals are spread.
func (f *Fleet) queueFirst(p *portal) {
	now := time.Now()
	if !f.works(p, now) {
		return
	}
	f.paced = f.paced.Add(time.Second / time.Duration(2*f.cfg.turns))
	due := f.paced
	switch latest := now.Add(f.cfg.maxInterval); {
	case due.Before(now):
		due, f.paced = now, now
	case due.After(latest):
		due = spread(now, f.cfg.maxInterval)
	}
	f.queue(p, due)
}

// works reports whether the portal is this fleet's, and the fleet at work.
func (f *Fleet) works(p *portal, now time.Time) bool {
	return f.run != nil && f.run.Err() == nil && f.shards[p.shard].workable(now)
}
