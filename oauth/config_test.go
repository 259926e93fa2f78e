package oauth_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
)

// TestConfigErrors gives every constructor and option what it cannot use.
func TestConfigErrors(t *testing.T) {
	t.Parallel()
	app := oauth.Config{ClientID: "local.1", ClientSecret: planted}
	portals, err := oauth.NewPortals(app, oauth.NewMemoryStore())
	require.NoError(t, err)
	newPortals := func(app oauth.Config, store oauth.Store, opts ...oauth.Option) error {
		_, err := oauth.NewPortals(app, store, opts...)
		return err
	}
	option := func(opt oauth.Option) error { return newPortals(app, oauth.NewMemoryStore(), opt) }
	verify := func(context.Context, event.Auth) (oauth.Installation, error) { return oauth.Installation{}, nil }
	serve := func(http.ResponseWriter, *http.Request, *event.Delivery, oauth.Installation) {}
	done := func(http.ResponseWriter, *http.Request, oauth.Installation, error) {}
	short := oauth.WithEncryptionKey([]byte(planted)[:3])
	var noStore *oauth.MemoryStore
	tests := map[string]struct {
		err func() error
		is  error // as well
	}{
		"no client ID":        {err: func() error { return newPortals(oauth.Config{ClientSecret: planted}, oauth.NewMemoryStore()) }},
		"no client secret":    {err: func() error { return newPortals(oauth.Config{ClientID: "local.1"}, oauth.NewMemoryStore()) }},
		"no store":            {err: func() error { return newPortals(app, nil) }},
		"nil store":           {err: func() error { return newPortals(app, noStore) }},
		"WithRotationWindow":  {err: func() error { return option(oauth.WithRotationWindow(-1)) }},
		"WithRefreshLock":     {err: func() error { return option(oauth.WithRefreshLock(nil)) }},
		"nil locker":          {err: func() error { return option(oauth.WithRefreshLock((*offline.MemoryLeaser)(nil))) }},
		"WithHosts":           {err: func() error { return option(oauth.WithHosts("https://example.com")) }},
		"WithInsecureHTTP":    {err: func() error { return option(oauth.WithInsecureHTTP("http://example.com")) }},
		"WithHTTPClient":      {err: func() error { return option(oauth.WithHTTPClient(nil)) }},
		"WithLogger":          {err: func() error { return option(oauth.WithLogger(nil)) }},
		"WithInstallPolicy":   {err: func() error { return option(oauth.WithInstallPolicy(nil)) }},
		"NewCodec, short key": {func() error { _, err := oauth.NewCodec(short); return err }, oauth.ErrEncryptionKey},
		"NewCodec, no key":    {func() error { _, err := oauth.NewCodec(oauth.WithEncryptionOnly()); return err }, oauth.ErrEncryptionKey},
		"NewFileStore, short key": {func() error {
			_, err := oauth.NewFileStore(t.TempDir(), short)
			return err
		}, oauth.ErrEncryptionKey},
		"NewFileStore, no name": {err: func() error { _, err := oauth.NewFileStore(""); return err }},
		"SessionStates":         {err: func() error { _, err := portals.SessionStates(nil, nil); return err }},
		"PageHandler, verify":   {err: func() error { _, err := oauth.PageHandler(nil, serve); return err }},
		"PageHandler, serve":    {err: func() error { _, err := oauth.PageHandler(verify, nil); return err }},
		"RedirectHandler, exchange": {err: func() error {
			_, err := oauth.RedirectHandler(nil, portals.CookieStates(), done)
			return err
		}},
		"RedirectHandler, states": {err: func() error {
			_, err := oauth.RedirectHandler(portals.Exchange, nil, done)
			return err
		}},
		"RedirectHandler, done": {err: func() error {
			_, err := oauth.RedirectHandler(portals.Exchange, portals.CookieStates(), nil)
			return err
		}},
		"Seed, no member ID": {err: func() error {
			_, err := portals.Seed(t.Context(), oauth.Installation{AccessToken: planted})
			return err
		}},
		"Seed, no tokens": {err: func() error {
			_, err := portals.Seed(t.Context(), oauth.Installation{MemberID: member})
			return err
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.err()

			require.ErrorIs(t, err, oauth.ErrConfig)
			var e *oauth.Error
			require.ErrorAs(t, err, &e)
			require.True(t, e.Permanent())
			require.NotEmpty(t, e.Op)
			requireNothingPlanted(t, err)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
		})
	}
}
