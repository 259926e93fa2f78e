package oauthtest

import (
	"context"
	"errors"
	"testing"

	"github.com/b24events/b24events/oauth"
)

// TestStore runs the suite. newStore returns an empty store and is called once in each subtest, with the subtest's t, to which
// it may add a cleanup.
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
		{"hostile keys", testHostileKeys},
		{"race to create", testCreateRace},
		{"race to replace", testReplaceRace},
		{"race to delete", testDeleteRace},
		{"lost updates", testLostUpdates},
		{"cancelled", testCancelled},
		{"printed", testPrinted},
		{"list", testList},
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

// testVersions writes one installation again and again. A process that slept in the meantime must not take the latest for the
// one that it knows.
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
	version = k.swap(portal, version, oauth.Installation{}) // nothing of before may shine through
	k.holds(portal, version, oauth.Installation{})
}

// testLarge stores what is larger than a portal gives, but not more than a hostile one could.
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

// testCancelled calls with a context that has ended.
func testCancelled(k kit) {
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	in := installation(k.T, 1)
	version := k.create(portal, in)
	_, _, err := k.Load(ctx, portal)
	k.cancelled("Load", err)
	_, err = k.Swap(ctx, portal, version, installation(k.T, 2))
	k.cancelled("Swap", err)
	k.cancelled("Delete", k.Delete(ctx, portal, version))
	k.holds(portal, version, in)
	_, err = k.Swap(ctx, otherPortal, "", in)
	k.cancelled("Swap that creates", err)
	k.empty(otherPortal)
}

func (k kit) cancelled(what string, err error) {
	k.Helper()
	if !errors.Is(err, context.Canceled) {
		k.Errorf("%s: want context.Canceled, got %v", what, err)
	}
}

func testPrinted(k kit) {
	k.create(portal, installation(k.T, 1))
	k.keepsSecret("the store", k.Store)
}

// testList checks an [oauth.Lister].
func testList(k kit) {
	lister, ok := k.Store.(oauth.Lister)
	if !ok {
		k.Skip("the store is not an oauth.Lister")
	}
	for range lister.Keys(k.Context()) {
		k.Error("an empty store lists a key")
	}
	keys := []oauth.Key{portal, otherPortal, {MemberID: portal.MemberID, UserID: 7}, {MemberID: portal.MemberID, UserID: 1 << 40}}
	var version oauth.Version
	for _, key := range keys {
		version = k.create(key, installation(k.T, 1))
	}
	last := len(keys) - 1
	k.lists(lister, keys)
	k.remove(keys[last], version)
	k.lists(lister, keys[:last])
	for range lister.Keys(k.Context()) {
		break // must not make the iterator panic
	}

	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	var err error
	for _, err = range lister.Keys(ctx) {
	}
	k.cancelled("Keys", err)
}

func (k kit) lists(lister oauth.Lister, want []oauth.Key) {
	k.Helper()
	times := make(map[oauth.Key]int)
	for key, err := range lister.Keys(k.Context()) {
		if err != nil {
			k.Fatalf("Keys: unexpected error: %v", err)
		}
		times[key]++
	}
	for _, key := range want {
		if times[key] != 1 {
			k.Errorf("Keys yields %v %d times, want once", key, times[key])
		}
		delete(times, key)
	}
	for key := range times {
		k.Errorf("Keys yields %v, which is not stored", key)
	}
}
