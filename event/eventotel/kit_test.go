package eventotel_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventotel"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// telemetry is telemetry whose spans and metrics are in memory. The metrics are also in a registry
// of Prometheus.
type telemetry struct {
	*eventotel.Telemetry

	tracers  *sdktrace.TracerProvider
	spans    *tracetest.SpanRecorder
	reader   *metric.ManualReader
	registry *prometheus.Registry
}

func newTelemetry(tb testing.TB) *telemetry {
	tb.Helper()
	spans, reader, registry := tracetest.NewSpanRecorder(), metric.NewManualReader(), prometheus.NewRegistry()
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry))
	require.NoError(tb, err)
	t := &telemetry{
		tracers: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), spans: spans, reader: reader, registry: registry,
	}
	t.Telemetry, err = eventotel.New(nil, eventotel.WithTracerProvider(t.tracers),
		eventotel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader), metric.WithReader(exporter))))
	require.NoError(tb, err)
	return t
}

// world is a portal with an application, and a program of it with telemetry.
type world struct {
	*eventtest.Portal
	*telemetry

	t       testing.TB
	net     *eventtest.Network
	app     *eventtest.Application
	portals *oauth.Portals
	clients *rest.Clients
	mux     *event.Mux
	hook    *webhook.Handler
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newWorld makes a program that handles what register registers, and installs it.
func newWorld(tb testing.TB, register func(*world), opts ...webhook.Option) *world {
	tb.Helper()
	n := eventtest.NewNetwork()
	w := &world{
		Portal: eventtest.NewPortal(tb, eventtest.WithNetwork(n)), telemetry: newTelemetry(tb), t: tb, net: n, mux: event.NewMux(),
	}
	var err error
	w.app, err = w.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: "https://app.example.com/bitrix24"})
	require.NoError(tb, err)
	w.portals, err = oauth.NewPortals(oauth.Config{ClientID: w.app.ClientID(), ClientSecret: w.app.ClientSecret()}, oauth.NewMemoryStore(),
		append(w.OAuth(), oauth.WithLogger(silent()), oauth.WithHTTPClient(n.Client()))...)
	require.NoError(tb, err)
	w.clients, err = rest.NewClients(w.portals, append(w.REST(), rest.WithLogger(silent()))...)
	require.NoError(tb, err)
	w.mux.Use(w.Middleware())
	register(w)
	w.hook = w.newHook(opts...)
	require.NoError(tb, w.app.Install(tb.Context()))
	w.settle()
	return w
}

// newHook starts a process of the program.
func (w *world) newHook(opts ...webhook.Option) *webhook.Handler {
	w.t.Helper()
	hook, err := webhook.NewHandler(w.portals, w.mux, append(append(w.Webhook(), webhook.WithLogger(silent())), opts...)...)
	require.NoError(w.t, err)
	w.net.Handle("app.example.com", w.Receive(hook))
	w.t.Cleanup(func() { stop(hook) })
	return hook
}

func stop(h *webhook.Handler) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = h.Shutdown(ended)
}

// settle waits until all deliveries were made and handled, and forgets the spans so far.
func (w *world) settle() {
	w.t.Helper()
	require.NoError(w.t, w.Wait(w.t.Context()))
	require.NoError(w.t, w.hook.Idle(w.t.Context()))
	w.spans.Reset()
}

// installs handles installations by binding the events of the mux.
func (w *world) installs() {
	event.On(w.mux, event.OnAppInstall, func(ctx context.Context, d *event.Delivery, _ event.AppInstall) error {
		return event.NewAPI(w.clients.Portal(d.MemberID())).Reconcile(ctx, w.mux.Bindings("https://app.example.com/bitrix24"))
	})
}

// tree returns the ended spans as lines: roots with their links and their children below.
func (t *telemetry) tree() []string {
	spans := t.spans.Ended()
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int {
		return cmp.Or(a.StartTime().Compare(b.StartTime()), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name(), b.Name()))
	})
	names := make(map[string]string)
	for _, s := range spans {
		names[s.SpanContext().SpanID().String()] = s.Name()
	}
	var lines []string
	var add func(s sdktrace.ReadOnlySpan, depth int)
	add = func(s sdktrace.ReadOnlySpan, depth int) {
		parts := []string{strings.Repeat("  ", depth) + strings.TrimPrefix(s.Name(), "bitrix24 ")}
		for _, l := range s.Links() {
			parts = append(parts, strings.TrimPrefix(names[l.SpanContext.SpanID().String()], "bitrix24 "))
		}
		lines = append(lines, strings.Join(parts, " -> "))
		for _, child := range spans {
			if child.Parent().SpanID() == s.SpanContext().SpanID() {
				add(child, depth+1)
			}
		}
	}
	for _, s := range spans {
		if names[s.Parent().SpanID().String()] == "" {
			add(s, 0)
		}
	}
	return lines
}

// rank orders spans that begin at the same time: what receives comes first.
func rank(s sdktrace.ReadOnlySpan) int {
	if name := s.Name(); name == "bitrix24 receive" || name == "bitrix24 poll" || name == "one" {
		return 0
	}
	return 1
}

// span returns the only ended span with that name.
func (t *telemetry) span(tb testing.TB, name string) sdktrace.ReadOnlySpan {
	tb.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, s := range t.spans.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	require.Len(tb, found, 1, name)
	return found[0]
}

// attributes returns the attributes of a span as texts.
func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	all := make(map[string]string)
	for _, kv := range s.Attributes() {
		all[string(kv.Key)] = kv.Value.String()
	}
	return all
}

// point is a value of a metric.
type point struct {
	name, labels string
	value        float64 // of a histogram, the number of observations
	sum          float64
	keys         []string
}

// collect reads all metrics.
func (t *telemetry) collect(tb testing.TB) []point {
	tb.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(tb, t.reader.Collect(context.Background(), &all))
	var points []point
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					points = append(points, newPoint(m.Name, p.Attributes, float64(p.Count), p.Sum))
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					points = append(points, newPoint(m.Name, p.Attributes, p.Value, p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					points = append(points, newPoint(m.Name, p.Attributes, p.Value, p.Value))
				}
			default:
				require.Fail(tb, "an unknown kind of metric", "%s %T", m.Name, data)
			}
		}
	}
	return points
}

func newPoint(name string, set attribute.Set, value, sum float64) point {
	p := point{name: name, value: value, sum: sum}
	var labels []string
	for _, kv := range set.ToSlice() {
		p.keys = append(p.keys, string(kv.Key))
		labels = append(labels, string(kv.Key)+"="+kv.Value.String())
	}
	p.labels = strings.Join(labels, ",")
	return p
}

// values returns the values of a metric by its labels.
func values(points []point, name string) map[string]float64 {
	all := make(map[string]float64)
	for _, p := range points {
		if p.name == name {
			all[p.labels] = p.value
		}
	}
	return all
}

// get sends a request with GET to the handler.
func (w *world) get(tb testing.TB) {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "https://app.example.com/bitrix24", nil)
	require.NoError(tb, err)
	resp, err := w.net.Client().Do(r)
	require.NoError(tb, err)
	require.NoError(tb, resp.Body.Close())
}

// text renders everything that spans hold, to look for secrets.
func (t *telemetry) text() string {
	var b strings.Builder
	for _, s := range t.spans.Ended() {
		_, _ = fmt.Fprintln(&b, s.Name(), s.Attributes(), s.Status(), s.Events())
	}
	return b.String()
}

type readOnlySpan = sdktrace.ReadOnlySpan

// collectError returns the error of reading all metrics.
func (t *telemetry) collectError(tb testing.TB) error {
	tb.Helper()
	var all metricdata.ResourceMetrics
	return t.reader.Collect(context.Background(), &all)
}
