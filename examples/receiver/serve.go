package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/webhook"
)

// serve answers requests until serving ends, then processes what it acknowledged until draining ends.
func serve(serving, draining context.Context, cfg config, stdout io.Writer) error {
	serving, abort := context.WithCancelCause(serving)
	defer abort(nil)
	printer := &printer{w: stdout, delay: cfg.handlerDelay, abort: abort}
	app, err := newApp(cfg, printer)
	if err != nil {
		return err
	}
	defer app.release()
	hook, err := webhook.NewHandler(app.verifier, app.mux, webhook.WithWorkers(cfg.workers), webhook.WithLogger(cfg.logger))
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(serving, "tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on LISTEN: %w", err)
	}
	var ready atomic.Bool
	server := &http.Server{
		Handler:           routes(printer.guard(hook), hook.Stats, &ready),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       15 * time.Second, // connections that do nothing must not use up the descriptors
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ready.Store(true)
	cfg.logger.LogAttrs(serving, slog.LevelInfo, "receiver is ready",
		slog.String("listen", listener.Addr().String()), slog.Bool("app", cfg.app()), slog.Int("webhook_tokens", len(cfg.tokens)))
	bound := make(chan struct{})
	go func() {
		defer close(bound)
		app.bindAll(serving)
	}()

	var failure error
	select {
	case failure = <-served: // the listener broke
	case <-serving.Done():
	}
	ready.Store(false)
	<-bound
	// In this order: requests under way are answered, then what was acknowledged is processed, then tokens are written.
	err = errors.Join(server.Shutdown(draining), hook.Shutdown(draining), app.close(draining))
	n := hook.Stats()
	cfg.logger.LogAttrs(draining, slog.LevelInfo, "receiver has stopped", slog.Uint64("accepted", n.Accepted),
		slog.Uint64("processed", n.Processed), slog.Uint64("failed", n.Failed), slog.Uint64("dropped", n.Dropped))
	if failure == nil {
		if failure = <-served; errors.Is(failure, http.ErrServerClosed) {
			failure = nil
		}
	}
	return errors.Join(printer.failure(), failure, err)
}

func routes(hook http.Handler, stats func() webhook.Stats, ready *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/bitrix24/events", hook)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		writeMetrics(w, stats())
	})
	return mux
}
