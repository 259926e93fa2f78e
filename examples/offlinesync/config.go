package main

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/offline"
)

// config holds the settings.
type config struct {
	program.Values

	bindings    []event.Binding
	connector   string
	out         string
	once        bool
	retries     int
	retryParked time.Duration
	poll        time.Duration
	logger      *slog.Logger
	client      *http.Client // nil for the default one
}

var settings = []program.Setting{
	{Flag: "events", Env: "EVENTS", Fallback: "ONCRMDEALADD,ONCRMDEALUPDATE,ONCRMDEALDELETE", Usage: "events to bind to the queue, " +
		"comma-separated"},
	{Flag: "out", Env: "OUT", Fallback: "-", Usage: "file that lines are appended to; - means standard output"},
	{Flag: "connector", Env: "CONNECTOR", Usage: "queue of a connector (auth_connector); empty: the application's own queue"},
	{Flag: "retries", Env: "RETRIES", Fallback: "5", Usage: "how often a record that fails is tried again before it is parked"},
	{Flag: "retry-parked", Env: "RETRY_PARKED", Fallback: "10m", Usage: "how often parked records are tried again"},
	{Flag: "poll", Env: "POLL", Fallback: "10s", Usage: "longest wait between two looks at an empty queue, 100ms or more"},
	{Flag: "once", Env: "ONCE", Switch: true, Usage: "drain the queue and exit"},
}

// configure reads the settings. Errors name settings, never values.
func configure(env program.Env) (config, error) {
	v, err := oneportal.Parse("offlinesync", about, settings, env)
	if err != nil {
		return config{}, err
	}
	cfg := config{Values: v, connector: v["connector"], out: v["out"], once: v.On("once")}
	if cfg.bindings, err = oneportal.OfflineBindings(v, cfg.connector); err != nil {
		return config{}, err
	}
	if cfg.retries, err = v.Number("retries", 0); err != nil {
		return config{}, err
	}
	if cfg.retryParked, err = v.Duration("retry-parked", time.Millisecond); err != nil {
		return config{}, err
	}
	if cfg.poll, err = v.Duration("poll", offline.MinInterval); err != nil {
		return config{}, err
	}
	cfg.logger, err = v.Logger(env.Stderr, slog.LevelInfo)
	return cfg, err
}
