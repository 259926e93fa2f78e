package oauthtest

import (
	"errors"
	"math"
	"strings"

	"github.com/b24events/b24events/oauth"
)

// testKeys checks that neighbours do not get in each other's way.
func testKeys(k kit) {
	keys := []oauth.Key{
		portal, otherPortal,
		{MemberID: portal.MemberID, UserID: 1},
		{MemberID: portal.MemberID, UserID: 11},
		{MemberID: portal.MemberID + "1", UserID: 1},
		{MemberID: portal.MemberID, UserID: math.MaxInt64},
		{MemberID: portal.MemberID[:31]},
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

// testHostileKeys uses member ids that Bitrix24 does not give. A store may refuse one; what it takes, it must tell from all the
// others.
func testHostileKeys(k kit) {
	long := strings.Repeat("x", 300)
	ids := []string{
		"", " ", ".", "..", "../x", "../../x", "/x", "x/", "x", "x ", " x", "x.", "x/../x", `x\`, `..\x`, "x\x00", "x\x00y", "x\n", "X", "ſ", "s", "K", "\u212a", "k",
		"é", "e\u0301", "É", "%2e%2e", "%", "*", "?", "x*", "con", "nul.json", "aux", "x:y", "~", "$HOME", "`id`", "'; drop table x; --", `"`, "_", "-", "x-1", "x--1", "x-0",
		long, long + "y", strings.ToUpper(long), strings.Repeat("y", 5000), strings.Repeat("é", 300), "\xff", "\xfe", "\xff\xfe", "\ufffd", "\U0001f600",
		"lock-0", "portal-x", "x.json", "x.tmp", "x.json.tmp",
	}
	keys := make([]oauth.Key, 0, len(ids)+3)
	for _, id := range ids {
		keys = append(keys, oauth.Key{MemberID: id})
	}
	keys = append(keys, oauth.Key{MemberID: "x", UserID: 1}, oauth.Key{MemberID: "x", UserID: -1}, oauth.Key{MemberID: "x-", UserID: 1})

	versions := make(map[oauth.Key]oauth.Version)
	for i, key := range keys {
		version, err := k.Swap(k.Context(), key, "", installation(k.T, int64(i)))
		switch {
		case err == nil:
			versions[key] = version
		case errors.Is(err, oauth.ErrConflict):
			k.Errorf("member id %.20q is taken for another one", key.MemberID)
		default:
			k.keepsSecret("the error", err)
		}
	}
	if versions[oauth.Key{MemberID: "x"}] == "" {
		k.Error("a member id of one letter is refused")
	}
	for i, key := range keys {
		if version, ok := versions[key]; ok {
			k.holds(key, version, installation(k.T, int64(i)))
		} else if _, _, err := k.Load(k.Context(), key); err == nil {
			k.Errorf("member id %.20q was refused, but something is stored for it", key.MemberID)
		}
	}
	for _, key := range keys {
		if version, ok := versions[key]; ok {
			k.remove(key, version)
			k.empty(key)
			delete(versions, key)
		}
	}
}
