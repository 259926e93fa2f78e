package oauth_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

// makePipe is nil, because folders of Windows hold no pipes.
var makePipe func(path string) error

// requireMode asserts that the access list of a folder does not let everybody in. Files have no
// list of their own.
func requireMode(tb testing.TB, want fs.FileMode, path string) {
	tb.Helper()
	info, err := os.Stat(path)
	require.NoError(tb, err)
	if !info.IsDir() || want&0o077 != 0 {
		return
	}
	descriptor, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	require.NoError(tb, err)
	list := descriptor.String()
	require.Contains(tb, list, "(A;")
	require.NotContains(tb, list, ";WD)", "Everyone is in it")
	require.NotContains(tb, list, ";BU)", "Users are in it")
	require.NotContains(tb, list, ";AU)", "Authenticated Users are in it")
}

// openFolders makes a folder that others may write to. Package disk has the test with all access
// lists.
func openFolders(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	path := filepath.Join(dir, "open")
	require.NoError(tb, os.Mkdir(path, 0o700))
	descriptor, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;WD)")
	require.NoError(tb, err)
	list, _, err := descriptor.DACL()
	require.NoError(tb, err)
	require.NoError(tb, windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, list, nil))
	return map[string]string{"everyone may write": path}
}
