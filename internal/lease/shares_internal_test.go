package lease

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const manyParts = 16

// settled is longer than members need to divide the parts after a member came or went.
const settled = 4*whole + ttl

func TestPartsAreDividedEvenly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		join := func() *worker { return startShares(t, s.client(), &wallClock{}, manyParts) }
		a := join()
		synctest.Wait()
		require.Equal(t, []int{manyParts}, parts(a), "at once")
		b := join()
		pass(settled)
		require.Equal(t, []int{8, 8}, parts(a, b))
		c := join()
		pass(settled)
		n := parts(a, b, c)
		slices.Sort(n)
		require.Equal(t, []int{5, 5, 6}, n)
		mine := a.seen().leases
		pass(time.Hour)
		require.Equal(t, mine, a.seen().leases, "nothing moves without a reason")
		for _, w := range []*worker{a, b, c} {
			require.Empty(t, w.seen().lost)
			for i, l := range w.seen().leases {
				require.True(t, l.Valid())
				owner, _ := s.owner(w.shares.partName(i))
				require.Equal(t, w.shares.keeper.owner, owner)
			}
		}

		b.shares.Quit()
		pass(2*whole + step/10)
		require.Equal(t, []int{8, 0, 8}, parts(a, b, c), "what is at rest passes on at once")
		b.shares.Stop()
		require.False(t, b.shares.Note("late"))
		a.shares.Stop()
		c.shares.Stop()
		require.Empty(t, s.names(""))
	})
}

func TestPrefixesAreKeptApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := startShares(t, s.client(), &wallClock{}, manyParts)
		b := &worker{leases: make(map[int]*Lease)}
		b.shares = StartShares(t.Context(), Config{Leaser: s.client(), TTL: ttl, Prefix: "q/", Log: quiet()}, 3, b)
		pass(settled)
		require.Equal(t, []int{manyParts, 3}, parts(a, b))
		b.shares.Stop()
		require.Equal(t, []int{manyParts}, parts(a))
	})
}

// A part that is to be left stays leased until the worker reports that it is at rest.
func TestPartIsReleasedAtRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := startShares(t, s.client(), &wallClock{}, manyParts)
		a.keep = func(int) bool { return true }
		pass(time.Minute)
		b := startShares(t, s.client(), &wallClock{}, manyParts)
		pass(20 * ttl)
		left := a.seen().left
		require.Len(t, left, 8, "each is asked for once")
		require.Equal(t, []int{16, 0}, parts(a, b))
		for _, i := range left {
			require.True(t, a.seen().leases[i].Valid())
		}
		a.shares.Rest(left[0])
		a.shares.Rest(left[0])
		for i := range manyParts {
			if !slices.Contains(left, i) {
				a.shares.Rest(i) // it was not asked for
			}
		}
		pass(step/10 + whole)
		require.Equal(t, []int{left[0]}, slices.Collect(maps.Keys(b.seen().leases)))
		require.False(t, a.seen().leases[left[0]].Valid())
		require.Empty(t, a.seen().lost)

		a.shares.Quit()
		pass(20 * ttl)
		require.Len(t, a.seen().left, 16)
		require.Equal(t, []int{1}, parts(b), "also at the end")
		for _, i := range left[1:] {
			require.True(t, a.seen().leases[i].Valid())
			a.shares.Rest(i)
		}
		pass(step/10 + whole)
		require.Equal(t, []int{8}, parts(b))
		a.shares.Stop()
		pass(whole)
		require.Equal(t, []int{16}, parts(b))
	})
}

// A part that does not come to rest is taken back, and another is left instead.
func TestPartIsTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := startShares(t, s.client(), &wallClock{}, manyParts)
		pass(time.Minute)
		stuck := manyParts - 1
		a.keep = func(i int) bool { return i == stuck }
		b := startShares(t, s.client(), &wallClock{}, manyParts)
		pass(settled)
		require.Contains(t, a.seen().left, stuck)
		require.Equal(t, []int{9, 7}, parts(a, b))
		require.False(t, a.shares.TakeBack(0), "it was not asked for")
		require.True(t, a.shares.TakeBack(stuck))
		pass(settled)
		require.Equal(t, []int{8, 8}, parts(a, b))
		require.Contains(t, a.seen().leases, stuck)
		require.True(t, a.seen().leases[stuck].Valid())
		n := len(a.seen().left)

		c := startShares(t, s.client(), &wallClock{}, manyParts)
		pass(settled)
		require.NotContains(t, a.seen().left[n:], stuck, "it is not asked for again")
		a.shares.Unpin(stuck)
		c.shares.Stop()
		pass(settled)
		n = len(a.seen().left)
		startShares(t, s.client(), &wallClock{}, manyParts)
		pass(settled)
		require.Contains(t, a.seen().left[n:], stuck, "it may be now")
		a.shares.Rest(stuck)
		require.False(t, a.shares.TakeBack(stuck), "it is as good as released")
		a.shares.Quit()
		pass(settled)
		for i := range manyParts {
			require.False(t, a.shares.TakeBack(i))
		}
	})
}

// A pinned part is left at the end, and cannot be taken back then.
func TestPinnedPartIsLeftAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := startShares(t, s.client(), &wallClock{}, 2)
		a.keep = func(int) bool { return true }
		pass(time.Minute)
		startShares(t, s.client(), &wallClock{}, 2)
		pass(settled)
		i := a.seen().left[0]
		require.True(t, a.shares.TakeBack(i))
		a.shares.Quit()
		pass(settled)
		require.Equal(t, 2, countOf(a.seen().left, i))
		require.False(t, a.shares.TakeBack(i))
	})
}

func countOf(all []int, i int) (n int) {
	for _, j := range all {
		if j == i {
			n++
		}
	}
	return n
}

// Lost parts are reported in time, whatever the store does, and are gained again with another
// lease.
func TestPartsAreLostAndGainedAgain(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(c *client) (end func()){
		"hangs": (*client).hang,
		"does not answer": func(c *client) func() {
			c.fail(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
			return func() { c.fail(nil) }
		},
		"fails": func(c *client) func() {
			c.fail(down)
			return func() { c.fail(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				c := s.client()
				a := startShares(t, c, &wallClock{}, manyParts)
				pass(time.Minute)
				before := a.seen().leases
				last := c.report().last
				end := fault(c)
				<-before[0].Lost()
				synctest.Wait()
				require.LessOrEqual(t, time.Since(last), ttl-ttl/10)
				require.Len(t, a.seen().lost, manyParts, "at the same moment")
				for _, l := range before {
					require.True(t, lost(l))
				}
				b := startShares(t, s.client(), &wallClock{}, manyParts)
				pass(settled)
				require.Equal(t, []int{0, manyParts}, parts(a, b))
				b.shares.Stop()
				pass(time.Hour)
				require.Equal(t, []int{0}, parts(a))
				end()
				pass(settled)
				require.Equal(t, []int{manyParts}, parts(a))
				for i, l := range a.seen().leases {
					require.NotSame(t, before[i], l)
					require.True(t, l.Valid())
				}
				require.Equal(t, 1, c.report().most)
			})
		})
	}
}

// The clock jumps ahead and back. If the Keeper notices, the parts are lost and gained again. If
// not, nothing happens. No part is forgotten.
func TestNoPartIsForgottenWhenTheClockJumps(t *testing.T) {
	t.Parallel()
	for _, noticed := range []bool{true, false} {
		t.Run(fmt.Sprint("noticed ", noticed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				w := &wallClock{}
				a := startShares(t, s.client(), w, manyParts)
				pass(time.Minute)
				first := a.seen().leases
				w.set(time.Hour)
				if noticed {
					require.False(t, first[3].Valid())
				}
				w.set(0)
				pass(2 * whole)
				now := a.seen()
				require.Len(t, now.leases, manyParts)
				for i, l := range now.leases {
					require.True(t, l.Valid())
					require.Equal(t, noticed && i == 3, l != first[i], "only what was looked at is lost")
				}
				if noticed {
					require.Equal(t, []int{3}, now.lost)
				} else {
					require.Empty(t, now.lost)
				}
			})
		})
	}
}

// A part is lost while it is being left as well. One at rest is not reported, because the worker is
// done with it.
func TestPartIsLostWhileItIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, clk := newStore().client(), &wallClock{}
		a := startShares(t, c, clk, 4)
		a.keep = func(int) bool { return true }
		pass(time.Minute)
		a.shares.Quit()
		pass(step)
		inside := make(chan struct{})
		once := sync.OnceFunc(func() { close(inside) })
		c.fail(func(ctx context.Context, _ string) error {
			once()
			<-ctx.Done()
			return ctx.Err()
		})
		<-inside
		a.shares.Rest(1)
		clk.set(ttl)
		pass(step/2 + step/10)
		lost := a.seen().lost
		slices.Sort(lost)
		require.Equal(t, []int{0, 2, 3}, lost)
		require.False(t, a.shares.TakeBack(0))
		c.fail(nil)
	})
}

// Each call takes nearly as long as it may. Renewals come in time all the same.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		slow := func(context.Context, string) error {
			<-time.After(step - time.Millisecond)
			return nil
		}
		ca, cb := s.client(), s.client()
		ca.fail(slow)
		cb.fail(slow)
		a := startShares(t, ca, &wallClock{}, manyParts)
		pass(settled)
		for range 5 {
			b := startShares(t, cb, &wallClock{}, manyParts)
			pass(8 * ttl)
			require.Equal(t, []int{8, 8}, parts(a, b))
			require.True(t, b.shares.Note("x"))
			pass(4 * ttl)
			require.NotEmpty(t, a.seen().notes)
			b.keep = func(int) bool { return true }
			b.shares.Quit()
			for i := range manyParts {
				b.shares.Rest(i) // one after the other, so that there is always one to release
				b.shares.Note(strconv.Itoa(i))
				pass(step * 3 / 4)
			}
			pass(4 * ttl)
			require.Equal(t, []int{16}, parts(a))
			require.Empty(t, b.seen().lost)
			b.shares.Stop()
		}
		require.Empty(t, a.seen().lost)
	})
}

// The store may still carry out a release that it did not confirm. The part is not acquired before
// that is known.
func TestUnconfirmedRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c := s.client()
		a := startShares(t, c, &wallClock{}, 4)
		pass(time.Minute)
		c.fail(func(_ context.Context, method string) error {
			if method == "Release" {
				return errStore
			}
			return nil
		})
		b := startShares(t, s.client(), &wallClock{}, 4)
		pass(2 * whole)
		left := a.seen().left
		require.Len(t, left, 2)
		b.shares.Stop()
		pass(2 * whole)
		require.Equal(t, []int{2}, parts(a), "they are in doubt")
		pass(ttl + 2*whole)
		require.Equal(t, []int{4}, parts(a), "they have run out")
	})
}

// Requests that come during a call of the store are met after it.
func TestQuitDuringACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c := s.client()
		for _, method := range []string{"Acquire", "Held"} {
			a := startShares(t, c, &wallClock{}, manyParts)
			inside := make(chan struct{})
			once := sync.OnceFunc(func() { close(inside) })
			c.fail(func(_ context.Context, m string) error {
				if m == method {
					once()
					<-time.After(step / 2)
				}
				return nil
			})
			<-inside
			a.shares.Quit()
			pass(step + step/10)
			require.Empty(t, s.names("p/member/"))
			a.shares.Stop()
			require.Empty(t, s.names(""))
			c.fail(nil)
		}
	})
}

// Notes reach every owner that holds a lease meanwhile, also the one that left them.
func TestNotesReachAllMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := startShares(t, s.client(), &wallClock{}, manyParts)
		b := startShares(t, s.client(), &wallClock{}, manyParts)
		pass(settled)
		require.True(t, a.shares.Note("portal"))
		pass(step/10 + whole)
		require.Equal(t, []string{"portal"}, a.seen().notes)
		require.Equal(t, []string{"portal"}, b.seen().notes)
	})
}
