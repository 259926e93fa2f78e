package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/offline"
)

// patience is how long -once waits for a portal that does not respond. Without -once, the program
// waits forever.
const patience = 5 * time.Minute

var errNoAnswer = errors.New("the portal has not responded for " + patience.String() + "; its queue keeps what is left, so start " +
	"again later")

// work binds the events and works the queue until ctx ends or, with -once, until it is empty.
func work(ctx context.Context, cfg config, stdout io.Writer) (err error) {
	portal, err := oneportal.Open(ctx, cfg.Values, cfg.logger, cfg.client)
	if err != nil {
		return program.Stopped(ctx, err)
	}
	defer func() { err = errors.Join(err, portal.Close(ctx)) }()
	_, release, err := portal.QueueDir(cfg.connector)
	if err != nil {
		return err
	}
	defer release()
	out, err := openJournal(ctx, cfg.out, stdout, cfg.logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()

	return program.Stopped(ctx, workQueue(ctx, cfg, portal, out))
}

func workQueue(ctx context.Context, cfg config, portal *oneportal.Portal, out *journal) error {
	api := event.NewAPI(portal.Client())
	connecting, connected := context.WithCancel(ctx)
	if cfg.once {
		connecting, connected = context.WithTimeoutCause(ctx, patience, errNoAnswer)
	}
	err := portal.Connect(connecting, func(ctx context.Context) error { return api.Reconcile(ctx, cfg.bindings) })
	connected()
	if err != nil {
		return err
	}
	working, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	s := &syncer{api: portal.API.Coalescer(portal.MemberID), out: out, abort: abort}
	hooks := offline.Hooks{Parked: s.parked}
	if cfg.once {
		hooks.Stalled = s.stalled
	}
	spool, err := portal.SpoolDir()
	if err != nil {
		return err
	}
	consumer, err := offline.NewConsumer(portal.Client(), s, append(cfg.options(spool), offline.WithHooks(hooks))...)
	if err != nil {
		return err
	}
	cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offlinesync is ready", slog.String("member_id", portal.MemberID),
		slog.Int("events", len(cfg.bindings)), slog.Bool("once", cfg.once))
	run := consumer.Run
	if cfg.once {
		run = consumer.Drain
	}
	err = run(working)
	n := consumer.Stats()
	cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offlinesync has stopped", slog.Uint64("handled", n.Handled),
		slog.Uint64("recovered", n.Recovered),
		slog.Uint64("parked", n.Parked), slog.Uint64("left", n.Abandoned), slog.Uint64("requests", n.Requests))
	if ctx.Err() == nil && working.Err() != nil {
		return context.Cause(working) // OUT cannot be written, or the portal is silent
	}
	return err
}

func (cfg *config) options(spool string) []offline.ConsumerOption {
	return []offline.ConsumerOption{
		offline.WithConnector(cfg.connector),
		offline.WithMaxAttempts(cfg.retries + 1),
		offline.WithGrace(5 * time.Second),
		offline.WithInterval(min(offline.DefaultMinInterval, cfg.poll), cfg.poll),
		offline.WithParkedInterval(cfg.retryParked),
		offline.WithStallAlert(patience, 0),
		offline.WithSpool(spool),
		offline.WithLogger(cfg.logger),
	}
}
