package sqlitestore_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

// BenchmarkGroups commits groups of records of 600 bytes and settles the ones that the Feed
// yielded, as a Handler does. The time is that of a record.
func BenchmarkGroups(b *testing.B) {
	for _, c := range []struct {
		name      string
		group     int
		scattered bool
		opts      []sqlitestore.Option
	}{
		{"32", 32, false, nil},
		{"32 settled in another order", 32, true, nil},
		{"1", 1, false, nil},
		{"512", 512, false, nil},
		{"32 normal", 32, false, []sqlitestore.Option{sqlitestore.WithSynchronous(sqlitestore.Normal)}},
		{"32 kept", 32, false, []sqlitestore.Option{sqlitestore.WithKeep(time.Hour)}},
	} {
		b.Run(c.name, func(b *testing.B) { benchGroups(b, c.group, c.scattered, c.opts...) })
	}
}

func benchGroups(b *testing.B, group int, scattered bool, opts ...sqlitestore.Option) {
	b.Helper()
	s, err := sqlitestore.Open(b.Context(), filepath.Join(b.TempDir(), "queue.db"), opts...)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	fed := make(chan *webhook.Record, 4096)
	go func() {
		defer close(fed)
		for r, err := range s.Feed(b.Context(), 0) {
			if err != nil {
				b.Errorf("Feed: %v", err)
				return
			}
			fed <- r
		}
	}()
	data := make([]byte, 600)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in each run
	var left []webhook.Mark
	user, system := cpuTime()
	b.ReportAllocs()
	commits := 0
	for n := 0; n < b.N; n += group {
		add := make([]*webhook.Record, min(group, b.N-n))
		for i := range add {
			add[i] = &webhook.Record{
				Name: "ONCRMDEALUPDATE", MemberID: "a223c6b3710f85df22e9377d6c4f7553", Received: time.Now(),
				Data: data,
			}
		}
		marks := left[:min(len(left), group)]
		if scattered && len(left) < 8*group {
			marks = nil
		}
		if err := s.Commit(b.Context(), add, marks); err != nil {
			b.Fatal(err)
		}
		commits++
		left = left[len(marks):]
		for range add {
			r := <-fed
			left = append(left, webhook.Mark{ID: r.ID, State: webhook.StateDone})
		}
		if scattered {
			random.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
	}
	u, sys := cpuTime()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64((u-user).Nanoseconds())/float64(b.N), "user-ns/op")
	b.ReportMetric(float64((sys-system).Nanoseconds())/float64(b.N), "system-ns/op")
	b.ReportMetric(float64(b.N)/float64(commits), "records/commit")
}
