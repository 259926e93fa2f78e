package natsstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

const (
	patience = 30 * time.Second
	pace     = 10 * time.Millisecond
)

// scratch is the folder of servers that all tests of the process share.
var scratch string

func TestMain(m *testing.M) {
	if isChild() {
		os.Exit(child())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "natsstore"); err != nil {
		panic(err)
	}
	defer func() {
		if modern.server != nil {
			modern.server.kill()
		}
		_ = os.RemoveAll(scratch)
	}()
	return m.Run()
}

// unavailable skips the test, or fails it if all servers must be there.
func unavailable(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("REQUIRE_SERVERS") == "1" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}

// installedURL is the server that runs on this machine.
func installedURL(tb testing.TB) string {
	tb.Helper()
	url := os.Getenv("NATS_URL")
	if url == "" {
		url = "nats://127.0.0.1:4222"
	}
	nc, err := nats.Connect(url, nats.Timeout(5*time.Second))
	if err != nil {
		unavailable(tb, "no NATS server at %s: %v; start one with: nats-server -a 127.0.0.1 -p 4222 -js", url, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(tb, err)
	if _, err := js.AccountInfo(tb.Context()); err != nil {
		unavailable(tb, "the NATS server at %s has no JetStream: %v; start it with -js", url, err)
	}
	return url
}

// installedBinary is the program of the server that is installed on this machine.
func installedBinary(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("nats-server")
	if err != nil {
		unavailable(tb, "nats-server is not installed; on Debian: apt-get install nats-server")
	}
	return path
}

// modern is the server of the version in testdata/natsserver/go.mod.
var modern struct {
	build sync.Once
	path  string
	err   error

	start  sync.Once
	server *server
}

// modernBinary builds the program of the modern server, once.
func modernBinary(tb testing.TB) string {
	tb.Helper()
	modern.build.Do(func() {
		if modern.path = os.Getenv("NATS_SERVER"); modern.path != "" {
			return
		}
		modern.path = filepath.Join(scratch, "nats-server")
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", "build", "-o", modern.path, "github.com/nats-io/nats-server/v2") //nolint:gosec // a folder of the test
		cmd.Dir = filepath.Join("testdata", "natsserver")
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
		if out, err := cmd.CombinedOutput(); err != nil {
			modern.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if modern.err != nil {
		unavailable(tb, "cannot build nats-server: %v; NATS_SERVER may name a program", modern.err)
	}
	return modern.path
}

// modernURL is a modern server that the tests share.
func modernURL(tb testing.TB) string {
	tb.Helper()
	path := modernBinary(tb)
	modern.start.Do(func() {
		modern.server = &server{program: path, dir: filepath.Join(scratch, "modern"), port: freePort(tb)}
		modern.server.start(tb)
	})
	return modern.server.url()
}

// sharedServers are servers that others use too.
var sharedServers = map[string]func(testing.TB) string{"installed": installedURL, "modern": modernURL}

// programs are for servers that a test has for itself, and may kill.
var programs = map[string]func(testing.TB) string{"installed": installedBinary, "modern": modernBinary}

// server is a server of the tests' own.
type server struct {
	program string
	dir     string
	port    int
	config  string // file

	cmd *exec.Cmd
}

// startServer starts a server with a configuration in addition to the store and the port.
func startServer(tb testing.TB, program, config string) *server {
	tb.Helper()
	s := &server{program: program, dir: tb.TempDir(), port: freePort(tb)}
	if config != "" {
		s.config = filepath.Join(s.dir, "server.conf")
		require.NoError(tb, os.WriteFile(s.config, []byte(config), 0o600))
	}
	s.start(tb)
	tb.Cleanup(s.kill)
	return s
}

func (s *server) url() string { return "nats://127.0.0.1:" + strconv.Itoa(s.port) }

func (s *server) args() []string {
	args := []string{"-a", "127.0.0.1", "-p", strconv.Itoa(s.port), "-js", "-sd", s.store(), "-l", filepath.Join(s.dir, "log")}
	if s.config != "" {
		args = append(args, "-c", s.config)
	}
	return args
}

func (s *server) store() string { return filepath.Join(s.dir, "store") }

// start starts the server and waits until it takes connections, which is after it has read its
// streams.
func (s *server) start(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, os.MkdirAll(s.dir, 0o700))
	s.cmd = exec.CommandContext(context.WithoutCancel(tb.Context()), s.program, s.args()...) //nolint:gosec // a program of the test
	require.NoError(tb, s.cmd.Start())
	require.Eventually(tb, func() bool {
		dialer := net.Dialer{Timeout: time.Second}
		conn, err := dialer.DialContext(tb.Context(), "tcp", strings.TrimPrefix(s.url(), "nats://"))
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err = conn.Read(make([]byte, 16))
		return err == nil
	}, patience, pace, "the server does not start")
}

// kill ends the server without warning.
func (s *server) kill() { s.end(syscall.SIGKILL) }

// stop lets the server end by itself.
func (s *server) stop() { s.end(syscall.SIGTERM) }

func (s *server) end(signal os.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(signal)
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *server) version(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), s.program, "--version").Output() //nolint:gosec // a program of the test
	require.NoError(t, err)
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "nats-server: v")
}

// isOld reports whether the server is older than 2.10.
func (s *server) isOld(t *testing.T) bool {
	t.Helper()
	version := s.version(t)
	return strings.HasPrefix(version, "2.9.") || strings.HasPrefix(version, "2.8.")
}

// freePort returns a port for a server. It is none that the system gives to clients, which could
// have it while the server is being restarted.
func freePort(tb testing.TB) int {
	tb.Helper()
	var config net.ListenConfig
	for range 1000 {
		port := 12_000 + mathrand.IntN(20_000) //nolint:gosec // any will do
		l, err := config.Listen(tb.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		require.NoError(tb, l.Close())
		return port
	}
	require.Fail(tb, "there is no free port")
	return 0
}

// connect connects as the documentation of the package recommends. The test fails if the client had
// to drop messages because nobody read them.
func connect(tb testing.TB, url string, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	var dropped atomic.Int64
	opts = append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.Timeout(patience), nats.FlusherTimeout(5 * time.Second),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrSlowConsumer) {
				dropped.Add(1)
			}
		}),
	}, opts...)
	nc, err := nats.Connect(url, opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		nc.Close()
		require.Zero(tb, dropped.Load(), "messages were dropped")
	})
	return nc
}

// space is the streams of one test.
type space struct {
	testing.TB

	url  string
	name string
	opts []natsstore.Option
}

// newSpace returns names for streams, which are deleted at the end of the test.
func newSpace(tb testing.TB, url string, opts ...natsstore.Option) *space {
	tb.Helper()
	s := &space{TB: tb, url: url, name: "TEST-" + rand.Text()[:10], opts: opts}
	tb.Cleanup(func() {
		nc, err := nats.Connect(url)
		if err != nil {
			return // the server is the test's own, and gone
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		require.NoError(tb, err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
		defer cancel()
		for _, stream := range []string{"", "-marks", "-parked", "-done", "-leases"} {
			if err := js.DeleteStream(ctx, s.name+stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				tb.Logf("stream %s is left: %v", s.name+stream, err)
			}
		}
	})
	return s
}

// on opens a store on a connection. Each space has few partitions, unless options say otherwise.
func (s *space) on(tb testing.TB, nc *nats.Conn, opts ...natsstore.Option) *natsstore.Store {
	tb.Helper()
	store, err := s.try(tb, nc, opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = store.Close() })
	return store
}

func (s *space) try(tb testing.TB, nc *nats.Conn, opts ...natsstore.Option) (*natsstore.Store, error) {
	tb.Helper()
	all := append([]natsstore.Option{natsstore.WithName(s.name), natsstore.WithPartitions(4)}, s.opts...)
	return natsstore.New(tb.Context(), nc, append(all, opts...)...)
}

// open opens a store as another process would, with a connection of its own.
func (s *space) open(tb testing.TB, opts ...natsstore.Option) *natsstore.Store {
	tb.Helper()
	return s.on(tb, connect(tb, s.url), opts...)
}

// js is JetStream for what people do by hand.
func (s *space) js() jetstream.JetStream {
	s.Helper()
	js, err := jetstream.New(connect(s, s.url))
	require.NoError(s, err)
	return js
}

// count is the number of messages in one of the streams.
func (s *space) count(tb testing.TB, stream string) int {
	tb.Helper()
	st, err := s.js().Stream(tb.Context(), s.name+stream)
	require.NoError(tb, err)
	return int(st.CachedInfo().State.Msgs) //nolint:gosec // few
}

// records makes records with different data.
func records(part, n int, what string) []*webhook.Record {
	list := make([]*webhook.Record, n)
	for i := range list {
		list[i] = &webhook.Record{
			Part: part, Name: "ONCRMDEALUPDATE", MemberID: "portal", Received: time.Now().UTC().Truncate(time.Microsecond),
			Data: fmt.Appendf(nil, "%s/%d", what, i),
		}
	}
	return list
}

func marks(state webhook.State, list ...*webhook.Record) []webhook.Mark {
	var all []webhook.Mark
	for _, r := range list {
		all = append(all, webhook.Mark{Part: r.Part, ID: r.ID, State: state})
	}
	return all
}

// within is a context that should be long enough.
func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func commit(tb testing.TB, s *natsstore.Store, add []*webhook.Record, marks ...webhook.Mark) {
	tb.Helper()
	require.NoError(tb, s.Commit(within(tb), add, marks))
	for _, r := range add {
		require.NoError(tb, r.Rejected)
		require.NotEmpty(tb, r.ID)
	}
}

// feed is a Feed in a goroutine of its own.
type feed struct {
	testing.TB

	records chan *webhook.Record
	errs    chan error // one, when the Feed has ended: its error or nil
	cancel  context.CancelFunc
}

func startFeed(tb testing.TB, s *natsstore.Store, part int) *feed {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	f := &feed{TB: tb, records: make(chan *webhook.Record), errs: make(chan error, 1), cancel: cancel}
	tb.Cleanup(cancel)
	go func() {
		var failed error
		for r, err := range s.Feed(ctx, part) {
			if err != nil {
				failed = err
				continue
			}
			select {
			case f.records <- r:
			case <-ctx.Done():
			}
		}
		f.errs <- failed
	}()
	return f
}

// take is the next n records.
func (f *feed) take(n int) []*webhook.Record {
	f.Helper()
	var list []*webhook.Record
	for len(list) < n {
		select {
		case r := <-f.records:
			list = append(list, r)
		case err := <-f.errs:
			require.Failf(f, "the Feed ended", "after %d of %d records: %v", len(list), n, err)
		case <-time.After(patience):
			require.Failf(f, "the Feed hangs", "after %d of %d records", len(list), n)
		}
	}
	return list
}

// ended is the error with which the Feed ends.
func (f *feed) ended() error {
	f.Helper()
	for {
		select {
		case <-f.records:
		case err := <-f.errs:
			return err
		case <-time.After(patience):
			require.Fail(f, "the Feed does not end")
		}
	}
}

func (f *feed) stop() {
	f.Helper()
	f.cancel()
	require.NoError(f, f.ended())
}

// pending is what a new Feed yields. It stores a last record to know where to stop.
func pending(tb testing.TB, s *natsstore.Store, part int) []*webhook.Record {
	tb.Helper()
	end := records(part, 1, "end "+rand.Text())
	commit(tb, s, end)
	f := startFeed(tb, s, part)
	var list []*webhook.Record
	for {
		r := f.take(1)[0]
		if r.ID == end[0].ID {
			break
		}
		list = append(list, r)
	}
	f.stop()
	commit(tb, s, nil, marks(webhook.StateDone, end...)...)
	return list
}

func data(list []*webhook.Record) []string {
	all := make([]string, len(list))
	for i, r := range list {
		all[i] = string(r.Data)
	}
	return all
}

func ids(list []*webhook.Record) []string {
	all := make([]string, len(list))
	for i, r := range list {
		all[i] = r.ID
	}
	return all
}

// proxy is a network between a client and a server that can fail.
type proxy struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	hung   chan struct{} // closed when the network works; nothing passes before
	closed bool
}

func startProxy(tb testing.TB, url string) *proxy {
	tb.Helper()
	var config net.ListenConfig
	l, err := config.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &proxy{listener: l, to: strings.TrimPrefix(url, "nats://"), conns: make(map[net.Conn]struct{}), hung: make(chan struct{})}
	close(p.hung)
	go p.run()
	tb.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.resume()
		p.cut()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) run() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to) //nolint:noctx // ends with the test
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		go p.pass(client, server)
		go p.pass(server, client)
	}
}

func (p *proxy) pass(from, to net.Conn) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
		p.mu.Lock()
		delete(p.conns, from)
		p.mu.Unlock()
	}()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		hung := p.hung
		p.mu.Unlock()
		<-hung
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// hang lets nothing pass, and breaks nothing.
func (p *proxy) hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hung = make(chan struct{})
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.hung:
	default:
		close(p.hung)
	}
}

// copyDir copies the files of a server that does not run.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
}

var _ io.Closer = (*natsstore.Store)(nil)

// fed is the first n records that a new Feed yields. It stores nothing.
func fed(tb testing.TB, s *natsstore.Store, part, n int) []*webhook.Record {
	tb.Helper()
	f := startFeed(tb, s, part)
	defer f.stop()
	return f.take(n)
}

// everything calls each method in partition 2, which it leaves as it was.
func everything(tb testing.TB, s *natsstore.Store) {
	tb.Helper()
	before := ids(pending(tb, s, 2))
	add := records(2, 8, "everything")
	commit(tb, s, add)
	counted := marks(webhook.StatePending, add[1:4]...)
	for i := range counted {
		counted[i].Attempts = 7
	}
	commit(tb, s, nil, append(counted, marks(webhook.StateParked, add[4:]...)...)...)
	commit(tb, s, nil, marks(webhook.StateDone, add[0])...)
	list, err := s.Load(within(tb), 2, ids(add))
	require.NoError(tb, err)
	require.Equal(tb, ids(add[1:4]), ids(list))
	for _, r := range list {
		require.Equal(tb, 7, r.Attempts)
	}
	require.Equal(tb, append(before, ids(add[1:4])...), ids(pending(tb, s, 2)))
	depth, err := s.Depth(within(tb))
	require.NoError(tb, err)
	require.Equal(tb, int64(4), depth.Parked)
	list, err = s.List(within(tb), webhook.StateParked, add[4].ID, 2)
	require.NoError(tb, err)
	require.Equal(tb, ids(add[5:7]), ids(list))
	n, err := s.Replay(within(tb), ids(add)...)
	require.NoError(tb, err)
	require.Contains(tb, []int{4, 5}, n, "the one that is done may be kept")
	commit(tb, s, nil, marks(webhook.StateParked, pending(tb, s, 2)[len(before):]...)...)
	list, err = s.List(within(tb), webhook.StateParked, "", 100)
	require.NoError(tb, err)
	n, err = s.Discard(within(tb), ids(list)...)
	require.NoError(tb, err)
	require.Len(tb, list, n)
	require.Equal(tb, before, ids(pending(tb, s, 2)))
	held, err := s.Acquire(within(tb), "me", time.Minute, "everything")
	require.NoError(tb, err)
	require.Len(tb, held, 1)
	_, err = s.Fence(within(tb), "me", "everything")
	require.NoError(tb, err)
	owners, err := s.Held(within(tb), "every")
	require.NoError(tb, err)
	require.Equal(tb, map[string]string{"everything": "me"}, owners)
	require.NoError(tb, s.Release(within(tb), "me", "everything"))
}
