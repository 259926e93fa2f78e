package natsstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook/natsstore"
)

// TestLeaseClocks has a process whose clock is off by years, and stands still, share leases with
// others. It neither steals nor loses any: only the clock of the server counts.
func TestLeaseClocks(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"behind": 0, "ahead": 80 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kind, server := range sharedServers {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					url := server(t)
					space := newSpace(t, url)
					good := space.open(t)
					took := time.Now()
					held, err := good.Acquire(within(t), "good", 2*time.Second, "short")
					require.NoError(t, err)
					require.Equal(t, []string{"short"}, held)
					held, err = good.Acquire(within(t), "good", time.Hour, "long")
					require.NoError(t, err)
					require.Equal(t, []string{"long"}, held)

					synctest.Test(t, func(t *testing.T) { // the clock begins in the year 2000
						<-time.After(off)
						nc, err := nats.Connect(url, nats.NoReconnect())
						require.NoError(t, err)
						defer nc.Close()
						require.Greater(t, time.Since(took).Abs(), 365*24*time.Hour, "the clock is off")
						odd, err := natsstore.New(t.Context(), nc, natsstore.WithName(space.name))
						require.NoError(t, err)
						defer func() { _ = odd.Close() }()
						before := time.Now()
						held, err := odd.Acquire(t.Context(), "odd", 2*time.Second, "long", "mine")
						require.NoError(t, err)
						require.Equal(t, []string{"mine"}, held, "it steals nothing")
						owners, err := odd.Held(t.Context(), "")
						require.NoError(t, err)
						require.Equal(t, "good", owners["long"])
						require.Equal(t, "odd", owners["mine"])
						_, err = odd.Fence(t.Context(), "odd", "mine")
						require.NoError(t, err)
						for held = nil; len(held) == 0; { // until it runs out
							held, err = odd.Acquire(t.Context(), "odd", time.Hour, "short")
							require.NoError(t, err)
						}
						require.WithinDuration(t, before, time.Now(), time.Minute, "the clock stands still")
					})
					held, err = good.Acquire(within(t), "good", time.Hour, "short", "long")
					require.NoError(t, err)
					require.Equal(t, []string{"long"}, held, "the one that ran out is the other's, the other one is still there")
				})
			}
		})
	}
}

// TestFence checks that the numbers of a lease grow, and that they end with it.
func TestFence(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			s := newSpace(t, url).open(t)
			var last uint64
			fence := func(owner string) uint64 {
				t.Helper()
				n, err := s.Fence(within(t), owner, "lease")
				require.NoError(t, err)
				require.Greater(t, n, last)
				return n
			}
			acquire := func(owner string, ttl time.Duration, want bool) {
				t.Helper()
				held, err := s.Acquire(within(t), owner, ttl, "lease", "lease")
				require.NoError(t, err)
				require.Len(t, held, map[bool]int{true: 1}[want])
			}
			_, err := s.Fence(within(t), "one", "lease")
			require.ErrorIs(t, err, natsstore.ErrNotHeld)
			acquire("one", time.Hour, true)
			last = fence("one")
			again, err := s.Fence(within(t), "one", "lease")
			require.NoError(t, err)
			require.Equal(t, last, again, "asking changes nothing")
			acquire("one", time.Hour, true)
			last = fence("one")
			acquire("two", time.Hour, false)
			_, err = s.Fence(within(t), "two", "lease")
			require.ErrorIs(t, err, natsstore.ErrNotHeld)
			require.NoError(t, s.Release(within(t), "one", "lease"))
			_, err = s.Fence(within(t), "one", "lease")
			require.ErrorIs(t, err, natsstore.ErrNotHeld)
			acquire("two", 50*time.Millisecond, true)
			require.Eventually(t, func() bool {
				_, err = s.Fence(within(t), "two", "lease")
				return err != nil
			}, patience, pace)
			require.ErrorIs(t, err, natsstore.ErrNotHeld, "it ran out")
			acquire("one", time.Hour, true)
			fence("one")
		})
	}
}

// TestStaleLeases checks that Held deletes leases that ended long ago.
func TestStaleLeases(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			s := space.open(t)
			var names []string
			for i := range 50 {
				names = append(names, fmt.Sprint("owner ", i))
			}
			_, err := s.Acquire(within(t), "me", -time.Hour, names...)
			require.NoError(t, err)
			_, err = s.Acquire(within(t), "me", time.Hour, "mine")
			require.NoError(t, err)
			_, err = s.Acquire(within(t), "me", -time.Second, "just over")
			require.NoError(t, err)
			held, err := s.Held(within(t), "")
			require.NoError(t, err)
			require.Equal(t, map[string]string{"mine": "me"}, held)
			const clock = 1
			require.Eventually(t, func() bool { return space.count(t, "-leases") == 2+clock }, patience, pace)
			require.NoError(t, s.Release(within(t), "me", "mine", "just over", "never"))
			require.Equal(t, clock, space.count(t, "-leases"))
		})
	}
}

func TestLeaseNames(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			s := newSpace(t, url).open(t)
			names := []string{"", ".", "..", "*", ">", " ", "a.b", "a.>", "$JS.API", "\x00", "\xff", "a\r\nb", strings.Repeat("n", 1024)}
			held, err := s.Acquire(within(t), "o\r\n\x00\"", time.Hour, names...)
			require.NoError(t, err)
			require.Equal(t, names, held)
			owners, err := s.Held(within(t), "a")
			require.NoError(t, err)
			require.Equal(t, map[string]string{"a.b": "o\r\n\x00\"", "a.>": "o\r\n\x00\"", "a\r\nb": "o\r\n\x00\""}, owners)
			for name, err := range map[string]error{
				"Acquire": second(s.Acquire(within(t), "me", time.Hour, strings.Repeat("n", 1025))),
				"Release": s.Release(within(t), "me", strings.Repeat("n", 1025)),
				"Fence":   second(s.Fence(within(t), "me", strings.Repeat("n", 1025))),
			} {
				require.ErrorContains(t, err, "1024 bytes", name)
			}
		})
	}
}

// TestLeaseOfServerKilled kills the server while leases are held. They are there when it is back.
func TestLeaseOfServerKilled(t *testing.T) {
	t.Parallel()
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, program(t), "")
			space := newSpace(t, s.url())
			one, two := space.open(t), space.open(t)
			for n := range 4 {
				held, err := one.Acquire(within(t), "one", time.Hour, "a", "b")
				require.NoError(t, err)
				require.Equal(t, []string{"a", "b"}, held, "round %d", n)
				s.kill()
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				_, err = two.Acquire(ctx, "two", time.Hour, "a")
				cancel()
				require.ErrorIs(t, err, context.DeadlineExceeded)
				s.start(t)
				held, err = two.Acquire(within(t), "two", time.Hour, "a", "b")
				require.NoError(t, err)
				require.Empty(t, held)
			}
			require.NoError(t, one.Release(within(t), "one", "a", "b"))
			held, err := two.Acquire(within(t), "two", time.Hour, "a", "b")
			require.NoError(t, err)
			require.Equal(t, []string{"a", "b"}, held)
		})
	}
}
