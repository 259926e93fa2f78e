package main

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/rest"
)

func TestRun(t *testing.T) {
	t.Parallel()
	var logged programtest.Output
	log := slog.New(slog.NewTextHandler(&logged, nil))
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := taken.Addr().String()
	require.NoError(t, taken.Close())
	portal := eventtest.NewPortal(t)
	incoming, err := portal.AddIncomingWebhook(eventtest.AdminID, "crm")
	require.NoError(t, err)
	token, err := portal.AddOutgoingWebhook("http://"+addr+"/bitrix24", "ONCRMDEALUPDATE")
	require.NoError(t, err)
	client, err := rest.NewWebhook(string(incoming), rest.WithInsecureHTTP())
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
