//go:build unix

package pgstore_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// group is how many deliveries a Handler commits together under load.
const group = 32

// benchData are like those of a stored delivery: 588 bytes that do not compress well.
func benchData() [][]byte {
	all := make([][]byte, 1024)
	for i := range all {
		all[i] = make([]byte, 588)
		for j := range all[i] {
			all[i][j] = byte(' ' + rand.IntN(90)) //nolint:gosec // any text will do
		}
	}
	return all
}

// wal is what a server has written so far.
type wal struct{ bytes, syncs int64 }

func walOf(tb testing.TB, dsn string) (w wal) {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), dsn)
	require.NoError(tb, err)
	defer func() { _ = conn.Close(context.WithoutCancel(tb.Context())) }()
	require.NoError(tb, conn.QueryRow(tb.Context(),
		`SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, wal_sync FROM pg_stat_wal`).Scan(&w.bytes, &w.syncs))
	return w
}

// BenchmarkCommit stores records in groups, and settles each group with the next. An operation is a
// record.
func BenchmarkCommit(b *testing.B) {
	for _, c := range []struct {
		name  string
		marks bool // with the next records, otherwise by themselves
	}{{"settled with the next", true}, {"settled apart", false}} {
		b.Run(c.name, func(b *testing.B) {
			srv := startServer(b)
			k := newKitOn(b, srv.dsn())
			pool, err := pgxpool.New(b.Context(), srv.dsn())
			require.NoError(b, err)
			s := k.openWith(pool)
			data := benchData()
			var marks []webhook.Mark
			before := walOf(b, srv.dsn())
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += group {
				add := make([]*webhook.Record, group)
				for i := range add {
					add[i] = record((n+i)%64, "")
					add[i].Data = data[(n+i)%len(data)]
				}
				with := marks
				if !c.marks {
					with = nil
				}
				if err := s.Commit(b.Context(), add, with); err != nil {
					b.Fatal(err)
				}
				marks = marks[:0]
				for _, r := range add {
					marks = append(marks, done(r))
				}
				if !c.marks {
					if err := s.Commit(b.Context(), nil, marks); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.StopTimer()
			report(b, srv, before, pool)
		})
	}
}

// report closes the pools, which makes the sessions report their statistics.
func report(b *testing.B, srv *server, before wal, pools ...*pgxpool.Pool) {
	b.Helper()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	for _, pool := range pools {
		pool.Reset()
	}
	last := wal{}
	eventually(b, "the statistics are complete", func() bool {
		now := walOf(b, srv.dsn())
		same := now == last
		last = now
		return same
	})
	b.ReportMetric(float64(last.bytes-before.bytes)/float64(b.N), "WAL-B/record")
	b.ReportMetric(float64(last.syncs-before.syncs)/float64(b.N), "WAL-syncs/record")
}

// BenchmarkFeed stores, feeds and settles records, in one and in three processes. An operation is a
// record.
func BenchmarkFeed(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprint("replicas=", replicas), func(b *testing.B) {
			srv := startServer(b)
			k := newKitOn(b, srv.dsn())
			data := benchData()
			ctx, stop := context.WithCancel(b.Context())
			defer stop()
			var feeds, committers sync.WaitGroup
			var pools []*pgxpool.Pool
			share := (b.N + replicas*group - 1) / (replicas * group)
			var left sync.WaitGroup
			left.Add(share * replicas * group)
			before := walOf(b, srv.dsn())
			b.ReportAllocs()
			b.ResetTimer()
			for i := range replicas {
				pool, err := pgxpool.New(b.Context(), srv.dsn())
				require.NoError(b, err)
				pools = append(pools, pool)
				s := k.openWith(pool)
				marks := make(chan webhook.Mark, 1<<20)
				for part := i; part < 64; part += replicas {
					feeds.Go(func() {
						for r, err := range s.Feed(ctx, part) {
							if err != nil {
								b.Error(err)
								return
							}
							marks <- done(r)
						}
					})
				}
				committers.Go(func() {
					for n := range share {
						add := make([]*webhook.Record, group)
						for i := range add {
							add[i] = record((n*group+i*7)%64, "")
							add[i].Data = data[(n+i)%len(data)]
						}
						commitWith(ctx, b, s, add, marks, &left)
					}
					for ctx.Err() == nil { // what the others have stored for this one
						select {
						case m := <-marks:
							marks <- m
							commitWith(ctx, b, s, nil, marks, &left)
						case <-ctx.Done():
						}
					}
				})
			}
			left.Wait()
			b.StopTimer()
			stop()
			committers.Wait()
			feeds.Wait()
			report(b, srv, before, pools...)
		})
	}
}

// commitWith commits records and all marks that wait.
func commitWith(ctx context.Context, b *testing.B, s *pgstore.Store, add []*webhook.Record, waiting chan webhook.Mark, left *sync.WaitGroup) {
	b.Helper()
	var marks []webhook.Mark
	for len(waiting) > 0 {
		marks = append(marks, <-waiting)
	}
	if err := s.Commit(ctx, add, marks); err != nil && ctx.Err() == nil {
		b.Error(err)
	}
	left.Add(-len(marks))
}

// TestWALPerRecord bounds what a record costs the server, by counts.
func TestWALPerRecord(t *testing.T) {
	t.Parallel()
	const commits = 200
	srv := startServer(t)
	k := newKitOn(t, srv.dsn())
	pool, err := pgxpool.New(t.Context(), srv.dsn())
	require.NoError(t, err)
	s := k.openWith(pool)
	data := bytes.Repeat([]byte{0}, 588)
	before := walOf(t, srv.dsn())
	var marks []webhook.Mark
	for range commits {
		add := make([]*webhook.Record, group)
		for i := range add {
			add[i] = record(i, "")
			add[i].Data = data
		}
		require.NoError(t, s.Commit(t.Context(), add, marks))
		marks = marks[:0]
		for _, r := range add {
			marks = append(marks, done(r))
		}
	}
	pool.Reset()
	var after wal
	eventually(t, "the sessions report how often they have synced", func() bool {
		after = walOf(t, srv.dsn())
		return after.syncs-before.syncs >= commits
	})
	require.LessOrEqual(t, after.syncs-before.syncs, int64(commits+commits/10), "one sync for a group, stored and settled")
	require.Less(t, (after.bytes-before.bytes)/(commits*group), int64(2000), "bytes of WAL for a record, stored and settled")
}
