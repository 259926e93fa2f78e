//go:build !windows

package oauth_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func makePipe(path string) error { return syscall.Mkfifo(path, 0o600) }

// requireMode asserts who may use a file or a folder.
func requireMode(tb testing.TB, want fs.FileMode, path string) {
	tb.Helper()
	info, err := os.Stat(path)
	require.NoError(tb, err)
	require.Equal(tb, want, info.Mode().Perm(), path)
}

// openFolders returns folders that others may write to.
func openFolders(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	folders := make(map[string]string)
	for name, mode := range map[string]fs.FileMode{
		"the group may write": 0o770, "all may write": 0o777, "all may write, stickily": 0o777 | fs.ModeSticky,
	} {
		folders[name] = filepath.Join(dir, name)
		require.NoError(tb, os.Mkdir(folders[name], 0o700))
		require.NoError(tb, os.Chmod(folders[name], mode))
	}
	return folders
}
