package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is a devportal that runs inside the test.
type process struct {
	t       *testing.T
	page    string // without the slash at the end
	signals chan os.Signal
	exited  chan int
	stdout  *output
	stderr  *output
}

// output collects what is written, safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// lines decodes the JSON objects of one type that were printed so far.
func (o *output) lines(t *testing.T, kind string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(o.String()) {
		var v map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &v), line)
		if v["type"] == kind {
			all = append(all, v)
		}
	}
	return all
}

// start runs a devportal on free ports until the test ends.
func start(t *testing.T, env map[string]string) *process {
	t.Helper()
	p := &process{t: t, signals: make(chan os.Signal, 2), exited: make(chan int, 1), stdout: &output{}, stderr: &output{}}
	settings := map[string]string{"DEVPORTAL_LISTEN": "127.0.0.1:0"}
	maps.Copy(settings, env)
	lookup := func(name string) (string, bool) { v, ok := settings[name]; return v, ok }
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.exited <- run(ctx, p.signals, nil, lookup, p.stdout, p.stderr)
	}()
	t.Cleanup(func() {
		p.signals <- syscall.SIGTERM
		<-done
		cancel()
	})
	require.Eventually(t, func() bool { return len(p.stdout.lines(t, "ready")) > 0 || len(p.exited) > 0 }, patience, 5*time.Millisecond)
	ready := p.stdout.lines(t, "ready")
	require.Len(t, ready, 1, p.stderr)
	page, ok := ready[0]["page"].(string)
	require.True(t, ok)
	p.page = strings.TrimSuffix(page, "/")
	return p
}

// request sends one to the page's API.
func (p *process) request(method, path, body string, headers ...string) (int, http.Header, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.page+path, strings.NewReader(body))
	require.NoError(p.t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
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

// post runs a command, which must succeed.
func (p *process) post(path, body string) map[string]any {
	p.t.Helper()
	status, _, text := p.request(http.MethodPost, path, body)
	require.Equal(p.t, http.StatusOK, status, text)
	var out map[string]any
	require.NoError(p.t, json.Unmarshal([]byte(text), &out))
	return out
}

// state is what the page shows.
func (p *process) state(query string) snapshot {
	p.t.Helper()
	status, _, text := p.request(http.MethodGet, "/api/state"+query, "")
	require.Equal(p.t, http.StatusOK, status, text)
	var s snapshot
	require.NoError(p.t, json.Unmarshal([]byte(text), &s))
	return s
}
