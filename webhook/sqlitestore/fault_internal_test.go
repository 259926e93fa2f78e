package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
)

// onDisk opens a store on a fake disk.
func onDisk(t *testing.T, d *fakeDisk, c config) *Store {
	t.Helper()
	if c.logPages == 0 {
		c.logPages = logPages
	}
	s, err := openEngine(t.Context(), d.engine(t), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func commit(t *testing.T, s *Store, data ...string) []*webhook.Record {
	t.Helper()
	var add []*webhook.Record
	for _, text := range data {
		add = append(add, record(text))
	}
	require.NoError(t, s.Commit(t.Context(), add, nil))
	return add
}

// feedN reads n records of a Feed.
func feedN(t *testing.T, s *Store, n int) []string {
	t.Helper()
	var data []string
	for r, err := range s.Feed(t.Context(), 0) {
		require.NoError(t, err)
		if data = append(data, string(r.Data)); len(data) == n {
			break
		}
	}
	return data
}

// TestDiskErrors lets the disk fail in each way that leaves its contents unknown. The store then
// stores nothing more, and after it was opened again it has everything that it acknowledged.
func TestDiskErrors(t *testing.T) {
	t.Parallel()
	const wal, db = "queue.db-wal", "queue.db"
	for name, c := range map[string]struct {
		op, file string
		err      error
		logPages int
	}{
		"the log cannot be synced":       {"sync", wal, sqlite3.IOERR_FSYNC, 0},
		"the log cannot be written":      {"write", wal, sqlite3.IOERR_WRITE, 0},
		"the file cannot be synced":      {"sync", db, sqlite3.IOERR_FSYNC, 1},
		"the file cannot be written":     {"write", db, sqlite3.IOERR_WRITE, 1},
		"the log cannot be synced again": {"sync", wal, sqlite3.IOERR_FSYNC, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t, nil, 1)
			s := onDisk(t, d, config{logPages: c.logPages})
			commit(t, s, "first", "second")
			failed := make(chan struct{}, 100)
			d.fail(func(op, file string) error {
				if op == c.op && file == c.file {
					failed <- struct{}{}
					return c.err
				}
				return nil
			})
			acknowledged := []string{"first", "second"}
			var err error
			for n := 0; err == nil && n < 5; n++ { // the file is written after Commit has returned
				data := fmt.Sprint("secret ", n)
				if err = s.Commit(t.Context(), []*webhook.Record{record(data)}, nil); err == nil {
					acknowledged = append(acknowledged, data)
				}
			}
			require.ErrorIs(t, err, ErrDown)
			require.NotContains(t, err.Error(), "secret")
			require.Contains(t, err.Error(), "SQLite error")
			<-failed
			d.fail(nil)
			err = s.Commit(t.Context(), []*webhook.Record{record("third")}, nil)
			require.ErrorIs(t, err, ErrDown, "a disk that works again is no reason to go on")
			require.ErrorIs(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: "1", State: webhook.StateDone}}), ErrDown)
			_, err = s.Discard(t.Context(), "1")
			require.ErrorIs(t, err, ErrDown)
			require.Equal(t, acknowledged, feedN(t, s, len(acknowledged)), "what is stored can be read")
			require.NoError(t, s.Close())

			s = onDisk(t, d, config{})
			commit(t, s, "fourth")
			require.Equal(t, acknowledged, feedN(t, s, len(acknowledged)))
		})
	}
}

func TestDiskFullInMemory(t *testing.T) {
	t.Parallel()
	d := newDisk(t, nil, 1)
	s := onDisk(t, d, config{})
	add := commit(t, s, "first", "second")
	d.fail(func(op, _ string) error {
		if op == "write" {
			return sqlite3.FULL
		}
		return nil
	})
	for range 3 {
		err := s.Commit(t.Context(), []*webhook.Record{record("third")}, nil)
		require.ErrorIs(t, err, ErrDiskFull)
		require.NotErrorIs(t, err, ErrDown)
	}
	d.fail(nil)
	require.NoError(t,
		s.Commit(t.Context(), []*webhook.Record{record("fourth")}, []webhook.Mark{{ID: add[0].ID, State: webhook.StateDone}}))
	require.Equal(t, []string{"second", "fourth"}, feedN(t, s, 2))
	depth, err := s.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(2), depth.Pending)
}

// TestDiskHangs checks that Commit returns when its context ends, and that what it has stored in
// the end is fed.
func TestDiskHangs(t *testing.T) {
	t.Parallel()
	d := newDisk(t, nil, 1)
	s := onDisk(t, d, config{})
	commit(t, s, "first")
	fed := make(chan string)
	go func() {
		defer close(fed)
		for r, err := range s.Feed(t.Context(), 0) {
			if err != nil {
				return
			}
			select {
			case fed <- string(r.Data):
			case <-t.Context().Done():
				return
			}
		}
	}()
	require.Equal(t, "first", <-fed)
	hang := make(chan struct{})
	d.hang.Store(&hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	lost := record("second")
	require.ErrorIs(t, s.Commit(ctx, []*webhook.Record{lost}, nil), context.DeadlineExceeded)
	require.Empty(t, lost.ID, "the record is the caller's again")
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Commit(ctx, []*webhook.Record{record("never")}, nil), context.DeadlineExceeded)
	found, err := s.Load(t.Context(), 0, []string{"1"})
	require.NoError(t, err)
	require.Len(t, found, 1, "what reads does not wait")
	d.hang.Store(nil)
	close(hang)
	require.Equal(t, "second", <-fed)
	commit(t, s, "third")
	require.Equal(t, "third", <-fed)
}

// TestDamage writes over a part of the file.
func TestDamage(t *testing.T) {
	t.Parallel()
	d := newDisk(t, nil, 1)
	s := onDisk(t, d, config{})
	for n := range 50 {
		commit(t, s, fmt.Sprint(n, strings.Repeat(" secret", 1000)))
	}
	require.NoError(t, s.Close())
	image := append([]byte(nil), d.files["queue.db"].data...)
	for name, spoil := range map[string]func([]byte){
		"the tables":    func(b []byte) { fill(b[100:4096]) },
		"the records":   func(b []byte) { fill(b[8192 : len(b)-4096]) },
		"no database":   func(b []byte) { fill(b) },
		"the page size": func(b []byte) { b[16], b[17] = 0, 3 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := append([]byte(nil), image...)
			spoil(b)
			s, err := openEngine(t.Context(), newDisk(t, map[string][]byte{"queue.db": b}, 1).engine(t), config{logPages: logPages})
			if err == nil {
				t.Cleanup(func() { _ = s.Close() })
				n := 0
				for _, err = range s.Feed(t.Context(), 0) {
					if n++; err != nil || n == 50 {
						break
					}
				}
			}
			require.Error(t, err)
			require.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeign), "%v", err)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func fill(b []byte) {
	for i := range b {
		b[i] = 0xa5
	}
}
