//go:build unix

package program_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/program"
)

// A folder that others may write to is refused, and so is one in such a folder: they could put
// their own state in its place.
func TestDataThatOthersMayWrite(t *testing.T) {
	t.Parallel()
	app := filepath.Join("outer", "data", "app-"+clientID)
	mode := func(path string, perm os.FileMode) func(t *testing.T, top string) {
		return func(t *testing.T, top string) {
			t.Helper()
			require.NoError(t, os.Chmod(filepath.Join(top, path), perm))
		}
	}
	owner := func(path string) func(t *testing.T, top string) {
		return func(t *testing.T, top string) {
			t.Helper()
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			require.NoError(t, os.Lchown(filepath.Join(top, path), 12345, -1))
		}
	}
	link := func(from, to string) func(t *testing.T, top string) {
		return func(t *testing.T, top string) {
			t.Helper()
			require.NoError(t, os.Rename(filepath.Join(top, from), filepath.Join(top, to)))
			require.NoError(t, os.Symlink(filepath.Join(top, to), filepath.Join(top, from)))
		}
	}
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, top string)
		says  string // empty when the folder is taken
	}{
		"nothing":                           {mode("outer", 0o700), ""},
		"everybody reads":                   {mode(filepath.Join("outer", "data"), 0o755), ""},
		"everybody writes":                  {mode(filepath.Join("outer", "data"), 0o777), "chmod go-w"},
		"the group writes":                  {mode(filepath.Join("outer", "data"), 0o770), "chmod go-w"},
		"everybody writes to the one above": {mode("outer", 0o777), "chmod go-w"},
		"the one above is like /tmp":        {mode("outer", 0o777|os.ModeSticky), ""},
		"everybody writes inside":           {mode(app, 0o777), "chmod go-w"},
		"everybody writes installations":    {mode(filepath.Join(app, "installations"), 0o777), "chmod go-w"},
		"everybody writes its owner":        {mode(filepath.Join(app, "owner.json"), 0o666), "chmod go-w"},
		"another user's":                    {owner(filepath.Join("outer", "data")), "belongs to another user"},
		"in another user's":                 {owner("outer"), "belongs to another user"},
		"another user's inside":             {owner(app), "belongs to another user"},
		"another user's file":               {owner(filepath.Join(app, "owner.json")), "belongs to another user"},
		"a link":                            {link(filepath.Join("outer", "data"), "elsewhere"), ""},
		"a link planted inside":             {link(app, "elsewhere"), "not a folder"},
		"installations planted as a link":   {link(filepath.Join(app, "installations"), "elsewhere"), "not a folder"},
		"a file planted as a link":          {link(filepath.Join(app, "owner.json"), "elsewhere"), "not a regular file"},
		"a link to what others may write": {func(t *testing.T, top string) {
			t.Helper()
			link(filepath.Join("outer", "data"), "elsewhere")(t, top)
			mode("elsewhere", 0o777)(t, top)
		}, "chmod go-w"},
		"another user's link": {func(t *testing.T, top string) {
			t.Helper()
			link(filepath.Join("outer", "data"), "elsewhere")(t, top)
			owner(filepath.Join("outer", "data"))(t, top)
		}, "belongs to another user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			data := filepath.Join(top, "outer", "data")
			require.NoError(t, os.Mkdir(filepath.Join(top, "outer"), 0o700))
			_, err := openData(t, data, clientID)
			require.NoError(t, err)
			tc.spoil(t, top)
			_, err = openData(t, data, clientID)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorAs(t, err, new(*program.UsageError))
			require.ErrorContains(t, err, tc.says)
		})
	}
}
