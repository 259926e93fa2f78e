package doctor_test

import (
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

// FuzzResponses lets the portal respond with anything. An examination ends with an ordered report
// that a terminal can print.
func FuzzResponses(f *testing.F) {
	for _, seed := range []string{
		`[]`, `{}`, `true`, `null`, `"x"`, `{"INSTALLED":true,"STATUS":"P","DAYS":1e300,"PAYMENT_EXPIRED":"Y"}`, `{"SCOPE":["crm"]}`,
		`[{"event":"ONCRMDEALADD","handler":"https://app.example.com/\u202e","offline":0}]`, `["ONCRMDEALADD\u001b[31m",7]`,
		`[{"PROCESS_ID":1,"TIMESTAMP_X":"2020-01-01T00:00:00Z","ERROR":"1"},null]`, `{"INSTALLED":1,"value":"_selfhosted"}`,
		`"2262-04-11T23:47:16Z"`, `"0001-01-01T00:00:00Z"`,
	} {
		f.Add(seed, "app.info")
		f.Add(seed, "events")
		f.Add(seed, "event.get")
		f.Add(seed, "event.offline.list")
		f.Add(seed, "server.time")
		f.Add(seed, "user.admin")
		f.Add(seed, eventtest.AnyMethod)
	}
	f.Fuzz(func(t *testing.T, result, method string) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, eventtest.App{})
			w.want = append(w.want, event.Binding{Event: "ONCRMDEALADD", Offline: true})
			portals, api := w.clients(t, oauth.NewMemoryStore(), w.clientID, w.secret)
			_, err := portals.Seed(t.Context(), w.seed)
			require.NoError(t, err)
			w.Always(method, eventtest.Raw(200, "application/json", `{"result":`+result+`}`))
			r, err := doctor.Examine(t.Context(), api.Portal(w.member), w.want, doctor.WithPortals(portals, w.member),
				doctor.WithRoundTrip(w.arrivals, time.Millisecond), doctor.WithTimeout(time.Second))
			require.NoError(t, err)
			requireOrdered(t, r)
			for _, c := range r.String() {
				require.True(t, c == '\n' || unicode.IsPrint(c), "%q", r.String())
			}
		})
	})
}
