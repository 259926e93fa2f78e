package program_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
)

const clientID = "local.5f0a1b2c3d4e5f.12345678"

// openData opens the access of an application with its state in a folder.
func openData(t *testing.T, data, client string) (*program.Access, error) {
	t.Helper()
	v, _, err := parse(programtest.Env{"B24_CLIENT_ID": client, "B24_CLIENT_SECRET": "hush-hush", "B24_DATA": data})
	require.NoError(t, err)
	return program.Open(v, programtest.Silent(), nil)
}

// tree returns what is in a folder and below: the contents of files, by path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		if d.Type().IsRegular() {
			found[path] = programtest.Read(t, filepath.Join(dir, path))
		}
		return nil
	}))
	return found
}

func TestEachApplicationHasAFolder(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "not", "there", "yet")
	seen := make(map[string]bool)
	for _, client := range []string{clientID, "app.1", "..", ".", "a/b", "a%2Fb", "a\\b", "a b", "a+b", "ä"} {
		access, err := openData(t, data, client)
		require.NoError(t, err, client)
		require.Equal(t, data, filepath.Dir(access.Data), client)
		require.False(t, seen[access.Data], client)
		seen[access.Data] = true
		again, err := openData(t, data, client)
		require.NoError(t, err, client)
		require.Equal(t, access.Data, again.Data)
		info, err := os.Stat(access.Data)
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
		}
	}
}

// The first version wrote the folder in testdata, without the name of its application.
func TestDataOfTheFirstVersionIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"installations", "queues", "spool", "listen-application-token"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.CopyFS(data, os.DirFS("testdata/olddata")))
			for _, other := range []string{"installations", "queues", "spool", "listen-application-token"} {
				if other != name {
					require.NoError(t, os.RemoveAll(filepath.Join(data, other)))
				}
			}
			before := tree(t, data)
			require.NotEmpty(t, before)
			_, err := openData(t, data, clientID)
			require.ErrorAs(t, err, new(*program.UsageError))
			require.ErrorContains(t, err, "older version ("+name+")")
			require.ErrorContains(t, err, "move it away")
			require.Equal(t, before, tree(t, data), "nothing was touched")
		})
	}
}

func TestDataOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, data string)
		says  string
	}{
		"another application's": {func(t *testing.T, data string) {
			t.Helper()
			_, err := openData(t, data, "app.2")
			require.NoError(t, err)
			require.NoError(t, os.RemoveAll(filepath.Join(data, "app-"+clientID)))
			require.NoError(t, os.Rename(filepath.Join(data, "app-app.2"), filepath.Join(data, "app-"+clientID)))
		}, `belongs to another queue or application (application "app.2")`},
		"nobody's": {func(t *testing.T, data string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(data, "app-"+clientID, "owner.json")))
		}, "does not record whose state it holds"},
		"a newer version's": {func(t *testing.T, data string) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(data, "app-"+clientID, "owner.json"), []byte(`{"version":2}`), 0o600))
		}, "cannot be read by this version"},
		"an owner that is a folder": {func(t *testing.T, data string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(data, "app-"+clientID, "owner.json")))
			require.NoError(t, os.Mkdir(filepath.Join(data, "app-"+clientID, "owner.json"), 0o700))
		}, "not a regular file"},
		"a file": {func(t *testing.T, data string) {
			t.Helper()
			require.NoError(t, os.RemoveAll(filepath.Join(data, "app-"+clientID)))
			require.NoError(t, os.WriteFile(filepath.Join(data, "app-"+clientID), nil, 0o600))
		}, "is not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			_, err := openData(t, data, clientID)
			require.NoError(t, err)
			tc.spoil(t, data)
			before := tree(t, data)
			_, err = openData(t, data, clientID)
			require.ErrorAs(t, err, new(*program.UsageError))
			require.ErrorContains(t, err, tc.says)
			require.Equal(t, before, tree(t, data), "nothing was touched")
		})
	}
}

// A folder that was made, and whose owner a crash kept from being written, is the application's.
func TestDataOfACrashDuringTheFirstStart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(data, "app-"+clientID), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(data, "app-"+clientID, ".new-123"), []byte("{"), 0o600))
	access, err := openData(t, data, clientID)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(access.Data, "owner.json"))
}

func TestTokens(t *testing.T) {
	t.Parallel()
	const a, b = "tokentokentokentokentokentokena", "tokentokentokentokentokentokenb"
	const portal, other = "a223c6b3710f85df22e9377d6c4f7553", "b223c6b3710f85df22e9377d6c4f7553"
	for name, tc := range map[string]struct {
		text string
		want []program.Token
		says string
	}{
		"none":            {text: " , ", want: []program.Token{}},
		"one":             {text: a, want: []program.Token{{Text: a}}},
		"one of a portal": {text: a + "@" + portal, want: []program.Token{{Text: a, MemberID: portal}}},
		"of two portals": {
			text: a + "@" + portal + ", " + b + "@" + other,
			want: []program.Token{{Text: a, MemberID: portal}, {Text: b, MemberID: other}},
		},
		"rotation": {
			text: a + "@" + portal + "," + b + "@" + portal,
			want: []program.Token{{Text: a, MemberID: portal}, {Text: b, MemberID: portal}},
		},
		"one is bound":       {text: a + "," + b + "@" + other, want: []program.Token{{Text: a}, {Text: b, MemberID: other}}},
		"two without portal": {text: a + "," + b, says: "write token@member_id for each"},
		"short":              {text: "changeme", says: "token 1 of 1 has less than 16 characters"},
		"short and bound":    {text: a + ",changeme@" + portal, says: "token 2 of 2 has less than 16 characters"},
		"no portal":          {text: a + "@", says: "is not a member_id"},
		"the folder above":   {text: a + "@..", says: "is not a member_id"},
		"two portals":        {text: a + "@" + portal + "@" + other, says: "is not a member_id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tokens, err := program.Values{"application-token": tc.text}.Tokens()
			if tc.says == "" {
				require.NoError(t, err)
				require.Equal(t, tc.want, tokens)
				return
			}
			require.ErrorAs(t, err, new(*program.UsageError))
			require.ErrorContains(t, err, tc.says)
			require.NotContains(t, err.Error(), a)
			require.NotContains(t, err.Error(), "changeme")
		})
	}
}
