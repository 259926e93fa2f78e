package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
	"github.com/b24events/b24events/webhook/pgstore"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

// peer is a server that is measured.
type peer struct {
	name    string
	handler http.Handler
	hook    *webhook.Handler // nil for a bare server
	handled *atomic.Uint64
	closers []func() error
}

// newPeer returns a Handler with a queue. Its event handler only counts.
func newPeer(ctx context.Context, s settings, queue string, v webhook.Verifier) (p peer, err error) {
	p = peer{name: "webhook.Handler, " + queue, handled: new(atomic.Uint64)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	var opts []webhook.Option
	defer pprof.SetGoroutineLabels(ctx) // goroutines that were started before that keep the label
	pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("peer", p.name)))
	if queue != "memory" {
		store, err := p.open(ctx, s, queue)
		if err != nil {
			return p, err
		}
		opts = append(opts, webhook.WithStore(slowed(store, s)))
	}
	count := event.HandlerFunc(func(context.Context, *event.Delivery) error {
		p.handled.Add(1)
		return nil
	})
	mux := event.NewMux()
	mux.Handle(event.OnCrmDealUpdate.Name(), count)
	mux.Handle(event.OnImBotMessageAdd.Name(), count)
	p.hook, err = webhook.NewHandler(v, mux, opts...)
	p.handler = p.hook
	return p, err
}

// open opens an empty store.
func (p *peer) open(ctx context.Context, s settings, queue string) (webhook.Store, error) {
	switch queue {
	case "sqlite":
		dir, err := os.MkdirTemp(s.dir, "peerbench-*")
		if err != nil {
			return nil, err
		}
		p.closers = append(p.closers, func() error { return os.RemoveAll(dir) })
		store, err := sqlitestore.Open(ctx, filepath.Join(dir, "queue.db"))
		if err != nil {
			return nil, err
		}
		p.closers = append(p.closers, store.Close)
		return store, nil
	case "postgres":
		return p.openPostgres(ctx, s)
	case "nats":
		return p.openNATS(ctx, s)
	default:
		return nil, errors.New("no such queue; there are memory, sqlite, postgres and nats")
	}
}

// openPostgres opens an empty store in a schema of its own.
func (p *peer) openPostgres(ctx context.Context, s settings) (webhook.Store, error) {
	pool, err := pgxpool.New(ctx, s.postgres)
	if err != nil {
		return nil, errors.New("the address of PostgreSQL cannot be read; see -postgres")
	}
	p.closers = append(p.closers, func() error { pool.Close(); return nil })
	schema := "peerbench_" + strings.ToLower(rand.Text())
	p.closers = append(p.closers, func() error {
		_, err := pool.Exec(context.WithoutCancel(ctx), "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
		return err
	})
	store, err := pgstore.New(ctx, pool, pgstore.WithSchema(schema))
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, store.Close)
	return store, nil
}

// openNATS opens an empty store in streams of its own.
func (p *peer) openNATS(ctx context.Context, s settings) (webhook.Store, error) {
	nc, err := nats.Connect(s.nats)
	if err != nil {
		return nil, errors.New("no connection to NATS; see -nats")
	}
	p.closers = append(p.closers, func() error { nc.Close(); return nil })
	name := "PEERBENCH-" + rand.Text()
	p.closers = append(p.closers, func() error {
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		names := js.StreamNames(context.WithoutCancel(ctx))
		for stream := range names.Name() {
			if strings.HasPrefix(stream, name) {
				err = errors.Join(err, js.DeleteStream(context.WithoutCancel(ctx), stream))
			}
		}
		return errors.Join(err, names.Err())
	})
	store, err := natsstore.New(ctx, nc, natsstore.WithName(name))
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, store.Close)
	return store, nil
}

// slowStore simulates a store on a disk with slower syncs.
type slowStore struct {
	webhook.Store

	by time.Duration
}

func (s slowStore) Commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	err := s.Store.Commit(ctx, add, marks)
	select {
	case <-time.After(s.by):
	case <-ctx.Done():
	}
	return err
}

// slowLeaser is a slowStore with leases.
type slowLeaser struct {
	slowStore
	webhook.Leaser
}

// slowed adds the delay of the settings to each commit.
func slowed(store webhook.Store, s settings) webhook.Store {
	if s.syncDelay <= 0 {
		return store
	}
	slow := slowStore{store, s.syncDelay}
	if leaser, ok := store.(webhook.Leaser); ok {
		return slowLeaser{slow, leaser}
	}
	return slow
}

// idle waits until all answered requests are handled.
func (p *peer) idle(ctx context.Context) error {
	if p.hook == nil {
		return nil
	}
	return p.hook.Idle(ctx)
}

// check stops the peer and returns an error if it lost deliveries.
func (p *peer) check(ctx context.Context) error {
	if p.hook == nil {
		return nil
	}
	if err := p.hook.Shutdown(ctx); err != nil {
		return err
	}
	n := p.hook.Stats()
	if n.Handled < n.Accepted || p.handled.Load() < n.Accepted || n.Accepted == 0 || n.Unhandled > 0 || n.Lost > 0 {
		return errors.New("the handler lost deliveries")
	}
	return nil
}

// grouped returns how many deliveries a commit of the store holds on average, or 0 without a store.
func (p *peer) grouped() float64 {
	if p.hook == nil {
		return 0
	}
	n := p.hook.Stats().Store
	if n == nil || n.Commits == 0 {
		return 0
	}
	return float64(n.Records) / float64(n.Commits)
}

// close closes everything that was opened, in reverse order.
func (p *peer) close() (err error) {
	for _, closer := range slices.Backward(p.closers) {
		err = errors.Join(err, closer())
	}
	return err
}
