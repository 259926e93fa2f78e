package oauth_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var s oauth.MemoryStore // the zero value is ready
	key, user := oauth.Key{ClientID: clientID, MemberID: member}, oauth.Key{ClientID: clientID, MemberID: member, UserID: 7}

	_, _, err := s.Load(ctx, key)
	require.ErrorIs(t, err, oauth.ErrNotFound)
	_, err = s.Swap(ctx, key, "1", oauth.Installation{})
	require.ErrorIs(t, err, oauth.ErrConflict, "nothing there to be replaced")
	require.NoError(t, s.Delete(ctx, key, "1"))

	first, err := s.Swap(ctx, key, "", oauth.Installation{MemberID: member, Scope: []string{"crm"}})
	require.NoError(t, err)
	require.NotEmpty(t, first)
	_, err = s.Swap(ctx, key, "", oauth.Installation{})
	require.ErrorIs(t, err, oauth.ErrConflict, "there is one already")
	_, _, err = s.Load(ctx, user)
	require.ErrorIs(t, err, oauth.ErrNotFound)

	second, err := s.Swap(ctx, key, first, oauth.Installation{MemberID: member, AccessToken: "a"})
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	_, err = s.Swap(ctx, key, first, oauth.Installation{})
	require.ErrorIs(t, err, oauth.ErrConflict)
	require.ErrorIs(t, s.Delete(ctx, key, first), oauth.ErrConflict)
	in, version, err := s.Load(ctx, key)
	require.NoError(t, err)
	require.Equal(t, second, version)
	require.Equal(t, "a", string(in.AccessToken))

	require.NoError(t, s.Delete(ctx, key, second))
	_, _, err = s.Load(ctx, key)
	require.ErrorIs(t, err, oauth.ErrNotFound)
	third, err := s.Swap(ctx, key, "", oauth.Installation{})
	require.NoError(t, err)
	require.NotContains(t, []oauth.Version{first, second}, third, "versions do not come back")
}

func TestMemoryStoreCopies(t *testing.T) {
	t.Parallel()
	s, key := oauth.NewMemoryStore(), oauth.Key{ClientID: clientID, MemberID: member}
	scope := []string{"crm"}
	_, err := s.Swap(t.Context(), key, "", oauth.Installation{Scope: scope})
	require.NoError(t, err)
	scope[0] = "changed"
	in, _, err := s.Load(t.Context(), key)
	require.NoError(t, err)
	in.Scope[0] = "changed as well"
	in, _, err = s.Load(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, []string{"crm"}, in.Scope)
}

func TestMemoryStoreHeedsTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, key := oauth.NewMemoryStore(), oauth.Key{ClientID: clientID, MemberID: member}
	_, _, err := s.Load(ctx, key)
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Swap(ctx, key, "", oauth.Installation{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Delete(ctx, key, ""), context.Canceled)
}

func TestMemoryStoreLetsOneOfManyWin(t *testing.T) {
	t.Parallel()
	s, key := oauth.NewMemoryStore(), oauth.Key{ClientID: clientID, MemberID: member}
	version, err := s.Swap(t.Context(), key, "", oauth.Installation{})
	require.NoError(t, err)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			_, err := s.Swap(t.Context(), key, version, oauth.Installation{AccessToken: event.Secret(strconv.Itoa(i))})
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, oauth.ErrConflict) {
				t.Errorf("unexpected error: %v", err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), won.Load())
}
