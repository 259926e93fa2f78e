package main

import (
	"log/slog"
	"time"

	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/polling"
)

// config holds the settings.
type config struct {
	program.Values

	code, name string
	out        string
	echo, once bool
	user       int
	retries    int
	poll       time.Duration
	logger     *slog.Logger
}

var settings = []program.Setting{
	{Flag: "bot-code", Env: "BOT_CODE", Fallback: "botpoll", Usage: "code of the bot, unique within the application"},
	{Flag: "bot-name", Env: "BOT_NAME", Fallback: "Botpoll", Usage: "name of the bot, if it is new"},
	{Flag: "out", Env: "OUT", Fallback: "-", Usage: "file that lines are appended to; - means standard output"},
	{Flag: "echo", Env: "ECHO", Switch: true, Usage: "answer each message"},
	{Flag: "user-events", Env: "USER_EVENTS", Fallback: "0", Usage: "ID of the user of the tokens, whose events are polled too; 0: none"},
	{Flag: "retries", Env: "RETRIES", Fallback: "4", Usage: "how often an event that fails is tried again before it is given up"},
	{Flag: "poll", Env: "POLL", Fallback: "30s", Usage: "longest wait between two looks at an empty log, 2s or more"},
	{Flag: "once", Env: "ONCE", Switch: true, Usage: "handle what is there and exit"},
}

// configure reads the settings. Errors name settings, never values.
func configure(env program.Env) (config, error) {
	v, err := oneportal.Parse("botpoll", about, settings, env)
	if err != nil {
		return config{}, err
	}
	cfg := config{Values: v, code: v["bot-code"], name: v["bot-name"], out: v["out"], echo: v.On("echo"), once: v.On("once")}
	if cfg.user, err = v.Number("user-events", 0); err != nil {
		return config{}, err
	}
	if cfg.retries, err = v.Number("retries", 0); err != nil {
		return config{}, err
	}
	if cfg.poll, err = v.Duration("poll", polling.MinInterval); err != nil {
		return config{}, err
	}
	cfg.logger, err = v.Logger(env.Stderr, slog.LevelInfo)
	return cfg, err
}
