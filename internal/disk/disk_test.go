package disk_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/disk"
)

func TestFill(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name) //nolint:gosec // the test's own file
	require.NoError(t, err)
	require.NoError(t, disk.Fill(f, []byte("text")))
	require.ErrorIs(t, f.Close(), os.ErrClosed, "it was left open")
	text, err := os.ReadFile(name) //nolint:gosec // the test's own file
	require.NoError(t, err)
	require.Equal(t, "text", string(text))

	f, err = os.Open(name) //nolint:gosec // the test's own file
	require.NoError(t, err)
	require.Error(t, disk.Fill(f, []byte("text")), "it is open for reading")
	require.ErrorIs(t, f.Close(), os.ErrClosed, "it was left open after an error")
}

func TestSyncFolder(t *testing.T) {
	t.Parallel()
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, disk.SyncFolder(root))
	require.NoError(t, root.Close())
	require.Error(t, disk.SyncFolder(root))
}

func TestRenameReplaces(t *testing.T) {
	t.Parallel()
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, root.WriteFile("new", []byte("new"), 0o600))
	require.NoError(t, disk.Rename(root, "new", "file"))
	require.NoError(t, root.WriteFile("new", []byte("newer"), 0o600))
	require.NoError(t, disk.Rename(root, "new", "file"))
	text, err := root.ReadFile("file")
	require.NoError(t, err)
	require.Equal(t, "newer", string(text))
	require.ErrorIs(t, disk.Rename(root, "new", "file"), fs.ErrNotExist)
	require.NoError(t, disk.Remove(root, "file"))
	require.ErrorIs(t, disk.Remove(root, "file"), fs.ErrNotExist)
	require.NoError(t, root.Close())
	require.ErrorIs(t, disk.Rename(root, "new", "file"), fs.ErrClosed)
}

func TestMakePrivate(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b")
	require.NoError(t, disk.MakePrivate(dir))
	require.NoError(t, disk.MakePrivate(dir), "it is there")
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	open, err := disk.OthersMayWrite(root)
	require.NoError(t, err)
	require.False(t, open)
	require.NoError(t, root.Close())
	_, err = disk.OthersMayWrite(root)
	require.ErrorIs(t, err, fs.ErrClosed)

	file := filepath.Join(top, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorIs(t, disk.MakePrivate(file), syscall.ENOTDIR)
	require.ErrorIs(t, disk.MakePrivate(filepath.Join(file, "x")), syscall.ENOTDIR)
}
