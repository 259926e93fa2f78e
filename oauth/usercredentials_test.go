package oauth_test

import (
	"cmp"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

var (
	_ rest.Credentials = (*oauth.UserCredentials)(nil)
	_ rest.Credentials = (*oauth.User)(nil)
	_ rest.Mover       = (*oauth.Portals)(nil)
	_ rest.Mover       = (*oauth.UserCredentials)(nil)
	_ rest.Mover       = (*oauth.User)(nil)
)

func TestActing(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://evil.example/rest/"
	caused := func(change func(*event.Auth)) *event.Delivery {
		d := &event.Delivery{Name: "ONCRMDEALADD", Auth: event.Auth{
			MemberID: member, UserID: 7, AccessToken: "u1", Expires: time.Now().Add(time.Hour), ClientEndpoint: elsewhere, Domain: "evil.example",
		}}
		change(&d.Auth)
		return proven(d)
	}
	nobody := func(a *event.Auth) { a.AccessToken, a.Expires, a.UserID = "", time.Time{}, 0 }
	replayed := caused(func(a *event.Auth) { a.Expires = time.Now().Add(-24 * time.Hour) })
	stored1, err := event.ParseStored(replayed.AppendStored(nil))
	require.NoError(t, err)
	dropped := caused(func(*event.Auth) {})
	dropped.DropTokens()
	record := caused(func(a *event.Auth) { a.AccessToken, a.Expires = "", time.Time{} })
	record.Proof.By = event.ProofCall
	tests := map[string]struct {
		d      *event.Delivery
		acting string // token of Access; empty if there is none
		err    error  // of Acting
		orApp  error  // of ActingOrApp
	}{
		"token":           {caused(func(*event.Auth) {}), "u1", nil, nil},
		"unknown expiry":  {caused(func(a *event.Auth) { a.Expires = time.Time{} }), "u1", nil, nil},
		"nobody":          {caused(nobody), "", oauth.ErrNoUserToken, nil},
		"expired a while": {caused(func(a *event.Auth) { a.Expires = time.Now().Add(-time.Hour) }), "", oauth.ErrUserTokenExpired, oauth.ErrUserTokenExpired},
		"just expired":    {caused(func(a *event.Auth) { a.Expires = time.Now() }), "", oauth.ErrUserTokenExpired, oauth.ErrUserTokenExpired},
		"replayed":        {stored1, "", oauth.ErrUserTokenExpired, oauth.ErrUserTokenExpired},
		"tokens dropped":  {dropped, "", oauth.ErrNoUserToken, oauth.ErrNoUserToken},
		"offline record":  {record, "", oauth.ErrNoUserToken, nil},
		"no event":        {nil, "", oauth.ErrNoUserToken, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := counting()
			portals := scripted(t, stored(t), s)

			endpoint, token, err := portals.Acting(test.d).Access(t.Context(), member)
			if test.err != nil {
				require.ErrorIs(t, err, test.err)
				require.Empty(t, token)
				require.Empty(t, endpoint)
			} else {
				require.NoError(t, err)
				require.Equal(t, test.acting, token)
				require.Equal(t, "https://example.bitrix24.com/rest/", endpoint, "never where the event says")
			}

			lenient := portals.ActingOrApp(test.d)
			endpoint, token, err = lenient.Access(t.Context(), member)
			require.Empty(t, s.requests())
			if test.orApp != nil {
				require.ErrorIs(t, err, test.orApp)
				require.Empty(t, endpoint+token)
				var permanent interface{ Permanent() bool }
				require.ErrorAs(t, err, &permanent)
				require.True(t, permanent.Permanent(), "a retry does not help")
				_, token, err = lenient.Renew(t.Context(), member, "a1")
				require.ErrorIs(t, err, test.orApp)
				require.Empty(t, token)
				require.Empty(t, s.requests())
				return
			}
			require.NoError(t, err)
			require.Equal(t, "https://example.bitrix24.com/rest/", endpoint)
			require.Equal(t, cmp.Or(test.acting, "a1"), token)
		})
	}
}

func TestActingTokenRefused(t *testing.T) {
	t.Parallel()
	d := proven(delivery("ONCRMDEALADD", member, "t1"))
	d.Auth.AccessToken = "u1"
	s := counting()
	portals := scripted(t, stored(t), s)
	ctx := t.Context()

	strict := portals.Acting(d)
	_, _, err := strict.Renew(ctx, member, "another")
	require.ErrorIs(t, err, oauth.ErrNoUserToken)
	_, token, err := strict.Access(ctx, member)
	require.NoError(t, err, "that was not its token")
	require.Equal(t, "u1", token)
	_, _, err = strict.Renew(ctx, member, "u1")
	require.ErrorIs(t, err, oauth.ErrUserTokenExpired)
	_, _, err = strict.Access(ctx, member)
	require.ErrorIs(t, err, oauth.ErrUserTokenExpired, "it stays refused")

	lenient := portals.ActingOrApp(d)
	_, _, err = lenient.Renew(ctx, member, "a1")
	require.ErrorIs(t, err, oauth.ErrNoUserToken, "it did not give that token")
	_, token, err = lenient.Renew(ctx, member, "u1")
	require.ErrorIs(t, err, oauth.ErrUserTokenExpired, "the user does not become the administrator")
	require.Empty(t, token)
	_, token, err = lenient.Access(ctx, member)
	require.ErrorIs(t, err, oauth.ErrUserTokenExpired)
	require.Empty(t, token)
	require.Empty(t, s.requests())

	d.Auth.AccessToken = "" // nobody's event
	lenient = portals.ActingOrApp(d)
	_, token, err = lenient.Access(ctx, member)
	require.NoError(t, err)
	require.Equal(t, "a1", token)
	_, token, err = lenient.Renew(ctx, member, "a1")
	require.NoError(t, err)
	require.Equal(t, "a2", token)
	require.Len(t, s.requests(), 1)
}

func TestActingIsForOnePortal(t *testing.T) {
	t.Parallel()
	const other = "b223c6b3710f85df22e9377d6c4f7553"
	d := proven(delivery("ONCRMDEALADD", other, "t1"))
	d.Auth.AccessToken = "u1"
	portals := scripted(t, stored(t), counting())
	for _, a := range []*oauth.UserCredentials{portals.Acting(d), portals.ActingOrApp(d)} {
		_, _, err := a.Access(t.Context(), member)
		require.ErrorIs(t, err, oauth.ErrNoUserToken)
		_, _, err = a.Renew(t.Context(), member, "u1")
		require.ErrorIs(t, err, oauth.ErrNoUserToken)
		_, _, err = a.Access(t.Context(), other)
		require.ErrorIs(t, err, oauth.ErrNotFound, "a portal that is not stored has no address")
	}
}

// TestActingAtAPortal calls as the user of a real event, until the token ends.
func TestActingAtAPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.installed(t)
	portals := w.portals(t, w.store)
	user := w.AddUser(eventtest.User{Name: "Zoe"})
	g, err := w.app.Grant(user)
	require.NoError(t, err)
	d := proven(&event.Delivery{Name: "ONCRMDEALADD", Auth: authOf(g)})
	who := func(a *oauth.UserCredentials) (string, error) {
		api, err := rest.NewClients(a, rest.WithInsecureHTTP())
		require.NoError(t, err)
		me, err := rest.Call[struct{ NAME string }](t.Context(), api.Portal(w.MemberID()), "profile", nil)
		return me.NAME, err
	}

	strict, lenient := portals.Acting(d), portals.ActingOrApp(d)
	for _, a := range []*oauth.UserCredentials{strict, lenient} {
		name, err := who(a)
		require.NoError(t, err)
		require.Equal(t, "Zoe", name)
	}
	w.ExpireAccessTokens()
	for _, a := range []*oauth.UserCredentials{strict, lenient} {
		_, err = who(a)
		require.ErrorIs(t, err, oauth.ErrUserTokenExpired)
	}
	require.Zero(t, w.renewals(), "the application's token is not touched")
	name, err := who(portals.ActingOrApp(proven(&event.Delivery{Name: "ONCRMDEALADD", Auth: event.Auth{MemberID: w.MemberID()}})))
	require.NoError(t, err)
	require.NotEqual(t, "Zoe", name, "nobody caused it")
	require.Equal(t, 1, w.renewals())
}

func TestActingFollowsARenamedPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.installed(t)
	portals := w.portals(t, w.store)
	acting := portals.Acting(proven(&event.Delivery{Auth: authOf(w.grant(t))}))
	require.NoError(t, w.Rename(t.Context()))
	api, err := rest.NewClients(acting, rest.WithInsecureHTTP())
	require.NoError(t, err)

	require.NoError(t, api.Portal(w.MemberID()).Call(t.Context(), "profile", nil, nil))

	endpoint, _, err := acting.Access(t.Context(), w.MemberID())
	require.NoError(t, err)
	require.Equal(t, w.ClientEndpoint(), endpoint)
}

func TestActingWithAStoreOutOfOrder(t *testing.T) {
	t.Parallel()
	d := proven(delivery("ONCRMDEALADD", member, "t1"))
	d.Auth.AccessToken = "u1"
	store := &faultyStore{Store: stored(t), load: func(context.Context) error { return errDisk }}
	_, _, err := scripted(t, store, counting()).Acting(d).Access(t.Context(), member)
	require.ErrorIs(t, err, oauth.ErrStore)
}
