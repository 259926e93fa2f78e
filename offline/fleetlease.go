package offline

import (
	"context"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// shards is into how many parts the portals are divided. It is the same in all processes of all versions.
	shards = 256
	// maxNotes is how many wake-ups a process passes on at a time.
	maxNotes = 1000

	keyShards = "shards"
)

// shard is a part of the portals. It is worked while it is held and not leaving.
type shard struct {
	held    bool      // its lease is this fleet's, or there is no leaser
	leaving bool      // to be released when its turns have ended
	until   time.Time // when the lease runs out; zero without a leaser
	turns   int       // under way
}

func (s *shard) workable(now time.Time) bool {
	return s.held && !s.leaving && (s.until.IsZero() || now.Before(s.until))
}

// shardOf returns the shard of a portal.
func shardOf(memberID string) uint8 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(memberID))
	return uint8(h.Sum32() % shards)
}

// holdShards takes the shards that are this fleet's, all without a leaser, and goes on doing so until ctx ends. Then the leases are kept as
// long as turns go on; the function that it returns waits for the last and gives all back.
func (f *Fleet) holdShards(ctx context.Context) (release func()) {
	if f.cfg.leaser == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		var all [shards]bool
		for i := range f.shards {
			f.shards[i].held, all[i] = true, true
		}
		f.queueShards(all)
		return func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.shards = [shards]shard{}
		}
	}
	k := &keeper{
		fleet:  f,
		leaser: f.cfg.leaser,
		ttl:    f.cfg.leaseTTL,
		prefix: identity{clientID: f.cfg.clientID, connector: f.cfg.connector}.fleetPrefix(),
		ctx:    context.WithoutCancel(ctx),
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		k.keep(ctx.Done(), done) //nolint:contextcheck // the keeper outlives the context, until the last turn has ended
	}()
	return func() {
		close(done)
		<-ended
	}
}

// queueShards puts the portals of shards in line that are worked from now on.
func (f *Fleet) queueShards(which [shards]bool) {
	for _, p := range f.portals {
		if which[p.shard] && p.turn == nil && !p.queued() {
			f.queueFirst(p)
		}
	}
}

// closeShards ends the work on the portals of shards.
func (f *Fleet) closeShards(which [shards]bool, cause error) {
	if which == [shards]bool{} {
		return
	}
	for _, p := range f.portals {
		if which[p.shard] {
			f.close(p, cause)
		}
	}
}

// keeper keeps the leases of a fleet: one for each shard, and one that says that the fleet is there, from which all compute how many shards
// each should have. Once a fleet holds more, it gives some back; once it holds less, it takes what is free.
type keeper struct {
	fleet  *Fleet
	leaser Leaser
	ttl    time.Duration
	prefix string
	ctx    context.Context //nolint:containedctx // of all calls of the leaser; it does not end with the Run's
	seen   map[string]bool // notes that were read
	failed bool            // the last call
	alarm  *time.Timer     // for the first lease that runs out, since calls that hang can hold the next prolongation up
}

func (k *keeper) member() string         { return k.prefix + "member/" + k.fleet.owner }
func (k *keeper) shardName(i int) string { return k.prefix + "shard/" + strconv.Itoa(i) }

// step is how long a call of the leaser may take, and how often there is one.
func (k *keeper) step() time.Duration { return k.ttl / 5 }

// margin is how early a lease counts as lost that was not prolonged: handlers need time to end.
func (k *keeper) margin() time.Duration { return k.step() / 2 }

// keep looks after the leases until done is closed, and gives them back then. After stopping is closed it takes no more, and gives
// those back whose turns have ended.
func (k *keeper) keep(stopping, done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var passing <-chan time.Time // when notes are to be left
	for {
		select {
		case <-k.fleet.noted:
			if passing == nil {
				passing = time.After(k.step() / 10) // those that come meanwhile go together
			}
			continue
		case <-passing:
			passing = nil
			k.passOn()
			continue
		case <-done:
			if stopping != nil { // both came during a call
				k.quit()
			}
			k.leave(k.fleet.quota(0))
			k.giveBack()
			k.forget()
			return
		case <-stopping:
			stopping = nil
			k.quit()
			k.leave(k.fleet.quota(0))
			k.giveBack()
			continue
		case <-timer.C:
		}
		k.prolong(stopping == nil)
		if stopping != nil {
			k.share()
		}
		k.giveBack()
		timer.Reset(k.step()*3/4 + rand.N(k.step()/2)) //nolint:gosec // spreads load, guards nothing
	}
}

// end is when leases run out that were asked for at a time: by the wall clock, which goes on while the machine sleeps.
func (k *keeper) end(began time.Time) time.Time { return began.Round(0).Add(k.ttl) }

// quit makes the other processes count without this one.
func (k *keeper) quit() {
	k.call("Release", func(ctx context.Context) error {
		return k.leaser.Release(ctx, k.fleet.owner, k.member())
	})
}

// call calls the leaser. What fails is tried again with the next step.
func (k *keeper) call(method string, f func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(k.ctx, k.step())
	defer cancel()
	err := f(ctx)
	if err != nil && !k.failed {
		k.fleet.log.LogAttrs(k.ctx, slog.LevelWarn, "offline fleet: the leaser failed, trying again",
			slog.String("method", method), errorAttr(nil, err), slog.Duration(keyWait, k.step()))
	}
	k.failed = err != nil
	return err == nil
}

// prolong prolongs what the fleet holds, and stops working what it cannot.
func (k *keeper) prolong(stopping bool) {
	var names []string
	if !stopping {
		names = append(names, k.member())
	}
	held := k.fleet.heldShards()
	for _, i := range held {
		names = append(names, k.shardName(i))
	}
	began := time.Now()
	var got []string
	ok := len(names) == 0 || k.call("Acquire", func(ctx context.Context) (err error) {
		got, err = k.leaser.Acquire(ctx, k.fleet.owner, k.ttl, names...)
		return err
	})
	k.prolonged(held, began, ok, got)
}

// prolonged takes in the answer to the prolongation of the shards that were held when it began.
func (k *keeper) prolonged(held []int, began time.Time, ok bool, got []string) {
	var lost, regained [shards]bool
	n := 0
	k.fleet.mu.Lock()
	defer k.fleet.mu.Unlock()
	now := time.Now()
	for _, i := range held {
		s := &k.fleet.shards[i]
		ran := !s.held || !now.Before(s.until) // out, before the answer came: another may have worked its portals meanwhile
		switch {
		case ok && slices.Contains(got, k.shardName(i)):
			s.held, s.until = true, k.end(began)
			regained[i] = ran
		case !s.held: // the alarm dealt with it
			ran = false
		case ok, s.until.Sub(now) <= k.step():
			s.held, s.leaving, ran = false, false, true
		}
		if ran {
			lost[i] = true
			n++
		}
	}
	if n > 0 {
		k.lost(lost, n)
		k.fleet.queueShards(regained)
	}
	k.watch()
}

// lost ends the work on shards. It is called with the fleet's lock held, like watch.
func (k *keeper) lost(which [shards]bool, n int) {
	k.fleet.closeShards(which, ErrLeaseLost)
	k.fleet.log.LogAttrs(k.ctx, slog.LevelWarn, "offline fleet: leases were lost", slog.Int(keyShards, n))
}

// watch sets the alarm for the lease that runs out first.
func (k *keeper) watch() {
	var first time.Time
	for i := range k.fleet.shards {
		if s := &k.fleet.shards[i]; s.held && (first.IsZero() || s.until.Before(first)) {
			first = s.until
		}
	}
	switch left := time.Until(first) - k.margin(); {
	case first.IsZero():
	case k.alarm == nil:
		k.alarm = time.AfterFunc(left, k.expire)
	default:
		k.alarm.Reset(left)
	}
}

// expire stops working what was not prolonged in time, whatever the leaser does meanwhile.
func (k *keeper) expire() {
	k.fleet.mu.Lock()
	defer k.fleet.mu.Unlock()
	var which [shards]bool
	n := 0
	for i := range k.fleet.shards {
		if s := &k.fleet.shards[i]; s.held && time.Until(s.until) <= k.margin() {
			s.held, s.leaving, which[i] = false, false, true
			n++
		}
	}
	if n > 0 {
		k.lost(which, n)
	}
	k.watch()
}

// share brings the fleet closer to its part of the shards, and wakes portals that others left notes about.
func (k *keeper) share() {
	var owners map[string]string
	if !k.call("Held", func(ctx context.Context) (err error) {
		owners, err = k.leaser.Held(ctx, k.prefix)
		return err
	}) {
		return
	}
	var members []string
	for name, owner := range owners {
		if strings.HasPrefix(name, k.prefix+"member/") {
			members = append(members, owner)
		}
	}
	part := partOf(members, k.fleet.owner)
	k.leave(k.fleet.quota(part))
	k.take(part, owners)
	k.readNotes(owners)
}

// partOf returns how many shards a member should have. All members come to parts that add up to all shards, as soon as they see the same.
func partOf(members []string, self string) int {
	if !slices.Contains(members, self) {
		members = append(members, self)
	}
	slices.Sort(members)
	part := shards / len(members)
	if slices.Index(members, self) < shards%len(members) {
		part++
	}
	return part
}

// take acquires free shards up to the part that the fleet should have.
func (k *keeper) take(part int, owners map[string]string) {
	held := k.fleet.heldShards()
	var names []string
	numbers := make(map[string]int)
	for _, i := range rand.Perm(shards) { //nolint:gosec // keeps fleets from asking for the same, guards nothing
		name := k.shardName(i)
		if _, taken := owners[name]; !taken && len(held)+len(names) < part && !slices.Contains(held, i) {
			names = append(names, name)
			numbers[name] = i
		}
	}
	if len(names) == 0 {
		return
	}
	began := time.Now()
	var got []string
	if !k.call("Acquire", func(ctx context.Context) (err error) {
		got, err = k.leaser.Acquire(ctx, k.fleet.owner, k.ttl, names...)
		return err
	}) {
		return
	}
	var taken [shards]bool
	k.fleet.mu.Lock()
	defer k.fleet.mu.Unlock()
	for _, name := range got {
		if i, asked := numbers[name]; asked {
			taken[i] = true
			k.fleet.shards[i].held, k.fleet.shards[i].until = true, k.end(began)
		}
	}
	k.fleet.queueShards(taken)
	k.watch()
	k.fleet.log.LogAttrs(k.ctx, slog.LevelInfo, "offline fleet: took shards", slog.Int(keyShards, len(got)))
}

// quota returns the shards that a fleet has to leave so that it keeps n.
func (f *Fleet) quota(n int) (excess [shards]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.shards {
		if s := &f.shards[i]; s.held && !s.leaving {
			excess[i] = n <= 0
			n--
		}
	}
	return excess
}

// leave stops the turns of shards, which are given back when these have ended.
func (k *keeper) leave(which [shards]bool) {
	k.fleet.mu.Lock()
	defer k.fleet.mu.Unlock()
	for i, leaving := range which {
		if leaving {
			k.fleet.shards[i].leaving = true
		}
	}
	k.fleet.closeShards(which, errHandover)
}

// giveBack releases what is left and at rest.
func (k *keeper) giveBack() {
	var names []string
	var idle []int
	k.fleet.mu.Lock()
	for i := range k.fleet.shards {
		if s := &k.fleet.shards[i]; s.leaving && s.turns == 0 {
			names = append(names, k.shardName(i))
			idle = append(idle, i)
		}
	}
	k.fleet.mu.Unlock()
	if len(names) == 0 || !k.call("Release", func(ctx context.Context) error {
		return k.leaser.Release(ctx, k.fleet.owner, names...)
	}) {
		return
	}
	k.fleet.mu.Lock()
	defer k.fleet.mu.Unlock()
	for _, i := range idle {
		k.fleet.shards[i] = shard{}
	}
}

// forget lets go of what could not be released, and runs out by itself.
func (k *keeper) forget() {
	k.fleet.mu.Lock()
	defer k.fleet.mu.Unlock()
	k.fleet.shards = [shards]shard{}
	if k.alarm != nil {
		k.alarm.Stop()
	}
}

func (f *Fleet) heldShards() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var held []int
	for i := range f.shards {
		if f.shards[i].held {
			held = append(held, i)
		}
	}
	return held
}

// passOn leaves notes about portals that were woken here and are another process's, which reads them with its next step.
func (k *keeper) passOn() {
	f := k.fleet
	f.mu.Lock()
	woken := f.notes
	f.notes = nil
	f.mu.Unlock()
	if len(woken) == 0 {
		return
	}
	at := strconv.FormatInt(time.Now().UnixMilli(), 36) // tells a note from those before
	names := make([]string, 0, len(woken))
	for memberID := range woken {
		names = append(names, k.prefix+"wake/"+memberID+"/"+at)
	}
	k.call("Acquire", func(ctx context.Context) error {
		_, err := k.leaser.Acquire(ctx, k.fleet.owner, 2*k.step(), names...)
		return err
	})
}

// readNotes wakes the portals that other processes left notes about, and takes those on that it was not told of.
func (k *keeper) readNotes(owners map[string]string) {
	seen := make(map[string]bool)
	for name := range owners {
		note, is := strings.CutPrefix(name, k.prefix+"wake/")
		if !is {
			continue
		}
		seen[name] = true
		if end := strings.LastIndexByte(note, '/'); end > 0 && !k.seen[name] {
			k.fleet.wakeNoted(note[:end])
		}
	}
	k.seen = seen
}

// wakeNoted wakes a portal of a shard that the fleet works.
func (f *Fleet) wakeNoted(memberID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.shards[shardOf(memberID)].workable(time.Now()) {
		return
	}
	p := f.portals[memberID]
	if p == nil {
		p = newPortal(f, memberID)
		p.adopted = true
		f.portals[memberID] = p
	}
	if !p.refused { // see Wake
		f.wake(p)
	}
}
