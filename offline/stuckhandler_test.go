package offline_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// noting is a leaser that notes which leases each owner took, and that grants only some if there
// are any in only.
type noting struct {
	*offline.MemoryLeaser

	only []string

	mu    sync.Mutex
	order []string            // of the owners
	taken map[string][]string // by owner
}

func newNoting(only ...string) *noting {
	return &noting{MemoryLeaser: offline.NewMemoryLeaser(), only: only, taken: make(map[string][]string)}
}

func (n *noting) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if n.only != nil {
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(n.only, name) })
	}
	held, err := n.MemoryLeaser.Acquire(ctx, owner, ttl, names...)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.order, owner) {
		n.order = append(n.order, owner)
	}
	for _, name := range held {
		if !slices.Contains(n.taken[owner], name) {
			n.taken[owner] = append(n.taken[owner], name)
		}
	}
	return held, err
}

// fleetOf returns a fleet of an application "app.1".
func fleetOf(t *testing.T, api func(string) event.Caller, h event.HandlerFunc, l offline.Leaser, ids ...string) *offline.Fleet {
	t.Helper()
	f, err := offline.NewFleet(api, h, offline.WithLeaser(l), offline.WithClientID("app.1"), offline.WithInterval(time.Second, 10*time.Second))
	require.NoError(t, err)
	for _, id := range ids {
		require.NoError(t, f.Add(id))
	}
	return f
}

// movingLeases returns the leases that pass to a second process when it joins a first one.
func movingLeases(t *testing.T) (names []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newNoting()
		nobody := func(string) event.Caller { return nil }
		h := func(context.Context, *event.Delivery) error { return nil }
		stopFirst := running(t, fleetOf(t, nobody, h, l))
		<-time.After(30 * time.Second)
		stopSecond := running(t, fleetOf(t, nobody, h, l))
		<-time.After(time.Minute)
		l.mu.Lock()
		require.Len(t, l.order, 2)
		names = slices.Clone(l.taken[l.order[1]])
		l.mu.Unlock()
		stopSecond()
		stopFirst()
	})
	return names
}

// portalsUnder returns which of the portals a lease stands for: those that a fleet asks that holds
// nothing else.
func portalsUnder(t *testing.T, lease string, ids []string) (under []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := make(map[string]bool)
		api := func(id string) event.Caller {
			return callerOf(func(context.Context, string, any, any) error {
				mu.Lock()
				defer mu.Unlock()
				asked[id] = true
				return errHandler
			})
		}
		stop := running(t, fleetOf(t, api, func(context.Context, *event.Delivery) error { return nil }, newNoting(lease), ids...))
		<-time.After(15 * time.Second)
		stop()
		for _, id := range ids {
			if asked[id] {
				under = append(under, id)
			}
		}
	})
	return under
}

// A handler goes on although its context has ended. It blocks its portal, and no other of its
// shard, also when the shard should pass to a process that has just joined.
func TestStuckHandlerDoesNotKeepItsShardFromOtherPortals(t *testing.T) {
	t.Parallel()
	ids := make([]string, 600)
	for i := range ids {
		ids[i] = fmt.Sprintf("%032x", i)
	}
	var pair []string
	for _, lease := range movingLeases(t) {
		if pair = portalsUnder(t, lease, ids); len(pair) >= 2 {
			break
		}
	}
	require.GreaterOrEqual(t, len(pair), 2, "no lease stands for two of the portals")
	var waited time.Duration
	handled := false
	synctest.Test(t, func(t *testing.T) {
		portals := make(map[string]*fixture)
		for _, id := range pair[:2] {
			portals[id] = newFixture(t, eventtest.WithMemberID(id))
		}
		stuck, other := pair[0], pair[1]
		free, done := make(chan struct{}), make(chan time.Time, 10)
		h := func(_ context.Context, d *event.Delivery) error {
			if d.MemberID() == stuck {
				<-free
			} else {
				done <- time.Now()
			}
			return nil
		}
		api := func(id string) event.Caller { return callerOf(portals[id].api.Call) }
		l := offline.NewMemoryLeaser()
		portals[stuck].change("UPDATE", 1)
		stopFirst := running(t, fleetOf(t, api, h, l, pair[:2]...))
		<-time.After(30 * time.Second)
		stopSecond := running(t, fleetOf(t, api, h, l, pair[:2]...))
		<-time.After(5 * time.Minute)
		changed := time.Now()
		portals[other].change("UPDATE", 1)
		select {
		case at := <-done:
			handled, waited = true, at.Sub(changed)
		case <-time.After(20 * time.Minute):
		}
		close(free)
		stopSecond()
		stopFirst()
	})
	expect(t, handled, "the change of another portal of the shard was not handled within twenty minutes")
	expect(t, waited <= 2*soon, "the change of another portal of the shard waited for %s", waited)
}
