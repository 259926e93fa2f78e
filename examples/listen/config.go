package main

import (
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/offline"
)

// config holds the settings.
type config struct {
	program.Values

	bindings   []event.Binding // without a connector
	forwardTo  string
	tokens     []program.Token
	connector  string
	shareQueue bool
	retries    int
	poll       time.Duration
	logger     *slog.Logger
	warnings   *slog.Logger // for the consumer, which would log every retry at INFO
}

const (
	ownQueue         = "-" // as a connector: the queue of the application itself
	defaultConnector = "listen"
)

var settings = []program.Setting{
	{Flag: "forward-to", Env: "FORWARD_TO", Usage: "the handler's address, such as http://127.0.0.1:8080/bitrix24/events"},
	{Flag: "events", Env: "EVENTS", Usage: "events to forward, comma-separated, such as ONCRMDEALUPDATE,ONTASKADD"},
	{Flag: "application-token", Env: "B24_APPLICATION_TOKEN", Usage: "token that signs what is posted: the one that is bound to the " +
		"portal by token@member_id, or else the one without a portal; prefer the variable (default: kept in a file)"},
	{Flag: "connector", Env: "CONNECTOR", Fallback: defaultConnector, Usage: "connector whose queue is used (auth_connector); - means " +
		"the application's own queue"},
	{Flag: "share-queue", Env: "SHARE_QUEUE", Switch: true, Usage: "use the application's own queue even if events are bound to it: " +
		"other workers then miss the events that listen takes"},
	{Flag: "retries", Env: "RETRIES", Fallback: "5", Usage: "how often an event is posted again that the handler answered with 408, " +
		"429, 500 or above"},
	{Flag: "poll", Env: "POLL", Fallback: "3s", Usage: "longest wait between two looks at an empty queue, 100ms or more"},
}

// configure reads the settings. Errors name settings, never values.
func configure(env program.Env) (config, error) {
	v, err := oneportal.Parse("listen", about, settings, env)
	if err != nil {
		return config{}, err
	}
	cfg := config{Values: v, forwardTo: v["forward-to"], connector: v["connector"], shareQueue: v.On("share-queue")}
	if cfg.connector == ownQueue {
		cfg.connector = ""
	}
	if err := checkTarget(cfg.forwardTo); err != nil {
		return config{}, err
	}
	if cfg.tokens, err = v.Tokens(); err != nil {
		return config{}, err
	}
	if cfg.bindings, err = oneportal.OfflineBindings(v, ""); err != nil {
		return config{}, err
	}
	if cfg.retries, err = v.Number("retries", 0); err != nil {
		return config{}, err
	}
	if cfg.poll, err = v.Duration("poll", offline.MinInterval); err != nil {
		return config{}, err
	}
	if cfg.logger, err = v.Logger(env.Stderr, slog.LevelInfo); err != nil {
		return config{}, err
	}
	cfg.warnings, err = v.Logger(env.Stderr, slog.LevelWarn)
	return cfg, err
}

// target returns the handler's address without parts that may be secret.
func (cfg *config) target() string {
	u, err := url.Parse(cfg.forwardTo)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

// checkTarget requires https for other machines, because requests carry a token.
func checkTarget(target string) error {
	if target == "" {
		return program.Usage("set -forward-to, the address of your handler, such as http://127.0.0.1:8080/bitrix24/events")
	}
	u, err := program.HTTPURL(target)
	switch {
	case err != nil:
		return program.Usage("-forward-to %w; write it like http://127.0.0.1:8080/bitrix24/events", err)
	case u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback():
		return program.Usage("-forward-to another machine needs https://, because requests carry a token")
	default:
		return nil
	}
}
