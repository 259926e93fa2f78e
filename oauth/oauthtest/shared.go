package oauthtest

import (
	"testing"

	"github.com/b24events/b24events/oauth"
)

// TestSharedStore checks stores that several processes use at once, on top of [TestStore].
// newBacking makes something empty that keeps installations, such as a database. It returns a
// function that opens it like another process, each time that it is called. It is called once in
// each subtest, with the subtest's t.
func TestSharedStore(t *testing.T, newBacking func(t *testing.T) (open func() oauth.Store)) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, open func() oauth.Store)
	}{
		{"one sees what the other writes", testSharedView},
		{"load after swap", testSharedLoad},
		{"race to create", testSharedCreate},
		{"race to replace", testSharedReplace},
		{"lost updates", testSharedCount},
		{"prepare", testSharedPrepare},
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
	a.lists(application, []oauth.Key{portal})
	_, err = a.Swap(t.Context(), portal, stale, first)
	a.conflict("Swap of a version that another instance has replaced", err)
	a.conflict("Delete of a version that another instance has replaced", a.Delete(t.Context(), portal, stale))

	c := kit{t, open()} // opened after all that
	c.holds(portal, version, second)
	c.remove(portal, version)
	a.empty(portal)
	b.lists(application, nil)
	_, err = b.Swap(t.Context(), portal, version, first)
	b.conflict("Swap of a version that another instance has deleted", err)
	again := b.create(portal, second)
	if again == stale || again == version {
		t.Errorf("version %q came back", again)
	}
}

// testSharedLoad loads by one instance what another has just written. It does so many times,
// because a replica that lags behind, or a cache that is invalidated, is not always late.
func testSharedLoad(t *testing.T, open func() oauth.Store) {
	t.Helper()
	stores := instances(open)
	version := oauth.Version("")
	for n := range 40 {
		in := installation(t, int64(n))
		version = kit{t, stores[n%len(stores)]}.swap(portal, version, in)
		for i := range stores {
			kit{t, stores[(n+i+1)%len(stores)]}.holds(portal, version, in)
		}
	}
	kit{t, stores[0]}.remove(portal, version)
	for _, store := range stores {
		kit{t, store}.empty(portal)
	}
}

// testSharedPrepare lets two instances prepare one key.
func testSharedPrepare(t *testing.T, open func() oauth.Store) {
	t.Helper()
	a, b := kit{t, open()}, kit{t, open()}
	releaseA, releaseB := a.prepare(portal), b.prepare(portal)
	first, second, third := installation(t, 1), installation(t, 2), installation(t, 3)
	version := a.create(portal, first)
	_, err := b.Swap(t.Context(), portal, "", second)
	b.conflict("Swap that creates what another instance has created", err)
	version = b.swap(portal, version, second)
	releaseA()
	releaseB()
	a.holds(portal, version, second)
	defer a.prepare(portal)() // stands for a process that has died without a release
	version = b.swap(portal, version, third)
	kit{t, open()}.holds(portal, version, third)
	b.lists(application, []oauth.Key{portal})
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
