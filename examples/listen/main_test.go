package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/webhook"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// site is the web application under development: it verifies deliveries as any application does.
type site struct {
	hook   *webhook.Handler
	answer func(n int) int // to the nth request; 0 lets the application answer

	mu   sync.Mutex
	n    int
	sent []event.Auth // what requests claimed, before verification
	seen []*event.Delivery
}

func newSite(t *testing.T, token string, answer func(n int) int) *site {
	t.Helper()
	s := &site{answer: answer}
	var err error
	s.hook, err = webhook.NewHandler(webhook.Tokens(token), event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, d)
		return nil
	}), webhook.WithSync())
	require.NoError(t, err)
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	claim, _ := event.ParseRequest(r)
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	s.n++
	if claim != nil {
		s.sent = append(s.sent, claim.Auth)
	}
	status := 0
	if s.answer != nil {
		status = s.answer(s.n)
	}
	s.mu.Unlock()
	if status == 0 {
		s.hook.ServeHTTP(w, r)
		return
	}
	w.WriteHeader(status)
}

func (s *site) deliveries() []*event.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func (s *site) claims() []event.Auth {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// serve starts a server, and returns the address of the handler.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL + "/bitrix24/events"
}

// bound waits until the portal has n offline bindings.
func bound(t *testing.T, portal *eventtest.Portal, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(portal.Bindings()) == n }, programtest.Patience, time.Millisecond)
}

// printed waits until the program has printed n lines.
func printed(t *testing.T, p *programtest.Process, n int) []map[string]any {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Count(p.Stdout.String(), "\n") >= n }, programtest.Patience, time.Millisecond, "%s",
		p.Stderr)
	return programtest.Lines(t, p.Stdout.String())
}

func TestForwards(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	s := newSite(t, "dev-token-of-the-tests", nil)
	env = env.Seeded(t, app).With("B24_APPLICATION_TOKEN",
		"dev-token-of-the-tests,token-of-another-portal@b223c6b3710f85df22e9377d6c4f7553")
	p := programtest.Start(t, run, env, "-forward-to="+serve(t, s), "-events=ONCRMDEALADD,onCrmDealDelete,ONTASKADD,ONTASKADD")
	bound(t, portal, 3)
	require.Equal(t, "listen", portal.Bindings()[0].Connector)

	deal, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	first := printed(t, p, 1)[0]
	require.Equal(t, "ONCRMDEALADD", first["event"])
	require.Equal(t, map[string]any{"kind": "crm.deal", "id": strconv.FormatInt(deal, 10)}, first["entity"])
	require.InDelta(t, 200, first["status"], 0)
	require.InDelta(t, 1, first["attempts"], 0)
	require.Nil(t, first["error"])
	require.NoError(t, portal.Delete(eventtest.Deal, deal, eventtest.AdminID))
	_, err = portal.Add(eventtest.Task, map[string]any{"TITLE": "a task"}, eventtest.AdminID)
	require.NoError(t, err)
	printed(t, p, 3)

	// PROTOCOL 4.2 to 4.4: the handler sees what the portal would have sent, less the tokens.
	got := s.deliveries()
	require.Len(t, got, 3)
	d := got[0]
	require.Equal(t, "ONCRMDEALADD", d.Name)
	require.Equal(t, strconv.FormatInt(deal, 10), d.Data.Get("FIELDS", "ID").Text())
	require.WithinDuration(t, time.Now(), d.Time, time.Minute)
	require.Equal(t, portal.MemberID(), d.MemberID())
	sent := s.claims()[0]
	require.Equal(t, portal.MemberID(), sent.MemberID)
	require.Equal(t, portal.Domain(), sent.Domain)
	require.Equal(t, portal.ClientEndpoint(), sent.ClientEndpoint)
	require.Equal(t, portal.ServerEndpoint(), sent.ServerEndpoint)
	require.Equal(t, eventtest.AdminID, d.Auth.UserID)
	require.Empty(t, d.Auth.AccessToken)
	require.Empty(t, d.Auth.RefreshToken)

	p.Stop(t)
	require.Empty(t, portal.Bindings())
	require.Empty(t, portal.OfflineRows())
	for _, limit := range limits {
		require.Contains(t, p.Stderr.String(), limit)
	}
	for _, secret := range []string{"dev-token-of-the-tests", env["B24_CLIENT_SECRET"], env["B24_ACCESS_TOKEN"], env["B24_REFRESH_TOKEN"]} {
		require.NotContains(t, p.Stderr.String(), secret)
		require.NotContains(t, p.Stdout.String(), secret)
	}
}

func TestTokenOfItsOwn(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = env.Seeded(t, app)
	target := serve(t, http.NotFoundHandler())
	p := programtest.Start(t, run, env, "-forward-to="+target, "-events=ONCRMDEALADD")
	bound(t, portal, 1)
	p.Stop(t)
	file := filepath.Join(env["B24_DATA"], "app-"+app.ClientID(), "listen-application-token")
	require.Contains(t, p.Stderr.String(), file)
	text := programtest.Read(t, file)
	token := strings.TrimSpace(text)
	require.Len(t, token, 32)
	require.NotContains(t, p.Stderr.String(), token)
	info, err := os.Stat(file)
	require.NoError(t, err)
	if runtime.GOOS != "windows" { // which has no modes
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	}

	s := newSite(t, token, nil) // as the next start has it
	p = programtest.Start(t, run, env, "-forward-to="+serve(t, s), "-events=ONCRMDEALADD")
	bound(t, portal, 1)
	_, err = portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	require.InDelta(t, 200, printed(t, p, 1)[0]["status"], 0)
	p.Stop(t)
}

func TestWaitsForTheHandler(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	env = env.Seeded(t, app).With("B24_APPLICATION_TOKEN", "dev-token-of-the-tests", "FORWARD_TO", "http://"+addr+"/", "EVENTS",
		"ONCRMDEALADD")
	p := programtest.Start(t, run, env)
	bound(t, portal, 1)
	_, err = portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(p.Stderr.String(), "is your handler running?") }, programtest.Patience,
		time.Millisecond)

	// It stops although the handler is down, and what was not forwarded waits for the next start.
	p.Stop(t)
	require.Empty(t, p.Stdout.String())
	require.Empty(t, portal.Bindings())
	require.Len(t, portal.OfflineRows(), 1)
	p = programtest.Start(t, run, env)
	require.Eventually(t, func() bool { return strings.Contains(p.Stderr.String(), "is your handler running?") }, programtest.Patience,
		time.Millisecond)

	s := newSite(t, "dev-token-of-the-tests", nil)
	l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	require.NoError(t, err)
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}}
	srv.Start()
	t.Cleanup(srv.Close)
	require.InDelta(t, 200, printed(t, p, 1)[0]["status"], 0)
	p.Stop(t)
	require.Len(t, s.deliveries(), 1)
	require.Empty(t, portal.OfflineRows())
}

func TestAnswersOfTheHandler(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer           func(n int) int
		status, attempts float64
		hint             bool
	}{
		"once out of order":   {func(n int) int { return map[int]int{1: 503}[n] }, 200, 2, false},
		"out of order":        {func(int) int { return 500 }, 500, 2, false},
		"no such page":        {func(int) int { return 404 }, 404, 1, false},
		"redirect":            {func(int) int { return 302 }, 302, 1, false},
		"token not accepted":  {func(int) int { return 403 }, 403, 1, true},
		"too many for a time": {func(int) int { return 429 }, 429, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			portal, app, env := programtest.Portal(t)
			env = env.Seeded(t, app).With("B24_APPLICATION_TOKEN", "dev-token-of-the-tests", "EVENTS", "ONCRMDEALADD", "RETRIES", "1")
			p := programtest.Start(t, run, env, "-forward-to="+serve(t, newSite(t, "dev-token-of-the-tests", tc.answer)))
			bound(t, portal, 1)
			_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
			require.NoError(t, err)
			l := printed(t, p, 1)[0]
			require.InDelta(t, tc.status, l["status"], 0)
			require.InDelta(t, tc.attempts, l["attempts"], 0)
			require.Equal(t, tc.hint, strings.Contains(p.Stderr.String(), "give it the application token"))
			p.Stop(t)
			require.Empty(t, portal.OfflineRows(), "what the handler refuses is done with, as it is for the portal")
		})
	}
}

// bind binds an event offline as another program of the application would.
func bind(t *testing.T, env programtest.Env, b event.Binding) {
	t.Helper()
	v, err := oneportal.Parse("test", "", nil, env.With("B24_DATA", t.TempDir()).Program())
	require.NoError(t, err)
	portal, err := oneportal.Open(t.Context(), v, programtest.Silent(), nil)
	require.NoError(t, err)
	require.NoError(t, event.NewAPI(portal.Client()).Bind(t.Context(), b))
	require.NoError(t, portal.Close(t.Context()))
}

func TestLeavesTheBindingsOfOthers(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = env.Seeded(t, app).With("EVENTS", "ONCRMDEALADD,ONCRMDEALUPDATE", "FORWARD_TO", serve(t, http.NotFoundHandler()))
	bind(t, env, event.Binding{Event: "ONCRMDEALADD", Offline: true, Connector: "listen"})
	bind(t, env, event.Binding{Event: "ONCRMDEALADD", Offline: true})
	p := programtest.Start(t, run, env)
	bound(t, portal, 3)
	p.Stop(t)
	require.Contains(t, p.Stderr.String(), "another program has bound these events to the queue")
	left := portal.Bindings()
	require.Len(t, left, 2)
	require.Equal(t, "ONCRMDEALADD", left[0].Event)
	require.Equal(t, "ONCRMDEALADD", left[1].Event)
}

// Without connectors there is one queue only, and taking records from a worker would be worse than
// not to start.
func TestPlanWithoutConnectors(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t, eventtest.WithoutConnectors())
	s := newSite(t, "dev-token-of-the-tests", nil)
	env = env.Seeded(t, app).With("EVENTS", "ONCRMDEALADD", "FORWARD_TO", serve(t, s), "B24_APPLICATION_TOKEN", "dev-token-of-the-tests")
	p := programtest.Start(t, run, env)
	bound(t, portal, 1)
	_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	printed(t, p, 1)
	p.Stop(t)
	require.Empty(t, portal.Bindings())

	code, _, stderr := programtest.Run(t, run, env.With("CONNECTOR", "mine"))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "CONNECTOR")

	bind(t, env, event.Binding{Event: "ONCRMLEADADD", Offline: true})
	code, _, stderr = programtest.Run(t, run, env)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "ONCRMLEADADD bound to the application's own queue already")
	require.Len(t, portal.Bindings(), 1)

	p = programtest.Start(t, run, env, "-share-queue")
	bound(t, portal, 2)
	p.Stop(t)
	require.Len(t, portal.Bindings(), 1)
}

// Without the extended mode records are deleted on reading: they are kept here until the handler
// has them.
func TestPlanWithoutExtendedMode(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t, eventtest.WithoutExtendedOffline())
	ready := make(chan struct{})
	s := newSite(t, "dev-token-of-the-tests", func(int) int {
		select {
		case <-ready:
			return 0
		default:
			return 503
		}
	})
	target := serve(t, s)
	env = env.Seeded(t, app).With("EVENTS", "ONCRMDEALADD", "B24_APPLICATION_TOKEN", "dev-token-of-the-tests", "RETRIES", "1000",
		"FORWARD_TO", strings.Replace(target, "http://", "http://user:password@", 1)+"?key=password")
	p := programtest.Start(t, run, env)
	bound(t, portal, 1)
	_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.n > 0
	}, programtest.Patience, time.Millisecond)
	require.Empty(t, portal.OfflineRows())
	p.Stop(t)
	require.Contains(t, p.Stderr.String(), "rest_offline_extended")
	require.NotContains(t, p.Stderr.String(), "password")

	close(ready)
	p = programtest.Start(t, run, env)
	printed(t, p, 1)
	p.Stop(t)
	require.Len(t, s.deliveries(), 1)
}

func TestUnbindsAfterAnError(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = env.Seeded(t, app).With("EVENTS", "ONCRMDEALADD", "FORWARD_TO", serve(t, http.NotFoundHandler()))
	portal.Once("event.offline.get", eventtest.Fail(403, "ACCESS_DENIED", "Access denied!"))
	code, stdout, stderr := programtest.Run(t, run, env)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "administrator")
	require.Empty(t, stdout)
	require.Equal(t, 1, portal.CallCount("event.bind"))
	require.Empty(t, portal.Bindings())
}

// What a killed process has bound, the next one unbinds, wanted or not; and what it had not
// forwarded, the next one does.
func TestFinishesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = env.Seeded(t, app).With("FORWARD_TO", "http://127.0.0.1:1/", "B24_APPLICATION_TOKEN", "dev-token-of-the-tests")
	victim := exec.CommandContext(t.Context(), os.Args[0], "-events=ONCRMDEALADD,ONCRMDEALUPDATE,ONCRMLEADADD") //nolint:gosec // this binary
	victim.Env = env.With(programtest.AsProgram, "1").Strings()
	require.NoError(t, victim.Start())
	bound(t, portal, 3)
	_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return portal.OfflineRows()[0].ProcessID != "" }, programtest.Patience, time.Millisecond)
	require.NoError(t, victim.Process.Kill())
	require.Error(t, victim.Wait())
	require.Len(t, portal.Bindings(), 3)
	require.Len(t, portal.OfflineRows(), 1, "the handler is not there yet")

	s := newSite(t, "dev-token-of-the-tests", nil)
	env = env.With("FORWARD_TO", serve(t, s))
	p := programtest.Start(t, run, env, "-events=ONCRMDEALADD,ONTASKADD")
	printed(t, p, 1)
	require.Len(t, s.deliveries(), 1)
	require.Eventually(t, func() bool {
		var names []string
		for _, b := range portal.Bindings() {
			names = append(names, b.Event)
		}
		return slices.Equal(names, []string{"ONCRMDEALADD", "ONTASKADD"})
	}, programtest.Patience, time.Millisecond)
	p.Stop(t)
	require.Empty(t, portal.Bindings())
	require.NotContains(t, p.Stderr.String(), "another program")
}

// The reader of the output may go away, as head does.
func TestUnbindsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = env.Seeded(t, app).With("FORWARD_TO", serve(t, http.NotFoundHandler()), "EVENTS", "ONCRMDEALADD")
	read, write, err := os.Pipe()
	require.NoError(t, err)
	p := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this binary
	p.Env, p.Stdout = env.With(programtest.AsProgram, "1").Strings(), write
	require.NoError(t, p.Start())
	require.NoError(t, write.Close())
	require.NoError(t, read.Close())
	bound(t, portal, 1)
	_, err = portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	require.Error(t, p.Wait())
	require.Equal(t, 1, p.ProcessState.ExitCode())
	require.Empty(t, portal.Bindings())
}

func TestUsage(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	env = env.Seeded(t, app).With("FORWARD_TO", "http://127.0.0.1:1/", "EVENTS", "ONCRMDEALADD")
	for name, tc := range map[string]struct {
		env  programtest.Env
		args []string
		code int
	}{
		"help":               {nil, []string{"-h"}, 0},
		"no target":          {env.With("FORWARD_TO", ""), nil, 2},
		"target without URL": {env.With("FORWARD_TO", "127.0.0.1:8080"), nil, 2},
		"fragment":           {env.With("FORWARD_TO", "http://127.0.0.1:1/#x"), nil, 2},
		"control byte":       {env.With("FORWARD_TO", "http://127.0.0.1:1/\x7f"), nil, 2},
		"port 0":             {env.With("FORWARD_TO", "http://127.0.0.1:0/"), nil, 2},
		"plain http":         {env.With("FORWARD_TO", "http://example.com/"), nil, 2},
		"no events":          {env.With("EVENTS", ""), nil, 2},
		"event of no queue":  {env.With("EVENTS", "ONOFFLINEEVENT"), nil, 2},
		"retries":            {env, []string{"-retries=-1"}, 2},
		"poll":               {env, []string{"-poll=0"}, 2},
		"short poll":         {env, []string{"-poll=99ms"}, 2},
		"log format":         {env, []string{"-log-format=xml"}, 2},
		"no credentials":     {env.With("B24_CLIENT_ID", ""), nil, 2},
		"unknown flag":       {env, []string{"-client-secrt=" + env["B24_CLIENT_SECRET"]}, 2},
		"argument":           {env, []string{"http://127.0.0.1/"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := programtest.Run(t, run, tc.env.With("B24_DATA", t.TempDir()), tc.args...)
			require.Equal(t, tc.code, code, stderr)
			require.Empty(t, stdout)
			require.NotContains(t, stderr, env["B24_CLIENT_SECRET"])
			if tc.code != 0 {
				require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
			}
		})
	}
}
