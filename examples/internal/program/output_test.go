package program_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
)

var errFull = errors.New("no space left")

// disk is a writer that has room for some bytes.
type disk struct {
	strings.Builder

	room int
}

func (d *disk) Write(p []byte) (int, error) {
	n := min(d.room, len(p))
	d.room -= n
	d.Builder.Write(p[:n])
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// A line that was cut is completed, or ended before the next one, wherever the cut was.
func TestLinesThatAreCut(t *testing.T) {
	t.Parallel()
	const first, second = "{\"a\":1}\n", "{\"b\":2}\n"
	for room := range len(first) {
		for _, resume := range []bool{true, false} {
			d := &disk{room: room}
			l := program.NewLineWriter(d)
			n, err := l.Write([]byte(first))
			require.Equal(t, room, n)
			require.ErrorIs(t, err, errFull)
			require.ErrorAs(t, err, new(*program.OutputError))
			require.ErrorIs(t, l.Resume(), errFull, "there is no room yet")
			want := first + second
			if !resume {
				want = first[:room] + "\n" + second
				if room == 0 {
					want = second
				}
			}
			d.room = 3 // for a part again
			if resume {
				if room+3 < len(first) {
					require.ErrorIs(t, l.Resume(), errFull)
				}
				d.room = 100
				require.NoError(t, l.Resume())
			} else {
				d.room = 100
			}
			n, err = l.Write([]byte(second))
			require.NoError(t, err)
			require.Equal(t, len(second), n)
			require.Equal(t, want, d.String(), "room %d, resume %t", room, resume)
		}
	}
}

// The next process ends the line that the last one could not complete.
func TestLineThatAnEarlierProcessCut(t *testing.T) {
	t.Parallel()
	for before, want := range map[string]string{
		"": "{}\n", "{\"a\":1}\n": "{\"a\":1}\n{}\n", "{\"a\":": "{\"a\":\n{}\n",
	} {
		if runtime.GOOS == "darwin" && !strings.HasSuffix(before, "\n") {
			continue // there the end cannot be read
		}
		path := filepath.Join(t.TempDir(), "out")
		require.NoError(t, os.WriteFile(path, []byte(before), 0o600))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0) //nolint:gosec // a file of the test
		require.NoError(t, err)
		_, err = program.NewLineWriter(f).Write([]byte("{}\n"))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, want, programtest.Read(t, path))
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, read.Close())
	_, err = write.WriteString("x")
	require.True(t, program.Gone(&program.OutputError{Err: err}), "nobody reads")
	require.NoError(t, write.Close())
	_, err = write.WriteString("x")
	require.True(t, program.Gone(err), "closed")
	for _, err := range []error{errFull, syscall.ENOSPC, fmt.Errorf("writing: %w", syscall.EIO), io.ErrShortWrite} {
		require.False(t, program.Gone(err), err.Error())
	}
}

func TestDiscards(t *testing.T) {
	t.Parallel()
	require.False(t, program.Discards(io.Discard), "nobody is surprised by that")
	for path, want := range map[string]bool{os.DevNull: true, filepath.Join(t.TempDir(), "out"): false} {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // a file of the test
		require.NoError(t, err)
		require.Equal(t, want, program.Discards(f), path)
		require.NoError(t, f.Close())
	}
}
