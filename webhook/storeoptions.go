package webhook

import (
	"strings"
	"time"

	"github.com/b24events/b24events/internal/typednil"
)

const (
	// DefaultLeaseTTL is how long the lease of a partition lasts if it is not renewed.
	DefaultLeaseTTL = 6 * time.Second
	// MinLeaseTTL is the shortest that [WithLeaseTTL] accepts.
	MinLeaseTTL = time.Second
	// MaxPartitions is the most that a [Store] may have.
	MaxPartitions = 4096
)

// WithStore keeps deliveries in a store until they are handled, so that a crash loses none. The
// response is 200 once the delivery is durable. After a restart the Handler goes on with what is
// stored, in order for each object. Each delivery is handled at least once.
//
// The store is a table and nothing else: order, coalescing, fairness, retries and workers are as
// with the memory queue, with the same options. Three things differ:
//
//   - A delivery that is given up is parked in the store. An [Archive] lists what is
//     parked, has it handled again, or deletes it. Only what a handler drops with [event.Drop] is
//     forgotten.
//   - Handlers get deliveries without tokens, because none are stored. Events about the application
//     (ONAPP*) keep theirs. [WithEncryptionKey] stores all tokens, encrypted, and handlers get them.
//   - Handlers get no values of the request, and [WithContext] is refused.
//
// A delivery that cannot be stored within the enqueue timeout is answered 503 and counted as lost;
// it may be stored, and handled, all the same. See [ErrNotStored] and [Handler.Health].
//
// [WithQueueSize] bounds the deliveries in memory. Twenty times as many are in memory without their
// bodies, which are loaded when their turn comes; the rest is in the store only. One portal has
// three quarters of both at most, so one that is down leaves room for the others. Application
// events have no room of their own, because nothing is refused for want of it.
//
// A store of several partitions is for several processes. Each portal is in one partition, and each
// partition is worked by one process, which holds its lease. So the order of an object is kept, and
// so are the limits for a portal. After a process died, another has its partitions within a lease.
// See [WithLeaser] and [WithReceiveOnly].
//
// The store belongs to the caller, who closes it after [Handler.Shutdown].
func WithStore(s Store) Option {
	return func(c *config) error {
		if typednil.Is(s) {
			return misconfigured("nil store")
		}
		c.store = s
		return nil
	}
}

// WithEncryptionKey encrypts what is stored with AES-256-GCM under a key of 32 random bytes, which
// is copied, and stores tokens too. Give the option several times to change keys: the first
// encrypts and all decrypt. To change the key of several processes, start all with the old key
// first and the new one second, and then with the new one first. Remove the old one when nothing is
// stored from before. A delivery of which the key is missing is parked and can be replayed.
func WithEncryptionKey(key []byte) Option {
	return func(c *config) error {
		k, err := newKey(key)
		if err != nil {
			return err
		}
		c.keys = append(c.keys, k)
		c.storeOnly = append(c.storeOnly, "WithEncryptionKey")
		return nil
	}
}

// WithLeaser sets who gives the leases of partitions. It is needed for a [Store] with several
// partitions that is no [Leaser] itself. The name tells the leases of one store from those of
// another that has the same Leaser. All processes that share the store must give the same. It is
// printable ASCII without spaces and slashes.
func WithLeaser(name string, l Leaser) Option {
	return func(c *config) error {
		switch {
		case typednil.Is(l):
			return misconfigured("nil leaser")
		case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }):
			return misconfigured("the name of the leases must be printable ASCII without spaces and slashes")
		}
		c.leaser, c.leasePrefix = l, leasePrefix(name)
		c.storeOnly = append(c.storeOnly, "WithLeaser")
		return nil
	}
}

// leasePrefix is what the names of leases begin with.
func leasePrefix(name string) string { return "webhook/" + name + "/" }

// WithLeaseTTL sets how long the lease of a partition lasts if it is not renewed, in other words
// how long the deliveries of a process that died wait for another. The default is 6 seconds. All
// processes should have the same. The shortest is one second.
func WithLeaseTTL(d time.Duration) Option {
	return func(c *config) error {
		if d < MinLeaseTTL {
			return misconfigured("a lease of %s is shorter than %s", d, MinLeaseTTL)
		}
		c.leaseTTL = d
		c.storeOnly = append(c.storeOnly, "WithLeaseTTL")
		return nil
	}
}

// WithReceiveOnly stores deliveries and handles none: that is for other processes with the same
// store. A process that only handles has a Handler that serves no requests.
func WithReceiveOnly() Option {
	return func(c *config) error {
		c.receiveOnly = true
		c.storeOnly = append(c.storeOnly, "WithReceiveOnly")
		return nil
	}
}
