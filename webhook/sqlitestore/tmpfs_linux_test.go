package sqlitestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

// TestDiskFull fills a small file system.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		if os.Getenv("REQUIRE_SERVERS") == "1" && os.Getuid() == 0 {
			t.Fatalf("mount a tmpfs: %v", err)
		}
		t.Skipf("the test mounts a tmpfs, which takes root's rights: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	path, ballast := filepath.Join(dir, "queue.db"), filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
	s, err := sqlitestore.Open(t.Context(), path)
	require.NoError(t, err)

	var stored []string
	n := 0
	fill := func() {
		t.Helper()
		for refused := 0; refused < 20; n++ {
			add := []*webhook.Record{{Received: time.Now(), Data: []byte(strings.Repeat(string(rune('a'+n%26)), 5000))}}
			err := s.Commit(t.Context(), add, nil)
			if err != nil {
				require.ErrorIs(t, err, sqlitestore.ErrDiskFull)
				refused++
				continue
			}
			stored = append(stored, add[0].ID)
		}
	}
	check := func() {
		t.Helper()
		var got []string
		for r, err := range s.Feed(t.Context(), 0) {
			require.NoError(t, err)
			if got = append(got, r.ID); len(got) == len(stored) {
				break
			}
		}
		require.Equal(t, stored, got)
	}
	fill()
	require.Greater(t, len(stored), 100)
	check()
	require.NoError(t, os.Remove(ballast))
	before := len(stored)
	fill()
	require.Greater(t, len(stored), before+20, "it goes on when there is room")
	check()
	err = s.Close()
	require.True(t, err == nil || errors.Is(err, sqlitestore.ErrDiskFull), "%v", err)

	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=16m"))
	s, err = sqlitestore.Open(t.Context(), path)
	require.NoError(t, err)
	check()
	require.NoError(t, s.Commit(t.Context(), records(1), nil))
	require.NoError(t, s.Close())
}
