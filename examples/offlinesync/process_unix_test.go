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
		_, app, env := programtest.Portal(t)
		maps.Copy(c.Env, env.Seeded(t, app))
		e := programtest.StartExec(t, c)
		e.AwaitLog(t, "offlinesync is ready")
		return e
	})
}

// What could not be written is not acknowledged: the next start writes it.
func TestOutputIsBroken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	for says, stdout := range programtest.BrokenOutputs(t) {
		portal, app, env := programtest.Portal(t)
		_, _ = once(t, env.Seeded(t, app)) // binds
		for range 3 {
			_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
			require.NoError(t, err)
		}
		e := programtest.StartExec(t, programtest.ExecConfig{Env: env.With("LOG_FORMAT", "json"), Stdout: stdout})
		e.EndsWithoutOutput(t, "offlinesync", says)
		require.Len(t, portal.OfflineRows(), 3)
		lines, _ := once(t, env)
		require.Len(t, lines, 3)
		require.Empty(t, portal.OfflineRows())
	}
}
