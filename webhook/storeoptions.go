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
// The store is a table and nothing else: order, coalescing, fairness, retries and workers are those
// of the memory queue, with the same options. Three things differ:
//
//   - A delivery that is given up is parked in the store. With an [Archive] you can list parked
//     deliveries, have them handled again, or delete them. Only deliveries that a handler drops
//     with [event.Drop] are not parked.
//   - Handlers get deliveries without tokens, because none are stored. Events about the application
//     (ONAPP*) keep theirs. [WithEncryptionKey] stores all tokens, encrypted, and handlers get
//     them.
//   - Handlers get no values of the request, and [WithContext] is refused.
//
// If a delivery cannot be stored within the enqueue timeout, the response is 503 and the delivery
// is counted as lost, although it may still be stored and handled. See [ErrNotStored] and
// [Handler.Health].
//
// [WithQueueSize] bounds the deliveries in memory. Twenty times as many are in memory without their
// bodies, which are loaded when their turn comes. The rest is only in the store. One portal has at
// most three quarters of both, so a portal that is down leaves room for the others. Application
// events have no room of their own, because none of them is refused if there is none.
//
// A store of several partitions is for several processes. Each portal is in one partition, and one
// process, which holds the lease of the partition, works it. So the order of an object and the
// limits of a portal hold across processes. If a process dies, others take its partitions when its
// leases have run out. See [WithLeaser] and [WithReceiveOnly].
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

// WithEncryptionKey encrypts deliveries in the store with AES-256-GCM under a key of 32 random
// bytes, and stores their tokens too. The key is copied. Give the option several times to change
// keys: the first key encrypts and all keys decrypt. To change the key of several processes, start
// all with the old key first and the new one second, and then with the new one first. Remove the
// old key when nothing is left that it encrypted. If the key of a delivery is missing, the delivery
// is parked and can be replayed.
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

// WithLeaser sets the [Leaser] for the partitions of a [Store]. A store with several partitions
// needs one, unless it is a Leaser itself. The name separates the leases of this store from those
// of other stores with the same Leaser. All processes that share the store must use the same name.
// It is printable ASCII without spaces and slashes.
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

// leasePrefix returns the beginning of the names of leases.
func leasePrefix(name string) string { return "webhook/" + name + "/" }

// WithLeaseTTL sets how long the lease of a partition lasts if it is not renewed, in other words
// how long deliveries wait for another process if theirs died. The default is 6 seconds, and the
// shortest is one second. All processes should use the same.
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

// WithReceiveOnly stores deliveries and handles none. Other processes with the same store handle
// them. A process that is only to handle them has a Handler that serves no requests.
func WithReceiveOnly() Option {
	return func(c *config) error {
		c.receiveOnly = true
		c.storeOnly = append(c.storeOnly, "WithReceiveOnly")
		return nil
	}
}
