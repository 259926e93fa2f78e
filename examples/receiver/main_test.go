package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// process is a receiver that runs inside the test.
type process struct {
	url     string
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

// lines decodes the JSON objects printed so far.
func (o *output) lines(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	s := bufio.NewScanner(strings.NewReader(o.String()))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var object map[string]any
		require.NoError(t, json.Unmarshal(s.Bytes(), &object))
		all = append(all, object)
	}
	return all
}

// start runs a receiver with the environment and waits until it is ready.
func start(t *testing.T, env map[string]string, args ...string) *process {
	t.Helper()
	p := &process{signals: make(chan os.Signal, 2), exited: make(chan int, 1), stdout: &output{}, stderr: &output{}}
	env["LISTEN"] = "127.0.0.1:0"
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	go func() {
		p.exited <- run(t.Context(), p.signals, append(args, "-log-format=json"), lookup, p.stdout, p.stderr)
	}()
	require.Eventually(t, func() bool {
		for line := range strings.Lines(p.stderr.String()) {
			var entry struct {
				Listen string `json:"listen"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Listen != "" {
				p.url = "http://" + entry.Listen
				return true
			}
		}
		return false
	}, 30*time.Second, time.Millisecond, "it does not start: %s", p.stderr)
	t.Cleanup(func() {
		if p.exited != nil {
			p.stop(t)
		}
	})
	return p
}

// stop sends SIGTERM and expects a clean exit.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signals <- syscall.SIGTERM
	select {
	case code := <-p.exited:
		require.Zero(t, code, p.stderr.String())
	case <-time.After(60 * time.Second):
		t.Fatal("it does not stop")
	}
	p.exited = nil
}

func (p *process) post(t *testing.T, e eventtest.Event, payload any, opts ...eventtest.RequestOption) int {
	t.Helper()
	r, err := eventtest.NewRequest(t.Context(), e, payload, append(opts, eventtest.WithURL(p.url+"/bitrix24/events"))...)
	require.NoError(t, err)
	return send(t, r)
}

func send(t *testing.T, r *http.Request) int {
	t.Helper()
	answer, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	return answer.StatusCode
}

func (p *process) get(t *testing.T, path string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, nil)
	require.NoError(t, err)
	answer, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

func (p *process) printed(t *testing.T, n int) []map[string]any {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Count(p.stdout.String(), "\n") >= n }, 60*time.Second, time.Millisecond)
	return p.stdout.lines(t)
}

func TestOutgoingWebhook(t *testing.T) {
	t.Parallel()
	p := start(t, map[string]string{"B24_APPLICATION_TOKEN": "first-token, second-token"})
	token := eventtest.WithToken("second-token")
	require.Equal(t, 200, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 21}, token, eventtest.WithHandlerID(509)))
	require.Equal(t, 200, p.post(t, eventtest.Name("ONSOMETHINGNEW"), map[string]any{"a": 1}, token))
	require.Equal(t, 403, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 21}, eventtest.WithToken("third-token")))
	require.Equal(t, 403, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 21}, eventtest.WithoutAuth()))

	lines := p.printed(t, 2)
	require.Len(t, lines, 2)
	byEvent := map[any]map[string]any{lines[0]["event"]: lines[0], lines[1]["event"]: lines[1]}
	deal := byEvent["ONCRMDEALUPDATE"]
	require.Equal(t, "online", deal["source"])
	require.Equal(t, "event.CRMEntity", deal["type"])
	require.Equal(t, map[string]any{"ID": 21.0}, deal["payload"])
	require.InDelta(t, 509, deal["handler_id"], 0)
	require.Equal(t, false, byEvent["ONSOMETHINGNEW"]["known"])

	status, body := p.get(t, "/healthz")
	require.Equal(t, 200, status)
	require.Equal(t, "ok\n", body)
	_, metrics := p.get(t, "/metrics")
	for _, want := range []string{
		"b24events_accepted_total 2\n", "b24events_processed_total 2\n", "b24events_failed_total 0\n", "b24events_parked 0\n",
		"b24events_queue_depth 0\n", "b24events_rejected_total{reason=\"forbidden\"} 2\n", "b24events_ack_seconds{quantile=\"0.99\"} ", "b24events_lag_seconds_count 2\n",
	} {
		require.Contains(t, metrics, want)
	}
	status, _ = p.get(t, "/bitrix24/events")
	require.Equal(t, 204, status)
	status, _ = p.get(t, "/elsewhere")
	require.Equal(t, 404, status)
	p.stop(t)
	require.NotContains(t, p.stdout.String()+p.stderr.String(), "-token\"", "no token is printed")
	require.NotContains(t, p.stdout.String()+p.stderr.String(), "second-token")
}

// portalWithApp returns a portal, an application of it, and the environment of a receiver for that application.
func portalWithApp(t *testing.T, data string) (*eventtest.Portal, *eventtest.Application, map[string]string) {
	t.Helper()
	// The address of the receiver has to be known before it starts.
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	url := "http://" + addr + "/bitrix24/events"
	portal := eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: url})
	require.NoError(t, err)
	return portal, app, map[string]string{
		"B24_CLIENT_ID": app.ClientID(), "B24_CLIENT_SECRET": string(app.ClientSecret()), "B24_OAUTH_HOSTS": portal.OAuthHost(),
		"B24_INSECURE_HTTP": "1", "B24_DATA": data, "PUBLIC_URL": url, "EVENTS": "ONCRMDEALADD,onCrmDealUpdate,ONAPPUNINSTALL",
	}
}

func TestApplication(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "state")
	portal, app, env := portalWithApp(t, data)
	listen := strings.TrimSuffix(strings.TrimPrefix(env["PUBLIC_URL"], "http://"), "/bitrix24/events")
	p := start(t, env, "-listen="+listen)

	require.NoError(t, app.Install(t.Context()))
	install := p.printed(t, 1)[0]
	require.Equal(t, "ONAPPINSTALL", install["event"])
	require.Equal(t, "user+refresh", install["auth"])
	require.Len(t, portal.Bindings(), 4, "the platform's own, and three of EVENTS")

	id, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "x"}, eventtest.AdminID)
	require.NoError(t, err)
	deal := p.printed(t, 2)[1]
	require.Equal(t, "ONCRMDEALADD", deal["event"])
	require.Equal(t, map[string]any{"kind": "crm.deal", "id": strconv.FormatInt(id, 10)}, deal["entity"])
	require.Equal(t, portal.MemberID(), deal["member_id"])

	for name, opts := range map[string][]eventtest.RequestOption{
		"wrong token":     {eventtest.WithMember(portal.MemberID()), eventtest.WithToken("0123456789abcdef0123456789abcdef")},
		"foreign portal":  {eventtest.WithMember("ffffffffffffffffffffffffffffffff"), eventtest.WithToken(app.ApplicationToken())},
		"no portal":       {eventtest.WithMember(""), eventtest.WithToken(app.ApplicationToken())},
		"hostile install": {eventtest.WithMember(portal.MemberID()), eventtest.WithUser(1, "forged"), eventtest.WithRefreshToken("forged"), eventtest.WithToken("x"), eventtest.WithEndpoints("https://evil.example/rest/", "https://evil.example/rest/")},
		"false install":   {eventtest.WithMember(portal.MemberID()), eventtest.WithUser(1, "forged"), eventtest.WithRefreshToken("forged"), eventtest.WithToken("x"), eventtest.WithEndpoints(portal.ClientEndpoint(), portal.ServerEndpoint())},
	} {
		e := eventtest.Event(event.OnCrmDealAdd)
		if strings.Contains(name, "install") {
			e = event.OnAppInstall
		}
		require.Equal(t, 403, p.post(t, e, map[string]any{"FIELDS": map[string]any{"ID": 1}}, opts...), name)
	}

	p.stop(t)
	require.Len(t, p.stdout.lines(t), 2, "no forgery was printed")

	// The next start finds the installation and binds what EVENTS names by now.
	env["EVENTS"] = "ONCRMDEALADD,ONCRMLEADADD,ONAPPUNINSTALL"
	p2 := start(t, env, "-listen="+listen)
	require.Eventually(t, func() bool {
		var names []string
		for _, b := range portal.Bindings() {
			names = append(names, b.Event)
		}
		return strings.Join(names, " ") == "ONAPPINSTALL ONCRMDEALADD ONAPPUNINSTALL ONCRMLEADADD"
	}, 30*time.Second, time.Millisecond)

	readable := 0
	require.NoError(t, filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s is open to others", path)
		readable++
		return nil
	}))
	require.Greater(t, readable, 2)

	require.NoError(t, app.Uninstall(true))
	gone := p2.printed(t, 1)[0]
	require.Equal(t, "ONAPPUNINSTALL", gone["event"])
	require.Equal(t, 403, p2.post(t, event.OnCrmDealAdd, event.CRMEntity{ID: 1},
		eventtest.WithMember(portal.MemberID()), eventtest.WithToken(app.ApplicationToken())), "the portal is forgotten")
	p2.stop(t)
	for _, secret := range []string{string(app.ClientSecret()), string(app.ApplicationToken()), "forged"} {
		for _, o := range []*output{p.stdout, p.stderr, p2.stdout, p2.stderr} {
			require.NotContains(t, o.String(), secret)
		}
	}
}

// TestBurst posts 1,000 events over 64 connections while each handler sleeps: every acknowledged event is printed once, also when
// SIGTERM comes in the middle.
func TestBurst(t *testing.T) {
	t.Parallel()
	const events, connections = 1000, 64
	p := start(t, map[string]string{"B24_APPLICATION_TOKEN": "the-token", "HANDLER_DELAY": "20ms", "WORKERS": "64"})
	bodies := make(chan int, events)
	for i := range events {
		bodies <- i + 1
	}
	close(bodies)
	var group sync.WaitGroup
	codes := make([]int, events)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}, Timeout: 30 * time.Second}
	for range connections {
		group.Go(func() {
			for id := range bodies {
				r, err := eventtest.NewRequest(context.Background(), event.OnCrmDealUpdate, event.CRMEntity{ID: int64(id)},
					eventtest.WithToken("the-token"), eventtest.WithURL(p.url+"/bitrix24/events"))
				if err != nil {
					continue
				}
				answer, err := client.Do(r)
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				codes[id-1] = answer.StatusCode
			}
		})
	}
	group.Wait()
	client.CloseIdleConnections()
	p.stop(t) // most of them still wait
	seen := make(map[string]int)
	for _, line := range p.stdout.lines(t) {
		entity, ok := line["entity"].(map[string]any)
		require.True(t, ok)
		seen[fmt.Sprint(entity["id"])]++
	}
	for i, code := range codes {
		require.Equal(t, 200, code)
		require.Equal(t, 1, seen[strconv.Itoa(i+1)])
	}
	require.Len(t, seen, events)
}

func TestSecondSignalCutsShort(t *testing.T) {
	t.Parallel()
	p := start(t, map[string]string{"B24_APPLICATION_TOKEN": "the-token", "HANDLER_DELAY": "1h"})
	require.Equal(t, 200, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 1}, eventtest.WithToken("the-token")))
	p.signals <- syscall.SIGTERM
	p.signals <- syscall.SIGTERM
	require.Equal(t, 1, <-p.exited, "something acknowledged was not processed")
	p.exited = nil
	require.Empty(t, p.stdout.String())
	require.Contains(t, p.stderr.String(), "event lost")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	token := map[string]string{"B24_APPLICATION_TOKEN": "top-secret"}
	with := func(more ...string) map[string]string {
		env := maps.Clone(token)
		for pair := range slices.Chunk(more, 2) {
			env[pair[0]] = pair[1]
		}
		return env
	}
	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		code int
	}{
		"help":                    {nil, []string{"-h"}, 0},
		"nothing to verify with":  {nil, nil, 2},
		"id without secret":       {with("B24_CLIENT_ID", "app.1"), nil, 2},
		"secret without id":       {with("B24_CLIENT_SECRET", "top-secret"), nil, 2},
		"durable queue":           {with("QUEUE", "durable"), nil, 2},
		"unknown queue":           {with("QUEUE", "other"), nil, 2},
		"delay":                   {with("HANDLER_DELAY", "soon"), nil, 2},
		"negative delay":          {with("HANDLER_DELAY", "-1s"), nil, 2},
		"workers":                 {with("WORKERS", "0"), nil, 2},
		"log format":              {token, []string{"-log-format=xml"}, 2},
		"unknown flag":            {token, []string{"-x"}, 2},
		"argument":                {token, []string{"x"}, 2},
		"address taken":           {token, []string{"-listen=" + taken.Addr().String()}, 1},
		"address that is none":    {token, []string{"-listen=nowhere"}, 1},
		"public URL without dot":  {with("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "B24_DATA", t.TempDir(), "PUBLIC_URL", "https://localhost/x"), nil, 1},
		"event that has no queue": {with("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "B24_DATA", t.TempDir(), "PUBLIC_URL", "https://a.example/x", "EVENTS", "ONIMBOTV2MESSAGEADD"), nil, 1},
		"no event":                {with("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "B24_DATA", t.TempDir(), "PUBLIC_URL", "https://a.example/x", "EVENTS", ","), nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr output
			lookup := func(name string) (string, bool) { v, ok := tc.env[name]; return v, ok }
			code := run(t.Context(), make(chan os.Signal), tc.args, lookup, &stdout, &stderr)
			require.Equal(t, tc.code, code, stderr.String())
			require.Empty(t, stdout.String())
			require.NotContains(t, stderr.String(), "top-secret")
			if tc.code != 0 {
				require.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line: %s", stderr.String())
			}
		})
	}
}

func TestAFlagWins(t *testing.T) {
	t.Parallel()
	env := map[string]string{"WORKERS": "3", "LISTEN": "127.0.0.1:1", "B24_APPLICATION_TOKEN": "a"}
	cfg, err := configure([]string{"-workers=5"}, func(name string) (string, bool) { v, ok := env[name]; return v, ok }, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 5, cfg.workers)
	require.Equal(t, "127.0.0.1:1", cfg.listen)
}
