package lease

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// Config configures a [Keeper] or [Shares].
type Config struct {
	Leaser Leaser
	TTL    time.Duration // of each lease
	// Prefix begins the names of notes, and for Shares the names of all leases. It is printable
	// ASCII without spaces. A Keeper can acquire leases with other names.
	Prefix string
	Log    *slog.Logger
	// Noted is called with the text of each note of any owner, while the Keeper holds a lease. It
	// may be nil. Shares use [Worker] instead.
	Noted func(text string)

	// Wall returns the time by the wall clock. If it is nil, the system's is used. Tests set it.
	Wall func() time.Time
}

// Keeper holds leases for one owner and renews them until [Keeper.Stop]. It makes up the name of
// the owner. Its methods are safe for concurrent use. Make one with [Start].
type Keeper struct {
	leaser Leaser
	owner  string
	ttl    time.Duration
	prefix string
	log    *slog.Logger
	noted  func(text string)
	now    clock

	slot     chan struct{} // full while a call of the leaser is under way
	ended    chan struct{} // a lease was lost; nil without onEnded
	onEnded  func()        // reports lost leases; called by whoever receives from ended
	renewAll func(context.Context) error
	wakeNow  chan struct{}   // there is something to do now
	wakeSoon chan struct{}   // there is something to do soon, together with what comes until then
	stop     chan struct{}   // closed by Stop
	done     chan struct{}   // closed when the loop has ended
	seen     map[string]bool // notes that were read; used by the loop only

	mu      sync.Mutex
	failing bool // the last call failed
	stopped bool
	leases  map[string]*Lease   // by name
	unsure  map[string]unsure   // by name; never one that is in leases
	renewed time.Duration       // when the last renewal began, by the monotonic clock
	alarm   *time.Timer         // ends leases in time
	notes   map[string]struct{} // that the loop has yet to leave
}

// unsure is a name that the store may count as this owner's although the Keeper holds no Lease of
// it.
type unsure struct {
	until   instant // when it runs out at the latest
	release bool    // the store was asked to release it, and may do so late
}

// Start returns a Keeper without leases and starts its goroutine. The end of ctx does not stop the
// Keeper; only the values of ctx are used. The caller must call [Keeper.Stop].
func Start(ctx context.Context, cfg Config) *Keeper {
	k := newKeeper(cfg)
	k.renewAll = func(ctx context.Context) error { return k.renew(ctx) }
	go k.loop(context.WithoutCancel(ctx), tasks{first: k.pause(false), cycle: k.cycle, soon: k.leaveNotes})
	return k
}

func newKeeper(cfg Config) *Keeper {
	k := &Keeper{
		leaser:   cfg.Leaser,
		owner:    rand.Text(),
		ttl:      cfg.TTL,
		prefix:   cfg.Prefix,
		log:      cfg.Log,
		noted:    cfg.Noted,
		now:      newClock(cfg.Wall),
		slot:     make(chan struct{}, 1),
		wakeNow:  make(chan struct{}, 1),
		wakeSoon: make(chan struct{}, 1),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
		leases:   make(map[string]*Lease),
		unsure:   make(map[string]unsure),
	}
	return k
}

// Step returns how often leases are renewed, about, and how long the Keeper waits for a call of the
// leaser.
func (k *Keeper) Step() time.Duration { return k.step() }

func (k *Keeper) step() time.Duration { return k.ttl / 5 }

// margin is how much earlier than in the store a lease ends here.
func (k *Keeper) margin() time.Duration { return k.ttl / 10 }

// Acquire asks the store for the named leases once and returns those that the Keeper holds then, in
// any order. It renews those that the Keeper holds already and returns them too. Others hold the
// names that it leaves out. It waits for two steps at most. Every error means that the store
// failed, that ctx ended, or that the Keeper was stopped.
func (k *Keeper) Acquire(ctx context.Context, names ...string) ([]*Lease, error) {
	began := k.now()
	got, err := k.acquire(ctx, names)
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.setAlarmLocked()
	if err != nil {
		for _, name := range names {
			if k.leases[name] == nil && !k.unsure[name].release {
				k.addUnsureLocked(name, false)
			}
		}
		return nil, err
	}
	var held []*Lease
	for _, name := range names {
		l := k.leases[name]
		if l != nil && !k.renewedLocked(l, got[name], began) {
			l = nil
		}
		if l == nil && got[name] {
			l = &Lease{keeper: k, name: name, lost: make(chan struct{}), expires: began.add(k.ttl)}
			k.leases[name] = l
		}
		delete(k.unsure, name)
		if l != nil && k.remainingLocked(l) > 0 { // unless the call took too long
			held = append(held, l)
		}
	}
	return held, nil
}

// renewedLocked updates a lease after a renewal: got says whether the store renewed it. It reports
// whether the Keeper still holds the lease. k.mu is held, as for all functions that end in Locked.
func (k *Keeper) renewedLocked(l *Lease, got bool, began instant) bool {
	if !got {
		k.loseLocked(l)
	}
	if k.remainingLocked(l) <= 0 { // also if the renewal came too late
		return false
	}
	l.expires = began.add(k.ttl)
	return true
}

// addUnsureLocked remembers a name that the store may count as this owner's.
func (k *Keeper) addUnsureLocked(name string, release bool) {
	k.unsure[name] = unsure{until: k.now().add(k.ttl + k.step()), release: release}
}

// Release gives back leases that protect no work any more, lost ones included. After an error they
// run out by themselves, and the Keeper goes on trying to release them. The error is the store's.
func (k *Keeper) Release(ctx context.Context, leases ...*Lease) error {
	names := make([]string, 0, len(leases))
	k.mu.Lock()
	for _, l := range leases {
		l.over = true
		if other := k.leases[l.name]; other == nil || other == l {
			delete(k.leases, l.name)
			names = append(names, l.name)
		}
	}
	k.setAlarmLocked()
	k.mu.Unlock()
	return k.release(ctx, names)
}

// release releases names of which the Keeper holds no lease.
func (k *Keeper) release(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	k.mu.Lock()
	for _, name := range names {
		if !k.unsure[name].release { // otherwise the time of the first attempt counts
			k.addUnsureLocked(name, true)
		}
	}
	k.mu.Unlock()
	_, err := call(ctx, k, "Release", k.releaseCall(names))
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		delete(k.unsure, name)
	}
	return nil
}

func (k *Keeper) releaseCall(names []string) func(context.Context) (struct{}, error) {
	return func(ctx context.Context) (struct{}, error) {
		return struct{}{}, k.leaser.Release(ctx, k.owner, names...)
	}
}

// Holds reports whether the Keeper holds the named lease.
func (k *Keeper) Holds(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.leases[name]
	return l != nil && k.remainingLocked(l) > 0
}

// Stop releases all leases and stops the Keeper. No lease may be in use any more, and no Acquire
// may be under way. It waits for two steps at most. It must not be called from a callback, nor with
// a lock that callbacks take. Further calls do nothing.
func (k *Keeper) Stop() {
	k.mu.Lock()
	first := !k.stopped
	k.stopped = true
	k.mu.Unlock()
	if first {
		close(k.stop)
	}
	<-k.done
}

// acquire acquires or renews names in one call of the store and returns those that this owner
// holds.
func (k *Keeper) acquire(ctx context.Context, names []string) (map[string]bool, error) {
	names = slices.Clone(names) // a call that hangs keeps them
	got, err := call(ctx, k, "Acquire", func(ctx context.Context) ([]string, error) {
		return k.leaser.Acquire(ctx, k.owner, k.ttl, names...)
	})
	held := make(map[string]bool, len(got))
	for _, name := range got {
		held[name] = true
	}
	return held, err
}

// renew renews all leases and, with them, other names that the Keeper keeps no Lease of.
func (k *Keeper) renew(ctx context.Context, others ...string) error {
	k.mu.Lock()
	leases := maps.Clone(k.leases)
	began := k.now()
	k.renewed = began.mono
	k.mu.Unlock()
	names := slices.AppendSeq(slices.Clone(others), maps.Keys(leases))
	if len(names) == 0 {
		return nil
	}
	got, err := k.acquire(ctx, names)
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.setAlarmLocked()
	for name, l := range leases {
		switch {
		case k.leases[name] != l: // it was lost or released meanwhile
		case err != nil:
			k.remainingLocked(l)
		default:
			k.renewedLocked(l, got[name], began)
		}
	}
	return err
}

// renewIfDue renews the leases if the last renewal began more than a step ago, because other calls
// took long. So at most one call comes between two renewals.
func (k *Keeper) renewIfDue(ctx context.Context) {
	k.mu.Lock()
	due := k.now().mono-k.renewed > k.step()
	k.mu.Unlock()
	if due {
		_ = k.renewAll(context.WithoutCancel(ctx)) // logged, and tried again
	}
}

// remainingLocked returns how long a lease can be relied on, and ends one whose time is up.
func (k *Keeper) remainingLocked(l *Lease) time.Duration {
	if l.over {
		return 0
	}
	left := l.expires.sub(k.now()) - k.margin()
	if left <= 0 {
		k.loseLocked(l)
		k.addUnsureLocked(l.name, false)
		return 0
	}
	return left
}

// loseLocked ends a lease that can no longer be relied on.
func (k *Keeper) loseLocked(l *Lease) {
	l.over = true
	delete(k.leases, l.name)
	close(l.lost)
	signal(k.ended)
}

// setAlarmLocked sets the alarm for the lease that runs out first. It goes off twice a step at
// least, because timers stop while the machine sleeps and do not see that a clock was set.
func (k *Keeper) setAlarmLocked() {
	left := k.step() / 2
	for _, l := range k.leases {
		if lasts := k.remainingLocked(l); lasts > 0 {
			left = min(left, lasts)
		}
	}
	switch {
	case len(k.leases) == 0 && k.alarm != nil:
		k.alarm.Stop()
	case len(k.leases) == 0:
	case k.alarm == nil:
		k.alarm = time.AfterFunc(left, k.onAlarm)
	default:
		k.alarm.Reset(left)
	}
}

// onAlarm ends the leases whose time is up.
func (k *Keeper) onAlarm() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setAlarmLocked()
}

// tasks is the work of a loop.
type tasks struct {
	first time.Duration               // before the first cycle
	cycle func(context.Context) error // once a step
	soon  func(context.Context)       // when there is something to do
	final func() []string             // returns more names to release at the end; may be nil
}

// loop does the tasks until the Keeper is stopped.
func (k *Keeper) loop(ctx context.Context, t tasks) {
	defer close(k.done)
	timer := time.NewTimer(t.first)
	defer timer.Stop()
	var soon <-chan time.Time
	for {
		select {
		case <-k.stop:
			k.releaseAll(ctx, t.final)
			return
		case <-k.ended:
			k.onEnded()
		case <-k.wakeSoon:
			if soon == nil {
				soon = time.After(k.step() / 10)
			}
		case <-soon:
			soon = nil
			t.soon(ctx)
		case <-k.wakeNow:
			t.soon(ctx)
		case <-timer.C:
			err := t.cycle(ctx)
			timer.Reset(k.pause(err != nil))
		}
	}
}

// pause returns how long to wait for the next cycle. The last one may have taken a while.
func (k *Keeper) pause(failed bool) time.Duration {
	whole := k.step()
	if failed {
		whole /= 2
	}
	whole = timing.Jitter(whole)
	k.mu.Lock()
	defer k.mu.Unlock()
	return max(0, k.renewed+whole-k.now().mono)
}

// cycle is the work of a Keeper once a step: it renews, releases, and reads notes.
func (k *Keeper) cycle(ctx context.Context) error {
	if err := k.renew(ctx); err != nil {
		return err
	}
	if err := k.releaseAgain(ctx); err != nil {
		return err
	}
	k.mu.Lock()
	idle := len(k.leases) == 0 || k.noted == nil
	k.mu.Unlock()
	if idle {
		return nil
	}
	owners, err := k.listHeld(ctx, k.prefix+noteFolder)
	if err == nil {
		k.readNotes(owners)
	}
	return err
}

// listHeld returns the leases in force under a prefix, with their owners.
func (k *Keeper) listHeld(ctx context.Context, prefix string) (map[string]string, error) {
	return call(ctx, k, "Held", func(ctx context.Context) (map[string]string, error) {
		return k.leaser.Held(ctx, prefix)
	})
}

// releaseAgain releases what could not be released before.
func (k *Keeper) releaseAgain(ctx context.Context) error {
	var names []string
	k.mu.Lock()
	now := k.now()
	for name, u := range k.unsure {
		switch left := u.until.sub(now); {
		case left <= 0:
			delete(k.unsure, name)
		case u.release && left > k.step(): // it has not run out
			names = append(names, name)
		}
	}
	k.mu.Unlock()
	return k.release(ctx, names)
}

// releaseAll releases everything, at the end.
func (k *Keeper) releaseAll(ctx context.Context, final func() []string) {
	var names []string
	if final != nil {
		names = final()
	}
	k.mu.Lock()
	for name, l := range k.leases {
		l.over = true
		names = append(names, name)
	}
	names = slices.AppendSeq(names, maps.Keys(k.unsure))
	clear(k.leases)
	k.setAlarmLocked()
	k.mu.Unlock()
	if len(names) > 0 {
		_, _ = callAlways(ctx, k, "Release", k.releaseCall(names)) // logged; the leases run out by themselves
	}
}

// signal sends to a channel that has room for one, unless a signal is there already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
