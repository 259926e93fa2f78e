package oauthtest

import (
	"context"

	"github.com/b24events/b24events/oauth"
)

// prepare prepares a key, if the store is an [oauth.Preparer].
func (k kit) prepare(key oauth.Key) (release func()) {
	k.Helper()
	p, ok := k.Store.(oauth.Preparer)
	if !ok {
		k.Skip("the store is not an oauth.Preparer")
	}
	release, err := p.Prepare(k.Context(), key)
	if err != nil {
		k.Fatalf("Prepare: unexpected error: %v", err)
	}
	if release == nil {
		k.Fatal("Prepare returned nothing to release")
	}
	return release
}

func testPrepare(k kit) {
	first, second := installation(k.T, 1), installation(k.T, 2)
	release := k.prepare(portal)
	k.empty(portal)
	k.lists(application, nil)
	k.remove(portal, "1")
	release()
	release()
	k.empty(portal)
	k.lists(application, nil)
	version := k.create(portal, first) // without a reservation

	release = k.prepare(portal)
	k.holds(portal, version, first)
	k.lists(application, []oauth.Key{portal})
	version = k.swap(portal, version, second)
	k.holds(portal, version, second)
	release()
	k.holds(portal, version, second)
	release()
	k.holds(portal, version, second)

	release = k.prepare(otherPortal)
	version = k.swap(portal, version, first) // of another key
	other := k.create(otherPortal, second)
	third := k.swap(otherPortal, other, first) // a second Swap has no reservation, and works
	release()
	k.holds(portal, version, first)
	k.holds(otherPortal, third, first)

	release = k.prepare(portal)
	k.remove(portal, version)
	k.empty(portal)
	release()
	k.empty(portal)

	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	p, _ := k.Store.(oauth.Preparer)
	_, err := p.Prepare(ctx, portal)
	k.canceled("Prepare", err)
	if _, err := p.Prepare(k.Context(), oauth.Key{ClientID: application}); err == nil {
		k.Error("Prepare of a key with an empty member ID: want an error")
	}
}

func testPrepareConflict(k kit) {
	release := k.prepare(portal)
	defer release()
	first, second := installation(k.T, 1), installation(k.T, 2)
	_, err := k.Swap(k.Context(), portal, "no-such-version", second)
	k.conflict("Swap of a version that is not there, after Prepare", err)
	k.empty(portal)
	stale := k.create(portal, first)
	release()

	release = k.prepare(portal)
	version := k.swap(portal, stale, second)
	release()
	release = k.prepare(portal)
	for what, old := range map[string]oauth.Version{"empty": "", "stale": stale} {
		_, err := k.Swap(k.Context(), portal, old, first)
		k.conflict("Swap of a version that is "+what+", after Prepare", err)
		k.holds(portal, version, second)
	}
	k.conflict("Delete of a version that is stale, after Prepare", k.Delete(k.Context(), portal, stale))
	version = k.swap(portal, version, first)
	release()
	k.holds(portal, version, first)
}

func testPrepareTwice(k kit) {
	one, two := k.prepare(portal), k.prepare(portal)
	version := k.create(portal, installation(k.T, 1))
	one()
	one()
	second := installation(k.T, 2)
	version = k.swap(portal, version, second)
	two()
	k.holds(portal, version, second)
	one, two = k.prepare(portal), k.prepare(portal)
	two()
	one()
	k.holds(portal, version, second)
	k.lists(application, []oauth.Key{portal})
}

func testPrepareRace(k kit) {
	k.prepare(portal)()
	p, _ := k.Store.(oauth.Preparer)
	version := k.create(portal, installation(k.T, 0))
	for range races {
		old, in := version, installation(k.T, 1)
		var versions [racers]oauth.Version
		winners := k.race(func(n int64) error {
			release, err := p.Prepare(k.Context(), portal)
			if err != nil {
				return err
			}
			defer release()
			versions[n], err = k.Swap(k.Context(), portal, old, in)
			return err
		})
		if len(winners) != 1 {
			k.Fatalf("%d of %d that had prepared replaced one version, want 1", len(winners), racers)
		}
		version = versions[winners[0]]
		k.holds(portal, version, in)
	}
}
