package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/offline"
)

// limits are the differences from real deliveries that the developer of a handler must know.
var limits = []string{
	"one event for all changes of an object since the last look: additions, updates and deletions of an object are one event each, in " +
		"the order of the last change",
	"no access token and no refresh token of the user who made the change; handlers must call the portal with tokens of their own",
	"changes that the application itself makes come only with a connector, and not if its own calls name the same connector",
	"not every event has an offline queue: ONOFFLINEEVENT and events about the application come online only",
	"events come some seconds late, and are repeated if the handler fails; the portal itself never repeats",
}

// listen binds the events, forwards records of the queue until ctx ends, and unbinds the events.
func listen(ctx context.Context, cfg config, stdout io.Writer) (err error) {
	portal, err := oneportal.Open(ctx, cfg.Values, cfg.logger, nil)
	if err != nil {
		return program.Stopped(ctx, err)
	}
	defer func() { err = errors.Join(err, portal.Close(ctx)) }()
	token, err := applicationToken(ctx, cfg, portal)
	if err != nil {
		return err
	}
	b := &binder{portal: portal, cfg: cfg}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	return program.Stopped(ctx, b.forward(ctx, token, stdout))
}

// forward binds the events and forwards the records of the queue.
func (b *binder) forward(ctx context.Context, token event.Secret, stdout io.Writer) error {
	cfg, portal := b.cfg, b.portal
	if err := b.bind(ctx); err != nil {
		return err
	}
	in, err := portal.Tokens.Installation(ctx, portal.MemberID)
	if err != nil {
		return err
	}
	working, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	f := newForwarder(cfg, token, in, stdout, abort)
	spool, err := portal.SpoolDir()
	if err != nil {
		return err
	}
	consumer, err := offline.NewConsumer(portal.Client(), f, cfg.options(b.connector, spool)...)
	if err != nil {
		return err
	}
	for _, limit := range limits {
		cfg.logger.LogAttrs(ctx, slog.LevelInfo, "limit of listening", slog.String("limit", limit))
	}
	cfg.logger.LogAttrs(ctx, slog.LevelInfo, "listen is ready", slog.String("domain", in.Domain()),
		slog.String("member_id", portal.MemberID),
		slog.String("forward_to", cfg.target()), slog.String("connector", b.connector))
	err = consumer.Run(working)
	if n := consumer.Stats().Abandoned; n > 0 {
		cfg.logger.LogAttrs(ctx, slog.LevelInfo, "events that were not forwarded stay in the queue for the next start",
			slog.Uint64("events", n))
	}
	if ctx.Err() == nil && working.Err() != nil {
		return context.Cause(working) // stdout is gone
	}
	return err
}

func (cfg *config) options(connector, spool string) []offline.ConsumerOption {
	return []offline.ConsumerOption{
		offline.WithConnector(connector),
		offline.WithWorkers(4),
		offline.WithMaxAttempts(math.MaxInt), // the forwarder decides
		offline.WithHandlerTimeout(answerTimeout + time.Second),
		offline.WithGrace(2 * time.Second),
		offline.WithInterval(min(time.Second, cfg.poll), cfg.poll),
		offline.WithSpool(spool),
		offline.WithLogger(cfg.warnings),
	}
}
