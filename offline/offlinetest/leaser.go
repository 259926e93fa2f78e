// Package offlinetest checks implementations of offline.Leaser. Consumers and fleets can rely on a
// leaser that passes [TestLeaser]. The package is for tests and needs only the standard library.
package offlinetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/b24events/b24events/offline"
)

const (
	lasting = time.Hour   // of leases that must not run out
	brief   = time.Second // of leases that run out
	patient = 30 * time.Second
	pace    = 20 * time.Millisecond
)

// TestLeaser runs the suite. newLeaser returns a leaser on a store of its own without leases. It is
// called once in each subtest with the subtest's t, to which it may add a cleanup. The suite waits
// until leases of a second run out, by the store's clock.
func TestLeaser(t *testing.T, newLeaser func(t *testing.T) offline.Leaser) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(k kit)
	}{
		{"one owner", testOneOwner},
		{"renewed", testRenewed},
		{"released", testReleased},
		{"run out", testRunOut},
		{"renewed in time", testRenewedInTime},
		{"prefixes", testPrefixes},
		{"names byte by byte", testNames},
		{"very many", testVeryMany},
		{"no names", testNoNames},
		{"race", testRace},
		{"ended context", testEndedContext},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(kit{t, newLeaser(t)}) })
	}
}

type kit struct {
	*testing.T
	offline.Leaser
}

// take acquires names and checks which of them the owner has then.
func (k kit) take(owner string, ttl time.Duration, names, want []string) {
	k.Helper()
	held, err := k.Acquire(k.Context(), owner, ttl, names...)
	if err != nil {
		k.Fatalf("Acquire: %v", err)
	}
	slices.Sort(held)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(held, want) {
		k.Fatalf("Acquire of %d names for %s: it holds %s, and should hold %s", len(names), owner, list(held), list(want))
	}
}

func list(names []string) string {
	if len(names) > 10 {
		return fmt.Sprintf("%d names", len(names))
	}
	return fmt.Sprintf("%q", names)
}

func (k kit) release(owner string, names ...string) {
	k.Helper()
	if err := k.Release(k.Context(), owner, names...); err != nil {
		k.Fatalf("Release: %v", err)
	}
}

// holds checks which leases are in force.
func (k kit) holds(prefix string, want map[string]string) {
	k.Helper()
	held, err := k.Held(k.Context(), prefix)
	if err != nil {
		k.Fatalf("Held: %v", err)
	}
	if !maps.Equal(held, want) {
		k.Fatalf("Held(%q): %v, and should be %v", prefix, held, want)
	}
}

func testOneOwner(k kit) {
	k.holds("", map[string]string{})
	k.take("one", lasting, []string{"b", "a"}, []string{"a", "b"})
	k.take("two", lasting, []string{"a", "b", "c"}, []string{"c"})
	k.holds("", map[string]string{"a": "one", "b": "one", "c": "two"})
}

func testRenewed(k kit) {
	k.take("one", brief, []string{"a", "b"}, []string{"a", "b"})
	k.take("one", lasting, []string{"a"}, []string{"a"})
	k.eventually("the lease that was not renewed runs out", func() bool {
		held, err := k.Held(k.Context(), "")
		return err == nil && maps.Equal(held, map[string]string{"a": "one"})
	})
	k.take("two", lasting, []string{"a", "b"}, []string{"b"})
	k.take("one", lasting, []string{"a", "b"}, []string{"a"})
}

func testReleased(k kit) {
	k.take("one", lasting, []string{"a", "b"}, []string{"a", "b"})
	k.release("two", "a", "b", "nothing")
	k.take("two", lasting, []string{"a", "b"}, nil)
	k.release("one", "a", "nothing")
	k.release("one", "a")
	k.holds("", map[string]string{"b": "one"})
	k.take("two", lasting, []string{"a", "b"}, []string{"a"})
}

// eventually waits until f returns true.
func (k kit) eventually(what string, f func() bool) {
	k.Helper()
	for end := time.Now().Add(patient); !f(); {
		if time.Now().After(end) {
			k.Fatalf("not after %v: %s", patient, what)
		}
		k.pause(pace)
	}
}

func (k kit) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-k.Context().Done():
	}
}

func testRunOut(k kit) {
	began := time.Now()
	k.take("one", brief, []string{"a"}, []string{"a"})
	k.eventually("a lease runs out", func() bool {
		held, err := k.Acquire(k.Context(), "two", lasting, "a")
		if err != nil {
			k.Fatalf("Acquire: %v", err)
		}
		return len(held) == 1
	})
	if lasted := time.Since(began); lasted < brief {
		k.Fatalf("a lease of %v ended after %v", brief, lasted)
	}
	k.take("one", lasting, []string{"a"}, nil)
	k.release("one", "a")
	k.holds("", map[string]string{"a": "two"})
}

func testRenewedInTime(k kit) {
	last := time.Now()
	k.take("one", brief, []string{"a"}, []string{"a"})
	for end := time.Now().Add(2 * brief); time.Now().Before(end); {
		k.pause(pace)
		began := time.Now()
		held, err := k.Acquire(k.Context(), "two", brief, "a")
		if err != nil {
			k.Fatalf("Acquire: %v", err)
		}
		if len(held) > 0 {
			if time.Since(last) >= brief {
				k.Skipf("this machine was too slow to renew a lease of %v in time", brief)
			}
			k.Fatalf("a lease of %v was given to another %v after it was renewed", brief, time.Since(last))
		}
		k.take("one", brief, []string{"a"}, []string{"a"})
		last = began
	}
}

func testPrefixes(k kit) {
	names := []string{"a_b/1", "a_b/2", "axb/1", "a%b/1", "A_B/1", "a\\b/1", "b/a_b/1"}
	k.take("one", lasting, names, names)
	k.holds("a_b/", map[string]string{"a_b/1": "one", "a_b/2": "one"})
	k.holds("a%b/", map[string]string{"a%b/1": "one"})
	k.holds("a\\b/", map[string]string{"a\\b/1": "one"})
	k.holds("A", map[string]string{"A_B/1": "one"})
	k.holds("a_b/1", map[string]string{"a_b/1": "one"})
	k.holds("c", map[string]string{})
}

func testNames(k kit) {
	long := strings.Repeat("n", 190)
	names := []string{"x", "X", "x ", " x", "x'", `x"`, "é", "e\u0301", "名", long + "1", long + "2"}
	for i, name := range names {
		k.take(strconv.Itoa(i), lasting, []string{name}, []string{name})
	}
	for i, name := range names {
		k.take("another", lasting, []string{name}, nil)
		k.release(strconv.Itoa(i), name)
		k.take("another", lasting, []string{name}, []string{name})
	}
	k.take("Another", lasting, []string{"x"}, nil)
	k.take("another ", lasting, []string{"x"}, nil)
}

func testVeryMany(k kit) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = "n/" + strconv.Itoa(i)
	}
	k.take("one", lasting, names, names)
	k.take("one", lasting, names, names)
	k.take("two", lasting, names, nil)
	held, err := k.Held(k.Context(), "n/")
	if err != nil || len(held) != len(names) {
		k.Fatalf("Held: %d leases, %v; there are %d", len(held), err, len(names))
	}
	k.release("one", names...)
	k.holds("", map[string]string{})
}

func testNoNames(k kit) {
	k.take("one", lasting, nil, nil)
	k.release("one")
	k.holds("", map[string]string{})
}

// testRace lets many owners acquire the same leases at the same time, in different orders.
func testRace(k kit) {
	names := []string{"1", "2", "3", "4", "5"}
	var mu sync.Mutex
	owners := make(map[string]string)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			owner := strconv.Itoa(i)
			own := append(slices.Clone(names[i%len(names):]), names[:i%len(names)]...)
			for range 10 {
				held, err := k.Acquire(k.Context(), owner, lasting, own...)
				if err != nil {
					k.Errorf("Acquire: %v", err)
				}
				mu.Lock()
				for _, name := range held {
					if other, taken := owners[name]; taken && other != owner {
						k.Errorf("a lease is held by %s and by %s", other, owner)
					}
					owners[name] = owner
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if !k.Failed() {
		k.holds("", owners)
	}
	if len(owners) != len(names) {
		k.Errorf("%d leases of %d were given", len(owners), len(names))
	}
}

func testEndedContext(k kit) {
	k.take("one", lasting, []string{"a"}, []string{"a"})
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	if _, err := k.Acquire(ctx, "two", lasting, "b"); err == nil {
		k.Error("Acquire with an ended context succeeds")
	}
	if err := k.Release(ctx, "one", "a"); err == nil {
		k.Error("Release with an ended context succeeds")
	}
	if _, err := k.Held(ctx, ""); err == nil {
		k.Error("Held with an ended context succeeds")
	}
}
