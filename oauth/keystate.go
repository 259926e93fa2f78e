package oauth

import (
	"context"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

// keyStates holds what this process knows of keys besides the store. A key that nobody works on and
// of which nothing is to be remembered takes no memory.
type keyStates struct {
	mu     sync.Mutex
	states map[Key]*keyState
	swept  time.Time // when what had run out was dropped last
}

// keyState is what this process knows of one key. The lock of keyStates guards its fields, except
// that whoever has the turn may write what is marked so.
type keyState struct {
	key     Key
	users   int           // calls that use it now
	turn    chan struct{} // holds one value while somebody has the turn: the right to write the key
	forgets int           // how often the key was forgotten
	unsaved *unsaved      // what the store could not take; written by whoever has the turn
	hold    hold          // of refresh tokens
	move    pause         // of address checks
}

// hold keeps a refresh token from being sent again for a while.
type hold struct {
	refresh event.Secret
	err     error
	until   time.Time
	last    time.Duration // the last pause, which the next one doubles
	refused time.Time     // when the OAuth server first refused the token or the application; zero if it did not
}

// pause keeps something from being asked again for a while.
type pause struct {
	err   error
	until time.Time
}

const (
	// maxIdleStates is how many keys may be remembered that nobody works on. Passing it drops what
	// has run out.
	maxIdleStates = 10_000
	// sweepPause is how long nothing is looked through after that, since all of them may be in
	// their pauses.
	sweepPause = 10 * time.Second
)

// use returns the state of a key until release is called.
func (ks *keyStates) use(key Key) *keyState {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	s := ks.states[key]
	if s == nil {
		if ks.states == nil {
			ks.states = make(map[Key]*keyState)
		}
		if now := time.Now(); len(ks.states) >= maxIdleStates && now.Sub(ks.swept) >= sweepPause {
			ks.swept = now
			ks.dropIdleLocked(now)
		}
		s = &keyState{key: key, turn: make(chan struct{}, 1)}
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
	if s.users == 0 && s.unsaved == nil && s.hold.refresh == "" && s.move.err == nil {
		delete(ks.states, s.key)
	}
}

// dropIdleLocked drops the states that nobody uses and whose pauses are over. It is called with
// ks.mu held.
func (ks *keyStates) dropIdleLocked(now time.Time) {
	for key, s := range ks.states {
		if s.users == 0 && s.unsaved == nil && now.After(s.hold.until.Add(judgeAfter)) && now.After(s.move.until) {
			delete(ks.states, key)
		}
	}
}

// peek returns what waits to be written of a key, nil when nothing does.
func (ks *keyStates) peek(key Key) *unsaved {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s := ks.states[key]; s != nil {
		return s.unsaved
	}
	return nil
}

// unsavedKeys returns the keys of which something waits to be written.
func (ks *keyStates) unsavedKeys() []Key {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	var keys []Key
	for key, s := range ks.states {
		if s.unsaved != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// lock takes the turn of a key: the right to write it, which one caller of a process has at a time.
func (ks *keyStates) lock(ctx context.Context, key Key) (s *keyState, unlock func(), err error) {
	s = ks.use(key)
	select {
	case s.turn <- struct{}{}:
		return s, func() {
			<-s.turn
			ks.release(s)
		}, nil
	case <-ctx.Done():
		ks.release(s)
		return nil, nil, ctx.Err()
	}
}

// keep remembers what the store could not take, or nothing. The caller has the turn. It reports
// false, and remembers nothing, when the key was forgotten since forgets was read.
func (ks *keyStates) keep(s *keyState, u *unsaved, forgets int) bool {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s.forgets != forgets {
		return false
	}
	s.unsaved = u
	return true
}

// held returns the error with which a refresh token is held now, and since when the OAuth server
// has been refusing it.
func (ks *keyStates) held(s *keyState, refresh event.Secret) (refused time.Time, err error) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s.hold.refresh != refresh || refresh == "" {
		s.hold = hold{}
		return time.Time{}, nil
	}
	if !time.Now().Before(s.hold.until) {
		return s.hold.refused, nil
	}
	return s.hold.refused, s.hold.err
}

// refusedSince returns when the OAuth server first refused the present refresh token of a key, or
// the application with it. It is zero if it did not.
func (ks *keyStates) refusedSince(key Key) time.Time {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s := ks.states[key]; s != nil {
		return s.hold.refused
	}
	return time.Time{}
}

const (
	// firstHold is how long a refresh token rests after a first failure. Each further failure
	// doubles it, up to maxHold.
	firstHold = time.Second
	maxHold   = time.Minute
)

// holdBack keeps a refresh token from being sent for a while: for maxHold after an error that
// waiting does not mend, and for a time that grows with each failure otherwise.
func (ks *keyStates) holdBack(s *keyState, refresh event.Secret, err error, forGood bool, refused time.Time) {
	if refresh == "" {
		return
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s.hold.refresh != refresh {
		s.hold = hold{refresh: refresh}
	}
	s.hold.last = min(max(2*s.hold.last, firstHold), maxHold)
	if forGood {
		s.hold.last = maxHold
	}
	s.hold.err, s.hold.refused, s.hold.until = err, refused, time.Now().Add(s.hold.last)
}

// drop forgets everything about a key that was deleted from the store, unless what waits to be
// written is not over: it came after what was deleted. Work under way finds that by forgets.
func (ks *keyStates) drop(key Key, over func(Installation) bool) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if s := ks.states[key]; s != nil && (s.unsaved == nil || over(s.unsaved.in)) {
		s.forgets++
		s.unsaved, s.hold, s.move = nil, hold{}, pause{}
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

// clearHold forgets that a refresh token was held.
func (ks *keyStates) clearHold(s *keyState) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	s.hold = hold{}
}
