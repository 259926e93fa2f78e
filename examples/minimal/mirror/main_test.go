package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
)

// rows is a table in memory.
type rows struct {
	printed printed
	mu      sync.Mutex
	rows    map[int64]Deal
}

func (r *rows) Put(ctx context.Context, deal Deal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[deal.ID] = deal
	return r.printed.Put(ctx, deal)
}

func (r *rows) Delete(ctx context.Context, id int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rows, id)
	return r.printed.Delete(ctx, id)
}

func (r *rows) titles() map[int64]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	titles := make(map[int64]string)
	for id, deal := range r.rows {
		titles[id] = deal.Title
	}
	return titles
}

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
		"B24_CLIENT_ID, B24_CLIENT_SECRET, B24_MEMBER_ID, B24_CLIENT_ENDPOINT, B24_REFRESH_TOKEN": nil,
		"B24_CLIENT_SECRET, B24_REFRESH_TOKEN":                                                    {"B24_CLIENT_ID": "local.1", "B24_MEMBER_ID": "m", "B24_CLIENT_ENDPOINT": "https://a.example/rest/"},
	} {
		e := programtest.StartExec(t, programtest.ExecConfig{Env: env})
		require.Equal(t, 2, e.Wait(t))
		require.Equal(t, "mirror: set "+says+"\n", e.Stderr.String())
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	portal, app, env := programtest.Portal(t)
	settings := env.Seeded(t, app)
	get := func(key string) string { return settings[key] }
	old, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "old"}, eventtest.AdminID)
	require.NoError(t, err)
	store, table := oauth.NewMemoryStore(), &rows{printed: printed{log}, rows: make(map[int64]Deal)}
	start := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, log, get, store, table) }()
		return func() {
			cancel()
			require.NoError(t, <-ended)
		}
	}
	shows := func(want map[int64]string) {
		t.Helper()
		require.Eventually(t, func() bool {
			got := table.titles()
			if len(got) != len(want) {
				return false
			}
			for id, title := range want {
				if got[id] != title {
					return false
				}
			}
			return true
		}, programtest.Patience, time.Millisecond)
	}

	stop := start()
	shows(map[int64]string{old: "old"})
	young, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "young", "OPPORTUNITY": "12.50"}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, portal.Update(eventtest.Deal, old, map[string]any{"TITLE": "renewed"}, eventtest.AdminID))
	shows(map[int64]string{old: "renewed", young: "young"})
	table.mu.Lock()
	require.InDelta(t, 12.5, table.rows[young].Amount, 0)
	require.False(t, table.rows[young].Changed.IsZero())
	table.mu.Unlock()
	stop()

	require.NoError(t, portal.Delete(eventtest.Deal, old, eventtest.AdminID))
	portal.ExpireAccessTokens()
	stop = start()
	shows(map[int64]string{young: "young"})
	require.Eventually(t, func() bool { return len(portal.OfflineRows()) == 0 }, programtest.Patience, time.Millisecond)
	stop()

	settings = env.With("B24_CLIENT_ID", "")
	require.ErrorIs(t, run(t.Context(), log, get, store, table), oauth.ErrConfig)
}
