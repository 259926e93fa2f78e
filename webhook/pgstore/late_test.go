package pgstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// quick makes checks of open transactions often, and sweeps never, so that only looks find records.
func quick() pgstore.Option { return pgstore.WithPace(time.Hour, time.Millisecond, 0, 0) }

// insertSQL takes an ID and stores a record with it, as Commit does.
const insertSQL = `WITH c AS MATERIALIZED (SELECT nextval('{s}.commits') * 1024 AS base)
 INSERT INTO {s}.pending (part, id, tag, name, member_id, received, data) SELECT $1, base, 7, 'ONX', 'm', now(), $2 FROM c RETURNING id`

// late is a transaction of another process that has stored a record and does not commit.
type late struct {
	*kit

	tx pgx.Tx
	id int64
}

func (k *kit) late(part int, text string) *late {
	k.Helper()
	tx, err := k.pool.Begin(k.Context())
	require.NoError(k, err)
	k.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(k.Context())) })
	l := &late{kit: k, tx: tx}
	require.NoError(k, tx.QueryRow(k.Context(), k.sql(insertSQL), part, []byte(text)).Scan(&l.id))
	return l
}

// TestLateCommit: a transaction takes an ID, and commits after seconds in which others committed
// hundreds of greater IDs, and these were fed and settled.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(quick())
	f := feed(t, s, 1)
	store(t, s, record(1, "first"))
	require.Equal(t, []string{"first"}, f.texts(1))

	slow := k.late(1, "slow")
	slower := k.late(1, "slower")
	elsewhere := k.late(2, "elsewhere")
	var newest int64
	for i := range 400 {
		r := store(t, s, record(1, strconv.Itoa(i)))[0]
		newest = pgstore.Number(r.ID)
		require.Equal(t, r.ID, f.next(1)[0].ID)
		if i%2 == 0 {
			mark(t, s, done(r))
		}
		if i%40 == 0 {
			pause(t, 100*time.Millisecond)
		}
	}
	require.Less(t, s.Low(1), slow.id, "the feed must go on to ask for the records of open transactions")

	require.NoError(t, slow.tx.Commit(t.Context()))
	require.Equal(t, []string{"slow"}, f.texts(1))
	store(t, s, record(1, "next"))
	require.Equal(t, []string{"next"}, f.texts(1))
	require.Less(t, s.Low(1), slower.id)

	require.NoError(t, elsewhere.tx.Commit(t.Context()))
	require.NoError(t, slower.tx.Rollback(t.Context()))
	eventually(t, "the feed asks no more for what was rolled back", func() bool {
		store(t, s, record(1, "more"))
		f.next(1)
		return s.Low(1) >= newest
	})
	require.Equal(t, []string{"elsewhere"}, feed(t, s, 2).texts(1))
}

// TestLateCommitOfBacklog: the same while a feed works off more than it gets at a time.
func TestLateCommitOfBacklog(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(quick())
	slow := k.late(0, "slow")
	for range 4 {
		store(t, s, records(0, make([]string, 500)...)...)
	}
	f := feed(t, s, 0)
	f.next(1000)
	require.NoError(t, slow.tx.Commit(t.Context()))
	got := f.next(1001)
	var found int
	for _, r := range got {
		if string(r.Data) == "slow" {
			found++
		}
	}
	require.Equal(t, 1, found)
	store(t, s, record(0, "the end"))
	require.Equal(t, []string{"the end"}, f.texts(1))
}

// TestOpenTransactionIsLogged: a transaction that makes looks slower and slower is in the log.
func TestOpenTransactionIsLogged(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	var log safeBuffer
	s := k.open(quick(), pgstore.WithOpenWarning(100*time.Millisecond), pgstore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	f := feed(t, s, 0)
	k.late(0, "late")
	eventually(t, "the log says so", func() bool {
		store(t, s, record(0, "x"))
		f.next(1)
		return strings.Contains(log.String(), pgstore.KeyTransactions+"=")
	})
	require.Contains(t, log.String(), "level=WARN")
}

// TestForeignTransaction: a long transaction that writes other tables holds nothing up.
func TestForeignTransaction(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(quick())
	k.exec(`CREATE TABLE {s}.foreign_table (n int)`)
	tx, err := k.pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	_, err = tx.Exec(t.Context(), k.sql(`INSERT INTO {s}.foreign_table VALUES (1)`)) // it has an ID, and a snapshot
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), k.sql(`SELECT * FROM {s}.pending`))
	require.NoError(t, err)

	f := feed(t, s, 0)
	eventually(t, "the feed knows that nothing older can appear", func() bool {
		r := store(t, s, record(0, "x"))[0]
		f.next(1)
		mark(t, s, done(r))
		return s.Low(0) > 0
	})
}

// TestOrderOfReplicas: three processes commit to all partitions, each feeds a third of them, and
// settles what it is fed in its next commit.
func TestOrderOfReplicas(t *testing.T) {
	t.Parallel()
	const replicas, parts, commits, group = 3, 12, 150, 24
	k := newKit(t)
	w := newWitness(t)
	var all []*replica
	for i := range replicas {
		r := &replica{
			witness: w, store: k.open(pgstore.WithPartitions(parts)), name: fmt.Sprint("replica ", i),
			marks: make(chan webhook.Mark, replicas*commits*group),
		}
		for part := i; part < parts; part += replicas {
			r.follow(part)
		}
		all = append(all, r)
	}
	var committers sync.WaitGroup
	for _, r := range all {
		committers.Go(func() {
			for n := range commits {
				assert.NoError(t, r.commit(t.Context(), parts, group, n))
			}
		})
	}
	committers.Wait()
	for _, r := range all {
		r.finish(parts)
	}
	w.check(replicas * commits * group)
}
