package offline_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/offline"
)

const leaseTime = 10 * time.Second

func acquire(t *testing.T, l offline.Leaser, owner string, names ...string) []string {
	t.Helper()
	held, err := l.Acquire(t.Context(), owner, leaseTime, names...)
	require.NoError(t, err)
	slices.Sort(held)
	return held
}

func TestLeaseIsOneOwners(t *testing.T) {
	t.Parallel()
	l := offline.NewMemoryLeaser()
	require.Equal(t, []string{"a", "b"}, acquire(t, l, "one", "b", "a"))
	require.Equal(t, []string{"c"}, acquire(t, l, "two", "a", "b", "c"), "what another holds is left out, the rest is taken")
	require.Equal(t, []string{"a"}, acquire(t, l, "one", "a", "c"), "who holds a lease renews it")
	require.Empty(t, acquire(t, l, "one"), "no name, no lease")

	require.NoError(t, l.Release(t.Context(), "two", "a", "nothing"))
	require.Empty(t, acquire(t, l, "two", "a"), "only the owner ends a lease")
	require.NoError(t, l.Release(t.Context(), "one", "a", "b"))
	require.Equal(t, []string{"a", "b"}, acquire(t, l, "two", "a", "b"))
}

func TestLeaseRunsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := offline.NewMemoryLeaser()
		acquire(t, l, "one", "kept", "dropped")
		pass(t, leaseTime-1)
		acquire(t, l, "one", "kept")
		require.Empty(t, acquire(t, l, "two", "kept", "dropped"))
		pass(t, 1)
		require.Equal(t, []string{"dropped"}, acquire(t, l, "two", "kept", "dropped"), "in force until the end of its time, and not longer")
		require.Equal(t, []string{"kept"}, acquire(t, l, "one", "kept", "dropped"), "what ran out and was taken is another's")
	})
}

func TestLeasesInForce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := offline.NewMemoryLeaser()
		acquire(t, l, "one", "x/1", "x/2", "y/1")
		pass(t, leaseTime/2)
		acquire(t, l, "two", "x/3")
		held, err := l.Held(t.Context(), "x/")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"x/1": "one", "x/2": "one", "x/3": "two"}, held)
		pass(t, leaseTime/2)
		held, err = l.Held(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"x/3": "two"}, held)
		pass(t, time.Hour)
		held, err = l.Held(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, held)
		acquire(t, l, "three", "z")
	})
}

func TestLeaseContextEnded(t *testing.T) {
	t.Parallel()
	l := offline.NewMemoryLeaser()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Acquire(ctx, "one", leaseTime, "a")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, l.Release(ctx, "one", "a"), context.Canceled)
	_, err = l.Held(ctx, "")
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"a"}, acquire(t, l, "two", "a"), "nothing was taken")
}

func TestLeaseRace(t *testing.T) {
	t.Parallel()
	l := offline.NewMemoryLeaser()
	var mu sync.Mutex
	winners := make(map[string]string)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			owner := strconv.Itoa(i)
			for range 50 {
				held, err := l.Acquire(t.Context(), owner, time.Hour, "1", "2", "3")
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, name := range held {
					if w, taken := winners[name]; taken && w != owner {
						t.Errorf("%s is held by %s and %s", name, w, owner)
					}
					winners[name] = owner
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Len(t, winners, 3)
}

// pass lets time pass in a bubble, and what it set off settle.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal("the test ended first")
	case <-time.After(d):
	}
	synctest.Wait()
}
