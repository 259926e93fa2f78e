package oauth_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/filelock"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/oauthtest"
)

var fileKey = oauth.Key{ClientID: clientID, MemberID: member}

// fileStore opens a store as a process would.
func fileStore(tb testing.TB, dir string, opts ...oauth.FileOption) *oauth.FileStore {
	tb.Helper()
	s, err := oauth.NewFileStore(dir, opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, s.Close()) })
	return s
}

// names lists the files of a store, without the lock files and the format.
func names(tb testing.TB, dir string) []string {
	tb.Helper()
	var list []string
	require.NoError(tb, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err == nil && !e.IsDir() && name != "format.json" && !strings.HasPrefix(name, "lock.") {
			list = append(list, name)
		}
		return err
	}))
	return list
}

func TestStoresConform(t *testing.T) {
	t.Parallel()
	for name, newBacking := range map[string]func(t *testing.T) func() oauth.Store{
		"memory": func(*testing.T) func() oauth.Store {
			s := oauth.NewMemoryStore()
			return func() oauth.Store { return s }
		},
		"file": func(t *testing.T) func() oauth.Store {
			t.Helper()
			dir := t.TempDir()
			return func() oauth.Store { return fileStore(t, dir) }
		},
		"encrypted file": func(t *testing.T) func() oauth.Store {
			t.Helper()
			dir := t.TempDir()
			return func() oauth.Store { return fileStore(t, dir, oauth.WithEncryptionKey(encryptionKey(1))) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oauthtest.TestStore(t, func(t *testing.T) oauth.Store {
				t.Helper()
				return newBacking(t)()
			})
		})
		t.Run(name+" shared", func(t *testing.T) {
			t.Parallel()
			oauthtest.TestSharedStore(t, newBacking)
		})
	}
}

func TestFileStoreIsPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state", "tokens")
	s := fileStore(t, dir)
	_, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	requireMode(t, 0o700, dir)
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		want := fs.FileMode(0o700)
		if !e.IsDir() {
			want = 0o600
			files++
		}
		if runtime.GOOS != "windows" || !e.IsDir() { // inner folders inherit the access list, except under Wine
			requireMode(t, want, path)
		}
		return nil
	}))
	require.GreaterOrEqual(t, files, 3, "the installation, a lock and the format")
	requireNothingPlanted(t, s)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", *s, *s, *s), planted)
}

func TestFileStoreMakesRestoredFilesPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := fileStore(t, dir).Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	ours, foreign := filepath.Join(dir, names(t, dir)[0]), filepath.Join(dir, "notes.txt")
	require.NoError(t, os.Chmod(ours, 0o644)) //nolint:gosec // on purpose
	overwrite(t, foreign, "")
	require.NoError(t, os.Chmod(foreign, 0o644)) //nolint:gosec // on purpose

	s := fileStore(t, dir)
	_, _, err = s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	for path, want := range map[string]fs.FileMode{ours: 0o600, foreign: 0o644} {
		requireMode(t, want, path)
	}
}

func TestNewFileStoreRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	overwrite(t, file, "")
	type refused struct {
		dir  string
		opts []oauth.FileOption
		want error
	}
	cases := map[string]refused{
		"no name":      {},
		"a file":       {dir: file, want: syscall.ENOTDIR},
		"below a file": {dir: filepath.Join(file, "x"), want: syscall.ENOTDIR},
		"short key":    {dir: dir, opts: []oauth.FileOption{oauth.WithEncryptionKey(make([]byte, 16))}, want: oauth.ErrEncryptionKey},
		"no key":       {dir: dir, opts: []oauth.FileOption{oauth.WithEncryptionKey(nil)}, want: oauth.ErrEncryptionKey},
	}
	for name, path := range openFolders(t, dir) {
		cases[name] = refused{dir: path, want: fs.ErrPermission}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := oauth.NewFileStore(c.dir, c.opts...)
			require.Error(t, err)
			require.Nil(t, s)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
		})
	}
	seen := filepath.Join(dir, "seen")
	require.NoError(t, os.Mkdir(seen, 0o700))
	require.NoError(t, os.Chmod(seen, 0o755)) //nolint:gosec // on purpose
	fileStore(t, seen, nil)                   // others see names, and a nil option is none
}

// TestFileStoreRefusesForeignContent replaces the file of an installation.
func TestFileStoreRefusesForeignContent(t *testing.T) {
	t.Parallel()
	good := func(t *testing.T, s oauth.Store, path string) string {
		t.Helper()
		_, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
		require.NoError(t, err)
		data := contentOf(t, path)
		return data
	}
	for name, change := range map[string]func(good string) string{
		"empty":                func(string) string { return "" },
		"not JSON":             func(string) string { return planted },
		"zeros":                func(good string) string { return strings.Repeat("\x00", len(good)) },
		"torn":                 func(good string) string { return good[:len(good)/2] },
		"two of it":            func(good string) string { return good + good },
		"trailing":             func(good string) string { return good + `"` + planted + `"` },
		"other JSON":           func(string) string { return `{"` + planted + `":"` + planted + `"}` },
		"a list":               func(string) string { return `["` + planted + `"]` },
		"null":                 func(string) string { return "null" },
		"newer":                func(good string) string { return strings.Replace(good, `"format": 2`, `"format": 3`, 1) },
		"older":                func(good string) string { return strings.Replace(good, `"format": 2`, `"format": 1`, 1) },
		"older than the first": func(good string) string { return strings.Replace(good, `"format": 2`, `"format": 0`, 1) },
		"strange format":       func(good string) string { return strings.Replace(good, `"format": 2`, `"format": "`+planted+`"`, 1) },
		"unknown member": func(good string) string {
			return strings.Replace(good, `"format": 2`, `"format": 2, "`+planted+`": 1`, 1)
		},
		"unknown field": func(good string) string { return strings.Replace(good, `"status"`, `"`+planted+`"`, 1) },
		"wrong type": func(good string) string {
			return strings.Replace(good, `"refresh_token": "`, `"refresh_token": 1, "scope": "`+planted, 1)
		},
		"another portal's": func(good string) string { return strings.Replace(good, member, strings.Repeat("0", 32), 1) },
		"another application's": func(good string) string {
			return strings.Replace(good, `"client_id": "local`, `"client_id": "app`, 1)
		},
		"another user's": func(good string) string { return strings.Replace(good, `"write"`, `"user_id": 7, "write"`, 1) },
		"no installation": func(string) string {
			return `{"format":2,"client_id":"` + clientID + `","member_id":"` + member + `","write":"x"}`
		},
		"both kinds": func(good string) string { return strings.Replace(good, `"write"`, `"sealed": {}, "write"`, 1) },
		"too large":  func(good string) string { return good + strings.Repeat(" ", 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := fileOf(dir, fileKey)
			s := fileStore(t, dir)
			in := plantedInstallation()
			in.Status = "L"
			content := change(good(t, s, path))
			if name == "unknown field" {
				_, version, err := s.Load(t.Context(), fileKey)
				require.NoError(t, err)
				_, err = s.Swap(t.Context(), fileKey, version, in)
				require.NoError(t, err)
				data := contentOf(t, path)
				content = change(data)
			}
			overwrite(t, path, content)

			got, version, err := s.Load(t.Context(), fileKey)
			require.ErrorIs(t, err, oauth.ErrUnreadable)
			require.NotErrorIs(t, err, oauth.ErrNotFound)
			require.Empty(t, version)
			require.Equal(t, oauth.Installation{}, got)
			require.ErrorContains(t, err, filepath.Base(path))
			requireNothingPlanted(t, err)

			// A new installation does not overwrite it: somebody must look at it.
			_, err = s.Swap(t.Context(), fileKey, "", in)
			require.Error(t, err)
			requireNothingPlanted(t, err)
			data := contentOf(t, path)
			require.Equal(t, content, data)
			require.Equal(t, path, filepath.Join(append([]string{dir}, names(t, dir)...)...))
		})
	}
}

func TestFileStoreOpensNothingButFiles(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "elsewhere")
	overwrite(t, secret, planted)
	for name, make := range map[string]func(path string) error{
		"pipe":      makePipe,
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"symlink":   func(path string) error { return os.Symlink(secret, path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if make == nil {
				t.Skip("folders of Windows hold no pipes")
			}
			dir := t.TempDir()
			s := fileStore(t, dir)
			require.NoError(t, os.MkdirAll(filepath.Dir(fileOf(dir, fileKey)), 0o700))
			require.NoError(t, make(fileOf(dir, fileKey)))
			fileStore(t, dir) // cleans up everything else
			_, _, err := s.Load(t.Context(), fileKey)
			require.ErrorIs(t, err, oauth.ErrUnreadable)
			_, err = s.Swap(t.Context(), fileKey, "", plantedInstallation())
			require.ErrorIs(t, err, oauth.ErrUnreadable)
			require.ErrorIs(t, s.Delete(t.Context(), fileKey, "1"), oauth.ErrUnreadable)
			release, err := s.Prepare(t.Context(), fileKey)
			require.NoError(t, err)
			_, err = s.Swap(t.Context(), fileKey, "", plantedInstallation())
			require.ErrorIs(t, err, oauth.ErrUnreadable)
			release()
			keys, err := s.List(t.Context(), oauth.Key{ClientID: clientID}, 10)
			require.NoError(t, err)
			require.Equal(t, []oauth.Key{fileKey}, keys, "the name shows the key")
			require.Equal(t, planted, contentOf(t, secret))
		})
	}
}

// TestFileStoreSwapRefuses writes what a file cannot hold, because it would come back changed.
func TestFileStoreSwapRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*oauth.Installation){
		"bytes that are not UTF-8": func(in *oauth.Installation) { in.RefreshToken = planted + "\xff" },
		"a time out of reach":      func(in *oauth.Installation) { in.Expires = time.Date(10000, 1, 2, 0, 0, 0, 0, time.UTC) },
		"too large":                func(in *oauth.Installation) { in.AccessToken = event.Secret(strings.Repeat(planted, 1<<17)) },
	} {
		for kind, opts := range map[string][]oauth.FileOption{"plain": nil, "encrypted": {oauth.WithEncryptionKey(encryptionKey(1))}} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				s := fileStore(t, dir, opts...)
				in := plantedInstallation()
				change(&in)
				_, err := s.Swap(t.Context(), fileKey, "", in)
				require.Error(t, err)
				require.NotErrorIs(t, err, oauth.ErrConflict)
				requireNothingPlanted(t, err)
				require.Empty(t, names(t, dir))
			})
		}
	}
}

// TestFileStoreChangedByHand edits a file, which makes it another version.
func TestFileStoreChangedByHand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	path := filepath.Join(dir, names(t, dir)[0])
	data := contentOf(t, path)
	overwrite(t, path, strings.Replace(data, planted+"-a", "edited", 1))

	_, err = s.Swap(t.Context(), fileKey, version, oauth.Installation{})
	require.ErrorIs(t, err, oauth.ErrConflict)
	in, _, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	require.Equal(t, "edited", string(in.AccessToken))
}

func TestFileStoreCleansUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	path := fileOf(dir, fileKey)
	mark := strings.Repeat("0123456789abcdef", 2)
	temp := path + "." + mark + ".tmp"
	leave := func() { overwrite(t, temp, planted) }
	for _, name := range []string{
		"notes.tmp", ".json." + mark + ".tmp", member + "-0.json." + mark + ".tmp", member + ".json.tmp",
		member + ".json." + mark[1:] + "x.tmp",
	} {
		overwrite(t, filepath.Join(filepath.Dir(path), name), "")
	}
	overwrite(t, filepath.Join(dir, filepath.Base(temp)), "")
	before := names(t, dir)

	leave()
	fileStore(t, dir)
	require.Equal(t, before, names(t, dir))

	// The temporary file of a live writer stays.
	leave()
	release := lockAll(t, dir)
	fileStore(t, dir)
	require.FileExists(t, temp)
	release()
	fileStore(t, dir)
	require.NoFileExists(t, temp)

	// So does that of a reservation.
	free, err := s.Prepare(t.Context(), fileKey)
	require.NoError(t, err)
	reserved := names(t, dir)
	require.Len(t, reserved, len(before)+1)
	fileStore(t, dir)
	require.Equal(t, reserved, names(t, dir))
	_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.NoError(t, err)
	require.Equal(t, before, names(t, dir))
	free()
	require.Equal(t, before, names(t, dir))
}

// lockAll takes every lock of a directory, as another process would.
func lockAll(tb testing.TB, dir string) (release func()) {
	tb.Helper()
	var files []*os.File
	for n := range 16 {
		name := filepath.Join(dir, fmt.Sprintf("lock.%02d", n))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // a path of the test's
		require.NoError(tb, err)
		ok, err := filelock.Try(f)
		require.NoError(tb, err)
		require.True(tb, ok)
		files = append(files, f)
	}
	return func() {
		for _, f := range files {
			filelock.Release(f)
			assert.NoError(tb, f.Close())
		}
	}
}

func TestFileStoreWaitsForTheLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	in := plantedInstallation()
	version, err := s.Swap(t.Context(), fileKey, "", in)
	require.NoError(t, err)
	release := lockAll(t, dir)

	_, found, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err, "readers do not wait")
	require.Equal(t, version, found)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = s.Swap(ctx, fileKey, version, in)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, s.Delete(ctx, fileKey, version), context.DeadlineExceeded)

	// The first waits for the other process. The second waits for the first, and may give up.
	results := make(chan error)
	go func() {
		_, err := s.Swap(t.Context(), fileKey, version, in)
		results <- err
	}()
	select {
	case err := <-results:
		require.Fail(t, "Swap did not wait", "%v", err)
	case <-time.After(30 * time.Millisecond):
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = s.Swap(ctx, fileKey, version, in)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	release()
	require.NoError(t, <-results)
}

func TestFileStoreReportsTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	if runtime.GOOS != "windows" { // which does not remove open folders
		require.NoError(t, os.RemoveAll(dir))
		_, _, err = s.Load(t.Context(), fileKey)
		require.ErrorIs(t, err, oauth.ErrNotFound)
		_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
		require.ErrorIs(t, err, fs.ErrNotExist)
		requireNothingPlanted(t, err)
		require.NotContains(t, err.Error(), dir)
	}

	// A file instead of the folder.
	dir = t.TempDir()
	s = fileStore(t, dir)
	overwrite(t, filepath.Join(dir, folderOfApplication), planted)
	_, _, err = s.Load(t.Context(), fileKey)
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	_, err = s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	_, err = s.Prepare(t.Context(), fileKey)
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	_, err = s.List(t.Context(), oauth.Key{ClientID: clientID}, 1)
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	requireNothingPlanted(t, err)
}

func TestFileStoreCloses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tokens")
	s := fileStore(t, dir)
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	before := names(t, dir)
	release, err := s.Prepare(t.Context(), fileKey)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	release()
	require.Equal(t, before, names(t, dir), "what was reserved is free")
	_, _, err = s.Load(t.Context(), fileKey)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = s.Prepare(t.Context(), fileKey)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = s.List(t.Context(), oauth.Key{ClientID: clientID}, 1)
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, s.Delete(t.Context(), fileKey, version), fs.ErrClosed)
	require.NoError(t, os.RemoveAll(dir))
	require.NoDirExists(t, dir)
}

// Copies from a backup may be read-only, and Windows does not replace read-only files.
func TestFileStoreReplacesReadOnlyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, os.Chmod(filepath.Join(dir, names(t, dir)[0]), 0o400))

	s = fileStore(t, dir)
	version, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), fileKey, version))
}

// TestFileStoreListsByName puts other files and folders among those of the store.
func TestFileStoreListsByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	want := []oauth.Key{{MemberID: "../A"}, {MemberID: "a"}, {MemberID: "a", UserID: 5}, {MemberID: strings.Repeat("z", 64), UserID: 9}}
	for i := range want {
		want[i].ClientID = clientID
		_, err := s.Swap(t.Context(), want[i], "", plantedInstallation())
		require.NoError(t, err)
	}
	application := filepath.Join(dir, folderOfApplication)
	shard := filepath.Join(application, "a")
	for _, name := range []string{"notes.json", "A.json", "a-01.json", "a-x.json", "b.json", "ab.json", "a.json.bak", "_61.json"} {
		overwrite(t, filepath.Join(shard, name), "")
	}
	overwrite(t, filepath.Join(application, "aa"), "")
	require.NoError(t, os.MkdirAll(filepath.Join(application, "X"), 0o700))
	require.NoError(t, os.Symlink("a", filepath.Join(application, "b")))
	overwrite(t, filepath.Join(dir, "notes.txt"), "")
	s = fileStore(t, dir)
	for _, limit := range []int{1, 3, 100} {
		var keys []oauth.Key
		for after := (oauth.Key{ClientID: clientID}); ; {
			page, err := s.List(t.Context(), after, limit)
			require.NoError(t, err)
			keys = append(keys, page...)
			if len(page) < limit {
				break
			}
			after = page[len(page)-1]
		}
		require.Equal(t, want, keys)
	}
	overwrite(t, filepath.Join(shard, "a-6.json"), planted) // Load returns an error for it
	page, err := s.List(t.Context(), want[2], 1)
	require.NoError(t, err)
	require.Equal(t, []oauth.Key{{ClientID: clientID, MemberID: "a", UserID: 6}}, page)
}

// TestFileStoreDoesNotFollowFolders replaces a folder by a link to that of another application.
func TestFileStoreDoesNotFollowFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	other := oauth.Key{ClientID: "other", MemberID: member}
	_, err := s.Swap(t.Context(), other, "", plantedInstallation())
	require.NoError(t, err)
	require.NoError(t, os.Symlink("other", filepath.Join(dir, folderOfApplication)))
	_, _, err = s.Load(t.Context(), fileKey)
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	_, err = s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	_, err = s.List(t.Context(), oauth.Key{ClientID: clientID}, 10)
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	require.Len(t, names(t, filepath.Join(dir, "other")), 1)

	// A file that was moved to another application's folder is not read either.
	require.NoError(t, os.Remove(filepath.Join(dir, folderOfApplication)))
	require.NoError(t, os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, folderOfApplication)))
	_, _, err = s.Load(t.Context(), fileKey)
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	requireNothingPlanted(t, err)
}

// TestFileStoreRefusesOtherDirectories opens directories that something else has filled, and leaves
// them as they are.
func TestFileStoreRefusesOtherDirectories(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fill func(t *testing.T, dir string)
		says string
	}{
		"written by the version before": {func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/filestore-v1")))
		}, "an earlier version"},
		"empty one of the version before": {func(t *testing.T, dir string) {
			t.Helper()
			overwrite(t, filepath.Join(dir, "lock-0"), "")
		}, "an earlier version"},
		"newer": {func(t *testing.T, dir string) {
			t.Helper()
			overwrite(t, filepath.Join(dir, "format.json"), `{"store":"b24events/oauth.FileStore","format":3,"new":1}`)
		}, "a newer version"},
		"marked by something else": {func(t *testing.T, dir string) {
			t.Helper()
			overwrite(t, filepath.Join(dir, "format.json"), `{"format":2}`)
		}, "not that of this package"},
		"damaged mark": {func(t *testing.T, dir string) {
			t.Helper()
			overwrite(t, filepath.Join(dir, "format.json"), "")
		}, "not that of this package"},
		"lost mark": {func(t *testing.T, dir string) {
			t.Helper()
			_, err := fileStore(t, dir).Swap(t.Context(), fileKey, "", plantedInstallation())
			require.NoError(t, err)
			require.NoError(t, os.Remove(filepath.Join(dir, "format.json")))
		}, "restore that file"},
		"someone's": {func(t *testing.T, dir string) {
			t.Helper()
			overwrite(t, filepath.Join(dir, "thesis.txt"), "")
		}, "is not empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.fill(t, dir)
			before := snapshot(t, dir)
			s, err := oauth.NewFileStore(dir)
			require.ErrorIs(t, err, oauth.ErrUnreadable)
			require.ErrorContains(t, err, c.says)
			require.Nil(t, s)
			require.Equal(t, before, snapshot(t, dir))
		})
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))
	overwrite(t, filepath.Join(dir, ".gitkeep"), "")
	fileStore(t, dir)
	fileStore(t, dir)
	require.JSONEq(t, `{"store":"b24events/oauth.FileStore","format":2}`, contentOf(t, filepath.Join(dir, "format.json")))
}

// snapshot returns the content of every file, and the mode of everything.
func snapshot(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	files := make(map[string]string)
	require.NoError(tb, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(tb, err)
		info, err := e.Info()
		require.NoError(tb, err)
		files[path] = info.Mode().String()
		if !e.IsDir() {
			files[path] += contentOf(tb, path)
		}
		return nil
	}))
	return files
}

// TestFileStoreSurvivesALostLockFile removes a lock file that a store keeps open.
func TestFileStoreSurvivesALostLockFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	locks, err := filepath.Glob(filepath.Join(dir, "lock.*"))
	require.NoError(t, err)
	require.NotEmpty(t, locks)
	for _, path := range locks {
		require.NoError(t, os.Remove(path))
	}
	release := lockAll(t, dir) // like another process, which finds no lock file
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = s.Swap(ctx, fileKey, version, plantedInstallation())
	require.ErrorIs(t, err, context.DeadlineExceeded, "both have the lock")
	release()
	_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.NoError(t, err)
}

func TestFileStoreRefusesUnsafeParents(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("on Windows the folders above are not checked")
	}
	base := t.TempDir()
	parent := func(name string, mode fs.FileMode) string {
		path := filepath.Join(base, name)
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.Chmod(path, mode))
		return filepath.Join(path, "store")
	}
	owned := func(name string, uid, gid int, mode fs.FileMode) string {
		store := parent(name, mode)
		require.NoError(t, os.Lchown(filepath.Dir(store), uid, gid))
		return store
	}
	type dirs map[string]string
	bad := dirs{"all may write": parent("all", 0o777)}
	good := dirs{"sticky": parent("sticky", 0o777|fs.ModeSticky), "others may list": parent("list", 0o755)}
	link := filepath.Join(base, "link")
	require.NoError(t, os.Symlink(filepath.Dir(bad["all may write"]), link))
	bad["behind a link"] = filepath.Join(link, "store")
	require.NoError(t, os.Mkdir(good["others may list"], 0o700))
	bad["a link that others can change"] = filepath.Join(base, "all", "way")
	require.NoError(t, os.Symlink(good["others may list"], bad["a link that others can change"]))
	if os.Geteuid() == 0 {
		bad["another user's"] = owned("user", 4711, 0, 0o755)
		bad["a group may write"] = owned("group", 0, 4711, 0o775)
		good["the own group may write"] = owned("own group", 0, 0, 0o775)
	} else {
		require.Empty(t, os.Getenv("CI"), "in CI these tests run as root, to change owners")
		t.Log("not root: owners are not changed")
	}
	for name, dir := range bad {
		_, err := oauth.NewFileStore(dir)
		require.ErrorIs(t, err, fs.ErrPermission, name)
		require.ErrorContains(t, err, "WithTrustedParents", name)
		fileStore(t, dir, oauth.WithTrustedParents())
	}
	for name, dir := range good {
		s, err := oauth.NewFileStore(dir)
		require.NoError(t, err, name)
		require.NoError(t, s.Close())
	}
}

// TestFileStoreRefusesUnsafeFolders opens a store whose inner folders others can write to, for
// example after a careless copy.
func TestFileStoreRefusesUnsafeFolders(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has neither modes nor numbers of users")
	}
	for _, inner := range []string{folderOfApplication, filepath.Join(folderOfApplication, member[:2])} {
		dir := t.TempDir()
		_, err := fileStore(t, dir).Swap(t.Context(), fileKey, "", plantedInstallation())
		require.NoError(t, err)
		require.NoError(t, os.Chmod(filepath.Join(dir, inner), 0o777)) //nolint:gosec // on purpose
		_, err = oauth.NewFileStore(dir, oauth.WithTrustedParents())
		require.ErrorIs(t, err, fs.ErrPermission)
	}
	if os.Geteuid() != 0 {
		require.Empty(t, os.Getenv("CI"), "in CI these tests run as root, to change owners")
		t.Skip("only root can give a directory to another user")
	}
	dir := filepath.Join(t.TempDir(), "theirs")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Lchown(dir, 4711, 4711))
	_, err := oauth.NewFileStore(dir, oauth.WithTrustedParents())
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, "another user owns")
}

// BenchmarkFileStore measures the cost of each verified delivery, and of each renewal, which waits
// for the disk.
func BenchmarkFileStore(b *testing.B) {
	for name, opts := range map[string][]oauth.FileOption{"plain": nil, "encrypted": {oauth.WithEncryptionKey(encryptionKey(1))}} {
		s, in := fileStore(b, b.TempDir(), opts...), plantedInstallation()
		version, err := s.Swap(b.Context(), fileKey, "", in)
		require.NoError(b, err)
		b.Run("load "+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := s.Load(b.Context(), fileKey)
				require.NoError(b, err)
			}
		})
		b.Run("swap "+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				version, err = s.Swap(b.Context(), fileKey, version, in)
				require.NoError(b, err)
			}
		})
	}
}
