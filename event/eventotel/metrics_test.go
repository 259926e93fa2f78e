package eventotel_test

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventotel"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// checkLabels fails if a metric has other labels than the document says, or a value with an ID.
func checkLabels(t *testing.T, points []point, secrets ...string) {
	t.Helper()
	allowed := make(map[string][]string)
	for _, m := range documented(t) {
		allowed[m.otel] = m.labels
	}
	for _, p := range points {
		require.Equal(t, strings.Join(allowed[p.name], " "), strings.Join(p.keys, " "), "labels of %s", p.name)
		for _, secret := range secrets {
			require.NotContains(t, p.labels, secret, p.name)
		}
	}
}

// watchAll watches everything that there is.
func (w *world) watchAll(t *testing.T, c *offline.Consumer, f *offline.Fleet) func() error {
	t.Helper()
	stop, err := w.Watch(eventotel.Sources{
		Webhook: w.hook.Stats, Consumer: c.Stats, Fleet: f.Stats, REST: w.clients.Stats, OAuth: w.portals.Stats,
	})
	require.NoError(t, err)
	return stop
}

// TestMetrics: the names, labels and values of all metrics after a little of everything. The
// document lists exactly these names.
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, err := webhooktest.NewMemoryStore()
		require.NoError(t, err)
		w := newWorld(t, fetchesDeals, webhook.WithStore(store))
		client := w.clients.Portal(w.MemberID())
		c, err := offline.NewConsumer(client, w.mux, append(w.Consumer(), offline.WithLogger(silent()))...)
		require.NoError(t, err)
		f, err := offline.NewFleet(func(string) event.Caller { return client }, w.mux, append(w.Fleet(), offline.WithLogger(silent()))...)
		require.NoError(t, err)
		stop := w.watchAll(t, c, f)

		w.ExpireAccessTokens()
		w.addDeal()
		for _, name := range []string{"ONX1", "ONX2"} {
			r, err := eventtest.NewRequest(t.Context(), eventtest.Name(name), nil, eventtest.WithToken("wrong"))
			require.NoError(t, err)
			w.hook.ServeHTTP(httptest.NewRecorder(), r)
		}
		require.NoError(t, event.NewAPI(client).Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Offline: true}))
		w.addDeal()
		require.NoError(t, c.Drain(t.Context()))
		time.Sleep(10 * time.Second) //nolint:forbidigo // on the clock of the bubble

		points := w.collect(t)
		checkLabels(t, points, w.MemberID(), w.Domain(), "ONX", w.app.ClientID())
		require.Equal(t, map[string]float64{"": 3}, values(points, "b24events.accepted"))
		require.Equal(t, map[string]float64{"": 3}, values(points, "b24events.handled"))
		require.InDelta(t, 2, values(points, "b24events.rejected")["reason=forbidden"], 0)
		require.Len(t, values(points, "b24events.rejected"), len(webhook.Reasons()))
		require.Equal(t, map[string]float64{"": 1}, values(points, "b24events.oauth.renewed"))
		require.Equal(t, map[string]float64{"result=renewed": 1}, values(points, "b24events.oauth.renewal"))
		require.Equal(t, map[string]float64{"": 1}, values(points, "b24events.rest.renewed"))
		require.Equal(t, map[string]float64{"": 1}, values(points, "b24events.offline.handled"))
		require.InDelta(t, 2, values(points, "b24events.ack")["event=ONCRMDEALADD"], 0)
		require.InDelta(t, 2, values(points, "b24events.handler")["event=ONCRMDEALADD,outcome=done,source=online"], 0)
		require.InDelta(t, 1, values(points, "b24events.handler")["event=ONCRMDEALADD,outcome=done,source=offline"], 0)
		require.InDelta(t, 3, values(points, "b24events.rest.call")["method=crm.deal.get,result=ok"], 0)
		require.InDelta(t, 10, values(points, "b24events.silence")["kind=delivery"], 1)
		require.Contains(t, values(points, "b24events.silence"), "kind=renewal")
		require.NotContains(t, values(points, "b24events.silence"), "kind=fleet_record", "it has no value before the first time")

		checkDocument(t, w.telemetry)

		require.NoError(t, stop())
		require.Empty(t, values(w.collect(t), "b24events.accepted"))
	})
}

// TestStoreMetrics: a durable queue has metrics of its own.
func TestStoreMetrics(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	stop, err := tel.Watch(eventotel.Sources{Webhook: func() webhook.Stats {
		return webhook.Stats{Store: &webhook.StoreStats{Commits: 1, Failures: 2, Recovered: 3, Parked: 4}}
	}})
	require.NoError(t, err)
	points := tel.collect(t)
	for name, want := range map[string]float64{"commits": 1, "commit_failures": 2, "recovered": 3, "parked": 4} {
		require.Equal(t, map[string]float64{"": want}, values(points, "b24events."+name))
	}
	checkLabels(t, points)
	require.NoError(t, stop())
}

// TestMethodLabels: methods are labels as long as they are few.
func TestMethodLabels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.installs() })
		client, err := rest.NewClients(w.portals, append(w.REST(), rest.WithoutRateLimit(), rest.WithRetries(0), rest.WithLogger(silent()))...)
		require.NoError(t, err)
		for i := range 300 {
			_ = client.Portal(w.MemberID()).Call(t.Context(), "made.up.x"+strconv.Itoa(i), nil, nil)
		}
		calls := values(w.collect(t), "b24events.rest.call")
		require.LessOrEqual(t, len(calls), 201)
		require.Greater(t, calls["method=other,result=failed"], 90.0)
		require.LessOrEqual(t, distinctNames(w.telemetry), 202)
	})
}

func distinctNames(t *telemetry) int {
	names := make(map[string]bool)
	for _, s := range t.spans.Ended() {
		names[s.Name()] = true
	}
	return len(names)
}

// TestRenewalResults: each result of a renewal is a label.
func TestRenewalResults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.installs() })
		_, token, err := w.portals.Access(t.Context(), w.MemberID())
		require.NoError(t, err)
		for range 2 {
			_, _, err = w.portals.Renew(t.Context(), w.MemberID(), token)
			require.NoError(t, err)
		}
		w.app.RevokeTokens()
		_, token, err = w.portals.Access(t.Context(), w.MemberID())
		require.NoError(t, err)
		_, _, err = w.portals.Renew(t.Context(), w.MemberID(), token)
		require.ErrorIs(t, err, oauth.ErrReauthorize)
		require.Equal(t, map[string]float64{"result=renewed": 1, "result=adopted": 1, "result=failed": 1},
			values(w.collect(t), "b24events.oauth.renewal"))
	})
}
