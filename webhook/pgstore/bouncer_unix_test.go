//go:build unix

package pgstore_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/offline/offlinetest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// startBouncer starts a PgBouncer in transaction mode in front of the server, with few connections
// to it, so that the statements of a client reach another session each time. It returns its
// address.
func startBouncer(t *testing.T, dsn string) string {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil && exists("/usr/sbin/pgbouncer") {
		path, err = "/usr/sbin/pgbouncer", nil
	}
	if err != nil {
		absent(t, "PgBouncer is not installed", "apt-get install -y pgbouncer", err)
	}
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	password := ""
	if cfg.Password != "" {
		password = " password='" + cfg.Password + "'"
	}
	port := freePort(t)
	dir := tempDir(t)
	ini := fmt.Sprintf(`[databases]
test = host=%s port=%d dbname=%s user=%s%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
`, cfg.Host, cfg.Port, cfg.Database, cfg.User, password, port)
	file := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(file, []byte(ini), 0o644))               //nolint:gosec // another user reads it
	c := exec.CommandContext(context.WithoutCancel(t.Context()), path, file) //nolint:gosec // what was found above
	c.SysProcAttr = unprivileged(t, dir)
	c.Dir = dir
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	require.NoError(t, c.Start())
	ended := make(chan struct{})
	go func() {
		_ = c.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-ended
	})
	eventually(t, "PgBouncer answers", func() bool {
		select {
		case <-ended:
			t.Fatalf("PgBouncer has ended: %s", output.String())
		default:
		}
		d := net.Dialer{Timeout: time.Second}
		conn, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		return err == nil && conn.Close() == nil
	})
	return "postgres://any@127.0.0.1:" + port + "/test?sslmode=disable"
}

// TestPgBouncer runs the suites through PgBouncer, with the default settings of the pool.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it runs the suites through PgBouncer")
	k := newKit(t)
	dsn := startBouncer(t, k.dsn)
	t.Run("store", func(t *testing.T) {
		t.Parallel()
		webhooktest.TestStore(t, func(t *testing.T) func(*testing.T) webhook.Store {
			t.Helper()
			k := newKit(t)
			pool := newPool(t, dsn)
			return func(t *testing.T) webhook.Store {
				t.Helper()
				s, err := k.try(pool, pgstore.WithPartitions(4))
				require.NoError(t, err)
				return s
			}
		})
	})
	t.Run("leaser", func(t *testing.T) {
		t.Parallel()
		offlinetest.TestLeaser(t, func(t *testing.T) offline.Leaser {
			t.Helper()
			return newKit(t).openWith(newPool(t, dsn))
		})
	})
	t.Run("transaction of a handler", func(t *testing.T) {
		t.Parallel()
		l := newLedger(t)
		s := l.openWith(newPool(t, dsn))
		for i, r := range store(t, s, records(0, "a", "b", "c")...) {
			ctx, finish := s.Attempt(t.Context(), 0, r.ID)
			tx, err := pgstore.Tx(ctx)
			require.NoError(t, err)
			_, err = tx.Exec(ctx, l.sql(`INSERT INTO {s}.ledger VALUES ($1)`), pgx.QueryExecModeExec, string(r.Data))
			require.NoError(t, err)
			if i == 1 {
				require.ErrorIs(t, finish(errHandler), errHandler)
				continue
			}
			require.NoError(t, finish(nil))
		}
		require.Equal(t, []string{"a", "c"}, l.written())
		require.Equal(t, int64(1), l.pending())
	})
}
