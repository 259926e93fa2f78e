package oauth_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

// TestTokensOfSeveralUsers stores the tokens of two users besides the application's, and renews
// each separately.
func TestTokensOfSeveralUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := w.installed(t)
	portals := w.portals(t, w.store)
	ctx := t.Context()
	zoe, ben := w.AddUser(eventtest.User{Name: "Zoe"}), w.AddUser(eventtest.User{Name: "Ben"})

	g, err := w.app.Grant(zoe)
	require.NoError(t, err)
	in, err := portals.KeepUser(ctx, pageOf(g)) // from a page
	require.NoError(t, err)
	require.Equal(t, zoe, in.UserID)
	require.Empty(t, in.ApplicationToken)
	require.NotEqual(t, g.RefreshToken, in.RefreshToken, "that one was traded in")
	code, err := w.app.Code(ben)
	require.NoError(t, err)
	in, err = portals.ExchangeUser(ctx, oauth.Code{Code: code, ServerDomain: w.OAuthHost()}) // by a code
	require.NoError(t, err)
	require.Equal(t, ben, in.UserID)
	require.Equal(t, app, load(t, w.store, w.MemberID()), "the application's own stay")

	who := func(c rest.Credentials) string {
		api, err := rest.NewClients(c, rest.WithInsecureHTTP())
		require.NoError(t, err)
		me, err := rest.Call[struct{ NAME string }](ctx, api.Portal(w.MemberID()), "profile", nil)
		require.NoError(t, err)
		return me.NAME
	}
	admin := who(portals)
	require.Equal(t, []string{"Zoe", "Ben"}, []string{who(portals.User(zoe)), who(portals.User(ben))})
	w.ResetRecords()
	w.ExpireAccessTokens()
	require.Equal(t, []string{"Zoe", admin}, []string{who(portals.User(zoe)), who(portals)})
	require.Equal(t, 2, w.renewals(), "what is not used is not renewed")
	require.NoError(t, w.Rename(ctx))
	require.Equal(t, "Ben", who(portals.User(ben)))
	require.Equal(t, w.ClientEndpoint(), load(t, w.store, w.MemberID()).ClientEndpoint)
	endpoint, _, err := portals.User(zoe).Access(ctx, w.MemberID())
	require.NoError(t, err)
	require.Equal(t, w.ClientEndpoint(), endpoint, "all know the new address")
	require.Equal(t, "Zoe", who(portals.User(zoe)))

	require.NoError(t, portals.Forget(ctx, w.MemberID()))
	for key := range oauth.Keys(ctx, w.store, clientID) {
		require.Failf(t, "left behind", "%v", key)
	}
	_, _, err = portals.User(zoe).Access(ctx, w.MemberID())
	require.ErrorIs(t, err, oauth.ErrNotFound)
}

// pageOf returns the auth block of a page, without the members that only events have.
func pageOf(g eventtest.Grant) event.Auth {
	auth := authOf(g)
	auth.UserID, auth.ClientEndpoint, auth.Expires = 0, "", time.Time{}
	return auth
}

func TestUserIsNotTheApplication(t *testing.T) {
	t.Parallel()
	portals := scripted(t, stored(t), counting())
	_, token, err := portals.User(1).Access(t.Context(), member)
	require.NoError(t, err)
	require.Equal(t, "a1", token, "the application's own tokens are this user's")
	for _, id := range []int64{0, 7, -1} {
		_, token, err := portals.User(id).Access(t.Context(), member)
		require.ErrorIs(t, err, oauth.ErrNotFound)
		require.Empty(t, token)
		_, token, err = portals.User(id).Renew(t.Context(), member, "a1")
		require.ErrorIs(t, err, oauth.ErrNotFound)
		require.Empty(t, token)
	}
}

func TestRenewalsOfAUserAreOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := withUser(t, stored(t))
		s := &script{respond: func(r sent) (int, string) {
			pass(time.Second)
			user := map[string]any{"user_id": 7}
			if r.form.Get("refresh_token") == "r1" {
				user = nil
			}
			return 200, pair("new of "+r.form.Get("refresh_token"), "next", user)
		}}
		portals := scripted(t, store, s)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { _, _, _ = portals.User(7).Renew(t.Context(), member, "u1") })
			all.Go(func() { _, _, _ = portals.Renew(t.Context(), member, "a1") })
		}
		all.Wait()
		require.Len(t, s.requests(), 2)
		_, token, err := portals.User(7).Access(t.Context(), member)
		require.NoError(t, err)
		require.Equal(t, "new of ur1", token)
		require.Equal(t, "new of r1", string(load(t, store, member).AccessToken))
	})
}

// withUser stores tokens of the user 7: access token u1 and refresh token ur1.
func withUser(t *testing.T, store *oauth.MemoryStore) *oauth.MemoryStore {
	t.Helper()
	in := load(t, store, member)
	in.UserID, in.AccessToken, in.RefreshToken, in.ApplicationToken = 7, "u1", "ur1", ""
	_, err := store.Swap(t.Context(), oauth.Key{ClientID: clientID, MemberID: member, UserID: 7}, "", in)
	require.NoError(t, err)
	return store
}

func TestRenewalThatGivesAnotherUsersTokens(t *testing.T) {
	t.Parallel()
	store := withUser(t, stored(t))
	s := &script{respond: says(200, pair("a9", "r9", map[string]any{"user_id": 8}))}
	_, token, err := scripted(t, store, s).User(7).Renew(t.Context(), member, "u1")
	require.ErrorIs(t, err, oauth.ErrReauthorize)
	require.Empty(t, token)
}

func TestKeepUserRefusals(t *testing.T) {
	t.Parallel()
	info := func(user int) string {
		if user == 0 {
			return `{"result":{"client_id":"` + clientID + `","install":{"member_id":"` + member + `"}}}`
		}
		return `{"result":{"client_id":"` + clientID + `","user_id":7,"install":{"member_id":"` + member + `"}}}`
	}
	profile := func(members string) func(string, sent) (int, string) {
		return func(string, sent) (int, string) { return 200, `{"result":{` + members + `}}` }
	}
	tests := map[string]struct {
		change func(*event.Auth)
		token  string
		info   string
		portal func(string, sent) (int, string)
		kind   oauth.ErrorKind // empty if it works
		calls  int
	}{
		"works":                {func(*event.Auth) {}, pair("u2", "ur2", map[string]any{"user_id": 7}), "", nil, "", 1},
		"user from the portal": {func(*event.Auth) {}, pair("u2", "ur2", map[string]any{"user_id": nil}), "", profile(`"ID":7`), "", 1},
		"user nowhere": {
			func(*event.Auth) {}, pair("u2", "ur2", map[string]any{"user_id": nil}), "", profile(`"ID":0`), oauth.ErrUnverified, 1,
		},
		"no refresh token":        {func(a *event.Auth) { a.RefreshToken = "" }, "", "", nil, oauth.ErrUnverified, 0},
		"no portal":               {func(a *event.Auth) { a.MemberID = "" }, "", "", nil, oauth.ErrUnverified, 0},
		"unknown portal":          {func(a *event.Auth) { a.MemberID = "b" }, "", "", nil, oauth.ErrNotFound, 0},
		"another portal's tokens": {func(*event.Auth) {}, pair("u2", "ur2", map[string]any{"member_id": "b"}), "", nil, oauth.ErrUnverified, 1},
		"another application": {
			func(*event.Auth) {}, pair("u2", "ur2", map[string]any{"client_id": "other"}), "", nil, oauth.ErrUnverified, 1,
		},
		"hostile OAuth server": {
			func(a *event.Auth) { a.ServerEndpoint = "https://evil.example/rest/" }, "", "", nil, oauth.ErrUnverified, 0,
		},
		"used up and expired": {
			func(*event.Auth) {}, `{"error":"invalid_grant"}`, `{"error":"expired_token"}`, nil, oauth.ErrUnverified, 2,
		},
		"used up, nobody known":     {func(*event.Auth) {}, `{"error":"invalid_grant"}`, info(7), nil, oauth.ErrUnverified, 2},
		"OAuth server out of order": {func(*event.Auth) {}, `oops`, "", nil, oauth.ErrTemporary, 1},
		"out of order on the way":   {func(*event.Auth) {}, `{"error":"invalid_grant"}`, `oops`, nil, oauth.ErrTemporary, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{identifies: true, portal: test.portal, respond: func(r sent) (int, string) {
				if r.form.Has("grant_type") {
					return 200, test.token
				}
				return 200, test.info
			}}
			store := stored(t)
			before := load(t, store, member)
			auth := claim()
			auth.UserID = 99 // which a page cannot prove
			test.change(&auth)

			in, err := scripted(t, store, s).KeepUser(t.Context(), auth)

			require.Len(t, s.requests(), test.calls)
			require.Equal(t, before, load(t, store, member))
			_, _, lost := store.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: member, UserID: 7})
			if test.kind != "" {
				require.ErrorIs(t, err, test.kind)
				require.ErrorIs(t, lost, oauth.ErrNotFound)
				return
			}
			require.NoError(t, err)
			require.NoError(t, lost)
			require.Equal(t, int64(7), in.UserID)
		})
	}
}

func TestPageThatWasLoadedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.installed(t)
	portals := w.portals(t, w.store)
	g, err := w.app.Grant(w.AddUser(eventtest.User{Name: "Zoe"}))
	require.NoError(t, err)
	first, err := portals.KeepUser(t.Context(), pageOf(g))
	require.NoError(t, err)

	again, err := portals.KeepUser(t.Context(), pageOf(g))

	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestExchangeUserOfAnUnknownPortal(t *testing.T) {
	t.Parallel()
	store := oauth.NewMemoryStore()
	_, err := scripted(t, store, &script{respond: says(200, pair("a2", "r2", nil))}).ExchangeUser(t.Context(), oauth.Code{Code: "c0de"})
	require.ErrorIs(t, err, oauth.ErrNotFound)
	_, _, err = store.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: member, UserID: 1})
	require.ErrorIs(t, err, oauth.ErrNotFound)
}

func TestForgetUsers(t *testing.T) {
	t.Parallel()
	t.Run("only of that portal", func(t *testing.T) {
		t.Parallel()
		store := withUser(t, stored(t))
		other := oauth.Key{ClientID: clientID, MemberID: "b223c6b3710f85df22e9377d6c4f7553", UserID: 7}
		_, err := store.Swap(t.Context(), other, "", oauth.Installation{})
		require.NoError(t, err)
		require.NoError(t, scripted(t, store, counting()).Forget(t.Context(), member))
		var left []oauth.Key
		for key, err := range oauth.Keys(t.Context(), store, clientID) {
			require.NoError(t, err)
			left = append(left, key)
		}
		require.Equal(t, []oauth.Key{other}, left)
	})
	t.Run("store that fails to list", func(t *testing.T) {
		t.Parallel()
		inner := withUser(t, stored(t))
		portals := scripted(t, unlistable{inner}, counting())
		require.ErrorIs(t, portals.Forget(t.Context(), member), oauth.ErrStore)
		load(t, inner, member) // the portal stays known, so that the uninstallation can be retried
	})
}

// unlistable is a store that fails to list.
type unlistable struct{ *oauth.MemoryStore }

func (unlistable) List(context.Context, oauth.Key, int) ([]oauth.Key, error) { return nil, errDisk }
