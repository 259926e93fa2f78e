package sqlstore_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth/sqlstore"
)

// pgBouncer starts PgBouncer in transaction mode, which may give the connection to the server to
// another client after each transaction. It returns a place behind it.
func pgBouncer(t *testing.T, poolSize int) func(tb testing.TB) place {
	t.Helper()
	needs(t, "PostgreSQL", postgresAddress, postgresStart)
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		absent(t, "PgBouncer", "apt-get install -y pgbouncer")
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	dir, err := os.MkdirTemp("", "pgbouncer") //nolint:usetesting // its user could not read the folder of t
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // nothing in it is secret
	file := filepath.Join(dir, "pgbouncer.ini")
	settings := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=5432 user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
max_client_conn = 200
`, port, poolSize)
	require.NoError(t, os.WriteFile(file, []byte(settings), 0o644)) //nolint:gosec // nothing in it is secret

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	args := []string{file}
	if os.Geteuid() == 0 { // which PgBouncer does not run as
		args = []string{"-u", "postgres", file}
	}
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // found above
	var output syncBuffer
	cmd.Stderr = &output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second) //nolint:noctx // it has a time limit
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 30*time.Second, 20*time.Millisecond, "PgBouncer does not listen: %v", &output)
	return func(tb testing.TB) place {
		tb.Helper()
		p := freshPostgreSQL(tb)
		p.DSN = fmt.Sprintf("postgres://postgres@%s/test?sslmode=disable", address)
		return p
	}
}

// syncBuffer is a buffer that a process writes while the test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestPgBouncer runs the suites through PgBouncer, with two connections to the server for all.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	fresh := pgBouncer(t, 2)
	mode := func(mode string) func(tb testing.TB) place {
		return func(tb testing.TB) place {
			tb.Helper()
			return fresh(tb).with("default_query_exec_mode=" + mode)
		}
	}
	t.Run("exec", func(t *testing.T) {
		t.Parallel()
		conform(t, mode("exec"))
	})
	for _, other := range []string{"cache_describe", "simple_protocol"} {
		t.Run(other, func(t *testing.T) {
			t.Parallel()
			conformStore(t, mode(other))
			s := mode(other)(t).store(t)
			acquire(t, s, "one", "a", "b")
			require.Empty(t, acquire(t, s, "two", "a"))
			require.Positive(t, fence(t, s, "one"))
			require.NoError(t, s.Release(t.Context(), "one", "a", "b"))
			s.DeleteExpired(t.Context())
		})
	}
}

// TestPgBouncerAndPreparedStatements leaves pgx in its default mode, which names the statements
// that it prepares. The second connection meets the names of the first one. The error says what to
// do.
func TestPgBouncerAndPreparedStatements(t *testing.T) {
	t.Parallel()
	p := pgBouncer(t, 1)(t)
	for range 2 {
		_, err := sqlstore.New(t.Context(), p.open(t), p.dialect(), p.options()...)
		if err != nil {
			require.ErrorContains(t, err, "default_query_exec_mode=exec")
			requireSafe(t, err)
			return
		}
	}
	t.Fatal("there is no error")
}
