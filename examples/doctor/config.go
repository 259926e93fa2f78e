package main

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
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

// settings are the program's own. Those of an application keep its names, so that doctor runs with
// the environment of the application. The others begin with DOCTOR_.
var settings = []program.Setting{
	{Flag: "events", Env: "EVENTS", Usage: "events that should arrive, comma-separated, such as ONCRMDEALUPDATE,ONTASKADD"},
	{Flag: "handler", Env: "PUBLIC_URL", Usage: "URL to which the portal should send them, such as https://example.com/bitrix24/events"},
	{Flag: "offline", Env: "DOCTOR_OFFLINE", Switch: true, Usage: "the events should arrive in the offline queue; with -handler, in both"},
	{Flag: "connector", Env: "CONNECTOR", Usage: "with -offline: the connector of the queue (auth_connector); without it, the " +
		"application's own queue"},
	{Flag: "application-token", Env: "B24_APPLICATION_TOKEN", Usage: "application tokens that the handler accepts besides the stored " +
		"ones, comma-separated; token@member_id is for one portal only; prefer the variable"},
	{Flag: "probe", Env: "DOCTOR_PROBE", Switch: true, Fallback: "1", Usage: "send the handler a HEAD request and an empty POST request " +
		"from this machine; on unless -probe=0"},
	{Flag: "test", Env: "DOCTOR_TEST", Switch: true, Usage: "request a test event for the handler, and print how to find it in the " +
		"handler's log; ONAPPTEST is bound for that if it is not bound, and unbound in the end"},
	{Flag: "listen", Env: "DOCTOR_LISTEN", Usage: "like -test, but receive the test event here, at host:port, in place of the handler; " +
		"stop the handler first, since its URL must lead here"},
	{Flag: "wait", Env: "DOCTOR_WAIT", Fallback: "20s", Usage: "with -listen: how long to wait for the test event, 1s or more"},
	{Flag: "installations", Env: "DOCTOR_INSTALLATIONS", Usage: "the folder that the application passes to oauth.NewFileStore, if it has " +
		"its own store; doctor then uses no B24_DATA"},
	{Flag: "json", Env: "DOCTOR_JSON", Switch: true, Usage: "print each check as a JSON object in a line of its own, instead of a table"},
}

// portalSettings name the portal, and the access to it. There is no refresh token: it works only
// once, so only the application may use it.
var portalSettings = []program.Setting{
	{Flag: "key", Env: "B24_KEY", Usage: "64 hexadecimal digits: the key of the stored installations, if they are encrypted; prefer the " +
		"variable"},
	{Flag: "member-id", Env: "B24_MEMBER_ID", Usage: "the portal's member_id; may be left out if only one portal is stored"},
	{Flag: "client-endpoint", Env: "B24_CLIENT_ENDPOINT", Usage: "if B24_DATA does not know the portal: its REST address, such as " +
		"https://example.bitrix24.com/rest/"},
	{Flag: "server-endpoint", Env: "B24_SERVER_ENDPOINT", Usage: "if B24_DATA does not know the portal: the REST address of the OAuth " +
		"server (default https://oauth.bitrix.info/rest/)"},
	{Flag: "access-token", Env: "B24_ACCESS_TOKEN", Usage: "if B24_DATA does not know the portal: an administrator's access token, which " +
		"is neither stored nor renewed; prefer the variable"},
}

// configure reads the settings. Errors name settings, never values. What the portal would refuse is
// not an error here, but a finding.
func configure(env program.Env) (config, error) {
	v, err := program.Parse("doctor", about, slices.Concat(settings, program.Application(), portalSettings), env)
	if err != nil {
		return config{}, err
	}
	cfg := config{Values: v, listen: v["listen"]}
	names := v.List("events")
	incoming, _ := env.Getenv("B24_INCOMING_WEBHOOK")
	switch {
	case v["client-id"] == "" && (v["application-token"] != "" || incoming != ""):
		return config{}, program.Usage("set B24_CLIENT_ID and B24_CLIENT_SECRET, because doctor examines applications; for an outgoing webhook " +
			"look at the handler's log and its Stats.Rejected; if no request came, check the path of the URL in the webhook's settings on the " +
			"portal; if requests were rejected, check B24_APPLICATION_TOKEN; if an object cannot be read, check the scope of the incoming webhook")
	case len(names) == 0:
		return config{}, program.Usage("name the events that should arrive: set -events ONCRMDEALUPDATE,… or EVENTS")
	case v["handler"] == "" && !v.On("offline"):
		return config{}, program.Usage("set -handler or PUBLIC_URL, the URL to which the portal should send the events, or -offline")
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
