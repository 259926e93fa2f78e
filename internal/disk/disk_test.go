package disk_test

import (
	"os"
	"path/filepath"
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
