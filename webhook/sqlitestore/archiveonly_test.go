package sqlitestore_test

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

// TestArchiveOnly: a second opening lists, replays and discards while the first works the queue.
func TestArchiveOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "queue.db")
	_, err := sqlitestore.Open(t.Context(), path, sqlitestore.WithArchiveOnly())
	require.ErrorIs(t, err, fs.ErrNotExist)
	worker, err := sqlitestore.Open(t.Context(), path)
	require.NoError(t, err)
	defer func() { require.NoError(t, worker.Close()) }()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fed := make(chan *webhook.Record, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for rec, err := range worker.Feed(ctx, 0) {
			if err != nil {
				t.Error(err)
				return
			}
			fed <- rec
		}
	}()
	next := func() *webhook.Record {
		t.Helper()
		select {
		case rec := <-fed:
			return rec
		case <-time.After(20 * time.Second):
			require.Fail(t, "nothing is fed")
			return nil
		}
	}
	add := func(from, n int) {
		t.Helper()
		var recs []*webhook.Record
		for i := range n {
			recs = append(recs, &webhook.Record{Name: "ONX", MemberID: "m", Received: time.Now(), Data: fmt.Appendf(nil, "%d", from+i)})
		}
		require.NoError(t, worker.Commit(ctx, recs, nil))
	}
	add(0, 10)
	var marks []webhook.Mark
	for range 10 {
		marks = append(marks, webhook.Mark{ID: next().ID, State: webhook.StateParked, Attempts: 5, Err: "no"})
	}
	require.NoError(t, worker.Commit(ctx, nil, marks))

	archive, err := sqlitestore.Open(ctx, path, sqlitestore.WithArchiveOnly())
	require.NoError(t, err)
	require.ErrorIs(t, archive.Commit(ctx, []*webhook.Record{{Data: []byte("x")}}, nil), sqlitestore.ErrConfig)
	for _, err := range archive.Feed(ctx, 0) {
		require.ErrorIs(t, err, sqlitestore.ErrConfig)
	}
	parked, err := archive.List(ctx, webhook.StateParked, "", 100)
	require.NoError(t, err)
	require.Len(t, parked, 10)
	n, err := archive.Discard(ctx, parked[0].ID)
	require.NoError(t, err)
	require.Equal(t, 1, n)

	// What is replayed comes between what the worker stores, each once, in the order of IDs.
	last := ""
	seen := make(map[string]bool)
	for i := 1; i < 10; i++ {
		add(100+10*i, 3)
		n, err := archive.Replay(ctx, parked[i].ID)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		add(105+10*i, 3)
		for range 7 {
			rec := next()
			require.False(t, seen[string(rec.Data)], "%s is fed twice", rec.Data)
			seen[string(rec.Data)] = true
			require.True(t, len(rec.ID) > len(last) || rec.ID > last, "%s after %s", rec.ID, last)
			last = rec.ID
		}
		require.True(t, seen[string(parked[i].Data)])
	}
	n, err = archive.Replay(ctx, parked[0].ID, parked[1].ID)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Eventually(t, func() bool {
		d, err := worker.Depth(ctx)
		return err == nil && d.Parked == 0 && d.Pending == 63
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, archive.Close())
	cancel()
	<-ended
}
