package main

import (
	"io"
	"log/slog"
	"time"

	"github.com/b24events/b24events/examples/internal/program"
)

// config is what flags and environment say.
type config struct {
	program.Values

	listen       string
	publicURL    string
	events       []string
	tokens       []program.Token // of outgoing webhooks
	handlerDelay time.Duration
	workers      int
	logger       *slog.Logger
}

// app reports whether the receiver is an application, and not only the target of outgoing webhooks.
func (c *config) app() bool { return c.Values["client-id"] != "" || c.Values["client-secret"] != "" }

const about = `receiver is an application server for Bitrix24 events: it answers at once, and prints each event as one JSON object a line once it is processed.`

var settings = append([]program.Setting{
	{Flag: "listen", Env: "LISTEN", Fallback: "127.0.0.1:8080", Usage: "address to listen on, host:port"},
	{Flag: "public-url", Env: "PUBLIC_URL", Usage: "handler URL that the portal posts to, as seen from outside; empty: nothing is bound"},
	{Flag: "events", Env: "EVENTS", Fallback: "ONCRMDEALADD,ONCRMDEALUPDATE,ONCRMDEALDELETE", Usage: "events to bind, comma-separated"},
	{Flag: "application-token", Env: "B24_APPLICATION_TOKEN", Usage: "accepted " + program.TokensUsage},
	{Flag: "queue", Env: "QUEUE", Fallback: "memory", Usage: "memory or durable"},
	{Flag: "handler-delay", Env: "HANDLER_DELAY", Fallback: "0s", Usage: "how long each handler sleeps, for tests"},
	{Flag: "workers", Env: "WORKERS", Fallback: "16", Usage: "how many handlers run at once"},
}, program.Application()...)

// configure reads the settings. Errors name settings, never values.
func configure(args []string, env func(string) (string, bool), stderr io.Writer) (config, error) {
	v, err := program.Parse("receiver", about, settings, args, env, stderr)
	if err != nil {
		return config{}, err
	}
	cfg := config{Values: v, listen: v["listen"], publicURL: v["public-url"], events: v.List("events")}
	if cfg.tokens, err = v.Tokens(); err != nil {
		return config{}, err
	}
	if cfg.handlerDelay, err = v.Duration("handler-delay", 0); err != nil {
		return config{}, err
	}
	if cfg.workers, err = v.Number("workers", 1); err != nil {
		return config{}, err
	}
	if cfg.logger, err = v.Logger(stderr, slog.LevelInfo); err != nil {
		return config{}, err
	}
	return cfg, cfg.check()
}

// check looks at what belongs together.
func (c *config) check() error {
	switch queue := c.Values["queue"]; {
	case queue == "durable":
		return program.Usage("this build has no durable queue; set QUEUE=memory, or use the offline queue where no event may be lost")
	case queue != "memory":
		return program.Usage("QUEUE must be memory or durable")
	case !c.app() && len(c.tokens) == 0:
		return program.Usage("nothing to verify events with: set B24_APPLICATION_TOKEN for outgoing webhooks, or B24_CLIENT_ID and B24_CLIENT_SECRET for an application")
	case c.app() && c.publicURL != "" && len(c.events) == 0:
		return program.Usage("EVENTS names no event to bind to PUBLIC_URL")
	default:
		return nil
	}
}
