package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// failing is a writer on a disk that is full after some bytes.
type failing struct {
	w    io.Writer
	left int
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n, _ := f.w.Write(p[:f.left])
		f.left = 0
		return n, errors.New("disk full")
	}
	f.left -= len(p)
	return f.w.Write(p)
}

func TestAFullDiskLeavesWholeLines(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	j, err := openJournal(t.Context(), out, nil, programtest.Silent())
	require.NoError(t, err)
	disk := &failing{w: j.file, left: 25}
	j.w = disk
	require.NoError(t, j.append([]byte("{\"first\":1}\n")))
	require.Error(t, j.append([]byte("{\"second\":22222222222}\n")))
	disk.left = 1000
	require.NoError(t, j.append([]byte("{\"third\":3}\n")), "there is room again")
	require.NoError(t, j.close())
	text := programtest.Read(t, out)
	require.Equal(t, "{\"first\":1}\n{\"third\":3}\n", text)
}

// Lines that come at the same time share writes, and each is on disk when append returns.
func TestAppendsAtTheSameTime(t *testing.T) {
	t.Parallel()
	const writers, lines = 50, 20
	out := filepath.Join(t.TempDir(), "out")
	j, err := openJournal(t.Context(), out, nil, programtest.Silent())
	require.NoError(t, err)
	syncs := 0
	j.sync = func() error { // under the lock of the disk
		syncs++
		return j.file.Sync()
	}
	var group sync.WaitGroup
	var errs [writers]error
	for i := range writers {
		group.Go(func() {
			mine := strings.Repeat(string(rune('a'+i%26)), 10+i)
			for range lines {
				errs[i] = errors.Join(errs[i], j.append([]byte(mine+"\n")))
			}
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs[:]...))
	require.Less(t, syncs, writers*lines)
	require.NoError(t, j.close())
	text := programtest.Read(t, out)
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	require.Len(t, all, writers*lines)
	for _, l := range all {
		require.Equal(t, strings.Repeat(l[:1], len(l)), l, "lines are mixed up")
	}
}

func TestOutThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	_, err := openJournal(t.Context(), filepath.Join(t.TempDir(), "missing", "out"), nil, programtest.Silent())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "make the folder first")
}
