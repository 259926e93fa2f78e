//go:build unix

package main

import (
	"maps"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

// TestEndsOnSignals: a signal ends the wait for the test event. ONAPPTEST is unbound, and what was
// found so far is printed.
func TestEndsOnSignals(t *testing.T) {
	t.Parallel()
	programtest.EndsOnSignals(t, 1, func(t *testing.T, c programtest.ExecConfig) *programtest.Exec {
		t.Helper()
		portal, app, env := programtest.Portal(t)
		tested := make(chan struct{})
		portal.Once("event.test", eventtest.Before(func(*http.Request) { close(tested) }))
		maps.Copy(c.Env, stored(t, env.Seeded(t, app)).With("EVENTS", "ONCRMDEALADD", "PUBLIC_URL", serve(t, http.StatusOK), "DOCTOR_LISTEN", "127.0.0.1:0",
			"DOCTOR_WAIT", "10m"))
		e := programtest.StartExec(t, c)
		t.Cleanup(func() {
			for _, b := range portal.Bindings() {
				require.NotEqual(t, "ONAPPTEST", b.Event)
			}
		})
		e.Await(t, func() bool {
			select {
			case <-tested:
				return true
			default:
				return false
			}
		})
		return e
	})
}

func TestOutputIsBroken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	for says, stdout := range programtest.BrokenOutputs(t) {
		_, app, env := programtest.Portal(t)
		env = stored(t, env.Seeded(t, app)).With("EVENTS", "ONCRMDEALADD", "PUBLIC_URL", serve(t, http.StatusOK), "LOG_FORMAT", "json")
		e := programtest.StartExec(t, programtest.ExecConfig{Env: env, Stdout: stdout})
		e.EndsWithoutOutput(t, "doctor", says)
	}
}
