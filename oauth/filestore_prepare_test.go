package oauth_test

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// reservedFiles returns the number of reservations among the files of a store.
func reservedFiles(t *testing.T, dir string) (reserved int) {
	t.Helper()
	for _, name := range names(t, dir) {
		if strings.HasSuffix(name, ".tmp") {
			reserved++
		}
	}
	return reserved
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
