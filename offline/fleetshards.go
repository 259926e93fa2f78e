package offline

import (
	"context"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"

	"github.com/b24events/b24events/internal/lease"
)

// shardCount is the number of parts into which a fleet divides its portals. It must be the same in
// all processes of all versions.
const shardCount = 256

// shard is a part of the portals. The fleet works it while it is held and not leaving. All its
// turns count, also those that began under an earlier lease.
type shard struct {
	held    bool         // its lease is this fleet's, or there is no leaser
	leaving bool         // it passes to another process when its turns have ended
	pinned  bool         // it was taken back, because of turns that do not end
	lease   *lease.Lease // nil without a leaser
	turns   int          // under way
	stuck   int          // of these, those of kind stuck
}

func (s *shard) workable() bool {
	return s.held && !s.leaving && (s.lease == nil || s.lease.Valid())
}

// drop forgets that the shard is this fleet's. Its turns may go on.
func (s *shard) drop() { *s = shard{turns: s.turns, stuck: s.stuck} }

// shardOf returns the shard of a portal.
func shardOf(memberID string) uint8 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(memberID))
	return uint8(h.Sum32() % shardCount)
}

// holdShards takes this fleet's part of the shards until ctx ends; without a leaser that is all of
// them. It keeps the leases while turns go on. Call the function that it returns after the last
// turn, to release them.
func (f *Fleet) holdShards(ctx context.Context) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	quit := func() bool { return true }
	if f.cfg.leaser == nil {
		var all [shardCount]bool
		for i := range f.shards {
			f.shards[i].held, all[i] = true, true
		}
		f.queueShardsLocked(all)
	} else {
		f.shares = lease.StartShares(ctx, lease.Config{
			Leaser: f.cfg.leaser,
			TTL:    f.cfg.leaseTTL,
			Prefix: identity{clientID: f.cfg.clientID, connector: f.cfg.connector}.fleetPrefix(),
			Log:    f.log,
			Wall:   f.cfg.wall,
		}, shardCount, shardWorker{f})
		quit = context.AfterFunc(ctx, f.shares.Quit)
	}
	shares := f.shares
	return func() {
		quit()
		if shares != nil {
			shares.Stop()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.shares = nil
		for i := range f.shards {
			f.shards[i].drop()
		}
	}
}

// queueShardsLocked puts the portals of shards in line that the fleet works from now on. f.mu must
// be held.
func (f *Fleet) queueShardsLocked(which [shardCount]bool) {
	for _, p := range f.portals {
		if which[p.shard] && p.turn == nil && !p.queued() {
			f.queueFirstLocked(p)
		}
	}
}

// closeShardsLocked ends the work on the portals of shards. f.mu must be held.
func (f *Fleet) closeShardsLocked(which [shardCount]bool, cause error) {
	for _, p := range f.portals {
		if which[p.shard] {
			f.closeLocked(p, cause)
		}
	}
}

// turnsChangedLocked hands over a shard that is leaving, once its turns have ended. If only turns
// are left that do not end, the fleet goes on with the other portals of the shard instead. f.mu
// must be held.
func (f *Fleet) turnsChangedLocked(i uint8) {
	s := &f.shards[i]
	switch {
	case f.shares == nil:
	case s.leaving && s.turns == 0:
		f.shares.Rest(int(i))
		s.drop()
	case s.leaving && s.turns == s.stuck && f.shares.TakeBack(int(i)):
		s.leaving, s.pinned = false, true
		f.queueShardsLocked(setOf([]int{int(i)}))
	case s.pinned && s.stuck == 0:
		s.pinned = false
		f.shares.Unpin(int(i))
	}
}

// shardWorker is a fleet as its shares see it.
type shardWorker struct{ *Fleet }

// Gained implements [lease.Worker], as the next three do.
func (w shardWorker) Gained(leases map[int]*lease.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range leases {
		w.shards[i].held, w.shards[i].lease = true, l
	}
	w.queueShardsLocked(setOf(slices.Collect(maps.Keys(leases))))
	w.log.LogAttrs(context.Background(), slog.LevelInfo, "offline fleet: took shards", slog.Int(keyShards, len(leases)))
}

// Leave ends the turns of shards. Each is handed over when its last turn has ended.
func (w shardWorker) Leave(which []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range which {
		w.shards[i].leaving, w.shards[i].pinned = true, false
	}
	w.closeShardsLocked(setOf(which), errHandover)
	for _, i := range which {
		w.turnsChangedLocked(uint8(i)) //nolint:gosec // there are 256
	}
}

// Lost ends the turns of shards at once.
func (w shardWorker) Lost(which []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range which {
		w.shards[i].drop()
	}
	w.closeShardsLocked(setOf(which), ErrLeaseLost)
	w.log.LogAttrs(context.Background(), slog.LevelWarn, "offline fleet: leases were lost", slog.Int(keyShards, len(which)))
}

// Noted wakes a portal of a shard that the fleet works. It adds one that the fleet does not know.
func (w shardWorker) Noted(memberID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.shards[shardOf(memberID)].workable() {
		return
	}
	p := w.portals[memberID]
	if p == nil {
		p = newPortal(w.Fleet, memberID)
		p.adopted = true
		w.portals[memberID] = p
	}
	if !p.refused { // see Wake
		w.wakeLocked(p)
	}
}

func setOf(which []int) (set [shardCount]bool) {
	for _, i := range which {
		set[i] = true
	}
	return set
}
