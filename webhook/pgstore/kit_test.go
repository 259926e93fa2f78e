package pgstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// patient is how long a test waits for something that must happen.
const patient = 30 * time.Second

const howToStart = "start PostgreSQL, with pg_ctlcluster 15 main start for example, or set POSTGRES_DSN"

// serverDSN returns the address of the server for tests.
func serverDSN() string {
	if dsn := os.Getenv("POSTGRES_DSN"); dsn != "" {
		return dsn
	}
	return "postgres://postgres@127.0.0.1:5432/test?sslmode=disable"
}

var probe = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, serverDSN())
	if err != nil {
		return err
	}
	return conn.Close(ctx)
})

// absent skips the test because something that it needs is not installed or does not run.
func absent(tb testing.TB, what, remedy string, err error) {
	tb.Helper()
	if os.Getenv("REQUIRE_SERVERS") == "1" {
		tb.Fatalf("%s: %v; %s", what, err, remedy)
	}
	tb.Skipf("%s: %v; %s", what, err, remedy)
}

// needServer skips the test if there is no server.
func needServer(tb testing.TB) string {
	tb.Helper()
	if err := probe(); err != nil {
		absent(tb, "PostgreSQL does not answer", howToStart, err)
	}
	return serverDSN()
}

// newPool opens a pool of a few connections.
func newPool(tb testing.TB, dsn string, change ...func(*pgxpool.Config)) *pgxpool.Pool {
	tb.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(tb, err)
	cfg.MaxConns = 6
	for _, f := range change {
		f(cfg)
	}
	pool, err := pgxpool.NewWithConfig(tb.Context(), cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			pool.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(patient):
			tb.Errorf("connections of the pool were not given back in %v", patient)
		}
	})
	return pool
}

// newSchema returns the name of a schema that is dropped at the end of the test.
func newSchema(tb testing.TB, dsn string) string {
	tb.Helper()
	name := fmt.Sprintf("t_%016x", rand.Uint64()) //nolint:gosec // it need not be secret
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patient)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return // the server was the test's own, and is gone
		}
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+name+" CASCADE")
		if err != nil {
			tb.Errorf("drop the schema of the test: %v", err)
		}
	})
	return name
}

// kit is a schema on the server with which tests make stores.
type kit struct {
	testing.TB

	dsn    string
	schema string
	pool   *pgxpool.Pool // for the test itself
}

func newKit(tb testing.TB) *kit {
	tb.Helper()
	return newKitOn(tb, needServer(tb))
}

func newKitOn(tb testing.TB, dsn string) *kit {
	tb.Helper()
	return &kit{TB: tb, dsn: dsn, schema: newSchema(tb, dsn), pool: newPool(tb, dsn)}
}

// open opens a store with a pool of its own.
func (k *kit) open(opts ...pgstore.Option) *pgstore.Store {
	k.Helper()
	return k.openWith(newPool(k, k.dsn), opts...)
}

func (k *kit) openWith(pool *pgxpool.Pool, opts ...pgstore.Option) *pgstore.Store {
	k.Helper()
	s, err := k.try(pool, opts...)
	require.NoError(k, err)
	k.Cleanup(func() { require.NoError(k, s.Close()) })
	return s
}

func (k *kit) try(pool *pgxpool.Pool, opts ...pgstore.Option) (*pgstore.Store, error) {
	opts = append([]pgstore.Option{pgstore.WithSchema(k.schema), pgstore.WithLogger(slog.New(slog.NewTextHandler(k.Output(), nil)))},
		opts...)
	return pgstore.New(k.Context(), pool, opts...)
}

// exec runs SQL with {s} for the schema.
func (k *kit) exec(sql string, args ...any) {
	k.Helper()
	_, err := k.pool.Exec(k.Context(), k.sql(sql), args...)
	require.NoError(k, err)
}

func (k *kit) sql(sql string) string {
	return strings.ReplaceAll(sql, "{s}", k.schema)
}

// number returns what a query returns.
func (k *kit) number(sql string) (n int64) {
	k.Helper()
	require.NoError(k, k.pool.QueryRow(k.Context(), k.sql(sql)).Scan(&n))
	return n
}

// record makes a record with a text as its data.
func record(part int, text string) *webhook.Record {
	return &webhook.Record{
		Part: part, Name: "ONCRMDEALUPDATE", MemberID: "a223c6b3710f85df22e9377d6c4f7553",
		Received: time.Now().UTC().Truncate(time.Microsecond), Data: []byte(text),
	}
}

func records(part int, texts ...string) (all []*webhook.Record) {
	for _, text := range texts {
		all = append(all, record(part, text))
	}
	return all
}

// store commits records and returns them.
func store(tb testing.TB, s *pgstore.Store, all ...*webhook.Record) []*webhook.Record {
	tb.Helper()
	require.NoError(tb, s.Commit(tb.Context(), all, nil))
	return all
}

// mark commits marks.
func mark(tb testing.TB, s *pgstore.Store, marks ...webhook.Mark) {
	tb.Helper()
	require.NoError(tb, s.Commit(tb.Context(), nil, marks))
}

func done(r *webhook.Record) webhook.Mark {
	return webhook.Mark{Part: r.Part, ID: r.ID, State: webhook.StateDone}
}

func parked(r *webhook.Record, why string) webhook.Mark {
	return webhook.Mark{Part: r.Part, ID: r.ID, State: webhook.StateParked, Attempts: 5, Err: why}
}

// feeding is a feed that runs in a goroutine.
type feeding struct {
	testing.TB

	got   chan *webhook.Record
	ended chan error // gets the error of the feed, nil if there was none
	stop  context.CancelFunc
}

// feed begins a feed, which ends with the test.
func feed(tb testing.TB, s *pgstore.Store, part int) *feeding {
	tb.Helper()
	ctx, stop := context.WithCancel(tb.Context())
	f := &feeding{TB: tb, got: make(chan *webhook.Record), ended: make(chan error, 1), stop: stop}
	go func() {
		for r, err := range s.Feed(ctx, part) {
			if err != nil {
				f.ended <- err
				return
			}
			select {
			case f.got <- r:
			case <-ctx.Done():
			}
		}
		f.ended <- nil
	}()
	tb.Cleanup(f.close)
	return f
}

func (f *feeding) close() {
	f.stop()
	<-f.ended
	f.ended <- nil
}

// next returns the next n records.
func (f *feeding) next(n int) (all []*webhook.Record) {
	f.Helper()
	timer := time.NewTimer(patient)
	defer timer.Stop()
	for range n {
		select {
		case r := <-f.got:
			all = append(all, r)
		case err := <-f.ended:
			f.ended <- err
			f.Fatalf("the feed has ended after %d records of %d: %v", len(all), n, err)
		case <-timer.C:
			f.Fatalf("the feed yields %d records of %d in %v", len(all), n, patient)
		}
	}
	return all
}

// texts returns the next n data.
func (f *feeding) texts(n int) (all []string) {
	f.Helper()
	for _, r := range f.next(n) {
		all = append(all, string(r.Data))
	}
	return all
}

// err waits for the end of the feed.
func (f *feeding) err() error {
	f.Helper()
	select {
	case err := <-f.ended:
		f.ended <- err
		return err
	case r := <-f.got:
		f.Fatalf("the feed yields %s", r.ID)
	case <-time.After(patient):
		f.Fatalf("the feed does not end in %v", patient)
	}
	return nil
}

// eventually waits for something.
func eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for end := time.Now().Add(patient); !f(); {
		if time.Now().After(end) {
			tb.Fatalf("not after %v: %s", patient, what)
		}
		pause(tb, 5*time.Millisecond)
	}
}

// pause waits a little between two looks at something.
func pause(tb testing.TB, d time.Duration) {
	tb.Helper()
	select {
	case <-time.After(d):
	case <-tb.Context().Done():
	}
}

// cleanupContext is for the cleanup of a test.
func (k *kit) cleanupContext() context.Context { return context.WithoutCancel(k.Context()) }
