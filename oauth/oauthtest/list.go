package oauthtest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/b24events/b24events/oauth"
)

// compare orders the keys of one application as a Store lists them.
func compare(a, b oauth.Key) int {
	switch {
	case a.MemberID != b.MemberID:
		return strings.Compare(a.MemberID, b.MemberID)
	case a.UserID < b.UserID:
		return -1
	case a.UserID > b.UserID:
		return 1
	default:
		return 0
	}
}

// pages lists the keys of an application, limit at a time.
func (k kit) pages(clientID string, limit int) []oauth.Key {
	k.Helper()
	var keys []oauth.Key
	for after := (oauth.Key{ClientID: clientID}); ; {
		page, err := k.List(k.Context(), after, limit)
		if err != nil {
			k.Fatalf("List: unexpected error: %v", err)
		}
		if len(page) > limit {
			k.Fatalf("List returned %d keys, and the limit was %d", len(page), limit)
		}
		for _, key := range page {
			if compare(key, after) <= 0 {
				k.Fatalf("List returned %v, which does not follow %v", key, after)
			}
			after = key
		}
		keys = append(keys, page...)
		if len(page) < limit {
			return keys
		}
	}
}

// lists checks which keys of an application are listed.
func (k kit) lists(clientID string, want []oauth.Key) {
	k.Helper()
	want = slices.Clone(want)
	slices.SortFunc(want, compare)
	found := k.pages(clientID, len(want)+1)
	for i := range max(len(want), len(found)) {
		switch {
		case i >= len(found):
			k.Fatalf("List does not return %v, which is stored", want[i])
		case i >= len(want):
			k.Fatalf("List returns %v, which is not stored", found[i])
		case found[i] != want[i]:
			k.Fatalf("List returns %v, want %v there", found[i], want[i])
		}
	}
}

func testList(k kit) {
	k.lists(application, nil)
	keys := []oauth.Key{
		otherPortal, portal,
		{ClientID: application, MemberID: portal.MemberID, UserID: 7},
		{ClientID: application, MemberID: portal.MemberID, UserID: 1 << 40},
	}
	foreign := []oauth.Key{
		{ClientID: otherApplication, MemberID: portal.MemberID},
		{ClientID: otherApplication, MemberID: portal.MemberID, UserID: 8},
		{ClientID: otherApplication, MemberID: "b" + portal.MemberID[1:]},
	}
	var version oauth.Version
	for _, key := range append(foreign, keys...) {
		version = k.create(key, installation(k.T, 1))
	}
	k.lists(application, keys)
	k.lists(otherApplication, foreign)
	k.lists("", nil)
	k.lists(application+"0", nil)
	k.lists(application[:len(application)-1], nil)
	last := len(keys) - 1
	k.remove(keys[last], version)
	k.lists(application, keys[:last])

	// The caller owns what List returns.
	page, err := k.List(k.Context(), oauth.Key{ClientID: application}, len(keys))
	if err != nil {
		k.Fatalf("List: unexpected error: %v", err)
	}
	clear(page)
	k.lists(application, keys[:last])

	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	_, err = k.List(ctx, oauth.Key{ClientID: application}, 10)
	k.canceled("List", err)
}

// listed returns keys that databases are known to order in another way.
func listed() []oauth.Key {
	var keys []oauth.Key
	for _, id := range []string{
		"-", "-a", ".", "0", "10", "2", "A", "B", "Ba", "_", "a", "a-", "a-b", "a.b", "a0", "aB", "aa", "ab", "b", "z",
		portal.MemberID,
	} {
		keys = append(keys, oauth.Key{ClientID: application, MemberID: id})
	}
	for _, id := range []string{"10", "B", "a", "a-"} {
		for _, user := range []int64{1, 2, 10, 21, 1 << 33, math.MaxInt64} {
			keys = append(keys, oauth.Key{ClientID: application, MemberID: id, UserID: user})
		}
	}
	slices.SortFunc(keys, compare)
	return keys
}

// testListPages lists with several limits, and continues after keys that are not stored.
func testListPages(k kit) {
	keys := listed()
	for i := range keys { // in another order than that of the list
		key := keys[(i*17+5)%len(keys)]
		k.create(key, installation(k.T, 1))
		key.ClientID = otherApplication
		k.create(key, installation(k.T, 2))
	}
	for _, limit := range []int{1, 2, 3, 7, len(keys) - 1, len(keys), len(keys) + 1, 1000} {
		if found := k.pages(application, limit); !slices.Equal(found, keys) {
			k.Errorf("List with a limit of %d returns other keys than are stored, or another order", limit)
		}
	}
	for _, after := range []oauth.Key{
		{MemberID: "", UserID: math.MaxInt64},
		{MemberID: "a", UserID: 3},
		{MemberID: "a", UserID: math.MaxInt64},
		{MemberID: "a,"},
		{MemberID: "zz"},
		{MemberID: "a-", UserID: 0},
		{MemberID: "\x7f"},
		{MemberID: strings.Repeat("a", 64), UserID: 5},
	} {
		after.ClientID = application
		page, err := k.List(k.Context(), after, len(keys))
		if err != nil {
			k.Fatalf("List: unexpected error: %v", err)
		}
		first, _ := slices.BinarySearchFunc(keys, after, compare)
		if first < len(keys) && keys[first] == after {
			first++
		}
		if !slices.Equal(page, keys[first:]) {
			k.Errorf("List after %v returns other keys than those that follow it", after)
		}
	}
}

// testListChanging deletes and creates keys between pages, and lets others write meanwhile. It also
// deletes the last key of the page before.
func testListChanging(k kit) {
	keys := listed()
	versions := make(map[oauth.Key]oauth.Version)
	for _, key := range keys {
		versions[key] = k.create(key, installation(k.T, 1))
	}
	done := make(chan struct{})
	stop := make(chan struct{})
	var replaced atomic.Int64
	busy := keys[len(keys)-1] // it is always stored, and its installation changes all the time
	go func() {
		defer close(done)
		for version := versions[busy]; ; {
			select {
			case <-stop:
				return
			default:
			}
			var err error
			if version, err = k.Swap(k.Context(), busy, version, installation(k.T, 2)); err != nil {
				k.Errorf("Swap: unexpected error: %v", err)
				return
			}
			replaced.Add(1)
		}
	}()
	defer func() {
		close(stop)
		<-done
	}()
	var found []oauth.Key
	for after := (oauth.Key{ClientID: application}); ; {
		page, err := k.List(k.Context(), after, 2)
		if err != nil {
			k.Fatalf("List: unexpected error: %v", err)
		}
		if len(page) == 0 {
			break
		}
		found = append(found, page...)
		after = page[len(page)-1]
		if after != busy {
			k.remove(after, versions[after])
		}
		if last := len(after.MemberID) - 1; after.MemberID[last] > '-' { // keys before the page must not shift it
			before := fmt.Sprint(after.MemberID[:last], "-new", len(found))
			k.create(oauth.Key{ClientID: application, MemberID: before}, installation(k.T, 3))
		}
	}
	if !slices.Equal(found, keys) {
		k.Error("List lost or repeated keys when others were deleted and created between its pages")
	}
	for end := replaced.Load() + 30; replaced.Load() < end && !k.Failed(); {
		page, err := k.List(k.Context(), oauth.Key{ClientID: application}, 1000)
		if err != nil {
			k.Fatalf("List: unexpected error: %v", err)
		}
		if !slices.Contains(page, busy) {
			k.Fatal("List misses a key whose installation is being replaced")
		}
	}
}

func testListLimit(k kit) {
	k.create(portal, installation(k.T, 1))
	for _, limit := range []int{0, -1, math.MinInt} {
		if page, err := k.List(k.Context(), oauth.Key{ClientID: application}, limit); err == nil || len(page) > 0 {
			k.Errorf("List with a limit of %d: want an error, got %d keys and %v", limit, len(page), err)
		}
	}
	page, err := k.List(k.Context(), oauth.Key{ClientID: application}, math.MaxInt)
	if err != nil || !slices.Equal(page, []oauth.Key{portal}) {
		k.Errorf("List with the greatest limit: want the one key that is stored, got %v and %v", page, err)
	}
}
