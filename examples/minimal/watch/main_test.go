package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
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
		"B24_INCOMING_WEBHOOK, B24_APPLICATION_TOKEN": nil,
		"B24_APPLICATION_TOKEN":                       {"B24_INCOMING_WEBHOOK": "https://a.example/rest/1/x/"},
		"B24_INCOMING_WEBHOOK":                        {"B24_APPLICATION_TOKEN": "x"},
	} {
		e := programtest.StartExec(t, programtest.ExecConfig{Env: env})
		require.Equal(t, 2, e.Wait(t))
		require.Equal(t, "watch: set "+says+"\n", e.Stderr.String())
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
	var logged programtest.Output
	log := slog.New(slog.NewTextHandler(&logged, nil))
	addr := freeAddr(t)
	portal := eventtest.NewPortal(t)
	incoming, err := portal.AddIncomingWebhook(eventtest.AdminID, "crm")
	require.NoError(t, err)
	token, err := portal.AddOutgoingWebhook("http://"+addr+"/bitrix24/events", "ONCRMDEALUPDATE")
	require.NoError(t, err)
	client, err := newPortal(func(key string) string {
		return map[string]string{"B24_INCOMING_WEBHOOK": string(incoming), "B24_INSECURE_HTTP": "1"}[key]
	})
	require.NoError(t, err)
	id, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "Rocket", "OPPORTUNITY": 12.5}, eventtest.AdminID)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, log, client, string(token), addr) }()
	require.Eventually(t, func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		return err == nil && c.Close() == nil
	}, time.Minute, time.Millisecond)
	require.NoError(t, portal.Update(eventtest.Deal, id, map[string]any{"TITLE": "Bigger rocket"}, eventtest.AdminID))
	require.NoError(t, portal.Wait(t.Context()))
	cancel()
	require.NoError(t, <-ended)
	require.Equal(t, 1, portal.CallCount("crm.deal.get"))
	require.Contains(t, logged.String(), `title="Bigger rocket" amount=12.5 closed=false`, "it was handled before the end")

	require.Error(t, run(t.Context(), log, client, "", addr), "no token")
}

func TestInsecureHTTP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		address, insecure string
		ok                bool
	}{
		"https":                 {"https://a.example/rest/1/s3cr3t/", "", true},
		"https, in development": {"https://a.example/rest/1/s3cr3t/", "1", true},
		"devportal":             {"http://127.0.0.1:8024/rest/1/s3cr3t/", "1", true},
		"true":                  {"http://127.0.0.1:8024/rest/1/s3cr3t/", "true", true},
		"devportal, forgotten":  {"http://127.0.0.1:8024/rest/1/s3cr3t/", "", false},
		"devportal, off":        {"http://127.0.0.1:8024/rest/1/s3cr3t/", "0", false},
		"over the internet":     {"http://a.example/rest/1/s3cr3t/", "1", false},
		"neither on nor off":    {"https://a.example/rest/1/s3cr3t/", "s3cr3t", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newPortal(func(key string) string {
				return map[string]string{"B24_INCOMING_WEBHOOK": c.address, "B24_INSECURE_HTTP": c.insecure}[key]
			})
			if c.ok {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			require.NotContains(t, err.Error(), "s3cr3t")
		})
	}
}

// TestDevportal does what the README says about an outgoing webhook on a laptop.
func TestDevportal(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds a program, which takes seconds")
	}
	portal, addr := programtest.StartDevportal(t), freeAddr(t)
	var incoming struct{ URL string }
	portal.Post(t, "/api/webhooks/incoming", map[string]any{"user": 1, "scope": "crm"}, &incoming)
	var outgoing struct{ Token string }
	portal.Post(t, "/api/webhooks", map[string]any{"url": "http://" + addr + "/bitrix24/events", "events": "ONCRMDEALUPDATE"}, &outgoing)
	e := programtest.StartExec(t, programtest.ExecConfig{Env: programtest.Env{
		"B24_INCOMING_WEBHOOK": incoming.URL, "B24_APPLICATION_TOKEN": outgoing.Token, "B24_INSECURE_HTTP": "1", "LISTEN": addr,
	}})
	e.Await(t, func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		return err == nil && c.Close() == nil
	})
	portal.Post(t, "/api/objects", map[string]any{"kind": "deal", "action": "add"}, nil)
	portal.Post(t, "/api/objects", map[string]any{"kind": "deal", "action": "update", "fields": map[string]any{"TITLE": "Rocket"}}, nil)
	e.AwaitLog(t, `"title":"Rocket"`)
	require.NotContains(t, e.Stderr.String(), outgoing.Token)
}
