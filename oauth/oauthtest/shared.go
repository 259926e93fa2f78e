package oauthtest

import (
	"testing"

	"github.com/b24events/b24events/oauth"
)

// TestSharedStore checks stores that several processes use at once, on top of [TestStore]. newBacking makes something empty to
// keep installations in, such as a database, and returns a function that opens it, each time as another process would. It is
// called once in each subtest, with the subtest's t.
func TestSharedStore(t *testing.T, newBacking func(t *testing.T) (open func() oauth.Store)) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, open func() oauth.Store)
	}{
		{"one sees what the other writes", testSharedView},
		{"race to create", testSharedCreate},
		{"race to replace", testSharedReplace},
		{"lost updates", testSharedCount},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newBacking(t)) })
	}
}

func testSharedView(t *testing.T, open func() oauth.Store) {
	t.Helper()
	a, b := kit{t, open()}, kit{t, open()}
	first, second := installation(t, 1), installation(t, 2)
	a.empty(portal)
	b.empty(portal)
	stale := a.create(portal, first)
	b.holds(portal, stale, first)
	_, err := b.Swap(t.Context(), portal, "", second)
	b.conflict("Swap that creates what another instance has created", err)
	version := b.swap(portal, stale, second)
	a.holds(portal, version, second)
	_, err = a.Swap(t.Context(), portal, stale, first)
	a.conflict("Swap of a version that another instance has replaced", err)
	a.conflict("Delete of a version that another instance has replaced", a.Delete(t.Context(), portal, stale))

	c := kit{t, open()} // later than all that
	c.holds(portal, version, second)
	c.remove(portal, version)
	a.empty(portal)
	_, err = b.Swap(t.Context(), portal, version, first)
	b.conflict("Swap of a version that another instance has deleted", err)
	again := b.create(portal, second)
	if again == stale || again == version {
		t.Errorf("version %q came back", again)
	}
}

func instances(open func() oauth.Store) []oauth.Store {
	stores := make([]oauth.Store, 4)
	for i := range stores {
		stores[i] = open()
	}
	return stores
}

func testSharedCreate(t *testing.T, open func() oauth.Store) {
	t.Helper()
	stores := instances(open)
	k := kit{t, stores[0]}
	for range races {
		k.remove(portal, k.oneWinner(stores, ""))
	}
}

func testSharedReplace(t *testing.T, open func() oauth.Store) {
	t.Helper()
	stores := instances(open)
	k := kit{t, stores[0]}
	version := k.create(portal, installation(t, 0))
	for range races {
		version = k.oneWinner(stores, version)
	}
}

func testSharedCount(t *testing.T, open func() oauth.Store) {
	t.Helper()
	stores := instances(open)
	kit{t, stores[0]}.count(stores)
}
