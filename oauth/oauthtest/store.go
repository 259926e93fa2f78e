package oauthtest

import (
	"context"
	"errors"
	"testing"

	"github.com/b24events/b24events/oauth"
)

// TestStore runs the suite. newStore returns an empty store and is called once in each subtest,
// with the subtest's t, to which it may add a cleanup.
func TestStore(t *testing.T, newStore func(t *testing.T) oauth.Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(k kit)
	}{
		{"missing", testMissing},
		{"create only", testCreate},
		{"replace", testReplace},
		{"delete", testDelete},
		{"versions never come back", testVersions},
		{"every field", testFields},
		{"large", testLarge},
		{"copies", testCopies},
		{"keys", testKeys},
		{"refused keys", testRefusedKeys},
		{"hostile keys", testHostileKeys},
		{"race to create", testCreateRace},
		{"race to replace", testReplaceRace},
		{"race to delete", testDeleteRace},
		{"lost updates", testLostUpdates},
		{"canceled", testCanceled},
		{"printed", testPrinted},
		{"list", testList},
		{"list in pages", testListPages},
		{"list while it changes", testListChanging},
		{"list limit", testListLimit},
		{"prepare", testPrepare},
		{"prepare and conflict", testPrepareConflict},
		{"prepare twice", testPrepareTwice},
		{"prepare and race", testPrepareRace},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(kit{t, newStore(t)}) })
	}
}

func testMissing(k kit) {
	k.empty(portal)
	_, err := k.Swap(k.Context(), portal, "1", installation(k.T, 1))
	k.conflict("Swap of a version that is not there", err)
	k.empty(portal)
	k.remove(portal, "1")
	k.remove(portal, "")
}

func testCreate(k kit) {
	first := installation(k.T, 1)
	version := k.create(portal, first)
	_, err := k.Swap(k.Context(), portal, "", installation(k.T, 2))
	k.conflict("Swap that creates what is there", err)
	k.holds(portal, version, first)
}

func testReplace(k kit) {
	stale := k.create(portal, installation(k.T, 1))
	second := installation(k.T, 2)
	version := k.swap(portal, stale, second)
	for what, old := range map[string]oauth.Version{"stale": stale, "unknown": "no-such-version", "almost": version + "0"} {
		_, err := k.Swap(k.Context(), portal, old, installation(k.T, 3))
		k.conflict("Swap of a version that is "+what, err)
	}
	k.holds(portal, version, second)
}

func testDelete(k kit) {
	stale := k.create(portal, installation(k.T, 1))
	second := installation(k.T, 2)
	version := k.swap(portal, stale, second)
	for what, old := range map[string]oauth.Version{"stale": stale, "unknown": "no-such-version", "empty": ""} {
		k.conflict("Delete of a version that is "+what, k.Delete(k.Context(), portal, old))
	}
	k.holds(portal, version, second)
	k.remove(portal, version)
	k.empty(portal)
	k.remove(portal, version) // there is nothing to conflict with
}

// testVersions writes one installation again and again. A process that slept in the meantime must
// not mistake the latest version for the one that it knows.
func testVersions(k kit) {
	in := installation(k.T, 1)
	seen := make(map[oauth.Version]bool)
	for range 4 {
		version := oauth.Version("")
		for range 3 {
			version = k.swap(portal, version, in)
			if seen[version] {
				k.Fatalf("version %q came back", version)
			}
			seen[version] = true
		}
		k.remove(portal, version)
	}
	version := k.create(portal, in)
	for stale := range seen {
		_, err := k.Swap(k.Context(), portal, stale, in)
		k.conflict("Swap of a version from before a Delete", err)
		k.conflict("Delete of a version from before a Delete", k.Delete(k.Context(), portal, stale))
	}
	k.holds(portal, version, in)
}

func testFields(k kit) {
	full := installation(k.T, 1)
	version := k.create(portal, full)
	k.holds(portal, version, full)
	other := installation(k.T, 2)
	version = k.swap(portal, version, other)
	k.holds(portal, version, other)
	version = k.swap(portal, version, oauth.Installation{}) // no field of the old one may remain
	k.holds(portal, version, oauth.Installation{})
}

// testLarge stores an installation that is larger than those of portals, but not larger than a
// hostile portal could make it.
func testLarge(k kit) {
	in := installation(k.T, 1)
	for len(in.AccessToken) < 4<<10 {
		in.AccessToken += in.AccessToken
	}
	in.RefreshToken, in.ApplicationToken = in.AccessToken+"r", in.AccessToken+"a"
	for range 500 {
		in.Scope = append(in.Scope, "a_scope_that_an_administrator_made_up")
	}
	k.holds(portal, k.create(portal, in), in)
}

func testCopies(k kit) {
	given, want := installation(k.T, 1), installation(k.T, 1)
	version := k.create(portal, given)
	scribble(given)
	k.holds(portal, version, want)
	loaded, _, err := k.Load(k.Context(), portal)
	if err != nil {
		k.Fatalf("Load: unexpected error: %v", err)
	}
	scribble(loaded)
	k.holds(portal, version, want)
}

// testCanceled calls with a context that has ended.
func testCanceled(k kit) {
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	in := installation(k.T, 1)
	version := k.create(portal, in)
	_, _, err := k.Load(ctx, portal)
	k.canceled("Load", err)
	_, err = k.Swap(ctx, portal, version, installation(k.T, 2))
	k.canceled("Swap", err)
	k.canceled("Delete", k.Delete(ctx, portal, version))
	k.holds(portal, version, in)
	_, err = k.Swap(ctx, otherPortal, "", in)
	k.canceled("Swap that creates", err)
	k.empty(otherPortal)
}

func (k kit) canceled(what string, err error) {
	k.Helper()
	if !errors.Is(err, context.Canceled) {
		k.Errorf("%s: want context.Canceled, got %v", what, err)
	}
}

func testPrinted(k kit) {
	k.create(portal, installation(k.T, 1))
	k.keepsSecret("the store", k.Store)
}
