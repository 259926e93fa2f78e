// Package lease divides work among processes by named leases in a store that they share. A
// [Keeper] holds the leases of one owner, [Shares] divides a number of parts evenly among the
// owners that are alive.
//
// # The life of a lease
//
//	         Acquire                 asked to leave
//	free ----------------> held --------------------> leaving
//	 ^                      |  ^------------------------  | |
//	 |                      |         TakeBack            | | Rest
//	 |   another has it, or |                             | v
//	 |   it is not renewed  |       (lost as well)        | released
//	 |   in time            v                             |   |
//	 +------------------- lost <--------------------------+   |
//	 +--------------------------------------------------------+
//
// Only [Shares] asks for parts to be left. The user of a Keeper releases a lease without being
// asked.
//
// A [Lease] goes through this diagram once. It is lost or released for good. If the same owner
// gets the name again, that is another Lease. So if a clock jumps ahead and back, or a process
// slept, the lease ends visibly, and the work starts again under the next one.
//
// # Time
//
// A lease lasts for a time to live (TTL) from before the store was asked, and counts as lost a
// tenth of the TTL earlier, so that work can end before another owner begins. The time is measured
// by the wall clock, which goes on while the machine sleeps, and by the monotonic clock, which
// cannot be set. The shorter time holds.
//
// A step is a fifth of the TTL. A Keeper renews its leases about once in a step, and sooner after a
// failure. It waits a step at most for a call of the store. A call that ignores its context goes on
// in a goroutine of its own. The Keeper makes no other call before that one returns, so there is
// one such goroutine at most. A timer, which needs no goroutine, ends leases in time meanwhile.
//
// # Locks
//
// No method of this package calls back, and none that takes no context waits for the store, except
// Stop. So the caller may hold its own locks, unless Stop says otherwise. Callbacks
// come one at a time, from one goroutine that holds no lock of this package. So they may take the
// caller's locks and call any method except Stop. They should return soon, because renewals wait
// for them. The end of a lease does not: [Lease.Lost] is closed first.
package lease
