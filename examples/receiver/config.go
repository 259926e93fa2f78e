package main

import (
	"log/slog"
	"time"

	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
)

// config holds the settings.
type config struct {
	program.Values

	listen       string
	publicURL    string
	events       []string
	tokens       []program.Token // of outgoing webhooks
	handlerDelay time.Duration
	workers      int
	queue        queueKind
	archiveOnly  bool          // the queue is opened while a receiver may be working it
	keep         time.Duration // of handled deliveries
	key          []byte        // encrypts what is stored; may be nil
	logger       *slog.Logger
}

// app reports whether the receiver is an application, and not only the target of outgoing webhooks.
func (c *config) app() bool { return c.Values["client-id"] != "" || c.Values["client-secret"] != "" }

const about = `receiver is an application server for Bitrix24 events: it answers at once, and prints each event as one JSON object ` +
	`a line once it is processed.`

var settings = append([]program.Setting{
	{Flag: "listen", Env: "LISTEN", Fallback: "127.0.0.1:8080", Usage: "address to listen on, host:port"},
	{Flag: "public-url", Env: "PUBLIC_URL", Usage: "handler URL that the portal posts to, as seen from outside; empty: nothing is bound"},
	{Flag: "js-url", Env: "B24_JS_URL", Usage: "where the installation page loads BX24 from (default: " + oauth.DefaultScriptURL + ")"},
	{Flag: "events", Env: "EVENTS", Fallback: "ONCRMDEALADD,ONCRMDEALUPDATE,ONCRMDEALDELETE", Usage: "events to bind, comma-separated"},
	{Flag: "application-token", Env: "B24_APPLICATION_TOKEN", Usage: "accepted " + program.TokensUsage},
	{Flag: "queue", Env: "QUEUE", Usage: "memory, or durable: in B24_DATA, or at QUEUE_URL (default: memory without QUEUE_URL)"},
	{Flag: "queue-url", Env: "QUEUE_URL", Usage: "durable queue for several receivers: postgres://… or nats://…"},
	{Flag: "store-url", Env: "STORE_URL", Usage: "database for installations: postgres://… or mysql://… (default: that of QUEUE_URL if " +
		"it is PostgreSQL, else B24_DATA)"},
	{Flag: "keep", Env: "KEEP", Fallback: "0s", Usage: "how long a durable queue keeps what was processed, for a replay"},
	{Flag: "key", Env: "B24_KEY", Usage: "64 hexadecimal digits; encrypts installations and the durable queue, which then holds tokens " +
		"too; prefer the variable"},
	{Flag: "handler-delay", Env: "HANDLER_DELAY", Fallback: "0s", Usage: "how long each handler sleeps, for tests"},
	{Flag: "workers", Env: "WORKERS", Fallback: "16", Usage: "how many handlers run at once"},
}, program.Application()...)

// configure reads the settings. Errors name settings, never values.
func configure(env program.Env) (config, error) {
	v, err := program.Parse("receiver", about, settings, env)
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
	if cfg.keep, err = v.Duration("keep", 0); err != nil {
		return config{}, err
	}
	if cfg.queue, err = queueOf(v); err != nil {
		return config{}, err
	}
	if cfg.key, err = v.Key(); err != nil {
		return config{}, err
	}
	if cfg.logger, err = v.Logger(env.Stderr, slog.LevelInfo); err != nil {
		return config{}, err
	}
	return cfg, nil
}

// check checks settings that depend on each other.
func (c *config) check() error {
	switch {
	case c.keep > 0 && c.queue == queueMemory:
		return program.Usage("KEEP needs a durable queue; set QUEUE=durable or QUEUE_URL")
	case !c.app() && len(c.tokens) == 0:
		return program.Usage("nothing to verify events with: set B24_APPLICATION_TOKEN for outgoing webhooks, or B24_CLIENT_ID and " +
			"B24_CLIENT_SECRET for an application")
	case c.app() && c.publicURL != "" && len(c.events) == 0:
		return program.Usage("EVENTS names no event to bind to PUBLIC_URL")
	default:
		return nil
	}
}
