package polling_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/polling"
)

func TestStores(t *testing.T) {
	t.Parallel()
	files, err := polling.NewFileStore(filepath.Join(t.TempDir(), "a", "b"))
	require.NoError(t, err)
	for name, s := range map[string]polling.Store{"file": files, "memory": polling.NewMemoryStore()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := []polling.Key{
				{ClientID: "app.1", MemberID: "m", BotID: 5},
				{ClientID: "app.1", MemberID: "m", UserID: 5},
				{ClientID: "app.1", MemberID: "m", BotID: 5, UserID: 5},
				{ClientID: "app.2", MemberID: "m", BotID: 5},
				{ClientID: "APP.2", MemberID: "m", BotID: 5},
				{MemberID: "m", BotID: 5},
				{ClientID: "../../etc", MemberID: "m/\x00", BotID: 5},
				{ClientID: strings.Repeat("long", 100), MemberID: "con", BotID: 5},
			}
			for i, key := range keys {
				got, err := s.Load(t.Context(), key)
				require.NoError(t, err)
				require.Zero(t, got)
				require.NoError(t, s.Keep(t.Context(), key, int64(i+1)))
				require.NoError(t, s.Keep(t.Context(), key, int64(i+100)))
			}
			for i, key := range keys {
				got, err := s.Load(t.Context(), key)
				require.NoError(t, err)
				require.EqualValues(t, i+100, got)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := s.Load(ctx, keys[0])
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, s.Keep(ctx, keys[0], 5), context.Canceled)
			var all sync.WaitGroup
			for n := range 20 {
				all.Go(func() {
					if err := s.Keep(context.Background(), keys[n%3], int64(n)); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		})
	}
}

func TestFileStore(t *testing.T) {
	t.Parallel()
	_, err := polling.NewFileStore("")
	require.ErrorIs(t, err, polling.ErrConfig)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = polling.NewFileStore(file)
	require.Error(t, err)

	s, err := polling.NewFileStore(dir)
	require.NoError(t, err)
	key := polling.Key{ClientID: "app", MemberID: "m", BotID: 5, UserID: 7}
	require.NoError(t, s.Keep(t.Context(), key, 42))
	path := filepath.Join(dir, key.FileName())
	require.Equal(t, "app_m_bot-5_user-7.json", key.FileName())
	good, err := os.ReadFile(path) //nolint:gosec // the test's own
	require.NoError(t, err)
	require.JSONEq(t, `{"version":1,"client_id":"app","member_id":"m","bot_id":5,"user_id":7,"offset":42}`, string(good))
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	for name, doc := range map[string]string{
		"empty": "", "cut": string(good[:20]), "no JSON": "42", "another bot's": strings.Replace(string(good), `"bot_id":5`, `"bot_id":6`, 1),
		"another version": strings.Replace(string(good), `"version":1`, `"version":2`, 1),
		"negative":        strings.Replace(string(good), "42", "-42", 1), "huge": strings.Repeat(" ", 5000) + string(good),
	} {
		require.NoError(t, os.WriteFile(path, []byte(doc), 0o600))
		_, err := s.Load(t.Context(), key)
		require.ErrorIs(t, err, polling.ErrStore, name)
		require.ErrorContains(t, err, key.FileName())
	}
	require.NoError(t, s.Keep(t.Context(), key, 43), "a damaged file is replaced")
	require.NoError(t, os.WriteFile(filepath.Join(dir, key.FileName()+".abc.new"), []byte("{"), 0o600))
	got, err := s.Load(t.Context(), key)
	require.NoError(t, err)
	require.EqualValues(t, 43, got)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "what a crash left is removed")

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	_, err = s.Load(t.Context(), key)
	require.ErrorIs(t, err, polling.ErrStore)
	require.Error(t, s.Keep(t.Context(), key, 44))
	entries, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "a write that failed leaves nothing")
	require.NoError(t, os.RemoveAll(dir))
	_, err = s.Load(t.Context(), key)
	require.Error(t, err)
	require.NotErrorIs(t, err, polling.ErrStore, "it may come back")
}
