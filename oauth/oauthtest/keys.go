package oauthtest

import (
	"errors"
	"math"
	"strings"

	"github.com/b24events/b24events/oauth"
)

// testKeys checks that similar keys do not affect each other.
func testKeys(k kit) {
	keys := []oauth.Key{
		portal, otherPortal,
		{ClientID: otherApplication, MemberID: portal.MemberID},
		{ClientID: otherApplication, MemberID: portal.MemberID, UserID: 1},
		{ClientID: application, MemberID: portal.MemberID, UserID: 1},
		{ClientID: application, MemberID: portal.MemberID, UserID: 11},
		{ClientID: application, MemberID: portal.MemberID + "1", UserID: 1},
		{ClientID: application, MemberID: portal.MemberID, UserID: math.MaxInt64},
		{ClientID: application, MemberID: portal.MemberID[:31]},
		{ClientID: application[:28], MemberID: application[28:] + portal.MemberID},
	}
	versions := make([]oauth.Version, len(keys))
	for i, key := range keys {
		k.empty(key)
		versions[i] = k.create(key, installation(k.T, int64(i)))
	}
	for i, key := range keys {
		k.holds(key, versions[i], installation(k.T, int64(i)))
	}
	for i, key := range keys {
		k.remove(key, versions[i])
		k.empty(key)
		for j := i + 1; j < len(keys); j++ {
			k.holds(keys[j], versions[j], installation(k.T, int64(j)))
		}
	}
}

// testRefusedKeys uses keys that List could not return.
func testRefusedKeys(k kit) {
	for what, key := range map[string]oauth.Key{
		"an empty member ID":            {ClientID: application},
		"an empty member ID and a user": {ClientID: application, UserID: 1},
		"a negative user ID":            {ClientID: application, MemberID: portal.MemberID, UserID: -1},
		"the smallest user ID of all":   {ClientID: application, MemberID: portal.MemberID, UserID: math.MinInt64},
	} {
		_, err := k.Swap(k.Context(), key, "", installation(k.T, 1))
		if err == nil || errors.Is(err, oauth.ErrConflict) || errors.Is(err, oauth.ErrNotFound) {
			k.Errorf("Swap of a key with %s: want an error of the store's own, got %v", what, err)
		}
		k.keepsSecret("the error", err)
		k.empty(key)
		k.remove(key, "1")
	}
	k.lists(application, nil)
}

// testHostileKeys uses member IDs and client IDs that Bitrix24 does not issue. A store may refuse
// one. It must list every key that it accepts, and treat it as different from all others.
func testHostileKeys(k kit) {
	long := strings.Repeat("x", 300)
	ids := []string{
		" ", ".", "..", "../x", "../../x", "/x", "x/", "x", "x ", " x", "x.", "x/../x", `x\`, `..\x`, "x\x00", "x\x00y", "x\n", "X", "ſ", "s",
		"K", "\u212a", "k",
		"é", "e\u0301", "É", "%2e%2e", "%", "*", "?", "x*", "con", "nul.json", "aux", "x:y", "~", "$HOME", "`id`", "'; drop table x; --", `"`,
		"_", "-", "x-1", "x--1", "x-0",
		long, long + "y", strings.ToUpper(long), strings.Repeat("y", 5000), strings.Repeat("é", 300), "\xff", "\xfe", "\xff\xfe", "\ufffd",
		"\U0001f600",
		"lock-0", "lock.00", "format.json", "portal-x", "x.json", "x.tmp", "x.json.tmp", "_5f", "_78",
	}
	keys := make([]oauth.Key, 0, 2*len(ids)+3)
	for _, id := range ids {
		keys = append(keys, oauth.Key{ClientID: application, MemberID: id}, oauth.Key{ClientID: id, MemberID: "x"})
	}
	keys = append(keys,
		oauth.Key{ClientID: application, MemberID: "x", UserID: 1},
		oauth.Key{ClientID: application, MemberID: "x-", UserID: 1},
		oauth.Key{ClientID: application + "/x", MemberID: "x"})

	versions := make(map[oauth.Key]oauth.Version)
	for i, key := range keys {
		version, err := k.Swap(k.Context(), key, "", installation(k.T, int64(i)))
		switch {
		case err == nil:
			versions[key] = version
		case errors.Is(err, oauth.ErrConflict):
			k.Errorf("key %.20q of %.20q is treated as another one", key.MemberID, key.ClientID)
		default:
			k.keepsSecret("the error", err)
		}
	}
	if versions[oauth.Key{ClientID: application, MemberID: "x"}] == "" {
		k.Error("a member ID of one letter is refused")
	}
	var stored []oauth.Key
	for i, key := range keys {
		if version, ok := versions[key]; ok {
			k.holds(key, version, installation(k.T, int64(i)))
			if key.ClientID == application {
				stored = append(stored, key)
			} else {
				k.lists(key.ClientID, []oauth.Key{key})
			}
		} else if _, _, err := k.Load(k.Context(), key); !errors.Is(err, oauth.ErrNotFound) {
			k.Errorf("key %.20q of %.20q was refused, but Load returns %v instead of ErrNotFound", key.MemberID, key.ClientID, err)
		}
	}
	k.lists(application, stored)
	for _, key := range keys {
		if version, ok := versions[key]; ok {
			k.remove(key, version)
			k.empty(key)
			delete(versions, key)
		}
	}
}
