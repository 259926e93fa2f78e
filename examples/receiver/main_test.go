package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

// testWorker makes the binary a worker. It is nil on systems that cannot kill processes.
var testWorker func(file string) int

func TestMain(m *testing.M) {
	if file := os.Getenv("RECEIVER_TEST_WORKER"); file != "" && testWorker != nil {
		os.Exit(testWorker(file))
	}
	programtest.Main(m, main)
}

// process is a receiver that runs inside the test.
type process struct {
	*programtest.Process
	url string
}

// start runs a receiver with the environment and waits until it is ready.
func start(t *testing.T, env programtest.Env) *process {
	t.Helper()
	p := &process{Process: programtest.Start(t, run, env.With("LISTEN", "127.0.0.1:0", "LOG_FORMAT", "json"))}
	p.ready(t)
	return p
}

// ready waits until the receiver is, and learns its address from the log.
func (p *process) ready(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		for line := range strings.Lines(p.Stderr.String()) {
			var entry struct {
				Listen string `json:"listen"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Listen != "" {
				p.url = "http://" + entry.Listen
				return true
			}
		}
		return false
	}, programtest.Patience, time.Millisecond, "it does not start: %s", p.Stderr)
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
	require.Eventually(t, func() bool { return strings.Count(p.Stdout.String(), "\n") >= n }, 2*programtest.Patience, time.Millisecond)
	return programtest.Lines(t, p.Stdout.String())
}

func TestOutgoingWebhook(t *testing.T) {
	t.Parallel()
	p := start(t, programtest.Env{"B24_APPLICATION_TOKEN": "the-token-of-the-tests"})
	token := eventtest.WithToken("the-token-of-the-tests")
	require.Equal(t, 200, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 21}, token, eventtest.WithHandlerID(509)))
	require.Equal(t, 200, p.post(t, eventtest.Name("ONSOMETHINGNEW"), map[string]any{"a": 1}, token))
	require.Equal(t, 403, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 21}, eventtest.WithToken("another-token-of-the-tests")))
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
		"b24events_accepted_total 2\n", "b24events_handled_total 2\n", "b24events_failed_total 0\n", "b24events_parked 0\n",
		"b24events_queue_depth 0\n", "b24events_rejected_total{reason=\"forbidden\"} 2\n", "b24events_ack_seconds{quantile=\"0.99\"} ", "b24events_lag_seconds_count 2\n",
	} {
		require.Contains(t, metrics, want)
	}
	status, _ = p.get(t, "/bitrix24/events")
	require.Equal(t, 204, status)
	status, _ = p.get(t, "/elsewhere")
	require.Equal(t, 404, status)
	p.Stop(t)
	require.NotContains(t, p.Stdout.String()+p.Stderr.String(), "-token-of-the-tests")
}

// No token speaks for the portal of another one, and none for that of an installed application
// unless it is bound to it.
func TestTokensOfSeveralPortals(t *testing.T) {
	t.Parallel()
	const a, b = "a223c6b3710f85df22e9377d6c4f7553", "b223c6b3710f85df22e9377d6c4f7553"
	const tokenA, tokenB, plain = "tokentokentokentokentokentokena", "tokentokentokentokentokentokenb", "tokentokentokentokentokentokenp"
	portal, app, env, front := portalWithApp(t, t.TempDir())
	installed := portal.MemberID()
	p := start(t, env.With("B24_APPLICATION_TOKEN", tokenA+"@"+a+","+tokenB+"@"+installed+","+plain))
	front.Store(p)
	require.NoError(t, app.Install(t.Context()))
	require.NoError(t, portal.Wait(t.Context()))
	for name, tc := range map[string]struct {
		token  string
		member string
		status int
	}{
		"a token at its portal":                  {tokenA, a, 200},
		"at another portal":                      {tokenA, b, 403},
		"at the portal of another token":         {tokenA, installed, 403},
		"at the portal that has the application": {tokenB, installed, 200},
		"without a portal, at an unknown one":    {plain, b, 200},
		"without a portal, at that of a token":   {plain, a, 403},
		"without a portal, at the application's": {plain, installed, 403},
		"the application's":                      {string(app.ApplicationToken()), installed, 200},
		"the application's at another portal":    {string(app.ApplicationToken()), a, 403},
		"a token that nobody has":                {tokenA + "x", a, 403},
	} {
		got := p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 1}, eventtest.WithToken(event.Secret(tc.token)),
			eventtest.WithMember(tc.member))
		require.Equal(t, tc.status, got, name)
	}
	p.Stop(t)
	require.Contains(t, p.Stderr.String(), "token@member_id in B24_APPLICATION_TOKEN", "the log says what to do")
	for _, secret := range []string{tokenA, tokenB, plain} {
		require.NotContains(t, p.Stdout.String()+p.Stderr.String(), secret)
	}

	// Without an application the token that is bound to no portal speaks for those that no other
	// one is bound to.
	p = start(t, programtest.Env{"B24_APPLICATION_TOKEN": tokenA + "@" + a + "," + plain})
	for _, tc := range []struct {
		token, member string
		status        int
	}{{tokenA, a, 200}, {tokenA, b, 403}, {plain, b, 200}, {plain, a, 403}} {
		got := p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 1}, eventtest.WithToken(event.Secret(tc.token)),
			eventtest.WithMember(tc.member))
		require.Equal(t, tc.status, got, "%+v", tc)
	}
	p.Stop(t)
}

// portalWithApp returns a portal, an application of it, and the environment of a receiver for that
// application. The address that the portal posts to has to be known before a receiver starts: it is
// that of a proxy for the one that behind names.
func portalWithApp(t *testing.T, data string) (portal *eventtest.Portal, app *eventtest.Application, env programtest.Env, behind *atomic.Pointer[process]) {
	t.Helper()
	behind = new(atomic.Pointer[process])
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		if p := behind.Load(); p != nil {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", strings.TrimPrefix(p.url, "http://")
		}
	}})
	t.Cleanup(front.Close)
	url := front.URL + "/bitrix24/events"
	portal = eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: url})
	require.NoError(t, err)
	return portal, app, programtest.Env{
		"B24_CLIENT_ID": app.ClientID(), "B24_CLIENT_SECRET": string(app.ClientSecret()), "B24_OAUTH_HOSTS": portal.OAuthHost(),
		"B24_INSECURE_HTTP": "1", "B24_DATA": data, "PUBLIC_URL": url, "EVENTS": "ONCRMDEALADD,onCrmDealUpdate,ONAPPUNINSTALL",
	}, behind
}

// TestApplicationWithPages: the page installs the application, and the portals that removed it
// while the receiver was down are noticed at the start.
func TestApplicationWithPages(t *testing.T) {
	t.Parallel()
	portal, _, env, front := portalWithApp(t, filepath.Join(t.TempDir(), "state"))
	app, err := portal.AddApp(eventtest.App{
		Scope: []string{"crm"}, UI: true, HandlerURL: strings.Replace(env["PUBLIC_URL"], "/events", "/install", 1),
	})
	require.NoError(t, err)
	env["B24_CLIENT_ID"], env["B24_CLIENT_SECRET"] = app.ClientID(), string(app.ClientSecret())
	env["B24_JS_URL"] = portal.URL() + "/api/v1/" // as devportal serves the script
	p := start(t, env)
	front.Store(p)
	require.NoError(t, app.Install(t.Context()))
	require.Len(t, portal.Bindings(), 3, "those of EVENTS")
	opened, err := app.Frame(t.Context(), eventtest.AdminID, eventtest.Placement{})
	require.NoError(t, err)
	page, err := (&http.Client{Timeout: programtest.Patience}).Do(opened)
	require.NoError(t, err)
	text, err := io.ReadAll(page.Body)
	require.NoError(t, err)
	require.NoError(t, page.Body.Close())
	require.Equal(t, http.StatusOK, page.StatusCode)
	require.Contains(t, string(text), `<script src="`+env["B24_JS_URL"]+`">`)
	require.Contains(t, page.Header.Get("Content-Security-Policy"), "script-src "+portal.URL()+" ")
	require.NoError(t, app.FinishInstall())
	_, err = portal.Add(eventtest.Deal, map[string]any{"TITLE": "x"}, eventtest.AdminID)
	require.NoError(t, err)
	require.Equal(t, "ONCRMDEALADD", p.printed(t, 1)[0]["event"])
	p.Stop(t)

	require.NoError(t, portal.ChangeQuirks(func(q *eventtest.Quirks) { q.NoUninstallEvent = true }))
	require.NoError(t, app.Uninstall(false))
	again := start(t, env)
	require.Eventually(t, func() bool { return strings.Contains(again.Stderr.String(), `"portals":1`) }, programtest.Patience, time.Millisecond)
	require.Contains(t, again.Stderr.String(), `"removed":1`)
}

func TestApplication(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "state")
	portal, app, env, front := portalWithApp(t, data)
	p := start(t, env)
	front.Store(p)

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
		"wrong token":    {eventtest.WithMember(portal.MemberID()), eventtest.WithToken("0123456789abcdef0123456789abcdef")},
		"foreign portal": {eventtest.WithMember("ffffffffffffffffffffffffffffffff"), eventtest.WithToken(app.ApplicationToken())},
		"no portal":      {eventtest.WithMember(""), eventtest.WithToken(app.ApplicationToken())},
		"hostile install": {
			eventtest.WithMember(portal.MemberID()), eventtest.WithUser(1, "forged"), eventtest.WithRefreshToken("forged"),
			eventtest.WithToken("x"), eventtest.WithEndpoints("https://evil.example/rest/", "https://evil.example/rest/"),
		},
		"false install": {
			eventtest.WithMember(portal.MemberID()), eventtest.WithUser(1, "forged"), eventtest.WithRefreshToken("forged"),
			eventtest.WithToken("x"), eventtest.WithEndpoints(portal.ClientEndpoint(), portal.ServerEndpoint()),
		},
	} {
		e := eventtest.Event(event.OnCrmDealAdd)
		if strings.Contains(name, "install") {
			e = event.OnAppInstall
		}
		require.Equal(t, 403, p.post(t, e, map[string]any{"FIELDS": map[string]any{"ID": 1}}, opts...), name)
	}

	p.Stop(t)
	require.Len(t, programtest.Lines(t, p.Stdout.String()), 2, "no forgery was printed")

	// The next start finds the installation and binds what EVENTS names by now.
	env["EVENTS"] = "ONCRMDEALADD,ONCRMLEADADD,ONAPPUNINSTALL"
	p2 := start(t, env)
	front.Store(p2)
	require.Eventually(t, func() bool {
		var names []string
		for _, b := range portal.Bindings() {
			names = append(names, b.Event)
		}
		return strings.Join(names, " ") == "ONAPPINSTALL ONCRMDEALADD ONAPPUNINSTALL ONCRMLEADADD"
	}, programtest.Patience, time.Millisecond)

	readable := 0
	require.NoError(t, filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		if runtime.GOOS != "windows" { // which has no modes
			require.Zero(t, info.Mode().Perm()&0o077, "%s is open to others", path)
		}
		readable++
		return nil
	}))
	require.Greater(t, readable, 2)

	require.NoError(t, app.Uninstall(true))
	gone := p2.printed(t, 1)[0]
	require.Equal(t, "ONAPPUNINSTALL", gone["event"])
	require.Equal(t, 403, p2.post(t, event.OnCrmDealAdd, event.CRMEntity{ID: 1},
		eventtest.WithMember(portal.MemberID()), eventtest.WithToken(app.ApplicationToken())), "the portal is forgotten")
	p2.Stop(t)
	for _, secret := range []string{string(app.ClientSecret()), string(app.ApplicationToken()), "forged"} {
		for _, o := range []*programtest.Output{p.Stdout, p.Stderr, p2.Stdout, p2.Stderr} {
			require.NotContains(t, o.String(), secret)
		}
	}
}

// TestBurst posts 1,000 events over 64 connections while each handler sleeps: every acknowledged
// event is printed once, also when SIGTERM comes in the middle.
func TestBurst(t *testing.T) {
	t.Parallel()
	const events, connections = 1000, 64
	p := start(t, programtest.Env{"B24_APPLICATION_TOKEN": "the-token-of-the-tests", "HANDLER_DELAY": "20ms", "WORKERS": "64"})
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
					eventtest.WithToken("the-token-of-the-tests"), eventtest.WithURL(p.url+"/bitrix24/events"))
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
	p.Stop(t) // most of them still wait
	seen := make(map[string]int)
	for _, line := range programtest.Lines(t, p.Stdout.String()) {
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
	p := start(t, programtest.Env{"B24_APPLICATION_TOKEN": "the-token-of-the-tests", "HANDLER_DELAY": "1h"})
	require.Equal(t, 200, p.post(t, event.OnCrmDealUpdate, event.CRMEntity{ID: 1}, eventtest.WithToken("the-token-of-the-tests")))
	p.Signals <- syscall.SIGTERM
	p.Signals <- syscall.SIGTERM
	require.Equal(t, 1, p.Wait(t), "something acknowledged was not processed")
	require.Empty(t, p.Stdout.String())
	require.Contains(t, p.Stderr.String(), "event lost")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	token := programtest.Env{"B24_APPLICATION_TOKEN": "top-secret-token", "B24_DATA": t.TempDir()}
	open := t.TempDir()
	require.NoError(t, os.Chmod(open, 0o777)) //nolint:gosec // that is the mistake
	for name, tc := range map[string]struct {
		env  programtest.Env
		args []string
		code int
	}{
		"help":                      {nil, []string{"-h"}, 0},
		"nothing to verify with":    {nil, nil, 2},
		"id without secret":         {token.With("B24_CLIENT_ID", "app.1"), nil, 2},
		"secret without id":         {token.With("B24_CLIENT_SECRET", "top-secret"), nil, 2},
		"two tokens for any portal": {token.With("B24_APPLICATION_TOKEN", "top-secret-token-1,top-secret-token-2"), nil, 2},
		"a token that is guessed":   {token.With("B24_APPLICATION_TOKEN", "top-secret"), nil, 2},
		"others write to the data":  {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "B24_DATA", open), nil, 2},
		"a queue elsewhere":         {token.With("QUEUE_URL", "http://top-secret@a.example/"), nil, 2},
		"a queue that is no URL":    {token.With("QUEUE_URL", "postgres://top-secret@a b:%zz"), nil, 2},
		"memory elsewhere":          {token.With("QUEUE", "memory", "QUEUE_URL", "nats://127.0.0.1:1"), nil, 2},
		"no server for the queue":   {token.With("QUEUE_URL", "nats://user:top-secret@127.0.0.1:1"), nil, 1},
		"no database for the queue": {token.With("QUEUE_URL", "postgres://user:top-secret@127.0.0.1:1/x"), nil, 1},
		"keeping in memory":         {token.With("KEEP", "1h"), nil, 2},
		"a key that is short":       {token.With("B24_KEY", "top-secret"), nil, 2},
		"installations elsewhere": {
			token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "STORE_URL", "redis://a"), nil,
			2,
		},
		"no database for them": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "x", "STORE_URL",
			"mysql://user:top-secret@127.0.0.1:1/x"), nil, 1},
		"parked in memory":          {token, []string{"parked"}, 2},
		"parked, an unknown action": {token.With("QUEUE", "durable"), []string{"parked", "forget", "1"}, 2},
		"parked, no ID":             {token.With("QUEUE", "durable"), []string{"parked", "replay"}, 2},
		"parked, a list of IDs":     {token.With("QUEUE", "durable"), []string{"parked", "list", "1"}, 2},
		"parked, no such ID":        {token.With("QUEUE", "durable"), []string{"parked", "discard", "1"}, 1},
		"unknown queue":             {token.With("QUEUE", "other"), nil, 2},
		"delay":                     {token.With("HANDLER_DELAY", "soon"), nil, 2},
		"negative delay":            {token.With("HANDLER_DELAY", "-1s"), nil, 2},
		"workers":                   {token.With("WORKERS", "0"), nil, 2},
		"log format":                {token, []string{"-log-format=xml"}, 2},
		"unknown flag":              {token, []string{"-x"}, 2},
		"argument":                  {token, []string{"x"}, 2},
		"address taken":             {token, []string{"-listen=" + taken.Addr().String()}, 1},
		"address that is none":      {token, []string{"-listen=nowhere"}, 1},
		"public URL without dot": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "PUBLIC_URL",
			"https://localhost/x"), nil, 1},
		"event that has no queue": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "PUBLIC_URL",
			"https://a.example/x", "EVENTS", "ONIMBOTV2MESSAGEADD"), nil, 1},
		"script in clear": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "B24_JS_URL",
			"http://a.example/top-secret"), nil, 2},
		"relative script": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "x", "B24_JS_URL", "/top-secret"), nil, 2},
		"no event": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "PUBLIC_URL",
			"https://a.example/x", "EVENTS", ","), nil, 2},
		"public URL in clear": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "PUBLIC_URL",
			"http://a.example/x"), nil, 1},
		"public URL's fragment": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "PUBLIC_URL",
			"https://a.example/#x"), nil, 1},
		"the platform's binding": {token.With("B24_CLIENT_ID", "a", "B24_CLIENT_SECRET", "top-secret", "PUBLIC_URL",
			"https://a.example/x", "EVENTS", "ONAPPUSERREADY"), nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && tc.env["B24_DATA"] == open {
				t.Skip("no mode of Windows lets others write")
			}
			code, stdout, stderr := programtest.Run(t, run, tc.env, tc.args...)
			require.Equal(t, tc.code, code, stderr)
			require.Empty(t, stdout)
			require.NotContains(t, stderr, "top-secret")
			if tc.code != 0 {
				require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
			}
		})
	}
}

func TestAFlagWins(t *testing.T) {
	t.Parallel()
	env := programtest.Env{"WORKERS": "3", "LISTEN": "127.0.0.1:1", "B24_APPLICATION_TOKEN": "the-token-of-the-tests"}
	cfg, err := configure(env.Program("-workers=5"))
	require.NoError(t, err)
	require.Equal(t, 5, cfg.workers)
	require.Equal(t, "127.0.0.1:1", cfg.listen)
}
