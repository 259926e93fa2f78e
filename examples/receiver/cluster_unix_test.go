//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/webhook"
)

// asWorker makes the test binary a worker: a Handler on the queue of the receiver's settings, whose
// event handler notes when it begins and ends. The value is the file for that.
const asWorker = "RECEIVER_TEST_WORKER"

// Settings of a worker besides those of the receiver.
const (
	workerTTL     = "RECEIVER_TEST_TTL"     // of the leases of partitions
	workerReplica = "RECEIVER_TEST_REPLICA" // what its notes begin with
)

// poison is the object whose handler kills its process.
const poison = 666

func init() { testWorker = worker } //nolint:gochecknoinits // before TestMain, which is for all systems

// worker is the program of the process. It runs until it is killed or stopped.
func worker(file string) int {
	if err := work(file); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "worker:", program.OneLine(err.Error()))
		return 1
	}
	return 0
}

func work(file string) error {
	ctx := context.Background()
	cfg, err := configure(program.Env{Getenv: os.LookupEnv, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	notes, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600) //nolint:gosec // the test's
	if err != nil {
		return err
	}
	stored, err := openStorage(ctx, cfg)
	if err != nil {
		return err
	}
	defer stored.close()
	opts := append(stored.options(), webhook.WithWorkers(cfg.workers), webhook.WithPortalWorkers(cfg.workers),
		webhook.WithLogger(cfg.logger))
	if ttl, err := time.ParseDuration(os.Getenv(workerTTL)); err == nil {
		opts = append(opts, webhook.WithLeaseTTL(ttl))
	}
	note := func(what string, d *event.Delivery) error {
		_, err := fmt.Fprintf(notes, "%s %s %s/%s %s %d\n", os.Getenv(workerReplica), what, d.MemberID(), d.Entity().ID,
			d.Data.Get("FIELDS", "V").Text(), time.Now().UnixNano())
		return err
	}
	hook, err := webhook.NewHandler(insecure{}, event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
		if err := note("begin", d); err != nil {
			return err
		}
		if d.Entity().ID == strconv.Itoa(poison) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		if !wait(ctx, cfg.handlerDelay) {
			return context.Cause(ctx)
		}
		return note("end", d)
	}), opts...)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cfg.listen) //nolint:noctx // of a test
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", hook)
	mux.HandleFunc("GET /partitions", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, hook.Stats().Store.Partitions)
	})
	mux.HandleFunc("GET /pending", func(w http.ResponseWriter, r *http.Request) {
		d, err := stored.queue.Depth(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprint(w, d.Pending, " ", d.Parked)
	})
	cfg.logger.LogAttrs(ctx, slog.LevelInfo, "worker is ready", slog.String("listen", listener.Addr().String()))
	return http.Serve(listener, mux) //nolint:gosec // of a test
}

// insecure proves the portal that the sender names.
type insecure struct{}

func (insecure) Verify(_ context.Context, d *event.Delivery) (event.Proof, error) {
	return event.Proof{By: event.ProofWebhook, MemberID: d.ClaimedMemberID()}, nil
}

// engine is a queue that the tests run on.
type engine struct {
	name   string
	env    programtest.Env
	shared bool
}

// engines returns the queues whose servers answer. Each test gets a queue of its own.
func engines(t *testing.T) []engine {
	t.Helper()
	id := fmt.Sprintf("t%d", rand.Uint64()) //nolint:gosec // a name
	all := []engine{{"sqlite", programtest.Env{"QUEUE": "durable", "B24_CLIENT_ID": id}, false}}
	for name, url := range map[string]string{
		"postgres": "postgres://postgres@127.0.0.1:5432/test?sslmode=disable",
		"nats":     "nats://127.0.0.1:4222",
	} {
		e := engine{name, programtest.Env{"QUEUE_URL": url, "B24_CLIENT_ID": id}, true}
		e.available(t)
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b engine) int { return strings.Compare(a.name, b.name) })
	return all
}

// available skips the test if the server does not answer.
func (e engine) available(t *testing.T) {
	t.Helper()
	if e.name == "nats" {
		answers(t, "127.0.0.1:4222", "nats-server -a 127.0.0.1 -js")
	} else {
		answers(t, "127.0.0.1:5432", "pg_ctlcluster --skip-systemctl-redirect 15 main start")
	}
}

// answers skips the test if no server listens at an address, and says how to start one.
func answers(t *testing.T, address, start string) {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", address)
	switch {
	case err == nil:
		require.NoError(t, conn.Close())
	case os.Getenv("REQUIRE_SERVERS") != "":
		t.Fatalf("no server at %s; start it with: %s", address, start)
	default:
		t.Skipf("no server at %s; start it with: %s", address, start)
	}
}

// dropQueue deletes the queue of a test.
func dropQueue(t *testing.T, env programtest.Env) {
	t.Helper()
	ctx := context.Background()
	cfg, err := configure(env.Program())
	require.NoError(t, err)
	s, err := openStorage(ctx, cfg)
	require.NoError(t, err)
	defer s.close()
	switch cfg.queue {
	case queuePostgres:
		_, err = s.pool.Exec(ctx, "DROP SCHEMA b24events_"+s.queueID()+" CASCADE")
		require.NoError(t, err)
	case queueNATS:
		js, err := jetstream.New(s.nats)
		require.NoError(t, err)
		names := js.StreamNames(ctx)
		for name := range names.Name() {
			if strings.Contains(name, s.queueID()) {
				require.NoError(t, js.DeleteStream(ctx, name))
			}
		}
	case queueSQLite, queueMemory:
	}
}

// field is processes that share a queue, and what they noted.
type field struct {
	t     *testing.T
	e     engine
	env   programtest.Env
	notes string

	mu    sync.Mutex
	acked map[string][]int // by object
	sent  atomic.Int64
	lost  atomic.Int64 // answered otherwise
}

func newField(t *testing.T, e engine, env ...string) *field {
	t.Helper()
	f := &field{t: t, e: e, notes: filepath.Join(t.TempDir(), "notes"), acked: make(map[string][]int)}
	f.env = e.env.With(asWorker, f.notes, "LISTEN", "127.0.0.1:0", "LOG_FORMAT", "json", "B24_DATA", t.TempDir(),
		"B24_CLIENT_SECRET", "secret", workerTTL, "1s").With(env...)
	t.Cleanup(func() {
		if !t.Failed() {
			dropQueue(t, f.env)
		}
	})
	return f
}

// start starts a process.
func (f *field) start(env ...string) *realProcess {
	f.t.Helper()
	p := &realProcess{Exec: programtest.StartExec(f.t, programtest.ExecConfig{Env: f.env.With(env...)})}
	p.web = &process{Process: &programtest.Process{Stdout: p.Stdout, Stderr: p.Stderr}}
	p.web.ready(f.t)
	return p
}

// client is used for all requests, so that connections are reused.
var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}

// load is how much a burst sends.
type load struct {
	portals  int
	objects  int // of each portal
	versions int // of each object
	from     int // the first version
}

// burst sends changes of objects, those of each in order, to one of the addresses in turn.
func (f *field) burst(ctx context.Context, urls func() []string, l load) {
	var all sync.WaitGroup
	for portal := range l.portals {
		for object := 1; object <= l.objects; object++ {
			all.Go(func() {
				member := fmt.Sprintf("%032x", portal)
				key := fmt.Sprintf("%s/%d", member, object)
				for v := l.from; v < l.from+l.versions && ctx.Err() == nil; v++ {
					to := urls()
					if len(to) == 0 {
						return
					}
					f.sent.Add(1)
					if f.change(ctx, to[v%len(to)], member, object, v) {
						f.mu.Lock()
						f.acked[key] = append(f.acked[key], v)
						f.mu.Unlock()
					} else {
						f.lost.Add(1)
					}
				}
			})
		}
	}
	all.Wait()
}

// change posts one change, and reports whether it was acknowledged.
func (f *field) change(ctx context.Context, url, member string, object, version int) bool {
	body, err := eventtest.Body(event.OnCrmDealUpdate, map[string]any{"FIELDS": map[string]any{"ID": object, "V": version}},
		eventtest.WithMember(member), eventtest.WithToken(fixedToken))
	if err != nil {
		f.t.Error(err)
		return false
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(string(body)))
	if err != nil {
		f.t.Error(err)
		return false
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// text gets a page of a process.
func (p *realProcess) text(ctx context.Context, path string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.web.url+path, nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), err
}

// drained waits until nothing is pending, and returns how many are parked.
func (f *field) drained(p *realProcess, patience time.Duration) (parked int) {
	f.t.Helper()
	last := ""
	require.Eventually(f.t, func() bool {
		text, err := p.text(f.t.Context(), "/pending")
		if err != nil {
			last = err.Error()
			return false
		}
		last = text
		var pending int
		_, err = fmt.Sscan(text, &pending, &parked)
		return err == nil && pending == 0
	}, patience, 20*time.Millisecond, "the queue does not become empty: %s", &last)
	return parked
}

// report is what the notes of all processes say.
type report struct {
	acknowledged, lost, duplicates, outOfOrder, overlapping int
	wrong                                                   []string // attempts that were out of order or overlapping
}

func (r report) String() string {
	return fmt.Sprintf("%d acknowledged, %d lost, %d handled again, %d out of order, %d overlapping",
		r.acknowledged, r.lost, r.duplicates, r.outOfOrder, r.overlapping)
}

// span is one attempt.
type span struct {
	replica    string
	begin, end int64
	version    int
}

// report reads the notes.
func (f *field) report() (r report) {
	f.t.Helper()
	file, err := os.Open(f.notes)
	require.NoError(f.t, err)
	defer func() { _ = file.Close() }()
	spans := make(map[string][]*span) // by object, in the order in which they began
	handled := make(map[string]int)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var replica, what, object string
		var version int
		var at int64
		if _, err := fmt.Sscan(lines.Text(), &replica, &what, &object, &version, &at); err != nil {
			continue // a process died while it wrote
		}
		switch what {
		case "begin":
			spans[object] = append(spans[object], &span{replica: replica, begin: at, version: version})
		case "end":
			handled[fmt.Sprint(object, " ", version)]++
			for _, s := range slices.Backward(spans[object]) {
				if s.version == version && s.replica == replica && s.end == 0 {
					s.end = at
					break
				}
			}
		}
	}
	for object, versions := range f.acked {
		for _, v := range versions {
			r.acknowledged++
			n := handled[fmt.Sprint(object, " ", v)]
			if n == 0 {
				r.lost++
			}
			r.duplicates += max(0, n-1)
		}
	}
	for object, of := range spans {
		slices.SortFunc(of, func(a, b *span) int { return int(a.begin - b.begin) })
		newest, first := 0, make(map[int]bool)
		for i, s := range of {
			// A change whose sender gave up may be stored behind later ones.
			if !first[s.version] && s.version < newest && slices.Contains(f.acked[object], s.version) {
				r.outOfOrder++
				r.wrong = append(r.wrong,
					fmt.Sprintf("%s began %s version %d after %d at %d", s.replica, object, s.version, newest, s.begin))
			}
			first[s.version] = true
			newest = max(newest, s.version)
			if slices.ContainsFunc(of[i+1:], func(later *span) bool { return s.end > later.begin }) {
				r.overlapping++
				r.wrong = append(r.wrong, fmt.Sprintf("%s ended %s version %d at %d, %v after it began", s.replica, object, s.version,
					s.end, time.Duration(s.end-s.begin)))
			}
		}
	}
	return r
}

// kill kills a process as a crash does.
func (p *realProcess) kill(t *testing.T) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	p.Wait(t)
}

func kills() int {
	return longtest.Times(2, 10)
}

// TestKills: one process is killed in the middle of each burst of 1,000 events, and started again.
func TestKills(t *testing.T) {
	t.Parallel()
	for _, e := range engines(t) {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			f := newField(t, e, "HANDLER_DELAY", "2ms", "WORKERS", "16", workerReplica, "r")
			for round := range kills() {
				p := f.start(workerReplica, "r"+strconv.Itoa(round))
				ctx, cancel := context.WithCancel(t.Context())
				timer := time.AfterFunc(time.Duration(100+rand.IntN(400))*time.Millisecond, func() { //nolint:gosec // a moment
					p.kill(t)
					cancel()
				})
				f.burst(ctx, func() []string { return []string{p.web.url} }, load{portals: 5, objects: 10, versions: 20, from: 1 + 20*round})
				if timer.Stop() {
					p.kill(t)
				}
				cancel()
			}
			p := f.start(workerReplica, "last")
			require.Zero(t, f.drained(p, 2*time.Minute))
			r := f.report()
			t.Logf("%s: %d kills: %v", e.name, kills(), r)
			require.Greater(t, r.acknowledged, 100)
			require.Zero(t, r.lost)
			require.Zero(t, r.outOfOrder)
			require.Zero(t, r.overlapping)
			p.kill(t)
		})
	}
}

// TestPoison: a delivery that kills its process is parked, and no other.
func TestPoisonousDelivery(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it kills processes again and again")
	for _, e := range engines(t) {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			f := newField(t, e, "HANDLER_DELAY", "20ms", "WORKERS", "8")
			p := f.start(workerReplica, "r0")
			member := fmt.Sprintf("%032x", 1)
			f.burst(t.Context(), func() []string { return []string{p.web.url} }, load{portals: 3, objects: 10, versions: 3, from: 1})
			f.change(t.Context(), p.web.url, member, poison, 1)
			f.burst(t.Context(), func() []string { return []string{p.web.url} }, load{portals: 3, objects: 10, versions: 3, from: 4})
			lives := 1
			for ; lives < 12; lives++ {
				p.Wait(t)
				p = f.start(workerReplica, "r"+strconv.Itoa(lives))
				if f.survives(p) {
					break
				}
			}
			require.Equal(t, 1, f.drained(p, time.Minute), "one is parked")
			r := f.report()
			t.Logf("%s: %d lives: %v", e.name, lives, r)
			require.LessOrEqual(t, lives, 7)
			require.Zero(t, r.lost)
			require.Zero(t, r.outOfOrder)
			p.kill(t)
		})
	}
}

// survives reports whether a process comes to the end of the queue.
func (f *field) survives(p *realProcess) bool {
	for {
		text, err := p.text(f.t.Context(), "/pending")
		if err != nil {
			return false
		}
		if strings.HasPrefix(text, "0 ") {
			return true
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-f.t.Context().Done():
			return false
		}
	}
}
