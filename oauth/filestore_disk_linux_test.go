package oauth_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

// smallDisk mounts a file system of its own. Only root can do that; in CI it must be possible.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,"+options)
	if err != nil && os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skipf("this user cannot mount a small disk: %v", err)
	}
	require.NoError(t, err, "mounting a small disk")
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fillDisk writes until the disk is full, in space or in files. It returns a function that makes
// room again.
func fillDisk(t *testing.T, dir string) (empty func()) {
	t.Helper()
	folder := filepath.Join(dir, "filler")
	for n := 0; ; n++ {
		err := os.MkdirAll(folder, 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, strconv.Itoa(n)), make([]byte, 4096), 0o600)
		}
		if err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			break
		}
	}
	return func() { require.NoError(t, os.RemoveAll(folder)) }
}

// TestPrepareOutlivesAFullDisk lets others fill the disk between Prepare and Swap.
func TestPrepareOutlivesAFullDisk(t *testing.T) {
	t.Parallel()
	for kind, options := range map[string]string{"of space": "size=256k", "of files": "size=4m,nr_inodes=60"} {
		for name, opts := range map[string][]oauth.FileOption{"plain": nil, "encrypted": {oauth.WithEncryptionKey(encryptionKey(1))}} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				disk := smallDisk(t, options)
				dir := filepath.Join(disk, "store")
				s := fileStore(t, dir, opts...)
				in := plantedInstallation()
				version, err := s.Swap(t.Context(), fileKey, "", in)
				require.NoError(t, err)
				second := oauth.Key{ClientID: "app.2", MemberID: "c223c6b3710f85df22e9377d6c4f7553", UserID: 7}

				release, err := s.Prepare(t.Context(), fileKey)
				require.NoError(t, err)
				releaseSecond, err := s.Prepare(t.Context(), second)
				require.NoError(t, err)
				require.Equal(t, 2, reservedFiles(t, dir))
				empty := fillDisk(t, disk)

				// A write that was not prepared fails, and leaves nothing behind.
				other := fileStore(t, dir, opts...)
				_, err = other.Swap(t.Context(), fileKey, version, in)
				require.ErrorIs(t, err, syscall.ENOSPC)
				_, err = other.Prepare(t.Context(), fileKey)
				require.ErrorIs(t, err, syscall.ENOSPC)
				_, err = other.Prepare(t.Context(), oauth.Key{ClientID: "app.3", MemberID: member})
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.Equal(t, 2, reservedFiles(t, dir))
				_, found, err := other.Load(t.Context(), fileKey)
				require.NoError(t, err)
				require.Equal(t, version, found)

				// A write that was prepared succeeds, after a conflict too.
				_, err = s.Swap(t.Context(), fileKey, "another", in)
				require.ErrorIs(t, err, oauth.ErrConflict)
				in.AccessToken = "new"
				version, err = s.Swap(t.Context(), fileKey, version, in)
				require.NoError(t, err)
				created, err := s.Swap(t.Context(), second, "", in)
				require.NoError(t, err)
				require.Zero(t, reservedFiles(t, dir))
				for key, want := range map[oauth.Key]oauth.Version{fileKey: version, second: created} {
					got, found, err := other.Load(t.Context(), key)
					require.NoError(t, err)
					require.Equal(t, want, found)
					require.Equal(t, "new", string(got.AccessToken))
				}
				release()
				releaseSecond()

				empty()
				release, err = s.Prepare(t.Context(), fileKey)
				require.NoError(t, err)
				release()
				require.Zero(t, reservedFiles(t, dir))
			})
		}
	}
}

// TestPrepareReservesForLargeOnes fills the disk before it writes a large installation.
func TestPrepareReservesForLargeOnes(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "size=512k")
	s := fileStore(t, filepath.Join(disk, "store"))
	in := plantedInstallation()
	in.AccessToken = event.Secret(strings.Repeat("x", 40<<10))
	version, err := s.Swap(t.Context(), fileKey, "", in)
	require.NoError(t, err)
	release, err := s.Prepare(t.Context(), fileKey)
	require.NoError(t, err)
	defer release()
	fillDisk(t, disk)
	in.RefreshToken = event.Secret(strings.Repeat("y", 30<<10))
	_, err = s.Swap(t.Context(), fileKey, version, in)
	require.NoError(t, err)
	got, _, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	require.Equal(t, in.RefreshToken, got.RefreshToken)
}

// TestPrepareOnAReadOnlyDisk makes the disk read-only, as systems do after an error.
func TestPrepareOnAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "size=256k")
	s := fileStore(t, filepath.Join(disk, "store"))
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	require.NoError(t, syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))

	_, err = s.Prepare(t.Context(), fileKey)
	require.ErrorIs(t, err, syscall.EROFS)
	_, err = s.Prepare(t.Context(), oauth.Key{ClientID: "app.2", MemberID: member})
	require.ErrorIs(t, err, syscall.EROFS)
	_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.ErrorIs(t, err, syscall.EROFS)
	_, found, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	require.Equal(t, version, found)

	require.NoError(t, syscall.Mount("", disk, "", syscall.MS_REMOUNT, ""))
	release, err := s.Prepare(t.Context(), fileKey)
	require.NoError(t, err)
	_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.NoError(t, err)
	release()
}

// TestPrepareLeavesNothingOpen checks that no file is open after the reservations are used or
// released.
func TestPrepareLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	release, err := s.Prepare(t.Context(), fileKey)
	require.NoError(t, err)
	require.Contains(t, openFiles(t, dir), fileOf(dir, fileKey))
	version, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.NoError(t, err)
	require.Equal(t, []string{dir}, withoutLocks(openFiles(t, dir)))
	release()
	for range 3 {
		_, err = s.Prepare(t.Context(), fileKey)
		require.NoError(t, err)
	}
	other, err := s.Prepare(t.Context(), oauth.Key{ClientID: clientID, MemberID: member, UserID: 7})
	require.NoError(t, err)
	other()
	version, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), fileKey, version))
	require.Equal(t, 2, reservedFiles(t, dir))
}

func withoutLocks(paths []string) []string {
	var others []string
	for _, path := range paths {
		if !strings.HasPrefix(filepath.Base(path), "lock.") {
			others = append(others, path)
		}
	}
	return others
}

// openFiles returns the paths in a directory that this process has open.
func openFiles(t *testing.T, dir string) []string {
	t.Helper()
	const folder = "/proc/self/fd"
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	var paths []string
	for _, e := range entries {
		path, err := os.Readlink(filepath.Join(folder, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // of another test
		}
		require.NoError(t, err)
		if path == dir || strings.HasPrefix(path, dir+"/") {
			paths = append(paths, path)
		}
	}
	return paths
}
