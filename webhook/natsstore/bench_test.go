package natsstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// BenchmarkStore stores and settles records of 588 bytes in groups of 32: each Commit stores a
// group and marks those done that a Feed has yielded meanwhile. It ends when all are settled.
func BenchmarkStore(b *testing.B) {
	for name, url := range sharedServers {
		b.Run(name, func(b *testing.B) {
			for _, c := range []struct {
				name string
				opts []natsstore.Option
			}{
				{"deleted", nil},
				{"kept", []natsstore.Option{natsstore.WithKeep(time.Hour)}},
			} {
				b.Run(c.name, func(b *testing.B) { storeAndSettle(b, newSpace(b, url(b), c.opts...).open(b)) })
			}
		})
	}
}

func storeAndSettle(b *testing.B, s *natsstore.Store) {
	b.Helper()
	const group = 32
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	yielded := make(chan *webhook.Record, 1<<16)
	go func() {
		for r, err := range s.Feed(ctx, 0) {
			if err != nil {
				b.Error(err)
				return
			}
			yielded <- r
		}
	}()
	body := make([]byte, 588)
	settled := 0
	marks := func(most int) []webhook.Mark {
		var list []webhook.Mark
		for len(list) < most {
			select {
			case r := <-yielded:
				list = append(list, webhook.Mark{ID: r.ID, State: webhook.StateDone})
			default:
				return list
			}
		}
		return list
	}
	b.ReportAllocs()
	stored := 0
	for b.Loop() {
		add := make([]*webhook.Record, group)
		for i := range add {
			add[i] = &webhook.Record{
				Name: "ONCRMDEALUPDATE", MemberID: "a223c6b3710f85df22e9377d6c4f7553", Received: time.Now(),
				Data: body,
			}
		}
		done := marks(2 * group)
		require.NoError(b, s.Commit(ctx, add, done))
		stored, settled = stored+group, settled+len(done)
	}
	for settled < stored {
		done := marks(512)
		require.NoError(b, s.Commit(ctx, nil, done))
		settled += len(done)
	}
	b.ReportMetric(float64(stored)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCommit stores records without settling them.
func BenchmarkCommit(b *testing.B) {
	for name, url := range sharedServers {
		for _, group := range []int{1, 32, 512} {
			b.Run(fmt.Sprintf("%s/%d", name, group), func(b *testing.B) {
				s := newSpace(b, url(b)).open(b)
				body := make([]byte, 588)
				b.ReportAllocs()
				stored := 0
				for b.Loop() {
					add := make([]*webhook.Record, group)
					for i := range add {
						add[i] = &webhook.Record{Name: "ONCRMDEALUPDATE", MemberID: "portal", Received: time.Now(), Data: body}
					}
					require.NoError(b, s.Commit(b.Context(), add, nil))
					stored += group
				}
				b.ReportMetric(float64(stored)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkBacklog reads 100,000 records that are there before the Feed begins.
func BenchmarkBacklog(b *testing.B) {
	const backlog = 100_000
	for name, url := range sharedServers {
		b.Run(name, func(b *testing.B) {
			s := newSpace(b, url(b)).open(b)
			body := make([]byte, 588)
			for range backlog / 500 {
				add := make([]*webhook.Record, 500)
				for i := range add {
					add[i] = &webhook.Record{Received: time.Now(), Data: body}
				}
				require.NoError(b, s.Commit(b.Context(), add, nil))
			}
			for b.Loop() {
				n := 0
				for _, err := range s.Feed(b.Context(), 0) {
					require.NoError(b, err)
					if n++; n == backlog {
						break
					}
				}
			}
			b.ReportMetric(backlog*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
