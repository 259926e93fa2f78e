package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// allFigures have a value for each metric.
func allFigures() figures {
	now := time.Now()
	return figures{
		now: now,
		handler: webhook.Stats{
			Accepted: 5, Handled: 3, Lost: 1, Queued: 2, LastAccepted: now.Add(-time.Minute), Store: &webhook.StoreStats{Commits: 7},
			Rejected: map[webhook.Reason]uint64{webhook.ReasonForbidden: 4},
			Handlers: map[string]webhook.Latency{"ONCRMDEALADD": {}, "a \"name\"\\\nwith all": {}},
		},
		output: output{printed: 3, refused: 6},
		depth:  &webhook.Depth{Pending: 9, OldestPending: now.Add(-time.Hour)},
		rest:   &rest.Stats{Calls: 11, LimitWait: 1500 * time.Millisecond, LastResponse: now},
		oauth:  &oauth.Stats{Renewed: 12, LastRenewed: now},
	}
}

func metricsOf(f figures) string {
	var b strings.Builder
	writeMetrics(&b, f)
	return b.String()
}

// served reads the text format as strictly as Prometheus does. It returns the samples, and the
// kinds of the metrics by name.
func served(t *testing.T, text string) (samples map[string]float64, kinds map[string]string) {
	t.Helper()
	samples, kinds = make(map[string]float64), make(map[string]string)
	line := regexp.MustCompile(`^([a-z_][a-z0-9_]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (\S+)$`)
	require.True(t, strings.HasSuffix(text, "\n"))
	current, helped := "", ""
	for l := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		words := strings.SplitN(l, " ", 4)
		switch {
		case strings.HasPrefix(l, "# HELP "):
			helped = words[2]
			require.NotContains(t, kinds, helped, "a metric is in one place")
			require.NotEmpty(t, words[3])
		case strings.HasPrefix(l, "# TYPE "):
			current = words[2]
			require.Equal(t, helped, current)
			require.Contains(t, []string{"counter", "gauge", "summary"}, words[3])
			kinds[current] = words[3]
		default:
			m := line.FindStringSubmatch(l)
			require.NotNil(t, m, "%q", l)
			name := m[1]
			if kinds[current] == "summary" {
				name = strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
			}
			require.Equal(t, current, name, "%q", l)
			value, err := strconv.ParseFloat(m[3], 64)
			require.NoError(t, err, "%q", l)
			require.NotContains(t, samples, m[1]+m[2], "a sample is there once")
			samples[m[1]+m[2]] = value
		}
	}
	for name, kind := range kinds {
		require.Equal(t, kind == "counter", strings.HasSuffix(name, "_total"), name)
	}
	return samples, kinds
}

func TestMetricsFormat(t *testing.T) {
	t.Parallel()
	all := allFigures()
	memory := all
	memory.handler.Store, memory.depth = nil, nil
	for name, f := range map[string]figures{
		"all": all, "nothing happened": {now: time.Now()}, "memory queue": memory, "no application": {handler: all.handler, output: all.output},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			served(t, metricsOf(f))
		})
	}
	samples, _ := served(t, metricsOf(all))
	for sample, want := range map[string]float64{
		"b24events_accepted_total": 5, "b24events_handled_total": 3, "b24events_lost_total": 1, "b24events_queue_depth": 9,
		`b24events_rejected_total{reason="forbidden"}`: 4, `b24events_rejected_total{reason="output"}`: 6,
		`b24events_silence_seconds{kind="delivery"}`: 60, "b24events_oldest_seconds": 3600, "b24events_rest_calls_total": 11,
		`b24events_rest_wait_seconds_total{kind="limit"}`: 1.5, "b24events_oauth_renewed_total": 12, "b24events_commits_total": 7,
		`b24events_handler_seconds_count{event="a \"name\"\\\nwith all"}`: 0,
	} {
		require.InDelta(t, want, samples[sample], 0.001, sample)
		require.Contains(t, samples, sample)
	}
}

// ownMetrics are those of this program, which docs/metrics.md does not list.
func ownMetrics() []string {
	return []string{
		"b24events_printed_total", "b24events_output_ready", "b24events_oldest_seconds", "b24events_oldest_parked_seconds",
		"b24events_parked", "b24events_partitions", "b24events_commit_seconds",
	}
}

// TestMetricsDocument: the document has each metric under its name for Prometheus, with its type; a
// summary here is a histogram there. Of offline queues there are none.
func TestMetricsDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	_, got := served(t, metricsOf(allFigures()))
	for _, name := range ownMetrics() {
		require.Contains(t, got, name)
		delete(got, name)
	}
	want := make(map[string]string)
	row := regexp.MustCompile("(?m)^\\| `b24events\\.[a-z_.]+` \\| `(b24events_[a-z_]+)` \\| ([a-z]+)")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if name := m[1]; !strings.HasPrefix(name, "b24events_offline_") && !strings.HasPrefix(name, "b24events_fleet_") {
			want[name] = strings.Replace(m[2], "histogram", "summary", 1)
		}
	}
	require.Equal(t, want, got)
}

// TestDashboard: the dashboard is JSON, and shows metrics that are served, each panel one or more.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	var board struct {
		Title  string `json:"title"`
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Type    string `json:"type"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(text, &board))
	require.NotEmpty(t, board.Title)
	samples, _ := served(t, metricsOf(allFigures()))
	var known []string
	for sample := range samples {
		name, _, _ := strings.Cut(sample, "{")
		known = append(known, name)
	}
	name := regexp.MustCompile(`b24events_[a-z_]+`)
	ids := make(map[int]bool)
	shown := 0
	for _, panel := range board.Panels {
		require.False(t, ids[panel.ID], "the ID %d is there twice", panel.ID)
		ids[panel.ID] = true
		require.NotEmpty(t, panel.Title)
		if panel.Type == "row" {
			continue
		}
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			found := name.FindAllString(target.Expr, -1)
			require.NotEmpty(t, found, target.Expr)
			for _, metric := range found {
				require.True(t, slices.Contains(known, metric), "%s: %s is not served", panel.Title, metric)
				shown++
			}
		}
	}
	require.Greater(t, shown, 20)
}
