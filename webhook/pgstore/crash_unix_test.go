//go:build unix

package pgstore_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// TestServerKilled kills the server in the middle of commits, three times. Every acknowledged
// record is fed, in order, by the feeds that were open all the time and by new ones.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	const replicas, parts, group, kills, between = 3, 8, 16, 3, 60
	srv := startServer(t)
	k := newKitOn(t, srv.dsn())
	w := newWitness(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all []*replica
	for i := range replicas {
		r := &replica{
			witness: w, name: fmt.Sprint("replica ", i), marks: make(chan webhook.Mark, 1<<20),
			store: k.open(pgstore.WithPartitions(parts), pgstore.WithPace(0, 0, 0, time.Minute)),
		}
		for part := i; part < parts; part += replicas {
			r.follow(part)
		}
		all = append(all, r)
	}
	committed := make(chan struct{}, 1<<16)
	var committers sync.WaitGroup
	for _, r := range all {
		committers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
				if r.commit(bounded, parts, group, n) == nil {
					committed <- struct{}{}
				} else {
					pause(t, 10*time.Millisecond)
				}
				cancel()
			}
		})
	}
	for range kills {
		for range between {
			<-committed
		}
		srv.kill()
		srv.start()
	}
	for range between {
		<-committed
	}
	stop()
	committers.Wait()
	for _, r := range all {
		r.finish(parts)
	}
	w.mu.Lock()
	acknowledged := len(w.ended)
	require.Positive(t, w.failed, "the server was to be killed in the middle of commits")
	t.Logf("%d records acknowledged, %d commits failed", acknowledged, w.failed)
	w.mu.Unlock()
	w.check(acknowledged)
}

// TestServerKilledBeforeFeeds: nothing is fed before the crash, so all of it is in the tables
// after.
func TestServerKilledBeforeFeeds(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	k := newKitOn(t, srv.dsn())
	s := k.open(pgstore.WithPartitions(2))
	var want []string
	acknowledged := make(chan struct{}, 1<<16)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for n := 0; ; n++ {
			r := record(1, strconv.Itoa(n))
			if s.Commit(t.Context(), []*webhook.Record{r}, nil) != nil {
				return
			}
			want = append(want, string(r.Data))
			acknowledged <- struct{}{}
		}
	}()
	for range 200 {
		<-acknowledged
	}
	srv.kill()
	<-over
	srv.start()
	f := feed(t, k.open(), 1)
	got := f.texts(len(want))
	require.Equal(t, want, got)
}

// TestNotDurable: servers that may lose what they acknowledge are refused, and accepted on demand.
func TestNotDurable(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "fsync=off", "full_page_writes=off")
	k := newKitOn(t, srv.dsn())
	pool := newPool(t, srv.dsn())
	_, err := k.try(pool)
	require.ErrorIs(t, err, pgstore.ErrNotDurable)
	require.ErrorContains(t, err, "fsync is off")
	k.exec(`ALTER SYSTEM SET work_mem = '4MB'`) // the server works
	s := k.openWith(pool, pgstore.WithoutDurabilityCheck())
	store(t, s, record(0, "a"))

	pages := startServer(t, "full_page_writes=off")
	_, err = newKitOn(t, pages.dsn()).try(newPool(t, pages.dsn()))
	require.ErrorIs(t, err, pgstore.ErrNotDurable)
	require.ErrorContains(t, err, "full_page_writes is off")
}

// TestStandbyAway: if a synchronous standby is demanded and there is none, nothing is acknowledged,
// however long Commit waits.
func TestStandbyAway(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	k := newKitOn(t, srv.dsn())
	s := k.open()
	k.exec(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
	k.exec(`SELECT pg_reload_conf()`)
	eventually(t, "the server waits for its standby", func() bool {
		return k.number(`SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'nobody'`) == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	begin := time.Now()
	err := s.Commit(ctx, records(0, "a"), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(begin), 2*time.Second)

	k.exec(`ALTER SYSTEM RESET synchronous_standby_names`)
	k.exec(`SELECT pg_reload_conf()`)
	eventually(t, "the server does not wait any more", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return s.Commit(ctx, records(0, "b"), nil) == nil
	})
}
