//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package oauth_test

import (
	"bufio"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// reservedFiles returns how many files of a store are reservations.
func reservedFiles(t *testing.T, dir string) (reserved int) {
	t.Helper()
	for _, name := range names(t, dir) {
		if strings.HasSuffix(name, ".tmp") {
			reserved++
		}
	}
	return reserved
}

// TestPrepareOutlivesDescriptors runs a process that has no descriptor left between Prepare and Swap.
func TestPrepareOutlivesDescriptors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	_, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	p := start(t, job{Work: "descriptors", Dir: dir})
	require.Equal(t, "stored", p.line(t))
	require.Equal(t, "PASS", p.line(t))
	in, _, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	require.Equal(t, "new", string(in.AccessToken))
	require.Zero(t, reservedFiles(t, dir))
}

func descriptorsJob(t *testing.T, j job) {
	t.Helper()
	s := j.store(t)
	report(t, "ready")
	in, version, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	created := oauth.Key{ClientID: clientID, MemberID: member, UserID: 7}
	var releases []func()
	for _, key := range []oauth.Key{fileKey, created} {
		release, err := s.Prepare(t.Context(), key)
		require.NoError(t, err)
		releases = append(releases, release)
	}

	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}))
	var open []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			break
		}
		open = append(open, f)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // takes each descriptor that becomes free in the meantime
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if f, err := os.Open(os.DevNull); err == nil {
				open = append(open, f)
			}
		}
	}()
	_, err = s.Prepare(t.Context(), fileKey)
	require.ErrorIs(t, err, syscall.EMFILE)
	_, _, err = s.Load(t.Context(), fileKey)
	require.ErrorIs(t, err, syscall.EMFILE)
	_, err = s.Swap(t.Context(), fileKey, "another", in)
	require.ErrorIs(t, err, oauth.ErrConflict)
	in.AccessToken = "new"
	_, err = s.Swap(t.Context(), fileKey, version, in)
	require.NoError(t, err)
	_, err = s.Swap(t.Context(), created, "", in)
	require.NoError(t, err)
	for _, release := range releases {
		release()
	}
	close(stop)
	<-stopped
	for _, f := range open {
		require.NoError(t, f.Close())
	}
	for _, key := range []oauth.Key{fileKey, created} {
		got, _, err := s.Load(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "new", string(got.AccessToken))
	}
	report(t, "stored")
}

// TestPrepareInTwoProcesses prepares one key in two processes, and kills one of them.
func TestPrepareInTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir)
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	release, err := s.Prepare(t.Context(), fileKey)
	require.NoError(t, err)
	p := start(t, job{Work: "prepare", Dir: dir})
	require.Equal(t, 2, reservedFiles(t, dir))
	fileStore(t, dir)
	require.Equal(t, 2, reservedFiles(t, dir), "both are alive")

	p.say(t, "swap")
	require.Equal(t, "swapped", p.line(t))
	require.Equal(t, 1, reservedFiles(t, dir))
	_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.ErrorIs(t, err, oauth.ErrConflict)
	p.say(t, "prepare")
	require.Equal(t, "prepared", p.line(t))
	require.NoError(t, p.Process.Kill())
	require.Error(t, p.Wait())
	require.Equal(t, 2, reservedFiles(t, dir), "a killed process leaves its reservation")
	fileStore(t, dir)
	require.Equal(t, 1, reservedFiles(t, dir), "the other one's stays")

	in, version, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	require.Equal(t, "of the other process", string(in.AccessToken))
	_, err = s.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.NoError(t, err)
	release()
	require.Zero(t, reservedFiles(t, dir))
}

func prepareJob(t *testing.T, j job) {
	t.Helper()
	s := j.store(t)
	in, version, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	release, err := s.Prepare(t.Context(), fileKey)
	require.NoError(t, err)
	report(t, "ready")
	orders := bufio.NewScanner(os.Stdin)
	_, _ = order(orders)
	in.AccessToken = "of the other process"
	_, err = s.Swap(t.Context(), fileKey, version, in)
	require.NoError(t, err)
	release()
	report(t, "swapped")
	_, _ = order(orders)
	_, err = s.Prepare(t.Context(), fileKey)
	require.NoError(t, err)
	report(t, "prepared")
	_, _ = order(orders) // to be killed
}
