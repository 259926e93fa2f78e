package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

// Two applications of one portal share B24_DATA. Neither acts as the other, and neither gets the
// other's records.
func TestTwoApplicationsShareAFolder(t *testing.T) {
	t.Parallel()
	portal, first, env := programtest.Portal(t, eventtest.WithoutExtendedOffline())
	second, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}})
	require.NoError(t, err)
	require.NoError(t, second.Install(t.Context()))
	other := env.With("B24_CLIENT_ID", second.ClientID(), "B24_CLIENT_SECRET", string(second.ClientSecret()))
	outs := t.TempDir()
	env = env.With("EVENTS", "ONCRMDEALADD", "OUT", filepath.Join(outs, "first"))
	other = other.With("EVENTS", "ONCRMDEALUPDATE", "OUT", filepath.Join(outs, "second"))
	_, _ = once(t, env.Seeded(t, first))
	code, _, stderr := programtest.Run(t, run, other, "-once")
	require.Equal(t, 2, code, "it knows no portal, whatever the first application knows")
	require.Contains(t, stderr, "set B24_MEMBER_ID")
	_, _ = once(t, other.Seeded(t, second))

	bound := make(map[string]string) // events, by application
	for _, b := range portal.Bindings() {
		require.Empty(t, bound[b.ClientID])
		bound[b.ClientID] = b.Event
	}
	require.Equal(t, map[string]string{first.ClientID(): "ONCRMDEALADD", second.ClientID(): "ONCRMDEALUPDATE"}, bound)

	deal, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, portal.Update(eventtest.Deal, deal, map[string]any{"TITLE": "x"}, eventtest.AdminID))
	_, _ = once(t, other)
	_, _ = once(t, env)
	events := func(out string) []any {
		var names []any
		for _, l := range programtest.Lines(t, programtest.Read(t, filepath.Join(outs, out))) {
			names = append(names, l["event"])
		}
		return names
	}
	require.Equal(t, []any{"ONCRMDEALADD"}, events("first"))
	require.Equal(t, []any{"ONCRMDEALUPDATE"}, events("second"))
}
