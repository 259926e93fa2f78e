package lease

import (
	"context"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Worker is what [Shares] calls. See the package documentation on locks.
type Worker interface {
	// Gained is called with parts that the Worker may work from now on, until their lease is lost
	// or Leave is called.
	Gained(parts map[int]*Lease)
	// Leave asks the Worker to end its work on parts, because another owner is to have them. Shares
	// renew the leases until the Worker calls [Shares.Rest] or [Shares.TakeBack] for each.
	Leave(parts []int)
	// Lost is called with parts whose lease was lost. Work on them must end at once. They may be
	// gained again, with another lease. It is called for parts that are being left, too.
	Lost(parts []int)
	// Noted is called with the text of each note of any owner. See [Keeper.Note].
	Noted(text string)
}

// partState is what Shares knows of a part.
type partState uint8

const (
	partFree partState = iota
	partHeld
	partLeaving // the worker was asked to leave it
	partAtRest  // to be released
)

type part struct {
	state  partState
	pinned bool // stays, unless the owner quits
	lease  *Lease
}

// Shares divides a number of parts evenly among the owners that use the same prefix and the same
// number of parts. Each owner holds a lease that makes it a member, and computes its quota of parts
// from the members that it sees. An owner with too many parts leaves some, and an owner with too
// few takes free ones. When an owner dies, its parts are free once its leases have run out.
//
// Its methods are safe for concurrent use. Make one with [StartShares].
type Shares struct {
	keeper *Keeper
	worker Worker

	mu       sync.Mutex // may be held while keeper.mu is taken, and not the other way round
	parts    []part
	quitting bool
	left     bool // the worker was asked to leave everything
}

// StartShares returns Shares without parts and starts their goroutine, which calls worker. The end
// of ctx does not stop them; they use only its values. The caller must call [Shares.Stop].
// Config.Noted is not used.
func StartShares(ctx context.Context, cfg Config, parts int, worker Worker) *Shares {
	cfg.Noted = worker.Noted
	k := newKeeper(cfg)
	s := &Shares{keeper: k, worker: worker, parts: make([]part, parts)}
	k.ended = make(chan struct{}, 1)
	k.onEnded = s.reportLost
	k.renewAll = s.renew
	go k.loop(context.WithoutCancel(ctx), tasks{cycle: s.cycle, soon: s.soon, final: s.final})
	return s
}

// Rest reports that no work on a part is under way. If the part is being left, it is released.
// Otherwise Rest does nothing.
func (s *Shares) Rest(part int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.parts[part]
	if p.state == partLeaving {
		p.state = partAtRest
		signal(s.keeper.wakeSoon)
	}
}

// TakeBack keeps a part that is being left, because some work on it does not end and must not hold
// up the rest. The Worker is asked to leave another part instead, and not this one before
// [Shares.Unpin]. TakeBack returns false if it is too late: the part was lost or reported at rest,
// or the owner quits.
func (s *Shares) TakeBack(part int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.parts[part]
	if s.quitting || p.state != partLeaving || !p.lease.Valid() {
		return false
	}
	p.state, p.pinned = partHeld, true
	return true
}

// Unpin ends the effect of TakeBack: the Worker may be asked to leave the part again.
func (s *Shares) Unpin(part int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[part].pinned = false
}

// Failing reports whether the last call of the store failed.
func (s *Shares) Failing() bool {
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	return s.keeper.failing
}

// Note leaves a note for the other owners. See [Keeper.Note].
func (s *Shares) Note(text string) bool { return s.keeper.Note(text) }

// Quit begins the shutdown. Shares take no more parts, the other owners no longer count this one,
// and the Worker is asked to leave all parts. Each lease is renewed until its part is at rest, or
// until [Shares.Stop]. Quit does not wait.
func (s *Shares) Quit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quitting = true
	signal(s.keeper.wakeNow)
}

// Stop releases all leases and stops. No part may be in work any more, and the Worker is not called
// any more. See [Keeper.Stop].
func (s *Shares) Stop() { s.keeper.Stop() }

func (s *Shares) member() string        { return s.keeper.prefix + "member/" + s.keeper.owner }
func (s *Shares) partName(i int) string { return s.keeper.prefix + "shard/" + strconv.Itoa(i) }
func (s *Shares) final() []string       { return []string{s.member()} }

func (s *Shares) isQuitting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quitting
}

// cycle is the work of Shares once a step.
func (s *Shares) cycle(ctx context.Context) error {
	s.soon(ctx)
	if err := s.renew(ctx); err != nil {
		return err
	}
	if !s.isQuitting() {
		if err := s.share(ctx); err != nil {
			return err
		}
	}
	return s.releaseAtRest(ctx)
}

// renew renews all leases.
func (s *Shares) renew(ctx context.Context) error {
	defer s.reportLost()
	if s.isQuitting() {
		return s.keeper.renew(ctx)
	}
	return s.keeper.renew(ctx, s.member())
}

// reportLost reports parts whose leases were lost.
func (s *Shares) reportLost() {
	var lost []int
	s.mu.Lock()
	for i := range s.parts {
		if p := &s.parts[i]; p.lease != nil && !p.lease.Valid() {
			if p.state != partAtRest { // the worker is done with it
				lost = append(lost, i)
			}
			*p = part{}
		}
	}
	s.mu.Unlock()
	if len(lost) > 0 {
		s.worker.Lost(lost)
	}
}

// soon does what cannot wait for the next cycle.
func (s *Shares) soon(ctx context.Context) {
	s.mu.Lock()
	begin := s.quitting && !s.left
	s.left = s.quitting
	s.mu.Unlock()
	if begin {
		s.leave(s.excess(0))
		_ = s.keeper.release(ctx, []string{s.member()}) // logged, and tried again
	}
	_ = s.releaseAtRest(ctx)
	s.keeper.leaveNotes(ctx)
}

// share brings the number of parts closer to the quota, and reads notes.
func (s *Shares) share(ctx context.Context) error {
	owners, err := s.keeper.listHeld(ctx, s.keeper.prefix)
	if err != nil {
		return err
	}
	s.reportLost()
	n := s.quota(owners)
	s.leave(s.excess(n))
	if err := s.take(ctx, n, owners); err != nil {
		return err
	}
	s.keeper.readNotes(owners)
	return nil
}

// quota returns how many parts this owner should have. As soon as all members see the same members,
// their quotas add up to the number of parts.
func (s *Shares) quota(owners map[string]string) int {
	members := []string{s.keeper.owner}
	for name, owner := range owners {
		if strings.HasPrefix(name, s.keeper.prefix+"member/") && owner != s.keeper.owner {
			members = append(members, owner)
		}
	}
	slices.Sort(members)
	n := len(s.parts) / len(members)
	if slices.Index(members, s.keeper.owner) < len(s.parts)%len(members) {
		n++
	}
	return n
}

// excess picks the parts to leave, so that n stay. Pinned ones stay unless the owner quits.
func (s *Shares) excess(n int) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, excess := 0, []int(nil)
	for i := range s.parts {
		if p := &s.parts[i]; p.state == partHeld {
			held++
			if !p.pinned || s.quitting {
				excess = append(excess, i)
			}
		}
	}
	excess = excess[max(0, len(excess)-max(0, held-n)):]
	for _, i := range excess {
		s.parts[i].state = partLeaving
	}
	return excess
}

func (s *Shares) leave(parts []int) {
	if len(parts) > 0 {
		s.worker.Leave(parts)
	}
}

// take acquires free parts up to n.
func (s *Shares) take(ctx context.Context, n int, owners map[string]string) error {
	parts := s.free(n, owners)
	if len(parts) == 0 {
		return nil
	}
	names := make([]string, 0, len(parts))
	for name := range parts {
		names = append(names, name)
	}
	leases, err := s.keeper.Acquire(ctx, names...)
	if err != nil {
		return err
	}
	gained := make(map[int]*Lease)
	s.mu.Lock()
	for _, l := range leases {
		i := parts[l.name]
		s.parts[i] = part{state: partHeld, lease: l}
		gained[i] = l
	}
	s.mu.Unlock()
	if len(gained) > 0 {
		s.worker.Gained(gained)
	}
	return nil
}

// free picks parts to acquire, by the names of their leases. It picks at random, so that owners do
// not ask for the same parts. A part that the store counts as this owner's is free if it was lost
// here.
func (s *Shares) free(n int, owners map[string]string) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.parts {
		if s.parts[i].state != partFree {
			n--
		}
	}
	parts := make(map[string]int)
	if n <= 0 {
		return parts
	}
	for _, i := range mathrand.Perm(len(s.parts)) { //nolint:gosec // spreads load, guards nothing
		name := s.partName(i)
		owner, taken := owners[name]
		if len(parts) < n && s.parts[i].state == partFree && (!taken || owner == s.keeper.owner) && !s.keeper.isReleasing(name) {
			parts[name] = i
		}
	}
	return parts
}

// isReleasing reports whether the store was asked to release a name and has not confirmed it. It
// may still do so, so the name must not be acquired.
func (k *Keeper) isReleasing(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.unsure[name].release
}

// releaseAtRest releases the parts that are at rest.
func (s *Shares) releaseAtRest(ctx context.Context) error {
	var leases []*Lease
	s.mu.Lock()
	for i := range s.parts {
		if p := &s.parts[i]; p.state == partAtRest {
			leases = append(leases, p.lease)
			*p = part{}
		}
	}
	s.mu.Unlock()
	if len(leases) > 0 {
		if err := s.keeper.Release(ctx, leases...); err != nil {
			return err
		}
	}
	return s.keeper.releaseAgain(ctx)
}
