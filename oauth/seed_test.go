package oauth_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

func TestSeed(t *testing.T) {
	t.Parallel()
	store, s := oauth.NewMemoryStore(), counting()
	portals := scripted(t, store, s)
	seed := oauth.Installation{
		MemberID: member + "\n", ClientEndpoint: " https://Example.bitrix24.com/rest", AccessToken: "a1\n", RefreshToken: " r1 ",
		Scope: []string{"crm"},
	}

	created, err := portals.Seed(t.Context(), seed)
	require.NoError(t, err)
	require.True(t, created)
	in := load(t, store, member)
	require.WithinDuration(t, time.Now(), in.UpdatedAt, time.Minute)
	in.UpdatedAt = time.Time{}
	require.Equal(t, oauth.Installation{
		MemberID: member, ClientEndpoint: "https://example.bitrix24.com/rest/", ServerEndpoint: official,
		AccessToken: "a1", RefreshToken: "r1", Scope: []string{"crm"},
	}, in)
	require.Empty(t, s.requests(), "the OAuth server is not asked")

	_, token, err := portals.Renew(t.Context(), member, "a1")
	require.NoError(t, err)
	require.Equal(t, "a2", token)
	created, err = portals.Seed(t.Context(), seed)
	require.NoError(t, err)
	require.False(t, created, "the seed is used up, and must not replace what came of it")
	require.Equal(t, "a2", string(load(t, store, member).AccessToken))

	require.NoError(t, portals.Forget(t.Context(), member))
	created, err = portals.Seed(t.Context(), seed)
	require.NoError(t, err)
	require.True(t, created)
}

func TestSeedWithARefreshTokenOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.grant(t)
	portals := w.portals(t, w.store)
	_, err := portals.Seed(t.Context(), oauth.Installation{
		MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint, RefreshToken: g.RefreshToken,
	})
	require.NoError(t, err)

	endpoint, token, err := portals.Access(t.Context(), g.MemberID)

	require.NoError(t, err)
	require.Equal(t, g.ClientEndpoint, endpoint)
	require.NotEmpty(t, token)
}

func TestSeedRefusals(t *testing.T) {
	t.Parallel()
	good := oauth.Installation{
		MemberID: member, ClientEndpoint: "https://example.bitrix24.com/rest/", ServerEndpoint: official,
		RefreshToken: "r1",
	}
	tests := map[string]struct {
		change func(*oauth.Installation)
		kind   error
	}{
		"no portal":               {func(in *oauth.Installation) { in.MemberID = " " }, nil},
		"odd portal":              {func(in *oauth.Installation) { in.MemberID = "../x" }, nil},
		"no token":                {func(in *oauth.Installation) { in.RefreshToken = "\t" }, nil},
		"no address":              {func(in *oauth.Installation) { in.ClientEndpoint = "" }, oauth.ErrEndpoint},
		"address not https":       {func(in *oauth.Installation) { in.ClientEndpoint = "http://example.bitrix24.com/rest/" }, oauth.ErrEndpoint},
		"OAuth server not https":  {func(in *oauth.Installation) { in.ServerEndpoint = "http://oauth.bitrix.info/rest/" }, oauth.ErrEndpoint},
		"OAuth server not listed": {func(in *oauth.Installation) { in.ServerEndpoint = "https://evil.example/rest/" }, oauth.ErrHostNotAllowed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, s := oauth.NewMemoryStore(), counting()
			in := good
			test.change(&in)
			created, err := scripted(t, store, s).Seed(t.Context(), in)
			require.Error(t, err)
			if test.kind != nil {
				require.ErrorIs(t, err, test.kind)
			}
			require.False(t, created)
			requireEmpty(t, store, member)
			require.Empty(t, s.requests())
		})
	}
}

func TestSeedWithAStoreOutOfOrder(t *testing.T) {
	t.Parallel()
	in := oauth.Installation{MemberID: member, ClientEndpoint: "https://example.bitrix24.com/rest/", RefreshToken: "r1"}
	for name, store := range map[string]*faultyStore{
		"reading": {Store: oauth.NewMemoryStore(), load: func(context.Context) error { return errDisk }},
		"writing": {Store: oauth.NewMemoryStore(), swap: failing},
	} {
		created, err := scripted(t, store, counting()).Seed(t.Context(), in)
		require.ErrorIs(t, err, oauth.ErrStore, name)
		require.ErrorIs(t, err, errDisk, name)
		require.False(t, created, name)
	}
	raced := &faultyStore{
		Store: oauth.NewMemoryStore(),
		swap:  func(context.Context, oauth.Version, oauth.Installation) error { return oauth.ErrConflict },
	}
	created, err := scripted(t, raced, counting()).Seed(t.Context(), in)
	require.NoError(t, err, "another process was first")
	require.False(t, created)
}
