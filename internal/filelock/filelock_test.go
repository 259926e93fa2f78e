package filelock_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/filelock"
)

// holderEnv is the file that a process of a test should lock.
const holderEnv = "FILELOCK_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holderEnv); path != "" {
		os.Exit(hold(path))
	}
	os.Exit(m.Run())
}

// hold locks a file, reports whether it got the lock, and keeps it until it is killed.
func hold(path string) int {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the test's own file
	if err != nil {
		return 1
	}
	ok, err := filelock.Try(f)
	switch {
	case err != nil:
		return 1
	case !ok:
		_, _ = io.WriteString(os.Stdout, "busy\n")
		return 0
	}
	_, _ = io.WriteString(os.Stdout, "locked\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// holder starts a process that locks a file, and returns its output.
func holder(t *testing.T, path string) (*exec.Cmd, string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self) //nolint:gosec // this binary
	cmd.Env = append(os.Environ(), holderEnv+"="+path)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = in.Close() })
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return cmd, line
}

func open(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags|os.O_CREATE, 0o600) //nolint:gosec // the test's own file
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func requireTry(t *testing.T, f *os.File, want bool) {
	t.Helper()
	got, err := filelock.Try(f)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestOpensExcludeEachOther(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]int{"for writing": os.O_RDWR, "for appending": os.O_RDWR | os.O_APPEND} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			first, second := open(t, path, flags), open(t, path, flags)
			requireTry(t, first, true)
			requireTry(t, second, false)
			filelock.Release(first)
			requireTry(t, second, true)
			requireTry(t, first, false)
			filelock.Release(second)
			require.NoError(t, second.Close())
			requireTry(t, first, true)
			filelock.Release(first)
		})
	}
}

// The programs lock files that others read while they grow.
func TestLockedFileCanBeReadAndWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	locked, other := open(t, path, os.O_RDWR|os.O_APPEND), open(t, path, os.O_RDWR|os.O_APPEND)
	requireTry(t, locked, true)
	defer filelock.Release(locked)
	for _, f := range []*os.File{locked, other} {
		_, err := f.WriteString("text\n")
		require.NoError(t, err)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the test's own file
	require.NoError(t, err)
	require.Equal(t, "text\ntext\n", string(text))
}

func TestProcessesExcludeEachOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	f := open(t, path, os.O_RDWR)
	first, said := holder(t, path)
	require.Equal(t, "locked\n", said)
	requireTry(t, f, false)
	second, said := holder(t, path)
	require.Equal(t, "busy\n", said)
	require.NoError(t, second.Wait())
	require.NoError(t, first.Process.Kill())
	require.Error(t, first.Wait())
	requireTry(t, f, true)
	defer filelock.Release(f)
	third, said := holder(t, path)
	require.Equal(t, "busy\n", said)
	require.NoError(t, third.Wait())
}

func TestTryReportsErrors(t *testing.T) {
	t.Parallel()
	f := open(t, filepath.Join(t.TempDir(), "file"), os.O_RDWR)
	require.NoError(t, f.Close())
	_, err := filelock.Try(f)
	require.Error(t, err)
}
