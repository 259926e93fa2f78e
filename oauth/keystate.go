package oauth

import (
	"context"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

// keyStates holds what this process knows about keys besides the store. A key takes no memory if
// nobody works on it and nothing needs to be remembered.
type keyStates struct {
	mu      sync.Mutex
	states  map[Key]*keyState
	sweptAt time.Time // when idle states were last dropped
}

// keyState is what this process knows about one key. keyStates.mu guards its fields.
type keyState struct {
	key     Key
	users   int           // calls that use it now
	lock    chan struct{} // holds one value while locked; whoever holds the lock may write the key
	forgets int           // how often the key was forgotten
	pending *pendingWrite // what the store could not take; only the holder of the lock sets it
	backoff backoff       // of renewals
	moves   movePause     // of address checks
}

// backoff keeps a refresh token from being sent again for a while.
type backoff struct {
	refresh   event.Secret
	err       error
	until     time.Time
	pause     time.Duration // the last one, which the next failure doubles
	refusedAt time.Time     // when the OAuth server first refused the token or the application; zero if it did not
}

// movePause keeps an address from being checked again for a while.
type movePause struct {
	err   error
	until time.Time
}

const (
	// maxIdleStates is how many keys may be remembered that nobody works on. If there are more,
	// those whose pauses are over are dropped.
	maxIdleStates = 10_000
	// sweepPause is the shortest time between two searches for them, because all of them may still
	// be in their pauses.
	sweepPause = 10 * time.Second
)

// use returns the state of a key, until release is called.
func (ks *keyStates) use(key Key) *keyState {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	s := ks.states[key]
	if s == nil {
		if ks.states == nil {
			ks.states = make(map[Key]*keyState)
		}
		if now := time.Now(); len(ks.states) >= maxIdleStates && now.Sub(ks.sweptAt) >= sweepPause {
			ks.sweptAt = now
			ks.dropIdleLocked(now)
		}
		s = &keyState{key: key, lock: make(chan struct{}, 1)}
		ks.states[key] = s
	}
	s.users++
	return s
}

// release ends a use.
func (ks *keyStates) release(s *keyState) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	s.users--
	if s.users == 0 && s.pending == nil && s.backoff.refresh == "" && s.moves.err == nil {
		delete(ks.states, s.key)
	}
}

// dropIdleLocked drops the states that nobody uses and whose pauses are over. ks.mu must be held.
func (ks *keyStates) dropIdleLocked(now time.Time) {
	for key, s := range ks.states {
		if s.users == 0 && s.pending == nil && now.After(s.backoff.until.Add(finalAfter)) && now.After(s.moves.until) {
			delete(ks.states, key)
		}
	}
}

// pendingOf returns the pending write of a key, or nil.
func (ks *keyStates) pendingOf(key Key) *pendingWrite {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s := ks.states[key]; s != nil {
		return s.pending
	}
	return nil
}

// pendingKeys returns the keys with a pending write.
func (ks *keyStates) pendingKeys() []Key {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	var keys []Key
	for key, s := range ks.states {
		if s.pending != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// lock takes the lock of a key, which is the right to write it. One caller of a process has it at a
// time.
func (ks *keyStates) lock(ctx context.Context, key Key) (s *keyState, unlock func(), err error) {
	s = ks.use(key)
	select {
	case s.lock <- struct{}{}:
		return s, func() {
			<-s.lock
			ks.release(s)
		}, nil
	case <-ctx.Done():
		ks.release(s)
		return nil, nil, ctx.Err()
	}
}

// setPendingLocked remembers what the store could not take, or nil. It reports false, and remembers
// nothing, if the key was forgotten since forgets was read. The caller holds the lock of the key;
// ks.mu is taken here.
func (ks *keyStates) setPendingLocked(s *keyState, w *pendingWrite, forgets int) bool {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s.forgets != forgets {
		return false
	}
	s.pending = w
	return true
}

// backoffOf returns the error with which a refresh token must not be sent now, or nil, and since
// when the OAuth server has been refusing the token.
func (ks *keyStates) backoffOf(s *keyState, refresh event.Secret) (refusedAt time.Time, err error) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s.backoff.refresh != refresh || refresh == "" {
		s.backoff = backoff{}
		return time.Time{}, nil
	}
	if !time.Now().Before(s.backoff.until) {
		return s.backoff.refusedAt, nil
	}
	return s.backoff.refusedAt, s.backoff.err
}

// refusedSince returns when the OAuth server first refused the present refresh token of a key, or
// the application with it. It is zero if the server did not.
func (ks *keyStates) refusedSince(key Key) time.Time {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s := ks.states[key]; s != nil {
		return s.backoff.refusedAt
	}
	return time.Time{}
}

const (
	// firstBackoff is how long a refresh token is not sent after a first failure. Each further
	// failure doubles it, up to maxBackoff.
	firstBackoff = time.Second
	maxBackoff   = time.Minute
)

// backOff keeps a refresh token from being sent for a while: for maxBackoff after an error that
// waiting does not fix, and otherwise for a time that grows with each failure.
func (ks *keyStates) backOff(s *keyState, refresh event.Secret, err error, forGood bool, refusedAt time.Time) {
	if refresh == "" {
		return
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s.backoff.refresh != refresh {
		s.backoff = backoff{refresh: refresh}
	}
	s.backoff.pause = min(max(2*s.backoff.pause, firstBackoff), maxBackoff)
	if forGood {
		s.backoff.pause = maxBackoff
	}
	s.backoff.err, s.backoff.refusedAt, s.backoff.until = err, refusedAt, time.Now().Add(s.backoff.pause)
}

// drop forgets everything about a key that was deleted from the store, unless the pending write is
// not obsolete: it came after what was deleted. Work under way finds that out by forgets.
func (ks *keyStates) drop(key Key, obsolete func(Installation) bool) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s := ks.states[key]; s != nil && (s.pending == nil || obsolete(s.pending.in)) {
		s.forgets++
		s.pending, s.backoff, s.moves = nil, backoff{}, movePause{}
		if s.users == 0 {
			delete(ks.states, key)
		}
	}
}

// forgets returns how often a key in use was forgotten.
func (ks *keyStates) forgets(s *keyState) int {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return s.forgets
}

// clearBackoff lets the refresh token of a key be sent again.
func (ks *keyStates) clearBackoff(s *keyState) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	s.backoff = backoff{}
}
