package pgstore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// TestFeed: records keep their fields through memory and through the tables, and marks
// change what the next feed yields.
func TestFeed(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open()
	require.Equal(t, pgstore.DefaultPartitions, s.Partitions())
	before := store(t, s, records(3, "a", "b")...)
	f := feed(t, s, 3)
	for i, r := range f.next(2) {
		want := *before[i]
		want.Recovered = true
		require.Equal(t, &want, r)
	}
	for i := range 300 {
		store(t, s, record(3, strconv.Itoa(i)), record(4, "other"))
	}
	for i, r := range f.next(300) {
		require.False(t, r.Recovered)
		require.Equal(t, strconv.Itoa(i), string(r.Data))
		mark(t, s, done(r))
	}
	mark(t, s, webhook.Mark{Part: 3, ID: before[0].ID, State: webhook.StatePending, Attempts: 2, Err: "no"}, parked(before[1], "broken"))
	f.close()
	r := feed(t, s, 3).next(1)[0]
	require.Equal(t, before[0].ID, r.ID)
	require.Equal(t, 2, r.Attempts)
}

// TestFeedForgets: a record that was fed and settled needs no memory, no matter which process
// settled it.
func TestFeedForgets(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithPace(time.Millisecond, time.Millisecond, 0, 0))
	other := k.open()
	f := feed(t, s, 0)
	all := store(t, s, records(0, make([]string, 300)...)...)
	f.next(300)
	require.Equal(t, 300, s.Remembered(0))
	for i, r := range all {
		switch i % 3 {
		case 0:
			mark(t, s, done(r))
		case 1:
			mark(t, other, done(r)) // as a process whose lease ended may do
		}
	}
	eventually(t, "a sweep finds what another process has settled", func() bool {
		store(t, s, record(1, "moves IDs on"))
		return s.Remembered(0) == 100
	})
	store(t, s, record(0, "next"))
	require.Equal(t, []string{"next"}, f.texts(1))
}

// TestFeedSweeps: records with IDs that looks do not ask for any more are found, as those that
// somebody puts back by hand.
func TestFeedSweeps(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	var log safeBuffer
	s := k.open(pgstore.WithPace(50*time.Millisecond, time.Millisecond, 0, 0), pgstore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	f := feed(t, s, 0)
	first := store(t, s, record(0, "first"))[0]
	eventually(t, "looks do not ask for the first any more", func() bool {
		store(t, s, record(0, "x"))
		f.next(1)
		return s.Low(0) > pgstore.Number(first.ID)+10
	})
	k.exec(`INSERT INTO {s}.pending (part, id, tag, name, member_id, received, data) VALUES (0, $1, 1, 'ONX', 'm', now(), 'by hand')`,
		pgstore.Number(first.ID)+5)
	eventually(t, "the feed yields it", func() bool {
		store(t, s, record(0, "x"))
		return f.texts(1)[0] == "by hand"
	})
	require.Contains(t, log.String(), "found records with old IDs")
	require.Contains(t, log.String(), pgstore.KeySchema+"="+k.schema)
}

// TestFeedAfterLoss: the database has lost its newest commits, as after a failover to a standby
// that was behind. The IDs of the lost records come back for others. Feeds yield these, and marks
// for the lost ones do not hit them.
func TestFeedAfterLoss(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(quick())
	f := feed(t, s, 0)
	kept := store(t, s, record(0, "kept"))[0]
	var lost []*webhook.Record
	for i := range 5 {
		lost = append(lost, store(t, s, record(0, fmt.Sprint("lost ", i)))...)
	}
	f.next(6)
	eventually(t, "looks do not ask for the lost ones any more", func() bool {
		lost = append(lost, store(t, s, record(0, "lost too"))...)
		f.next(1)
		return s.Low(0) >= pgstore.Number(lost[0].ID)
	})
	k.exec(`DELETE FROM {s}.pending WHERE id > $1`, pgstore.Number(kept.ID))
	k.exec(`SELECT setval('{s}.commits', $1)`, pgstore.Number(kept.ID)/1024)

	fresh := store(t, s, record(0, "new"))[0]
	require.Equal(t, pgstore.Number(lost[0].ID), pgstore.Number(fresh.ID))
	require.NotEqual(t, lost[0].ID, fresh.ID)
	require.Equal(t, []string{"new"}, f.texts(1))
	for _, r := range lost {
		mark(t, s, done(r))
	}
	loaded, err := s.Load(t.Context(), 0, []string{fresh.ID, lost[0].ID})
	require.NoError(t, err)
	require.Len(t, loaded, 1)
	store(t, s, record(0, "newer"))
	require.Equal(t, []string{"newer"}, f.texts(1))
}

// TestFeedEndsWithError: a feed yields an error at once if it stays until somebody acts.
func TestFeedEndsWithError(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithPace(0, 0, 0, time.Hour))
	f := feed(t, s, 0)
	store(t, s, record(0, "a"))
	f.next(1)
	k.exec(`ALTER TABLE {s}.pending RENAME TO gone`)
	require.ErrorContains(t, f.err(), "pgstore: feed: SQLSTATE 42P01")
	k.exec(`ALTER TABLE {s}.gone RENAME TO pending`)
	require.Equal(t, []string{"a"}, feed(t, s, 0).texts(1))
}

// TestFeedSurvives: a feed continues after its server was away for a while, and ends if that lasts.
func TestFeedSurvives(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := newProxy(t, hostOf(t, k.dsn))
	patientStore := k.openWith(newPool(t, through(t, p, k.dsn)), pgstore.WithPace(0, 0, 0, time.Hour))
	hasty := k.openWith(newPool(t, through(t, p, k.dsn)), pgstore.WithPace(0, 0, 0, 300*time.Millisecond))
	long, short := feed(t, patientStore, 0), feed(t, hasty, 0)
	direct := k.open()
	store(t, direct, record(0, "a"))
	require.Equal(t, []string{"a"}, long.texts(1))
	require.Equal(t, []string{"a"}, short.texts(1))
	p.refuse(true)
	p.cut()
	require.Error(t, short.err())
	store(t, direct, record(0, "b"))
	p.refuse(false)
	require.Equal(t, []string{"b"}, long.texts(1))
}

// TestFeedOfNothing: a partition that does not exist.
func TestFeedOfNothing(t *testing.T) {
	t.Parallel()
	s := newKit(t).open(pgstore.WithPartitions(2))
	for _, part := range []int{-1, 2} {
		require.ErrorIs(t, feed(t, s, part).err(), pgstore.ErrConfig)
		loaded, err := s.Load(t.Context(), part, []string{"1024-00000000"})
		require.NoError(t, err)
		require.Empty(t, loaded)
	}
}

// TestFeedOfLargeRecords: what all feeds get at a time is bounded, and each gets its share.
func TestFeedOfLargeRecords(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithPartitions(8))
	data := strings.Repeat("x", 1<<20)
	for n := range 3 {
		var all []*webhook.Record
		for part := range 8 {
			all = append(all, record(part, fmt.Sprint(n, data)), record(part, "small"))
		}
		store(t, s, all...)
	}
	for part := range 8 {
		f := feed(t, s, part)
		for n := range 3 {
			got := f.texts(2)
			require.Equal(t, strconv.Itoa(n), got[0][:1])
			require.Equal(t, "small", got[1])
		}
	}
}

// TestReplayWakesFeed: replayed records are fed at once.
func TestReplayWakesFeed(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithPollInterval(time.Minute, time.Minute))
	f := feed(t, s, 0)
	all := store(t, s, records(0, "a", "b", "c")...)
	f.next(3)
	mark(t, s, parked(all[2], "no"), parked(all[0], "no"))
	n, err := s.Replay(t.Context(), all[2].ID, all[0].ID)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []string{"a", "c"}, f.texts(2), "in the order in which they were committed, without waiting for the next poll")
}

// safeBuffer is a buffer for several goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
