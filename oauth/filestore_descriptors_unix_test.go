//go:build unix

package oauth_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// TestPrepareOutlivesDescriptors runs a process that has no descriptor left between Prepare and
// Swap.
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
	go func() { // takes each descriptor that becomes free meanwhile
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
