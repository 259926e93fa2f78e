//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package oauth_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/oauthtest"
)

var fileKey = oauth.Key{MemberID: member}

// fileStore opens a store as one process would.
func fileStore(tb testing.TB, dir string, opts ...oauth.FileOption) *oauth.FileStore {
	tb.Helper()
	s, err := oauth.NewFileStore(dir, opts...)
	require.NoError(tb, err)
	return s
}

// plantedInstallation has a secret wherever one can be.
func plantedInstallation() oauth.Installation {
	return oauth.Installation{
		MemberID: member, ClientEndpoint: "https://example.bitrix24.com/rest/", ServerEndpoint: official,
		AccessToken: planted + "-a", RefreshToken: planted + "-r", ApplicationToken: planted + "-t", PreviousApplicationToken: planted + "-p",
		Expires: time.Now().Add(time.Hour), Scope: []string{"crm"},
	}
}

// names lists a directory, without the lock files.
func names(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(tb, err)
	var list []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "lock-") {
			list = append(list, e.Name())
		}
	}
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
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), e.Name())
	}
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
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm())
	}
}

func TestNewFileStoreRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	overwrite(t, file, "")
	open := func(mode fs.FileMode) string {
		path := filepath.Join(dir, mode.String())
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	for name, c := range map[string]struct {
		dir  string
		opts []oauth.FileOption
		want error
	}{
		"no name":                 {},
		"a file":                  {dir: file, want: syscall.ENOTDIR},
		"below a file":            {dir: filepath.Join(file, "x"), want: syscall.ENOTDIR},
		"the group may write":     {dir: open(0o770), want: fs.ErrPermission},
		"all may write":           {dir: open(0o777), want: fs.ErrPermission},
		"all may write, stickily": {dir: open(0o777 | fs.ModeSticky), want: fs.ErrPermission},
		"short key":               {dir: dir, opts: []oauth.FileOption{oauth.WithEncryptionKey(make([]byte, 16))}, want: oauth.ErrEncryptionKey},
		"no key":                  {dir: dir, opts: []oauth.FileOption{oauth.WithEncryptionKey(nil)}, want: oauth.ErrEncryptionKey},
	} {
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
	fileStore(t, open(0o755), nil) // others see names, and a nil option is none
}

// TestFileStoreRefusesForeignContent puts files in the place of an installation.
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
		"newer":                func(good string) string { return strings.Replace(good, `"format": 1`, `"format": 2`, 1) },
		"older than the first": func(good string) string { return strings.Replace(good, `"format": 1`, `"format": 0`, 1) },
		"strange format":       func(good string) string { return strings.Replace(good, `"format": 1`, `"format": "`+planted+`"`, 1) },
		"unknown member": func(good string) string {
			return strings.Replace(good, `"format": 1`, `"format": 1, "`+planted+`": 1`, 1)
		},
		"unknown field": func(good string) string { return strings.Replace(good, `"status"`, `"`+planted+`"`, 1) },
		"wrong type": func(good string) string {
			return strings.Replace(good, `"refresh_token": "`, `"refresh_token": 1, "scope": "`+planted, 1)
		},
		"another portal's": func(good string) string { return strings.Replace(good, member, strings.Repeat("0", 32), 1) },
		"another user's":   func(good string) string { return strings.Replace(good, `"write"`, `"user_id": 7, "write"`, 1) },
		"no installation":  func(string) string { return `{"format":1,"member_id":"` + member + `","write":"x"}` },
		"both kinds":       func(good string) string { return strings.Replace(good, `"write"`, `"sealed": {}, "write"`, 1) },
		"too large":        func(good string) string { return good + strings.Repeat(" ", 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "portal-"+member+".json")
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

			// It is not lost by a new installation either: someone must look at it.
			_, err = s.Swap(t.Context(), fileKey, "", in)
			require.Error(t, err)
			requireNothingPlanted(t, err)
			data := contentOf(t, path)
			require.Equal(t, content, data)
			require.Equal(t, []string{filepath.Base(path)}, names(t, dir))
		})
	}
}

func TestFileStoreOpensNothingButFiles(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "elsewhere")
	overwrite(t, secret, planted)
	for name, make := range map[string]func(path string) error{
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"symlink":   func(path string) error { return os.Symlink(secret, path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, make(filepath.Join(dir, "portal-"+member+".json")))
			s := fileStore(t, dir)
			_, _, err := s.Load(t.Context(), fileKey)
			require.ErrorIs(t, err, oauth.ErrUnreadable)
			_, err = s.Swap(t.Context(), fileKey, "", plantedInstallation())
			require.ErrorIs(t, err, oauth.ErrUnreadable)
			require.ErrorIs(t, s.Delete(t.Context(), fileKey, "1"), oauth.ErrUnreadable)
		})
	}
}

// TestFileStoreSwapRefuses gives what a file cannot hold: it must not come back bent.
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

// TestFileStoreChangedByHand takes an edited file for another version.
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
	temp := filepath.Join(dir, "portal-"+member+".json.tmp")
	leave := func() { overwrite(t, temp, planted) }
	foreign := []string{"notes.tmp", "portal-.json.tmp", "portal-" + member + "-0.json.tmp", "portal-x.json.tmp.tmp"}
	for _, name := range foreign {
		overwrite(t, filepath.Join(dir, name), "")
	}

	leave()
	s := fileStore(t, dir)
	require.ElementsMatch(t, foreign, names(t, dir))
	leave()
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	require.NoFileExists(t, temp)
	leave()
	require.NoError(t, s.Delete(t.Context(), fileKey, version))
	require.ElementsMatch(t, foreign, names(t, dir))

	// A writer that is alive keeps its file.
	leave()
	release := lockAll(t, dir)
	fileStore(t, dir)
	require.FileExists(t, temp)
	release()
	fileStore(t, dir)
	require.NoFileExists(t, temp)
}

// lockAll takes every lock of a directory, as another process would.
func lockAll(tb testing.TB, dir string) (release func()) {
	tb.Helper()
	var files []*os.File
	for n := range 16 {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint("lock-", n)), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // a path of the test's
		require.NoError(tb, err)
		require.NoError(tb, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
		files = append(files, f)
	}
	return func() {
		for _, f := range files {
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

	// The first waits for the other process, the second for the first, and may leave.
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
	require.NoError(t, os.RemoveAll(dir))
	_, _, err = s.Load(t.Context(), fileKey)
	require.ErrorIs(t, err, oauth.ErrNotFound)
	_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.ErrorIs(t, err, fs.ErrNotExist)
	requireNothingPlanted(t, err)
	require.NotContains(t, err.Error(), dir)

	// A directory in the way of the temporary file makes the write fail; what was there stays.
	dir = t.TempDir()
	s = fileStore(t, dir)
	version, err = s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	blocked := filepath.Join(dir, names(t, dir)[0]+".tmp", "x")
	require.NoError(t, os.MkdirAll(blocked, 0o700))
	_, err = s.Swap(t.Context(), fileKey, version, oauth.Installation{})
	require.Error(t, err)
	require.NotErrorIs(t, err, oauth.ErrConflict)
	in, found, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	require.Equal(t, version, found)
	require.Equal(t, planted+"-a", string(in.AccessToken))
}

func TestFileStoreListsWhatIsStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	want := []oauth.Key{{MemberID: "a"}, {MemberID: "a", UserID: -5}, {MemberID: "../A"}, {MemberID: strings.Repeat("z", 5000), UserID: 9}}
	for _, key := range want {
		_, err := s.Swap(t.Context(), key, "", plantedInstallation())
		require.NoError(t, err)
	}
	for _, name := range []string{"notes.json", "portal-A.json", "portal-b-01.json", "portal-b-x.json", "hashed-abc.json", "portal-a.json.bak"} {
		overwrite(t, filepath.Join(dir, name), "")
	}
	list := func() (keys []oauth.Key, errs []error) {
		for key, err := range s.Keys(t.Context()) {
			if err != nil {
				require.Empty(t, key)
				errs = append(errs, err)
				continue
			}
			keys = append(keys, key)
		}
		return keys, errs
	}
	keys, errs := list()
	require.Empty(t, errs)
	require.ElementsMatch(t, want, keys)

	// A file that cannot be told is an error among the keys; one that shows its key by its name is left for Load to complain of.
	alien := "hashed-" + strings.Repeat("0", 64) + ".json"
	overwrite(t, filepath.Join(dir, alien), planted)
	overwrite(t, filepath.Join(dir, "portal-c.json"), planted)
	good := contentOf(t, filepath.Join(dir, "portal-a.json"))
	overwrite(t, filepath.Join(dir, "hashed-"+strings.Repeat("1", 64)+".json"), good)
	keys, errs = list()
	require.ElementsMatch(t, append(want, oauth.Key{MemberID: "c"}), keys)
	require.Len(t, errs, 2)
	for _, err := range errs {
		require.ErrorIs(t, err, oauth.ErrUnreadable)
		requireNothingPlanted(t, err)
	}
	require.ErrorContains(t, errs[0], alien)
}

// BenchmarkFileStore measures what each verified delivery costs, and each renewal, which waits for the disk.
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
