package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/polling"
)

// work registers the bot and polls its events until ctx ends or, with -once, until none is left.
func work(ctx context.Context, cfg config, stdout io.Writer) (err error) {
	portal, err := oneportal.Open(ctx, cfg.Values, cfg.logger, nil)
	if err != nil {
		return program.Stopped(ctx, err)
	}
	defer func() { err = errors.Join(err, portal.Close(ctx)) }()
	dir, err := program.Folder(portal.Data, "offsets")
	if err != nil {
		return err
	}
	out, err := openOutput(cfg.out, stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()

	var bot int64
	err = portal.Connect(ctx, func(ctx context.Context) (err error) {
		bot, err = register(ctx, portal.Client(), cfg)
		return err
	})
	if err != nil {
		return program.Stopped(ctx, err)
	}
	lock, err := oneportal.Lock(filepath.Join(dir, fmt.Sprintf("bot-%d.lock", bot)), os.O_RDWR)
	if err != nil {
		return fmt.Errorf("the bot's lock: %w", err) // two programs would handle its events twice
	}
	defer func() { _ = oneportal.Unlock(lock) }()
	return program.Stopped(ctx, poll(ctx, cfg, portal, bot, dir, out))
}

// register returns the ID of the bot. To register it again returns the same one.
func register(ctx context.Context, api event.Caller, cfg config) (int64, error) {
	var registered struct {
		Bot event.ChatBot `json:"bot"`
	}
	err := api.Call(ctx, "imbot.v2.Bot.register", map[string]any{"fields": map[string]any{
		"code": cfg.code, "properties": map[string]any{"name": cfg.name}, "eventMode": "fetch",
	}}, &registered)
	switch {
	case err != nil:
		return 0, err
	case registered.Bot.EventMode == "webhook":
		return 0, program.Usage("BOT_CODE names a bot whose events are posted to a URL; name another one")
	default:
		return registered.Bot.ID, nil
	}
}

func poll(ctx context.Context, cfg config, portal *oneportal.Portal, bot int64, dir string, out *output) error {
	store, err := polling.NewFileStore(dir)
	if err != nil {
		return err
	}
	working, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	h := &handler{api: portal.Client(), out: out, abort: abort, echo: cfg.echo}
	opts := []polling.Option{
		polling.WithMaxAttempts(cfg.retries + 1),
		polling.WithGrace(5 * time.Second),
		polling.WithInterval(min(polling.DefaultMinInterval, cfg.poll), cfg.poll),
		polling.WithHooks(polling.Hooks{Dropped: h.dropped}),
		polling.WithLogger(cfg.logger),
	}
	if cfg.user > 0 {
		opts = append(opts, polling.WithUserEvents(int64(cfg.user)))
	}
	consumer, err := polling.NewBot(portal.Client(), bot, h, store, opts...)
	if err != nil {
		return err
	}
	cfg.logger.LogAttrs(ctx, slog.LevelInfo, "botpoll is ready", slog.String("member_id", portal.MemberID), slog.Int64("bot_id", bot))
	run := consumer.Run
	if cfg.once {
		run = consumer.Drain
	}
	err = run(working)
	n := consumer.Stats()
	cfg.logger.LogAttrs(ctx, slog.LevelInfo, "botpoll has stopped", slog.Uint64("handled", n.Handled), slog.Uint64("failed", n.Failed),
		slog.Uint64("left", n.Abandoned), slog.Uint64("requests", n.Requests))
	if ctx.Err() == nil && working.Err() != nil {
		return context.Cause(working) // OUT cannot be written
	}
	return err
}

// handler writes events, and answers messages.
type handler struct {
	api   event.Caller
	out   *output
	abort context.CancelCauseFunc
	echo  bool
}

// line is how an event is written.
type line struct {
	ID    int64      `json:"event_id"`
	Event string     `json:"event"`
	Time  time.Time  `json:"time"`
	Data  event.Data `json:"data"`
	Error *string    `json:"error"`
}

// HandleEvent answers a message, and writes the event. It returns once the line is on disk.
func (h *handler) HandleEvent(ctx context.Context, d *event.Delivery) error {
	if h.echo && event.OnImBotV2MessageAdd.Name() == d.Name {
		e, err := event.OnImBotV2MessageAdd.Decode(d)
		if err != nil {
			return err
		}
		err = h.api.Call(ctx, "imbot.v2.Chat.Message.send", map[string]any{
			"botId": e.Bot.ID, "dialogId": e.Chat.DialogID, "fields": map[string]any{"message": "You said: " + e.Message.Text},
		}, nil)
		if err != nil {
			return err
		}
	}
	if err := h.write(line{ID: d.ID, Event: d.Name, Time: d.Time, Data: d.Data}); err != nil {
		<-ctx.Done() // the event did not fail: the next start gets it again
		return err
	}
	return nil
}

// dropped writes an event that could not be handled. If that fails, the program ends, and the next
// start gets the event again.
func (h *handler) dropped(_ context.Context, e polling.Event, err error) error {
	text := err.Error()
	l := line{ID: e.ID, Error: &text}
	if d := e.Delivery; d != nil {
		text = d.Redact(text)
		l.Event, l.Time, l.Data = d.Name, d.Time, d.Data
	}
	return h.write(l)
}

// write appends a line. After an error the program ends.
func (h *handler) write(l line) error {
	text, err := program.JSONLine(l)
	if err == nil {
		err = h.out.append(text)
	}
	if err != nil {
		h.abort(err)
	}
	return err
}
