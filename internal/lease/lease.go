package lease

import "time"

// Lease is a named lease that was acquired once. Its methods are safe for concurrent use and do not
// call the store.
type Lease struct {
	keeper *Keeper
	name   string
	lost   chan struct{}

	expires instant // guarded by keeper.mu
	over    bool    // guarded by keeper.mu; lost or released
}

// Name returns the name of the lease.
func (l *Lease) Name() string { return l.name }

// Lost returns a channel that is closed once the lease can no longer be relied on, because another
// owner has it or it was not renewed in time. A release does not close it.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Remaining returns how long the lease can be relied on if it is not renewed, and 0 after it was
// lost or released. If its time is up, the lease is lost from this call on, even if the timer has
// not fired yet, for example because the machine slept.
func (l *Lease) Remaining() time.Duration {
	k := l.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.remainingLocked(l)
}

// Valid reports whether the lease can be relied on now. See [Lease.Remaining].
func (l *Lease) Valid() bool { return l.Remaining() > 0 }
