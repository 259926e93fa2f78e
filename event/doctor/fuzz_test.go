package doctor_test

import (
	"encoding/json"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

// FuzzResponses lets a method of the portal, or all of them, return any JSON. An examination ends
// with an ordered report that a terminal can print.
func FuzzResponses(f *testing.F) {
	for i, seed := range []string{
		`[]`, `{}`, `true`, `null`, `"x"`, `{"INSTALLED":true,"STATUS":"P","DAYS":1e300,"PAYMENT_EXPIRED":"Y"}`, `{"SCOPE":["crm"]}`,
		`[{"event":"ONCRMDEALADD","handler":"https://app.example.com/\u202e","offline":0}]`, `["ONCRMDEALADD\u001b[31m",7]`,
		`[{"PROCESS_ID":1,"TIMESTAMP_X":"2020-01-01T00:00:00Z","ERROR":"1"},null]`, `{"INSTALLED":1,"value":"_selfhosted"}`,
		`"2262-04-11T23:47:16Z"`, `"0001-01-01T00:00:00Z"`,
	} {
		f.Add(seed, uint8(i))
		f.Add(seed, uint8(7))
	}
	methods := []string{
		"app.info", "scope", "events", "event.get", "event.offline.list", "server.time", "user.admin", eventtest.AnyMethod, "feature.get",
		"oauth/app.info", "oauth/token",
	}
	w := newWorld(f, eventtest.App{})
	w.want = append(w.want, event.Binding{Event: "ONCRMDEALADD", Offline: true})
	portals, api := w.clients(f, oauth.NewMemoryStore(), w.clientID, w.secret)
	_, err := portals.Seed(f.Context(), w.seed)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, result string, method uint8) {
		if !json.Valid([]byte(result)) {
			t.Skip("no portal sends it")
		}
		name := methods[int(method)%len(methods)]
		w.Always(name, eventtest.Raw(200, "application/json", `{"result":`+result+`}`))
		defer w.Heal(name)
		r, err := doctor.Examine(t.Context(), api.Portal(w.member), w.want, doctor.WithPortals(portals, w.member), doctor.WithTimeout(time.Second))
		require.NoError(t, err)
		requireOrdered(t, r)
		for _, c := range r.String() {
			require.True(t, c == '\n' || unicode.IsPrint(c), "%q", r.String())
		}
	})
}
