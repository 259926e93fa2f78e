package oauth_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

// These are the interfaces of the other packages. They are written out, because Portals implements
// them without an import.
var (
	_ interface {
		Verify(ctx context.Context, d *event.Delivery) (event.Proof, error)
	} = (*oauth.Portals)(nil)
	_ interface {
		ApplicationTokens(ctx context.Context, memberID string) ([]event.Secret, error)
	} = (*oauth.Portals)(nil)
	_ rest.Credentials = (*oauth.Portals)(nil)
)

func TestNewPortalsRefusesNonsense(t *testing.T) {
	t.Parallel()
	good := oauth.Config{ClientID: clientID, ClientSecret: "s"}
	tests := map[string]struct {
		cfg   oauth.Config
		store oauth.Store
		opt   oauth.Option
	}{
		"no client id":         {oauth.Config{ClientSecret: "s"}, oauth.NewMemoryStore(), nil},
		"nil pointer":          {good, (*oauth.MemoryStore)(nil), nil},
		"no client secret":     {oauth.Config{ClientID: clientID}, oauth.NewMemoryStore(), nil},
		"no store":             {good, nil, nil},
		"nil HTTP client":      {good, oauth.NewMemoryStore(), oauth.WithHTTPClient(nil)},
		"nil logger":           {good, oauth.NewMemoryStore(), oauth.WithLogger(nil)},
		"nil observer":         {good, oauth.NewMemoryStore(), oauth.WithObserver(nil)},
		"host that is empty":   {good, oauth.NewMemoryStore(), oauth.WithHosts("")},
		"host with a scheme":   {good, oauth.NewMemoryStore(), oauth.WithHosts("https://oauth.example.com")},
		"host with a path":     {good, oauth.NewMemoryStore(), oauth.WithHosts("oauth.example.com/")},
		"host in upper case":   {good, oauth.NewMemoryStore(), oauth.WithHosts("OAuth.example.com")},
		"host with a dot":      {good, oauth.NewMemoryStore(), oauth.WithHosts("oauth.example.com.")},
		"host with a wildcard": {good, oauth.NewMemoryStore(), oauth.WithHosts("*.example.com")},
		"host with a bad port": {good, oauth.NewMemoryStore(), oauth.WithHosts("oauth.example.com:0")},
		"IPv6 without braces":  {good, oauth.NewMemoryStore(), oauth.WithHosts("::1")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := oauth.NewPortals(test.cfg, test.store, test.opt)
			require.Error(t, err)
		})
	}
	_, err := oauth.NewPortals(good, oauth.NewMemoryStore(), nil)
	require.NoError(t, err, "a nil option is skipped")
}

func TestHTTPClientIsCopied(t *testing.T) {
	t.Parallel()
	mine := &http.Client{}
	_, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "s"}, oauth.NewMemoryStore(), oauth.WithHTTPClient(mine))
	require.NoError(t, err)
	require.Zero(t, *mine)
}

func TestInstallationsAreCopies(t *testing.T) {
	t.Parallel()
	portals := scripted(t, stored(t), counting())
	in, err := portals.Installation(t.Context(), member)
	require.NoError(t, err)
	in.Scope[0] = "changed"
	in, err = portals.Installation(t.Context(), member)
	require.NoError(t, err)
	require.Equal(t, []string{"crm"}, in.Scope)
	require.Equal(t, "example.bitrix24.com", in.Domain())
	require.Empty(t, oauth.Installation{ClientEndpoint: "http://[::1"}.Domain())
}
