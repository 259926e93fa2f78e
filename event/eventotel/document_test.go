package eventotel_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// documentedMetric is a row of docs/metrics.md.
type documentedMetric struct {
	otel, prometheus string
	kind             string // counter, gauge or histogram
	seconds          bool
	labels           []string // sorted
}

// documented returns the rows of docs/metrics.md.
func documented(t *testing.T) []documentedMetric {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| `(b24events\\.[a-z_.]+)` \\| `(b24events_[a-z_]+)` \\| (counter|gauge|histogram)(, s)? \\| ?([^|]*) \\| [^|]+ \\|$")
	name := regexp.MustCompile("`([a-z_]+)`")
	var all []documentedMetric
	for _, m := range row.FindAllStringSubmatch(document(t), -1) {
		one := documentedMetric{otel: m[1], prometheus: m[2], kind: m[3], seconds: m[4] != ""}
		labels, _, _ := strings.Cut(m[5], ":") // a list of values may follow
		for _, label := range name.FindAllStringSubmatch(labels, -1) {
			one.labels = append(one.labels, label[1])
		}
		slices.Sort(one.labels)
		all = append(all, one)
	}
	require.Len(t, all, strings.Count(document(t), "\n| `b24events."), "each row is understood")
	return all
}

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	return string(text)
}

// described is what OpenTelemetry has of a metric.
type described struct {
	help, unit, kind string
}

// described returns the metrics that have values, by their names.
func (t *telemetry) described(tb testing.TB) map[string]described {
	tb.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(tb, t.reader.Collect(tb.Context(), &all))
	found := make(map[string]described)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			kind := ""
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				kind = "histogram"
			case metricdata.Sum[float64]:
				require.True(tb, data.IsMonotonic, m.Name)
				kind = "counter"
			case metricdata.Gauge[float64]:
				kind = "gauge"
			}
			found[m.Name] = described{m.Description, m.Unit, kind}
		}
	}
	return found
}

// family is a metric as Prometheus reads it.
type family struct {
	help, kind string
	labels     []string            // sorted, without those of the scope
	values     map[string][]string // of each label
}

// scraped returns what Prometheus reads, by name.
func (t *telemetry) scraped(tb testing.TB) map[string]family {
	tb.Helper()
	gathered, err := t.registry.Gather()
	require.NoError(tb, err)
	found := make(map[string]family)
	for _, f := range gathered {
		one := family{help: f.GetHelp(), kind: strings.ToLower(f.GetType().String()), values: make(map[string][]string)}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !strings.HasPrefix(l.GetName(), "otel_scope_") {
					one.values[l.GetName()] = append(one.values[l.GetName()], l.GetValue())
				}
			}
		}
		for label := range one.values {
			one.labels = append(one.labels, label)
		}
		slices.Sort(one.labels)
		found[f.GetName()] = one
	}
	return found
}

// checkDocument checks that the document lists exactly the metrics that have values: under the name
// of OpenTelemetry and under the one that Prometheus reads, with type, unit and labels.
func checkDocument(t *testing.T, m *telemetry) {
	t.Helper()
	rows, ours, theirs := documented(t), m.described(t), m.scraped(t)
	delete(theirs, "target_info") // of the program, by the exporter
	for _, row := range rows {
		require.Contains(t, ours, row.otel)
		require.Contains(t, theirs, row.prometheus)
		our, their := ours[row.otel], theirs[row.prometheus]
		require.Equal(t, row.kind, our.kind, row.otel)
		require.Equal(t, row.kind, their.kind, row.prometheus)
		require.Equal(t, our.help, their.help, "%s is %s", row.otel, row.prometheus)
		require.Equal(t, row.labels, their.labels, row.prometheus)
		if row.seconds {
			require.Equal(t, "s", our.unit, row.otel)
		} else {
			require.Regexp(t, `^\{[a-z]+\}$`, our.unit, "%s: a gauge of the unit 1 is a ratio for Prometheus", row.otel)
		}
	}
	require.Len(t, ours, len(rows), "the document lists all")
	require.Len(t, theirs, len(rows), "the document lists all for Prometheus")
}

// checkValues checks that each label has values of a bounded set only, which the document names.
func checkValues(t *testing.T, m *telemetry) {
	t.Helper()
	bounded := map[string][]string{
		"outcome": {"done", "gone", "unhandled", "failed", "retried", "dropped", "panic"},
		"source":  {"online", "offline", "polled", "other"},
		"result":  {"ok", "failed", "renewed", "adopted"},
		"kind": {
			"limit", "pause", "backoff", "delivery", "rest_response", "renewal",
			"offline_response", "offline_record", "fleet_response", "fleet_record",
		},
	}
	text := document(t)
	for label, list := range bounded {
		for _, value := range list {
			require.Contains(t, text, "`"+value+"`", "a value of %s", label)
		}
	}
	for _, reason := range webhook.Reasons() {
		bounded["reason"] = append(bounded["reason"], string(reason))
	}
	for info := range event.Catalog() {
		bounded["event"] = append(bounded["event"], info.Name)
	}
	bounded["event"] = append(bounded["event"], event.OtherEvents)
	for name, f := range m.scraped(t) {
		if name == "target_info" {
			continue // of the program, by the exporter
		}
		for label, list := range f.values {
			if label == "method" {
				require.LessOrEqual(t, len(slices.Compact(slices.Sorted(slices.Values(list)))), 201, name)
				continue
			}
			require.Subset(t, bounded[label], list, "%s of %s", label, name)
		}
	}
}
