package main

import (
	"log/slog"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

// config holds the settings.
type config struct {
	program.Values

	want   []event.Binding
	tokens []program.Token
	listen string
	wait   time.Duration
	logger *slog.Logger
}

var settings = []program.Setting{
	{Flag: "events", Env: "EVENTS", Usage: "events that should arrive, comma-separated, such as ONCRMDEALUPDATE,ONTASKADD"},
	{Flag: "handler", Env: "HANDLER", Usage: "URL that the portal should send them to, such as https://example.com/bitrix24/events"},
	{Flag: "offline", Env: "OFFLINE", Switch: true, Usage: "they should arrive in the offline queue, instead of or besides the handler"},
	{Flag: "connector", Env: "CONNECTOR", Usage: "connector of the offline queue (auth_connector); none means the application's own queue"},
	{Flag: "application-token", Env: "B24_APPLICATION_TOKEN", Usage: "tokens that the handler accepts, besides the stored ones; " +
		"token@member_id binds one to its portal; prefer the variable"},
	{Flag: "probe", Env: "PROBE", Switch: true, Fallback: "1", Usage: "send a HEAD and an empty POST request to the handler from here"},
	{Flag: "test", Env: "TEST", Switch: true, Usage: "request a test event; ONAPPTEST is bound for that, and unbound afterwards"},
	{Flag: "listen", Env: "LISTEN", Usage: "like -test, and receive the test event here, at host:port; the handler's URL must lead here"},
	{Flag: "wait", Env: "WAIT", Fallback: "20s", Usage: "how long the test event may take, 1s or more"},
	{Flag: "json", Env: "JSON", Switch: true, Usage: "print a JSON object for each check"},
}

// configure reads the settings. Errors name settings, never values. What the portal would refuse is
// not an error here, but a finding.
func configure(env program.Env) (config, error) {
	v, err := oneportal.Parse("doctor", about, settings, env)
	if err != nil {
		return config{}, err
	}
	cfg := config{Values: v, listen: v["listen"]}
	names := v.List("events")
	switch {
	case len(names) == 0:
		return config{}, program.Usage("EVENTS names no event; set -events ONCRMDEALUPDATE,…")
	case v["handler"] == "" && !v.On("offline"):
		return config{}, program.Usage("set -handler, the URL that the portal should send events to, or -offline")
	case v["connector"] != "" && !v.On("offline"):
		return config{}, program.Usage("CONNECTOR is for the offline queue; set -offline too")
	case v["handler"] == "" && (cfg.listen != "" || v.On("test")):
		return config{}, program.Usage("the test event needs -handler, since it never goes into the offline queue")
	}
	for _, name := range names {
		if v["handler"] != "" {
			cfg.want = append(cfg.want, event.Binding{Event: strings.ToUpper(name), Handler: v["handler"]})
		}
		if v.On("offline") {
			cfg.want = append(cfg.want, event.Binding{Event: strings.ToUpper(name), Offline: true, Connector: v["connector"]})
		}
	}
	if cfg.tokens, err = v.Tokens(); err != nil {
		return config{}, err
	}
	if cfg.wait, err = v.Duration("wait", time.Second); err != nil {
		return config{}, err
	}
	cfg.logger, err = v.Logger(env.Stderr, slog.LevelWarn)
	return cfg, err
}

// tokensOf returns the tokens of the settings that are valid for a portal.
func (cfg config) tokensOf(memberID string) []event.Secret {
	var all []event.Secret
	for _, t := range cfg.tokens {
		if t.MemberID == "" || t.MemberID == memberID {
			all = append(all, event.Secret(t.Text))
		}
	}
	return all
}
