package rest_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// TestHostileWebhooksShareConnections: a webhook's client that is made for each job, as before,
// must not keep a connection (and two goroutines) of its own for 90 seconds.
func TestHostileWebhooksShareConnections(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(fine)) }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for range 50 {
		hook, err := rest.NewWebhook(server.URL+"/rest/1/s3cr3t/", rest.WithInsecureHTTP())
		require.NoError(t, err)
		require.NoError(t, hook.Call(t.Context(), "profile", nil, nil))
	}
	require.LessOrEqual(t, connections.Load(), int64(5))
}
