package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth/sqlstore"
)

// age makes the leases of a place a number of minutes older.
func age(t *testing.T, p place, minutes int64) {
	t.Helper()
	run(t, p.open(t), fmt.Sprintf("UPDATE %s SET expires_at = expires_at - %d, fence = fence - %[2]d", p.table("leases"), minutes*60_000_000))
}

func acquire(tb testing.TB, s *sqlstore.Store, owner string, names ...string) []string {
	tb.Helper()
	held, err := s.Acquire(tb.Context(), owner, time.Minute, names...)
	require.NoError(tb, err)
	return held
}

// fence returns the fencing token of the lease "a", which owner holds.
func fence(tb testing.TB, s *sqlstore.Store, owner string) int64 {
	tb.Helper()
	tokens, err := s.Fences(tb.Context(), owner, "a")
	require.NoError(tb, err)
	require.Contains(tb, tokens, "a")
	return tokens["a"]
}

func TestFences(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		s := p.store(t)
		before := time.Now().Add(-time.Hour).UnixMicro()
		acquire(t, s, "one", "a", "b")
		last := fence(t, s, "one")
		require.Greater(t, last, before, "it is a time")
		acquire(t, s, "one", "a")
		require.Equal(t, last, fence(t, s, "one"), "to renew a lease does not change it")
		tokens, err := s.Fences(t.Context(), "two", "a", "b", "nothing")
		require.NoError(t, err)
		require.Empty(t, tokens, "they are another's")
		tokens, err = s.Fences(t.Context(), "one")
		require.NoError(t, err)
		require.Empty(t, tokens)

		grows := func(owner, how string) {
			t.Helper()
			require.Equal(t, []string{"a"}, acquire(t, s, owner, "a"), how)
			next := fence(t, s, owner)
			require.Greater(t, next, last, how)
			last = next
		}
		require.NoError(t, s.Release(t.Context(), "one", "a"))
		grows("two", "after a release")
		require.NoError(t, s.Release(t.Context(), "two", "a"))
		grows("two", "after a release by the same owner")
		age(t, p, 2)
		last = fence0(t, p)
		tokens, err = s.Fences(t.Context(), "two", "a")
		require.NoError(t, err)
		require.Empty(t, tokens, "it has run out")
		grows("one", "after it ran out")
		age(t, p, 2)
		last = fence0(t, p)
		grows("one", "after it ran out, by the same owner")

		age(t, p, 2)
		run(t, p.open(t), "UPDATE "+p.table("leases")+" SET fence = fence + 3600000000") // the clock was set back by an hour
		last = fence0(t, p)
		grows("two", "after the clock was set back")
		require.Equal(t, last, fence0(t, p))
		require.NoError(t, s.Release(t.Context(), "two", "a"))
		grows("one", "after the clock was set back, again")

		age(t, p, 75) // the clock has made up for it
		s.DeleteExpired(t.Context())
		require.Zero(t, number(t, p.open(t), "SELECT COUNT(*) FROM "+p.table("leases")))
		last -= 75 * 60_000_000
		grows("two", "after it was forgotten")
	})
}

// fence0 reads the greatest fence of all.
func fence0(tb testing.TB, p place) int64 {
	tb.Helper()
	return number(tb, p.open(tb), "SELECT MAX(fence) FROM "+p.table("leases"))
}

// TestDeleteExpired deletes leases that expired long ago, and no others.
func TestDeleteExpired(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		s := p.store(t)
		names := make([]string, 2500)
		for i := range names {
			names[i] = strconv.Itoa(i)
		}
		acquire(t, s, "one", names...)
		age(t, p, 12)
		acquire(t, s, "one", "in force", "7")
		acquire(t, s, "two", "released")
		require.NoError(t, s.Release(t.Context(), "two", "released"))
		acquire(t, s, "two", "just over")
		run(t, p.open(t),
			"UPDATE "+p.table("leases")+" SET expires_at = expires_at - 120000000 WHERE owner = "+bytesOf(p, "two")+" AND expires_at > 0")
		left := func() int64 { return number(t, p.open(t), "SELECT COUNT(*) FROM "+p.table("leases")) }
		require.EqualValues(t, 2503, left(), "this process has looked less than a minute ago")
		another := p.store(t)
		acquire(t, another, "one", "7")
		require.EqualValues(t, 1503, left(), "the first Acquire of a process forgets 1,000 leases")
		acquire(t, another, "one", "7")
		require.EqualValues(t, 503, left(), "and each after it while there are more")
		acquire(t, another, "one", "7")
		require.EqualValues(t, 3, left(), "the lease in force, 7, and the one that is just over")
		held, err := s.Held(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"in force": "one", "7": "one"}, held)
	})
}

// bytesOf returns a literal of a text as bytes.
func bytesOf(p place, text string) string {
	if p.dialect() == sqlstore.SQLite {
		return "CAST('" + text + "' AS BLOB)"
	}
	return "'" + text + "'"
}

func TestLeaseArguments(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		s := p.store(t)
		longest := strings.Repeat("\xff", sqlstore.MaxNameLength)
		names := []string{longest, longest[1:], "\x00", "\x00\x00", "\xff", "a", "A", "a ", "a\x00"}
		slices.Sort(names)
		require.Equal(t, names, acquire(t, s, strings.Repeat("\xff", sqlstore.MaxOwnerLength), append(slices.Clone(names), names...)...),
			"twice the same names")
		held, err := s.Held(t.Context(), "\xff")
		require.NoError(t, err)
		require.Len(t, held, 3)
		require.Empty(t, acquire(t, s, "another", names...))
		require.NoError(t, s.Release(t.Context(), "another", append(names, names...)...))
		held, err = s.Held(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, held, len(names))

		for what, acquire := range map[string]func() error{
			"an empty name":  func() error { return second(s.Acquire(t.Context(), "one", time.Minute, "a", "")) },
			"a long name":    func() error { return s.Release(t.Context(), "one", longest+"x") },
			"no owner":       func() error { return second(s.Acquire(t.Context(), "", time.Minute, "a")) },
			"a long owner":   func() error { return second(s.Fences(t.Context(), strings.Repeat("o", 256), "a")) },
			"no time":        func() error { return second(s.Acquire(t.Context(), "one", 0, "a")) },
			"a time of less": func() error { return second(s.Acquire(t.Context(), "one", -1, "a")) },
		} {
			require.ErrorContains(t, acquire(), "sqlstore: a lease needs", what)
		}
		names, err = s.Acquire(t.Context(), "one", 1<<63-1, "for 292 years")
		require.NoError(t, err)
		require.Len(t, names, 1)
	})
}

func second[T any](_ T, err error) error { return err }

// TestStatementsOfManyNames counts the statements that 1,000 names take.
func TestStatementsOfManyNames(t *testing.T) {
	t.Parallel()
	p := freshPostgreSQL(t)
	cfg, err := pgx.ParseConfig(p.DSN)
	require.NoError(t, err)
	var count counter
	cfg.Tracer = &count
	db := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s := p.on(t, db)
	acquire(t, s, "one", "first") // which also looks for leases to forget
	names := make([]string, 1000)
	for i := range names {
		names[i] = "lease/" + strconv.Itoa(i)
	}
	statements := func(f func()) int64 {
		before := count.Load()
		f()
		return count.Load() - before
	}
	require.EqualValues(t, 1, statements(func() { require.Len(t, acquire(t, s, "one", names...), 1000) }))
	require.EqualValues(t, 1, statements(func() { require.Len(t, acquire(t, s, "one", names...), 1000) }))
	require.EqualValues(t, 1, statements(func() { require.Empty(t, acquire(t, s, "two", names...)) }))
	require.EqualValues(t, 1, statements(func() { require.NoError(t, s.Release(t.Context(), "one", names...)) }))
	require.EqualValues(t, 0, statements(func() { require.Empty(t, acquire(t, s, "one")) }))
}

type counter struct{ atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestLeasesUnderContention lets owners take, renew and release overlapping sets of leases, in any
// order. No lease has two owners, no call fails, and fences only grow.
func TestLeasesUnderContention(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		const owners, leases, rounds = 8, 40, 15
		var (
			mu      sync.Mutex
			holders = make(map[string]string)
			fences  = make(map[string]int64)
			wg      sync.WaitGroup
			changes int
		)
		for n := range owners {
			s, owner := p.store(t), fmt.Sprint("owner ", n)
			wg.Go(func() {
				for range rounds {
					var names []string
					for _, i := range rand.Perm(leases)[:leases/2] { //nolint:gosec // no secret
						names = append(names, strconv.Itoa(i))
					}
					held, err := s.Acquire(t.Context(), owner, time.Hour, names...)
					if err != nil {
						t.Errorf("Acquire: %v, %v", err, errors.Unwrap(err))
						return
					}
					mu.Lock()
					for _, name := range held {
						if other := holders[name]; other != "" {
							t.Errorf("lease %s has the owners %s and %s", name, owner, other)
						}
						holders[name] = owner
					}
					mu.Unlock()
					tokens, err := s.Fences(t.Context(), owner, held...)
					if err != nil || len(tokens) != len(held) {
						t.Errorf("Fences: %d of %d leases, %v", len(tokens), len(held), err)
						return
					}
					mu.Lock()
					for name, token := range tokens {
						if token <= fences[name] {
							t.Errorf("the fence of %s went from %d to %d", name, fences[name], token)
						}
						fences[name] = token
						changes++
						delete(holders, name)
					}
					mu.Unlock()
					if err := s.Release(t.Context(), owner, held...); err != nil {
						t.Errorf("Release: %v, %v", err, errors.Unwrap(err))
						return
					}
				}
			})
		}
		wg.Wait()
		require.Greater(t, changes, owners*rounds, "they did not get in each other's way")
	})
}

// TestOneTakesWhatRanOut lets many owners wait for one lease to expire.
func TestOneTakesWhatRanOut(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		stores := []*sqlstore.Store{p.store(t), p.store(t)}
		for round := range 3 {
			name := strconv.Itoa(round)
			_, err := stores[0].Acquire(t.Context(), "dead", 100*time.Millisecond, name)
			require.NoError(t, err)
			var taken atomic.Int64
			var wg sync.WaitGroup
			for n := range 8 {
				wg.Go(func() {
					for taken.Load() == 0 {
						held, err := stores[n%2].Acquire(t.Context(), strconv.Itoa(n), time.Hour, name)
						if err != nil {
							t.Errorf("Acquire: %v, %v", err, errors.Unwrap(err))
							return
						}
						taken.Add(int64(len(held)))
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, 1, taken.Load())
		}
	})
}

// TestWrongClock takes leases in a process whose clock shows the year 2000. Only the database's
// clock counts. SQLite has only the clock of the machine.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	networked(t, func(t *testing.T, p place) {
		t.Helper()
		right := p.store(t)
		synctest.Test(t, func(t *testing.T) {
			require.Equal(t, 2000, time.Now().Year())
			wrong := p.store(t)
			acquire(t, wrong, "slow", "a")
			_, err := wrong.Swap(t.Context(), portal, "", installation("one"))
			require.NoError(t, err)
		})
		require.Empty(t, acquire(t, right, "fast", "a"), "it is in force")
		held, err := right.Held(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "slow"}, held)
		acquire(t, right, "fast", "b")
		synctest.Test(t, func(t *testing.T) {
			wrong := p.store(t)
			require.Empty(t, acquire(t, wrong, "slow", "b"), "it is in force")
		})
		age(t, p, 2)
		require.Len(t, acquire(t, right, "fast", "a"), 1)
		synctest.Test(t, func(t *testing.T) {
			wrong := p.store(t)
			require.Empty(t, acquire(t, wrong, "slow", "a"))
			require.Len(t, acquire(t, wrong, "slow", "b"), 1, "it has run out")
		})
	})
}
