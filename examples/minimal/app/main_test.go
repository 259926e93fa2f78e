package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
)

// TestMain lets the tests start the program itself.
func TestMain(m *testing.M) {
	programtest.Main(m, func() {
		main()
		os.Exit(0)
	})
}

// TestMissingSettings: one line names everything that is missing.
func TestMissingSettings(t *testing.T) {
	t.Parallel()
	for says, env := range map[string]programtest.Env{
		"B24_CLIENT_ID, B24_CLIENT_SECRET, PUBLIC_URL": nil,
		"B24_CLIENT_SECRET, PUBLIC_URL":                {"B24_CLIENT_ID": "local.1"},
		"B24_CLIENT_ID":                                {"B24_CLIENT_SECRET": "x", "PUBLIC_URL": "https://a.example"},
	} {
		e := programtest.StartExec(t, programtest.ExecConfig{Env: env})
		require.Equal(t, 2, e.Wait(t))
		require.Equal(t, "app: set "+says+"\n", e.Stderr.String())
	}
}

// freeAddr returns an address at which nothing listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, taken.Close())
	return taken.Addr().String()
}

func TestRun(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	portal := eventtest.NewPortal(t)
	clerk := portal.AddUser(eventtest.User{Name: "Clerk"})
	app, err := portal.AddApp(eventtest.App{
		Scope: []string{"crm"}, UI: true, HandlerURL: "http://" + addr + "/bitrix24/install",
	})
	require.NoError(t, err)
	env := map[string]string{
		"B24_CLIENT_ID": app.ClientID(), "B24_CLIENT_SECRET": string(app.ClientSecret()),
		"B24_OAUTH_HOSTS": portal.OAuthHost(), "B24_INSECURE_HTTP": "1",
		"LISTEN": addr, "PUBLIC_URL": "http://" + addr + "/bitrix24/events",
	}
	var logged programtest.Output
	log, store := slog.New(slog.NewTextHandler(&logged, nil)), oauth.NewMemoryStore()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, log, func(key string) string { return env[key] }, store) }()
	require.Eventually(t, func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		return err == nil && c.Close() == nil
	}, programtest.Patience, time.Millisecond)

	require.NoError(t, app.Install(t.Context()))
	require.NoError(t, app.FinishInstall())
	require.NoError(t, portal.Wait(t.Context()))
	bound := func() (names []string) {
		for _, b := range portal.Bindings() {
			names = append(names, b.Event)
		}
		return names
	}
	require.Eventually(t, func() bool { return len(bound()) >= 3 }, programtest.Patience, time.Millisecond)
	require.Contains(t, bound(), event.OnCrmDealAdd.Name())
	small, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "small", "OPPORTUNITY": "12.50"}, clerk)
	require.NoError(t, err)
	large, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "large", "OPPORTUNITY": 2_000_000}, clerk)
	require.NoError(t, err)
	require.NoError(t, portal.Wait(t.Context()))
	response, err := (&http.Client{Timeout: time.Minute}).Get("http://" + addr + "/stats") //nolint:noctx // it has a timeout
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	cancel()
	require.NoError(t, <-ended)

	require.Contains(t, logged.String(), "title=small amount=12.5")
	comment := func(id int64) any {
		fields, ok := portal.Object(eventtest.Deal, id)
		require.True(t, ok)
		return fields["COMMENTS"]
	}
	require.Empty(t, comment(small))
	require.Equal(t, "Please have this checked.", comment(large))

	env["PUBLIC_URL"] = "app.example.com"
	require.Error(t, run(t.Context(), log, func(key string) string { return env[key] }, store), "no scheme")
}
