//go:build unix

package pgstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
)

// server is a PostgreSQL server that belongs to a test.
type server struct {
	testing.TB

	bin      string
	dir      string
	port     string
	settings []string
	as       *syscall.SysProcAttr
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has ended
	output   bytes.Buffer
}

// binaries returns the folder with the programs of the server.
func binaries(tb testing.TB) string {
	tb.Helper()
	if out, err := exec.CommandContext(tb.Context(), "pg_config", "--bindir").Output(); err == nil {
		if dir := strings.TrimSpace(string(out)); exists(filepath.Join(dir, "initdb")) {
			return dir
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		absent(tb, "PostgreSQL is not installed", "apt-get install -y postgresql", errors.New("no initdb"))
	}
	return filepath.Dir(found[len(found)-1])
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// unprivileged returns how to start a program as a user that PostgreSQL accepts, and gives that
// user the folder.
func unprivileged(tb testing.TB, dir string) *syscall.SysProcAttr {
	tb.Helper()
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		absent(tb, "there is no user postgres, and root may not start a server", "apt-get install -y postgresql", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	require.NoError(tb, err)
	gid, err := strconv.Atoi(u.Gid)
	require.NoError(tb, err)
	require.NoError(tb, os.Chown(dir, uid, gid))
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}} //nolint:gosec // from the system
}

// tempDir makes a folder that other users can reach, unlike those of testing.
func tempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pgstore") //nolint:usetesting // other users cannot reach those of testing
	require.NoError(tb, err)
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("remove the folder of the test: %v", err)
		}
	})
	return dir
}

func freePort(tb testing.TB) string {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(tb, err)
	require.NoError(tb, l.Close())
	return port
}

// startServer makes a new data folder and starts a server on it. Settings are like "fsync=off".
func startServer(tb testing.TB, settings ...string) *server {
	tb.Helper()
	longtest.Skip(tb, "it starts a server of its own")
	s := &server{TB: tb, bin: binaries(tb), port: freePort(tb), settings: settings}
	home := tempDir(tb)
	s.as = unprivileged(tb, home)
	s.dir = filepath.Join(home, "data")
	c := s.command("initdb", "-D", s.dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	out, err := c.CombinedOutput()
	require.NoError(tb, err, "%s", out)
	s.start()
	tb.Cleanup(s.stop)
	return s
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(context.Background(), filepath.Join(s.bin, name), args...) //nolint:gosec // the server's programs end after the test's context
	c.SysProcAttr = s.as
	c.Dir = filepath.Dir(s.dir)
	return c
}

// start starts the server, and waits until it answers. One that was killed leaves processes behind
// for a moment, and the next does not start as long as they are there.
func (s *server) start() {
	s.Helper()
	for end := time.Now().Add(patient); !s.tryStart(end); {
		if time.Now().After(end) {
			s.Fatalf("the server does not start: %s", s.output.String())
		}
		pause(s, 100*time.Millisecond)
	}
}

// tryStart reports whether the server answers; if not, it has ended.
func (s *server) tryStart(end time.Time) bool {
	s.Helper()
	args := []string{
		"-D", s.dir, "-p", s.port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c",
		"max_connections=60",
	}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.output.Reset()
	s.cmd = s.command("postgres", args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	require.NoError(s, s.cmd.Start())
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd, s.ended)
	for !s.answers() {
		select {
		case <-s.ended:
			return false
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			s.Fatalf("the server does not answer in %v", patient)
		}
	}
	return true
}

func (s *server) answers() bool {
	ctx, cancel := context.WithTimeout(s.Context(), time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn())
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// dsn is the address of the server.
func (s *server) dsn() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%s/postgres?sslmode=disable", s.port)
}

// kill kills the server without a shutdown, as a crash does.
func (s *server) kill() {
	s.Helper()
	require.NoError(s, s.cmd.Process.Kill())
	<-s.ended
}

// stop ends the server at the end of the test.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // at once
	select {
	case <-s.ended:
	case <-time.After(patient):
		s.Errorf("the server does not end in %v", patient)
	}
}
