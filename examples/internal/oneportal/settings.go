package oneportal

import (
	"slices"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
)

// shared are the settings of every program for one portal, besides those of every application.
var shared = []program.Setting{
	{Flag: "key", Env: "B24_KEY", Usage: "64 hexadecimal digits: the key of the stored installations, if they are encrypted; prefer " +
		"the variable"},
	{Flag: "member-id", Env: "B24_MEMBER_ID", Usage: "the portal's member_id; may be left out if B24_DATA knows one portal only"},
	{Flag: "client-endpoint", Env: "B24_CLIENT_ENDPOINT", Usage: "first start: the portal's REST address, such as " +
		"https://example.bitrix24.com/rest/"},
	{Flag: "server-endpoint", Env: "B24_SERVER_ENDPOINT", Usage: "first start: REST address of the OAuth server (default " +
		"https://oauth.bitrix.info/rest/)"},
	{Flag: "access-token", Env: "B24_ACCESS_TOKEN", Usage: "first start: an administrator's access token; prefer the variable"},
	{Flag: "refresh-token", Env: "B24_REFRESH_TOKEN", Usage: "first start: the refresh token that came with it; prefer the variable"},
}

// Parse is [program.Parse] of a program's own settings and those that [Open] reads.
func Parse(name, about string, own []program.Setting, env program.Env) (program.Values, error) {
	return program.Parse(name, about, slices.Concat(own, program.Application(), shared), env)
}

// OfflineBindings returns bindings of the events in the setting events to the offline queue of a
// connector.
func OfflineBindings(v program.Values, connector string) ([]event.Binding, error) {
	names := v.List("events")
	if len(names) == 0 {
		return nil, program.Usage("EVENTS names no event")
	}
	all := make([]event.Binding, len(names))
	for i, name := range names {
		all[i] = event.Binding{Event: strings.ToUpper(name), Offline: true, Connector: connector}
		if err := all[i].Validate(); err != nil {
			return nil, program.Usage("EVENTS: %w", err)
		}
	}
	return all, nil
}
