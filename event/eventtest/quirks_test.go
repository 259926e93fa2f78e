package eventtest_test

import (
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

func quirk(t *testing.T, p *eventtest.Portal, change func(*eventtest.Quirks)) {
	t.Helper()
	require.NoError(t, p.ChangeQuirks(change))
}

func TestChangeQuirksRefuses(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	for field, change := range map[string]func(*eventtest.Quirks){
		"TokenLifetime":  func(q *eventtest.Quirks) { q.TokenLifetime = 0 },
		"RatePerSecond":  func(q *eventtest.Quirks) { q.RatePerSecond = math.NaN() },
		"RateBurst":      func(q *eventtest.Quirks) { q.RateBurst = -1 },
		"go together":    func(q *eventtest.Quirks) { q.RateBurst = 1 },
		"OperatingLimit": func(q *eventtest.Quirks) { q.OperatingLimit = -1 },
		"Latency":        func(q *eventtest.Quirks) { q.Latency = -1 },
		"InstallDelay":   func(q *eventtest.Quirks) { q.InstallDelay = -1 },
		"DeliveryJitter": func(q *eventtest.Quirks) { q.DeliveryJitter = -1 },
		"OfflineLag":     func(q *eventtest.Quirks) { q.OfflineLag = -1 },
		"SlowHandlers":   func(q *eventtest.Quirks) { q.SlowHandlers = -1 },
	} {
		err := p.ChangeQuirks(func(q *eventtest.Quirks) {
			q.NoUser = true
			change(q)
		})
		require.ErrorIs(t, err, eventtest.ErrConfig, field)
		require.ErrorContains(t, err, field)
		require.Equal(t, eventtest.Quirks{TokenLifetime: time.Hour}, p.Quirks(), "%s changed something", field)
		_, err = eventtest.New(eventtest.WithQuirks(change))
		require.ErrorIs(t, err, eventtest.ErrConfig, field)
		require.ErrorContains(t, err, field)
	}
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.ChangeQuirks(func(*eventtest.Quirks) {}), eventtest.ErrClosed)
}

func TestOptionsAreQuirks(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t, eventtest.WithTokenLifetime(time.Minute), eventtest.WithRateLimit(2, 50), eventtest.WithoutConnectors(),
		eventtest.WithoutExtendedOffline(), eventtest.WithoutUserInEvents(), eventtest.WithMinTimeout(),
		eventtest.WithQuirks(func(q *eventtest.Quirks) { q.Box = true }))
	require.Equal(t, eventtest.Quirks{
		TokenLifetime: time.Minute, RatePerSecond: 2, RateBurst: 50, NoConnectors: true, NoExtendedOffline: true, NoUser: true,
		HonourMinTimeout: true, Box: true,
	}, p.Quirks())
}

func TestQuirksOfThePlan(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	feature := func(code string) any { return c.ok("feature.get", obj{"CODE": code}).object(t)["value"] }
	require.Equal(t, "Y", feature("rest_offline_extended"))

	quirk(t, p, func(q *eventtest.Quirks) { q.NoExtendedOffline, q.NoConnectors = true, true })
	require.Equal(t, "N", feature("rest_offline_extended"))
	require.Equal(t, "N", feature("rest_auth_connector"))
	require.Equal(t, "WRONG_LICENSE", c.call("event.offline.get", obj{"clear": 0}).Error)
	require.Equal(t, "WRONG_LICENSE", c.call("server.time", obj{"auth_connector": ""}).Error)

	quirk(t, p, func(q *eventtest.Quirks) { q.Box = true }) // PROTOCOL 2.6, 2.10: a box has no plan
	require.Equal(t, "en_selfhosted", feature("rest_offline_extended"))
	require.Equal(t, "en_selfhosted", feature("anything"))
	a := c.ok("event.offline.get", obj{"clear": 0, "auth_connector": ""})
	require.NotContains(t, a.Time, "operating", "the limit on operating time is off")
	require.NotContains(t, a.Time, "operating_reset_at")
}

func TestQuirksOfEvents(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	p, c := newPortal(t)
	c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
	c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
	for _, change := range []func(*eventtest.Quirks){
		func(*eventtest.Quirks) {},
		func(q *eventtest.Quirks) { q.NoUser = true },
		func(q *eventtest.Quirks) { *q = eventtest.Quirks{TokenLifetime: time.Minute, NoData: true} },
	} {
		quirk(t, p, change)
		addDeal(t, p)
	}
	wait(t, p)
	forms, rows := in.forms(t), p.OfflineRows()
	require.Len(t, forms, 3)
	require.Len(t, rows, 3)
	require.NotEmpty(t, forms[0].Get("auth[access_token]"))
	require.Equal(t, eventtest.AdminID, rows[0].UserID)

	require.False(t, forms[1].Has("auth[access_token]"))
	require.Equal(t, "2", forms[1].Get("data[FIELDS][ID]"))
	require.Zero(t, rows[1].UserID)

	require.False(t, forms[2].Has("data[FIELDS][ID]"))
	require.Equal(t, "60", forms[2].Get("auth[expires_in]"))
	require.Equal(t, event.Data{}, rows[2].Data)
}

// PROTOCOL 5.5: ONAPPINSTALL may be late, and it may be missing.
func TestQuirksOfInstallation(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	p := eventtest.NewPortal(t)
	add := func() *eventtest.Application {
		app, err := p.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: in.URL})
		require.NoError(t, err)
		require.NoError(t, app.Install(t.Context()))
		return app
	}
	quirk(t, p, func(q *eventtest.Quirks) { q.NoInstallEvent = true })
	require.True(t, add().Installed())
	wait(t, p)
	require.Empty(t, in.events(t))

	quirk(t, p, func(q *eventtest.Quirks) { q.NoInstallEvent, q.InstallDelay = false, time.Hour })
	c := as(t, p, add(), eventtest.AdminID)
	c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
	addDeal(t, p)
	require.Eventually(t, func() bool { return len(in.events(t)) == 1 }, 30*time.Second, time.Millisecond)
	p.Advance(59 * time.Minute)
	require.Equal(t, []string{"ONCRMDEALADD"}, in.events(t))
	p.Advance(time.Minute)
	wait(t, p)
	require.Equal(t, []string{"ONCRMDEALADD", "ONAPPINSTALL"}, in.events(t))
}

// PROTOCOL 2.6: current builds select rows and then mark them.
func TestRacingReservations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork())
		call := w.caller(t)
		call("event.bind", obj{"event": "ONCRMDEALADD", "event_type": "offline"})
		for range 3 {
			addDeal(t, w.Portal)
		}
		reserve := func() (answers [2]map[string]any) {
			var both sync.WaitGroup
			for i := range answers {
				both.Go(func() { answers[i] = call("event.offline.get", obj{"clear": 0, "limit": 2}).object(t) })
			}
			both.Wait()
			return answers
		}
		owners := func() map[string]int {
			n := map[string]int{}
			for _, row := range w.OfflineRows() {
				n[row.ProcessID]++
			}
			return n
		}
		a := reserve()
		require.Len(t, owners(), 2, "without the quirk no row is handed out twice")
		for _, got := range a {
			call("event.offline.clear", obj{"process_id": got["process_id"]})
		}
		require.Empty(t, w.OfflineRows())

		quirk(t, w.Portal, func(q *eventtest.Quirks) { q.RacingReservations = true })
		for range 3 {
			addDeal(t, w.Portal)
		}
		a = reserve()
		require.Len(t, a[0]["events"], 2)
		require.Equal(t, a[0]["events"], a[1]["events"])
		require.NotEqual(t, a[0]["process_id"], a[1]["process_id"])
		n := owners()
		require.Len(t, n, 2, "the later one owns them both: %v", n)
		require.Equal(t, 1, n[""])
	})
}

// PROTOCOL 2.1 #12.
func TestRacingBinds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork(), eventtest.WithQuirks(func(q *eventtest.Quirks) { q.RacingBinds = true }))
		call := w.caller(t)
		handlers := []string{"https://example.com/a", "https://example.com/a", "https://example.com/b"}
		texts := make([]string, len(handlers))
		var all sync.WaitGroup
		for i, handler := range handlers {
			all.Go(func() { texts[i] = call("event.bind", obj{"event": "ONCRMDEALADD", "handler": handler}).Description })
		}
		all.Wait()
		require.ElementsMatch(t, []string{"", "Unable to set event handler: Process of binding the handler has already started"}, texts[:2])
		require.Empty(t, texts[2])
		require.Equal(t, "Unable to set event handler: Handler already binded",
			call("event.bind", obj{"event": "ONCRMDEALADD", "handler": "https://example.com/a"}).Description)
	})
}

// PROTOCOL 1.6.
func TestOperatingLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork(), eventtest.WithQuirks(func(q *eventtest.Quirks) { q.OperatingLimit = 2 * time.Second }))
		call := w.caller(t)
		w.Once("crm.deal.list", eventtest.Delay(150*time.Millisecond), eventtest.Delay(1840*time.Millisecond),
			eventtest.Delay(100*time.Millisecond),
			eventtest.Delay(110*time.Millisecond))
		for _, want := range []float64{0.15, 1.99} {
			require.InDelta(t, want, call("crm.deal.list", nil).Time["operating"], 1e-6, "1.6 more than a tenth of a second counts")
		}
		require.InDelta(t, 1.99, call("crm.deal.list", nil).Time["operating"], 1e-6, "1.6 short runs do not")
		require.InDelta(t, 2.1, call("crm.deal.list", nil).Time["operating"], 1e-6)
		blocked := call("crm.deal.list", nil)
		require.Equal(t, http.StatusTooManyRequests, blocked.Status)
		require.Equal(t, "OPERATION_TIME_LIMIT", blocked.Error)
		require.Nil(t, blocked.Time)
		batch := call("batch", obj{"cmd": obj{"a": "crm.deal.list", "b": "profile"}})
		require.Contains(t, mustEncode(t, batch.object(t)["result_error"]), "OPERATION_TIME_LIMIT")
		require.Contains(t, mustEncode(t, batch.object(t)["result"]), `"b"`)
		require.Empty(t, call("profile", nil).Error)

		other, err := w.AddApp(eventtest.App{})
		require.NoError(t, err)
		require.NoError(t, other.Install(t.Context()))
		g, err := other.Grant(eventtest.AdminID)
		require.NoError(t, err)
		a := w.post(t, w.ClientEndpoint()+"crm.deal.list?auth="+string(g.AccessToken), "", "")
		require.Equal(t, "insufficient_scope", a.Error, "the scope is checked first, and applications are counted apart")
		time.Sleep(9 * time.Minute) //nolint:forbidigo // the bubble's clock
		require.Equal(t, "OPERATION_TIME_LIMIT", call("crm.deal.list", nil).Error)
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
		require.Empty(t, call("crm.deal.list", nil).Error)
	})
}

func mustEncode(t *testing.T, v any) string {
	t.Helper()
	doc, err := json.Marshal(v)
	require.NoError(t, err)
	return string(doc)
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	c.ok("server.time", nil)
	require.Empty(t, p.Buckets())
	quirk(t, p, func(q *eventtest.Quirks) { q.RatePerSecond, q.RateBurst = 0.001, 2 })
	c.ok("server.time", nil)
	c.ok("server.time", nil)
	require.Equal(t, "QUERY_LIMIT_EXCEEDED", c.call("server.time", nil).Error)
	b := p.Buckets()
	require.Len(t, b, 1)
	require.Equal(t, "127.0.0.1", b[0].Source)
	require.Equal(t, 2, b[0].Burst)
	require.InDelta(t, 2, b[0].Level, 0.1)
	require.InDelta(t, 0.001, b[0].Rate, 0)
	p.Advance(500 * time.Second)
	require.InDelta(t, 1.5, p.Buckets()[0].Level, 0.1)
	quirk(t, p, func(q *eventtest.Quirks) { q.RatePerSecond, q.RateBurst = 0, 0 })
	require.Empty(t, p.Buckets())
}

// PROTOCOL 4.1: slow handlers are called less often, with growing intervals.
func TestSlowHandlers(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t, eventtest.WithQuirks(func(q *eventtest.Quirks) { q.SlowHandlers = time.Nanosecond }))
	slow, other := newInbox(t), newInbox(t)
	c.bind(obj{"event": "ONCRMDEALADD", "handler": slow.URL})
	for range 4 {
		addDeal(t, p)
	}
	arrived := func(in *inbox, n int) {
		t.Helper()
		require.Eventually(t, func() bool { return len(in.events(t)) == n && len(p.Lanes()) > 0 && p.Lanes()[0].Busy == 0 },
			30*time.Second, time.Millisecond)
	}
	arrived(slow, 1)
	lane := p.Lanes()[0]
	require.Equal(t, slow.URL, lane.URL)
	require.Equal(t, 3, lane.Waiting)
	require.Equal(t, time.Second, lane.Gap)
	require.Greater(t, lane.Until, p.Now().Add(-time.Minute))
	p.Advance(time.Second)
	arrived(slow, 2)
	require.Equal(t, 2*time.Second, p.Lanes()[0].Gap)

	c.bind(obj{"event": "ONCRMDEALUPDATE", "handler": other.URL})
	change(t, p, 1)
	require.Eventually(t, func() bool { return len(other.events(t)) == 1 }, 30*time.Second, time.Millisecond, "no other handler waits")

	quirk(t, p, func(q *eventtest.Quirks) { q.SlowHandlers = time.Hour })
	p.Advance(2 * time.Second)
	require.Eventually(t, func() bool { return len(slow.events(t)) == 3 }, 30*time.Second, time.Millisecond)
	p.Advance(time.Second)
	wait(t, p)
	require.Len(t, slow.events(t), 4, "a quick answer halves the gap")
	quirk(t, p, func(q *eventtest.Quirks) { q.SlowHandlers = 0 })
	for _, l := range p.Lanes() {
		require.Zero(t, l.Gap)
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	p, c := newPortal(t)
	for name, change := range map[string]func(){
		"a call":          func() { c.call("server.time", nil) },
		"a delivery":      func() { require.NoError(t, p.Resend(eventtest.Attempt{URL: in.URL})) },
		"quirks":          func() { quirk(t, p, func(q *eventtest.Quirks) { q.NoUser = true }) },
		"an application":  func() { require.NotNil(t, install(t, p, eventtest.App{})) },
		"switched off":    func() { c.app.SetActive(true) },
		"not paid":        func() { c.app.SetPaymentExpired(false) },
		"the clock":       func() { p.Advance(time.Second) },
		"expired":         p.ExpireAccessTokens,
		"an object":       func() { addDeal(t, p) },
		"the domain":      func() { require.NoError(t, p.Rename(t.Context())) },
		"records":         p.ResetRecords,
		"a token rotated": func() { c.app.RotateApplicationToken() },
	} {
		changed := p.Changed()
		require.Equal(t, changed, p.Changed())
		change()
		select {
		case <-changed:
		default:
			t.Errorf("%s: nobody was told", name)
		}
	}
	changed := p.Changed()
	require.NoError(t, p.Close())
	<-changed
}

func TestApplications(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	one, err := p.AddApp(eventtest.App{Scope: []string{"crm", "task"}, HandlerURL: "https://example.com/one", UI: true})
	require.NoError(t, err)
	two, err := p.AddApp(eventtest.App{})
	require.NoError(t, err)
	require.Equal(t, []*eventtest.Application{one, two}, p.Applications())
	require.Equal(t, []string{"crm", "task"}, one.Scope())
	require.Equal(t, "https://example.com/one", one.HandlerURL())
	require.True(t, one.UI())
	require.Equal(t, "L", one.Status())
	require.False(t, two.Registered())
	require.NoError(t, two.Install(t.Context()))
	require.True(t, two.Registered())
	require.True(t, two.Active())
	require.False(t, two.PaymentExpired())
	two.SetActive(false)
	two.SetPaymentExpired(true)
	require.False(t, two.Active())
	require.True(t, two.PaymentExpired())
}

func TestFallback(t *testing.T) {
	t.Parallel()
	page := http.NewServeMux()
	page.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	page.HandleFunc("/api/state", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	p, c := newPortal(t, eventtest.WithFallback(page))
	get := func(path string) answer { return send(t, http.MethodGet, p.URL()+path, "", "") }
	require.Equal(t, http.StatusTeapot, get("/").Status)
	require.Equal(t, http.StatusNoContent, get("/api/state").Status)
	require.Equal(t, http.StatusNotFound, get("/oauth/nothing").Status)
	require.Equal(t, "ERROR_METHOD_NOT_FOUND", get("/rest/nothing").Error)
	before := p.Requests().REST
	get("/")
	require.Equal(t, before, p.Requests().REST)
	c.ok("server.time", nil)
}

func TestOAuthListen(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t, eventtest.WithOAuthListen("0.0.0.0:0"))
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, p.OAuthHost())
	_, err := eventtest.New(eventtest.WithOAuthListen(p.OAuthHost()))
	require.Error(t, err, "the address is taken")
}

func TestMergedAndAnswer(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat("x", 5000)))
	}))
	t.Cleanup(srv.Close)
	p, c := newPortal(t)
	c.bind(obj{"event": "ONCRMDEALUPDATE", "event_type": "offline"})
	c.bind(obj{"event": "ONCRMDEALUPDATE", "handler": srv.URL})
	id := addDeal(t, p)
	for range 3 {
		change(t, p, id)
	}
	require.Equal(t, 2, p.OfflineRows()[0].Merged)
	wait(t, p)
	a := p.Deliveries()[0]
	require.Equal(t, strings.Repeat("x", 1024), string(a.Answer))
	require.NotContains(t, a.Answer.String(), "x")
}

// Applications can be installed even without users and data in events.
func TestInstallationKeepsItsUserAndData(t *testing.T) {
	t.Parallel()
	n := eventtest.NewNetwork()
	n.Handle("app.example.com", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p := eventtest.NewPortal(t, eventtest.WithNetwork(n), eventtest.WithQuirks(func(q *eventtest.Quirks) { q.NoUser, q.NoData = true, true }))
	app, err := p.AddApp(eventtest.App{HandlerURL: "https://app.example.com/"})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	require.NoError(t, p.Wait(t.Context()))
	d, err := event.Parse("", []byte(p.Deliveries()[0].Body))
	require.NoError(t, err)
	require.Equal(t, eventtest.AdminID, d.Auth.UserID)
	require.NotEmpty(t, d.Auth.RefreshToken)
	require.Equal(t, "Y", d.Data.Get("INSTALLED").Text())
}
