package main

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// process is a devportal that runs inside the test.
type process struct {
	*programtest.Process
	t    *testing.T
	page string // without the slash at the end
}

// printed returns the JSON objects of one type that were printed so far.
func (p *process) printed(kind string) []map[string]any {
	p.t.Helper()
	var all []map[string]any
	for _, line := range programtest.Lines(p.t, p.Stdout.String()) {
		if line["type"] == kind {
			all = append(all, line)
		}
	}
	return all
}

// lateText is a text that is built when it is printed.
type lateText func() string

func (l lateText) String() string { return l() }

// start runs a devportal on free ports until the test ends.
func start(t *testing.T, env programtest.Env) *process {
	t.Helper()
	settings := programtest.Env{"DEVPORTAL_LISTEN": "127.0.0.1:0"}
	maps.Copy(settings, env)
	p := &process{t: t, Process: programtest.Start(t, run, settings)}
	require.Eventually(t, func() bool { return len(p.printed("ready")) > 0 }, patience, 5*time.Millisecond, lateText(p.Stderr.String))
	page, ok := p.printed("ready")[0]["page"].(string)
	require.True(t, ok)
	p.page = strings.TrimSuffix(page, "/")
	return p
}

// request sends a request to the page's API.
func (p *process) request(method, path, body string, headers ...string) (int, http.Header, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.page+path, strings.NewReader(body))
	require.NoError(p.t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	require.NoError(p.t, err)
	text, err := io.ReadAll(answer.Body)
	require.NoError(p.t, err)
	require.NoError(p.t, answer.Body.Close())
	return answer.StatusCode, answer.Header, string(text)
}

// post runs a command that must succeed.
func (p *process) post(path, body string) map[string]any {
	p.t.Helper()
	status, _, text := p.request(http.MethodPost, path, body)
	require.Equal(p.t, http.StatusOK, status, text)
	var out map[string]any
	require.NoError(p.t, json.Unmarshal([]byte(text), &out))
	return out
}

// state returns the snapshot that the page shows.
func (p *process) state(query string) snapshot {
	p.t.Helper()
	status, _, text := p.request(http.MethodGet, "/api/state"+query, "")
	require.Equal(p.t, http.StatusOK, status, text)
	var s snapshot
	require.NoError(p.t, json.Unmarshal([]byte(text), &s))
	return s
}
