package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := settings{
		rounds: 2, duration: 20 * time.Millisecond, connections: 8, parse: true, serve: true,
		queues: []string{"memory", "sqlite"}, dir: t.TempDir(),
	}
	require.NoError(t, run(t.Context(), &out, s))
	for _, want := range []string{"parse: deal update, 588 bytes", "serve: bot message", "event.Parse, typed payload", "webhook.Handler, memory", "webhook.Handler, sqlite"} {
		require.Contains(t, out.String(), want)
	}
	require.Equal(t, 14, strings.Count(out.String(), "|\n| "), "a line for each peer and payload")
}

func TestMeasures(t *testing.T) {
	t.Parallel()
	s := settings{rounds: 2, duration: 20 * time.Millisecond, connections: 4, queues: []string{"memory"}}
	all, err := payloads()
	require.NoError(t, err)
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			parsed, err := measureParsing(t.Context(), s, p)
			require.NoError(t, err)
			for _, r := range parsed {
				require.Len(t, r.costs, s.rounds, r.name)
				for _, c := range r.costs {
					require.Positive(t, c.ns(), r.name)
					require.GreaterOrEqual(t, c.allocations(), 1.0, r.name)
				}
			}
			served, err := measureServing(t.Context(), s, p)
			require.NoError(t, err)
			require.Len(t, served, 2)
			for _, r := range served {
				require.Len(t, r.loads, s.rounds, r.name)
				for _, l := range r.loads {
					require.Positive(t, l.rate, r.name)
					require.GreaterOrEqual(t, l.requests, 1, r.name)
					require.GreaterOrEqual(t, l.p99, l.p50, r.name)
				}
			}
		})
	}
}

func TestMedianAndRatio(t *testing.T) {
	t.Parallel()
	same := func(f float64) float64 { return f }
	require.Zero(t, median(nil, same))
	require.InDelta(t, 2, median([]float64{3, 1, 2}, same), 0)
	require.InDelta(t, 2.5, median([]float64{4, 1, 2, 3}, same), 0)
	require.InDelta(t, 2, ratio([]float64{2, 40, 9}, []float64{1, 10, 9}, same), 0)
}

func TestUnexpectedResponse(t *testing.T) {
	t.Parallel()
	all, err := payloads()
	require.NoError(t, err)
	p := all[0]
	p.body = bytes.Replace(p.body, []byte(tokenMark), []byte("anothertokenxxxxxxxxxxxxxxxxxxxx"), 1)
	_, err = measureServing(t.Context(), settings{rounds: 1, duration: time.Millisecond, connections: 1, queues: []string{"memory"}}, p)
	require.ErrorContains(t, err, "403")
}

func TestUnknownQueue(t *testing.T) {
	t.Parallel()
	all, err := payloads()
	require.NoError(t, err)
	_, err = measureServing(t.Context(), settings{rounds: 1, duration: time.Millisecond, connections: 1, queues: []string{"disk"}}, all[0])
	require.ErrorContains(t, err, "disk: no such queue")
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := settings{rounds: 1, queues: []string{"memory", "sqlite"}, dir: t.TempDir(), backlog: 500, syncDelay: time.Millisecond}
	require.NoError(t, run(t.Context(), &out, s))
	require.Contains(t, out.String(), "| sqlite | ")
	require.Regexp(t, `\| \d+ calls \| \d+ \|`, out.String())
}
