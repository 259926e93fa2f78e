package oauth_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

const day = 24 * time.Hour

// idle stores a portal whose tokens were renewed a number of days ago, and returns its key.
func idle(t *testing.T, s *oauth.MemoryStore, days int, key oauth.Key) oauth.Key {
	t.Helper()
	at := time.Now().Add(-time.Duration(days) * day)
	_, err := s.Swap(t.Context(), key, "", oauth.Installation{
		MemberID: key.MemberID, UserID: key.UserID, ClientEndpoint: "https://example.bitrix24.com/rest/", ServerEndpoint: official,
		AccessToken: "old", RefreshToken: "r", Expires: at.Add(time.Hour), InstalledAt: at, UpdatedAt: at,
	})
	require.NoError(t, err)
	return key
}

// renewing is an OAuth server that renews every token except the refused ones.
func renewing(refused ...string) *script {
	var n atomic.Int64
	return &script{respond: func(r sent) (int, string) {
		for _, token := range refused {
			if r.form.Get("refresh_token") == token {
				return 400, `{"error":"invalid_grant"}`
			}
		}
		return 200, pair(fmt.Sprint("new", n.Add(1)), "rr", map[string]any{"member_id": nil, "user_id": nil})
	}}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, s := oauth.NewMemoryStore(), renewing()
		old := idle(t, store, 151, oauth.Key{ClientID: clientID, MemberID: "old"})
		oldUser := idle(t, store, 170, oauth.Key{ClientID: clientID, MemberID: "old", UserID: 7})
		young := idle(t, store, 140, oauth.Key{ClientID: clientID, MemberID: "young"})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		portals := scripted(t, store, s)
		go func() { done <- portals.KeepAlive(ctx) }()
		token := func(key oauth.Key) string {
			in, _, err := store.Load(t.Context(), key)
			require.NoError(t, err)
			return string(in.AccessToken)
		}

		synctest.Wait()
		require.Empty(t, s.requests(), "not at once: processes start together")
		pass(time.Hour)
		require.Equal(t, []string{"new1", "new2", "old"}, []string{token(old), token(oldUser), token(young)})
		require.Len(t, s.requests(), 2)
		pass(8 * day)
		require.Len(t, s.requests(), 2, "nothing is renewed by a short timer")
		pass(4 * day)
		require.Equal(t, "new3", token(young))
		require.Len(t, s.requests(), 3)
		pass(135 * day)
		require.Len(t, s.requests(), 3)
		pass(20 * day)
		require.Len(t, s.requests(), 6)

		stop()
		require.NoError(t, <-done)
	})
}

func TestKeepAliveIsSlowAndGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := oauth.NewMemoryStore()
		var at []time.Time
		s := renewing("r-dead")
		inner := s.respond
		s.respond = func(r sent) (int, string) {
			at = append(at, time.Now())
			return inner(r)
		}
		for _, id := range []string{"a", "b", "c", "d"} {
			idle(t, store, 160, oauth.Key{ClientID: clientID, MemberID: id})
		}
		in, version, err := store.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: "b"})
		require.NoError(t, err)
		in.RefreshToken = "r-dead"
		_, err = store.Swap(t.Context(), oauth.Key{ClientID: clientID, MemberID: "b"}, version, in)
		require.NoError(t, err)
		out, logger := logs()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		portals := scripted(t, store, s, logger)
		go func() { done <- portals.KeepAlive(ctx) }()

		pass(20 * time.Minute)
		synctest.Wait()
		require.Len(t, at, 4, "a refusal does not keep the others")
		for i := range at[1:] {
			require.GreaterOrEqual(t, at[i+1].Sub(at[i]), 2*time.Second)
		}
		require.Contains(t, out.String(), "could not be kept alive")
		pass(10 * day)
		synctest.Wait()
		require.Len(t, at, 4, "what is void is not asked for every day")
		stop()
		require.NoError(t, <-done)
	})
}

func TestKeepAliveTriesAgainWhatMayPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := oauth.NewMemoryStore()
		idle(t, store, 160, oauth.Key{ClientID: clientID, MemberID: "a"})
		s := &script{respond: says(500, "oops")}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		portals := scripted(t, store, s)
		go func() { done <- portals.KeepAlive(ctx) }()
		pass(3*day + 12*time.Hour)
		require.Len(t, s.requests(), 4)
		stop()
		require.NoError(t, <-done)
	})
}

func TestKeepAliveEnds(t *testing.T) {
	t.Parallel()
	t.Run("with its context, in the middle of a sweep", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := oauth.NewMemoryStore()
			for _, id := range []string{"a", "b", "c", "d"} {
				idle(t, store, 160, oauth.Key{ClientID: clientID, MemberID: id})
			}
			ctx, stop := context.WithCancel(t.Context())
			s := renewing()
			inner := s.respond
			s.respond = func(r sent) (int, string) {
				stop()
				return inner(r)
			}
			require.NoError(t, scripted(t, store, s).KeepAlive(ctx))
			require.Len(t, s.requests(), 1)
		})
	})
	t.Run("after Shutdown", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := oauth.NewMemoryStore()
			idle(t, store, 160, oauth.Key{ClientID: clientID, MemberID: "a"})
			portals := scripted(t, store, renewing())
			require.NoError(t, portals.Shutdown(t.Context()))
			require.ErrorIs(t, portals.KeepAlive(t.Context()), oauth.ErrShutdown)
		})
	})
}
