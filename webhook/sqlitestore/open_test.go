package sqlitestore_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

func open(t *testing.T, path string, opts ...sqlitestore.Option) *sqlitestore.Store {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), path, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func file(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "queue.db")
}

// records makes records that differ.
func records(n int) []*webhook.Record {
	list := make([]*webhook.Record, n)
	for i := range list {
		list[i] = &webhook.Record{Name: "ONCRMDEALADD", MemberID: "portal", Received: time.Now(), Data: fmt.Appendf(nil, "record %d", i)}
	}
	return list
}

func done(records ...*webhook.Record) []webhook.Mark {
	marks := make([]webhook.Mark, len(records))
	for i, r := range records {
		marks[i] = webhook.Mark{ID: r.ID, State: webhook.StateDone}
	}
	return marks
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]sqlitestore.Option{
		"kept for nothing":   sqlitestore.WithKeep(0),
		"kept for too short": sqlitestore.WithKeep(time.Millisecond),
		"no room":            sqlitestore.WithMaxPending(0),
		"unknown mode":       sqlitestore.WithSynchronous(2),
	} {
		path := file(t)
		_, err := sqlitestore.Open(t.Context(), path, nil, opt)
		require.ErrorIs(t, err, sqlitestore.ErrConfig, name)
		require.NoFileExists(t, path)
	}
	for _, path := range []string{"", ":memory:"} {
		_, err := sqlitestore.Open(t.Context(), path)
		require.ErrorIs(t, err, sqlitestore.ErrConfig)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := sqlitestore.Open(ctx, file(t))
	require.ErrorIs(t, err, context.Canceled)
}

func TestArguments(t *testing.T) {
	t.Parallel()
	s := open(t, file(t))
	add := records(1)
	add[0].Part = 1
	require.ErrorIs(t, s.Commit(t.Context(), add, nil), sqlitestore.ErrConfig)
	_, err := s.Load(t.Context(), 1, nil)
	require.ErrorIs(t, err, sqlitestore.ErrConfig)
	_, err = s.List(t.Context(), webhook.StatePending, "", 1)
	require.ErrorIs(t, err, sqlitestore.ErrConfig)
	_, err = s.List(t.Context(), webhook.StateParked, "", 0)
	require.ErrorIs(t, err, sqlitestore.ErrConfig)
	_, err = s.List(t.Context(), webhook.StateParked, "1", 1)
	require.ErrorIs(t, err, sqlitestore.ErrNotArchived)
	for _, err := range s.Feed(t.Context(), -1) {
		require.ErrorIs(t, err, sqlitestore.ErrConfig)
	}
	empty := records(2)
	empty[0].Data = nil
	require.NoError(t, s.Commit(t.Context(), empty, nil))
	require.Error(t, empty[0].Rejected)
	require.Equal(t, "1", empty[1].ID)
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has access lists; internal/disk tests those of folders")
	}
	folder := filepath.Join(t.TempDir(), "new", "folder")
	path := filepath.Join(folder, "queue.db")
	s := open(t, path)
	require.NoError(t, s.Commit(t.Context(), records(1), nil))
	for name, want := range map[string]os.FileMode{folder: 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, path + ".lock": 0o600} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm(), name)
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	path := file(t)
	s, err := sqlitestore.Open(t.Context(), path)
	require.NoError(t, err)
	_, err = sqlitestore.Open(t.Context(), path)
	require.ErrorIs(t, err, sqlitestore.ErrLocked)
	require.NoError(t, s.Commit(t.Context(), records(1), nil), "the first one goes on")
	require.NoError(t, s.Close())
	open(t, path)
}

func TestLockedByAnotherName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "folder")
	require.NoError(t, os.Mkdir(folder, 0o700))
	path := filepath.Join(folder, "queue.db")
	if err := os.Symlink(folder, filepath.Join(dir, "link")); err != nil {
		t.Skipf("symbolic links: %v", err)
	}
	require.NoError(t, os.Symlink(path, filepath.Join(dir, "other.db")))
	open(t, path)
	for _, other := range []string{filepath.Join(dir, "link", "queue.db"), filepath.Join(dir, "other.db"), filepath.Join(dir, "link", "..", "folder", "queue.db")} {
		_, err := sqlitestore.Open(t.Context(), other)
		require.ErrorIs(t, err, sqlitestore.ErrLocked, other)
	}
}

// TestDeletedIsErased checks that nothing of what was settled is left in the file.
func TestDeletedIsErased(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path)
	for n := range 50 {
		add := records(40)
		for i, r := range add {
			r.Data = append(r.Data, strings.Repeat("secret", 100*(1+(i+n)%20))...) // some on pages of their own
		}
		require.NoError(t, s.Commit(t.Context(), add, nil))
		marks := done(add...)
		for i := range marks {
			if i%7 == 3 {
				marks[i].State = webhook.StateParked
			}
		}
		require.NoError(t, s.Commit(t.Context(), nil, marks))
	}
	list, err := s.List(t.Context(), webhook.StateParked, "", 1000)
	require.NoError(t, err)
	for i, r := range list {
		if i%2 == 0 {
			_, err = s.Discard(t.Context(), r.ID)
			require.NoError(t, err)
			continue
		}
		_, err = s.Replay(t.Context(), r.ID)
		require.NoError(t, err)
	}
	require.NoError(t, s.Commit(t.Context(), nil, done(pending(t, s)...)))
	require.NoError(t, s.Close())
	content, err := os.ReadFile(path) //nolint:gosec // the test's own file
	require.NoError(t, err)
	require.NoFileExists(t, path+"-wal")
	require.NotContains(t, string(content), "secret")
}

func TestForeignFiles(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"another program":     "PRAGMA application_id = 7; CREATE TABLE t (a)",
		"no application":      "CREATE TABLE t (a)",
		"no tables":           "PRAGMA user_version = 3",
		"a newer version":     fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 2; CREATE TABLE pending (a)", 0x62323471),
		"a version before it": fmt.Sprintf("PRAGMA application_id = %d; CREATE TABLE pending (a)", 0x62323471),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := file(t)
			db, err := sql.Open("sqlite", path)
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), content)
			require.NoError(t, err)
			require.NoError(t, db.Close())
			before, err := os.ReadFile(path) //nolint:gosec // the test's own file
			require.NoError(t, err)
			_, err = sqlitestore.Open(t.Context(), path)
			require.ErrorIs(t, err, sqlitestore.ErrForeign)
			after, err := os.ReadFile(path) //nolint:gosec // the test's own file
			require.NoError(t, err)
			require.Equal(t, before, after, "the file was changed")
		})
	}
	t.Run("no database", func(t *testing.T) {
		t.Parallel()
		path := file(t)
		text := []byte("this is a text that is longer than the header of a database, which has a hundred bytes; so it goes on for a while")
		require.NoError(t, os.WriteFile(path, text, 0o600))
		_, err := sqlitestore.Open(t.Context(), path)
		require.ErrorIs(t, err, sqlitestore.ErrForeign)
	})
	t.Run("a folder", func(t *testing.T) {
		t.Parallel()
		_, err := sqlitestore.Open(t.Context(), t.TempDir())
		require.Error(t, err)
	})
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := open(t, file(t))
	require.NoError(t, s.Commit(t.Context(), records(3), nil))
	ended := make(chan error)
	begun := make(chan struct{}, 4)
	go func() {
		var last error
		for _, err := range s.Feed(t.Context(), 0) {
			last = err
			begun <- struct{}{}
		}
		ended <- last
	}()
	for range 3 {
		<-begun
	}
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-ended, sqlitestore.ErrClosed)
	require.ErrorIs(t, s.Commit(t.Context(), records(1), nil), sqlitestore.ErrClosed)
	for _, err := range s.Feed(t.Context(), 0) {
		require.ErrorIs(t, err, sqlitestore.ErrClosed)
	}
	_, err := s.Load(t.Context(), 0, []string{"1"})
	require.ErrorIs(t, err, sqlitestore.ErrClosed)
	_, err = s.Depth(t.Context())
	require.ErrorIs(t, err, sqlitestore.ErrClosed)
	_, err = s.List(t.Context(), webhook.StateParked, "", 1)
	require.ErrorIs(t, err, sqlitestore.ErrClosed)
	_, err = s.Replay(t.Context(), "1")
	require.ErrorIs(t, err, sqlitestore.ErrClosed)
	_, err = s.Discard(t.Context(), "1")
	require.ErrorIs(t, err, sqlitestore.ErrClosed)
}

// TestFeedFromMemory checks that a Feed that keeps up yields the records themselves, and one that
// does not reads them again.
func TestFeedFromMemory(t *testing.T) {
	t.Parallel()
	s := open(t, file(t))
	old := records(1)
	require.NoError(t, s.Commit(t.Context(), old, nil))
	const many = 6000 // more than are kept in memory
	var first, later []*webhook.Record
	n, same := 0, 0
	for r, err := range s.Feed(t.Context(), 0) {
		require.NoError(t, err)
		switch n++; {
		case n == 1:
			require.NotSame(t, old[0], r)
			require.True(t, r.Recovered)
			first = records(2)
			require.NoError(t, s.Commit(t.Context(), first, nil))
		case n <= 3:
			require.Same(t, first[n-2], r)
			if n == 3 {
				later = records(many)
				for i := 0; i < many; i += 500 {
					require.NoError(t, s.Commit(t.Context(), later[i:i+500], nil))
				}
			}
		default:
			want := later[n-4]
			require.Equal(t, want.ID, r.ID)
			require.Equal(t, string(want.Data), string(r.Data))
			require.False(t, r.Recovered)
			if r == want {
				same++
			}
		}
		if n == 3+many {
			break
		}
	}
	require.Greater(t, same, 3000)
	require.Less(t, same, 4500, "memory is bounded")
}

func TestReplayKeepsOrder(t *testing.T) {
	t.Parallel()
	s := open(t, file(t))
	add := records(600)
	require.NoError(t, s.Commit(t.Context(), add, nil))
	var ids []string
	for _, r := range slices.Backward(add) { // parked from the newest to the oldest
		ids = append(ids, r.ID)
		require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: r.ID, State: webhook.StateParked}}))
	}
	n, err := s.Replay(t.Context(), ids...)
	require.NoError(t, err)
	require.Equal(t, len(add), n)
	i := 0
	for r, err := range s.Feed(t.Context(), 0) {
		require.NoError(t, err)
		require.Equal(t, string(add[i].Data), string(r.Data))
		if i++; i == len(add) {
			break
		}
	}
}

// TestKeepEnds checks that what was kept long enough is deleted, and what was not is not.
func TestKeepEnds(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, sqlitestore.WithKeep(time.Second))
	add := records(900)
	require.NoError(t, s.Commit(t.Context(), add, nil))
	require.NoError(t, s.Commit(t.Context(), nil, done(add[:890]...)))
	require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: add[895].ID, State: webhook.StateParked}}))
	began := time.Now()
	kept := func() int64 {
		depth, err := s.Depth(t.Context())
		require.NoError(t, err)
		require.Equal(t, int64(9), depth.Pending)
		require.Equal(t, int64(1), depth.Parked)
		return depth.Kept
	}
	if n := kept(); time.Since(began) < time.Second/2 {
		require.Equal(t, int64(890), n)
	}
	require.Eventually(t, func() bool { return kept() == 0 }, 30*time.Second, 10*time.Millisecond)
	list, err := s.List(t.Context(), webhook.StateDone, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
	require.NoError(t, s.Commit(t.Context(), nil, done(add[891])))
	require.NoError(t, s.Close())

	s = open(t, path) // without the option nothing is deleted
	depth, err := s.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, webhook.Depth{Pending: 8, Parked: 1, Kept: 1, OldestPending: depth.OldestPending, OldestParked: depth.OldestParked},
		depth)
}

// TestLogIsWrittenBack checks that neither the log nor the file grows while the queue is short.
func TestLogIsWrittenBack(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, sqlitestore.WithSynchronous(sqlitestore.Normal)) // which is quick
	for range 1200 {
		add := records(40)
		for _, r := range add {
			r.Data = append(r.Data, make([]byte, 1000)...)
		}
		require.NoError(t, s.Commit(t.Context(), add, nil))
		require.NoError(t, s.Commit(t.Context(), nil, done(add...)))
	}
	for _, name := range []string{path, path + "-wal"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(16<<20), "%s, after 48 MB went through the queue", name)
	}
}
