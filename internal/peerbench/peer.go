package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync/atomic"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
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

// newPeer returns a Handler with a queue. Its event handler counts.
func newPeer(ctx context.Context, s settings, queue string, v webhook.Verifier) (p peer, err error) {
	p = peer{name: "webhook.Handler, " + queue, handled: new(atomic.Uint64)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	var opts []webhook.Option
	defer pprof.SetGoroutineLabels(ctx) // the goroutines that begin until then keep the label
	pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("peer", p.name)))
	if queue != "memory" {
		store, err := p.open(ctx, s, queue)
		if err != nil {
			return p, err
		}
		opts = append(opts, webhook.WithStore(store))
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
	default:
		return nil, errors.New("no such queue; there are memory and sqlite")
	}
}

// idle waits until everything that was answered is handled.
func (p *peer) idle(ctx context.Context) error {
	if p.hook == nil {
		return nil
	}
	return p.hook.Idle(ctx)
}

// check stops the peer and looks whether it lost anything.
func (p *peer) check(ctx context.Context) error {
	if p.hook == nil {
		return nil
	}
	if err := p.hook.Shutdown(ctx); err != nil {
		return err
	}
	n := p.hook.Stats()
	if n.Processed < n.Accepted || p.handled.Load() < n.Accepted || n.Accepted == 0 || n.Unhandled > 0 || n.Dropped > 0 {
		return errors.New("the handler lost deliveries")
	}
	return nil
}

// grouped returns how many deliveries a commit of the store kept on average, 0 without a store.
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

// close closes what was opened, the last first.
func (p *peer) close() (err error) {
	for _, closer := range slices.Backward(p.closers) {
		err = errors.Join(err, closer())
	}
	return err
}
