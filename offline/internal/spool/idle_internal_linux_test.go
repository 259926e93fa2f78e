package spool

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// openFiles counts the open files of this process below a folder.
func openFiles(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	n := 0
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.HasPrefix(target, dir) {
			n++
		}
	}
	return n
}

func TestIdleJournalsHaveNoOpenFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	journals := make([]*Journal, 50)
	for i := range journals {
		journals[i] = openJournal(t, filepath.Join(dir, strconv.Itoa(i)))
	}
	require.Zero(t, openFiles(t, dir))
	for range 2 { // an interval
		for _, j := range journals {
			require.NoError(t, j.Acquire(t.Context()))
			require.NotZero(t, openFiles(t, j.dir))
			j.Release()
			flush(t, j)
		}
		require.Zero(t, openFiles(t, dir))
	}
	j := journals[7]
	at := appendRows(t, j, 1)[0]
	require.Equal(t, 2, openFiles(t, dir), "the folder and its lock")
	j.Ack(at)
	flush(t, j)
	require.Zero(t, openFiles(t, dir))
	at = appendRows(t, j, 1)[0]
	j.Ack(at)
	closeJournal(t, j)
	require.Zero(t, openFiles(t, dir))
}
