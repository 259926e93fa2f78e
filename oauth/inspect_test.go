package oauth_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

func TestOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	portals := w.portals(t, w.store)
	_, err := portals.Owner(t.Context(), w.MemberID())
	require.ErrorIs(t, err, oauth.ErrNotFound)

	in := w.installed(t)
	owner, err := portals.Owner(t.Context(), w.MemberID())
	require.NoError(t, err)
	require.Equal(t, oauth.Owner{
		ClientID: w.app.ClientID(), MemberID: w.MemberID(), ClientEndpoint: w.ClientEndpoint(), UserID: eventtest.AdminID,
	}, owner)
	require.Equal(t, in.AccessToken, load(t, w.store, w.MemberID()).AccessToken, "nothing is renewed")

	w.ExpireAccessTokens()
	_, err = portals.Owner(t.Context(), w.MemberID())
	var e *oauth.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "expired_token", e.Code)
	w.Always("oauth/app.info", eventtest.HTML(502))
	_, err = portals.Owner(t.Context(), w.MemberID())
	require.ErrorIs(t, err, oauth.ErrTemporary)
	requireNoSecret(t, err, w, in)
}

func TestCheckCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.installed(t)
	portals := w.portals(t, w.store)
	require.NoError(t, portals.CheckCredentials(t.Context(), w.MemberID()))
	require.Equal(t, in.RefreshToken, load(t, w.store, w.MemberID()).RefreshToken, "no token is used up")
	_, _, err := portals.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
	require.NoError(t, err, "the tokens still work")

	wrong, err := oauth.NewPortals(oauth.Config{ClientID: w.app.ClientID(), ClientSecret: "another-secret"}, w.store, silent(),
		oauth.WithHosts(w.OAuthHost()), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	err = wrong.CheckCredentials(t.Context(), w.MemberID())
	require.ErrorIs(t, err, oauth.ErrCredentials)
	requireNoSecret(t, err, w, in)

	for name, tc := range map[string]struct {
		fault eventtest.Fault
		kind  error // nil: the application is not refused
	}{
		"token refused":         {eventtest.Fail(400, "invalid_request", ""), nil},
		"payment":               {eventtest.Fail(400, "PAYMENT_REQUIRED", ""), oauth.ErrPayment},
		"maintenance":           {eventtest.HTML(502), oauth.ErrTemporary},
		"another code":          {eventtest.Fail(400, "something_else", ""), oauth.ErrTemporary},
		"a pair out of nowhere": {eventtest.Raw(200, "application/json", `{"access_token":"a","refresh_token":"r"}`), nil},
	} {
		w.Once("oauth/token", tc.fault)
		err := portals.CheckCredentials(t.Context(), w.MemberID())
		require.ErrorIs(t, err, tc.kind, name)
	}

	failing := w.portals(t, &faultyStore{Store: w.store, load: func(context.Context) error { return errDisk }})
	require.ErrorIs(t, failing.CheckCredentials(t.Context(), w.MemberID()), oauth.ErrStore)
}

func requireNoSecret(t *testing.T, err error, w *world, in oauth.Installation) {
	t.Helper()
	for _, secret := range []event.Secret{w.app.ClientSecret(), in.AccessToken, in.RefreshToken} {
		require.NotContains(t, err.Error(), string(secret))
	}
}
