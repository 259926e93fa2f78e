package disk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

func TestLetsEverybodyWrite(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		list string // in the security descriptor definition language
		want bool
	}{
		"nobody":                            {"D:P", false},
		"system and administrators":         {"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)", false},
		"the profile of a user":             {"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;S-1-5-21-1-2-3-1001)", false},
		"users read":                        {"D:(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)", false},
		"everyone reads":                    {"D:(A;OICI;FR;;;WD)", false},
		"who made a file":                   {"D:(A;OICIIO;FA;;;CO)", false},
		"a user on purpose":                 {"D:(A;OICI;FA;;;S-1-5-21-1-2-3-1001)(A;OICI;0x1301bf;;;S-1-5-21-1-2-3-1002)", false},
		"denied":                            {"D:(D;OICI;FA;;;WD)(A;OICI;FA;;;BA)", false},
		"everyone":                          {"D:(A;OICI;FA;;;WD)", true},
		"everyone writes":                   {"D:(A;;FW;;;WD)", true},
		"anonymous":                         {"D:(A;;FA;;;AN)", true},
		"users make files":                  {"D:(A;OICI;FA;;;BA)(A;CI;0x2;;;BU)", true},
		"users make folders":                {"D:(A;OICI;FA;;;BA)(A;CI;0x4;;;BU)", true},
		"users remove files":                {"D:(A;OICI;FA;;;BA)(A;CI;0x40;;;BU)", true},
		"users change the list":             {"D:(A;OICI;FA;;;BA)(A;;WD;;;BU)", true},
		"users become the owner":            {"D:(A;OICI;FA;;;BA)(A;;WO;;;BU)", true},
		"authenticated users change files":  {"D:(A;OICI;FA;;;BA)(A;OICI;0x1301bf;;;AU)", true},
		"they change only the files in it":  {"D:(A;OICI;FA;;;BA)(A;OICIIO;SDGXGWGR;;;AU)", true},
		"interactive users":                 {"D:(A;;FA;;;IU)", true},
		"users of the network":              {"D:(A;;FA;;;NU)", true},
		"guests":                            {"D:(A;;FA;;;BG)", true},
		"all users of the domain":           {"D:(A;;FA;;;S-1-5-21-1-2-3-513)", true},
		"all guests of the domain":          {"D:(A;;FA;;;S-1-5-21-1-2-3-514)", true},
		"a group of the domain, on purpose": {"D:(A;;FA;;;S-1-5-21-1-2-3-1513)", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			descriptor, err := windows.SecurityDescriptorFromString(tc.list)
			require.NoError(t, err)
			got, err := letsEverybodyWrite(descriptor)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

// FAT file systems have no access lists.
func TestLetsEverybodyWriteWithoutAList(t *testing.T) {
	t.Parallel()
	descriptor, err := windows.NewSecurityDescriptor()
	require.NoError(t, err)
	got, err := letsEverybodyWrite(descriptor)
	require.NoError(t, err)
	require.True(t, got)
	require.NoError(t, descriptor.SetDACL(nil, true, false))
	got, err = letsEverybodyWrite(descriptor)
	require.NoError(t, err)
	require.True(t, got)
}

func TestMakePrivateAccessList(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, MakePrivate(dir))
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	require.NoError(t, err)
	for _, path := range []string{dir, filepath.Dir(dir)} {
		descriptor, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
		require.NoError(t, err)
		list := descriptor.String()
		require.Contains(t, list, user.User.Sid.String())
		require.NotRegexp(t, `;(WD|AU|BU|IU)\)`, list)
	}
}

// A program that has a file open without sharing keeps everybody from it for a moment.
func TestRetryWaitsForOtherPrograms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, root.Close()) }()
	require.NoError(t, root.WriteFile("old", []byte("old"), 0o600))
	require.NoError(t, root.WriteFile("new", []byte("new"), 0o600))
	name, err := windows.UTF16PtrFromString(filepath.Join(dir, "old"))
	require.NoError(t, err)
	scanner, err := windows.CreateFile(name, windows.GENERIC_READ, 0, nil, windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL, 0)
	require.NoError(t, err)
	require.True(t, passes(Rename(root, "new", "old")), "it does not wait for ever")
	tries := 0
	require.NoError(t, Retry(func() error {
		if tries++; tries == 3 {
			require.NoError(t, windows.CloseHandle(scanner))
		}
		return root.Rename("new", "old")
	}))
	require.Equal(t, 3, tries)
	text, err := root.ReadFile("old")
	require.NoError(t, err)
	require.Equal(t, "new", string(text))
}
