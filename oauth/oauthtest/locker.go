package oauthtest

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/b24events/b24events/oauth"
)

const (
	lasting = time.Hour   // for locks that must not run out
	brief   = time.Second // for locks that must
	patient = 10 * time.Second
)

// TestLocker checks an [oauth.Locker]. newLocker returns one that holds nothing. It is called once
// in each subtest, with the subtest's t. The suite waits for locks that last a second to run out.
func TestLocker(t *testing.T, newLocker func(t *testing.T) oauth.Locker) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(k lockerKit)
	}{
		{"one owner", testLockOwner},
		{"released", testLockRelease},
		{"runs out", testLockRunsOut},
		{"names", testLockNames},
		{"race", testLockRace},
		{"canceled", testLockCanceled},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(lockerKit{t, newLocker(t)}) })
	}
}

type lockerKit struct {
	*testing.T

	oauth.Locker
}

// take acquires locks and checks which of them were given.
func (k lockerKit) take(owner string, ttl time.Duration, names, want []string) {
	k.Helper()
	held, err := k.Acquire(k.Context(), owner, ttl, names...)
	if err != nil {
		k.Fatalf("Acquire: unexpected error: %v", err)
	}
	held, want = slices.Sorted(slices.Values(held)), slices.Sorted(slices.Values(want))
	if !slices.Equal(held, want) {
		k.Fatalf("%s acquires %q and gets %q, want %q", owner, names, held, want)
	}
}

func (k lockerKit) end(owner string, names ...string) {
	k.Helper()
	if err := k.Release(k.Context(), owner, names...); err != nil {
		k.Fatalf("Release: unexpected error: %v", err)
	}
}

func testLockOwner(k lockerKit) {
	k.take("one", lasting, []string{"a", "b"}, []string{"a", "b"})
	k.take("two", lasting, []string{"a", "b", "c"}, []string{"c"})
	k.take("one", lasting, []string{"a", "c"}, []string{"a"})
	k.take("One", lasting, []string{"a"}, nil)
	k.take("one", lasting, nil, nil)
	k.end("one")
}

func testLockRelease(k lockerKit) {
	k.take("one", lasting, []string{"a", "b"}, []string{"a", "b"})
	k.end("two", "a", "b", "nothing")
	k.take("two", lasting, []string{"a", "b"}, nil)
	k.end("one", "a")
	k.end("one", "a")
	k.take("two", lasting, []string{"a", "b"}, []string{"a"})
	k.end("one", "a") // is another's now
	k.take("one", lasting, []string{"a"}, nil)
}

func testLockRunsOut(k lockerKit) {
	began := time.Now()
	k.take("one", brief, []string{"a", "prolonged"}, []string{"a", "prolonged"})
	k.take("one", lasting, []string{"prolonged"}, []string{"prolonged"})
	for held := []string(nil); len(held) == 0; {
		var err error
		if held, err = k.Acquire(k.Context(), "two", lasting, "a", "prolonged"); err != nil {
			k.Fatalf("Acquire: unexpected error: %v", err)
		}
		if slices.Contains(held, "prolonged") {
			k.Fatal("a lock that was extended by an hour has run out")
		}
		if time.Since(began) > patient {
			k.Fatalf("a lock of %v has not run out after %v", brief, patient)
		}
		select {
		case <-time.After(brief / 50):
		case <-k.Context().Done():
		}
	}
	if lasted := time.Since(began); lasted < brief {
		k.Errorf("a lock of %v has run out after %v", brief, lasted)
	}
	k.end("one", "a")
	k.take("one", lasting, []string{"a"}, nil)
}

func testLockNames(k lockerKit) {
	names := []string{
		"x", "X", "x ", " x", "x/y", "x'", "é", "e\u0301", "../x", application + "/" + portal.MemberID,
		application + "/" + portal.MemberID + "/7",
	}
	for i, name := range names {
		k.take(strconv.Itoa(i), lasting, []string{name}, []string{name})
	}
	for _, name := range names {
		k.take("another", lasting, []string{name}, nil)
	}
}

func testLockRace(k lockerKit) {
	for round := range races {
		name := strconv.Itoa(round)
		var (
			mu     sync.Mutex
			owners []string
			wg     sync.WaitGroup
			start  = make(chan struct{})
		)
		for n := range racers {
			wg.Go(func() {
				<-start
				owner := strconv.Itoa(n)
				held, err := k.Acquire(k.Context(), owner, lasting, name)
				if err != nil {
					k.Errorf("Acquire: unexpected error: %v", err)
				}
				if len(held) > 0 {
					mu.Lock()
					owners = append(owners, owner)
					mu.Unlock()
				}
			})
		}
		close(start)
		wg.Wait()
		if len(owners) != 1 {
			k.Fatalf("%d of %d got one lock, want 1", len(owners), racers)
		}
	}
}

func testLockCanceled(k lockerKit) {
	k.take("one", lasting, []string{"a"}, []string{"a"})
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	if _, err := k.Acquire(ctx, "two", lasting, "b"); err == nil {
		k.Error("Acquire with an ended context: want an error")
	}
	if err := k.Release(ctx, "one", "a"); err == nil {
		k.Error("Release with an ended context: want an error")
	}
	k.take("two", lasting, []string{"a"}, nil)
}
