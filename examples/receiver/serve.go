package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/webhook"
)

// serve answers requests until serving ends. Then it processes the events that it has acknowledged,
// until draining ends.
func serve(serving, draining context.Context, cfg config, stdout io.Writer) error {
	serving, abort := context.WithCancelCause(serving)
	defer abort(nil)
	printer := newPrinter(serving, abort, cfg, stdout)
	stored, err := openStorage(serving, cfg)
	if err != nil {
		return err
	}
	defer stored.close()
	app, err := newApp(serving, cfg, stored, printer)
	if err != nil {
		return err
	}
	defer app.release()
	var failed atomic.Uint64 // events that handlers gave up
	listener, err := new(net.ListenConfig).Listen(serving, "tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on LISTEN: %w", err)
	}
	opts := append(stored.options(),
		webhook.WithWorkers(cfg.workers), webhook.WithHandlerTimeout(handlerTimeout), webhook.WithLogger(cfg.logger),
		webhook.WithOnDropped(func(_ *event.Delivery, err error) {
			if !unprintable(err) && !errors.Is(err, webhook.ErrShutdown) && !errors.Is(err, webhook.ErrQueueFull) {
				failed.Add(1)
			}
		}))
	hook, err := webhook.NewHandler(app.verifier, app.mux, opts...)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	var ready atomic.Bool
	server := program.Server(routes(app, hook, stored, printer, &ready), cfg.logger)
	served := make(chan error, 1)
	go func() { served <- server.Serve(program.LimitConnections(server, listener, program.Connections())) }()
	ready.Store(true)
	cfg.logger.LogAttrs(serving, slog.LevelInfo, "receiver is ready",
		slog.String("listen", listener.Addr().String()), slog.Bool("app", cfg.app()), slog.Int("webhook_tokens", len(cfg.tokens)))
	if program.Discards(stdout) {
		cfg.logger.LogAttrs(serving, slog.LevelWarn, "stdout is the null device or was closed: events are acknowledged and then discarded")
	}
	bound := make(chan struct{})
	go func() {
		defer close(bound)
		app.bindAll(serving)
	}()

	var failure error
	select {
	case failure = <-served: // the listener broke
		abort(failure)
	case <-serving.Done():
	}
	ready.Store(false)
	<-bound
	// In this order: running requests are answered, acknowledged events are processed, tokens are
	// written.
	err = program.Stopped(draining, server.Shutdown(draining)) // what it cuts off was not acknowledged
	draining, stop := context.WithCancel(draining)
	defer stop()
	if cfg.queue != queueMemory && printer.snapshot().state == outputLost {
		stop() // handlers wait for that, and their events stay in the queue
	}
	cut := hook.Shutdown(draining)
	err = errors.Join(err, app.close(draining))
	n, out := hook.Stats(), printer.snapshot()
	left := uint64(0)
	if cfg.queue == queueMemory { // otherwise they stay in the queue
		left = unprinted(n, out, failed.Load())
	}
	cfg.logger.LogAttrs(draining, slog.LevelInfo, "receiver has stopped", slog.Uint64("accepted", n.Accepted),
		slog.Uint64("printed", out.printed), slog.Uint64("not_printed", left), slog.Uint64("failed", n.Failed),
		slog.Uint64("lost", n.Lost), slog.Uint64("refused", out.refused))
	if failure == nil {
		if failure = <-served; errors.Is(failure, http.ErrServerClosed) {
			failure = nil
		}
	}
	if cfg.queue != queueMemory && errors.Is(cut, webhook.ErrShutdown) {
		cut = nil // interrupted events stay in the queue for the next start
	}
	return errors.Join(loss(left, cmp.Or(out.err, cut)), failure, err)
}

// unprinted returns how many accepted events were not printed, without those that handlers gave up.
func unprinted(n webhook.Stats, out output, failed uint64) uint64 {
	done := n.Coalesced + n.Unhandled + out.printed + failed
	return n.Accepted - min(done, n.Accepted)
}

// loss adds to err how many accepted events were not printed because of it. err may be nil.
func loss(left uint64, err error) error {
	if err == nil || left == 0 {
		return err
	}
	if left == 1 {
		return fmt.Errorf("1 accepted event was not printed: %w", err)
	}
	return fmt.Errorf("%d accepted events were not printed: %w", left, err)
}

func routes(app *app, hook *webhook.Handler, stored *storage, p *printer, ready *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/bitrix24/events", p.guard(hook))
	if app.install != nil {
		mux.Handle("/bitrix24/install", app.install)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		switch out := p.snapshot(); {
		case out.state != outputReady:
			http.Error(w, program.OneLine(out.err.Error()), http.StatusServiceUnavailable)
		case !ready.Load():
			http.Error(w, "stopping", http.StatusServiceUnavailable)
		case hook.Health() != nil:
			http.Error(w, program.OneLine(hook.Health().Error()), http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, "ok\n")
		}
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		writeMetrics(w, app.figures(figures{
			now: time.Now(), handler: hook.Stats(), output: p.snapshot(), depth: stored.depth(r.Context()),
		}))
	})
	return mux
}
