//go:build unix

package main

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

func TestEndsOnSignals(t *testing.T) {
	t.Parallel()
	programtest.EndsOnSignals(t, 0, func(t *testing.T, c programtest.ExecConfig) *programtest.Exec {
		t.Helper()
		portal, app, env := programtest.Portal(t)
		maps.Copy(c.Env, env.Seeded(t, app).With("FORWARD_TO", "http://127.0.0.1:1/", "EVENTS", "ONCRMDEALADD"))
		e := programtest.StartExec(t, c)
		t.Cleanup(func() { require.Empty(t, portal.Bindings()) })
		e.AwaitLog(t, "listen is ready")
		return e
	})
}

// An event whose line could not be printed stays in the queue, and the next start posts it again.
func TestOutputIsBroken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	for says, stdout := range programtest.BrokenOutputs(t) {
		portal, app, env := programtest.Portal(t)
		s := newSite(t, "dev-token-of-the-tests", nil)
		env = env.Seeded(t, app).With("FORWARD_TO", serve(t, s), "EVENTS", "ONCRMDEALADD", "B24_APPLICATION_TOKEN",
			"dev-token-of-the-tests")
		e := programtest.StartExec(t, programtest.ExecConfig{Env: env.With("LOG_FORMAT", "json"), Stdout: stdout})
		e.Await(t, func() bool { return len(portal.Bindings()) == 1 })
		_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
		require.NoError(t, err)
		e.EndsWithoutOutput(t, "listen", says)
		require.Empty(t, portal.Bindings())
		require.Len(t, portal.OfflineRows(), 1)
		require.Len(t, s.deliveries(), 1)
		p := programtest.Start(t, run, env)
		require.Len(t, printed(t, p, 1), 1)
		p.Stop(t)
		require.Len(t, s.deliveries(), 2)
		require.Empty(t, portal.OfflineRows())
	}
}
