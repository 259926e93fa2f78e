package natsstore

import "sync"

// recentIDs is a set of the IDs that were added last, at least size and at most twice as many.
// It is safe for concurrent use.
type recentIDs struct {
	size int

	mu       sync.Mutex
	now, old map[string]uint64
}

func newRecentIDs(size int) *recentIDs { return &recentIDs{size: size, now: make(map[string]uint64)} }

// add adds an ID with a sequence.
func (r *recentIDs) add(id string, seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.now) >= r.size {
		r.now, r.old = make(map[string]uint64), r.now
	}
	r.now[id] = seq
}

// seq returns the sequence of an ID, and whether the ID is known.
func (r *recentIDs) seq(id string) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq, ok := r.now[id]; ok {
		return seq, true
	}
	seq, ok := r.old[id]
	return seq, ok
}

func (r *recentIDs) has(id string) bool {
	_, ok := r.seq(id)
	return ok
}
