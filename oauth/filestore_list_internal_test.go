package oauth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
)

// manyPortals is the number of portals of a large application.
const manyPortals = 10000

// largeStore returns a store of very many portals, whose files are empty, and the keys in it.
func largeStore(t *testing.T) (*FileStore, []Key) {
	t.Helper()
	dir := t.TempDir()
	s, err := NewFileStore(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	keys := make([]Key, manyPortals)
	made := make(map[string]bool)
	for n := range keys {
		sum := sha256.Sum256(fmt.Append(nil, n))
		keys[n] = Key{ClientID: fuzzClient, MemberID: hex.EncodeToString(sum[:16])}
		p, ok := placeOf(keys[n])
		require.True(t, ok)
		if folder := filepath.Join(dir, p.folder()); !made[folder] {
			require.NoError(t, os.MkdirAll(folder, 0o700))
			made[folder] = true
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, p.path()), nil, 0o600))
	}
	return s, keys
}

// TestFileStoreDoesNotScan counts the directory entries that are read to list a page and to forget
// a portal.
func TestFileStoreDoesNotScan(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it stores many thousands of portals")
	s, keys := largeStore(t)
	read := 0
	s.listed = func(entries int) { read += entries }
	cost := func(work func()) int {
		read = 0
		work()
		return read
	}
	const (
		shards  = 256
		inShard = manyPortals / shards
	)
	for _, after := range []Key{{ClientID: fuzzClient}, keys[0], keys[1], {ClientID: fuzzClient, MemberID: "ff"}} {
		page := cost(func() {
			_, err := s.List(t.Context(), after, 100)
			require.NoError(t, err)
		})
		require.Positive(t, page)
		require.Less(t, page, shards+100+4*inShard)
	}
	require.Zero(t, cost(func() {
		_, err := s.List(t.Context(), Key{ClientID: "another"}, 100)
		require.NoError(t, err)
	}))

	found := 0
	all := cost(func() {
		for key, err := range Keys(t.Context(), s, fuzzClient) {
			require.NoError(t, err)
			require.Equal(t, fuzzClient, key.ClientID)
			found++
		}
	})
	require.Equal(t, manyPortals, found)
	require.Less(t, all, manyPortals+manyPortals/pageSize*(shards+3*inShard))

	portals, err := NewPortals(Config{ClientID: fuzzClient, ClientSecret: "secret"}, s)
	require.NoError(t, err)
	portal := Key{ClientID: fuzzClient, MemberID: fuzzMember}
	for user := range int64(3) {
		portal.UserID = user
		_, err := s.Swap(t.Context(), portal, "", Installation{})
		require.NoError(t, err)
	}
	forget := cost(func() { require.NoError(t, portals.Forget(t.Context(), fuzzMember)) })
	require.Positive(t, forget)
	require.Less(t, forget, shards+pageSize+4*inShard)
	for user := range int64(3) {
		portal.UserID = user
		_, _, err := s.Load(t.Context(), portal)
		require.ErrorIs(t, err, ErrNotFound)
	}
}
